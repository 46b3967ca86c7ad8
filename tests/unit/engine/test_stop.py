"""A wish to stop, and one that the clock makes."""

from __future__ import annotations

from archiver.engine.stop import Stop
from tests.fakes.clock import ManualClock


def test_the_first_reason_stays() -> None:
    stop = Stop()
    assert stop.reason is None
    stop.request("signal")
    stop.request("paused")
    assert stop.reason == "signal"


def test_time_that_is_over_is_a_reason_and_not_one_for_the_wider_wish() -> None:
    clock, wider = ManualClock(), Stop()
    stop = wider.within(60, clock)

    clock.advance(59)
    assert stop.reason is None
    clock.advance(1)
    assert (stop.reason, wider.reason) == ("duration", None)
    wider.request("signal")
    assert stop.reason == "duration"


def test_a_wider_wish_comes_first_and_the_shortest_time_ends_first() -> None:
    clock, wider = ManualClock(), Stop()
    stop = wider.within(60, clock).within(600, clock)

    assert stop.reason is None
    wider.request("signal")
    assert stop.reason == "signal"
    assert Stop().within(60, clock).within(600, clock).reason is None
    short = Stop().within(60, clock).within(600, clock)
    clock.advance(60)
    assert short.reason == "duration"
