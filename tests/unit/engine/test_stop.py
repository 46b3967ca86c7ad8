"""A wish to stop, and one that the clock makes."""

from __future__ import annotations

from archiver.engine.stop import Stop
from tests.fakes.clock import ManualClock


def test_the_first_reason_stays() -> None:
    stop = Stop()
    stop.request("signal")
    stop.request("paused")
    assert stop.reason == "signal"


def reasons(*stops: Stop) -> list[str | None]:
    return [stop.reason for stop in stops]


def test_time_that_is_over_is_a_reason_and_not_one_for_the_wider_wish() -> None:
    clock, wider = ManualClock(), Stop()
    stop = wider.within(60, clock)

    clock.advance(59)
    assert reasons(stop) == [None]
    clock.advance(1)
    assert reasons(stop, wider) == ["duration", None]
    wider.request("signal")
    assert reasons(stop) == ["duration"]


def test_a_wider_wish_comes_first_and_the_shortest_time_ends_first() -> None:
    clock, wider = ManualClock(), Stop()
    nested = wider.within(60, clock).within(600, clock)
    other = Stop().within(600, clock).within(60, clock)

    assert reasons(nested, other) == [None, None]
    wider.request("signal")
    clock.advance(60)
    assert reasons(nested, other) == ["signal", "duration"]
