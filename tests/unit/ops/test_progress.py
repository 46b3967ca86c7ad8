"""What the progress bar says, and that threads may speak to it."""

from __future__ import annotations

import io
import threading
from dataclasses import replace

from rich.console import Console

from archiver.events import (
    BacklogCounted,
    CandidatesClaimed,
    Event,
    ObjectArchived,
    ObjectParked,
    ObjectReleased,
    SweepStarted,
    WidthChanged,
)
from archiver.model import Outcome, SourceName
from archiver.ops.progress import ProgressObserver, Tally
from tests.fakes.clock import ManualClock
from tests.unit.ops.test_logs import CLAIM, RECEIPT, SOURCE

ARCHIVED = ObjectArchived(replace(RECEIPT, size_bytes=1024**2), was_there=False)


def _tally(*events: Event, seconds_each: float = 1.0) -> tuple[Tally, float]:
    tally, now = Tally(0.0), 0.0
    for event in events:
        now += seconds_each
        tally.count(event, now)
    return tally, now


def test_rates_and_the_time_left_follow_from_what_was_done() -> None:
    started = (BacklogCounted(SOURCE, 1_010), SweepStarted(SOURCE, 1, release=True))
    tally, now = _tally(*started, *[ARCHIVED] * 18, seconds_each=0.5)

    assert tally.told(now) == ("18/1,010 objects  2/s  1.8 MiB/s  9 min 11 s left  0 released")


def test_without_a_backlog_no_end_is_promised() -> None:
    tally, now = _tally(SweepStarted(SOURCE, 1, release=True), ARCHIVED)
    assert tally.total_count is None
    assert "left" not in tally.told(now)


def test_a_backlog_that_was_too_small_grows() -> None:
    tally, _ = _tally(
        BacklogCounted(SOURCE, 1),
        SweepStarted(SOURCE, 1, release=True),
        CandidatesClaimed(SOURCE, candidates_count=5, parked_count=0),
    )
    assert tally.total_count == 5


def test_a_second_source_is_counted_on_top() -> None:
    other = SourceName("avatars")
    counted = (BacklogCounted(SOURCE, 1), BacklogCounted(other, 4))
    first = (SweepStarted(SOURCE, 1, release=True), ARCHIVED)
    tally, _ = _tally(*counted, *first, SweepStarted(other, 1, release=True))
    assert (tally.description, tally.done_count, tally.total_count) == ("avatars", 1, 5)


def test_how_many_are_moved_at_once_is_told_once_it_has_changed() -> None:
    tally, now = _tally(SweepStarted(SOURCE, "auto", release=True))
    assert "at once" not in tally.told(now)

    tally.count(WidthChanged(SOURCE, 16, 32, "grows"), now)

    assert "32 at once  0 released" in tally.told(now)


def test_released_and_parked_are_told() -> None:
    replaced = ObjectReleased(RECEIPT, Outcome.REPLACED, None)
    released = ObjectReleased(RECEIPT, Outcome.RELEASED, None)
    tally, now = _tally(replaced, released, ObjectParked(CLAIM, "too large"))
    assert tally.told(now).endswith("1 released  1 parked")


def test_no_rate_is_made_up_before_time_has_passed() -> None:
    tally, now = _tally(ARCHIVED, seconds_each=0.0)
    assert "0/s" in tally.told(now)


def test_threads_lose_no_count_and_lines_stand_whole_above_the_bar() -> None:
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=100)
    with ProgressObserver(console, ManualClock()) as observe:

        def archive_fifty() -> None:
            for _ in range(50):
                observe(ARCHIVED)

        threads = [threading.Thread(target=archive_fifty) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        observe.write_line("warning [not markup] " + "x" * 200 + "\n")

    assert observe._tally.done_count == 200
    assert "warning [not markup] " + "x" * 200 in written.getvalue()
