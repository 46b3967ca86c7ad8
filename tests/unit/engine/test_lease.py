from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from archiver.engine.lease import Heartbeat
from archiver.errors import LeaseLost, LedgerDenied, LedgerUnavailable
from archiver.model import Lease, WorkerId
from tests.fakes.clock import ManualClock

if TYPE_CHECKING:
    from collections.abc import Callable


class FleetOf:
    """The part of a fleet that a heartbeat needs; what a beat does is the test's."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self.beat: Callable[..., Lease] = self.join

    def join(self, **_idle: float) -> Lease:
        return Lease(WorkerId(7), 1, self._clock.monotonic() + 60, 60)


def raising(error: Exception) -> Callable[..., Lease]:
    def beat(**_idle: float) -> Lease:
        raise error

    return beat


def test_a_beat_extends_the_lease_and_without_one_it_runs_out() -> None:
    clock = ManualClock()
    heartbeat = Heartbeat(FleetOf(clock), clock)  # type: ignore[arg-type]  # join and beat are all it calls
    clock.advance(59)
    heartbeat.beat()
    clock.advance(59)
    heartbeat.require()

    clock.advance(1)
    with pytest.raises(LeaseLost):
        heartbeat.require()


def test_what_is_begun_must_fit_into_what_is_left() -> None:
    clock = ManualClock()
    heartbeat = Heartbeat(FleetOf(clock), clock)  # type: ignore[arg-type]  # as above
    clock.advance(31)

    heartbeat.require(28)
    with pytest.raises(LeaseLost):
        heartbeat.require(30)


@pytest.mark.parametrize(
    ("error", "is_lost"),
    [
        (LedgerUnavailable(operation="beat", message="gone"), False),
        (LeaseLost(worker=7), True),
        (LedgerDenied(operation="beat", message="no grants any more"), True),
    ],
)
def test_a_silent_database_only_lets_the_lease_run_on_and_a_refusal_ends_it(
    error: Exception, *, is_lost: bool
) -> None:
    clock = ManualClock()
    fleet = FleetOf(clock)
    heartbeat = Heartbeat(fleet, clock)  # type: ignore[arg-type]  # as above
    fleet.beat = raising(error)

    heartbeat.beat()

    if is_lost:
        with pytest.raises(LeaseLost):
            heartbeat.require()
    else:
        heartbeat.require()
