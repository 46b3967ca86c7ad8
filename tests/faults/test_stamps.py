"""A restored or copied ledger releases nothing against a cold store that another uses (G10).

A copy is a world of its own, rows and ledger, on the first one's stores.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from archiver.engine.stamping import BELIEVED_SECONDS, Stamper
from archiver.errors import ForeignDatabase, LedgerDenied, StoreUnavailable
from archiver.events import ColdPlaceStamped
from archiver.model import ColdKey, DatabaseHome, FoundStamp, SourceName, Stamp
from tests.fakes.faults import denied, unavailable
from tests.fakes.stores import ENFORCES_ALL
from tests.fakes.table_source import START
from tests.unit.engine.world import World, ids, raising

if TYPE_CHECKING:
    from archiver.model import Summary

ENFORCES_NO_CREATE = replace(ENFORCES_ALL, enforces_create=False)
BOTH_KINDS = pytest.mark.parametrize(
    "capabilities", [ENFORCES_ALL, ENFORCES_NO_CREATE], ids=["create", "no create"]
)
FOREIGN = Stamp("other-ledger", SourceName("pages"), 1, 1, "nonce", START, "other")
A_DAY_SECONDS = 86_400.0


def copy_of(world: World, *, knows_stamps: bool = False) -> World:
    """Rows and ledger as they were before the first one archived anything.

    Or, if it knows the stamps, as they were after it stamped.
    """
    copy = World(capabilities=world.cold.capabilities)
    copy.hot, copy.cold = world.hot, world.cold
    if knows_stamps:
        copy.tables.stamps.update(world.tables.stamps)
    return copy


def stamps_in(world: World) -> list[str]:
    return [key.removeprefix(".archiver/stamps/pages/") for key in world.stamp_keys()]


def taken_over(world: World, *, is_interrupted: bool = False) -> int:
    """What `archiver ledger take-over` does; interrupted, the cold store is not told of it."""
    worker = world.worker()
    ledger = worker._ledger
    stamper, stamps = Stamper(world.cold, world.rows.name), ledger.stamps(world.rows.name)
    found = stamper.look(None)
    epoch = max((it.epoch for it in found.stamps if it is not None), default=0)
    place = stamper.place
    told = [FoundStamp(world.rows.name, place, found.number, epoch)]
    raised = ledger.fleet.take_over(told)
    intended = stamps.known(place).intended
    assert intended is not None
    if not is_interrupted:
        stamper.put(intended)
    return raised


def assert_refused(summary: Summary, why: str) -> None:
    assert (summary.state, summary.released) == ("fatal", 0)
    assert why in (summary.error or "")
    assert "archiver ledger take-over" in (summary.error or "")


def test_the_first_release_stamps_and_the_next_ones_only_look() -> None:
    world = World()
    world.plant(*ids(3))
    worker = world.worker()
    worker.sweep(release=False)
    assert stamps_in(world) == []

    worker.sweep()

    assert stamps_in(world) == ["0000000001"]
    assert [it.number for it in worker.told(ColdPlaceStamped)] == [1]
    assert "stamps.intend" in worker.script.calls
    assert worker.script.calls.index("cold.list") < worker.script.calls.index("cold.readback")
    assert worker.script.calls.index("cold.readback") < worker.script.calls.index("hot.delete")
    worker.leave()
    world.plant(*ids(3, start=3))
    world.sweep()
    assert (stamps_in(world), world.hot_ids) == (["0000000001"], [])
    world.clock.advance(A_DAY_SECONDS + 1)
    world.plant("006")
    world.sweep()
    assert stamps_in(world) == ["0000000001", "0000000002"]


def test_a_worker_looks_again_after_an_hour() -> None:
    world = World()
    worker = world.worker()
    looks = []
    for minutes, id_ in ((0, "001"), (50, "002"), (15, "003")):
        world.clock.sleep(minutes * 60)
        world.plant(id_)
        listed_count = worker.script.calls.count("cold.list")
        worker.sweep()
        looks.append(worker.script.calls.count("cold.list") > listed_count)
    assert BELIEVED_SECONDS == 3600
    assert looks == [True, False, True]
    assert world.hot_ids == []


@BOTH_KINDS
def test_a_copy_from_before_the_stamp_deletes_nothing(capabilities: object) -> None:
    world = World(capabilities=capabilities)  # type: ignore[arg-type]
    world.plant(*ids(3))
    world.sweep()
    copy = copy_of(world)
    copy.plant(*ids(3, start=10))

    assert_refused(copy.sweep(), "The ledger does not know its own stamp")

    assert len(copy.hot_ids) == 3
    assert [] == copy.troubles()


@BOTH_KINDS
def test_a_copy_that_takes_over_releases_and_the_other_one_is_refused(
    capabilities: object,
) -> None:
    world = World(capabilities=capabilities)  # type: ignore[arg-type]
    world.plant(*ids(3))
    world.sweep()
    copy = copy_of(world)
    copy.plant(*ids(3, start=10))
    copy.sweep()

    assert taken_over(copy) == 2

    copy.outlive_leases()
    assert copy.sweep().released == 3
    assert [] == copy.troubles()
    world.plant(*ids(3, start=20))
    assert_refused(world.sweep(), "The ledger does not know its own stamp")
    assert len(world.hot_ids) == 3
    # And back again: nobody is refused for ever.
    assert taken_over(world) == 3
    world.outlive_leases()
    assert world.sweep().released == 3
    copy.plant("030")
    assert_refused(copy.sweep(), "epoch 3")


def test_a_copy_from_after_the_days_stamp_is_not_refused_and_recovers_every_row() -> None:
    world = World()
    world.plant(*ids(3))
    world.sweep()
    copy = copy_of(world, knows_stamps=True)
    for row in ids(3):  # they point hot again, and what they point at is gone
        copy.plant(row)
        copy.lose_hot(row)

    summary = copy.sweep()

    assert (summary.state, summary.recovered, summary.parked) == ("done", 3, 0)
    assert [] == copy.troubles()
    assert len(copy.archived) == 3


@BOTH_KINDS
def test_of_two_twins_that_stamp_at_once_at_least_one_deletes_nothing(
    capabilities: object,
) -> None:
    """The other one has looked, found nothing, and is about to put its own."""
    world = World(capabilities=capabilities)  # type: ignore[arg-type]
    twin = copy_of(world)
    world.plant(*ids(3))
    twin.plant(*ids(3, start=10))
    worker = world.worker()
    released = []
    worker.script.on("stamps.intend", after=lambda: released.append(twin.sweep().released))

    assert_refused(worker.sweep(), "The ledger does not know its own stamp")

    assert released == [3]
    assert len(world.hot_ids) == 3
    if capabilities is ENFORCES_NO_CREATE:  # both lie there, so now nobody may
        twin.plant("020")
        assert_refused(twin.sweep(), "The ledger does not know its own stamp")
    assert [] == [*world.troubles(), *twin.troubles()]


@BOTH_KINDS
def test_two_workers_of_one_ledger_that_stamp_at_once_are_no_twins(
    capabilities: object,
) -> None:
    world = World(capabilities=capabilities)  # type: ignore[arg-type]
    besides = []

    def sweep_beside() -> None:
        other = world.worker()
        besides.append(other.sweep(max_objects=1).released)
        other.leave()

    calls = ["stamps.known", "cold.list", "stamps.known", "stamps.intend", "stamps.confirm"]
    for number, call in enumerate(calls):
        worker = world.worker()
        world.plant(*ids(3, start=10 * number))
        worker.script.on(call, before=sweep_beside, skip=call in calls[:number])
        assert worker.sweep(max_objects=2).error is None
        worker.leave()
        world.sweep()
        assert [] == [*world.troubles(), *world.hot_ids]
        world.clock.advance(A_DAY_SECONDS + 1)
    assert len(besides) == len(stamps_in(world)) == len(calls)


@BOTH_KINDS
def test_a_take_over_that_was_interrupted_is_finished_by_the_next_worker(
    capabilities: object,
) -> None:
    world = World(capabilities=capabilities)  # type: ignore[arg-type]
    world.plant("001")
    world.sweep()
    copy = copy_of(world)
    copy.plant("010")

    taken_over(copy, is_interrupted=True)

    assert (copy.sweep().released, len(stamps_in(copy))) == (1, 2)
    world.plant("020")
    assert_refused(world.sweep(), "The ledger does not know its own stamp")


def test_an_intent_settles_nothing_of_what_is_gone() -> None:
    world = World()
    world.plant("001")
    world.sweep()
    world.clock.advance(A_DAY_SECONDS + 1)
    worker = world.worker()
    assert worker._ledger.stamps(world.rows.name).intend(
        Stamper(world.cold, world.rows.name).place
    )
    worker.leave()
    (key,) = world.stamp_keys()
    world.cold.lose(key)
    world.plant("002")
    assert_refused(world.sweep(), "The stamp that this ledger left is not there")


def test_another_ledgers_stamp_is_told_as_that() -> None:
    world = World()
    world.plant("001")
    Stamper(world.cold, world.rows.name).put(FOREIGN)
    summary = world.sweep()
    assert_refused(summary, "Another ledger releases hot copies under this prefix")
    assert "other-ledger" in (summary.error or "")


def test_what_is_no_stamp_is_read_as_another_ones() -> None:
    world = World()
    world.plant("001")
    key = ColdKey(".archiver/stamps/pages/0000000007")
    world.cold.create(key, b"?", metadata={}, content_type=None, content_encoding=None)
    assert_refused(world.sweep(), "a stamp that cannot be read")


def test_a_stamp_that_lost_its_metadata_is_read_by_its_body() -> None:
    world = World()
    world.plant("001")
    world.sweep()
    (key,) = world.stamp_keys()
    body = world.cold.objects[key]
    world.cold.lose(key)
    world.cold.create(key, body, metadata={}, content_type=None, content_encoding=None)
    world.plant("002")
    assert world.sweep().released == 1


def test_an_emptied_cold_store_is_noticed_before_anything_is_deleted() -> None:
    world = World()
    world.plant("001")
    world.sweep()
    (key,) = world.stamp_keys()
    world.cold.lose(key)
    world.plant("002")
    assert_refused(world.sweep(), "The stamp that this ledger left is not there")
    assert world.hot_ids == ["002"]


def test_a_listing_that_leaves_out_a_stamp_is_no_proof_of_anything() -> None:
    world = World()
    world.plant("001")
    world.sweep()
    world.plant("002")
    with world.cold.faults as faults:
        faults.on("list", forget=True)
        summary = world.sweep(retry_wait_seconds=60)
    assert (summary.state, summary.released) == ("done", 1)
    with world.cold.faults as faults:  # nor is one that leaves out a stamp just put
        world.clock.advance(A_DAY_SECONDS + 1)
        faults.on("list", forget=True, times=None)
        stamper = Stamper(world.cold, world.rows.name)
        with pytest.raises(StoreUnavailable, match="incomplete"):
            stamper.put(replace(FOREIGN, number=9))


def test_a_store_that_takes_no_stamp_parks_nothing() -> None:
    world = World()
    world.plant("001")
    with world.cold.faults as faults:
        key = ColdKey(".archiver/stamps/pages/0000000001")
        faults.on("create", key, raise_=denied("create"))
        summary = world.sweep()
    assert (summary.state, summary.parked, world.hot_ids) == ("fatal", 0, ["001"])
    assert world.parked_releases() == {}
    assert world.sweep().released == 1


@pytest.mark.parametrize("call", ["stamps.known", "stamps.intend", "stamps.confirm"])
def test_a_ledger_that_denies_a_question_about_stamps_keeps_no_release(call: str) -> None:
    """After an upgrade whose grants are still missing; the worker goes on living."""
    world = World()
    world.plant("001")
    worker = world.worker()
    denial = LedgerDenied(operation=call, message="permission denied for table stamp")
    worker.script.on(call, before=raising(lambda: denial))

    summary = worker.sweep()

    assert (summary.state, summary.released, world.hot_ids) == ("fatal", 0, ["001"])
    assert worker.sweep().released == 1


def test_a_stamp_that_the_store_forgot_lets_nothing_go() -> None:
    world = World()
    world.plant("001")
    with world.cold.faults as faults:
        key = ColdKey(".archiver/stamps/pages/0000000001")
        faults.on("create", key, forget=True)
        summary = world.sweep()
    assert (summary.state, summary.released, world.hot_ids) == ("stopped", 0, ["001"])
    assert world.sweep().released == 1


def test_a_stamp_whose_answer_was_lost_is_found_to_be_ours() -> None:
    world = World()
    world.plant("001")
    with world.cold.faults as faults:
        key = ColdKey(".archiver/stamps/pages/0000000001")
        faults.on("create", key, lose_reply=unavailable("cold", "create"))
        assert world.sweep(retry_wait_seconds=60).released == 1
    assert stamps_in(world) == ["0000000001"]


def test_a_worker_from_before_a_take_over_deletes_nothing_more() -> None:
    world = World()
    world.plant(*ids(9))
    world.sweep(release=False)
    worker = world.worker()

    def take_over() -> None:
        taken_over(world)
        worker.heartbeat.beat()

    worker.script.on("releases.released", after=take_over)
    summary = worker.sweep(release_group=9, release_slice=3, concurrency=1)

    assert (summary.state, summary.released) == ("fatal", 3)
    assert "lease" in (summary.error or "")
    assert len(world.hot_ids) == 6
    worker.leave()
    world.outlive_leases()
    assert world.sweep().released == 6
    assert [] == [*world.troubles(), *world.hot_ids]


def test_a_stamp_of_a_worker_from_before_arrives_too_late_to_count() -> None:
    """It was recorded, then its put hung until the other ledger and a take-over were past."""
    world = World()
    late, place = world.worker(), Stamper(world.cold, world.rows.name).place
    stamp = late._ledger.stamps(world.rows.name).intend(place)
    assert stamp is not None
    taken_over(world)

    found = Stamper(world.cold, world.rows.name).put(stamp)

    assert (found.number, stamp.number) == (2, 1)
    late.leave()
    world.plant("001")
    assert world.sweep().released == 1


def test_a_ledger_in_another_database_has_no_workers() -> None:
    world = World()
    world.plant("001")
    world.tables.found_in = DatabaseHome("staging", 1)
    with pytest.raises(ForeignDatabase, match="staging"):
        world.worker()
    assert world.tables.workers == {}


@pytest.mark.parametrize("name", ["probe-create", "place", "stamps", "metadata", "temporary"])
def test_a_sources_stamps_lie_apart_whatever_its_name(name: str) -> None:
    stamper = Stamper(World().cold, SourceName(name))
    stamper.put(replace(FOREIGN, source=SourceName(name)))
    (key,) = (stat.key for stat in stamper.cold.list(""))
    assert key == f".archiver/stamps/{name}/0000000001"
