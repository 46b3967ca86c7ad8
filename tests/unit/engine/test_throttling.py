"""A store that throttles is asked less, and what it refused is nobody's fault."""

from __future__ import annotations

import pytest

from archiver import events
from archiver.engine.width import AutoWidth
from archiver.model import ClaimState
from tests.fakes.faults import throttled, unavailable
from tests.unit.engine.world import World, at, ids

SEEDS = range(5)
ONCE = 1  # attempts: one that counted would park its object


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("store", "operation"), [("hot", "open"), ("cold", "create")])
def test_a_throttled_move_is_narrowed_and_uses_up_no_attempt(
    seed: int, store: str, operation: str
) -> None:
    world = World(seed=seed, max_attempts=ONCE)
    world.plant(*ids(60))
    faults = world.hot.faults if store == "hot" else world.cold.faults
    for _ in range(10):  # now and then, so that the store is seen to answer
        faults.on(operation, raise_=lambda: throttled(store, operation))
        faults.on(operation, times=2)
    worker = world.worker()

    summary = worker.sweep(retry_wait_seconds=60, width=AutoWidth())

    assert (summary.state, summary.archived, summary.parked) == ("done", 60, 0)
    changes = worker.told(events.WidthChanged)
    assert (changes[0].before_count, changes[0].after_count) == (16, 8)
    assert {change.why for change in changes} == {"throttled"}
    assert [] == worker.told(events.ObjectParked) + world.troubles()


def test_a_throttled_object_waits_and_is_not_counted() -> None:
    world = World(max_attempts=ONCE)
    world.plant(*ids(3))
    world.hot.faults.on("open", at("001"), raise_=throttled("hot", "open"))
    worker = world.worker()

    summary = worker.sweep(retry_wait_seconds=0, concurrency=4)

    assert (summary.archived, summary.waiting, summary.parked) == (2, 1, 0)
    assert world.claim_states() == {"001": ClaimState.WAITING}
    assert world.attempts("001") == 0
    assert [] == worker.told(events.WidthChanged)  # a number fixes it


def test_throttling_does_not_count_for_the_failure_ratio() -> None:
    world = World()
    world.plant(*ids(200))
    for id_ in ids(200)[::2]:
        world.hot.faults.on("open", at(id_), raise_=throttled("hot", "open"))

    summary = world.sweep(max_failure_ratio=0.05, retry_wait_seconds=60)

    assert (summary.state, summary.stopped, summary.archived) == ("done", None, 200)


def test_a_throttled_proof_narrows_too() -> None:
    world = World(max_attempts=ONCE)
    world.plant(*ids(30))
    world.cold.faults.on("stat", raise_=throttled("cold", "stat"))
    worker = world.worker()

    summary = worker.sweep(retry_wait_seconds=60, width=AutoWidth())

    assert (summary.archived, summary.parked) == (30, 0)
    assert [it.why for it in worker.told(events.WidthChanged)] == ["throttled"]
    assert [] == world.troubles()


def test_a_narrow_width_proves_few_at_once() -> None:
    world = World()
    world.plant(*ids(40))
    worker = world.worker()
    asked: list[int] = []

    def count() -> None:
        calls = world.cold.faults.calls["stat"]
        asked.append(calls - sum(asked))

    worker.script.on("cold.stat_many", after=count, times=None)

    assert worker.sweep(width=AutoWidth(first=2), release=False).archived == 40

    assert max(asked) == 8


@pytest.mark.parametrize(("store", "operation"), [("hot", "delete"), ("cold", "readback")])
def test_a_throttled_release_narrows_too(store: str, operation: str) -> None:
    world = World(max_attempts=ONCE)
    world.plant(*ids(8))
    faults = world.hot.faults if store == "hot" else world.cold.faults
    faults.on(operation, raise_=throttled(store, operation))
    worker = world.worker()

    summary = worker.sweep(retry_wait_seconds=60, width=AutoWidth())

    assert (summary.archived, summary.released, summary.parked) == (8, 8, 0)
    assert [it.why for it in worker.told(events.WidthChanged)] == ["throttled"]


def test_a_store_that_throttles_even_one_at_a_time_is_left_alone_for_a_while() -> None:
    world = World(max_attempts=ONCE)
    world.plant(*ids(20))
    world.cold.faults.on("create", raise_=throttled("cold", "create"), times=3)
    worker = world.worker()

    summary = worker.sweep(retry_wait_seconds=60, width=AutoWidth(first=1))

    assert (summary.state, summary.archived, summary.parked) == ("done", 20, 0)
    assert [it.store for it in worker.told(events.BreakerOpened)] == ["cold"] * 3
    assert [] == world.troubles()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_store_that_only_throttles_ends_the_sweep_and_costs_nothing(seed: int) -> None:
    world = World(seed=seed, max_attempts=ONCE)
    world.plant(*ids(100))
    world.hot.faults.on("open", raise_=lambda: throttled("hot", "open"), times=None)
    world.hot.faults.on("probe", raise_=lambda: throttled("hot", "probe"), times=None)
    worker = world.worker()

    summary = worker.sweep(retry_wait_seconds=60, width=AutoWidth())

    assert (summary.stopped, summary.archived, summary.parked) == ("failures", 0, 0)
    assert {} == world.claim_states()


def test_what_one_sweep_found_the_next_begins_with() -> None:
    world = World()
    world.plant(*ids(30))
    world.cold.faults.on("create", raise_=throttled("cold", "create"))
    width = AutoWidth()
    worker = world.worker()
    worker.sweep(retry_wait_seconds=60, width=width)
    world.plant(*ids(30, start=50))

    assert worker.sweep(width=width).archived == 30

    assert width.current == worker.pool.width == 8


def test_a_sweep_moves_more_at_once_while_that_brings_more() -> None:
    world = World()
    world.plant(*ids(400))
    worker, width = world.worker(), AutoWidth()
    widths: list[int] = []

    def take() -> None:
        """As long as a move of a tenth of a second, of so many at once."""
        widths.append(worker.pool.width)
        world.clock.sleep(0.1 / width.current)

    worker.script.on("cold.create", before=take, times=None)

    assert worker.sweep(width=width, batch_size=100).archived == 400

    changes = worker.told(events.WidthChanged)
    assert [(it.before_count, it.after_count, it.why) for it in changes] == [(16, 32, "grows")]
    assert (widths[0], widths[-1]) == (16, 32)


def test_other_failures_change_no_width() -> None:
    world = World()
    world.plant(*ids(60))
    for id_ in ids(60)[::3]:
        world.hot.faults.on("open", at(id_), raise_=lambda: unavailable("hot", "open"))
    worker = world.worker()

    worker.sweep(retry_wait_seconds=60, width=AutoWidth())

    assert [] == worker.told(events.WidthChanged)
