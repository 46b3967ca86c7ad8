"""The width finds the best by trying, against stores that are formulas; no wall clock."""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archiver.engine.width import MAX_WIDTH, AutoWidth, Change, FixedWidth

if TYPE_CHECKING:
    from collections.abc import Callable

    from archiver.engine.width import Width

LATENCIES = [0.010, 0.040, 0.160]  # [s] of a move: two round trips of 5, 20 and 80 ms
SETTLED_SECONDS = 30.0


@dataclass
class Store:
    """A move takes `latency_seconds`; longer where more move than `capacity` lets through."""

    latency_seconds: float
    capacity: float = 700.0  # moves a second
    contention: float = 0.0  # of the capacity lost, where a hundred move at once
    throttles_above: int = 10_000  # in flight
    noise: float = 0.1

    def seconds(self, in_flight: int, chance: random.Random) -> float:
        capacity = self.capacity / (1 + self.contention * in_flight / 100)
        seconds = max(self.latency_seconds, in_flight / capacity)
        return seconds * chance.uniform(1 - self.noise, 1 + self.noise)


class Simulation:
    """A sweep with always enough to do, as fast as the processor counts."""

    def __init__(self, width: Width, store: Store, seed: int = 0) -> None:
        self.width = width
        self.store = store
        self.now = 0.0
        self.changes: list[tuple[float, Change]] = []
        self.throttled_count = 0
        self._chance = random.Random(seed)  # noqa: S311  # noise, no secret
        self._in_flight: list[tuple[float, int, bool]] = []  # ends at; number; throttled
        self._number = 0

    def run(self, seconds: float) -> float:
        """Moves a second that succeeded, of these seconds."""
        until, done_count = self.now + seconds, 0
        while self.now < until:
            while len(self._in_flight) < self.width.current:
                self._begin()
            self.now, _, is_throttled = heapq.heappop(self._in_flight)
            self.width.ended(self.now)
            change = None
            if is_throttled:
                self.throttled_count += 1
                change = self.width.throttled(self.now)
            else:
                done_count += 1
            self._note(change)
            self._note(self.width.look(self.now, is_full=True))
        return done_count / seconds

    def _begin(self) -> None:
        count = len(self._in_flight) + 1
        seconds = self.store.seconds(count, self._chance)
        is_throttled = count > self.store.throttles_above
        self._number += 1
        heapq.heappush(self._in_flight, (self.now + seconds, self._number, is_throttled))

    def _note(self, change: Change | None) -> None:
        if change is not None:
            self.changes.append((self.now, change))
            assert change.after == self.width.current != change.before


def best_fixed(store: Callable[[], Store]) -> float:
    widths = (4, 8, 16, 32, 64, 128, 256)
    return max(Simulation(FixedWidth(width), store()).run(10) for width in widths)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("contention", [0.0, 0.3])
@pytest.mark.parametrize("latency_seconds", LATENCIES)
def test_once_settled_it_is_nearly_as_fast_as_the_best_fixed_width(
    latency_seconds: float, contention: float, seed: int
) -> None:
    def store() -> Store:
        return Store(latency_seconds, contention=contention)

    auto = Simulation(AutoWidth(), store(), seed)
    auto.run(SETTLED_SECONDS)

    assert auto.run(30) >= 0.85 * best_fixed(store)


def test_it_doubles_while_that_brings_more_and_takes_the_last_one_back() -> None:
    auto = Simulation(AutoWidth(), Store(0.1, capacity=600, noise=0.0))  # enough: 60

    auto.run(8)

    assert [change.after for _, change in auto.changes][:4] == [32, 64, 128, 64]
    assert [change.why for _, change in auto.changes][:4] == ["grows"] * 3 + ["no gain"]


def test_a_store_that_a_few_keep_busy_is_not_asked_by_many() -> None:
    """A directory, or a link that is full: more at once bring nothing."""
    auto = Simulation(AutoWidth(), Store(0.01, capacity=300))  # enough: 3

    auto.run(120)

    assert auto.width.current < 16


@pytest.mark.parametrize(("before", "after"), [(0.01, 0.2), (0.2, 0.01)])
def test_a_wire_that_changes_is_followed(before: float, after: float) -> None:
    auto = Simulation(AutoWidth(), Store(before))
    auto.run(60)
    auto.store = Store(after)

    auto.run(SETTLED_SECONDS)

    assert auto.run(30) >= 0.85 * best_fixed(lambda: Store(after))


def test_a_narrower_width_that_does_as_well_by_chance_is_not_believed() -> None:
    """Else a machine that is busy at times leads it down, step by step."""
    auto, now, changes = AutoWidth(), 0.0, list[Change]()
    while now < 60:
        trials_count = sum(change.after == 21 for change in changes)
        is_lucky = auto.current == 21 and trials_count == 1
        now += 1 / (320 if is_lucky else 10 * min(auto.current, 32))
        auto.ended(now)
        if (change := auto.look(now, is_full=True)) is not None:
            changes.append(change)
    assert sum(change.after == 21 for change in changes) >= 2
    assert [it for it in changes if it.before == 21 and it.after != 32] == []
    assert [it for it in changes if it.before == 32 and it.why == "no gain"] == []


def test_objects_that_take_long_are_waited_for_before_anything_is_decided() -> None:
    auto = Simulation(AutoWidth(), Store(20.0, capacity=1.0))

    auto.run(600)

    changed_at = [0.0] + [at for at, _ in auto.changes]
    assert len(changed_at) > 3
    assert all(later - at > 20 for at, later in pairwise(changed_at))


def test_a_settled_width_is_left_alone_most_of_the_time() -> None:
    auto = Simulation(AutoWidth(), Store(0.04, noise=0.05))
    auto.run(120)
    settled_count = len(auto.changes)

    auto.run(120)

    assert len(auto.changes) - settled_count < 60  # trials go out and come back: two each


# --- throttling -----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("limit", [1, 3, 10, 50, 100])
def test_below_what_a_store_throttles_it_goes_on_at_full_speed(limit: int, seed: int) -> None:
    def store() -> Store:
        return Store(0.16, throttles_above=limit)

    auto = Simulation(AutoWidth(), store(), seed)
    auto.run(SETTLED_SECONDS)
    auto.throttled_count = 0

    rate = auto.run(120)

    assert rate >= 0.7 * Simulation(FixedWidth(limit), store()).run(30)
    assert auto.throttled_count <= 0.03 * 120 * rate


def test_all_that_was_under_way_together_halves_it_once() -> None:
    width = AutoWidth()
    changes = []
    for number in range(16):
        width.ended(number / 100)
        changes.append(width.throttled(number / 100))

    assert [change for change in changes if change] == [Change(16, 8, "throttled")]
    width.ended(1.0)
    assert width.throttled(1.0) == Change(8, 4, "throttled")


def test_one_at_a_time_is_the_narrowest_and_says_so() -> None:
    width = AutoWidth(first=2)
    width.throttled(0.0)
    assert (width.current, width.is_narrowest) == (1, False)  # two are still to come home

    for _ in range(2):
        width.ended(1.0)

    assert width.is_narrowest
    assert width.throttled(1.0) is None
    assert width.current == 1


def test_throttling_that_ended_is_forgotten() -> None:
    auto = Simulation(AutoWidth(), Store(0.16, throttles_above=10))
    auto.run(60)
    assert auto.width.current <= 10
    auto.store = Store(0.16)

    auto.run(600)

    assert auto.run(30) >= 0.85 * best_fixed(lambda: Store(0.16))


# --- always ---------------------------------------------------------------------------------


@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["home", "throttled", "full", "idle", "begin"]), st.floats(0, 5)
        ),
        max_size=300,
    ),
    first=st.integers(1, 20),
)
@settings(deadline=None)
def test_it_stays_within_its_bounds_whatever_happens(
    steps: list[tuple[str, float]], first: int
) -> None:
    width, now = AutoWidth(first=first, highest=20), 0.0
    for what, seconds in steps:
        now += seconds
        match what:
            case "home":
                for _ in range(20):
                    width.ended(now)
            case "throttled":
                before = width.current
                width.throttled(now)
                assert width.current <= before
            case "begin":
                width.begin()
            case _:
                width.look(now, is_full=what == "full")
        assert 1 <= width.current <= 20


def test_without_enough_to_do_nothing_is_changed() -> None:
    width = AutoWidth()
    for number in range(10_000):
        width.ended(number / 100)
        assert width.look(number / 100, is_full=number % 50 != 0) is None
    assert width.current == 16


def test_it_never_goes_beyond_what_a_process_has_files_for() -> None:
    auto = Simulation(AutoWidth(), Store(5.0, capacity=10_000))

    auto.run(300)

    assert auto.width.current == MAX_WIDTH


def test_a_number_fixes_it() -> None:
    fixed = Simulation(FixedWidth(12), Store(0.01, throttles_above=6))

    fixed.run(60)

    assert (fixed.width.current, fixed.changes) == (12, [])
    assert not fixed.width.is_narrowest
