"""What happened, as frozen nouns. Observers turn them into log lines, metrics, progress.

The engine logs nothing itself. `LEVEL` and `NAME` are part of the public contract
(docs/design.md lists them); fields are the facts, secrets never among them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from archiver.model import (
        Adoption,
        CandidateId,
        Claim,
        FailAnswer,
        Holding,
        HotLocation,
        NotAdopted,
        Outcome,
        Pause,
        Receipt,
        SourceName,
        Summary,
        Takeover,
    )

Level = Literal["debug", "info", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened."""

    LEVEL: ClassVar[Level] = "info"
    NAME: ClassVar[str] = ""


@dataclass(frozen=True, slots=True)
class SweepStarted(Event):
    """A worker begins one every minute; that it found something is what it says aloud."""

    LEVEL: ClassVar[Level] = "debug"
    NAME: ClassVar[str] = "sweep started"
    source: SourceName
    concurrency: int | Literal["auto"]
    release: bool


@dataclass(frozen=True, slots=True)
class WidthChanged(Event):
    """How many objects are moved at once, where ARCHIVE_CONCURRENCY is `auto`."""

    LEVEL: ClassVar[Level] = "debug"
    NAME: ClassVar[str] = "width changed"
    source: SourceName
    before_count: int
    after_count: int
    why: str


@dataclass(frozen=True, slots=True)
class NothingDue(Event):
    LEVEL: ClassVar[Level] = "debug"
    NAME: ClassVar[str] = "no archive candidates"
    source: SourceName


@dataclass(frozen=True, slots=True)
class CandidatesClaimed(Event):
    NAME: ClassVar[str] = "archiving candidates"
    source: SourceName
    candidates_count: int
    parked_count: int


@dataclass(frozen=True, slots=True)
class Housekept(Event):
    NAME: ClassVar[str] = "housekeeping done"
    source: SourceName
    counts: Mapping[str, int]  # the source's own names, such as jobs_marked


@dataclass(frozen=True, slots=True)
class StoreProbed(Event):
    NAME: ClassVar[str] = "cold store probed"
    provider: str
    bucket: str
    enforces_signed_digest: bool
    enforces_create: bool
    returns_digest: bool
    evidence: str
    was_remembered: bool
    etag_is_md5: bool = False


@dataclass(frozen=True, slots=True)
class ObjectArchived(Event):
    """A receipt is recorded and the row is flipped."""

    LEVEL: ClassVar[Level] = "debug"
    NAME: ClassVar[str] = "object archived"
    receipt: Receipt
    was_there: bool


@dataclass(frozen=True, slots=True)
class UploadResumed(Event):
    """An object that was sent in part before goes on: only what is missing is sent."""

    NAME: ClassVar[str] = "upload resumed"
    where: str
    kept_bytes: int
    size_bytes: int | None


@dataclass(frozen=True, slots=True)
class UploadAwaited(Event):
    """Another worker owns the upload: it is busy, or died and its lease is to run out."""

    LEVEL: ClassVar[Level] = "warning"
    NAME: ClassVar[str] = "upload is another worker's, waiting for it"
    where: str
    patience_seconds: float


@dataclass(frozen=True, slots=True)
class UploadAbandoned(Event):
    """An upload in parts was aborted, in the store and in the ledger."""

    NAME: ClassVar[str] = "upload aborted"
    where: str
    reason: str


@dataclass(frozen=True, slots=True)
class UploadLeft(Event):
    """An upload past its expiry could not be aborted; the next sweep tries again."""

    LEVEL: ClassVar[Level] = "warning"
    NAME: ClassVar[str] = "upload not aborted"
    where: str
    error: str


@dataclass(frozen=True, slots=True)
class ObjectRecovered(Event):
    """The hot object was missing; the cold copy was proven instead."""

    NAME: ClassVar[str] = "object recovered from cold, nothing was sent"
    receipt: Receipt


@dataclass(frozen=True, slots=True)
class MoveFailed(Event):
    LEVEL: ClassVar[Level] = "warning"
    NAME: ClassVar[str] = "object not archived"
    claim: Claim
    answer: FailAnswer
    reason: str


@dataclass(frozen=True, slots=True)
class ObjectParked(Event):
    LEVEL: ClassVar[Level] = "error"
    NAME: ClassVar[str] = "object parked"
    claim: Claim
    reason: str


@dataclass(frozen=True, slots=True)
class ObjectSuperseded(Event):
    NAME: ClassVar[str] = "row changed while its object was moved"
    source: SourceName
    id: CandidateId
    location: HotLocation


@dataclass(frozen=True, slots=True)
class ObjectReleased(Event):
    """A release ended: the hot copy is gone, or something else stands there now."""

    LEVEL: ClassVar[Level] = "debug"
    NAME: ClassVar[str] = "hot copy released"
    receipt: Receipt
    outcome: Outcome
    detail: str | None


@dataclass(frozen=True, slots=True)
class ReleaseFailed(Event):
    LEVEL: ClassVar[Level] = "error"
    NAME: ClassVar[str] = "hot copy not released"
    receipt: Receipt
    reason: str


@dataclass(frozen=True, slots=True)
class LedgerRetried(Event):
    """The database did not answer; the same call is made again."""

    LEVEL: ClassVar[Level] = "warning"
    NAME: ClassVar[str] = "ledger unavailable, trying again"
    operation: str
    reason: str
    wait_seconds: float


@dataclass(frozen=True, slots=True)
class BreakerOpened(Event):
    """One store failed so often in a row that it is left alone until the next sweep."""

    LEVEL: ClassVar[Level] = "error"
    NAME: ClassVar[str] = "store breaker opened"
    source: SourceName
    store: str
    failures_count: int
    reason: str


@dataclass(frozen=True, slots=True)
class EgressBudgetSpent(Event):
    """Nothing more is read in this sweep; deletes that need no read go on."""

    NAME: ClassVar[str] = "egress budget spent"
    source: SourceName
    limit_bytes: int
    window_seconds: float


@dataclass(frozen=True, slots=True)
class ObjectOverBudget(Event):
    """It is passed over in this sweep, and will be in every one until the budget is raised."""

    LEVEL: ClassVar[Level] = "warning"
    NAME: ClassVar[str] = "object larger than the whole egress budget"
    source: SourceName
    where: str
    size_bytes: int  # of all that would be read for it
    limit_bytes: int


@dataclass(frozen=True, slots=True)
class CanaryLeftOut(Event):
    """The smallest archived object lies in a class that cannot be read back at once."""

    LEVEL: ClassVar[Level] = "warning"
    NAME: ClassVar[str] = "released without a canary: the cold object is frozen"
    source: SourceName
    where: str


@dataclass(frozen=True, slots=True)
class ColdPlaceStamped(Event):
    """This ledger's next stamp was seen in the cold store, and no other one above it."""

    NAME: ClassVar[str] = "cold store stamped"
    source: SourceName
    where: str
    number: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Draining(Event):
    NAME: ClassVar[str] = "stopping: draining what is in flight"
    reason: str
    timeout_seconds: float


@dataclass(frozen=True, slots=True)
class SourceWarning(Event):
    LEVEL: ClassVar[Level] = "warning"
    NAME: ClassVar[str] = "source warning"
    source: SourceName
    message: str


@dataclass(frozen=True, slots=True)
class SweepEnded(Event):
    NAME: ClassVar[str] = "sweep ended"
    source: SourceName
    summary: Summary


@dataclass(frozen=True, slots=True)
class IdleSweepEnded(SweepEnded):
    """Nothing was due, and nothing was wrong."""

    LEVEL: ClassVar[Level] = "debug"


@dataclass(frozen=True, slots=True)
class SweepFailed(Event):
    LEVEL: ClassVar[Level] = "error"
    NAME: ClassVar[str] = "sweep failed"
    source: SourceName
    reason: str


@dataclass(frozen=True, slots=True)
class BacklogCounted(Event):
    """How many candidates a sweep expects, for the progress bar; an estimate."""

    LEVEL: ClassVar[Level] = "debug"
    NAME: ClassVar[str] = "backlog counted"
    source: SourceName
    candidates_count: int


# --- the scheduled worker -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WorkerStarted(Event):
    NAME: ClassVar[str] = "worker started"
    schedule: str
    sources: str
    version: str


@dataclass(frozen=True, slots=True)
class WorkerDisabled(Event):
    """It stays up and does nothing, so that a container without settings is no alarm."""

    LEVEL: ClassVar[Level] = "warning"
    NAME: ClassVar[str] = (
        "archiving is disabled: ARCHIVE_PROVIDER and ARCHIVE_BUCKET are not set"
    )


@dataclass(frozen=True, slots=True)
class WorkerStopped(Event):
    NAME: ClassVar[str] = "worker stopped, nothing is left in flight"


@dataclass(frozen=True, slots=True)
class PauseObeyed(Event):
    NAME: ClassVar[str] = "the operator's wish has changed"
    pause: Pause


@dataclass(frozen=True, slots=True)
class NoSweep(Event):
    """Nothing could be begun; the next fire time tries again."""

    LEVEL: ClassVar[Level] = "error"
    NAME: ClassVar[str] = "no sweep: the ledger cannot be used now"
    reason: str


@dataclass(frozen=True, slots=True)
class SweepSkipped(Event):
    """A fire time came while a sweep was under way. Said once a sweep."""

    NAME: ClassVar[str] = "sweep not begun: the one before is still under way"
    due_at: datetime


@dataclass(frozen=True, slots=True)
class SweepsMissed(Event):
    """Nobody was there at a fire time: the machine was suspended, or too busy."""

    LEVEL: ClassVar[Level] = "warning"
    NAME: ClassVar[str] = "sweep missed, begun late"
    due_at: datetime  # the first that was missed
    late_seconds: float


@dataclass(frozen=True, slots=True)
class ClockSetBack(Event):
    LEVEL: ClassVar[Level] = "warning"
    NAME: ClassVar[str] = "the machine's clock was set back"
    seconds: float


@dataclass(frozen=True, slots=True)
class SweepHangs(Event):
    LEVEL: ClassVar[Level] = "error"
    NAME: ClassVar[str] = "the sweep hangs: nothing came home"
    idle_seconds: float
    threads: Mapping[str, str]  # where each thread is, by its name


@dataclass(frozen=True, slots=True)
class WorkerGivesUp(Event):
    LEVEL: ClassVar[Level] = "error"
    NAME: ClassVar[str] = (
        "the sweep still hangs: ending this process, its claims are taken over"
    )
    idle_seconds: float


@dataclass(frozen=True, slots=True)
class DrainTimedOut(Event):
    LEVEL: ClassVar[Level] = "error"
    NAME: ClassVar[str] = (
        "stopped before all had come home: claims are taken over after a lease"
    )
    timeout_seconds: float
    threads: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Crashed(Event):
    """A bug, ours or a plugin's. Nothing is lost, and the next fire time tries again."""

    LEVEL: ClassVar[Level] = "error"
    NAME: ClassVar[str] = "this is a bug, the worker goes on"
    what: str
    traceback: str


@dataclass(frozen=True, slots=True)
class PingFailed(Event):
    """Whom ARCHIVE_PING_URL names did not answer. The URL is a secret."""

    LEVEL: ClassVar[Level] = "warning"
    NAME: ClassVar[str] = "ping failed"
    reason: str


# --- adopting -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TakeoverStarted(Event):
    """Rows that another worker archived are to get receipts."""

    NAME: ClassVar[str] = "adopting archived rows"
    source: SourceName
    concurrency: int
    unproven: bool


@dataclass(frozen=True, slots=True)
class ObjectAdopted(Event):
    """A receipt is recorded for an object that another worker archived."""

    LEVEL: ClassVar[Level] = "debug"
    NAME: ClassVar[str] = "object adopted"
    adoption: Adoption


@dataclass(frozen=True, slots=True)
class HoldingRefused(Event):
    """An archived row got no receipt; it stays as it is."""

    LEVEL: ClassVar[Level] = "error"
    NAME: ClassVar[str] = "archived row not adopted"
    source: SourceName
    holding: Holding
    why: NotAdopted
    reason: str


@dataclass(frozen=True, slots=True)
class TakeoverEnded(Event):
    NAME: ClassVar[str] = "adopting ended"
    source: SourceName
    takeover: Takeover
