"""What a run needs that goes on for a while: signals that stop it, and its log."""

from __future__ import annotations

import logging
import os
import signal
import sys
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from archiver.cli import exits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from archiver.cli.backstage import Backstage
    from archiver.config import Settings
    from archiver.engine.stop import Stop
    from archiver.events import Event
    from archiver.objects.pushing import Course
    from archiver.protocols import Observer


@contextmanager
def stopping_on_signals(stop: Stop) -> Iterator[None]:
    """SIGTERM and the first SIGINT ask to stop; the second SIGINT quits at once."""
    interrupts_count = 0

    def on_signal(number: int, _frame: FrameType | None) -> None:
        nonlocal interrupts_count
        interrupts_count += number == signal.SIGINT
        if interrupts_count > 1:
            os._exit(exits.ExitCode.INTERRUPTED)  # claims are taken over after one lease
        stop.request("signal")

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number in before:
        signal.signal(number, on_signal)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def observing(
    backstage: Backstage, settings: Settings, *, shows_progress: bool
) -> Iterator[Observer]:
    """On a terminal a progress bar with warnings above it, else log lines."""
    with (
        _libraries_silent(),
        _observing(backstage, settings, shows_progress=shows_progress) as observer,
    ):
        yield observer


@contextmanager
def transferring(
    backstage: Backstage, settings: Settings
) -> Iterator[tuple[Observer, Callable[[Course], object]]]:
    """For one object on its way: who is told of events, and who of how far it is.

    On a terminal a bar with warnings above it, else log lines.
    """
    from archiver.cli.paper import console  # noqa: PLC0415
    from archiver.ops.transfer_bar import TransferBar  # noqa: PLC0415

    is_watched = sys.stderr.isatty()
    with ExitStack() as held:
        held.enter_context(_libraries_silent())
        if not is_watched:
            yield _log(backstage, settings, _write_line, is_watched=False), lambda _: None
            return
        bar = held.enter_context(TransferBar(console(sys.stderr), backstage.clock))

        def tell(course: Course) -> None:
            moved_bytes = course.done_bytes - course.kept_bytes
            bar.got(course.doing, course.done_bytes, course.size_bytes, moved_bytes=moved_bytes)

        yield _log(backstage, settings, bar.write_line, is_watched=True), tell


@contextmanager
def _libraries_silent() -> Iterator[None]:
    """What they would write to stderr is no event of ours, and breaks a log of JSON lines.

    Where nobody has set up logging, Python shows their warnings there: "discarding closed
    connection" of the pool, "skipped" of the scheduler. Our events say the same.
    """
    nothing, root = logging.NullHandler(), logging.getLogger()
    root.addHandler(nothing)
    try:
        yield
    finally:
        root.removeHandler(nothing)


@contextmanager
def _observing(
    backstage: Backstage, settings: Settings, *, shows_progress: bool
) -> Iterator[Observer]:
    if not shows_progress:
        yield _log(backstage, settings, _write_line, is_watched=False)
        return
    from archiver.cli.paper import console  # noqa: PLC0415
    from archiver.ops.progress import ProgressObserver  # noqa: PLC0415

    with ExitStack() as drawn:
        progress = drawn.enter_context(ProgressObserver(console(sys.stderr), backstage.clock))
        log = _log(backstage, settings, progress.write_line, is_watched=True)

        def observe(event: Event) -> None:
            log(event)
            progress(event)

        yield observe


def _log(
    backstage: Backstage,
    settings: Settings,
    write: Callable[[str], None],
    *,
    is_watched: bool,
) -> Observer:
    """Events as lines; above a bar only warnings, unless another level is set."""
    from archiver.ops.logs import LogObserver  # noqa: PLC0415  # structlog: not for --help

    level_is_set = settings.seen["ARCHIVE_LOG_LEVEL"].origin != "default"
    return LogObserver(
        write,
        log_format=settings.log_format,
        level="warning" if is_watched and not level_is_set else settings.log_level,
        clock=backstage.clock,
        mask=settings.masked,
    )


def _write_line(line: str) -> None:
    sys.stderr.write(line)
    sys.stderr.flush()
