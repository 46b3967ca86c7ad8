"""Undo on the whole little world: rows, stores, a ledger, and workers beside it."""

from __future__ import annotations

from archiver.model import ClaimState, Pause, UndoAnswer
from tests.unit.engine.world import World, at, ids

HOLD_SECONDS = 30.0
GRACE_SECONDS = 900.0


def archived(count: int) -> World:
    """Pages that are cold, whose hot copies are in their grace."""
    world = World(grace_seconds=GRACE_SECONDS)
    world.plant(*ids(count))
    world.sweep()
    assert [] == world.pointing_ids
    return world


def test_rows_point_at_their_hot_copies_again_which_then_stay() -> None:
    world = archived(5)

    answers = world.worker().undo()

    assert answers == dict.fromkeys(ids(5), UndoAnswer.UNDONE)
    assert world.pointing_ids == ids(5)
    world.clock.advance(GRACE_SECONDS + 1)
    world.worker().sweep(max_objects=0)
    assert world.hot_ids == ids(5)
    assert [] == world.troubles()


def test_no_sweep_takes_them_for_so_long_and_then_one_does() -> None:
    world = archived(3)
    world.worker().undo(hold_seconds=HOLD_SECONDS)

    assert world.sweep().archived == 0
    assert world.claim_states() == dict.fromkeys(ids(3), ClaimState.HELD)
    world.clock.advance(HOLD_SECONDS)
    puts_count = len(world.cold.objects)
    assert world.sweep().archived == 3

    assert len(world.cold.objects) == puts_count  # the copies were there, and were proven
    assert [len(world.receipted_keys(id_)) for id_ in ids(3)] == [2, 2, 2]
    assert [] == world.pointing_ids
    assert [] == world.troubles()


def test_a_hot_copy_that_is_gone_or_another_is_not_pointed_at() -> None:
    world = archived(3)
    world.hot.remove(at("000"))
    world.hot.plant(at("001"), b"another")

    answers = world.worker().undo()

    assert answers == {
        "000": UndoAnswer.HOT_MISSING,
        "001": UndoAnswer.HOT_CHANGED,
        "002": UndoAnswer.UNDONE,
    }
    assert world.pointing_ids == ["002"]


def test_what_was_recovered_never_had_a_hot_copy() -> None:
    world = World(grace_seconds=GRACE_SECONDS)
    world.plant("000")
    world.sweep()
    world.worker().undo(hold_seconds=0)
    world.lose_hot("000")
    assert world.sweep().recovered == 1

    assert world.worker().undo() == {"000": UndoAnswer.HOT_MISSING}


def test_it_works_while_the_workers_are_paused() -> None:
    world = archived(2)
    world.worker().pause(Pause.ALL)

    assert set(world.worker().undo().values()) == {UndoAnswer.UNDONE}


def test_what_is_released_is_told_so() -> None:
    world = archived(2)
    world.clock.advance(GRACE_SECONDS + 1)
    world.sweep()

    assert world.worker().undo() == dict.fromkeys(ids(2), UndoAnswer.RELEASED)
    assert [] == world.troubles()
