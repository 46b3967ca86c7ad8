"""The nouns: what is moved, who may move it, what was proven. Frozen; they know nobody."""

from __future__ import annotations

import enum
import hashlib
import re
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, NewType, Self, get_args

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

SourceName = NewType("SourceName", str)
CandidateId = NewType("CandidateId", str)
ColdKey = NewType("ColdKey", str)
ReceiptId = NewType("ReceiptId", int)
WorkerId = NewType("WorkerId", int)
SweepId = NewType("SweepId", int)
UploadNumber = NewType("UploadNumber", int)

Buffer = bytes | bytearray  # of one part; nobody changes it

_DIGEST_TEXT = re.compile(r"(?:sha256:)?([0-9a-f]{64})", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Digest:
    """SHA-256 of some bytes; prints as 64 lower-case hex digits."""

    raw: bytes

    @classmethod
    def of(cls, body: Buffer | memoryview) -> Self:
        return cls(hashlib.sha256(body).digest())

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read 64 hex digits of any case, with or without ``sha256:`` before them.

        Raises:
            ValueError: The text is not a SHA-256.
        """
        match = _DIGEST_TEXT.fullmatch(text.strip())
        if match is None:
            message = f"not a SHA-256 in hex: {text[:80]!r}"
            raise ValueError(message)
        return cls(bytes.fromhex(match[1]))

    def __str__(self) -> str:
        return self.raw.hex()


@dataclass(frozen=True, slots=True)
class Secret:
    """A text that must never be shown: its repr and str are ``<SECRET>``."""

    _text: str

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "<SECRET>"

    __str__ = __repr__


@dataclass(frozen=True, slots=True, order=True)
class HotLocation:
    """Where an object is in the hot store, exactly as the application's row says it."""

    bucket: str
    path: str

    def __str__(self) -> str:
        return f"{self.bucket}/{self.path}"


@dataclass(frozen=True, slots=True)
class HotIdentity:
    """Which object lies at a hot location: equal identities mean the same bytes.

    A store fills the fields that both its read and its identify can tell, so that
    ``==`` is the whole comparison. At least `etag` or `version` is set.
    """

    size_bytes: int
    etag: str | None = None
    version: str | None = None
    modified_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a source's total order: candidates are offered by (due_at, id)."""

    due_at: datetime
    id: CandidateId


@dataclass(frozen=True, slots=True)
class Candidate:
    """One object a source offers to move. None promises nothing."""

    id: CandidateId
    due_at: datetime
    location: HotLocation
    cold_key: ColdKey  # without the path prefix; what follows from the source's template
    digest: Digest | None = None  # of the stored bytes
    content_digest: Digest | None = None  # of the decompressed bytes
    size_bytes: int | None = None  # of the stored bytes
    content_type: str | None = None
    content_encoding: str | None = None
    group_id: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict, hash=False)  # the source's own

    @property
    def position(self) -> Position:
        return Position(self.due_at, self.id)


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be a candidate; the claim parks it, with its reason, so it is seen."""

    id: CandidateId
    due_at: datetime
    reason: str  # "bad pointer: ..."
    hot_bucket: str | None
    hot_path: str | None
    sorts_as: CandidateId | None = None  # the row's own id, where the ledger cannot keep it

    @property
    def position(self) -> Position:
        return Position(self.due_at, self.sorts_as or self.id)


Offer = Candidate | BadRow


@dataclass(frozen=True, slots=True)
class Located:
    """Where a row says that its object is, and what it promises of the bytes."""

    hot: HotLocation | None  # where both are set, the cold copy is an older version's
    cold: ColdPointer | None
    digest: Digest | None = None  # of the stored bytes
    content_digest: Digest | None = None  # of the decompressed bytes
    content_type: str | None = None
    content_encoding: str | None = None


@dataclass(frozen=True, slots=True)
class ColdPointer:
    """A cold copy as a row names it. The key is whole, with its prefix."""

    provider: str | None  # None: the row does not say
    bucket: str
    key: ColdKey

    def __str__(self) -> str:
        return f"{self.bucket}/{self.key}"


@dataclass(frozen=True, slots=True)
class Holding:
    """A row whose object is archived already, by whoever it was, as the row tells it."""

    id: CandidateId
    cold_bucket: str | None
    cold_key: ColdKey | None  # whole, with its prefix; None: no object is named (skipped)
    content_digest: Digest | None = None  # of the decompressed bytes; None promises nothing
    group_id: str | None = None
    problem: str = ""  # why it cannot be adopted as it stands: "bad row: ..."


@dataclass(frozen=True, slots=True, order=True)
class FencingToken:
    """Raised by each claim, so that the write of a late owner misses."""

    epoch: int
    worker: WorkerId
    number: int

    def __str__(self) -> str:
        return f"{self.epoch}.{self.worker}.{self.number}"


@dataclass(frozen=True, slots=True)
class Claim:
    """The exclusive right to move one candidate, while the worker's lease lasts."""

    source: SourceName
    candidate: Candidate
    token: FencingToken
    attempts_count: int = 0  # earlier failures of this object itself
    crashes_count: int = 0  # workers that died holding it


@dataclass(frozen=True, slots=True)
class Window:
    """What one claim call got. Empty and `is_drained`: nothing fresh or due is left."""

    claims: tuple[Claim, ...]
    parked_count: int = 0  # rows parked while claiming: bad pointers, worker killers
    is_drained: bool = False
    must_run_alone: bool = False  # one claim whose workers kept dying


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is left in motion for one source, once a claim came back empty."""

    waiting_count: int = 0
    next_due_seconds: float | None = None  # until the first waiting claim is due
    next_release_seconds: float | None = None  # until the first pending release is due
    elsewhere_count: int = 0  # claims and releases that other workers' leases still cover
    elsewhere_lease_seconds: float | None = None  # until the first of those leases ends
    parked_count: int = 0
    pending_release_count: int = 0


class Evidence(enum.IntEnum):
    """How it was proven that the cold bytes equal a digest; ordered, weakest first."""

    UNPROVEN = 0  # allows restore and audit, never a release
    SIGNED = 1  # the store checked the signed SHA-256 of the put, as the probe showed it does
    CHECKSUM = 2  # the store returned the SHA-256 it holds
    READBACK = 3  # the bytes were read back and hashed

    def __str__(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class ColdStat:
    """What a cold store says of one object without reading it."""

    key: ColdKey
    size_bytes: int
    etag: str | None


@dataclass(frozen=True, slots=True)
class ColdObject:
    """A stat with the metadata of the object, all names in lower case."""

    stat: ColdStat
    metadata: Mapping[str, str]
    content_type: str | None = None
    content_encoding: str | None = None


@dataclass(frozen=True, slots=True)
class ColdLocation:
    """Where an object lies in the cold store. The key is whole, with its prefix."""

    provider: str
    bucket: str
    key: ColdKey

    def __str__(self) -> str:
        return f"{self.provider}:{self.bucket}/{self.key}"


@dataclass(frozen=True, slots=True)
class ColdPlace:
    """What lies below one prefix of a cold bucket."""

    provider: str
    bucket: str
    prefix: str  # goes before every key: empty, or ending in a slash

    def __str__(self) -> str:
        return f"{self.provider}:{self.bucket}/{self.prefix}"


@dataclass(frozen=True, slots=True)
class Stamp:
    """Says in a cold place which ledger lets go of hot copies against what lies there."""

    ledger_id: str
    source: SourceName
    number: int  # from 1; the highest one there counts
    epoch: int
    nonce: str  # tells two stamps of one number apart
    stamped_at: datetime
    database_name: str

    def __str__(self) -> str:
        at = f"{self.stamped_at:%Y-%m-%d %H:%M:%S} UTC"
        ledger = f"ledger {self.ledger_id}, database {self.database_name}"
        return f"stamp {self.number} of {ledger}, epoch {self.epoch}, {at}"


@dataclass(frozen=True, slots=True)
class Stamped:
    """What a ledger knows of its own stamps in one cold place."""

    ledger_id: str
    last: Stamp | None = None  # the last one that was seen there
    intended: Stamp | None = None  # a later one: it may be there or not
    overrules: bool = False  # the intended one does: whatever lies below it is settled


@dataclass(frozen=True, slots=True)
class FoundStamp:
    """The highest stamp that was found in a cold place, whosever it is."""

    source: SourceName
    place: ColdPlace
    number: int  # 0: none
    epoch: int  # the highest one said there; 0: none


@dataclass(frozen=True, slots=True)
class DatabaseHome:
    """Which database it is, as its server says: never by the name a client calls it by."""

    name: str
    system_identifier: int | None  # of the server's data directory; None: not known

    def __str__(self) -> str:
        return f"{self.name} (system {self.system_identifier or 'not known'})"

    def is_other_than(self, other: DatabaseHome) -> bool:
        """What is not known is not compared."""
        systems = {self.system_identifier, other.system_identifier} - {None}
        return self.name != other.name or len(systems) > 1


@dataclass(frozen=True, slots=True)
class LedgerIdentity:
    """Which ledger it is, where it is at home, and where it was found."""

    ledger_id: str
    epoch: int
    home: DatabaseHome
    found_in: DatabaseHome

    @property
    def is_at_home(self) -> bool:
        return not self.found_in.is_other_than(self.home)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a cold store was seen to enforce. Uncertain counts as no."""

    enforces_signed_digest: bool  # a body that does not match its signed SHA-256 is refused
    enforces_create: bool  # a second create under one key is refused
    returns_digest: bool  # HEAD returns the SHA-256 the store holds
    etag_is_md5: bool = False  # of an object put in one piece
    enforces_signed_parts: bool = False  # as `enforces_signed_digest`, for each part
    keeps_refused_parts: bool = False  # a refused conditional complete leaves the upload alone


@dataclass(frozen=True, slots=True)
class PartRules:
    """What a store asks of the parts of one upload. All but the last are of one size."""

    min_bytes: int  # the last part may be smaller
    max_bytes: int
    max_count: int


@dataclass(frozen=True, slots=True)
class OpenUpload:
    """An upload in parts, as a cold store knows it. Nothing shows before it is completed."""

    key: ColdKey
    upload_id: str  # the store's own
    begun_at: datetime | None = None  # by the store's clock, where it tells


@dataclass(frozen=True, slots=True)
class StoredPart:
    """One part that a store says it holds. Reconciles; what was recorded is the truth."""

    number: int  # from 1
    size_bytes: int
    etag: str


@dataclass(frozen=True, slots=True)
class Part:
    """One acknowledged part, as the ledger keeps it."""

    number: int  # from 1
    size_bytes: int
    digest: Digest
    etag: str


@dataclass(frozen=True, slots=True)
class UploadPlan:
    """One object that is to be sent in parts to one cold key.

    Two plans of one location are the same upload only where `origin`, `size_bytes` and
    `part_bytes` are equal: then the parts of one serve the other.
    """

    location: ColdLocation
    origin: str  # which bytes: equal origins are the same bytes
    size_bytes: int | None  # None: not known before the end
    part_bytes: int  # of every part but the last
    source: SourceName | None = None  # None: pushed by a person or a program
    id: CandidateId | None = None


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload as the ledger records it, and the exclusive right to go on with it."""

    number: UploadNumber
    plan: UploadPlan
    token: FencingToken
    upload_id: str | None  # the store's; None: nobody knows whether it was begun
    parts: tuple[Part, ...]  # acknowledged, by number; there may be gaps
    begun_at: datetime
    expires_at: datetime  # abandoned after that; each part puts it off


@dataclass(frozen=True, slots=True)
class UploadCounts:
    """How many uploads a ledger has a record of."""

    open_count: int  # begun and not ended, whoever owns them
    expired_count: int  # of these: past their expiry, to be aborted


@dataclass(frozen=True, slots=True)
class TakenUpload:
    """What taking an upload found."""

    upload: Upload
    stale: tuple[Upload, ...] = ()  # taken, too: to be aborted and forgotten


@dataclass(frozen=True, slots=True)
class Sent:
    """One object that was put into the cold store, or found there; not yet proven."""

    claim: Claim
    identity: HotIdentity | None  # None: the hot object was missing (recovered)
    cold: ColdLocation
    size_bytes: int
    digest: Digest
    content_digest: Digest | None
    etag: str | None
    was_there: bool = False  # nothing was sent: the same bytes lay there already
    was_read_back: bool = False  # its bytes were read and hashed already
    is_in_parts: bool = False  # it was sent so: no store knows its SHA-256

    @property
    def is_recovered(self) -> bool:
        return self.identity is None


@dataclass(frozen=True, slots=True)
class Receipt:
    """Proof that a cold copy holds the bytes of one hot object.

    Only `verify` makes one above `Evidence.UNPROVEN`, and only such a one can release.
    """

    source: SourceName
    id: CandidateId
    token: FencingToken
    location: HotLocation
    identity: HotIdentity | None
    cold: ColdLocation
    size_bytes: int
    digest: Digest
    content_digest: Digest | None
    etag: str | None  # of the cold object
    evidence: Evidence
    group_id: str | None = None

    @property
    def is_recovered(self) -> bool:
        return self.identity is None


@dataclass(frozen=True, slots=True)
class Recorded:
    """A receipt as the ledger keeps it."""

    receipt_id: ReceiptId
    receipt: Receipt
    archived_at: datetime


@dataclass(frozen=True, slots=True)
class Adoption:
    """A receipt for an object that this ledger did not move: it has a cold side alone.

    No hot object is known, so there is nothing it could ever release.
    """

    source: SourceName
    id: CandidateId
    cold: ColdLocation
    size_bytes: int
    digest: Digest | None  # None: nobody has read the bytes (unproven)
    content_digest: Digest | None  # what the row promises; unless unproven, found to be so
    etag: str | None
    evidence: Evidence  # `readback` or `unproven`
    group_id: str | None = None


@dataclass(frozen=True, slots=True)
class RecordedAdoption:
    """An adoption as the ledger keeps it."""

    receipt_id: ReceiptId
    adoption: Adoption
    adopted_at: datetime


@dataclass(frozen=True, slots=True)
class Holdings:
    """One page of a source's holdings, and which of them the ledger knows nothing of."""

    to_adopt: tuple[Holding, ...]
    known_count: int  # they have a receipt that is good enough
    last: CandidateId | None  # where the next page begins; None: this one was empty
    read_at: datetime  # by the ledger's clock


@dataclass(frozen=True, slots=True)
class ObjectHead:
    """What a store says of one of the user's own objects, without its bytes."""

    key: str
    size_bytes: int
    etag: str | None
    modified_at: datetime | None
    content_type: str | None = None
    content_encoding: str | None = None  # of the stored bytes, which nobody decodes
    metadata: Mapping[str, str] = field(default_factory=dict, hash=False)  # lower-case names
    digest: Digest | None = None  # where the store itself holds one; most tell none


@dataclass(frozen=True, slots=True)
class ListedObject:
    """One object of a listing."""

    key: str
    size_bytes: int
    etag: str | None
    modified_at: datetime | None
    content_type: str | None = None  # None: this store's listings do not tell


@dataclass(frozen=True, slots=True)
class ObjectFacts:
    """What is said with the bytes of an object when it is put."""

    content_type: str | None = None
    content_encoding: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class StoredObject:
    """What a put made, as its store confirmed it."""

    key: str
    size_bytes: int
    etag: str | None
    digest: Digest  # of the bytes that were sent


@dataclass(frozen=True, slots=True)
class Disposition:
    """What a browser does with what a signed URL brings."""

    kind: Literal["inline", "attachment"] = "attachment"
    filename: str | None = None  # any text; None: the browser's own choice


@dataclass(frozen=True, slots=True)
class SignedUrl:
    """What anybody may do one request with; as good as a key until it ends."""

    method: Literal["GET", "PUT"]
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(hash=False)  # to be sent with it, word for word
    expires_at: datetime


class Answer(enum.Enum):
    """What `record` says of one receipt."""

    ACCEPTED = "accepted"  # a receipt under this token exists now
    BUSY = "busy"  # the application holds the row: offer it again later
    SUPERSEDED = "superseded"  # the row changed or is gone: the claim was given back
    LOST = "lost"  # the claim is another owner's: nothing was written
    REFUSED = "refused"  # the row raises: parked with the message


@dataclass(frozen=True, slots=True)
class Failure:
    """A move that did not end in a receipt, and what is to become of its claim."""

    claim: Claim
    reason: str
    is_permanent: bool = False  # park now; else wait and try again
    is_counted: bool = True  # as an attempt of this object; else it waits, however often
    max_attempts: int | None = None  # park after so many; None: the ledger's own limit
    retry_after_seconds: float | None = None  # the store asked for this pause


class FailAnswer(enum.Enum):
    """What became of a failed claim."""

    WAITING = "waiting"
    PARKED = "parked"
    SUPERSEDED = "superseded"  # the row changed meanwhile: given back
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Release:
    """The exclusive right to delete the hot copy of one recorded receipt, for a lease."""

    recorded: Recorded
    token: FencingToken
    attempts_count: int = 0


class Outcome(enum.Enum):
    """How a receipt ended. Appended to the ledger, never changed."""

    RELEASED = "released"  # the hot copy is deleted, or was gone already
    REPLACED = "replaced"  # another object or a row stands there now: nothing deleted
    UNDONE = "undone"
    RESTORED = "restored"


@dataclass(frozen=True, slots=True)
class ReleaseEnd:
    """What became of one claimed release."""

    release: Release
    outcome: Outcome
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class ReleaseFailure:
    """A release that could not be ended: it waits, or is parked with the reason."""

    release: Release
    reason: str
    is_permanent: bool = False
    retry_after_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One receipt as the ledger tells it to others: with how it ended last."""

    recorded: Recorded
    is_pending: bool  # its hot copy is not let go of yet
    outcome: Outcome | None = None
    detail: str | None = None  # of the outcome: why
    ended_at: datetime | None = None


class UndoAnswer(enum.Enum):
    """What `archiver undo` did for one receipt."""

    UNDONE = "undone"  # the row points at its hot copy again, which stays
    UNDONE_BEFORE = "undone before"
    RELEASED = "released"  # the hot copy is deleted
    RELEASING = "releasing"  # a live worker is about to delete it
    KEPT = "kept"  # no release is pending: it ended otherwise, or the receipt allows none
    CHANGED = "changed"  # the row does not hold that cold copy any more, or is in motion
    HOT_MISSING = "hot copy missing"
    HOT_CHANGED = "hot copy changed"
    BUSY = "busy"  # the application holds the row
    REFUSED = "refused"  # the row raises

    @property
    def is_undone(self) -> bool:
        return self in (UndoAnswer.UNDONE, UndoAnswer.UNDONE_BEFORE)


@dataclass(frozen=True, slots=True)
class Undone:
    """The answer for one receipt."""

    source: SourceName
    id: CandidateId
    receipt_id: ReceiptId
    answer: UndoAnswer
    detail: str | None = None


class Deleted(enum.Enum):
    """What a hot delete did to one object."""

    DELETED = "deleted"
    ABSENT = "absent"  # it was gone already: as good as deleted
    CHANGED = "changed"  # the store refused: another object is there now
    DENIED = "denied"


class Pause(enum.Enum):
    """What the operator wants all workers to leave undone."""

    NOTHING = "nothing"
    RELEASES = "releases"  # moves go on, no hot copy is deleted
    ALL = "all"


def pause_of(asked: Iterable[str] | None) -> Pause:
    """The widest of what is asked, by the values above."""
    pauses = {Pause(what) for what in asked or ()}
    return next((it for it in (Pause.ALL, Pause.RELEASES) if it in pauses), Pause.NOTHING)


@dataclass(frozen=True, slots=True)
class Lease:
    """How long a worker keeps its claims unless it beats, on the worker's own boot clock."""

    worker: WorkerId
    epoch: int
    deadline_seconds: float  # on Clock.monotonic(), taken before the beat was sent
    lease_seconds: float
    pause: Pause = Pause.NOTHING  # as it was when the lease was given


@dataclass(frozen=True, slots=True)
class EgressBudget:
    """So many bytes may be read of stores that charge for it, in any window so long."""

    limit_bytes: int
    window_seconds: float


@dataclass(frozen=True, slots=True)
class Spent:
    """How much of a budget the window holds that ends now."""

    budget: EgressBudget
    spent_bytes: int  # read, or reserved and not given back
    next_room_at: datetime | None  # when the oldest of it leaves; None: nothing is spent

    @property
    def left_bytes(self) -> int:
        return max(0, self.budget.limit_bytes - self.spent_bytes)


class ClaimState(enum.Enum):
    """States of a claim; `releasing` is a row of the release table (docs/design.md)."""

    CLAIMED = "claimed"
    WAITING = "waiting"
    PROVED = "proved"
    HELD = "held"
    PARKED = "parked"


@dataclass(frozen=True, slots=True)
class ParkedRow:
    """One row set aside, as an operator sees it."""

    source: SourceName
    id: CandidateId
    reason: str
    location: HotLocation | None  # None: a bad pointer
    attempts_count: int
    parked_at: datetime
    is_release: bool = False  # the move is done; deleting the hot copy is what failed


@dataclass(frozen=True, slots=True)
class History:
    """All the ledger knows of one id: its claim in motion, its receipts, how they ended."""

    source: SourceName
    id: CandidateId
    claim_state: ClaimState | None
    claim_reason: str | None
    claim_location: HotLocation | None
    attempts_count: int
    next_attempt_at: datetime | None
    receipts: tuple[tuple[Recorded, Outcome | None, datetime | None], ...]  # newest first
    adopted: tuple[RecordedAdoption, ...] = ()  # newest first


@dataclass(frozen=True, slots=True)
class SourceCounts:
    """One line of `archiver status`."""

    source: SourceName
    claimed_count: int
    waiting_count: int
    held_count: int
    parked_count: int
    archived_count: int  # cold copies under a receipt
    archived_bytes: int
    pending_release_count: int
    released_count: int
    replaced_count: int
    undone_count: int
    last_archived_at: datetime | None
    adopted_count: int = 0  # of the archived: by another worker, before this ledger
    unproven_count: int = 0  # of the archived: nobody has read the copy yet


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """One live or recently dead worker."""

    worker: WorkerId
    host: str
    pid: int
    version: str
    started_at: datetime
    lease_until: datetime
    progressed_at: datetime  # when its sweep last got on, as of its last beat
    is_alive: bool
    claims_count: int
    moving: Mapping[SourceName, int] = field(default_factory=dict, hash=False)  # its claims


State = Literal["done", "stopped", "fatal"]
Stopped = Literal["limit", "budget", "duration", "window", "paused", "failures", "signal"]


@dataclass(frozen=True, slots=True)
class Summary:
    """Counts of this run alone; `elsewhere` and `pending_release` as found at its end."""

    state: State = "done"
    stopped: Stopped | None = None
    archived: int = 0  # receipts recorded, recovered ones included
    released: int = 0  # hot copies deleted, or found gone
    recovered: int = 0  # of the archived: the hot object was missing, cold held it
    replaced: int = 0  # releases ended without a delete: something else stands there
    waiting: int = 0  # failed in this run and waiting still at its end
    parked: int = 0  # parked in this run
    superseded: int = 0  # rows that changed while their object was moved
    elsewhere: int = 0  # claims that other workers hold
    pending_release: int = 0  # archived, their hot copies still in their grace
    moved_bytes: int = 0  # sent to the cold store
    seconds: float = 0.0
    error: str | None = None  # why it is fatal

    @property
    def is_clean(self) -> bool:
        """Nothing became waiting or parked in this run."""
        return self.state != "fatal" and not (self.waiting or self.parked)

    @property
    def is_idle(self) -> bool:
        """Nothing was due, or the budget had no room for it; and nothing was wrong."""
        counts = (self.archived, self.released, self.replaced, self.superseded)
        has_ended = self.state == "done" or self.stopped == "budget"
        return has_ended and self.is_clean and not any(counts)

    def to_json(self) -> dict[str, object]:
        return {item.name: getattr(self, item.name) for item in fields(self)}

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Self:
        """What `to_json` made, of another release too: names unknown here are left out."""
        return cls(**{item.name: told[item.name] for item in fields(cls) if item.name in told})

    def plus(self, other: Summary) -> Summary:
        """Both sweeps as one: counts added, the worse state kept."""
        worst = max((self, other), key=Summary._severity)
        counts = {
            item.name: getattr(self, item.name) + getattr(other, item.name)
            for item in fields(self)
            if item.name not in ("state", "stopped", "error")
        }
        return Summary(state=worst.state, stopped=worst.stopped, error=worst.error, **counts)

    def _severity(self) -> tuple[int, int]:
        return _STATES.index(self.state), _STOPS.index(self.stopped)


class NotAdopted(enum.Enum):
    """Why a holding got no receipt."""

    MISSING = "missing"  # the cold store proves that there is no such object
    DAMAGED = "damaged"  # the bytes are not what the row, or their own metadata, promises
    UNREADABLE = "unreadable"  # denied, frozen, too large; or the row cannot be understood
    UNREACHABLE = "unreachable"  # the store did not answer: the next run tries it again


@dataclass(frozen=True, slots=True)
class Takeover:
    """What one run of `archiver adopt` did, or would do."""

    state: State = "done"
    stopped: Stopped | None = None
    adopted: int = 0  # receipts made; in a dry run: to be made
    adopted_bytes: int = 0
    unpromised: int = 0  # of the adopted: the row promises no digest, nothing was compared
    known: int = 0  # rows that had a receipt already
    changed: int = 0  # rows archived anew, or adopted by another process, meanwhile
    missing: int = 0
    damaged: int = 0
    unreadable: int = 0
    unreachable: int = 0
    skipped: int = 0  # rows that name no object: there is nothing to adopt
    elsewhere: Mapping[str, int] = field(default_factory=dict, hash=False)  # by cold bucket
    seconds: float = 0.0
    error: str | None = None  # why it is fatal, or gave up

    @property
    def is_complete(self) -> bool:
        """Every row that was looked at has its receipt now."""
        failed = self.missing + self.damaged + self.unreadable + self.unreachable
        return self.state != "fatal" and not failed and not self.elsewhere

    def to_json(self) -> dict[str, object]:
        return {item.name: getattr(self, item.name) for item in fields(self)}


@dataclass(frozen=True, slots=True)
class SweepRecord:
    """One sweep of one source, as the ledger keeps it."""

    sweep_id: SweepId
    source: SourceName
    worker: WorkerId
    started_at: datetime
    ended_at: datetime | None  # None: under way, or its worker died
    summary: Summary | None


# The worse, the later: what a script must know of several sweeps is the worst of them.
_STATES: tuple[State, ...] = ("done", "stopped", "fatal")
_STOPS: tuple[Stopped | None, ...] = (None, *get_args(Stopped))
