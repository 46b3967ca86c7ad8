"""Undo is hit before and after every call, and hits every call of a sweep, by enumeration."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from archiver.errors import LedgerUnavailable
from archiver.model import Evidence, UndoAnswer
from tests.faults.test_crash_matrix import (
    SEEDS,
    SMALL,
    Died,
    eventful_world,
    finish,
    is_hit,
    matrix,
    struck,
)
from tests.harness.crashes import Point
from tests.unit.engine.world import Script, World, ids

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.unit.engine.world import Worker

GRACE_SECONDS = 900.0
HOLD_SECONDS = 30.0  # shorter than a lease


def archived_world() -> World:
    """Some hot copies in their grace, some past it."""
    world = World(grace_seconds=GRACE_SECONDS)
    world.plant(*ids(3))
    world.sweep()
    world.clock.advance(GRACE_SECONDS + 1)
    world.plant(*ids(3, start=3))
    world.sweep(release=False)
    return world


def undo_points(*, rooms: tuple[str, ...]) -> Iterator[Point]:
    worker = archived_world().worker()
    worker.script = Script()  # it has joined
    worker.undo()
    for number, call in enumerate(worker.script.calls):
        if call.startswith(rooms):
            yield Point(number, is_after=False, call=call)
            yield Point(number, is_after=True, call=call)


def undo_struck(world: World, point: Point, what: Callable[[], object]) -> Worker:
    return struck(world, point, lambda _: what())


@pytest.mark.parametrize("error", [Died, LedgerUnavailable])
def test_an_undo_that_dies_anywhere_is_whole_groups_and_again_finishes_it(
    error: type[BaseException],
) -> None:
    def die() -> None:
        raise Died if error is Died else LedgerUnavailable(operation="undo", message="cut")

    points = list(undo_points(rooms=("hot", "releases")))
    for point in points:
        world = archived_world()
        worker = undo_struck(world, point, die)
        with pytest.raises(error):
            worker.undo(HOLD_SECONDS)
        assert [] == world.troubles(), point
        assert len(world.pointing_ids) % 2 == 0, point

        again = world.worker().undo(HOLD_SECONDS)

        assert all(answer.is_undone for answer in again.values()), point
        assert ids(6) == world.pointing_ids == world.hot_ids, point
        world.outlive_leases()
        world.clock.advance(GRACE_SECONDS)
        world.sweep(retry_wait_seconds=60, **SMALL)
        assert [] == world.troubles(), point
        assert [] == world.pointing_ids, point
    assert len(points) == 12


def test_another_workers_whole_sweep_fits_between_any_two_groups_of_an_undo() -> None:
    for point in undo_points(rooms=("releases",)):
        world = archived_world()

        def sweep(world: World = world) -> None:
            world.worker().sweep(**SMALL)
            assert [] == world.troubles()

        worker = undo_struck(world, point, sweep)
        answers = worker.undo(HOLD_SECONDS)

        assert is_hit(worker), point
        assert set(answers.values()) <= {UndoAnswer.UNDONE, UndoAnswer.RELEASED}, point
        undone = [id_ for id_, told in answers.items() if told is UndoAnswer.UNDONE]
        assert undone == world.pointing_ids, point
        assert [] == world.troubles(), point


@pytest.mark.parametrize("seed", SEEDS)
def test_an_undo_of_everything_fits_into_a_sweep_anywhere(seed: int) -> None:
    """What a worker holds it goes on to delete; all else points hot, and comes again later."""

    def strike(world: World, point: Point) -> Worker:
        told: dict[str, UndoAnswer] = {}

        def undo_all(_: Worker) -> None:
            told.update(world.worker().undo(HOLD_SECONDS))
            assert [] == world.troubles(), point

        worker = struck(world, point, undo_all)
        worker.sweep(retry_wait_seconds=20, **SMALL)
        assert [] == world.troubles(), point
        undone = {id_ for id_, answer in told.items() if answer is UndoAnswer.UNDONE}
        assert undone <= set(world.pointing_ids), point
        assert undone <= set(world.hot_ids), point
        worker.leave()
        finish(world)
        return worker

    count, wrong = matrix(eventful_world, seed, Evidence.SIGNED, strike)
    assert [] == wrong
    assert count > 100
