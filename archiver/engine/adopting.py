"""Taking over what another worker archived: a receipt for each row whose object is there.

Reads cold objects and writes receipts that can release nothing; no store is written to. Its
place is the ledger itself: what has its receipt is not read again, so a run may end anywhere
and the next one goes on. As in a sweep, all state belongs to the thread that runs the loop.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from archiver.engine.checking import CONTENT_LIMIT_BYTES
from archiver.errors import (
    ContentBomb,
    FatalError,
    HoldingDamaged,
    LedgerUnavailable,
    Mismatch,
    NotSent,
    ObjectDenied,
    ObjectMissing,
    ObjectTooLarge,
    PermanentError,
    TransientError,
)
from archiver.events import (
    Draining,
    HoldingRefused,
    LedgerRetried,
    ObjectAdopted,
    TakeoverEnded,
    TakeoverStarted,
)
from archiver.formats.content import CannotDecompress, TooMuchContent, content_digest
from archiver.formats.metadata import Origin
from archiver.model import Adoption, Digest, Evidence, NotAdopted, Pause, Takeover

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from archiver.engine.budget import BytesInFlight
    from archiver.engine.lease import Heartbeat
    from archiver.engine.pool import Pool
    from archiver.engine.stop import Stop
    from archiver.errors import ArchiverError
    from archiver.model import (
        CandidateId,
        ColdKey,
        ColdObject,
        ColdStat,
        Holding,
        Holdings,
        SourceName,
        State,
        Stopped,
    )
    from archiver.protocols import Adoptions, Clock, ColdStore, Observer

    Found = Sequence[tuple[Holding, Adoption | None]]  # None: proven missing

T = TypeVar("T")

_TURN_SECONDS = 0.25  # at most between two looks at the wish to stop
_LEDGER_WAIT_SECONDS = 1.0  # before a call is repeated
_NO_SUCH_OBJECT = "the cold store has no such object"


@dataclass(frozen=True, slots=True)
class AdoptPlan:
    """The numbers of one run."""

    bucket: str  # the cold bucket at hand; rows in others are counted
    concurrency: int
    unproven: bool = False  # ask for existence and size, read no bytes
    limit: int | None = None  # objects to adopt
    drain_seconds: float = 25.0
    ledger_patience_seconds: float = 60.0
    page_rows: int = 2000  # asked of the source at once
    stat_group: int = 64  # objects looked at in one question, where no bytes are read
    record_group: int = 200  # receipts a transaction
    group_age_seconds: float = 1.0  # before a group goes out though it is not full

    @property
    def breaker_failures(self) -> int:
        """Failures in a row before the store is left alone: every thread has failed twice."""
        return max(8, 2 * self.concurrency)


@dataclass(slots=True)
class Prover:
    """Looks at cold objects. Threads call it; it keeps nothing."""

    source: SourceName
    cold: ColdStore
    budget: BytesInFlight

    def read(self, piece: Sequence[Asked]) -> Found:
        """Read objects back whole and compare them with what is promised.

        A row that promises nothing is believed to mean the bytes as they are found, unless
        the object's own metadata says that they were others.

        Raises:
            HoldingDamaged
            PermanentError: One cannot be read: denied, frozen, too large.
            TransientError, FatalError: The store could not be asked.
        """
        return [(it.holding, self._read(it.holding, it.key)) for it in piece]

    def look(self, piece: Sequence[Asked]) -> Found:
        """Ask for the existence and size of objects; their bytes stay unread.

        Raises:
            PermanentError: At least one of them cannot be asked for.
            TransientError, FatalError: The store could not be asked.
        """
        seen = self.cold.stat_many([it.key for it in piece])
        return [(it.holding, self._looked_at(it.holding, seen[it.key])) for it in piece]

    def _read(self, holding: Holding, key: ColdKey) -> Adoption | None:
        found = self.cold.look(key)
        if found is None:
            return None
        where = str(self.cold.location(key))
        try:
            with self.budget.hold(found.stat.size_bytes, where):
                body = self.cold.read(key)
                digest, content = _compared(where, found, body, holding.content_digest)
        except ObjectTooLarge:
            # Hashed as it streams; what is compressed could not be compared like that.
            digest, content = self.cold.readback(key), holding.content_digest
            if content not in (None, digest):
                raise
            _require_own_digest(where, found, digest)
        except ObjectMissing:
            return None  # it went away meanwhile
        return self._adoption(holding, found.stat, digest, content)

    def _looked_at(self, holding: Holding, stat: ColdStat | None) -> Adoption | None:
        if stat is None:
            return None
        return self._adoption(holding, stat, None, holding.content_digest)

    def _adoption(
        self, holding: Holding, stat: ColdStat, digest: Digest | None, content: Digest | None
    ) -> Adoption:
        return Adoption(
            source=self.source,
            id=holding.id,
            cold=self.cold.location(stat.key),
            size_bytes=stat.size_bytes,
            digest=digest,
            content_digest=content,
            etag=stat.etag,
            evidence=Evidence.UNPROVEN if digest is None else Evidence.READBACK,
            group_id=holding.group_id,
        )


@dataclass(frozen=True, slots=True)
class Asked:
    """One holding whose object is to be looked at."""

    holding: Holding
    key: ColdKey
    read_at: datetime  # when its row was


@dataclass(slots=True)
class Reading:
    """One way through the holdings of a source, and counts of what is left out on it."""

    source: SourceName
    adoptions: Adoptions
    clock: Clock
    observe: Observer
    plan: AdoptPlan
    counts: Counter[str] = field(default_factory=Counter, init=False)  # as in `Takeover`
    elsewhere: Counter[str] = field(default_factory=Counter, init=False)  # by cold bucket
    is_at_end: bool = field(default=False, init=False)
    _after: CandidateId | None = field(default=None, init=False)

    def next_page(self) -> list[Asked]:
        """Those of the next page that can be adopted; perhaps none, before the end too."""
        plan = self.plan
        page: Holdings = self.ask(
            "holdings",
            partial(
                self.adoptions.holdings, plan.page_rows, self._after, unproven=plan.unproven
            ),
        )
        self.counts["known"] += page.known_count
        self.is_at_end = page.last is None
        self._after = page.last
        asked = (self._asked(holding, page.read_at) for holding in page.to_adopt)
        return [it for it in asked if it is not None]

    def _asked(self, holding: Holding, read_at: datetime) -> Asked | None:
        if holding.problem:
            self.refuse(holding, NotAdopted.UNREADABLE, holding.problem)
        elif holding.cold_key is None:
            self.counts["skipped"] += 1
        elif holding.cold_bucket != self.plan.bucket:
            self.elsewhere[holding.cold_bucket or ""] += 1
        else:
            return Asked(holding, holding.cold_key, read_at)
        return None

    def refuse(self, holding: Holding, why: NotAdopted, reason: str) -> None:
        """Say of one holding that it gets no receipt, and why."""
        self.counts[why.value] += 1
        self.observe(HoldingRefused(self.source, holding, why, reason))

    def takeover(
        self, stopped: Stopped | None, began_at: float, error: ArchiverError | None = None
    ) -> Takeover:
        """What was counted; an error that stopped nothing by itself is a fatal one."""
        state: State = "done" if stopped is None else "stopped"
        counts: dict[str, Any] = dict(self.counts)
        return Takeover(
            state="fatal" if error is not None and stopped is None else state,
            stopped=stopped,
            elsewhere=dict(self.elsewhere),
            seconds=round(self.clock.monotonic() - began_at, 3),
            error=None if error is None else str(error),
            **counts,
        )

    def ask(self, operation: str, call: Callable[[], T]) -> T:
        """Ask the ledger, again where the database did not answer: its calls repeat.

        Raises:
            LedgerUnavailable: Not within `ledger_patience_seconds`.
        """
        patient_until = self.clock.monotonic() + self.plan.ledger_patience_seconds
        while True:
            try:
                return call()
            except LedgerUnavailable as error:
                if self.clock.monotonic() + _LEDGER_WAIT_SECONDS > patient_until:
                    raise
                self.observe(LedgerRetried(operation, error.message, _LEDGER_WAIT_SECONDS))
            self.clock.sleep(_LEDGER_WAIT_SECONDS)


def survey(reading: Reading, stop: Stop) -> Takeover:
    """Count what a run would adopt, up to its limit. No store is asked, nothing is written.

    Raises:
        FatalError, LedgerUnavailable
    """
    began_at, counts, limit = reading.clock.monotonic(), reading.counts, reading.plan.limit
    stopped: Stopped | None = None
    while stopped is None and not reading.is_at_end:
        for asked in reading.next_page():
            if counts["adopted"] == limit:
                stopped = "limit"
                break
            counts["adopted"] += 1
            counts["unpromised"] += asked.holding.content_digest is None
        stopped = stopped or stop.reason
    return reading.takeover(stopped, began_at)


class Adopting:
    """One run over the holdings of one source. Run once."""

    def __init__(
        self, reading: Reading, prover: Prover, pool: Pool, heartbeat: Heartbeat, stop: Stop
    ) -> None:
        self._reading = reading
        self._prover = prover
        self._pool = pool
        self._heartbeat = heartbeat
        self._stop = stop
        self._plan = reading.plan
        self._clock = reading.clock
        self._counts = reading.counts
        self._ready: deque[Asked] = deque()
        self._found: list[tuple[Adoption, datetime]] = []
        self._found_since = 0.0  # when the first of them came home
        self._flying_count = 0  # holdings whose objects are being looked at
        self._streak_count = 0  # failures of the store since it last answered
        self._stopped: Stopped | None = None
        self._error: ArchiverError | None = None

    def __call__(self) -> Takeover:
        """Give receipts to what has none. Whatever ends the run early is in the answer."""
        began_at, reading, plan = self._clock.monotonic(), self._reading, self._plan
        reading.observe(TakeoverStarted(reading.source, plan.concurrency, plan.unproven))
        try:
            while not self._is_over:
                self._step()
            self._drain()
            self._record()
        except (FatalError, LedgerUnavailable) as error:
            self._error, self._stopped = error, None
        takeover = reading.takeover(self._stopped, began_at, self._error)
        reading.observe(TakeoverEnded(reading.source, takeover))
        return takeover

    @property
    def _is_over(self) -> bool:
        is_idle = not self._ready and not self._flying_count and not self._found
        return self._stopped is not None or (self._reading.is_at_end and is_idle)

    # --- one step ----------------------------------------------------------------------------

    def _step(self) -> None:
        self._look_at_wishes()
        if self._stopped is not None:
            return
        self._heartbeat.require()
        if len(self._ready) < self._plan.concurrency and not self._reading.is_at_end:
            self._ready.extend(self._reading.next_page())
        self._dispatch()
        if self._pool.under_way_count:
            self._pool.turn(_TURN_SECONDS)
        if self._is_group_ready:
            self._record()

    def _look_at_wishes(self) -> None:
        limit = self._plan.limit
        if self._stop.reason is not None:
            self._stopped = self._stop.reason
        elif self._heartbeat.lease.pause is Pause.ALL:
            self._stopped = "paused"
        elif limit is not None and self._counts["adopted"] >= limit:
            self._stopped = "limit"

    def _dispatch(self) -> None:
        """Hand holdings to the pool: as many as it can chew, and as the limit leaves."""
        per_piece = self._plan.stat_group if self._plan.unproven else 1
        width = 2 * self._plan.concurrency
        while self._ready and self._pool.under_way_count < width:
            count = min(per_piece, len(self._ready), self._left_count)
            if count <= 0:
                return
            self._submit([self._ready.popleft() for _ in range(count)])

    @property
    def _left_count(self) -> int:
        """How many more may be looked at: whatever is under way may be adopted."""
        if self._plan.limit is None:
            return self._plan.page_rows
        under_way = self._flying_count + len(self._found)
        return self._plan.limit - self._counts["adopted"] - under_way

    def _submit(self, piece: Sequence[Asked]) -> None:
        self._flying_count += len(piece)
        look = self._prover.look if self._plan.unproven else self._prover.read

        def looked(found: Found | None) -> None:
            self._flying_count -= len(piece)
            self._looked(found or (), min(it.read_at for it in piece))

        self._pool.submit(
            lambda: look(piece) if self._stopped is None else None,
            looked,
            partial(self._failed, piece),
        )

    # --- what comes home ---------------------------------------------------------------------

    def _looked(self, found: Found, read_at: datetime) -> None:
        if found:
            self._streak_count = 0
        for holding, adoption in found:
            if adoption is None:
                self._reading.refuse(holding, NotAdopted.MISSING, _NO_SUCH_OBJECT)
                continue
            if not self._found:
                self._found_since = self._clock.monotonic()
            self._found.append((adoption, read_at))

    def _failed(self, piece: Sequence[Asked], error: ArchiverError) -> None:
        self._flying_count -= len(piece)
        if isinstance(error, FatalError):
            raise error
        if isinstance(error, NotSent):
            self._not_sent(error)
            return
        if isinstance(error, PermanentError) and len(piece) > 1 and self._stopped is None:
            # One bad name must not be the others' fault: halve until it is alone.
            middle = len(piece) // 2
            self._submit(piece[:middle])
            self._submit(piece[middle:])
            return
        for asked in piece:
            self._reading.refuse(asked.holding, _why(error), str(error))
        self._note_failure(error)

    def _not_sent(self, error: NotSent) -> None:
        """Nothing was asked of these: the next run does. A long pause ends this one."""
        if error.retry_after_seconds is not None and self._stopped is None:
            self._stopped, self._error = "failures", error

    def _note_failure(self, error: ArchiverError) -> None:
        """A store that refuses or fails again and again is left alone."""
        is_of_store = isinstance(error, TransientError | ObjectDenied)
        if not is_of_store or isinstance(error, Mismatch):
            self._streak_count = 0
            return
        self._streak_count += 1
        if self._streak_count >= self._plan.breaker_failures and self._stopped is None:
            self._stopped, self._error = "failures", error

    # --- receipts ----------------------------------------------------------------------------

    @property
    def _is_group_ready(self) -> bool:
        if not self._found:
            return False
        age_seconds = self._clock.monotonic() - self._found_since
        return (
            len(self._found) >= self._plan.record_group
            or age_seconds >= self._plan.group_age_seconds
            or not self._flying_count
        )

    def _record(self) -> None:
        group, self._found = self._found, []
        if not group:
            return
        adoptions = [adoption for adoption, _ in group]
        read_at = min(it for _, it in group)  # the earlier, the more counts as changed since
        adopted = self._reading.ask(
            "adopt", partial(self._reading.adoptions.adopt, adoptions, read_at)
        )
        for adoption in adoptions:
            if adoption.id not in adopted:
                self._counts["changed"] += 1
                continue
            self._counts["adopted"] += 1
            self._counts["unpromised"] += adoption.content_digest is None
            self._counts["adopted_bytes"] += adoption.size_bytes
            self._reading.observe(ObjectAdopted(adoption))

    def _drain(self) -> None:
        """Bring home what is being read; what was only queued is left for the next run."""
        if not self._pool.under_way_count:
            return
        self._reading.observe(Draining(self._stopped or "", self._plan.drain_seconds))
        deadline = self._clock.monotonic() + self._plan.drain_seconds
        while self._pool.under_way_count and self._clock.monotonic() < deadline:
            self._pool.turn(_TURN_SECONDS)


def _why(error: ArchiverError) -> NotAdopted:
    match error:
        case Mismatch():
            return NotAdopted.DAMAGED
        case PermanentError():
            return NotAdopted.UNREADABLE
        case _:
            return NotAdopted.UNREACHABLE


def _compared(
    where: str, found: ColdObject, body: bytes, promised: Digest | None
) -> tuple[Digest, Digest | None]:
    """Both digests of the bytes, where they are what was promised."""
    if len(body) != found.stat.size_bytes:
        expected, seen = f"{found.stat.size_bytes} bytes", f"{len(body)} bytes"
        raise HoldingDamaged(where=where, expected=expected, seen=seen)
    digest = Digest.of(body)
    _require_own_digest(where, found, digest)
    if promised is None:
        return digest, None
    try:
        content = content_digest(body, CONTENT_LIMIT_BYTES)
    except CannotDecompress as exc:
        raise HoldingDamaged(where=where, expected=str(promised), seen=str(exc)) from exc
    except TooMuchContent as exc:
        raise ContentBomb(where=where, limit_bytes=CONTENT_LIMIT_BYTES) from exc
    if content != promised:
        raise HoldingDamaged(where=where, expected=str(promised), seen=str(content))
    return digest, content


def _require_own_digest(where: str, found: ColdObject, digest: Digest) -> None:
    """An object of archiver's, perhaps of a ledger that is gone, says what it was put as."""
    origin = Origin.of(found.metadata)
    if origin is not None and origin.digest not in (None, digest):
        raise HoldingDamaged(where=where, expected=str(origin.digest), seen=str(digest))
