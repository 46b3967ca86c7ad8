"""What happened, as frozen nouns. Observers turn them into log lines, metrics, progress.

The engine logs nothing itself. `LEVEL` and `NAME` are part of the public contract
(docs/design.md lists them); fields are the facts, secrets never among them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from archiver.model import (
        CandidateId,
        Claim,
        FailAnswer,
        HotLocation,
        Outcome,
        Receipt,
        SourceName,
        Summary,
    )

Level = Literal["debug", "info", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened."""

    LEVEL: ClassVar[Level] = "info"
    NAME: ClassVar[str] = ""


@dataclass(frozen=True, slots=True)
class SweepStarted(Event):
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
class CanaryLeftOut(Event):
    """The smallest archived object lies in a class that cannot be read back at once."""

    LEVEL: ClassVar[Level] = "warning"
    NAME: ClassVar[str] = "released without a canary: the cold object is frozen"
    source: SourceName
    where: str


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
