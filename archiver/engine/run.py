"""What the parts of one sweep share: where they are, what they may do, what was counted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from archiver.engine.egress import FREE
from archiver.engine.stamping import Vouched
from archiver.engine.stop import Stop
from archiver.errors import LedgerUnavailable
from archiver.events import LedgerRetried, WidthChanged
from archiver.model import Pause, Summary

if TYPE_CHECKING:
    from collections.abc import Callable

    from archiver.engine.egress import Egress
    from archiver.engine.lease import Heartbeat
    from archiver.engine.pool import Pool
    from archiver.engine.width import Change, Width
    from archiver.errors import FatalError
    from archiver.model import ColdPlace, EgressBudget, ReceiptId, SourceName, State, Stopped
    from archiver.protocols import Claims, Clock, Observer, Releases, Spending, Stamps, Uploads

T = TypeVar("T")

RELEASE_SLICE = 100  # at most; identified and deleted by one thread
_LEDGER_WAIT_SECONDS = 0.2  # before the first repeated call; doubled
_LEDGER_WAIT_MAX_SECONDS = 5.0
_LOOK_SECONDS = 0.25  # at most between two looks at the wish to stop


@dataclass(frozen=True, slots=True)
class SweepPlan:
    """The numbers of a sweep. Defaults of the engine's own; the rest are settings."""

    batch_size: int  # rows a claim
    release: bool = True
    max_objects: int | None = None
    max_bytes: int | None = None
    egress_budget: EgressBudget | None = None
    max_failure_ratio: float | None = None
    retry_wait_seconds: float = 0.0  # how long to wait for retries that fall due, once drained
    takeover_wait_seconds: float = 0.0  # how long to wait for other workers' claims
    retry_base_seconds: float = 2.0
    drain_seconds: float = 25.0
    ledger_patience_seconds: float = 60.0  # how long a database may not answer
    verify_group: int = 64  # objects proven at once
    record_group: int = 500  # receipts a transaction
    group_age_seconds: float = 1.0  # before a group goes out though it is not full
    release_group: int = 1000  # releases a claim
    release_slice: int = RELEASE_SLICE  # of those, by one thread


@dataclass(slots=True)
class Tally:
    """Counts of one sweep. Touched by the sweep's own thread alone."""

    archived: int = 0
    released: int = 0
    recovered: int = 0
    replaced: int = 0
    parked: int = 0
    superseded: int = 0
    elsewhere: int = 0
    pending_release: int = 0
    moved_bytes: int = 0
    failed: int = 0  # moves that did not end in a receipt, each try counted
    waiting_ids: set[str] = field(default_factory=set)
    waiting_releases: set[ReceiptId] = field(default_factory=set)

    def summary(
        self, state: State, stopped: Stopped | None, seconds: float, error: str | None
    ) -> Summary:
        return Summary(
            state=state,
            stopped=stopped,
            archived=self.archived,
            released=self.released,
            recovered=self.recovered,
            replaced=self.replaced,
            waiting=len(self.waiting_ids) + len(self.waiting_releases),
            parked=self.parked,
            superseded=self.superseded,
            elsewhere=self.elsewhere,
            pending_release=self.pending_release,
            moved_bytes=self.moved_bytes,
            seconds=round(seconds, 3),
            error=error,
        )


@dataclass(slots=True)
class Run:
    """One sweep of one source. All of it belongs to the thread that runs the sweep."""

    source: SourceName
    claims: Claims
    releases: Releases
    spending: Spending
    stamps: Stamps
    uploads: Uploads
    place: ColdPlace  # where its copies go
    pool: Pool
    heartbeat: Heartbeat
    clock: Clock
    observe: Observer
    plan: SweepPlan
    width: Width
    asked: Stop = field(default_factory=Stop)  # to stop, by a signal or whoever owns the sweep
    egress: Egress = FREE
    vouched: Vouched = field(default_factory=Vouched)
    tally: Tally = field(default_factory=Tally)
    fatal: FatalError | None = None
    stopped: Stopped | None = None
    reason: str | None = None  # why it stopped, where that needs words
    drain_until: float | None = None  # once it is known that the sweep is to stop

    @property
    def pause(self) -> Pause:
        """What the operator wants left undone, as of the last beat."""
        return self.heartbeat.lease.pause

    @property
    def may_release(self) -> bool:
        return self.plan.release and self.pause is Pause.NOTHING

    @property
    def breaker_failures(self) -> int:
        """Failures in a row before a store is doubted: every thread has failed twice."""
        return max(8, 2 * self.width.current)

    @property
    def is_ending(self) -> bool:
        """Nothing new is begun; what is in flight is brought home."""
        return self.fatal is not None or self.stopped is not None

    @property
    def state(self) -> State:
        if self.fatal is not None:
            return "fatal"
        return "done" if self.stopped is None else "stopped"

    def throttled(self) -> bool:
        """A store asked for fewer requests; True: one at a time is too much for it."""
        was_narrowest = self.width.is_narrowest
        self.widen(self.width.throttled(self.clock.monotonic()))
        return was_narrowest

    def widen(self, change: Change | None) -> None:
        """Let as many pieces of work run at once as the width says, and tell of a change."""
        self.pool.width = self.width.current
        if change is not None:
            self.observe(WidthChanged(self.source, change.before, change.after, change.why))

    def fail_fatally(self, error: FatalError) -> None:
        """Stop the sweep; the first reason stays."""
        self.fatal = self.fatal or error

    def stop(self, why: Stopped, reason: str | None = None) -> None:
        if self.stopped is None:
            self.stopped, self.reason = why, reason

    def ledger(self, operation: str, call: Callable[[], T]) -> T:
        """Ask the ledger, again where the database did not answer: its calls repeat.

        Raises:
            LedgerUnavailable: Not within `ledger_patience_seconds`, nor within the drain of
                a sweep that is to stop.
        """
        patient_until = self.clock.monotonic() + self.plan.ledger_patience_seconds
        wait_seconds = _LEDGER_WAIT_SECONDS
        while True:
            try:
                answer = call()
            except LedgerUnavailable as error:
                if not self._waits(wait_seconds, patient_until):
                    raise
                self.observe(LedgerRetried(operation, error.message, wait_seconds))
            else:
                if not self.pool.under_way_count:  # else the work under way must show it
                    self.heartbeat.progressed()
                return answer
            wait_seconds = min(2 * wait_seconds, _LEDGER_WAIT_MAX_SECONDS)

    def begin_to_drain(self) -> float:
        """Until when what is in flight may come home; the first call begins to count."""
        if self.drain_until is None:
            self.drain_until = self.clock.monotonic() + self.plan.drain_seconds
        return self.drain_until

    def _waits(self, seconds: float, patient_until: float) -> bool:
        """Wait before a call is repeated; False: it is too late for that."""
        until = self.clock.monotonic() + seconds
        while (now := self.clock.monotonic()) < until:
            if self.asked.reason is not None:
                patient_until = min(patient_until, self.begin_to_drain())
            if until > patient_until:
                return False
            self.clock.sleep(min(_LOOK_SECONDS, until - now))
        return True
