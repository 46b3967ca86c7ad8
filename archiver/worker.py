"""The scheduled worker: what runs for years, in a container.

Three threads and no more of its own. The main one waits for signals and watches; the
scheduler's (APScheduler) says when; and one that it calls does the rounds: all sources are
swept in it, one after another, so two sweeps at once cannot be. What a round opens (ledger,
lease, threads, stores) stays open for the next one.

Nothing that can pass by itself ends the worker: a database or a store that is down, denied
or not migrated yet is told of and tried again at the next fire time.
"""

from __future__ import annotations

import enum
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from apscheduler.events import (
    EVENT_JOB_ERROR,
    EVENT_JOB_MAX_INSTANCES,
    EVENT_JOB_SUBMITTED,
)
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler

from archiver import __version__
from archiver.engine.stop import Stop
from archiver.errors import ArchiverError, SettingsError
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
from archiver.model import Pause
from archiver.ops.schedule import Schedule

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime
    from types import FrameType

    from apscheduler.events import JobEvent

    from archiver.engine.lease import Heartbeat
    from archiver.model import SourceName, Stopped, Summary
    from archiver.ops.timetable import Timetable
    from archiver.protocols import Clock, Observer

_LOOK_SECONDS = 0.25  # between two looks of the main thread
_LATE_SECONDS = 60.0  # a sweep that begins so much after its time is said to be late
_SET_BACK_SECONDS = 2.0  # less is the usual slewing of a clock
_FRAMES_SHOWN = 14  # of each thread, innermost first
_SWEEP, _PING, _CLOSE = "sweep", "ping", "close"  # the scheduler's jobs


class OpenShift(Protocol):
    """What the worker asks of an `app.Shift`."""

    @property
    def heartbeat(self) -> Heartbeat: ...

    @property
    def is_over(self) -> bool: ...

    def sweep(self, source: SourceName, stop: Stop, /) -> Summary: ...

    def close(self) -> None: ...


class SweptArchiver(Protocol):
    """What the worker asks of an `app.Archiver`."""

    @property
    def source_names(self) -> Sequence[SourceName]: ...

    def begin_shift(self) -> OpenShift: ...


OpenArchiver = Callable[[], "AbstractContextManager[SweptArchiver]"]


class End(enum.Enum):
    """How a worker ended; for one that was refused, `run` raises."""

    STOPPED = "stopped"  # as asked; nothing is left in flight
    UNFINISHED = "unfinished"  # as asked, but the drain took too long
    HUNG = "hung"  # a sweep made no progress


@dataclass(frozen=True, slots=True)
class WorkerPlan:
    """The settings of a worker."""

    timetable: Timetable
    drain_seconds: float
    hang_after_seconds: float
    sources: str  # as they are set, for the log


class Worker:
    """Run once, by the main thread."""

    def __init__(
        self,
        plan: WorkerPlan,
        rounds: Rounds,
        observe: Observer,
        clock: Clock,
        *,
        ping: Callable[[bool], None] | None = None,
        masked: Callable[[str], str] = str,
    ) -> None:
        """`ping` is told after each round whether it was good, on a thread of its own."""
        self._plan = plan
        self._rounds = rounds
        self._observe = observe
        self._clock = clock
        self._ping = ping
        self._masked = masked
        self._schedule = Schedule(plan.timetable)
        self._watchdog = Watchdog(plan.hang_after_seconds, observe)
        self._expected: datetime | None = None  # the next fire time; the scheduler's thread's
        self._is_skip_told = False
        self._walls_lead = self._wall_lead()
        self._scheduler = BackgroundScheduler(
            timezone=plan.timetable.zone,
            executors={"default": ThreadPoolExecutor(1), _PING: ThreadPoolExecutor(1)},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )

    def run(self, stop: Stop) -> End:
        """Sweep by the timetable until it is asked to stop.

        After any other end than STOPPED threads hang: the process should end at once.

        Raises:
            SettingsError: The settings are right in themselves, but not usable here.
        """
        scheduler = self._scheduler
        scheduler.add_listener(
            self._on_job, EVENT_JOB_SUBMITTED | EVENT_JOB_MAX_INSTANCES | EVENT_JOB_ERROR
        )
        scheduler.add_job(self._round, self._schedule, id=_SWEEP)
        told = WorkerStarted(str(self._plan.timetable), self._plan.sources, __version__)
        self._observe(told)
        scheduler.start()
        try:
            while stop.reason is None:
                self._clock.sleep(_LOOK_SECONDS)
                if self._rounds.refusal is not None:
                    raise self._rounds.refusal
                if self._watchdog.look(self._rounds.idle_seconds):
                    return End.HUNG
                self._look_at_clocks()
            return self._drain()
        finally:
            scheduler.shutdown(wait=False)

    def _round(self) -> None:
        """The job of the scheduler."""
        self._is_skip_told = False
        is_good = self._rounds.sweep()
        if is_good is not None and self._ping is not None:
            # On its own thread: whoever is pinged may be slow, and no sweep waits for it.
            # A ping that is under way still stands for this one too.
            self._scheduler.add_job(
                self._ping, args=[is_good], id=_PING, executor=_PING, replace_existing=True
            )

    def _drain(self) -> End:
        """No sweep begins any more; the one under way drains, then all is closed behind it."""
        deadline = self._clock.monotonic() + self._plan.drain_seconds
        self._rounds.end()
        self._scheduler.remove_job(_SWEEP)
        # Behind the round that is under way, on its thread: it owns what is to be closed.
        self._scheduler.add_job(self._rounds.close, id=_CLOSE)
        while not self._rounds.is_closed:
            if self._clock.monotonic() >= deadline:
                self._observe(DrainTimedOut(self._plan.drain_seconds, stacks()))
                return End.UNFINISHED
            self._clock.sleep(_LOOK_SECONDS / 5)
        self._observe(WorkerStopped())
        return End.STOPPED

    # --- clocks ------------------------------------------------------------------------------

    def _look_at_clocks(self) -> None:
        """The scheduler waits by a clock that stands still while the machine is suspended.

        So it is woken at each look. And it waits for an instant of the wall clock: one that
        is set back would keep it waiting for as long.
        """
        if not self._plan.timetable.is_open(self._clock.now()):
            self._rounds.stop("window")
        lead = self._wall_lead()
        set_back_seconds, self._walls_lead = self._walls_lead - lead, lead
        if set_back_seconds > _SET_BACK_SECONDS:
            self._observe(ClockSetBack(round(set_back_seconds, 3)))
            self._expected = None
            job = self._scheduler.get_job(_SWEEP)
            if job is not None and job.next_run_time is not None:
                at = self._schedule.after_set_back(
                    job.next_run_time, set_back_seconds, self._clock.now()
                )
                job.modify(next_run_time=at)
        self._scheduler.wakeup()

    def _wall_lead(self) -> float:
        return self._clock.now().timestamp() - self._clock.monotonic()

    # --- what the scheduler tells ------------------------------------------------------------

    def _on_job(self, event: JobEvent) -> None:
        if event.code == EVENT_JOB_ERROR:
            problem = f"{event.traceback}{type(event.exception).__name__}: {event.exception}"
            self._observe(Crashed(f"job {event.job_id}", self._masked(problem)))
        elif event.job_id == _SWEEP:
            at = event.scheduled_run_times[-1]
            self._tell_late(at)
            if event.code == EVENT_JOB_MAX_INSTANCES and not self._is_skip_told:
                self._is_skip_told = True  # once a sweep, however long it takes
                self._observe(SweepSkipped(at))

    def _tell_late(self, at: datetime) -> None:
        """Fire times that nobody was there for: the machine slept, or was too busy."""
        expected, self._expected = self._expected, self._schedule.next_after(at)
        late_seconds = (self._clock.now() - (expected or at)).total_seconds()
        if expected is not None and (at > expected or late_seconds > _LATE_SECONDS):
            self._observe(SweepsMissed(expected, round(late_seconds, 3)))


@dataclass(slots=True)
class _Round:
    began_at: float
    stop: Stop = field(default_factory=Stop)


class Rounds:
    """Sweeps of all sources, one round after another, on one thread.

    That thread owns the ledger's connections, the shift and all in it. The main thread asks
    how it gets on, and asks it to stop; each reads or replaces one reference.
    """

    def __init__(
        self,
        open_archiver: OpenArchiver,
        observe: Observer,
        clock: Clock,
        *,
        max_duration_seconds: float | None = None,
        masked: Callable[[str], str] = str,
    ) -> None:
        """`masked` covers secrets in what a bug has to say."""
        self._max_duration_seconds = max_duration_seconds
        self._open_archiver = open_archiver
        self._observe = observe
        self._clock = clock
        self._masked = masked
        self._opened = ExitStack()
        self._archiver: SweptArchiver | None = None
        self._shift: OpenShift | None = None
        self._paused = Pause.NOTHING  # as it was told last
        self._round: _Round | None = None
        self._unswept: SourceName | None = None  # the first that the last round did not reach
        self._is_ending = False
        self.is_closed = False
        self.refusal: SettingsError | None = None  # no further round can be better

    # --- for the main thread -----------------------------------------------------------------

    @property
    def idle_seconds(self) -> float:
        """Since the round that is under way last got on; 0 between rounds."""
        current, shift = self._round, self._shift
        if current is None:
            return 0.0
        idle_seconds = self._clock.monotonic() - current.began_at
        return (
            idle_seconds if shift is None else min(idle_seconds, shift.heartbeat.idle_seconds)
        )

    def stop(self, reason: Stopped) -> None:
        """Let the round that is under way drain, where there is one."""
        if (current := self._round) is not None:
            current.stop.request(reason)

    def end(self) -> None:
        """The same, and begin no other."""
        self._is_ending = True
        self.stop("signal")

    # --- for the thread of the rounds --------------------------------------------------------

    def sweep(self) -> bool | None:
        """Sweep every source; whether all went well, None where there is nothing to say."""
        current = self._round = _Round(self._clock.monotonic())
        try:
            if self._is_ending:
                return None
            return self._sweep_all(current.stop)
        except SettingsError as error:
            self.refusal = error
            return None
        except ArchiverError as error:  # no ledger, or none that serves us
            self._observe(NoSweep(self._masked(str(error))))
            return False
        except Exception:  # noqa: BLE001  # a bug, a plugin's perhaps; the next round is due
            self._observe(Crashed("round", self._masked(traceback.format_exc())))
            return False
        finally:
            self._round = None

    def close(self) -> None:
        """Give back what is held. Threads that hang are left behind, with their claims."""
        try:
            self._end_shift()
            self._opened.close()
        finally:
            self.is_closed = True

    def _sweep_all(self, stop: Stop) -> bool | None:
        if self._archiver is None:
            self._archiver = self._opened.enter_context(self._open_archiver())
        if self._max_duration_seconds is not None:
            stop = stop.within(self._max_duration_seconds, self._clock)
        is_good = True
        sources = self._in_turn(self._archiver.source_names)
        self._unswept = None
        for source in sources:
            if stop.reason is not None:
                self._unswept = source
                break
            shift = self._begin_shift(self._archiver)
            if self._is_paused(shift):
                shift.heartbeat.progressed()
                return None
            is_good &= self._sweep_one(shift, source, stop)
        # One that used its time up did what it was set to; others were cut short by a wish.
        return is_good if stop.reason in (None, "duration") else None

    def _in_turn(self, sources: Sequence[SourceName]) -> Sequence[SourceName]:
        """From the one on whose turn the last round was over: none keeps others waiting."""
        start = 0 if self._unswept is None else sources.index(self._unswept)
        return [*sources[start:], *sources[:start]]

    def _sweep_one(self, shift: OpenShift, source: SourceName, stop: Stop) -> bool:
        """No failure of one source keeps the next one from being swept, not even a bug's."""
        try:
            summary = shift.sweep(source, stop)
        except ArchiverError:
            raise  # of the ledger itself: the next source would fare no better
        except Exception:  # noqa: BLE001  # whatever it is, the next sweep is due all the same
            self._observe(Crashed(source, self._masked(traceback.format_exc())))
            self._end_shift()  # its threads may be at work for the sweep that is gone
            return False
        if summary.state != "fatal":
            shift.heartbeat.progressed()
        return summary.state != "fatal" and summary.stopped != "failures" and not summary.parked

    def _begin_shift(self, archiver: SweptArchiver) -> OpenShift:
        if self._shift is not None and self._shift.is_over:
            self._end_shift()
        if self._shift is None:
            self._shift = archiver.begin_shift()
        return self._shift

    def _end_shift(self) -> None:
        shift, self._shift = self._shift, None
        if shift is not None:
            shift.close()

    def _is_paused(self, shift: OpenShift) -> bool:
        asked = shift.heartbeat.lease.pause
        if asked is not self._paused:
            self._paused = asked
            self._observe(PauseObeyed(asked))
        return asked is Pause.ALL


class Watchdog:
    """Says that a sweep hangs, and after as long again that the process should end."""

    def __init__(self, hang_after_seconds: float, observe: Observer) -> None:
        self._hang_after_seconds = hang_after_seconds
        self._observe = observe
        self._has_told = False

    def look(self, idle_seconds: float) -> bool:
        """Whether to give up: what hangs for so long does not come back.

        Ended, the process is started anew by whatever runs it, and its claims are taken
        over. Only the end of a process ends a thread that hangs in a system call.
        """
        if idle_seconds < self._hang_after_seconds:
            self._has_told = False
            return False
        if not self._has_told:
            self._has_told = True
            self._observe(SweepHangs(round(idle_seconds, 3), stacks()))
        if idle_seconds < 2 * self._hang_after_seconds:
            return False
        self._observe(WorkerGivesUp(round(idle_seconds, 3)))
        return True


def stacks() -> Mapping[str, str]:
    """Where each thread is now, innermost first: files, lines and functions, no values."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return {
        names.get(ident, str(ident)): _stack(frame)
        for ident, frame in sys._current_frames().items()  # noqa: SLF001  # the only way
    }


def _stack(frame: FrameType) -> str:
    shown = [
        f"{Path(it.filename).name}:{it.lineno} {it.name}"
        for it in traceback.extract_stack(frame, limit=_FRAMES_SHOWN)
    ]
    return " < ".join(reversed(shown))
