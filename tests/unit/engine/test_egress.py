"""A budget for what is read of stores that charge for it: kept, shared, in nobody's way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from archiver import events
from archiver.engine.egress import FREE, Allowance, Egress
from archiver.errors import LedgerUnavailable, NoEgressLeft
from archiver.model import EgressBudget, Evidence
from tests.fakes.faults import unavailable
from tests.fakes.pool import SteppingPool
from tests.fakes.table_source import page
from tests.unit.engine.world import World, at, body_of, ids, raising

if TYPE_CHECKING:
    from archiver.model import Summary

SEEDS = [0, 1, 2, 3]
SIZE = len(body_of(b"000"))  # of every object here
WINDOW_SECONDS = 86400.0


def world_with(objects: float, *, cold_counts: bool = False, **world: Any) -> World:
    """A world whose budget has room for so many of its objects."""
    made = World(**world)
    made.budget = EgressBudget(round(objects * SIZE), WINDOW_SECONDS)
    made.cold_counts = cold_counts
    return made


class Died(BaseException):
    """The process is gone."""


def ended(summary: Summary) -> tuple[str, str | None, int, int]:
    return summary.state, summary.stopped, summary.archived, summary.released


# --- the allowance --------------------------------------------------------------------------


def test_what_was_taken_and_not_read_goes_back() -> None:
    egress = Egress(Allowance(), hot_counts=True, cold_counts=True)
    egress.allowance.fill(100)

    with egress.taken("a/b", hot_bytes=30, cold_bytes=30) as taken:
        assert egress.allowance.left_bytes == 40
        taken.reads_hot(30)

    assert egress.allowance.left_bytes == 70


def test_a_read_that_was_not_foreseen_is_a_debt() -> None:
    egress = Egress(Allowance(), hot_counts=True, cold_counts=True)
    egress.allowance.fill(30)

    with egress.taken("a/b", hot_bytes=30) as taken:
        taken.reads_hot(30)
        taken.reads_cold(30)

    assert egress.allowance.empty() == -30
    assert egress.allowance.left_bytes == 0


def test_who_finds_too_little_is_not_passed_by_smaller_ones() -> None:
    egress = Egress(Allowance(), hot_counts=True, cold_counts=False)
    egress.allowance.fill(50)
    with pytest.raises(NoEgressLeft, match="size_bytes=60"), egress.taken("a", hot_bytes=60):
        pytest.fail("nothing may be read")
    with pytest.raises(NoEgressLeft), egress.taken("b", hot_bytes=1):
        pytest.fail("nothing may be read")
    egress.allowance.fill(0)
    with egress.taken("b", hot_bytes=1):
        assert egress.allowance.left_bytes == 49


def test_stores_that_charge_nothing_need_no_room() -> None:
    only_hot = Egress(Allowance(), hot_counts=True, cold_counts=False)
    with only_hot.taken("a", cold_bytes=60) as taken:
        taken.reads_cold(60)
    with FREE.taken("a", hot_bytes=60, cold_bytes=60) as taken:
        taken.reads_hot(60)
    assert only_hot.allowance.left_bytes == FREE.allowance.left_bytes == 0


# --- sweeps ---------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_a_sweep_stops_at_its_budget_and_goes_on_when_the_window_has_moved(seed: int) -> None:
    world = world_with(10, seed=seed)
    world.plant(*ids(25))

    assert ended(world.sweep()) == ("stopped", "budget", 10, 10)
    assert world.served_bytes == world.spent_bytes() == 10 * SIZE
    assert [] == world.held() + world.troubles()
    assert {} == world.claim_states()

    world.clock.advance(WINDOW_SECONDS + 301)
    assert ended(world.sweep()) == ("stopped", "budget", 10, 10)
    world.clock.advance(WINDOW_SECONDS + 301)
    assert ended(world.sweep()) == ("done", None, 5, 5)
    assert [] == world.pointing_ids + world.troubles()


def test_oldest_first_up_to_the_budget() -> None:
    world = world_with(3.5)
    world.plant(*ids(6))
    world.sweep()
    assert world.pointing_ids == ids(3, start=3)


def test_a_spent_budget_claims_nothing_and_says_so_once() -> None:
    world = world_with(5)
    world.plant(*ids(9))
    world.sweep()

    worker = world.worker()
    summary = worker.sweep()

    assert ended(summary) == ("stopped", "budget", 0, 0)
    assert len(worker.told(events.EgressBudgetSpent)) == 1
    assert not {"claims.claim", "hot.open", "hot.identify"} & set(worker.script.calls)
    assert worker.workshop.asked_count == 0
    assert worker.script.calls.count("spending.reserve") == 1


def test_what_has_no_room_is_not_claimed_by_each_sweep_and_said_once() -> None:
    world = world_with(5.5)
    world.plant(*ids(9))
    worker = world.worker()
    assert ended(worker.sweep()) == ("stopped", "budget", 5, 5)
    began = len(worker.script.calls)

    summary = worker.sweep()

    assert ended(summary) == ("stopped", "budget", 0, 0)
    assert "claims.claim" not in worker.script.calls[began:]
    assert len(worker.told(events.EgressBudgetSpent)) == 1
    assert type(worker.told(events.SweepEnded)[-1]) is events.IdleSweepEnded
    assert world.spent_bytes() == 5 * SIZE  # what the others could have is given back
    world.clock.advance(WINDOW_SECONDS + 301)
    later = world.worker()
    later.egress = worker.egress
    assert ended(later.sweep()) == ("done", None, 4, 4)


def test_the_canary_gets_the_room_that_is_too_small_for_a_move() -> None:
    world = world_with(3, cold_counts=True)
    world.plant("0", content=b"000")
    world.plant("1", content=bytes(range(30)))  # more than two of the other, not three
    worker = world.worker()
    assert ended(worker.sweep(release=False)) == ("stopped", "budget", 1, 0)
    assert ended(worker.sweep()) == ("stopped", "budget", 0, 1)


def test_what_a_sweep_did_not_read_is_there_for_the_next() -> None:
    world = world_with(1000)
    world.plant(*ids(4))
    assert ended(world.sweep()) == ("done", None, 4, 4)
    assert world.spent_bytes() == 4 * SIZE


def test_a_transaction_is_not_needed_for_every_object() -> None:
    world = World()
    world.budget = EgressBudget(1 << 40, WINDOW_SECONDS)
    world.plant(*ids(60))
    worker = world.worker()
    worker.sweep()
    assert worker.script.calls.count("spending.reserve") == 1
    assert worker.script.calls.count("spending.settle") == 1


def test_every_read_counts_those_of_retries_too() -> None:
    world = world_with(1000)
    world.plant(*ids(3))
    world.cold.faults.on("create", raise_=unavailable("cold", "create"), times=1)

    assert ended(world.sweep(retry_wait_seconds=60)) == ("done", None, 3, 3)

    assert world.served_bytes == world.spent_bytes() == 4 * SIZE


def test_what_fails_before_it_is_read_costs_nothing() -> None:
    world = world_with(1000)
    world.plant(*ids(3))
    world.hot.faults.on("open", raise_=unavailable("hot", "open"), times=2)
    world.sweep(retry_wait_seconds=60)
    assert world.served_bytes == world.spent_bytes() == 3 * SIZE


@pytest.mark.parametrize("seed", SEEDS)
def test_two_workers_share_one_budget(seed: int) -> None:
    """The second sweeps whole in the middle of the first's."""
    world = world_with(12, seed=seed)
    world.plant(*ids(90))
    one, other = world.worker(), world.worker(seed + 1)
    archived: list[int] = []
    small = {"concurrency": 1, "batch_size": 5}
    one.script.on(
        "open.read", before=lambda: archived.append(other.sweep(**small).archived), skip=4
    )

    archived.append(one.sweep(**small).archived)

    assert sum(archived) == 12
    assert all(archived)
    assert world.served_bytes == world.spent_bytes() == 12 * SIZE
    assert [] == world.troubles()


def test_what_a_dead_worker_had_reserved_counts_as_spent() -> None:
    world = world_with(128)  # blocks of two objects
    world.plant(*ids(20))
    worker = world.worker()
    worker.script.on("open.read", before=raising(Died), skip=4)
    with pytest.raises(Died):
        worker.sweep()
    worker.stop_beating()

    assert world.served_bytes <= world.spent_bytes() <= world.served_bytes + 8 * SIZE
    world.outlive_leases()
    world.sweep()
    assert [] == world.pointing_ids + world.troubles()


def test_an_answer_of_the_ledger_that_is_lost_is_on_the_safe_side() -> None:
    def lost() -> None:
        raise LedgerUnavailable(operation="reserve", message="scripted")

    world = world_with(64)
    world.plant(*ids(5))
    worker = world.worker()
    worker.script.on("spending.reserve", after=lost)
    worker.script.on("spending.settle", before=lost)

    assert ended(worker.sweep()) == ("done", None, 5, 5)
    assert world.served_bytes == 5 * SIZE <= world.spent_bytes()


def test_after_a_signal_what_is_left_is_given_back() -> None:
    world = world_with(1000)
    world.plant(*ids(20))
    worker = world.worker()
    worker.script.on("hot.open", before=lambda: worker.stop.request("signal"), skip=5)
    assert worker.sweep().stopped == "signal"
    assert world.served_bytes == world.spent_bytes()
    assert [] == world.held()


# --- large ones -----------------------------------------------------------------------------


def large(times: int) -> bytes:
    """Content whose stored body is about so many times as large as the others'."""
    return bytes((n * n * 31 + n // 7) % 251 for n in range(times * SIZE))


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_larger_than_the_whole_budget_is_passed_over_and_told(seed: int) -> None:
    world = world_with(8, seed=seed)
    world.plant("000", content=large(20))
    world.plant(*ids(6, start=1))
    worker = world.worker()

    summary = worker.sweep()

    assert ended(summary) == ("stopped", "budget", 6, 6)
    assert summary.is_clean
    (told,) = worker.told(events.ObjectOverBudget)
    assert told.where == str(at("000"))
    assert told.size_bytes > told.limit_bytes == 8 * SIZE
    assert world.pointing_ids == ["000"]
    assert [] == world.held() + world.troubles()
    assert {} == world.claim_states()


def test_a_window_full_of_such_objects_ends_the_sweep() -> None:
    world = world_with(2)
    world.plant(*ids(12), content=large(20))
    assert ended(world.sweep(batch_size=5)) == ("stopped", "budget", 0, 0)
    assert [] == world.held() + world.troubles()


def test_a_large_object_waits_for_room_and_small_ones_do_not_take_it() -> None:
    world = world_with(30)
    world.plant("000", content=large(12))
    world.plant(*ids(60, start=1))
    fee = len(body_of(large(12)))
    assert 10 * SIZE < fee < 25 * SIZE
    world._ledger.spending.reserve(30 * SIZE - fee + 1, world.budget)  # type: ignore[arg-type]

    assert ended(world.sweep()) == ("stopped", "budget", 0, 0)
    assert world.served_bytes == 0
    world.clock.advance(WINDOW_SECONDS + 301)
    world.sweep()
    assert "000" not in world.pointing_ids


# --- the cold side --------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_the_readback_of_a_copy_is_paid_with_its_move(seed: int) -> None:
    world = world_with(11, cold_counts=True, seed=seed, evidence=Evidence.READBACK)
    world.plant(*ids(9))

    summary = world.sweep(release=False)

    assert ended(summary) == ("stopped", "budget", 5, 0)
    assert world.served_bytes == world.spent_bytes() == 10 * SIZE


@pytest.mark.parametrize("evidence", [Evidence.SIGNED, Evidence.READBACK], ids=str)
@pytest.mark.parametrize("room", [100.0, 1.0])
def test_a_copy_that_is_there_already_is_read_back_once_and_counted(
    evidence: Evidence, room: float
) -> None:
    """Room or not: refused, its hot bytes had been read for nothing, and would be again."""
    world = world_with(100, cold_counts=True, evidence=evidence)
    world.plant("000")
    worker = world.worker()
    worker.script.on("cold.create", after=raising(Died))
    with pytest.raises(Died):
        worker.sweep()
    worker.stop_beating()
    world.outlive_leases()
    before, room = world.served_bytes, room + (evidence is Evidence.READBACK)
    world.budget = EgressBudget(world.spent_bytes() + round(room * SIZE), WINDOW_SECONDS)
    spent_before = world.spent_bytes()

    assert world.sweep(release=False).archived == 1

    assert world.served_bytes - before == world.spent_bytes() - spent_before == 2 * SIZE


def test_the_canary_waits_for_room_and_comes_before_the_moves() -> None:
    world = world_with(4, cold_counts=True)
    world.plant(*ids(4))
    assert ended(world.sweep(release=False)) == ("done", None, 4, 0)
    world.plant(*ids(9, start=4))
    assert ended(world.sweep()) == ("stopped", "budget", 0, 0)
    assert [] == world.held()
    assert len(world.hot_ids) == 13

    world.clock.advance(WINDOW_SECONDS + 301)
    worker = world.worker()
    summary = worker.sweep()

    calls = worker.script.calls
    assert calls.index("releases.claim_release") < calls.index("claims.claim")
    assert (summary.stopped, summary.archived) == ("budget", 3)  # and the canary
    assert summary.released >= 4
    assert world.spent_bytes() == 4 * SIZE
    assert [] == world.troubles()


def test_the_canary_comes_before_the_moves_however_long_the_look_at_the_stamps_takes() -> None:
    world = world_with(4, cold_counts=True)
    world.plant(*ids(4))
    world.sweep(release=False)
    world.plant(*ids(9, start=4))
    world.clock.advance(WINDOW_SECONDS + 301)
    worker = world.worker()

    def whatever_else_there_is(count: int) -> int:
        return 0 if "cold.list" in worker.script.calls else count - 1

    worker.pool = SteppingPool(world.clock, whatever_else_there_is)
    summary = worker.sweep()

    assert (summary.stopped, summary.archived) == ("budget", 3)  # and the canary
    assert summary.released >= 4
    assert [] == world.troubles()


def test_deletes_that_need_no_read_go_on_when_the_budget_is_spent() -> None:
    world = world_with(4)
    world.plant(*ids(4))
    assert ended(world.sweep(release=False)) == ("done", None, 4, 0)
    world.plant("004")
    assert ended(world.sweep()) == ("stopped", "budget", 0, 4)
    assert world.hot_ids == ["004"]


def test_receipts_too_weak_for_today_are_read_as_far_as_the_budget_goes() -> None:
    world = world_with(1000, cold_counts=True)
    world.plant(*ids(8))
    world.sweep(release=False)
    world.evidence = Evidence.READBACK
    world.budget = EgressBudget(world.spent_bytes() + 4 * SIZE, WINDOW_SECONDS)

    assert ended(world.sweep()) == ("stopped", "budget", 0, 3)  # one went to the canary
    assert [] == world.held() + world.troubles()
    world.clock.advance(WINDOW_SECONDS + 301)
    assert ended(world.sweep()) == ("done", None, 0, 5)


def test_what_is_recovered_is_paid_as_well() -> None:
    world = world_with(3, cold_counts=True)
    world.plant(*ids(1))
    world.sweep(release=False)
    world.rows.plant(page("000"))
    world.lose_hot("000")
    world.plant("001")

    world.sweep(release=False)
    assert world.served_bytes == world.spent_bytes() == 3 * SIZE
    assert world.pointing_ids == []


def test_a_recovery_without_room_waits_and_is_no_failure() -> None:
    world = world_with(1, cold_counts=True)
    world.plant("000")
    world.sweep(release=False)
    world.rows.plant(page("000"))
    world.lose_hot("000")
    world.budget = EgressBudget(SIZE + SIZE // 2, WINDOW_SECONDS)

    summary = world.sweep(release=False)

    assert (summary.stopped, summary.is_clean) == ("budget", True)
    assert {} == world.claim_states()
