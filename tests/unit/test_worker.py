"""The worker between a real scheduler and sources of the test's own; seconds of real time.

What ran when is written down by the sources themselves. Bounds are there for a machine that
is busy; nothing here must happen by a certain moment, only in a certain order.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypeVar

import pytest

from archiver.engine.lease import Heartbeat
from archiver.engine.stop import Stop
from archiver.errors import LedgerDenied, LedgerUnavailable, SettingsError
from archiver.events import (
    ClockSetBack,
    Crashed,
    DrainTimedOut,
    NoSweep,
    PauseObeyed,
    SweepHangs,
    SweepSkipped,
    SweepsMissed,
    WorkerGivesUp,
    WorkerStarted,
    WorkerStopped,
)
from archiver.model import Lease, Pause, SourceName, Summary, WorkerId
from archiver.ops.clock import SystemClock
from archiver.ops.timetable import Timetable, Window
from archiver.worker import End, Rounds, Watchdog, Worker, WorkerPlan
from tests.fakes.clock import ManualClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from archiver.events import Event

E = TypeVar("E")

PAGES, AVATARS = SourceName("pages"), SourceName("avatars")
_BOUND_SECONDS = 20.0


class _Fleet:
    """One lease without end; the test says what the operator wants."""

    def __init__(self) -> None:
        self.pause = Pause.NOTHING

    def join(self) -> Lease:
        return Lease(WorkerId(1), 1, float("inf"), 60.0, self.pause)


@dataclass
class Sources:
    """An archiver, its shifts, and what each sweep of a source does."""

    clock: SystemClock = field(default_factory=SystemClock)
    fleet: _Fleet = field(default_factory=_Fleet)
    source_names: tuple[SourceName, ...] = (PAGES,)
    sweeps: list[SourceName] = field(default_factory=list)
    under_way: int = 0
    most_under_way: int = 0
    shifts: list[Shift] = field(default_factory=list)
    openings: list[Exception] = field(default_factory=list)  # of the ledger, one a try
    does: Callable[[SourceName, Stop], Summary] = lambda _source, _stop: Summary()
    lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def open(self) -> Iterator[Sources]:
        if self.openings:
            raise self.openings.pop(0)
        yield self

    def begin_shift(self) -> Shift:
        self.shifts.append(Shift(self))
        return self.shifts[-1]


class Shift:
    def __init__(self, sources: Sources) -> None:
        self.sources = sources
        self.heartbeat = Heartbeat(sources.fleet, sources.clock)  # type: ignore[arg-type]  # join is all
        self.is_over = False
        self.is_closed = False

    def sweep(self, source: SourceName, stop: Stop) -> Summary:
        sources = self.sources
        with sources.lock:
            sources.sweeps.append(source)
            sources.under_way += 1
            sources.most_under_way = max(sources.most_under_way, sources.under_way)
        try:
            return sources.does(source, stop)
        finally:
            with sources.lock:
                sources.under_way -= 1

    def close(self) -> None:
        self.is_closed = True


@dataclass
class Running:
    """A worker in a thread of its own, as the main thread of a process."""

    sources: Sources
    timetable: Timetable = field(default_factory=lambda: Timetable(0.2))
    hang_after_seconds: float = 60.0
    drain_seconds: float = _BOUND_SECONDS
    max_duration_seconds: float | None = None
    stop: Stop = field(default_factory=Stop)
    events: list[Event] = field(default_factory=list)
    pings: list[bool] = field(default_factory=list)
    end: End | None = None
    error: BaseException | None = None

    def __post_init__(self) -> None:
        plan = WorkerPlan(self.timetable, self.drain_seconds, self.hang_after_seconds, "pages")
        observe, clock = self.events.append, self.sources.clock
        rounds = Rounds(
            self.sources.open, observe, clock, max_duration_seconds=self.max_duration_seconds
        )
        self.worker = Worker(plan, rounds, observe, clock, ping=self.pings.append)
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            self.end = self.worker.run(self.stop)
        except BaseException as error:  # noqa: BLE001  # the test looks at it
            self.error = error

    def told(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    def until(self, has_come: Callable[[], object]) -> None:
        deadline = time.monotonic() + _BOUND_SECONDS
        while not has_come():
            assert time.monotonic() < deadline, self.events
            time.sleep(0.01)

    def ended(self) -> End | None:
        self.thread.join(_BOUND_SECONDS)
        assert not self.thread.is_alive(), self.events
        return self.end


@contextmanager
def running(sources: Sources, **plan: object) -> Iterator[Running]:
    worker = Running(sources, **plan)  # type: ignore[arg-type]  # its fields
    worker.thread.start()
    try:
        yield worker
    finally:
        worker.stop.request("signal")
        worker.ended()


# --- when ---------------------------------------------------------------------------------


def test_it_sweeps_at_once_and_then_again_and_again() -> None:
    sources = Sources()
    with running(sources) as worker:
        worker.until(lambda: len(sources.sweeps) >= 3)
    assert worker.end is End.STOPPED
    assert len(worker.told(WorkerStarted)) == len(worker.told(WorkerStopped)) == 1
    assert [shift.is_closed for shift in sources.shifts] == [True]  # one for all sweeps


def test_a_sweep_longer_than_the_interval_is_alone_and_followed_by_one() -> None:
    """Fire times that come meanwhile are not made up for; it is said once a sweep."""
    gate = threading.Event()
    sources = Sources(does=lambda _source, _stop: (gate.wait(_BOUND_SECONDS), Summary())[1])
    with running(sources) as worker:
        worker.until(lambda: worker.told(SweepSkipped))
        time.sleep(1.0)  # five more fire times
        assert (len(sources.sweeps), len(worker.told(SweepSkipped))) == (1, 1)
        executor = worker.worker._scheduler._executors["default"]
        assert dict(executor._instances) == {"sweep": 1}  # and none queued behind it
        sources.does = lambda _source, _stop: Summary()
        gate.set()
        worker.until(lambda: len(sources.sweeps) >= 3)
    assert sources.most_under_way == 1


def test_outside_its_window_it_waits_and_in_it_a_sweep_is_asked_to_drain_at_its_end() -> None:
    clock = _Shifted(datetime(2026, 6, 16, 21, 59, 59, tzinfo=UTC))
    reasons = []

    def until_asked(_source: SourceName, stop: Stop) -> Summary:
        while stop.reason is None:
            time.sleep(0.01)
        reasons.append(stop.reason)
        return Summary(state="stopped", stopped=stop.reason)

    sources = Sources(clock=clock, does=until_asked)
    now = datetime.now(UTC)
    # The scheduler goes by the machine's clock: the window is open there, and ours says
    # when it closes.
    window = Window.parse(f"{now:%H:%M}-{now - timedelta(minutes=2):%H:%M}")
    timetable = Timetable(0.2, window=window)
    with running(sources, timetable=timetable) as worker:
        clock.at = now
        worker.until(lambda: sources.under_way)
        clock.at = now - timedelta(minutes=1)
        worker.until(lambda: reasons)
        clock.at = now
    assert reasons[0] == "window"
    assert worker.pings == []  # neither good nor bad


def test_a_source_whose_turn_did_not_come_is_the_first_of_the_next_round() -> None:
    """Else one with a backlog of days keeps the others waiting for as long."""

    def until_asked(source: SourceName, stop: Stop) -> Summary:
        while source == PAGES and stop.reason is None:
            time.sleep(0.01)
        return Summary(stopped=stop.reason, state="done" if stop.reason is None else "stopped")

    sources = Sources(source_names=(PAGES, AVATARS), does=until_asked)
    with running(sources, max_duration_seconds=0.1) as worker:
        worker.until(lambda: len(sources.sweeps) >= 4)
    assert sources.sweeps[:4] == [PAGES, AVATARS, PAGES, PAGES]


@pytest.mark.parametrize("parked_count", [0, 1])
def test_a_round_that_used_its_time_up_says_how_it_went(parked_count: int) -> None:
    def until_asked(_source: SourceName, stop: Stop) -> Summary:
        while stop.reason is None:
            time.sleep(0.01)
        return Summary(state="stopped", stopped=stop.reason, parked=parked_count)

    with running(Sources(does=until_asked), max_duration_seconds=0.05) as worker:
        worker.until(lambda: worker.pings)
    assert worker.pings[0] is (parked_count == 0)


class _Shifted(SystemClock):
    """Its wall clock stands where the test puts it."""

    def __init__(self, at: datetime) -> None:
        self.at = at

    def now(self) -> datetime:
        return self.at


def test_a_clock_that_is_set_back_does_not_delay_the_next_sweep() -> None:
    clock = _Moved()
    sources = Sources(clock=clock)
    with running(sources) as worker:
        worker.until(lambda: len(sources.sweeps) >= 2)
        clock.lead = timedelta(hours=-1)
        worker.until(lambda: worker.told(ClockSetBack))
        count = len(sources.sweeps)
        clock.lead = timedelta()
        worker.until(lambda: len(sources.sweeps) > count + 1)
    (told,) = worker.told(ClockSetBack)
    assert 3595 < told.seconds < 3605


def test_a_clock_that_is_set_back_again_and_again_puts_no_sweep_off() -> None:
    """An interval counts the time that passed, not that since the clock was last corrected."""
    clock = _Moved()
    sources = Sources(clock=clock)
    with running(sources, timetable=Timetable(3600.0)) as worker:
        worker.until(lambda: sources.sweeps)
        job = worker.worker._scheduler.get_job("sweep")
        due_at = job.next_run_time
        clock.lead = timedelta(seconds=-10)
        worker.until(lambda: worker.told(ClockSetBack))
        worker.until(lambda: job.next_run_time != due_at)
    assert abs(due_at - job.next_run_time - timedelta(seconds=10)) < timedelta(seconds=1)


class _Moved(SystemClock):
    def __init__(self) -> None:
        self.lead = timedelta()

    def now(self) -> datetime:
        return super().now() + self.lead


def test_a_fire_time_that_nobody_was_there_for_is_said() -> None:
    sources = Sources()
    with running(sources) as worker:
        worker.until(lambda: len(sources.sweeps) >= 2)
        with worker.worker._scheduler._jobstores_lock:  # the scheduler cannot look at the time
            time.sleep(1.0)
        count = len(sources.sweeps)
        worker.until(lambda: worker.told(SweepsMissed))
        worker.until(lambda: len(sources.sweeps) > count + 1)
    assert worker.told(SweepsMissed)[0].late_seconds > 0.2


# --- what fails ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        LedgerUnavailable(operation="connect", message="refused"),
        LedgerDenied(operation="connect", message="password"),
    ],
)
def test_a_ledger_that_cannot_be_used_is_tried_again_at_each_fire_time(
    error: Exception,
) -> None:
    sources = Sources(openings=[error, error])
    with running(sources) as worker:
        worker.until(lambda: len(sources.sweeps) >= 2)
    assert len(worker.told(NoSweep)) == 2
    assert worker.pings[:3] == [False, False, True]


def test_settings_that_cannot_be_used_here_end_it() -> None:
    error = SettingsError(problems=("the database URL cannot be read",))
    worker = Running(Sources(openings=[error]))
    worker.thread.start()
    assert worker.ended() is None
    assert worker.error is error


def test_a_source_that_fails_stops_no_other_however_it_fails() -> None:
    def fails(source: SourceName, _stop: Stop) -> Summary:
        if source == PAGES:
            if len(sources.sweeps) < 3:
                raise ZeroDivisionError
            return Summary(state="fatal", error="no such bucket")
        return Summary(archived=1)

    sources = Sources(source_names=(PAGES, AVATARS), does=fails)
    with running(sources) as worker:
        worker.until(lambda: sources.sweeps.count(AVATARS) >= 3)
    assert sources.sweeps[:4] == [PAGES, AVATARS, PAGES, AVATARS]
    assert "ZeroDivisionError" in worker.told(Crashed)[0].traceback
    # After the bug a new one: the threads of the old may still be at work for that sweep.
    assert [shift.is_closed for shift in sources.shifts] == [True] * 2
    assert worker.pings[:3] == [False] * 3


def test_a_bug_in_what_comes_before_the_sweeps_is_said_and_pinged() -> None:
    sources = Sources(openings=[ZeroDivisionError()])
    with running(sources) as worker:
        worker.until(lambda: len(worker.pings) >= 2)
    assert "ZeroDivisionError" in worker.told(Crashed)[0].traceback
    assert worker.pings[:2] == [False, True]


@pytest.mark.parametrize(
    ("summary", "is_good"),
    [
        (Summary(archived=3), True),
        (Summary(archived=3, waiting=1), True),  # it is tried again by itself
        (Summary(parked=1), False),
        (Summary(state="stopped", stopped="failures"), False),
        (Summary(state="stopped", stopped="budget"), True),
        (Summary(state="fatal", error="x"), False),
    ],
)
def test_a_ping_says_whether_the_round_was_good(summary: Summary, *, is_good: bool) -> None:
    sources = Sources(does=lambda _source, _stop: summary)
    with running(sources) as worker:
        worker.until(lambda: worker.pings)
    assert worker.pings[0] is is_good


def test_a_ping_that_hangs_delays_no_sweep() -> None:
    gate, sources = threading.Event(), Sources()
    worker = Running(sources)
    worker.worker._ping = lambda _is_good: (gate.wait(_BOUND_SECONDS), None)[1]
    worker.thread.start()
    try:
        worker.until(lambda: len(sources.sweeps) >= 3)
    finally:
        gate.set()
        worker.stop.request("signal")
    assert worker.ended() is End.STOPPED


def test_a_shift_that_is_over_is_closed_and_another_one_begun() -> None:
    def ends_the_first(_source: SourceName, _stop: Stop) -> Summary:
        sources.shifts[0].is_over = True
        return Summary()

    sources = Sources(does=ends_the_first)
    with running(sources) as worker:
        worker.until(lambda: len(sources.sweeps) >= 3)
    assert [len(sources.shifts), sources.shifts[0].is_closed] == [2, True]


def test_while_all_is_paused_nothing_is_swept_and_it_is_said_once() -> None:
    sources = Sources()
    sources.fleet.pause = Pause.ALL
    with running(sources) as worker:
        worker.until(lambda: worker.told(PauseObeyed))
        time.sleep(0.6)
        assert sources.sweeps == []
        assert len(worker.told(PauseObeyed)) == 1
        sources.fleet.pause = Pause.NOTHING
        sources.shifts[0].is_over = True  # the next one joins anew
        worker.until(lambda: sources.sweeps)
    assert [event.pause for event in worker.told(PauseObeyed)] == [Pause.ALL, Pause.NOTHING]


def test_a_pause_in_the_middle_of_a_round_keeps_the_next_source_from_beginning() -> None:
    sources = Sources(source_names=(PAGES, AVATARS))

    def pauses(_source: SourceName, _stop: Stop) -> Summary:
        sources.fleet.pause = Pause.ALL
        sources.shifts[0].is_over = True  # the next one joins anew, and learns of it
        return Summary()

    sources.does = pauses
    with running(sources) as worker:
        worker.until(lambda: worker.told(PauseObeyed))
        time.sleep(0.6)
    assert sources.sweeps == [PAGES]


# --- what hangs ---------------------------------------------------------------------------


def test_a_sweep_that_hangs_is_said_with_where_it_is_and_then_ends_the_worker() -> None:
    gate = threading.Event()
    sources = Sources(does=lambda _source, _stop: (gate.wait(_BOUND_SECONDS), Summary())[1])
    worker = Running(sources, hang_after_seconds=0.5)
    worker.thread.start()
    assert worker.ended() is End.HUNG
    (told,), (gave_up,) = worker.told(SweepHangs), worker.told(WorkerGivesUp)
    assert 0.5 <= told.idle_seconds < gave_up.idle_seconds
    assert any("test_worker.py" in stack for stack in told.threads.values())
    gate.set()


def test_a_sweep_that_gets_on_is_left_alone_however_long_it_takes() -> None:
    def gets_on(_source: SourceName, stop: Stop) -> Summary:
        while stop.reason is None:
            sources.shifts[0].heartbeat.progressed()
            time.sleep(0.02)
        return Summary()

    sources = Sources(does=gets_on)
    with running(sources, hang_after_seconds=0.4) as worker:
        worker.until(lambda: sources.sweeps)
        time.sleep(1.5)
        assert worker.thread.is_alive()
    assert worker.told(SweepHangs) == []


def test_the_watchdog_says_it_once_and_again_after_it_got_on() -> None:
    events: list[Event] = []
    watchdog = Watchdog(10.0, events.append)
    answers = [watchdog.look(idle) for idle in (9.9, 10.0, 15.0, 0.0, 10.0, 19.9, 20.0)]
    assert answers == [False] * 6 + [True]
    assert [type(event) for event in events] == [SweepHangs, SweepHangs, WorkerGivesUp]


def test_asked_to_stop_it_drains_and_a_drain_without_end_is_cut() -> None:
    gate = threading.Event()
    sources = Sources(does=lambda _source, _stop: (gate.wait(_BOUND_SECONDS), Summary())[1])
    worker = Running(sources, drain_seconds=0.5)
    worker.thread.start()
    worker.until(lambda: sources.under_way)
    worker.stop.request("signal")
    assert worker.ended() is End.UNFINISHED
    assert len(worker.told(DrainTimedOut)) == 1
    gate.set()


def test_idle_seconds_are_those_of_the_round_under_way() -> None:
    clock = ManualClock()
    rounds = Rounds(Sources().open, lambda _event: None, clock)
    clock.advance(100)
    assert rounds.idle_seconds == 0.0
