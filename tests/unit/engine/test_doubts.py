"""Whose fault is it: the object's, its bucket's, or the store's?"""

from __future__ import annotations

import gzip
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from archiver import events
from archiver.engine.failing import Failing
from archiver.errors import BucketMissing, StoreDenied, StoreFull
from archiver.model import ClaimState, HotLocation
from tests.fakes.faults import denied, unavailable
from tests.fakes.table_source import page
from tests.unit.engine.world import World, at, body_of, ids

if TYPE_CHECKING:
    from archiver.model import Claim, Summary

SEEDS = [0, 1, 2, 3]


def ended(summary: Summary) -> tuple[Any, ...]:
    return (summary.state, summary.stopped, summary.archived)


def refused_probe(world: World, bucket: str = "pages") -> None:
    error = StoreDenied(store="hot", operation="probe", where=bucket, code="403")
    world.hot.faults.on("probe", bucket, raise_=error)


def hot_down(world: World) -> None:
    world.hot.faults.on("open", raise_=lambda: unavailable("hot", "open"), times=None)
    world.hot.faults.on("probe", raise_=lambda: unavailable("hot", "probe"), times=None)


def hot_up(world: World) -> None:
    world.hot.faults._faults.clear()


# --- controls ---------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_a_missing_object_is_parked_once_its_bucket_is_proven(seed: int) -> None:
    world = World(seed=seed)
    world.plant(*ids(5))
    world.lose_hot("000")
    world.forget("000")

    summary = world.sweep()

    assert (*ended(summary), summary.parked) == ("done", None, 4, 1)
    assert world.pointing_ids == ["000"]  # never nulled for an object nobody can find
    assert world.claim_states() == {"000": ClaimState.PARKED}
    assert [] == world.troubles()


def test_a_missing_object_alone_is_judged_by_a_probe_of_its_bucket() -> None:
    world = World()
    world.plant("001")
    world.lose_hot("001")
    world.forget("001")

    assert world.sweep().parked == 1
    assert world.hot.faults.calls["probe"] == 1


@pytest.mark.parametrize("seed", SEEDS)
def test_h2_a_missing_object_that_cold_holds_is_recovered(seed: int) -> None:
    world = World(seed=seed)
    world.plant(*ids(4))
    world.sweep(release=False)
    world.rows.plant(*(page(id_, minutes=int(id_)) for id_ in ids(4)))  # from a backup
    world.lose_hot("002")
    worker = world.worker()

    summary = worker.sweep()

    assert (summary.archived, summary.recovered, summary.parked) == (4, 1, 0)
    assert [it.receipt.id for it in worker.told(events.ObjectRecovered)] == ["002"]
    assert [] == world.pointing_ids
    assert world.cold.peek(world.receipted_keys("002")[-1]) == body_of(b"002")


def test_a_recovery_is_no_control_and_costs_nothing_where_cold_is_denied() -> None:
    world = World()
    world.plant("001")
    world.lose_hot("001")
    world.forget("001")
    world.cold.faults.on("look", raise_=denied("look"))

    assert ended(world.sweep()) == ("fatal", None, 0)
    assert {} == world.claim_states()
    assert world.pointing_ids == ["001"]


def test_a_denied_object_is_parked_where_the_probe_succeeds() -> None:
    world = World()
    world.plant("001")
    world.hot.faults.on("open", at("001"), raise_=denied("open", "hot"))

    assert world.sweep().parked == 1
    assert "refuses this object" in (world.reasons()["001"] or "")
    assert world.hot_ids == ["001"]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_denied_probe_is_outweighed_by_another_object_that_could_be_read(seed: int) -> None:
    world = World(seed=seed)
    world.plant(*ids(6))
    world.hot.faults.on("open", at("000"), raise_=denied("open", "hot"))
    if seed == 0:
        refused_probe(world)

    summary = world.sweep(batch_size=2, concurrency=1)

    assert (*ended(summary), summary.parked) == ("done", None, 5, 1)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("what", ["missing", "denied"])
def test_where_nothing_proves_the_bucket_it_is_fatal_and_no_row_is_touched(
    seed: int, what: str
) -> None:
    world = World(seed=seed)
    world.plant(*ids(12))
    refused_probe(world)
    if what == "missing":
        for id_ in ids(12):
            world.lose_hot(id_)
            world.forget(id_)
    else:
        world.hot.faults.on("open", raise_=lambda: denied("open", "hot"), times=None)
    worker = world.worker()

    summary = worker.sweep()

    assert summary.state == "fatal"
    assert summary.error is not None
    assert "refuses these credentials" in summary.error
    assert len(worker.told(events.SweepFailed)) == 1
    assert {} == world.claim_states()
    assert world.pointing_ids == ids(12)


def test_a_missing_bucket_is_fatal_and_no_row_is_touched() -> None:
    world = World()
    world.plant(*ids(12))
    world.hot.remove_bucket("pages")
    for id_ in ids(12):
        world.forget(id_)
        world.lose_hot(id_)

    assert ended(world.sweep()) == ("fatal", None, 0)
    assert {} == world.claim_states()
    assert world.pointing_ids == ids(12)


def test_a_bucket_that_only_its_probe_calls_missing_is_fatal_too() -> None:
    world = World()
    world.plant(*ids(12))
    for id_ in ids(12):
        world.lose_hot(id_)
        world.forget(id_)
    world.hot.faults.on("probe", raise_=BucketMissing(store="hot", bucket="pages"))

    assert ended(world.sweep()) == ("fatal", None, 0)
    assert {} == world.claim_states()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("minutes", [-1, 900], ids=["oldest", "youngest"])
def test_a_row_that_names_a_missing_bucket_parks_alone(seed: int, minutes: int) -> None:
    """Another bucket is there, so it is the row that is wrong."""
    world = World(seed=seed)
    world.plant(*ids(5))
    world.rows.plant(replace(page("900", minutes=minutes), hot_bucket="no-such"))
    world._lost.add(HotLocation("no-such", "jobs/900.html.gz"))

    summary = world.sweep()

    assert (*ended(summary), summary.parked) == ("done", None, 5, 1)
    assert world.claim_states() == {"900": ClaimState.PARKED}
    assert "bucket=no-such" in (world.reasons()["900"] or "")
    assert [] == world.troubles()


def test_a_missing_bucket_that_only_its_probe_tells_of_parks_its_rows_alone() -> None:
    world = World()
    world.plant(*ids(5))
    at_other = HotLocation("other", "jobs/900.html.gz")
    world.put(replace(page("900", minutes=900), hot_bucket="other"), b"900")
    world.hot.remove(at_other)
    world._versions.pop(at_other)
    world._lost.add(at_other)
    missing = BucketMissing(store="hot", bucket="other")
    world.hot.faults.on("probe", "other", raise_=missing)

    summary = world.sweep()

    assert (*ended(summary), summary.parked) == ("done", None, 5, 1)
    assert "bucket=other" in (world.reasons()["900"] or "")


def test_each_bucket_needs_a_control_of_its_own() -> None:
    world = World()
    world.plant(*ids(5))
    other = replace(page("900", minutes=900), hot_bucket="other")
    world.put(other, b"900")
    world.hot.remove(HotLocation("other", "jobs/900.html.gz"))
    world._versions.pop(HotLocation("other", "jobs/900.html.gz"))
    world._lost.add(HotLocation("other", "jobs/900.html.gz"))
    refused_probe(world, "other")

    summary = world.sweep()

    assert (summary.state, summary.archived) == ("fatal", 5)
    assert {} == world.claim_states()


def test_suspects_whose_probe_gets_no_answer_are_given_back() -> None:
    world = World()
    world.plant("001")
    world.lose_hot("001")
    world.forget("001")
    world.hot.faults.on("probe", raise_=lambda: unavailable("hot", "probe"))

    summary = world.sweep(retry_wait_seconds=60)

    assert summary.parked == 1  # by the second probe
    world = World()
    world.plant("001")
    world.lose_hot("001")
    world.forget("001")
    world.hot.faults.on("probe", raise_=lambda: unavailable("hot", "probe"), times=None)
    assert ended(world.sweep(retry_wait_seconds=60)) == ("stopped", "failures", 0)
    assert {} == world.claim_states()


# --- breakers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_a_hot_store_that_is_down_costs_no_attempt(seed: int) -> None:
    world = World(seed=seed)
    world.plant(*ids(40))
    hot_down(world)
    worker = world.worker()

    summary = worker.sweep(retry_wait_seconds=60)

    assert ended(summary) == ("stopped", "failures", 0)
    assert summary.waiting == summary.parked == 0
    assert {} == world.claim_states()
    assert [] == world.held()
    assert worker.told(events.BreakerOpened)[0].store == "hot"


def test_without_patience_an_open_breaker_ends_the_sweep() -> None:
    world = World()
    world.plant(*ids(40))
    hot_down(world)
    worker = world.worker()
    assert ended(worker.sweep()) == ("stopped", "failures", 0)
    assert len(worker.told(events.BreakerOpened)) == 1
    assert {} == world.claim_states()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("seconds", [1.0, 5.0])
@pytest.mark.parametrize("count", [8, 20, 26, 27, 28, 60])
def test_a_hot_store_that_comes_back_within_the_patience_is_swept_to_the_end(
    seed: int, count: int, seconds: float
) -> None:
    world = World(seed=seed)
    world.plant(*ids(count))
    hot_down(world)
    worker = world.worker()
    end = world.clock.every(seconds, lambda: hot_up(world))

    summary = worker.sweep(retry_wait_seconds=60, batch_size=30)

    end()
    assert ended(summary) == ("done", None, count)
    assert summary.released == count
    assert [] == world.pointing_ids + world.hot_ids + world.held() + world.troubles()


def test_while_half_open_one_object_is_tried_at_a_time() -> None:
    world = World()
    world.plant(*ids(40))
    hot_down(world)
    worker = world.worker()

    worker.sweep(retry_wait_seconds=60)

    opened = worker.told(events.BreakerOpened)
    assert len(opened) == 5  # after 2, 4, 8, 16 seconds; the next would be too late
    assert worker.script.calls.count("hot.open") <= 8 + 1 + 4  # one beside the probe
    assert 2 + 4 + 8 + 16 <= world.clock.monotonic() < 2 + 4 + 8 + 16 + 5


class ProbeWithoutAnswer:
    """Every probe of a bucket fails at once, as the store does."""

    def __init__(self) -> None:
        self.failing: Failing | None = None

    def probe_bucket(self, bucket: str) -> None:
        assert self.failing is not None
        self.failing.bucket_is_refused(bucket, unavailable("hot", "probe"))

    def probe_cold(self, claim: Claim) -> None:
        pytest.fail(f"a row of failures decides alone: {claim}")

    def recover(self, claim: Claim) -> None:
        pytest.fail(f"nothing is missing: {claim}")


@pytest.mark.parametrize("store", ["hot", "cold"])
def test_stragglers_do_not_double_the_wait(store: str) -> None:
    """Objects sent before the breaker opened come home late, after its first wait."""
    world = World()
    world.plant(*ids(16))
    worker = world.worker()
    claims = worker._claims.claim(16).claims
    prober = ProbeWithoutAnswer()
    failing = prober.failing = Failing(worker.run(retry_wait_seconds=60), prober)
    for claim in claims[:8]:
        failing.failed(claim, unavailable(store, "any"))
    assert failing.breaker.is_open

    for claim in claims[8:]:
        world.clock.sleep(5)
        failing.failed(claim, unavailable(store, "any"))
    failing.flush(is_last=False)

    assert len(worker.told(events.BreakerOpened)) == 1
    assert failing.breaker.lets_one_through(world.clock.monotonic())
    assert {} == world.claim_states()  # all given back, uncounted


def test_what_was_not_begun_when_a_breaker_opened_is_not_sent() -> None:
    world = World()
    world.plant(*ids(40))
    world.cold.faults.on("create", raise_=lambda: unavailable("cold", "create"), times=None)
    world.sweep(retry_wait_seconds=60)
    assert world.cold.faults.calls["create"] == 8 + 4  # one at each trial


@pytest.mark.parametrize("seed", SEEDS)
def test_h5_more_bad_rows_at_the_head_than_a_batch_do_not_block_the_good_ones(
    seed: int,
) -> None:
    world = World(seed=seed)
    world.plant(*ids(60))
    for id_ in ids(35):
        world.hot.faults.on(
            "open", at(id_), raise_=lambda: unavailable("hot", "open"), times=None
        )

    summary = world.sweep(batch_size=10)

    assert (*ended(summary), summary.waiting) == ("done", None, 25, 35)
    assert world.pointing_ids == ids(35)
    assert {world.attempts(id_) for id_ in ids(35)} == {1}
    assert [] == world.troubles()


@pytest.mark.parametrize("seed", SEEDS)
def test_h5_bad_rows_at_the_head_do_not_keep_a_breaker_open(seed: int) -> None:
    """Hot was down a moment; the rows that are tried first fail by themselves."""
    world = World(seed=seed)
    world.plant(*ids(40))
    hot_down(world)
    worker = world.worker()

    def back_but_for_the_head() -> None:
        hot_up(world)
        for id_ in ids(12):
            world.hot.faults.on(
                "open", at(id_), raise_=lambda: unavailable("hot", "open"), times=None
            )

    end = world.clock.every(1000.0, lambda: None)
    world.clock._beats[-1][0] = 1.0
    world.clock._beats[-1][2] = back_but_for_the_head
    summary = worker.sweep(retry_wait_seconds=60)
    end()

    assert summary.archived == 28
    assert [] == world.troubles()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_cold_store_that_is_down_costs_no_attempt_and_recovers(seed: int) -> None:
    world = World(seed=seed)
    world.plant(*ids(30))
    world.cold.faults.on("create", raise_=lambda: unavailable("cold", "create"), times=None)
    worker = world.worker()

    summary = worker.sweep(retry_wait_seconds=60)

    assert ended(summary) == ("stopped", "failures", 0)
    assert {} == world.claim_states()
    assert worker.told(events.BreakerOpened)[0].store == "cold"

    world.cold.faults._faults.clear()
    assert ended(world.sweep()) == ("done", None, 30)
    assert [] == world.troubles() + world.hot_ids


@pytest.mark.parametrize("seed", SEEDS)
def test_one_failed_look_at_a_window_is_one_failure(seed: int) -> None:
    world = World(seed=seed)
    world.plant(*ids(30))
    world.cold.faults.on("stat", raise_=lambda: unavailable("cold", "stat"), times=1)
    worker = world.worker()

    summary = worker.sweep(retry_wait_seconds=60)

    assert ended(summary) == ("done", None, 30)
    assert [] == worker.told(events.BreakerOpened)
    assert [] == world.troubles() + world.hot_ids


@pytest.mark.parametrize("store", ["hot", "cold"])
def test_an_outage_parks_nothing_however_little_is_due(store: str) -> None:
    world = World()
    world.plant(*ids(2))
    down = world.hot.faults if store == "hot" else world.cold.faults
    for call in ("open", "probe") if store == "hot" else ("create", "stat"):
        down.on(call, raise_=lambda: unavailable(store, "any"), times=None)

    for _ in range(20):
        summary = world.sweep(retry_wait_seconds=0.0)
        assert ended(summary) == ("stopped", "failures", 0)
        assert f"store={store}" in (summary.error or "")
        assert {} == world.claim_states()
        world.clock.sleep(7200)

    down._faults.clear()
    assert world.sweep().archived == 2


@pytest.mark.parametrize("store", ["hot", "cold"])
def test_an_object_that_fails_in_a_store_that_answers_is_counted(store: str) -> None:
    world = World()
    world.plant("000")
    faults = world.hot.faults if store == "hot" else world.cold.faults
    call = "open" if store == "hot" else "create"
    faults.on(call, raise_=lambda: unavailable(store, call), times=None)

    summary = world.sweep(retry_wait_seconds=0.0)

    assert (*ended(summary), summary.waiting) == ("done", None, 0, 1)
    assert world.attempts("000") == 1


def test_a_full_cold_store_costs_no_attempt_and_the_sweep_says_so() -> None:
    """However little is due, and though the store answers whatever else it is asked."""
    world = World()
    world.plant(*ids(3))
    full = StoreFull(store="cold", operation="create", code="ENOSPC")
    world.cold.faults.on("create", raise_=lambda: full, times=None)

    for _ in range(20):
        summary = world.sweep(retry_wait_seconds=0.0)
        assert ended(summary) == ("stopped", "failures", 0)
        assert "no room left" in (summary.error or "")
        assert {} == world.claim_states()
        world.clock.sleep(7200)

    world.cold.faults._faults.clear()
    assert world.sweep().archived == 3
    assert [] == world.troubles()


def test_an_object_that_fails_now_and_then_opens_nothing() -> None:
    world = World()
    world.plant(*ids(60))
    for id_ in ids(60)[::3]:
        world.hot.faults.on("open", at(id_), raise_=lambda: unavailable("hot", "open"))
    worker = world.worker()

    summary = worker.sweep(retry_wait_seconds=60)

    assert ended(summary) == ("done", None, 60)
    assert [] == worker.told(events.BreakerOpened)


def test_a_killer_that_waits_to_run_alone_does_not_spin_under_an_open_breaker() -> None:
    world = World()
    world.plant("001")
    for _ in range(5):
        dying = world.worker()
        dying._claims.claim(1)
        dying.stop_beating()
        world.outlive_leases()
    world.plant(*ids(9, start=10))
    hot_down(world)
    worker = world.worker()

    summary = worker.sweep(retry_wait_seconds=60, concurrency=3)

    assert ended(summary) == ("stopped", "failures", 0)
    assert [] == world.held()


def test_gzip_and_plain_bytes_both_come_home() -> None:
    world = World()
    world.plant("001")
    world.hot.plant(at("001"), b"001")  # somebody gunzipped it
    world.forget("001")
    world.sweep()
    assert list(world.archived.values()) == [b"001"]
    assert gzip.decompress(body_of(b"001")) == b"001"
