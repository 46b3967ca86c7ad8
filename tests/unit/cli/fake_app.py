"""An app that touches nothing: what the commands are given, they get told here."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from click.testing import CliRunner

from archiver.cli.backstage import Backstage
from archiver.cli.main import run
from archiver.errors import SourceRefused
from archiver.model import (
    Candidate,
    CandidateId,
    ClaimState,
    ColdKey,
    ColdLocation,
    DatabaseHome,
    Digest,
    Entry,
    Evidence,
    FencingToken,
    History,
    HotIdentity,
    HotLocation,
    LedgerIdentity,
    Outcome,
    ParkedRow,
    Pause,
    Receipt,
    ReceiptId,
    Recorded,
    RecordedAdoption,
    SourceCounts,
    SourceName,
    Stamp,
    Summary,
    SweepId,
    SweepRecord,
    Takeover,
    UndoAnswer,
    Undone,
    UploadCounts,
    WorkerId,
    WorkerStatus,
)
from archiver.succession import Standing
from tests.fakes.clock import ManualClock

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from archiver.config import Settings
    from archiver.engine.stop import Stop
    from archiver.events import Event, HoldingRefused
    from archiver.model import Capabilities, FoundStamp, Lease, Offer, Spent
    from archiver.protocols import Clock, Observer
    from archiver.worker import OpenShift

SOURCE = SourceName("task_html")
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
CANDIDATE = Candidate(
    id=CandidateId("t1"),
    due_at=AT,
    location=HotLocation("pages", "jobs/j1/t1.gz"),
    cold_key=ColdKey("cold/t1.gz"),
    size_bytes=2048,
)
RECEIPT = Receipt(
    source=SOURCE,
    id=CandidateId("t1"),
    token=FencingToken(1, WorkerId(2), 3),
    location=CANDIDATE.location,
    identity=None,
    cold=ColdLocation("r2", "cold", ColdKey("p/cold/t1.gz")),
    size_bytes=2048,
    digest=Digest.of(b"page"),
    content_digest=None,
    etag=None,
    evidence=Evidence.SIGNED,
)
HISTORY = History(
    source=SOURCE,
    id=CandidateId("t1"),
    claim_state=ClaimState.WAITING,
    claim_reason="cut",
    claim_location=CANDIDATE.location,
    attempts_count=2,
    next_attempt_at=AT,
    receipts=((Recorded(ReceiptId(9), RECEIPT, AT), Outcome.RELEASED, AT),),
)

RELEASED = Entry(
    Recorded(ReceiptId(9), RECEIPT, AT),
    is_pending=False,
    outcome=Outcome.RELEASED,
    detail="was gone already",
    ended_at=AT,
)
PENDING = Entry(
    Recorded(
        ReceiptId(10),
        replace(
            RECEIPT,
            id=CandidateId("=t,2"),
            identity=HotIdentity(2048, etag="hot"),
            content_digest=Digest.of(b"content"),
        ),
        AT,
    ),
    is_pending=True,
)


@dataclass
class FakeRecords:
    """Records of one parked row and one history."""

    parked_rows: tuple[ParkedRow, ...]
    adopted: tuple[int, int] = (0, 0)  # and of these unproven
    histories: tuple[History, ...] = (HISTORY,)
    upload_counts: UploadCounts = field(default_factory=lambda: UploadCounts(0, 0))

    def counts(self) -> Sequence[SourceCounts]:
        return [
            SourceCounts(SOURCE, 1, 2, 7, 3, 12_345, 1024**3, 4, 5, 6, 8, AT, *self.adopted)
        ]

    def count_uploads(self) -> UploadCounts:
        return self.upload_counts

    def parked(self, source: SourceName | None, limit: int) -> Sequence[ParkedRow]:
        return [row for row in self.parked_rows if source in (None, row.source)][:limit]

    def entries(
        self, source: SourceName | None, since: datetime, until: datetime | None
    ) -> Iterator[Entry]:
        for entry in (RELEASED, PENDING):
            at = entry.recorded.archived_at
            if source in (None, SOURCE) and since <= at and (until is None or at < until):
                yield entry

    def newest_entries(
        self,
        source: SourceName,
        since: datetime,
        until: datetime | None = None,
        worker: WorkerId | None = None,
    ) -> Iterator[Entry]:
        del worker
        return self.entries(source, since, until)

    def newest_entries_of(
        self, ids: Collection[CandidateId], source: SourceName | None
    ) -> Sequence[Entry]:
        found = self.entries(source, AT, None)
        return [entry for entry in found if entry.recorded.receipt.id in ids]

    def retry(self, source: SourceName | None, ids: Collection[CandidateId] | None) -> int:
        rows = self.parked(source, len(self.parked_rows))
        return len([row for row in rows if ids is None or row.id in ids])

    def history(self, id_: CandidateId, source: SourceName | None) -> Sequence[History]:
        return [it for it in self.histories if it.id == id_ and source in (None, SOURCE)]

    def adoptions(
        self, source: SourceName | None, since: datetime, until: datetime | None
    ) -> Iterator[RecordedAdoption]:
        del since, until
        adopted = [recorded for history in self.histories for recorded in history.adopted]
        yield from (it for it in adopted if source in (None, it.adoption.source))


class FakeFleet:
    """A fleet of one live worker; nothing else is asked of it here."""

    ledger_id = "7f3a"

    found = LedgerIdentity(ledger_id, 1, DatabaseHome("app", 7), DatabaseHome("app", 7))

    def identity(self) -> LedgerIdentity:
        return self.found

    def take_over(self, found: Sequence[FoundStamp]) -> int:
        raise NotImplementedError

    def fenced_lease_seconds(self) -> float:
        raise NotImplementedError

    def workers(self) -> Sequence[WorkerStatus]:
        return [
            WorkerStatus(
                WorkerId(2),
                "box",
                77,
                "0.1.0",
                AT,
                AT,
                AT,
                is_alive=True,
                claims_count=3,
                moving={SOURCE: 3},
            )
        ]

    asked: Pause = Pause.NOTHING

    def pause(self, what: Pause) -> None:
        self.asked = what

    def paused(self) -> Pause:
        return self.asked

    def sweeps(self, source: SourceName | None, limit: int) -> Sequence[SweepRecord]:
        known = [
            SweepRecord(SweepId(8), SOURCE, WorkerId(2), AT, ended_at=None, summary=None),
            SweepRecord(SweepId(7), SOURCE, WorkerId(2), AT, AT, Summary(archived=12)),
        ]
        return [sweep for sweep in known if source in (None, sweep.source)][:limit]

    def sweep(self, sweep: SweepId) -> SweepRecord | None:
        return next((it for it in self.sweeps(None, 9) if it.sweep_id == sweep), None)

    def sweep_began(self, source: SourceName) -> SweepId:
        raise NotImplementedError

    def sweep_ended(self, sweep: SweepId, summary: Summary) -> None:
        raise NotImplementedError

    def join(self) -> Lease:
        raise NotImplementedError

    def beat(self, *, idle_seconds: float = 0.0) -> Lease:
        raise NotImplementedError

    def leave(self) -> None:
        raise NotImplementedError

    def remember(self, probe: str, capabilities: Capabilities) -> None:
        raise NotImplementedError

    def recall(self, probe: str) -> Capabilities | None:
        raise NotImplementedError


PARKED = ParkedRow(SOURCE, CandidateId("t\x1b[2J9"), "too large", None, 3, AT)


@dataclass
class FakeApp:
    """Implements what the commands ask of `archiver.app`, and of an archiver of its."""

    summary: Summary = field(default_factory=Summary)
    takeover: Takeover = field(default_factory=Takeover)
    refusals: Sequence[HoldingRefused] = ()  # told while it adopts
    error: Exception | None = None  # raised when it is opened
    offers: Sequence[tuple[SourceName, Offer]] = ()
    events: Sequence[Event] = ()
    records: FakeRecords = field(default_factory=lambda: FakeRecords((PARKED,)))
    fleet: FakeFleet = field(default_factory=FakeFleet)
    applied: list[str] = field(default_factory=list)
    asked: list[Any] = field(default_factory=list)
    egress: Spent | None = None
    lasts_seconds: float = 0.0  # how long a sweep takes
    clock: ManualClock = field(default_factory=lambda: ManualClock(AT))

    @contextmanager
    def open_archiver(
        self, settings: Settings, observer: Observer, clock: Clock
    ) -> Iterator[FakeApp]:
        del settings, clock
        if self.error is not None:
            raise self.error
        self._observe = observer
        for event in self.events:
            observer(event)
        yield self

    def once(self, sources: Sequence[str] | None, limit: int | None, stop: Stop) -> Summary:
        self.clock.advance(self.lasts_seconds)
        self.asked.append((sources, limit, stop.reason))
        return self.summary

    source_names: Sequence[SourceName] = (SOURCE,)

    def begin_shift(self) -> OpenShift:
        raise NotImplementedError

    def require_restorable(self, source: SourceName) -> None:
        if source != SOURCE:
            raise SourceRefused(source=source, problem="it cannot")

    def undo(
        self, source: SourceName, entries: Iterable[Entry], hold_seconds: float
    ) -> Iterator[Undone]:
        chosen = list(entries)
        ids = [entry.recorded.receipt.id for entry in chosen]
        self.asked.append((source, ids, hold_seconds))
        for entry in chosen:
            receipt, receipt_id = entry.recorded.receipt, entry.recorded.receipt_id
            answer = UndoAnswer.UNDONE if entry.is_pending else UndoAnswer.RELEASED
            yield Undone(source, receipt.id, receipt_id, answer, entry.detail)

    def spent(self) -> Spent | None:
        return self.egress

    def count_backlog(self, sources: Sequence[str] | None) -> None:
        self.asked.append(("backlog", sources))

    def preview(
        self, sources: Sequence[str] | None, limit: int | None
    ) -> Iterator[tuple[SourceName, Offer]]:
        self.asked.append((sources, limit))
        yield from self.offers

    def adopt(self, source: str, limit: int | None, stop: Stop, *, unproven: bool) -> Takeover:
        self.asked.append(("adopt", source, limit, unproven))
        for event in self.refusals:
            self._observe(event)
        return self.takeover if stop.reason is None else Takeover()

    def survey(self, source: str, limit: int | None, stop: Stop, *, unproven: bool) -> Takeover:
        self.asked.append(("survey", source, limit, unproven))
        return self.takeover if stop.reason is None else Takeover()

    def migrate(self, settings: Settings, clock: Clock) -> list[str]:
        del settings, clock
        return self.applied

    @contextmanager
    def open_succession(self, settings: Settings, clock: Clock) -> Iterator[FakeSuccession]:
        del settings, clock
        yield FakeSuccession(self)

    def needs(self, settings: Settings, source: str) -> list[str]:
        del settings
        return [f"create index if not exists {source}_archiver on tasks (id)"]

    def apply_needs(self, settings: Settings, source: str, clock: Clock) -> None:
        del settings, clock
        self.asked.append(f"needs of {source}")


class FakeSuccession:
    """A copy of the ledger, in whose only source another one has released."""

    identity = LedgerIdentity("7f3a", 1, DatabaseHome("app", 7), DatabaseHome("copy", 8))

    def __init__(self, app: FakeApp) -> None:
        self._app = app
        self.live_workers = app.fleet.workers()
        other = Stamp("7f3a", SOURCE, 3, 2, "nonce", AT, "app")
        refusal = "not known to this ledger"
        self.standings = [Standing(SOURCE, "s3:cold/", [other, None], None, refusal)]

    def take_over(self) -> int:
        self._app.asked.append("take over")
        return 3

    def outlive_leases(self) -> None:
        self._app.asked.append("outlive leases")


@dataclass(frozen=True)
class Ended:
    """How one run of the command ended."""

    code: int
    out: str
    err: str


def run_command(arguments: str, environ: Mapping[str, str], app: FakeApp) -> Ended:
    """Run `archiver …` in this process, with these settings and no others."""
    backstage = Backstage(clock=app.clock, import_app=lambda: app)
    others = {name: None for name in os.environ if _is_setting(name)}
    with CliRunner().isolation(env={**others, **environ}) as (out, err, _both):
        code = run(arguments.split(), backstage)
        return Ended(code, out.getvalue().decode(), err.getvalue().decode())


def _is_setting(name: str) -> bool:
    return name.startswith(("ARCHIVE_", "SUPABASE_", "DATABASE_URL"))
