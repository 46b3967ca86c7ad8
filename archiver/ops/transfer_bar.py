"""One object on its way, as a bar for a person at a terminal: bytes, rate, time left."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Self

from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from rich.text import Text

from archiver.ops.human import bytes_text, seconds_text

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import Console

    from archiver.protocols import Clock

_RATE_SECONDS = 30.0  # rates are over about so long: steady, and soon true again


class TransferBar:
    """Any thread may tell it. Use it as a context manager: the bar is drawn inside."""

    def __init__(self, console: Console, clock: Clock) -> None:
        self._clock = clock
        self._console = console
        self._lock = threading.Lock()  # guards the rate
        self._rate = Rate()
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

    def got(
        self, doing: str, done_bytes: int, size_bytes: int | None, *, moved_bytes: int
    ) -> None:
        """It has come so far. `moved_bytes`: of these, what this process transferred."""
        with self._lock:
            per_second = self._rate.at(self._clock.monotonic(), doing, moved_bytes)
        told = told_of(done_bytes, size_bytes, per_second)
        self._bar.update(
            self._task, description=doing, completed=done_bytes, total=size_bytes, told=told
        )


class Rate:
    """Bytes a second of the last seconds. Not safe between threads."""

    def __init__(self) -> None:
        self._doing: str | None = None
        self._samples: deque[tuple[float, int]] = deque()

    def at(self, now: float, doing: str, moved_bytes: int) -> float:
        if doing != self._doing:  # proving is not sending: it has a rate of its own
            self._doing = doing
            self._samples.clear()
        self._samples.append((now, moved_bytes))
        while len(self._samples) > 2 and now - self._samples[1][0] >= _RATE_SECONDS:  # noqa: PLR2004  # two make a rate
            self._samples.popleft()
        since, before_bytes = self._samples[0]
        return (moved_bytes - before_bytes) / (now - since) if now > since else 0.0


def told_of(done_bytes: int, size_bytes: int | None, per_second: float) -> str:
    """Bytes, rate and the time left, as one line."""
    size = "" if size_bytes is None else f" of {bytes_text(size_bytes)}"
    parts = [f"{bytes_text(done_bytes)}{size}", f"{bytes_text(per_second)}/s"]
    if size_bytes is not None and per_second > 0:
        parts.append(f"{seconds_text((size_bytes - done_bytes) / per_second)} left")
    return "  ".join(parts)
