"""Events as a progress bar, for a person at a terminal."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Self

from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from rich.text import Text

from archiver.events import (
    BacklogCounted,
    CandidatesClaimed,
    Draining,
    HoldingRefused,
    ObjectAdopted,
    ObjectArchived,
    ObjectParked,
    ObjectReleased,
    ObjectSuperseded,
    SweepStarted,
    TakeoverStarted,
    WidthChanged,
)
from archiver.model import Outcome
from archiver.ops.human import bytes_text, count_text, seconds_text

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import Console

    from archiver.events import Event
    from archiver.protocols import Clock

_RATE_SECONDS = 30.0  # rates are over about so long: steady, and soon true again
_SAMPLE_SECONDS = 1.0


class ProgressObserver:
    """One bar for all sweeps of a run: done of total, rates, time left, released, parked.

    Any thread may call it. Use it as a context manager: the bar is drawn inside.
    """

    def __init__(self, console: Console, clock: Clock) -> None:
        self._clock = clock
        self._console = console
        self._tally = Tally(clock.monotonic())
        self._lock = threading.Lock()  # guards the tally
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[told]}"),
            console=console,
            transient=True,
            get_time=clock.monotonic,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._bar.add_task("starting", total=None, told="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def write_line(self, line: str) -> None:
        """Print a line above the bar."""
        self._console.print(Text(line.removesuffix("\n")), soft_wrap=True)

    def __call__(self, event: Event) -> None:
        now = self._clock.monotonic()
        with self._lock:
            self._tally.count(event, now)
            tally = self._tally
            description, done, total = tally.description, tally.done_count, tally.total_count
            told = tally.told(now)
        self._bar.update(
            self._task, description=description, completed=done, total=total, told=told
        )


class Tally:
    """What the bar says. Not safe between threads."""

    def __init__(self, now: float) -> None:
        self.description = "starting"
        self.done_count = 0
        self.total_count: int | None = None
        self._finished_count = 0  # of the sweeps before this one
        self._claimed_count = 0  # of this sweep
        self._done_bytes = 0
        self._released_count = 0
        self._parked_count = 0
        self._width: int | None = None  # None: fixed, or not yet another than at first
        self._refused_count = 0
        self._is_sweep = True  # else archived rows are adopted: nothing is let go
        self._samples: list[tuple[float, int, int]] = [(now, 0, 0)]

    def count(self, event: Event, now: float) -> None:
        match event:
            case SweepStarted():
                self.description = str(event.source)
                self._finished_count, self._claimed_count = self.done_count, 0
            case WidthChanged():
                self._width = event.after_count
            case BacklogCounted():  # of every source, before the first sweep
                self.total_count = (self.total_count or 0) + event.candidates_count
            case CandidatesClaimed():
                self._claimed_count += event.candidates_count
                self._parked_count += event.parked_count
            case ObjectArchived():
                self._done(event.receipt.size_bytes)
            case ObjectSuperseded():
                self._done(0)
            case ObjectParked():
                self._parked_count += 1
                self._done(0)
            case ObjectReleased(outcome=Outcome.RELEASED):
                self._released_count += 1
            case TakeoverStarted():
                self.description, self._is_sweep = f"adopting {event.source}", False
            case ObjectAdopted():
                self._done(event.adoption.size_bytes)
            case HoldingRefused():
                self._refused_count += 1
            case Draining():
                self.description = "finishing what is in flight; Ctrl-C again quits at once"
            case _:
                pass
        if self.total_count is not None:  # an estimate: rows may have come since
            claimed = self._finished_count + self._claimed_count
            self.total_count = max(self.total_count, self.done_count, claimed)
        self._sample(now)

    def told(self, now: float) -> str:
        """Counts, rates and the time left, as one line."""
        objects_rate, bytes_rate = self._rates(now)
        done = count_text(self.done_count)
        if self.total_count is not None:
            done = f"{done}/{count_text(self.total_count)}"
        parts = [f"{done} objects", f"{objects_rate:,.0f}/s", f"{bytes_text(bytes_rate)}/s"]
        if self.total_count is not None and objects_rate > 0:
            left_seconds = (self.total_count - self.done_count) / objects_rate
            parts.append(f"{seconds_text(left_seconds)} left")
        if self._width is not None:
            parts.append(f"{self._width} at once")
        if self._is_sweep:
            parts.append(f"{count_text(self._released_count)} released")
        if self._refused_count:
            parts.append(f"{count_text(self._refused_count)} not adopted")
        if self._parked_count:
            parts.append(f"{count_text(self._parked_count)} parked")
        return "  ".join(parts)

    def _done(self, size_bytes: int) -> None:
        self.done_count += 1
        self._done_bytes += size_bytes

    def _sample(self, now: float) -> None:
        if now - self._samples[-1][0] >= _SAMPLE_SECONDS:
            self._samples.append((now, self.done_count, self._done_bytes))
        while len(self._samples) > 1 and now - self._samples[1][0] >= _RATE_SECONDS:
            del self._samples[0]

    def _rates(self, now: float) -> tuple[float, float]:
        since, objects_count, bytes_count = self._samples[0]
        seconds = now - since
        if seconds <= 0:
            return 0.0, 0.0
        return (
            (self.done_count - objects_count) / seconds,
            (self._done_bytes - bytes_count) / seconds,
        )
