"""A ledger in memory, under the same contract suite as the one in Postgres.

Its clock is the manual clock of the test, for leases too. Workers of one fleet share their
tables: `FakeLedger(clock)` is the first worker's, `.another()` the next one's.
"""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import uuid4

from archiver.errors import ForeignDatabase, LeaseLost, UploadBusy
from archiver.ledger.backoff import Backoff
from archiver.ledger.settings import LedgerSettings
from archiver.model import (
    Adoption,
    Answer,
    BadRow,
    Candidate,
    CandidateId,
    Capabilities,
    Claim,
    ClaimState,
    ColdKey,
    ColdLocation,
    DatabaseHome,
    Digest,
    Entry,
    Evidence,
    FailAnswer,
    FencingToken,
    History,
    Holdings,
    HotLocation,
    Lease,
    LedgerIdentity,
    Outcome,
    Outlook,
    ParkedRow,
    Part,
    Pause,
    Receipt,
    ReceiptId,
    Recorded,
    RecordedAdoption,
    Release,
    ReleaseEnd,
    Secret,
    SourceCounts,
    SourceName,
    Spent,
    Stamp,
    Stamped,
    SweepId,
    SweepRecord,
    TakenUpload,
    UndoAnswer,
    Undone,
    Upload,
    UploadCounts,
    UploadNumber,
    UploadPlan,
    Window,
    WorkerId,
    WorkerStatus,
)
from tests.fakes.faults import Fault, Faults, reply_lost
from tests.fakes.table_source import START, MemoryTransaction, RowIsHeld, RowRaises

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from archiver.model import (
        ColdPlace,
        EgressBudget,
        Failure,
        FoundStamp,
        Offer,
        Position,
        ReleaseFailure,
        Summary,
    )
    from archiver.protocols import ArchiveSource, Clock, Look

LEDGER_ID = "fake-ledger"
HOME = DatabaseHome("fake", 1)

_ALONE_AT = 5
_FRESH_STAMP_SECONDS = 86400.0
_PROBE_SECONDS = 7 * 86400.0
_PAGE_OFFERS = 500
_SPEND_ROW_SECONDS = 300.0
_SETTLE_SECONDS = 86400.0
_MARGIN_SECONDS = 300.0

_NOBODY = FencingToken(0, WorkerId(0), 0)

_Key = tuple[SourceName, CandidateId]


@dataclass
class _ClaimRow:
    offer: Offer
    state: ClaimState
    token: FencingToken
    attempts_count: int = 0
    crashes_count: int = 0
    next_attempt_at: float | None = None  # on Clock.monotonic(), as all times in here
    reason: str | None = None
    parked_at: datetime | None = None


@dataclass
class _ReleaseRow:
    recorded: Recorded
    due_at: float
    token: FencingToken | None = None
    attempts_count: int = 0
    reason: str | None = None
    parked_at: datetime | None = None


@dataclass
class _WorkerRow:
    epoch: int
    lease_until: float
    started_at: datetime
    progressed_at: datetime
    has_left: bool = False


@dataclass
class Tables:
    """What all workers of one fleet share. One lock guards it all, sources included."""

    lock: threading.RLock = field(default_factory=threading.RLock)
    epoch: int = 1
    home: DatabaseHome = HOME
    found_in: DatabaseHome = HOME
    workers: dict[WorkerId, _WorkerRow] = field(default_factory=dict)
    probes: dict[str, tuple[Capabilities, float]] = field(default_factory=dict)
    claims: dict[_Key, _ClaimRow] = field(default_factory=dict)
    receipts: list[Recorded] = field(default_factory=list)
    adopted: list[tuple[RecordedAdoption, WorkerId]] = field(default_factory=list)
    receipt_ids: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    releases: dict[ReceiptId, _ReleaseRow] = field(default_factory=dict)
    outcomes: list[tuple[Recorded, Outcome, str | None, datetime]] = field(default_factory=list)
    pause: Pause = Pause.NOTHING
    sweeps: dict[SweepId, SweepRecord] = field(default_factory=dict)
    spend: dict[float, int] = field(default_factory=dict)  # bytes, by when their row began
    numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    stamps: dict[tuple[SourceName, ColdPlace, int], _StampRow] = field(default_factory=dict)
    uploads: dict[UploadNumber, _UploadRow] = field(default_factory=dict)
    upload_numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    new_nonce: Callable[[], str] = lambda: str(uuid4())

    def stamps_at(self, source: SourceName, place: ColdPlace) -> dict[int, _StampRow]:
        return {key[2]: row for key, row in self.stamps.items() if key[:2] == (source, place)}

    def add_stamp(
        self, source: SourceName, place: ColdPlace, number: int, *, overrules: bool = False
    ) -> _StampRow:
        stamp = Stamp(
            ledger_id=LEDGER_ID,
            source=source,
            number=number,
            epoch=self.epoch,
            nonce=self.new_nonce(),
            stamped_at=START,
            database_name=self.home.name,
        )
        row = self.stamps[source, place, number] = _StampRow(stamp, overrules)
        return row


class FakeLedger:
    """One worker's view. `random` steers the jitter: 0.5 is none."""

    def __init__(
        self,
        clock: Clock,
        *,
        settings: LedgerSettings | None = None,
        tables: Tables | None = None,
        random: Callable[[], float] = lambda: 0.5,
    ) -> None:
        self.clock = clock
        self.settings = settings or LedgerSettings(url=Secret(""))
        self.tables = tables or Tables()
        self.backoff = Backoff(
            self.settings.retry_base_seconds, self.settings.retry_max_seconds, random
        )
        self.fleet = FakeFleet(self)
        self.records = FakeRecords(self)
        self.spending = FakeSpending(self)
        self.uploads = FakeUploads(self)

    def another(self) -> FakeLedger:
        """Another worker of the same fleet; it has not joined yet."""
        return FakeLedger(self.clock, settings=self.settings, tables=self.tables)

    def claims(
        self, source: ArchiveSource, *, release_grace_seconds: float | None = None
    ) -> FakeClaims:
        own = self.settings.release_grace_seconds
        grace_seconds = own if release_grace_seconds is None else release_grace_seconds
        return FakeClaims(self, source, grace_seconds)

    def releases(self, source: ArchiveSource) -> FakeReleases:
        return FakeReleases(self, source)

    def stamps(self, source: SourceName) -> FakeStamps:
        return FakeStamps(self, source)

    def adoptions(self, source: ArchiveSource) -> FakeAdoptions:
        return FakeAdoptions(self, source)

    def check(self) -> None:
        """Always fit."""

    def check_source(self, source: ArchiveSource) -> Sequence[str]:
        with self.tables.lock, rolled_back() as tx:
            return source.check(tx)


@contextmanager
def rolled_back() -> Iterator[MemoryTransaction]:
    tx = MemoryTransaction()
    try:
        yield tx
    finally:
        tx.roll_back()


class FakeFleet:
    ledger_id = LEDGER_ID

    def __init__(self, ledger: FakeLedger) -> None:
        self._ledger = ledger
        self._tables = ledger.tables
        self._worker: WorkerId | None = None

    @property
    def worker(self) -> WorkerId:
        assert self._worker is not None, "a worker joins the fleet before it claims"
        return self._worker

    def identity(self) -> LedgerIdentity:
        with self._tables.lock:
            tables = self._tables
            return LedgerIdentity(self.ledger_id, tables.epoch, tables.home, tables.found_in)

    def join(self) -> Lease:
        identity = self.identity()
        if not identity.is_at_home:
            raise ForeignDatabase(found=str(identity.found_in), expected=str(identity.home))
        with self._tables.lock:
            self._worker = WorkerId(len(self._tables.workers) + 1)
            now = self._ledger.clock.now()
            self._tables.workers[self._worker] = _WorkerRow(self._tables.epoch, 0.0, now, now)
            return self._extend()

    def beat(self, *, idle_seconds: float = 0.0) -> Lease:
        with self._tables.lock:
            self.require_lease()
            progressed_at = self._ledger.clock.now() - timedelta(seconds=idle_seconds)
            self._tables.workers[self.worker].progressed_at = progressed_at
            return self._extend()

    def leave(self) -> None:
        with self._tables.lock:
            row = self._tables.workers[self.worker]
            row.has_left = True
            row.lease_until = min(row.lease_until, self._ledger.clock.monotonic())

    def require_lease(self) -> None:
        row = self._tables.workers[self.worker]
        if not self.is_alive(self.worker) or row.epoch != self._tables.epoch:
            raise LeaseLost(worker=self.worker)

    def is_alive(self, worker: WorkerId) -> bool:
        row = self._tables.workers[worker]
        return not row.has_left and row.lease_until > self._ledger.clock.monotonic()

    def new_token(self) -> FencingToken:
        return FencingToken(self._tables.epoch, self.worker, next(self._tables.numbers))

    def remember(self, probe: str, capabilities: Capabilities) -> None:
        with self._tables.lock:
            self._tables.probes[probe] = (capabilities, self._ledger.clock.monotonic())

    def recall(self, probe: str) -> Capabilities | None:
        with self._tables.lock:
            found = self._tables.probes.get(probe)
            if found is None or self._ledger.clock.monotonic() - found[1] > _PROBE_SECONDS:
                return None
            return found[0]

    def take_over(self, found: Sequence[FoundStamp]) -> int:
        with self._tables.lock:
            tables = self._tables
            tables.epoch = max([tables.epoch, *(it.epoch for it in found)]) + 1
            tables.home = tables.found_in
            for it in found:
                known = tables.stamps_at(it.source, it.place)
                number = max([it.number, *known]) + 1
                tables.add_stamp(it.source, it.place, number, overrules=True)
            return tables.epoch

    def fenced_lease_seconds(self) -> float:
        with self._tables.lock:
            now = self._ledger.clock.monotonic()
            return max(
                (
                    row.lease_until - now
                    for worker, row in self._tables.workers.items()
                    if self.is_alive(worker) and row.epoch != self._tables.epoch
                ),
                default=0.0,
            )

    def workers(self) -> Sequence[WorkerStatus]:
        with self._tables.lock:
            listed = [
                (self._status(worker, row), row.has_left)
                for worker, row in sorted(self._tables.workers.items(), reverse=True)
            ]
        return [status for status, left in listed if status.claims_count or not left]

    def pause(self, what: Pause) -> None:
        with self._tables.lock:
            self._tables.pause = what

    def paused(self) -> Pause:
        with self._tables.lock:
            return self._tables.pause

    def sweep_began(self, source: SourceName) -> SweepId:
        with self._tables.lock:
            sweep, now = SweepId(len(self._tables.sweeps) + 1), self._ledger.clock.now()
            self._tables.sweeps[sweep] = SweepRecord(
                sweep, source, self.worker, now, ended_at=None, summary=None
            )
            return sweep

    def sweep_ended(self, sweep: SweepId, summary: Summary) -> None:
        with self._tables.lock:
            record = self._tables.sweeps[sweep]
            if record.ended_at is None:
                now = self._ledger.clock.now()
                self._tables.sweeps[sweep] = replace(record, ended_at=now, summary=summary)

    def sweeps(self, source: SourceName | None, limit: int) -> Sequence[SweepRecord]:
        with self._tables.lock:
            newest_first = sorted(
                self._tables.sweeps.values(), key=lambda it: it.sweep_id, reverse=True
            )
            return [it for it in newest_first if source in (None, it.source)][:limit]

    def sweep(self, sweep: SweepId) -> SweepRecord | None:
        with self._tables.lock:
            return self._tables.sweeps.get(sweep)

    def _status(self, worker: WorkerId, row: _WorkerRow) -> WorkerStatus:
        left = timedelta(seconds=row.lease_until - self._ledger.clock.monotonic())
        moving = Counter(
            source
            for (source, _), claim in self._tables.claims.items()
            if claim.state is ClaimState.CLAIMED and claim.token.worker == worker
        )
        return WorkerStatus(
            worker=worker,
            host="fake",
            pid=int(worker),
            version="fake",
            started_at=row.started_at,
            lease_until=self._ledger.clock.now() + left,
            progressed_at=row.progressed_at,
            is_alive=self.is_alive(worker),
            claims_count=moving.total(),
            moving=dict(moving),
        )

    def _extend(self) -> Lease:
        seconds = self._ledger.settings.lease_seconds
        deadline = self._ledger.clock.monotonic() + seconds
        self._tables.workers[self.worker].lease_until = deadline
        return Lease(self.worker, self._tables.epoch, deadline, seconds, self._tables.pause)


@dataclass
class _StampRow:
    stamp: Stamp
    overrules: bool = False
    confirmed_at: float | None = None


class FakeStamps:
    def __init__(self, ledger: FakeLedger, source: SourceName) -> None:
        self._ledger = ledger
        self._tables = ledger.tables
        self._source = source

    def known(self, place: ColdPlace) -> Stamped:
        with self._tables.lock:
            rows = self._tables.stamps_at(self._source, place)
            seen = [number for number, row in rows.items() if row.confirmed_at is not None]
            last = max(seen, default=0)
            highest = max(rows, default=0)
            intended = rows[highest] if highest > last else None
            return Stamped(
                self._ledger.fleet.ledger_id,
                rows[last].stamp if last else None,
                None if intended is None else intended.stamp,
                overrules=intended is not None and intended.overrules,
            )

    def intend(self, place: ColdPlace) -> Stamp | None:
        with self._tables.lock:
            self._ledger.fleet.require_lease()
            known, now = self.known(place), self._ledger.clock.monotonic()
            if known.intended is not None:
                return known.intended
            rows = self._tables.stamps_at(self._source, place)
            if known.last is None:
                return self._tables.add_stamp(self._source, place, 1).stamp
            confirmed_at = rows[known.last.number].confirmed_at
            if confirmed_at is not None and now - confirmed_at < _FRESH_STAMP_SECONDS:
                return None
            return self._tables.add_stamp(self._source, place, known.last.number + 1).stamp

    def confirm(self, place: ColdPlace, stamp: Stamp) -> None:
        with self._tables.lock:
            self._ledger.fleet.require_lease()
            row = self._tables.stamps_at(self._source, place).get(stamp.number)
            if row is not None and row.stamp.nonce == stamp.nonce and row.confirmed_at is None:
                row.confirmed_at = self._ledger.clock.monotonic()


@dataclass
class _UploadRow:
    plan: UploadPlan
    begun_at: datetime
    expires_at: datetime
    token: FencingToken | None = None  # None: nobody owns it
    upload_id: str | None = None
    is_current: bool = True
    parts: dict[int, Part] = field(default_factory=dict)  # by number


class FakeUploads:
    """`faults` take the method's name, and the plan's cold key; for `save_part` the number."""

    def __init__(self, ledger: FakeLedger) -> None:
        self._ledger = ledger
        self._tables = ledger.tables
        self._seen_number = 0  # what is ours above it was given by a reply that got lost
        self.faults = Faults()

    def take(self, plan: UploadPlan) -> TakenUpload:
        with self._crossing("take", plan.location.key):
            self._ledger.fleet.require_lease()
            there = next(
                (
                    (number, row)
                    for number, row in self._tables.uploads.items()
                    if row.is_current and row.plan.location == plan.location
                ),
                None,
            )
            if there is not None and self._is_anothers(there[1]):
                raise UploadBusy(where=str(plan.location))
            stale = [
                number
                for number, row in self._tables.uploads.items()
                if _is_stale(row, plan) and not self._is_anothers(row)
            ]
            if there is None or there[0] in stale:
                number = UploadNumber(next(self._tables.upload_numbers))
                now = self._ledger.clock.now()
                self._tables.uploads[number] = _UploadRow(plan, now, now)
            else:
                number = there[0]
            row = self._tables.uploads[number]
            row.plan, row.expires_at = plan, self._expiry()
            taken = TakenUpload(self._own(number), tuple(map(self._set_aside, stale)))
        self._note([taken.upload, *taken.stale])
        return taken

    def begun(self, upload: Upload, upload_id: str) -> Upload:
        with self._crossing("begun", upload.plan.location.key):
            row = self._mine(upload)
            is_known, row.upload_id = row.upload_id == upload_id, upload_id
            if not is_known:
                row.parts.clear()
        parts = upload.parts if is_known else ()
        return replace(upload, upload_id=upload_id, parts=parts)

    def save_part(self, upload: Upload, part: Part) -> None:
        with self._crossing("save_part", part.number):
            row = self._mine(upload)
            if row.upload_id != upload.upload_id:
                raise UploadBusy(where=str(upload.plan.location))
            row.parts[part.number], row.expires_at = part, self._expiry()

    def require(self, upload: Upload) -> None:
        with self._crossing("require", upload.plan.location.key):
            self._mine(upload)

    def forget(self, upload: Upload) -> None:
        with self._crossing("forget", upload.plan.location.key):
            self._ledger.fleet.require_lease()
            if self._is_mine(upload):
                del self._tables.uploads[upload.number]

    def give_back(self, upload: Upload) -> None:
        with self._crossing("give_back", upload.plan.location.key):
            if self._is_mine(upload):
                self._tables.uploads[upload.number].token = None

    def expired(self, place: ColdPlace, limit: int) -> Sequence[Upload]:
        with self._crossing("expired", None):
            self._ledger.fleet.require_lease()
            now = self._ledger.clock.now()
            due = [
                (row.expires_at, number)
                for number, row in self._tables.uploads.items()
                if row.expires_at <= now
                and _is_in(row.plan.location, place)
                and (self._is_unseen(row) or not self._is_owned(row))
            ]
            uploads = [self._own(number) for _, number in sorted(due)[:limit]]
        self._note(uploads)
        return uploads

    def uploads(self) -> Sequence[Upload]:
        with self._crossing("uploads", None):
            tables = self._tables
            found = [_upload(number, row) for number, row in tables.uploads.items()]
        return sorted(found, key=lambda it: (it.begun_at, it.number))

    @contextmanager
    def _crossing(self, operation: str, subject: object) -> Iterator[None]:
        fault: Fault = self.faults.begin(operation, subject)
        with self._tables.lock:
            yield
        reply_lost(fault)

    def _own(self, number: UploadNumber) -> Upload:
        row = self._tables.uploads[number]
        row.token = self._ledger.fleet.new_token()
        return _upload(number, row)

    def _set_aside(self, number: UploadNumber) -> Upload:
        row = self._tables.uploads[number]
        row.is_current = False
        row.expires_at = min(row.expires_at, self._ledger.clock.now())
        return self._own(number)

    def _mine(self, upload: Upload) -> _UploadRow:
        self._ledger.fleet.require_lease()
        if not self._is_mine(upload):
            raise UploadBusy(where=str(upload.plan.location))
        return self._tables.uploads[upload.number]

    def _is_mine(self, upload: Upload) -> bool:
        row = self._tables.uploads.get(upload.number)
        return row is not None and row.token == upload.token and self._is_owned(row)

    def _is_owned(self, row: _UploadRow) -> bool:
        """By a live worker, this one or another."""
        return row.token is not None and (
            row.token.epoch == self._tables.epoch
            and self._ledger.fleet.is_alive(row.token.worker)
        )

    def _is_anothers(self, row: _UploadRow) -> bool:
        is_own = row.token is not None and row.token.worker == self._ledger.fleet.worker
        return self._is_owned(row) and not is_own

    def _is_unseen(self, row: _UploadRow) -> bool:
        return (
            row.token is not None
            and row.token.worker == self._ledger.fleet.worker
            and row.token.number > self._seen_number
        )

    def _expiry(self) -> datetime:
        seconds = self._ledger.settings.upload_expiry_seconds
        return self._ledger.clock.now() + timedelta(seconds=seconds)

    def _note(self, uploads: Sequence[Upload]) -> None:
        with self._tables.lock:
            numbers = [upload.token.number for upload in uploads]
            self._seen_number = max([self._seen_number, *numbers])


def _is_in(location: ColdLocation, place: ColdPlace) -> bool:
    is_of_bucket = (location.provider, location.bucket) == (place.provider, place.bucket)
    return is_of_bucket and location.key.startswith(place.prefix)


def _is_stale(row: _UploadRow, plan: UploadPlan) -> bool:
    """Whether a plan makes this upload useless."""
    if row.plan.location == plan.location:
        promised = (plan.origin, plan.size_bytes, plan.part_bytes)
        held = (row.plan.origin, row.plan.size_bytes, row.plan.part_bytes)
        return not row.is_current or held != promised
    is_of_row = plan.source is not None
    return is_of_row and (row.plan.source, row.plan.id) == (plan.source, plan.id)


def _upload(number: UploadNumber, row: _UploadRow) -> Upload:
    return Upload(
        number=number,
        plan=row.plan,
        token=row.token or _NOBODY,
        upload_id=row.upload_id,
        parts=tuple(row.parts[part] for part in sorted(row.parts)),
        begun_at=row.begun_at,
        expires_at=row.expires_at,
    )


class FakeSpending:
    def __init__(self, ledger: FakeLedger) -> None:
        self._clock = ledger.clock
        self._tables = ledger.tables

    def reserve(self, wanted_bytes: int, budget: EgressBudget) -> int:
        with self._tables.lock:
            left_bytes = self.spent(budget).left_bytes
            granted_bytes = min(max(0, wanted_bytes), left_bytes)
            self._note(granted_bytes)
            return granted_bytes

    def settle(self, unused_bytes: int) -> None:
        with self._tables.lock:
            if unused_bytes < 0:
                self._note(-unused_bytes)
            lately = self._clock.monotonic() - _SETTLE_SECONDS
            for began_at in sorted(self._tables.spend, reverse=True):
                if began_at > lately and unused_bytes > 0:
                    taken_bytes = min(unused_bytes, self._tables.spend[began_at])
                    self._tables.spend[began_at] -= taken_bytes
                    unused_bytes -= taken_bytes

    def spent(self, budget: EgressBudget) -> Spent:
        with self._tables.lock:
            now = self._clock.monotonic()
            counts_seconds = budget.window_seconds + _SPEND_ROW_SECONDS
            held = {at: n for at, n in self._tables.spend.items() if at > now - counts_seconds}
            oldest_at = min((at for at, n in held.items() if n), default=None)
            room_at = None
            if oldest_at is not None:
                left = timedelta(seconds=oldest_at + counts_seconds - now)
                room_at = self._clock.now() + left
            return Spent(budget, sum(held.values()), room_at)

    def _note(self, size_bytes: int) -> None:
        if size_bytes:
            began_at = self._clock.monotonic() // _SPEND_ROW_SECONDS * _SPEND_ROW_SECONDS
            self._tables.spend[began_at] = self._tables.spend.get(began_at, 0) + size_bytes


class FakeClaims:
    def __init__(self, ledger: FakeLedger, source: ArchiveSource, grace_seconds: float) -> None:
        self._grace_seconds = grace_seconds
        self._ledger = ledger
        self._tables = ledger.tables
        self._fleet = ledger.fleet
        self._source = source
        self._cursor: Position | None = None

    # --- claiming ----------------------------------------------------------------------------

    def begin(self) -> None:
        with self._tables.lock:
            for key, row in self._mine().items():
                if row.state is ClaimState.HELD and self._is_free(row):
                    del self._tables.claims[key]
            self._source.prepare(MemoryTransaction())
            self._cursor = None

    def preview(self, limit: int | None) -> Iterator[Offer]:
        with self._tables.lock, rolled_back() as tx:
            self._source.prepare(tx)
            offers = [
                offer for offer in self._order(tx) if not self._is_in_the_way(offer, free=False)
            ]
        yield from offers[:limit]

    def count_backlog(self) -> int:
        with self._tables.lock, rolled_back() as tx:
            self._source.prepare(tx)
            return self._source.count_candidates(tx)

    def claim(self, limit: int) -> Window:
        with self._tables.lock:
            self._fleet.require_lease()
            parked_count = self._park_worker_killers()
            taken = self._take_over(limit, is_alone=False)
            fresh, fresh_parked, is_at_end = self._claim_fresh(
                limit - len(taken), again=not taken
            )
            parked_count += fresh_parked
            if taken or fresh:
                return Window((*taken, *fresh), parked_count)
            if alone := self._take_over(min(limit, 1), is_alone=True):
                return Window(tuple(alone), parked_count, must_run_alone=True)
            return Window((), parked_count, is_drained=is_at_end)

    def _park_worker_killers(self) -> int:
        killers = [
            row
            for row in self._mine().values()
            if self._is_crashed(row) and row.crashes_count >= _ALONE_AT
        ]
        for row in killers:
            row.crashes_count += 1
            self._park(row, "crashes the worker")
        return len(killers)

    def _take_over(self, limit: int, *, is_alone: bool) -> list[Claim]:
        free = [
            row
            for row in self._mine().values()
            if self._is_free(row)
            and row.state is not ClaimState.HELD
            and (row.crashes_count + self._is_crashed(row) >= _ALONE_AT) == is_alone
        ]
        free.sort(key=lambda row: (row.offer.due_at, row.offer.id))
        return [self._taken(row) for row in free[: max(0, limit)]]

    def _taken(self, row: _ClaimRow) -> Claim:
        row.crashes_count += self._is_crashed(row)
        row.state, row.token, row.next_attempt_at = (
            ClaimState.CLAIMED,
            self._fleet.new_token(),
            None,
        )
        return Claim(
            self._source.name,
            _candidate(row.offer),
            row.token,
            row.attempts_count,
            row.crashes_count,
        )

    def _claim_fresh(self, limit: int, *, again: bool) -> tuple[list[Claim], int, bool]:
        claims: list[Claim] = []
        parked_count = 0
        is_from_beginning = self._cursor is None
        while len(claims) < limit:
            page = self._source.find_candidates(_PAGE_OFFERS, self._cursor, MemoryTransaction())
            if not page:
                if not again or claims or is_from_beginning:
                    return claims, parked_count, True
                self._cursor, is_from_beginning = None, True
            for offer in page:
                is_bad = isinstance(offer, BadRow)
                if not self._is_in_the_way(offer, free=True):
                    if not is_bad and len(claims) == limit:
                        break
                    claim = self._insert(offer)
                    parked_count += claim is None
                    claims += [claim] if claim else []
                self._cursor = offer.position
        return claims, parked_count, False

    def _insert(self, offer: Offer) -> Claim | None:
        row = _ClaimRow(offer, ClaimState.CLAIMED, self._fleet.new_token())
        self._tables.claims[self._source.name, offer.id] = row
        if isinstance(offer, BadRow):
            self._park(row, offer.reason)
            return None
        return Claim(self._source.name, offer, row.token)

    def _order(self, tx: MemoryTransaction) -> Iterator[Offer]:
        after = None
        while page := self._source.find_candidates(_PAGE_OFFERS, after, tx):
            yield from page
            after = page[-1].position

    def _is_in_the_way(self, offer: Offer, *, free: bool) -> bool:
        """Whether a claim stands in the way; `free` ones too, which could be taken over."""
        row = self._tables.claims.get((self._source.name, offer.id))
        if row is None:
            return False
        if row.state is ClaimState.PARKED:
            return _promise(row.offer) == _promise(offer)
        return free or not self._is_free(row)

    def _is_free(self, row: _ClaimRow) -> bool:
        if row.state in (ClaimState.WAITING, ClaimState.HELD):
            assert row.next_attempt_at is not None
            return row.next_attempt_at <= self._ledger.clock.monotonic()
        is_held = row.state is ClaimState.CLAIMED
        return is_held and not self._fleet.is_alive(row.token.worker)

    def _is_crashed(self, row: _ClaimRow) -> bool:
        return (
            row.state is ClaimState.CLAIMED
            and not self._fleet.is_alive(row.token.worker)
            and not self._tables.workers[row.token.worker].has_left
        )

    # --- endings -----------------------------------------------------------------------------

    def give_back(self, claims: Sequence[Claim]) -> None:
        with self._tables.lock:
            for claim in claims:
                row = self._held(claim.candidate.id, claim.token)
                if row is None:
                    continue
                if row.attempts_count or row.crashes_count:
                    row.state = ClaimState.WAITING
                    row.next_attempt_at = self._ledger.clock.monotonic()
                else:
                    del self._tables.claims[self._source.name, claim.candidate.id]

    def record(self, receipts: Sequence[Receipt]) -> Sequence[Answer]:
        with self._tables.lock:
            answers: dict[FencingToken, Answer] = {}
            mine = []
            for receipt in {it.token: it for it in receipts}.values():
                if self._held(receipt.id, receipt.token) is None:
                    answers[receipt.token] = self._fate(receipt)
                else:
                    if not self._fleet.is_alive(receipt.token.worker):
                        raise LeaseLost(worker=receipt.token.worker)
                    mine.append(receipt)
            if mine:
                self._record(mine, answers)
            return [answers[receipt.token] for receipt in receipts]

    def _record(self, group: Sequence[Receipt], answers: dict[FencingToken, Answer]) -> None:
        try:
            taken = self._source.on_archived(group, MemoryTransaction())
        except (RowIsHeld, RowRaises) as exc:
            if len(group) > 1:
                self._record(group[: len(group) // 2], answers)
                self._record(group[len(group) // 2 :], answers)
            elif isinstance(exc, RowIsHeld):
                answers[group[0].token] = Answer.BUSY
            else:
                row = self._tables.claims[self._source.name, group[0].id]
                row.attempts_count += 1
                self._park(row, str(exc))
                answers[group[0].token] = Answer.REFUSED
            return
        for receipt in group:
            del self._tables.claims[self._source.name, receipt.id]
            was_taken = receipt.id in taken
            answers[receipt.token] = Answer.ACCEPTED if was_taken else Answer.SUPERSEDED
            if was_taken:
                self._keep(receipt)

    def _keep(self, receipt: Receipt) -> None:
        receipt_id = ReceiptId(next(self._tables.receipt_ids))
        recorded = Recorded(receipt_id, receipt, self._ledger.clock.now())
        self._tables.receipts.append(recorded)
        if receipt.evidence > Evidence.UNPROVEN:
            due_at = self._ledger.clock.monotonic() + self._grace_seconds
            self._tables.releases[receipt_id] = _ReleaseRow(recorded, due_at)

    def _fate(self, receipt: Receipt) -> Answer:
        if any(
            it.receipt.token == receipt.token and it.receipt.id == receipt.id
            for it in self._tables.receipts
        ):
            return Answer.ACCEPTED
        row = self._tables.claims.get((self._source.name, receipt.id))
        if row is None or row.token != receipt.token:
            return Answer.LOST
        if row.state is ClaimState.CLAIMED:  # under an old epoch
            raise LeaseLost(worker=receipt.token.worker)
        return Answer.REFUSED if row.state is ClaimState.PARKED else Answer.LOST

    def fail(self, failures: Sequence[Failure]) -> Sequence[FailAnswer]:
        with self._tables.lock:
            return [self._fail(failure) for failure in failures]

    def _fail(self, failure: Failure) -> FailAnswer:
        claim = failure.claim
        row = self._held(claim.candidate.id, claim.token)
        if row is None:
            found = self._tables.claims.get((self._source.name, claim.candidate.id))
            if found is None or found.token != claim.token:
                return FailAnswer.LOST
            is_parked = found.state is ClaimState.PARKED
            return FailAnswer.PARKED if is_parked else FailAnswer.WAITING
        limit = failure.max_attempts or self._ledger.settings.max_attempts
        attempts_count = row.attempts_count + 1
        is_last = failure.is_permanent or (failure.is_counted and attempts_count >= limit)
        if is_last and self._has_changed(claim):
            del self._tables.claims[self._source.name, claim.candidate.id]
            return FailAnswer.SUPERSEDED
        row.attempts_count += failure.is_counted
        if is_last:
            self._park(row, failure.reason)
            return FailAnswer.PARKED
        wait = self._ledger.backoff.seconds(attempts_count, failure.retry_after_seconds)
        row.state, row.reason = ClaimState.WAITING, failure.reason
        row.next_attempt_at = self._ledger.clock.monotonic() + wait
        return FailAnswer.WAITING

    def _has_changed(self, claim: Claim) -> bool:
        with rolled_back() as tx:
            try:
                return not self._source.on_archived([_as_promised(claim)], tx)
            except (RowIsHeld, RowRaises):
                return False

    def _park(self, row: _ClaimRow, reason: str) -> None:
        row.state, row.reason = ClaimState.PARKED, reason
        row.parked_at, row.next_attempt_at = self._ledger.clock.now(), None

    # --- the rest ----------------------------------------------------------------------------

    def outlook(self) -> Outlook:
        with self._tables.lock:
            now = self._ledger.clock.monotonic()
            mine = self._mine().values()
            releases = [
                row
                for row in self._tables.releases.values()
                if row.recorded.receipt.source == self._source.name
            ]
            pending = [row for row in releases if row.parked_at is None]
            due = [
                now if row.state is ClaimState.CLAIMED else row.next_attempt_at or now
                for row in mine
                if row.state is ClaimState.WAITING
                or (row.state is ClaimState.CLAIMED and self._is_free(row))
            ]
            free = [row.due_at for row in pending if self._is_let_go(row)]
            tokens = [row.token for row in mine if row.state is ClaimState.CLAIMED]
            tokens += [row.token for row in pending if row.token]
            leases = [
                self._tables.workers[token.worker].lease_until
                for token in tokens
                if token.worker != self._fleet.worker and self._fleet.is_alive(token.worker)
            ]
            return Outlook(
                waiting_count=sum(row.state is ClaimState.WAITING for row in mine),
                next_due_seconds=max(0.0, min(due) - now) if due else None,
                next_release_seconds=max(0.0, min(free) - now) if free else None,
                elsewhere_count=len(leases),
                elsewhere_lease_seconds=min(leases) - now if leases else None,
                parked_count=sum(row.state is ClaimState.PARKED for row in mine)
                + len(releases)
                - len(pending),
                pending_release_count=len(pending),
            )

    def housekeeping(self, *, everything: bool) -> Mapping[str, int]:
        with self._tables.lock:
            return self._source.housekeeping(MemoryTransaction(), everything=everything)

    def _is_let_go(self, row: _ReleaseRow) -> bool:
        return row.token is None or not self._fleet.is_alive(row.token.worker)

    def _mine(self) -> dict[_Key, _ClaimRow]:
        name = self._source.name
        return {key: row for key, row in self._tables.claims.items() if key[0] == name}

    def _held(self, id_: CandidateId, token: FencingToken) -> _ClaimRow | None:
        row = self._tables.claims.get((self._source.name, id_))
        is_mine = row is not None and row.token == token and token.epoch == self._tables.epoch
        return row if is_mine and row and row.state is ClaimState.CLAIMED else None


class FakeReleases:
    def __init__(self, ledger: FakeLedger, source: ArchiveSource) -> None:
        self._ledger = ledger
        self._tables = ledger.tables
        self._fleet = ledger.fleet
        self._source = source

    def claim_release(self, limit: int) -> Sequence[Release]:
        with self._tables.lock:
            self._fleet.require_lease()
            while due := self._due()[:limit]:
                claimed = [self._claimed(row) for row in due]
                locations = {it.recorded.receipt.location for it in claimed}
                pointed_at = self._source.points_at(locations, MemoryTransaction())
                self.released(
                    [
                        ReleaseEnd(it, Outcome.REPLACED, "a row points at it")
                        for it in claimed
                        if it.recorded.receipt.location in pointed_at
                    ]
                )
                free = [it for it in claimed if it.recorded.receipt.location not in pointed_at]
                if free:
                    return free
            return []

    def _due(self) -> list[_ReleaseRow]:
        due = [
            row
            for row in self._tables.releases.values()
            if row.recorded.receipt.source == self._source.name
            and row.parked_at is None
            and row.due_at <= self._ledger.clock.monotonic()
            and (row.token is None or not self._fleet.is_alive(row.token.worker))
        ]
        return sorted(due, key=lambda row: (row.due_at, row.recorded.receipt_id))

    def _claimed(self, row: _ReleaseRow) -> Release:
        row.token = self._fleet.new_token()
        return Release(row.recorded, row.token, row.attempts_count)

    def released(self, ends: Sequence[ReleaseEnd]) -> None:
        with self._tables.lock:
            for end in ends:
                if (row := self._held(end.release)) is not None:
                    del self._tables.releases[row.recorded.receipt_id]
                    now = self._ledger.clock.now()
                    self._tables.outcomes.append((row.recorded, end.outcome, end.detail, now))

    def fail_release(self, failures: Sequence[ReleaseFailure]) -> None:
        with self._tables.lock:
            for failure in failures:
                if (row := self._held(failure.release)) is not None:
                    self._fail(row, failure)

    def _fail(self, row: _ReleaseRow, failure: ReleaseFailure) -> None:
        row.token, row.reason = None, failure.reason
        row.attempts_count += 1
        if failure.is_permanent:
            row.parked_at = self._ledger.clock.now()
        else:
            wait = self._ledger.backoff.seconds(row.attempts_count, failure.retry_after_seconds)
            row.due_at = self._ledger.clock.monotonic() + wait

    def give_back_releases(self, releases: Sequence[Release]) -> None:
        with self._tables.lock:
            for release in releases:
                if (row := self._held(release)) is not None:
                    row.token = None

    def undo(
        self, recorded: Sequence[Recorded], hold_seconds: float, look: Look
    ) -> Sequence[Undone]:
        with self._tables.lock:
            answers = {one.receipt_id: self._unfit(one) for one in recorded}
            fit = [one for one in recorded if answers[one.receipt_id] is None]
            answers.update({id_: (answer, None) for id_, answer in look(fit).items()})
            for one in fit:
                if answers[one.receipt_id] is None:
                    answers[one.receipt_id] = self._undo(one, hold_seconds)
            return [
                Undone(one.receipt.source, one.receipt.id, one.receipt_id, *told)
                for one in recorded
                if (told := answers[one.receipt_id])
            ]

    def _unfit(self, one: Recorded) -> tuple[UndoAnswer, str | None] | None:
        if one.receipt_id not in self._tables.releases:
            ends = [it for it in self._tables.outcomes if it[0].receipt_id == one.receipt_id]
            if not ends:
                return UndoAnswer.KEPT, "the receipt allows no release"
            _, outcome, detail, _ = ends[-1]
            if outcome is Outcome.RELEASED:
                return UndoAnswer.RELEASED, detail
            if outcome is Outcome.UNDONE:
                return UndoAnswer.UNDONE_BEFORE, detail
            return UndoAnswer.KEPT, detail or outcome.value
        under_way = {
            row.recorded.receipt.location
            for row in self._tables.releases.values()
            if row.token and self._fleet.is_alive(row.token.worker)
        }
        if one.receipt.location in under_way:
            return UndoAnswer.RELEASING, None
        claim = self._tables.claims.get((self._source.name, one.receipt.id))
        if claim and claim.state in (ClaimState.CLAIMED, ClaimState.WAITING):
            return UndoAnswer.CHANGED, "a candidate again"
        return None

    def _undo(self, one: Recorded, hold_seconds: float) -> tuple[UndoAnswer, str | None]:
        receipt = one.receipt
        try:
            if not self._source.on_restored([receipt], MemoryTransaction()):
                return UndoAnswer.CHANGED, None
        except RowIsHeld:
            return UndoAnswer.BUSY, None
        except RowRaises as raised:
            return UndoAnswer.REFUSED, str(raised)
        same = [
            row.recorded
            for row in self._tables.releases.values()
            if (it := row.recorded.receipt).location == receipt.location
            and (it.source, it.id) == (receipt.source, receipt.id)
        ]
        for ended in same:
            del self._tables.releases[ended.receipt_id]
            outcome = Outcome.UNDONE if ended == one else Outcome.REPLACED
            detail = None if ended == one else "a row points at it"
            now = self._ledger.clock.now()
            self._tables.outcomes.append((ended, outcome, detail, now))
        self._tables.claims[receipt.source, receipt.id] = _ClaimRow(
            Candidate(receipt.id, one.archived_at, receipt.location, ColdKey("")),
            ClaimState.HELD,
            replace(receipt.token, number=next(self._tables.numbers)),
            next_attempt_at=self._ledger.clock.monotonic() + hold_seconds,
            reason="undone",
        )
        return UndoAnswer.UNDONE, None

    def _held(self, release: Release) -> _ReleaseRow | None:
        row = self._tables.releases.get(release.recorded.receipt_id)
        is_mine = row is not None and row.token == release.token
        return row if is_mine and release.token.epoch == self._tables.epoch else None


class FakeAdoptions:
    def __init__(self, ledger: FakeLedger, source: ArchiveSource) -> None:
        self._ledger = ledger
        self._tables = ledger.tables
        self._source = source

    def holdings(self, limit: int, after: CandidateId | None, *, unproven: bool) -> Holdings:
        with self._tables.lock:
            page = self._source.holdings(limit, after, MemoryTransaction())
            fresh = [
                it
                for it in page
                if not self._is_known(it.id, it.cold_bucket, it.cold_key, unproven=unproven)
            ]
            return Holdings(
                to_adopt=tuple(fresh),
                known_count=len(page) - len(fresh),
                last=page[-1].id if page else None,
                read_at=self._ledger.clock.now(),
            )

    def adopt(
        self, adoptions: Sequence[Adoption], read_at: datetime
    ) -> Collection[CandidateId]:
        with self._tables.lock:
            self._ledger.fleet.require_lease()
            for adoption in adoptions:
                if not self._is_in_the_way(adoption, read_at):
                    self._keep(adoption)
            mine = {
                (it.adoption.source, it.adoption.id, it.adoption.cold)
                for it, worker in self._tables.adopted
                if worker == self._ledger.fleet.worker
            }
            return {it.id for it in adoptions if (it.source, it.id, it.cold) in mine}

    def _is_in_the_way(self, adoption: Adoption, read_at: datetime) -> bool:
        is_unproven = adoption.evidence is Evidence.UNPROVEN
        since = read_at - timedelta(seconds=_MARGIN_SECONDS)
        is_anew = any(
            (it.receipt.source, it.receipt.id) == (adoption.source, adoption.id)
            and it.archived_at > since
            for it in self._tables.receipts
        )
        cold = adoption.cold
        return is_anew or self._is_known(
            adoption.id, cold.bucket, cold.key, unproven=is_unproven
        )

    def _is_known(
        self,
        id_: CandidateId,
        cold_bucket: str | None,
        cold_key: ColdKey | None,
        *,
        unproven: bool,
    ) -> bool:
        kept: list[Receipt | Adoption] = [it.receipt for it in self._tables.receipts]
        kept += [it.adoption for it, _ in self._tables.adopted]
        return any(
            (it.source, it.id, it.cold.bucket, it.cold.key)
            == (self._source.name, id_, cold_bucket, cold_key)
            and (unproven or it.evidence is not Evidence.UNPROVEN)
            for it in kept
        )

    def _keep(self, adoption: Adoption) -> None:
        receipt_id = ReceiptId(next(self._tables.receipt_ids))
        recorded = RecordedAdoption(receipt_id, adoption, self._ledger.clock.now())
        self._tables.adopted.append((recorded, self._ledger.fleet.worker))


class FakeRecords:
    def __init__(self, ledger: FakeLedger) -> None:
        self._ledger = ledger
        self._tables = ledger.tables

    def counts(self) -> Sequence[SourceCounts]:
        with self._tables.lock:
            names = {key[0] for key in self._tables.claims}
            names |= {it.receipt.source for it in self._tables.receipts}
            names |= {it.adoption.source for it, _ in self._tables.adopted}
            return [self._count(name) for name in sorted(names)]

    def count_uploads(self) -> UploadCounts:
        with self._tables.lock:
            now, rows = self._ledger.clock.now(), self._tables.uploads.values()
            return UploadCounts(len(rows), sum(row.expires_at <= now for row in rows))

    def _count(self, name: SourceName) -> SourceCounts:
        tables = self._tables
        states = [row.state for key, row in tables.claims.items() if key[0] == name]
        recorded = [it for it in tables.receipts if it.receipt.source == name]
        adopted = [it.adoption for it, _ in tables.adopted if it.adoption.source == name]
        copies: list[Receipt | Adoption] = [*(it.receipt for it in recorded), *adopted]
        proven = {(it.id, it.cold) for it in copies if it.evidence > Evidence.UNPROVEN}
        # A copy that was proven after all is counted by its later receipt.
        copies = [
            it
            for it in copies
            if it.evidence > Evidence.UNPROVEN or (it.id, it.cold) not in proven
        ]
        releases = [
            row for row in tables.releases.values() if row.recorded.receipt.source == name
        ]
        pending_count = sum(row.parked_at is None for row in releases)
        ends = [it[1] for it in tables.outcomes if it[0].receipt.source == name]
        return SourceCounts(
            source=name,
            claimed_count=states.count(ClaimState.CLAIMED),
            waiting_count=states.count(ClaimState.WAITING),
            held_count=sum(
                row.next_attempt_at is not None
                and row.next_attempt_at > self._ledger.clock.monotonic()
                for key, row in tables.claims.items()
                if key[0] == name and row.state is ClaimState.HELD
            ),
            parked_count=states.count(ClaimState.PARKED) + len(releases) - pending_count,
            archived_count=len(copies),
            archived_bytes=sum(it.size_bytes for it in copies),
            pending_release_count=pending_count,
            released_count=ends.count(Outcome.RELEASED),
            replaced_count=ends.count(Outcome.REPLACED),
            undone_count=ends.count(Outcome.UNDONE),
            last_archived_at=max((it.archived_at for it in recorded), default=None),
            adopted_count=sum(isinstance(it, Adoption) for it in copies),
            unproven_count=sum(it.evidence is Evidence.UNPROVEN for it in copies),
        )

    def parked(self, source: SourceName | None, limit: int) -> Sequence[ParkedRow]:
        with self._tables.lock:
            found = [
                ParkedRow(
                    name,
                    id_,
                    row.reason or "",
                    _location(row.offer),
                    row.attempts_count,
                    row.parked_at,
                )
                for (name, id_), row in self._tables.claims.items()
                if row.state is ClaimState.PARKED and row.parked_at is not None
            ] + [
                ParkedRow(
                    (receipt := row.recorded.receipt).source,
                    receipt.id,
                    row.reason or "",
                    receipt.location,
                    row.attempts_count,
                    row.parked_at,
                    is_release=True,
                )
                for row in self._tables.releases.values()
                if row.parked_at is not None
            ]
        found = [it for it in found if source is None or it.source == source]
        found.sort(key=lambda it: (-it.parked_at.timestamp(), it.source, it.id))
        return found[:limit]

    def retry(self, source: SourceName | None, ids: Collection[CandidateId] | None) -> int:
        def is_meant(name: SourceName, id_: CandidateId) -> bool:
            return (source is None or name == source) and (ids is None or id_ in ids)

        with self._tables.lock:
            forgotten = [
                key
                for key, row in self._tables.claims.items()
                if is_meant(*key)
                and (row.state is ClaimState.PARKED or (row.state is ClaimState.HELD and ids))
            ]
            revived = [
                row
                for row in self._tables.releases.values()
                if row.parked_at is not None
                and is_meant(row.recorded.receipt.source, row.recorded.receipt.id)
            ]
            for key in forgotten:
                del self._tables.claims[key]
            for row in revived:
                row.parked_at = row.reason = None
                row.attempts_count, row.due_at = 0, self._ledger.clock.monotonic()
        return len(forgotten) + len(revived)

    def history(self, id_: CandidateId, source: SourceName | None) -> Sequence[History]:
        with self._tables.lock:
            names = {name for name, claimed in self._tables.claims if claimed == id_}
            names |= {it.receipt.source for it in self._tables.receipts if it.receipt.id == id_}
            names |= {
                it.adoption.source for it, _ in self._tables.adopted if it.adoption.id == id_
            }
            return [
                self._history(name, id_) for name in sorted(names) if source in (None, name)
            ]

    def entries(
        self, source: SourceName | None, since: datetime, until: datetime | None
    ) -> Iterator[Entry]:
        with self._tables.lock:
            found = [
                self._entry(it)
                for it in self._tables.receipts
                if source in (None, it.receipt.source)
                and since <= it.archived_at
                and (until is None or it.archived_at < until)
            ]
        yield from sorted(
            found, key=lambda it: (it.recorded.archived_at, it.recorded.receipt_id)
        )

    def newest_entries(
        self,
        source: SourceName,
        since: datetime,
        until: datetime | None = None,
        worker: WorkerId | None = None,
    ) -> Iterator[Entry]:
        found = [
            entry
            for entry in self.entries(source, since, until)
            if worker in (None, entry.recorded.receipt.token.worker)
        ]
        newest = {entry.recorded.receipt.id: entry for entry in found}
        yield from (entry for entry in found if newest[entry.recorded.receipt.id] is entry)

    def newest_entries_of(
        self, ids: Collection[CandidateId], source: SourceName | None
    ) -> Sequence[Entry]:
        with self._tables.lock:
            newest = {
                (it.receipt.id, it.receipt.source): it
                for it in self._tables.receipts
                if it.receipt.id in ids and source in (None, it.receipt.source)
            }
            return [self._entry(newest[key]) for key in sorted(newest)]

    def adoptions(
        self, source: SourceName | None, since: datetime, until: datetime | None
    ) -> Iterator[RecordedAdoption]:
        with self._tables.lock:
            found = [it for it, _ in self._tables.adopted]
        yield from (
            it
            for it in found
            if source in (None, it.adoption.source)
            and since <= it.adopted_at
            and (until is None or it.adopted_at < until)
        )

    def _entry(self, recorded: Recorded) -> Entry:
        ends = [it for it in self._tables.outcomes if it[0].receipt_id == recorded.receipt_id]
        _, outcome, detail, ended_at = ends[-1] if ends else (recorded, None, None, None)
        is_pending = recorded.receipt_id in self._tables.releases
        return Entry(recorded, is_pending, outcome, detail, ended_at)

    def _history(self, name: SourceName, id_: CandidateId) -> History:
        claim = self._tables.claims.get((name, id_))
        ends = {it[0].receipt_id: it for it in self._tables.outcomes}
        newest_first = [
            it
            for it in reversed(self._tables.receipts)
            if (it.receipt.source, it.receipt.id) == (name, id_)
        ]
        next_attempt_at = None
        if claim and claim.next_attempt_at is not None:
            left = claim.next_attempt_at - self._ledger.clock.monotonic()
            next_attempt_at = self._ledger.clock.now() + timedelta(seconds=left)
        return History(
            source=name,
            id=id_,
            claim_state=claim.state if claim else None,
            claim_reason=claim.reason if claim else None,
            claim_location=_location(claim.offer) if claim else None,
            attempts_count=claim.attempts_count if claim else 0,
            next_attempt_at=next_attempt_at,
            receipts=tuple(
                (it, ends[it.receipt_id][1], ends[it.receipt_id][3])
                if it.receipt_id in ends
                else (it, None, None)
                for it in newest_first
            ),
            adopted=tuple(
                it
                for it, _ in reversed(self._tables.adopted)
                if (it.adoption.source, it.adoption.id) == (name, id_)
            ),
        )


def _candidate(offer: Offer) -> Candidate:
    assert not isinstance(offer, BadRow)
    return offer


def _location(offer: Offer) -> HotLocation | None:
    return None if isinstance(offer, BadRow) else offer.location


def _promise(offer: Offer) -> tuple[object, ...]:
    """What a park is bound to."""
    if isinstance(offer, BadRow):
        return (offer.hot_bucket, offer.hot_path, None, None)
    return (offer.location.bucket, offer.location.path, offer.digest, offer.content_digest)


def _as_promised(claim: Claim) -> Receipt:
    candidate = claim.candidate
    return Receipt(
        source=claim.source,
        id=candidate.id,
        token=claim.token,
        location=candidate.location,
        identity=None,
        cold=ColdLocation("none", "none", ColdKey("none")),
        size_bytes=candidate.size_bytes or 0,
        digest=candidate.digest or Digest(bytes(32)),
        content_digest=candidate.content_digest,
        etag=None,
        evidence=Evidence.UNPROVEN,
    )
