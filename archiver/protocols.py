"""The contracts between the rooms: what is true on return, what is atomic, what repeats.

Each has one contract suite in `tests/contract` that its fake and every real
implementation pass. Errors are those of `errors`; anything else is a bug.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime

    from archiver.events import Event
    from archiver.model import (
        Adoption,
        Answer,
        Buffer,
        CandidateId,
        Capabilities,
        Claim,
        ColdKey,
        ColdLocation,
        ColdObject,
        ColdPlace,
        ColdStat,
        Deleted,
        Digest,
        Disposition,
        EgressBudget,
        Entry,
        FailAnswer,
        Failure,
        FoundStamp,
        History,
        Holding,
        Holdings,
        HotIdentity,
        HotLocation,
        Lease,
        LedgerIdentity,
        ListedObject,
        Located,
        ObjectFacts,
        ObjectHead,
        Offer,
        OpenUpload,
        Outlook,
        ParkedRow,
        Part,
        PartRules,
        Pause,
        Position,
        Receipt,
        ReceiptId,
        Recorded,
        RecordedAdoption,
        Release,
        ReleaseEnd,
        ReleaseFailure,
        SignedUrl,
        SourceCounts,
        SourceName,
        Spent,
        Stamp,
        Stamped,
        StoredPart,
        Summary,
        SweepId,
        SweepRecord,
        TakenUpload,
        UndoAnswer,
        Undone,
        Upload,
        UploadCounts,
        UploadPlan,
        Window,
        WorkerId,
        WorkerStatus,
    )


class Observer(Protocol):
    """Listens to events; called from any thread, must not block and must not raise."""

    def __call__(self, event: Event, /) -> None: ...


class Clock(Protocol):
    """The only reader of time and the only sleeper."""

    def now(self) -> datetime:
        """The wall clock, aware, UTC. For people; nothing is decided by it."""

    def monotonic(self) -> float:
        """Seconds that also pass while the machine is suspended. Deadlines are on it."""

    def sleep(self, seconds: float) -> None: ...


# --- the hot side -----------------------------------------------------------------------


class OpenObject(Protocol):
    """A hot object under its read: what it is is known, its bytes are still to come."""

    @property
    def identity(self) -> HotIdentity: ...

    def read(self) -> bytes:
        """The stored bytes, never decoded, exactly ``identity.size_bytes`` of them.

        Raises:
            StoreUnavailable: Cut, stalled, or another length than was declared.
        """


class HotStore(Protocol):
    """Where the application reads its objects. We read, identify, and delete by identity."""

    def open(self, location: HotLocation) -> AbstractContextManager[OpenObject]:
        """Begin to read one object; its size is known before its bytes are taken.

        Raises:
            ObjectMissing: The store says there is no such object. Whether to believe it
                is the caller's question (`probe`); for a missing bucket most stores
                say the same.
            ObjectDenied: The store refuses this object.
            BucketMissing, StoreDenied: The store said plainly that it is not the object.
            StoreUnavailable: Anything else; its code is in the error.
        """

    def read_range(
        self, location: HotLocation, identity: HotIdentity, start: int, stop: int
    ) -> Buffer:
        """The stored bytes from `start` on and before `stop`, of that very object.

        Exactly ``stop - start`` of them; a range within the object, never empty.

        Raises:
            ObjectChanged: Another object lies there than the one of that identity.
            ObjectMissing, ObjectDenied, BucketMissing, StoreDenied: As by `open`.
            StoreUnavailable: Cut, stalled, or another range than was asked for.
        """

    def identify(
        self, locations: Collection[HotLocation]
    ) -> Mapping[HotLocation, HotIdentity | None]:
        """Say what lies at each location now, without reading it; None is proven absence.

        An unchanged object has the identity that `open` gave. In bulk where the store can.
        All locations are answered, or an error is raised as by `open`.
        """

    def delete(
        self,
        targets: Sequence[tuple[HotLocation, HotIdentity]],
        allow: Callable[[], None],
    ) -> Mapping[HotLocation, Deleted]:
        """Delete these objects; repeatable. Every target is answered for itself.

        `allow` is called before each request that deletes, after all that had to be waited
        for: where it raises, that request and those after it are not sent.

        A store that honours a condition deletes only that identity; for another the
        caller's `identify` just before is the guard. In bulk where the store can.

        Raises:
            StoreUnavailable: Some may be deleted, none is known to be: ask again.
            BucketMissing, StoreDenied: As by `open`.
        """

    def probe(self, bucket: str) -> None:
        """Prove that the bucket is there and these credentials may use it (a control).

        Raises:
            BucketMissing, StoreDenied, StoreUnavailable: It could not be proven.
        """

    def close(self) -> None: ...


# --- the cold side: no overwrite, no delete ---------------------------------------------


class ColdStore(Protocol):
    """Where objects go. Keys are whole: the path prefix is part of them."""

    @property
    def capabilities(self) -> Capabilities: ...

    @property
    def path_prefix(self) -> str:
        """Goes before every key: empty, or ending in a slash."""

    @property
    def multipart(self) -> Multipart:
        """The same bucket, for objects that are sent in parts."""

    def location(self, key: ColdKey) -> ColdLocation: ...

    def create(
        self,
        key: ColdKey,
        body: bytes,
        *,
        metadata: Mapping[str, str],
        content_type: str | None,
        content_encoding: str | None,
    ) -> ColdStat:
        """Write one whole object under a signed SHA-256; it appears at once or not at all.

        With ``capabilities.enforces_create`` a key in use is never written over. Without,
        the same key must only ever be given the same bytes (the engine's digest keys).

        Raises:
            KeyTaken: The key is in use; nothing was written.
            BucketMissing, StoreDenied: Stop.
            StoreUnavailable: It may or may not have taken effect.
        """

    def stat_many(self, keys: Sequence[ColdKey]) -> Mapping[ColdKey, ColdStat | None]:
        """Existence, size and ETag of each key; None is proven absence.

        By LIST pages where the keys lie together and that is cheaper, else a HEAD each.
        """

    def look(self, key: ColdKey) -> ColdObject | None:
        """One object's stat and metadata, without its bytes; None is proven absence."""

    def held_digest(self, key: ColdKey) -> Digest | None:
        """The SHA-256 that the store holds for the whole object, where it tells."""

    def readback(self, key: ColdKey) -> Digest:
        """Read the whole object and hash its stored bytes as they stream, a buffer at a time.

        Raises:
            ObjectMissing, ObjectDenied: As by `read`.
        """

    def read(self, key: ColdKey) -> bytes:
        """The whole object, as stored.

        Raises:
            ObjectMissing: Proven absence.
            ObjectDenied: A store we may write but not read.
        """

    def read_range(self, stat: ColdStat, start: int, stop: int) -> Buffer:
        """The stored bytes from `start` on and before `stop`, of the object that was stat'ed.

        Exactly ``stop - start`` of them; a range within the object, never empty.

        Raises:
            ObjectChanged: The object there has another size or ETag.
            ObjectMissing, ObjectDenied: As by `read`.
            StoreUnavailable: Cut, stalled, or another range than was asked for.
        """

    def list(self, prefix: str) -> Iterator[ColdStat]:
        """Every object whose key starts with `prefix`, in key order, lazily."""

    def close(self) -> None: ...


class Multipart(Protocol):
    """One object sent in parts. Invisible until it is completed; kept by the store until then.

    Thread-safe: parts of one upload are sent by many threads at once.
    """

    @property
    def rules(self) -> PartRules: ...

    def begin(
        self,
        key: ColdKey,
        *,
        part_bytes: int,
        metadata: Mapping[str, str],
        content_type: str | None,
        content_encoding: str | None,
    ) -> OpenUpload:
        """Begin an upload. A lost answer leaves one that only `open_uploads` tells of."""

    def put_part(self, upload: OpenUpload, number: int, body: Buffer) -> str:
        """Send one part under a signed SHA-256; its ETag. Durable on return.

        Repeatable: the last one of a number counts. All parts but the last have the size
        that `begin` was told.

        Raises:
            UploadMissing
            StoreUnavailable: It may or may not have taken effect.
        """

    def parts(self, upload: OpenUpload) -> Sequence[StoredPart]:
        """What the store says it holds, by number.

        Raises:
            UploadMissing
        """

    def complete(self, upload: OpenUpload, parts: Sequence[Part]) -> ColdStat:
        """Make one object of all these parts; it appears at once or not at all.

        Conditional on a free key with ``capabilities.keeps_refused_parts``, else it takes
        whatever key it was begun for: then the same key must only ever be given the same
        bytes.

        Raises:
            KeyTaken: The key is in use; the upload is as it was.
            UploadMissing: Completed already, aborted or expired: look at the key.
            StoreUnavailable: It may or may not have taken effect: look at the key.
        """

    def abort(self, upload: OpenUpload) -> None:
        """Drop an upload and its parts. Repeatable: one that is gone is aborted, too."""

    def open_uploads(self, prefix: str) -> Iterator[OpenUpload]:
        """Every upload under way whose key starts with `prefix`, lazily."""


# --- the user's own objects ---------------------------------------------------------------


class OpenBody(Protocol):
    """An object, or a range of it, under its read."""

    @property
    def head(self) -> ObjectHead:
        """Of the whole object, as this very answer tells it."""

    def __iter__(self) -> Iterator[bytes]:
        """The stored bytes, never decoded, a buffer at a time, once.

        Raises:
            StoreUnavailable: Cut, stalled, or another length than was declared.
        """


class ObjectStore(Protocol):
    """One bucket for objects of the user's own: unlike a cold store's, they are overwritten.

    Safe to share between threads. Keys are whole. Every call ends by the limit that is
    set around it (`stores.deadlines`), its request with it. Errors as by `HotStore.open`:
    what is neither there nor proven absent is raised.
    """

    @property
    def name(self) -> str:
        """The store as errors call it."""

    def where(self, key: str) -> str:
        """The object as errors call it."""

    def head(self, key: str) -> ObjectHead | None:
        """None is proven absence."""

    def open(
        self, key: str, start: int = 0, stop: int | None = None, *, etag: str | None = None
    ) -> AbstractContextManager[OpenBody]:
        """Begin to read the bytes [start, stop), with `start` below `stop`; None: to the end.

        With an ETag: of that very object.

        Raises:
            ObjectMissing, ObjectDenied
            ObjectChanged: Another one lies there.
            RangeOutside
        """

    def put(
        self,
        key: str,
        pieces: Iterable[bytes],
        size_bytes: int | None,
        facts: ObjectFacts,
        *,
        create_only: bool,
    ) -> str | None:
        """Write one whole object; it appears at once or not at all. Its ETag, if it has one.

        A store that is `PutsInParts` is given small objects alone; else any size, a buffer
        at a time. Confirmed by the store on return. What `pieces` raises ends it, and then
        nothing was put.

        Raises:
            KeyTaken: With `create_only`, the key is in use.
            UnusableName, MetadataTooLarge
            StoreUnavailable: It may or may not have taken effect.
        """

    def delete(self, key: str) -> None:
        """Delete one object; one that is not there is deleted."""

    def list(self, prefix: str) -> Iterator[ListedObject]:
        """Every object whose key starts with `prefix`, lazily, in key order."""

    def held_md5(self, key: str) -> bytes | None:
        """The MD5 of the object's bytes, where this store is known to tell it."""

    def held_sha256(self, key: str) -> Digest | None:
        """The SHA-256 of the object's bytes, likewise."""

    def set_content_type(self, key: str, content_type: str) -> None:
        """Change it and nothing else of the object that lies there.

        Raises:
            ObjectMissing
            ObjectChanged: It was replaced meanwhile; the new one is as it was.
            NotOffered
        """

    def signed_get(
        self,
        key: str,
        lifetime_seconds: int,
        *,
        disposition: Disposition | None,
        content_type: str | None,
    ) -> SignedUrl:
        """A URL to GET the object with. Whether it is there is another question.

        Raises:
            NoUrl, NotOffered, BadLifetime
        """

    def signed_put(
        self, key: str, lifetime_seconds: int, *, content_type: str | None, create_only: bool
    ) -> SignedUrl:
        """A URL to PUT an object with.

        Raises:
            NoUrl, NotOffered, BadLifetime
        """

    def close(self) -> None: ...


@runtime_checkable
class PutsInParts(Protocol):
    """What an object store does besides, where `put` needs the whole object in memory."""

    @property
    def part_rules(self) -> PartRules: ...

    def multipart(self, key: str, *, create_only: bool) -> Multipart:
        """What puts this object in parts.

        Raises:
            KeyTaken: With `create_only`, where it can be known before.
        """


class PartTarget(Protocol):
    """Where an object can be put in parts: what a sender of parts asks of a store.

    Every `ColdStore` is one; the members are as there.
    """

    @property
    def capabilities(self) -> Capabilities: ...

    @property
    def path_prefix(self) -> str: ...

    @property
    def multipart(self) -> Multipart: ...

    def location(self, key: ColdKey) -> ColdLocation: ...

    def create(
        self,
        key: ColdKey,
        body: bytes,
        *,
        metadata: Mapping[str, str],
        content_type: str | None,
        content_encoding: str | None,
    ) -> ColdStat:
        """Write one object in one piece: an empty one has no parts."""

    def stat_many(self, keys: Sequence[ColdKey]) -> Mapping[ColdKey, ColdStat | None]: ...

    def read(self, key: ColdKey) -> bytes: ...

    def read_range(self, stat: ColdStat, start: int, stop: int) -> Buffer: ...


Where_contra = TypeVar("Where_contra", contravariant=True)  # a HotLocation, or a ColdKey


@runtime_checkable
class UrlSigner(Protocol[Where_contra]):
    """What a store can do besides, where it speaks HTTP."""

    def signed_url(self, where: Where_contra, lifetime_seconds: int) -> str:
        """A URL that anybody may GET this one object with, until its lifetime is over.

        It is a secret. Whether the object is there is another question.

        Raises:
            ObjectMissing: Where the store looks before it signs.
            StoreUnavailable, StoreDenied
        """


# --- sources ----------------------------------------------------------------------------

Transaction = Any  # the ledger's open transaction: a psycopg.Connection for Postgres


class ArchiveSource(Protocol):
    """Decides what may move, and flips its own rows when it has moved.

    `tx` is the ledger's open transaction; a source never commits it.
    """

    @property
    def name(self) -> SourceName: ...

    def check(self, tx: Transaction) -> Sequence[str]:
        """Prove at start that this source can be trusted here; warnings for the operator.

        Columns are there, no row-level security hides rows from this role, and on a real
        candidate (rolled back) a receipt with another path or another digest is taken by
        nobody, the right one by exactly one row.

        Raises:
            SourceRefused: With what is wrong and the command that mends it.
        """

    def prepare(self, tx: Transaction) -> None:
        """Once before a sweep; may fill the source's own ledger tables."""

    def find_candidates(
        self, limit: int, after: Position | None, tx: Transaction
    ) -> Sequence[Offer]:
        """Up to `limit` rows that may move now, by (due_at, id), after a position.

        Takes no lock. Empty means: nothing after that position.
        """

    def count_candidates(self, tx: Transaction) -> int:
        """How many rows `find_candidates` would offer in all, counted where they are."""

    def on_archived(
        self, receipts: Sequence[Receipt], tx: Transaction
    ) -> Collection[CandidateId]:
        """Flip the rows these receipts name where they still hold that path and digest.

        One statement for the whole group. Rows are locked in id order. Returns the ids
        taken; the others changed or are gone.
        """

    def on_restored(
        self, receipts: Sequence[Receipt], tx: Transaction
    ) -> Collection[CandidateId]:
        """The mirror: point the rows hot again that still hold that cold key, and nothing hot.

        One statement for the whole group, each id in it once. Returns the ids taken.

        Raises:
            SourceRefused: This source cannot (`can_restore`).
        """

    @property
    def can_restore(self) -> bool: ...

    def points_at(
        self, locations: Collection[HotLocation], tx: Transaction
    ) -> Collection[HotLocation]:
        """Which of these hot locations does any row point at now?"""

    def locate(self, id_: CandidateId, tx: Transaction) -> Located:
        """Where one row says that its object is now. Not asked by a sweep.

        Raises:
            RowMissing, BadPointer
            SourceRefused: This source does not say how its rows are read.
        """

    def holdings(
        self, limit: int, after: CandidateId | None, tx: Transaction
    ) -> Sequence[Holding]:
        """Up to `limit` rows that are archived already, by id, after an id.

        Takes no lock. Empty means: nothing after that id. Not asked by a sweep.

        Raises:
            SourceRefused: This source does not tell.
        """

    def housekeeping(self, tx: Transaction, *, everything: bool) -> Mapping[str, int]:
        """After and before a sweep; counts by name, for the log (``jobs_marked``).

        Bounded in time: it is called again, in a new transaction, until all counts are zero.
        `everything` asks for all rows, not only those touched since the last time.
        """


@runtime_checkable
class PassesInTheWay(Protocol):
    """What a source can do besides, where the database compares its rows with the claims.

    A claim that meets a page of rows that are parked or held would else fetch each of those
    behind it.
    """

    def pass_in_the_way(self, after: Position | None, tx: Transaction) -> Position | None:
        """The last of the rows right after a position that have a claim in their way.

        A park stands in the way of a row only while the row is as it was. Bounded: asked
        again from there, it goes on. None: the very next row is not one.
        """


# --- the ledger -------------------------------------------------------------------------


if TYPE_CHECKING:
    # Which of these hot copies are not what was read any more: an answer for each such.
    Look = Callable[[Sequence[Recorded]], Mapping[ReceiptId, UndoAnswer]]


class Claims(Protocol):
    """Exclusive rights to move the candidates of one source, for one worker."""

    def begin(self) -> None:
        """Start a sweep: the source prepares, and the order is read from its beginning.

        Holds that have ended are forgotten: their rows are fresh candidates of this sweep.
        """

    def preview(self, limit: int | None) -> Iterator[Offer]:
        """What `claim` would offer, oldest first; nothing is written."""

    def count_backlog(self) -> int:
        """About how many rows there are to claim: those parked or held elsewhere count too.

        Nothing is written. It reads the whole backlog: for a person who waits, not a loop.
        """

    def claim(self, limit: int) -> Window:
        """Claim up to `limit`: due retries and dead workers' claims first, then fresh rows.

        Atomic; the unique key (source, id) arbitrates between workers. Each claim has a
        new fencing token. Rows that cannot be candidates are parked on the way. A park
        binds only the row that failed: changed, it is a fresh candidate. Only a claim
        under the source's lock that read the order to its end and got nothing is drained.

        Raises:
            LeaseLost, LedgerUnavailable
        """

    def give_back(self, claims: Sequence[Claim]) -> None:
        """Let go without counting an attempt; they can be claimed at once. Repeatable."""

    def record(self, receipts: Sequence[Receipt]) -> Sequence[Answer]:
        """Write receipts and flip the source's rows, in one transaction; an answer each.

        Fenced by token and lease. Repeatable: a receipt under this token counts as
        accepted, so a lost COMMIT reply is settled by asking again. No row spoils its
        group. An accepted claim is gone; its release is pending.

        Raises:
            LeaseLost, LedgerUnavailable
        """

    def fail(self, failures: Sequence[Failure]) -> Sequence[FailAnswer]:
        """Count an attempt for each that is one, and let it wait (backoff) or park it.

        Before a park the row is asked again: one that changed is given back instead.
        """

    def outlook(self) -> Outlook:
        """What is still in motion, and when to look again."""

    def housekeeping(self, *, everything: bool) -> Mapping[str, int]:
        """The source's own, in a transaction of its own."""


class Releases(Protocol):
    """Exclusive rights to delete the hot copies of one source's recorded receipts."""

    def claim_release(self, limit: int) -> Sequence[Release]:
        """Receipts past their grace, oldest first, that no source row points at.

        One whose location a row points at again is ended as `replaced` on the way. A
        dead worker's releases are taken over. Empty: nothing is due.
        """

    def released(self, ends: Sequence[ReleaseEnd]) -> None:
        """Append the outcomes. Fenced; repeatable."""

    def fail_release(self, failures: Sequence[ReleaseFailure]) -> None:
        """Wait with backoff, or park."""

    def give_back_releases(self, releases: Sequence[Release]) -> None:
        """Let go without counting. Repeatable."""

    def undo(
        self, recorded: Sequence[Recorded], hold_seconds: float, look: Look
    ) -> Sequence[Undone]:
        """Point rows back at their hot copies, which then stay; an answer each.

        Needs no lease. Only what is pending and no live worker holds; parked releases too. In
        one transaction, unless a row spoils it: `look` is asked, the source points its rows
        back, their releases end as `undone` (others of the same row and place as `replaced`),
        and the ids are held: no sweep takes them for so long. While it lasts no release of the
        source can be claimed, so what `look` has seen stays. Each id may be there once.
        Repeatable.

        Raises:
            SourceRefused: The source cannot do it.
        """


class Stamps(Protocol):
    """This ledger's stamps in the cold places of one source; recorded before they are put."""

    def known(self, place: ColdPlace) -> Stamped:
        """The last stamp that was seen there, and what is intended after it. Needs no lease."""

    def intend(self, place: ColdPlace) -> Stamp | None:
        """The stamp to put there now; None: the last one was confirmed within a day.

        Recorded on return; all workers get the same one until it is confirmed. Repeatable.

        Raises:
            LeaseLost, LedgerUnavailable
        """

    def confirm(self, place: ColdPlace, stamp: Stamp) -> None:
        """It was seen there. Fenced by the lease; repeatable.

        Raises:
            LeaseLost, LedgerUnavailable
        """


class Uploads(Protocol):
    """Which parts of which objects the cold store has acknowledged. Thread-safe.

    Durable: a part that was saved is never sent again, whoever goes on. One upload for each
    cold location, owned by one worker while its lease lasts.
    """

    def take(self, plan: UploadPlan) -> TakenUpload:
        """Own the upload of this plan: the recorded one with its parts, or a new one.

        `stale`, and owned as well, are what the plan makes useless: an upload of the same
        location with another origin, size or part size (the new one is recorded beside
        it), and any of the same source and id at another location, but for those that
        another live worker owns. They expire at once. Puts the expiry of the upload off.
        Repeatable; each time under a new token.

        Raises:
            UploadBusy: Another live worker owns the upload of this location.
            LeaseLost, LedgerUnavailable
        """

    def begun(self, upload: Upload, upload_id: str) -> Upload:
        """Record under which id the store began it. Fenced by token and lease; repeatable.

        Parts that were saved under another id are dropped: this one does not have them.

        Raises:
            UploadBusy: It is another worker's by now, or forgotten.
            LeaseLost, LedgerUnavailable
        """

    def save_part(self, upload: Upload, part: Part) -> None:
        """Record one acknowledged part, durably on return; puts the expiry off. Repeatable.

        A part of that number is replaced. Fenced by token, id and lease.

        Raises:
            UploadBusy, LeaseLost, LedgerUnavailable: As by `begun`.
        """

    def require(self, upload: Upload) -> None:
        """Prove that it is ours still, before it is completed or aborted.

        Raises:
            UploadBusy, LeaseLost, LedgerUnavailable: As by `begun`.
        """

    def forget(self, upload: Upload) -> None:
        """It was completed or aborted: drop it and its parts. Fenced; repeatable.

        One that is another worker's by now stays.

        Raises:
            LeaseLost, LedgerUnavailable
        """

    def give_back(self, upload: Upload) -> None:
        """Let go of it, to be resumed by anybody at once. Fenced; repeatable.

        One that is another worker's by now stays theirs.
        """

    def expired(self, place: ColdPlace, limit: int) -> Sequence[Upload]:
        """Own up to `limit` uploads of a place past their expiry that no live worker owns.

        The longest past come first; their expiry stays as it is.

        Raises:
            LeaseLost, LedgerUnavailable
        """

    def uploads(self) -> Sequence[Upload]:
        """Every recorded one, oldest first. Needs no lease; nothing can be done with them."""


class Adoptions(Protocol):
    """The rows of one source that were archived without this ledger, and receipts for them."""

    def holdings(self, limit: int, after: CandidateId | None, *, unproven: bool) -> Holdings:
        """The next page, by id, without the rows that have a receipt for their very object.

        A receipt without evidence is good enough only where `unproven` ones are asked for.
        Nothing is written.

        Raises:
            SourceRefused: The source does not tell its holdings.
        """

    def adopt(
        self, adoptions: Sequence[Adoption], read_at: datetime
    ) -> Collection[CandidateId]:
        """Write receipts for rows that were read then; the ids that got one.

        Left out are objects that have one by now, and rows that this ledger has archived
        anew since: their newest receipt must stay the newest. So it is repeatable. Fenced
        by the lease, atomic. No release is ever made of them.

        Raises:
            LeaseLost, LedgerUnavailable
        """


class Records(Protocol):
    """What an operator asks the ledger. Reads, and one write: `retry`."""

    def counts(self) -> Sequence[SourceCounts]: ...

    def count_uploads(self) -> UploadCounts: ...

    def parked(self, source: SourceName | None, limit: int) -> Sequence[ParkedRow]: ...

    def retry(self, source: SourceName | None, ids: Collection[CandidateId] | None) -> int:
        """Let parked rows (all, or these) be candidates again, from zero attempts.

        Of these ids a hold is ended as well; all parked rows leave all holds alone.
        """

    def history(self, id_: CandidateId, source: SourceName | None) -> Sequence[History]: ...

    def entries(
        self, source: SourceName | None, since: datetime, until: datetime | None
    ) -> Iterator[Entry]:
        """Every receipt of a move from `since` on and before `until`, by (time, receipt id).

        Lazy, and between two pages no transaction is open: how a receipt ended is told as of
        when its page was read.
        """

    def newest_entries(
        self,
        source: SourceName,
        since: datetime,
        until: datetime | None = None,
        worker: WorkerId | None = None,
    ) -> Iterator[Entry]:
        """The same of one source, and perhaps one worker: the last receipt of each id in it."""

    def newest_entries_of(
        self, ids: Collection[CandidateId], source: SourceName | None
    ) -> Sequence[Entry]:
        """The last receipt of each of these ids, in every source that has one; of a move."""

    def adoptions(
        self, source: SourceName | None, since: datetime, until: datetime | None
    ) -> Iterator[RecordedAdoption]:
        """What was adopted from `since` on and before `until`; lazy, ordered as `entries`."""


class Leases(Protocol):
    """The lease of this process in a ledger."""

    @property
    def ledger_id(self) -> str: ...

    def join(self) -> Lease:
        """Register this process and get a lease; whatever it owns is owned under it.

        Raises:
            ForeignDatabase: The ledger is not at home in the database it is found in.
        """

    def beat(self, *, idle_seconds: float = 0.0) -> Lease:
        """Extend the lease, and tell how long ago this worker last got on.

        Raises:
            LeaseLost: It ran out before, or the epoch was raised.
        """

    def leave(self) -> None:
        """End the lease: whatever is still held can be taken over at once, as no crash."""


class Fleet(Leases, Protocol):
    """Who works here, under which epoch, and what was learned of the stores."""

    def identity(self) -> LedgerIdentity:
        """Which ledger this is, where it is at home, and where it is found now."""

    def remember(self, probe: str, capabilities: Capabilities) -> None:
        """Keep what a probe of a store found."""

    def recall(self, probe: str) -> Capabilities | None:
        """What was found within the last 7 days, by any worker."""

    def workers(self) -> Sequence[WorkerStatus]: ...

    def take_over(self, found: Sequence[FoundStamp]) -> int:
        """Be at home here, under an epoch above our own and all that were found; that epoch.

        No worker from before beats, records or stamps any more. A stamp is intended for each
        place; it overrules what was found there, and is still to be put. Atomic; done again
        it only goes further up.

        Raises:
            LedgerDenied: This role may not decide that.
            LedgerUnavailable
        """

    def fenced_lease_seconds(self) -> float:
        """How long workers of other epochs may still delete: their leases run; 0: none."""

    def pause(self, what: Pause) -> None:
        """Ask this of all workers, in place of what was asked; each beat tells it."""

    def paused(self) -> Pause:
        """What is asked of all workers now."""

    def sweep_began(self, source: SourceName) -> SweepId:
        """Note that this worker sweeps a source; sweeps of long ago are forgotten."""

    def sweep_ended(self, sweep: SweepId, summary: Summary) -> None:
        """Note how it ended. Repeatable; the first end stays."""

    def sweeps(self, source: SourceName | None, limit: int) -> Sequence[SweepRecord]:
        """The last sweeps, newest first."""

    def sweep(self, sweep: SweepId) -> SweepRecord | None:
        """The sweep of this number, if it is still known."""


class Spending(Protocol):
    """What all workers of a ledger read of stores that charge for it, over time."""

    def reserve(self, wanted_bytes: int, budget: EgressBudget) -> int:
        """Spend up to so many bytes, before they are read; what was granted, 0 too.

        Atomic: what all workers reserved within the window is never more than the budget.
        Asked again after a lost reply it spends twice, which is the safe side.
        """

    def settle(self, unused_bytes: int) -> None:
        """Give back what was reserved within the last day and not read.

        Less than nothing: what was read beyond it counts, room or not. Not repeatable: after
        a lost reply leave it, and it counts as spent.
        """

    def spent(self, budget: EgressBudget) -> Spent:
        """What the window holds now. It leaves when it is older, by minutes at most."""
