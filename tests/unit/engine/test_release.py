"""Hot copies are let go of against receipts, after a look, and never otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from archiver import events
from archiver.errors import NotSent, ObjectFrozen, StoreDenied, StoreUnavailable
from archiver.model import Deleted, Evidence, Outcome
from tests.fakes.faults import denied, flipped, unavailable
from tests.fakes.stores import FakeColdStore
from tests.unit.engine.world import LEASE_SECONDS, World, at, body_of, ids

if TYPE_CHECKING:
    from archiver.model import ColdKey

SEEDS = [0, 1, 2, 3]


def archived(count: int, **world_words: float) -> World:
    """A world whose rows are all archived, their hot copies all due."""
    world = World(**world_words)  # type: ignore[arg-type]  # a test's own words
    world.plant(*ids(count))
    world.sweep(release=False)
    assert world.pointing_ids == []
    return world


def key_of(world: World, id_: str) -> ColdKey:
    return world.receipted_keys(id_)[-1]


# --- the canary -------------------------------------------------------------------------------


def test_a_canary_is_read_back_once_a_sweep_before_the_first_delete() -> None:
    world = archived(30)
    worker = world.worker()

    assert worker.sweep(release_group=10, release_slice=3).released == 30

    calls = [it for it in worker.script.calls if it in ("cold.readback", "hot.delete")]
    assert calls.index("cold.readback") == 0
    assert calls.count("cold.readback") == 1


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("what", ["denied", "mismatch", "missing"])
def test_a_canary_that_does_not_sing_is_fatal_and_nothing_is_deleted(
    seed: int, what: str
) -> None:
    world = archived(20, seed=seed)
    if what == "denied":
        world.cold.faults.on("readback", raise_=denied("readback"))
    elif what == "mismatch":
        world.cold.faults.on("readback", keep=flipped)
    else:
        for key in list(world.archived):
            world.cold.lose(key)
    worker = world.worker()

    summary = worker.sweep(retry_wait_seconds=60)

    assert (summary.state, summary.released) == ("fatal", 0)
    assert summary.error is not None
    assert "could not be read back" in summary.error
    assert world.hot.faults.calls["delete"] == 0
    assert world.hot_ids == ids(20)
    assert [] == world.held()


def test_a_frozen_canary_is_left_out_and_that_is_said() -> None:
    world = archived(20)
    frozen = ObjectFrozen(store="cold", operation="readback", where="cold/some-key")
    world.cold.faults.on("readback", raise_=frozen)
    worker = world.worker()

    assert worker.sweep().released == 20

    (said,) = worker.told(events.CanaryLeftOut)
    assert said.where == "cold/some-key"
    assert said.LEVEL == "warning"


def test_a_canary_that_gets_no_answer_is_tried_again() -> None:
    world = archived(5)
    world.cold.faults.on("readback", raise_=lambda: unavailable("cold", "readback"), times=2)

    summary = world.sweep(retry_wait_seconds=60)

    assert (summary.state, summary.released) == ("done", 5)
    assert [] == world.troubles()


def test_a_canary_that_never_gets_an_answer_leaves_every_hot_copy_waiting() -> None:
    world = archived(5)
    world.cold.faults.on("readback", raise_=lambda: unavailable("cold", "readback"), times=None)

    summary = world.sweep(retry_wait_seconds=10)

    assert (summary.state, summary.released, summary.pending_release) == ("done", 0, 5)
    assert world.hot_ids == ids(5)


# --- old receipts -----------------------------------------------------------------------------


def test_only_what_this_worker_has_just_proven_is_not_looked_at_again() -> None:
    world = World()
    world.plant(*ids(5))
    worker = world.worker()
    assert worker.sweep().released == 5
    assert worker.script.calls.count("cold.stat_many") == 1  # the proof itself

    world = archived(5)
    another = world.worker()
    assert another.sweep().released == 5
    assert another.script.calls.count("cold.stat_many") == 1

    world = World(grace_seconds=601)
    world.plant(*ids(5))
    patient = world.worker()
    assert patient.sweep(retry_wait_seconds=700.0).released == 5
    assert patient.script.calls.count("cold.stat_many") == 2


def test_a_long_grace_makes_no_receipt_fresh() -> None:
    world = archived(5, grace_seconds=90 * 86_400.0)
    world.plant("999", content=b"a longer page than the canary's")
    world.sweep(release=False)
    world.clock.advance(90 * 86_400.0 + 1)
    world.cold.lose(key_of(world, "999"))

    assert world.sweep().released == 5
    assert world.hot_ids == ["999"]


def test_a_copy_in_another_store_than_the_one_at_hand_keeps_its_hot_copy() -> None:
    world = archived(3)
    moved = FakeColdStore(bucket="another-bucket")
    for key, body in world.archived.items():
        moved.create(key, body, metadata={}, content_type=None, content_encoding=None)
    world.cold = moved

    summary = world.sweep()

    assert (summary.released, summary.parked) == (0, 3)
    assert len(world.hot_ids) == 3
    assert "another store" in world.parked_releases()["000"]


def test_evidence_demanded_since_then_holds_for_what_is_pending() -> None:
    world = archived(4)
    world.plant("999", content=b"a longer page than the canary's")
    world.sweep(release=False)
    world.cold.rot(key_of(world, "999"), b"a longer page than the canary!!")
    world.evidence = Evidence.READBACK

    assert world.sweep().released == 4
    assert world.hot_ids == ["999"]


@pytest.mark.parametrize("what", ["lost", "damaged"])
def test_a_hot_copy_stays_where_its_old_cold_copy_is_gone_or_changed(what: str) -> None:
    world = archived(5)
    world.plant("999", content=b"a longer page than the canary's")
    world.sweep(release=False)
    world.clock.advance(3601)
    if what == "lost":
        world.cold.lose(key_of(world, "999"))
    else:
        world.cold.damage(key_of(world, "999"), b"other bytes")
    worker = world.worker()

    summary = worker.sweep()

    assert (summary.released, summary.parked) == (5, 1)
    assert world.hot_ids == ["999"]
    assert "gone or changed" in world.parked_releases()["999"]
    assert [it.receipt.id for it in worker.told(events.ReleaseFailed)] == ["999"]


# --- the hot object is asked who it is --------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_g3_another_object_at_the_place_is_not_deleted(seed: int) -> None:
    world = archived(5, seed=seed)
    world.hot.plant(at("002"), b"somebody's newer bytes")
    worker = world.worker()

    summary = worker.sweep()

    assert (summary.released, summary.replaced) == (4, 1)
    assert world.hot.objects == {at("002"): b"somebody's newer bytes"}
    outcomes = {it[0].receipt.id: it[1] for it in world.tables.outcomes}
    assert outcomes["002"] is Outcome.REPLACED


def test_g3_the_same_bytes_put_there_again_are_another_object() -> None:
    world = archived(1)
    world.hot.plant(at("000"), body_of(b"000"))
    assert world.sweep().replaced == 1
    assert world.hot_ids == ["000"]


def test_g3_an_object_that_changes_after_it_was_asked_is_not_deleted() -> None:
    world = archived(3)
    worker = world.worker()
    worker.script.on("hot.delete", before=lambda: world.hot.plant(at("001"), b"newer"))

    summary = worker.sweep()

    assert (summary.released, summary.replaced) == (2, 1)
    assert world.hot.objects == {at("001"): b"newer"}


def test_a_row_that_points_there_again_ends_the_release_as_replaced() -> None:
    world = archived(3)
    world.capture_again("001", b"newer")

    summary = world.sweep()

    assert (summary.archived, summary.released) == (1, 3)
    ends = [it[1] for it in world.tables.outcomes if it[0].receipt.id == "001"]
    assert ends == [Outcome.REPLACED, Outcome.RELEASED]
    assert [] == world.hot_ids + world.pointing_ids + world.troubles()
    assert len(world.archived) == 4


def test_an_object_that_is_gone_already_counts_as_released() -> None:
    world = archived(3)
    world.hot.remove(at("001"))
    assert world.sweep().released == 3


def test_a_store_that_cannot_be_opened_for_releases_is_tried_again() -> None:
    world = archived(3)
    worker = world.worker()
    worker.workshop.refusal = unavailable("hot", "open")
    back_at = world.clock.monotonic() + 10

    def come_back() -> None:
        if world.clock.monotonic() >= back_at:
            worker.workshop.refusal = None

    worker.script.on("releases.claim_release", after=come_back, times=None)

    assert worker.sweep(retry_wait_seconds=60.0).released == 3


def test_a_store_that_stays_shut_leaves_the_releases_pending_and_says_so() -> None:
    world = archived(3)
    worker = world.worker()
    worker.workshop.refusal = unavailable("hot", "open")

    summary = worker.sweep(retry_wait_seconds=20.0)

    assert (summary.stopped, summary.released) == ("failures", 0)
    assert "store=hot" in (summary.error or "")
    assert [] == world.held()
    assert len(world.tables.releases) == 3


def test_an_absence_counts_only_in_a_bucket_that_is_proven_to_be_there() -> None:
    world = archived(3)
    world.hot.remove(at("001"))
    world.hot.faults.on(
        "probe", "pages", raise_=StoreDenied(store="hot", operation="probe", where="pages")
    )

    summary = world.sweep()

    assert (summary.state, summary.released) == ("fatal", 0)
    assert len(world.tables.releases) == 3
    world.hot.faults.verify_all_fired()


def test_a_missing_hot_bucket_is_no_proof_that_its_objects_were_released() -> None:
    world = archived(3)
    world.hot.remove_bucket("pages")

    summary = world.sweep()

    assert (summary.state, summary.released) == ("fatal", 0)
    assert [] == world.held()
    assert len(world.tables.releases) == 3


def test_a_recovered_receipt_never_deletes_what_came_back() -> None:
    world = archived(1)
    world.sweep()
    row = world.rows.row("000")
    world.capture_again("000", b"000")
    world.hot.remove(at("000"))
    world._lost.add(at("000"))
    assert row.cold_key is not None
    world.sweep(release=False)
    world.hot.plant(at("000"), body_of(b"000"))

    assert world.sweep().replaced == 1
    assert world.hot_ids == ["000"]


# --- the delete -------------------------------------------------------------------------------


def test_a_denied_delete_is_parked_and_holds_nobody_back() -> None:
    world = archived(5)
    world.hot.faults.on("delete", at("002"), answer=Deleted.DENIED)
    worker = world.worker()

    summary = worker.sweep()

    assert (summary.state, summary.released, summary.parked) == ("done", 4, 1)
    assert "refused the delete" in world.parked_releases()["002"]
    assert world.hot_ids == ["002"]


def test_credentials_that_may_not_delete_park_nothing() -> None:
    world = archived(5)
    for number in range(5):
        world.hot.faults.on("delete", at(f"{number:03}"), answer=Deleted.DENIED)

    refused = world.sweep()

    assert (refused.state, refused.released, refused.parked) == ("done", 0, 0)
    assert (refused.waiting, refused.is_clean) == (5, False)
    assert len(world.hot_ids) == 5
    world.clock.sleep(3600)
    assert world.sweep().released == 5


@pytest.mark.parametrize("seed", SEEDS)
def test_one_refused_object_does_not_hold_the_others_back(seed: int) -> None:
    world = archived(30, seed=seed)
    world.hot.faults.on(
        "identify", at("017"), raise_=lambda: denied("identify", "hot"), times=None
    )

    summary = world.sweep(release_slice=10)

    assert (summary.released, summary.parked) == (29, 1)
    assert list(world.parked_releases()) == ["017"]
    assert world.hot_ids == ["017"]


def test_in_a_bucket_that_is_hot_and_cold_at_once_nothing_is_deleted() -> None:
    """Receipts from before anybody saw it: any of these may be somebody's archived copy."""
    world = World()
    for id_ in ids(4):
        world.plant(id_, hot_path=f"new/{id_}.html.gz")
    world.plant("900")
    world.sweep(release=False)
    assert key_of(world, "900") == at("900").path
    world.shared_bucket = at("900").bucket

    summary = world.sweep(release_slice=5)

    assert (summary.released, summary.parked) == (0, 5)
    assert len(world.hot.objects) == 5


@pytest.mark.parametrize("seed", SEEDS)
def test_a_delete_whose_reply_is_lost_is_found_done_the_next_time(seed: int) -> None:
    world = archived(6, seed=seed)
    world.hot.faults.on(
        "delete", at("003"), lose_reply=lambda: unavailable("hot", "delete"), times=1
    )

    summary = world.sweep(retry_wait_seconds=60)

    assert summary.released == 6
    assert len(world.tables.outcomes) == 6
    assert [] == world.hot_ids + world.troubles()


def test_a_store_that_asks_for_a_pause_is_given_it() -> None:
    world = archived(3)
    slow = StoreUnavailable(
        store="hot", operation="identify", code="SlowDown", retry_after_seconds=30
    )
    world.hot.faults.on("identify", raise_=slow)

    assert world.sweep(retry_wait_seconds=20).released == 0
    world.clock.advance(30)
    assert world.sweep().released == 3


def test_a_delete_that_waits_until_its_lease_is_over_is_not_sent() -> None:
    """Its turn comes when the object may be another worker's: it must stay."""
    world = archived(3)
    worker = world.worker()

    def wait() -> None:
        worker.stop_beating()
        world.clock.advance(LEASE_SECONDS / 2 + 1)

    world.hot.wait_to_delete = wait
    summary = worker.sweep()

    assert (summary.state, summary.released) == ("fatal", 0)
    assert "lease ran out" in (summary.error or "")
    assert len(world.hot_ids) == 3
    assert world.hot.faults.calls["delete"] == 0


def test_a_delete_that_waited_long_is_not_sent_on_what_was_seen_before() -> None:
    """Meanwhile the object may have been overwritten, and its lease is kept all the while."""
    world = archived(3)
    world.hot._deletes_by_identity = False  # only our own look is between it and the delete
    waits = [LEASE_SECONDS / 2 + 1]

    def wait() -> None:
        if waits:
            world.clock.sleep(waits.pop())
            world.hot.plant(at("001"), b"newer")

    world.hot.wait_to_delete = wait
    summary = world.sweep()

    assert (summary.state, summary.released, summary.replaced) == ("done", 2, 1)
    assert world.hot.peek(at("001")) == b"newer"


def test_a_pause_between_two_looks_makes_the_first_one_old() -> None:
    world = archived(3)
    world.hot._deletes_by_identity = False

    def pause() -> None:
        world.clock.sleep(LEASE_SECONDS / 2 + 1)
        world.hot.plant(at("000"), b"newer")

    world.hot.faults.on("identify", at("002"), run=pause)
    summary = world.sweep()

    assert (summary.state, summary.released, summary.replaced) == ("done", 2, 1)
    assert world.hot.peek(at("000")) == b"newer"


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("operation", ["readback", "identify", "delete"])
def test_a_release_that_was_not_sent_is_as_due_as_before(seed: int, operation: str) -> None:
    world = archived(5, seed=seed)
    faults = world.cold.faults if operation == "readback" else world.hot.faults
    faults.on(operation, raise_=NotSent(store="hot", operation="wait", code="its turn"))
    worker = world.worker()

    summary = worker.sweep(release_slice=2)

    assert (summary.state, summary.released, summary.parked) == ("done", 5, 0)
    assert [] == worker.told(events.ReleaseFailed) + world.troubles()


def test_releases_do_not_wait_for_a_store_that_asks_for_more_than_our_patience() -> None:
    world = archived(5)
    paused = NotSent(store="hot", operation="wait", code="a pause", retry_after_seconds=3600)
    world.hot.faults.on("identify", raise_=lambda: paused, times=None)
    worker = world.worker()

    summary = worker.sweep(retry_wait_seconds=60)

    assert (summary.state, summary.stopped, summary.released) == ("stopped", "failures", 0)
    assert world.clock.monotonic() < 120
    assert [] == worker.told(events.ReleaseFailed) + world.held()
    assert len(world.tables.releases) == 5


def test_a_delete_is_not_begun_where_it_does_not_fit_in_the_lease() -> None:
    world = archived(3)
    worker = world.worker()

    def nearly_over() -> None:
        worker.stop_beating()
        world.clock.advance(LEASE_SECONDS / 2 + 1)

    worker.script.on("hot.identify", before=nearly_over)
    summary = worker.sweep()

    assert (summary.state, summary.released) == ("fatal", 0)
    assert world.hot.faults.calls["delete"] == 0
    assert world.hot_ids == ids(3)
    worker.leave()
    assert world.sweep().released == 3


def test_credentials_refused_by_the_hot_store_are_fatal_and_give_back() -> None:
    world = archived(3)
    refusal = StoreDenied(store="hot", operation="delete", where="pages", code="403")
    world.hot.faults.on("identify", raise_=refusal)

    summary = world.sweep()

    assert (summary.state, summary.released) == ("fatal", 0)
    assert {} == world.parked_releases()


def test_an_unproven_receipt_releases_nothing() -> None:
    world = archived(2)
    row = next(iter(world.tables.releases.values()))
    object.__setattr__(row.recorded.receipt, "evidence", Evidence.UNPROVEN)

    summary = world.sweep()

    assert (summary.released, summary.parked) == (1, 1)
    assert world.hot_ids == [row.recorded.receipt.id]


@pytest.mark.parametrize("seed", SEEDS)
def test_two_workers_release_each_hot_copy_once(seed: int) -> None:
    world = archived(20, seed=seed)
    first = world.worker()
    other = world.worker()
    first.script.on(
        "releases.claim_release", after=lambda: other.sweep(release_group=5), times=1
    )

    summary = first.sweep(release_group=8)

    assert summary.released == 8 or summary.released < 20
    assert len(world.tables.outcomes) == 20
    assert [] == world.hot_ids + world.troubles() + world.held()
