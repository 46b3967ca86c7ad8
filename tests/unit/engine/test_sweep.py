from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from archiver import events
from archiver.engine.pool import ThreadPool
from archiver.engine.sweep import Sweep
from archiver.errors import (
    LeaseLost,
    LedgerDenied,
    LedgerUnavailable,
    NotSent,
    ObjectDenied,
    StoreDenied,
)
from archiver.model import BadRow, ClaimState, Evidence, Pause
from tests.fakes.faults import denied, flipped, unavailable
from tests.fakes.table_source import page
from tests.unit.engine.world import LEASE_SECONDS, Hangs, World, at, body_of, ids, raising

if TYPE_CHECKING:
    from archiver.errors import ArchiverError
    from archiver.model import Summary

SEEDS = [0, 1, 2, 3]


def counts(summary: Summary) -> dict[str, Any]:
    """What is not nothing."""
    told = summary.to_json()
    del told["seconds"], told["moved_bytes"]
    return {name: value for name, value in told.items() if value}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_sweep_drains_what_is_due_and_lets_go_of_it(seed: int) -> None:
    world = World(seed=seed)
    world.plant(*ids(25))

    summary = world.sweep()

    assert counts(summary) == {"state": "done", "archived": 25, "released": 25}
    assert summary.moved_bytes == sum(len(body_of(id_.encode())) for id_ in ids(25))
    assert [] == world.pointing_ids + world.hot_ids + world.troubles()
    assert len(world.archived) == 25


def test_oldest_first() -> None:
    world = World()
    world.plant(*reversed(ids(6)))

    world.sweep(max_objects=2, batch_size=2)

    assert world.pointing_ids == ids(4, start=2)


def test_a_sweep_with_nothing_to_do_opens_no_store() -> None:
    world = World()
    worker = world.worker()

    summary = worker.sweep()

    assert counts(summary) == {"state": "done"}
    assert worker.workshop.asked_count == 0
    assert len(worker.told(events.NothingDue)) == 1


def test_a_store_that_cannot_be_opened_at_first_is_tried_again_within_the_patience() -> None:
    world = World()
    world.plant(*ids(5))
    worker = world.worker()
    worker.workshop.refusal = unavailable("cold", "probe")
    back_at = world.clock.monotonic() + 10

    def come_back() -> None:
        if world.clock.monotonic() >= back_at:
            worker.workshop.refusal = None

    worker.script.on("claims.claim", after=come_back, times=None)

    summary = worker.sweep(retry_wait_seconds=60.0)

    assert (summary.state, summary.archived, summary.waiting) == ("done", 5, 0)


def test_a_store_that_stays_shut_ends_the_sweep_with_its_reason_and_costs_no_attempt() -> None:
    world = World()
    world.plant(*ids(5))
    worker = world.worker()
    worker.workshop.refusal = unavailable("cold", "probe")

    summary = worker.sweep(retry_wait_seconds=20.0)

    assert (summary.state, summary.stopped, summary.archived) == ("stopped", "failures", 0)
    assert "operation=probe" in (summary.error or "")
    assert world.tables.claims == {}


def test_nothing_due_is_said_once_however_long_others_are_waited_for() -> None:
    world = World()
    world.plant("001")
    other = world.worker()
    other._claims.claim(1)

    worker = world.worker()
    worker.sweep(takeover_wait_seconds=20)

    assert len(worker.told(events.NothingDue)) == 1
    assert worker.workshop.asked_count == 0


@pytest.mark.parametrize("is_stopped", [False, True])
def test_with_real_threads_it_is_the_same_sweep(is_stopped: bool) -> None:  # noqa: FBT001
    world = World()
    world.plant(*ids(150))
    worker = world.worker()
    pool = ThreadPool(width=4, clock=world.clock)
    worker.pool = pool
    if is_stopped:
        worker.script.on("hot.open", before=lambda: worker.stop.request("signal"), skip=70)

    summary = worker.sweep(release_slice=7)
    pool.close(timeout_seconds=5)

    assert [] == world.held() + world.troubles()
    assert {} == world.claim_states()
    assert summary.archived == len(world.tables.receipts)
    if not is_stopped:
        assert counts(summary) == {"state": "done", "archived": 150, "released": 150}
        assert [] == world.hot_ids


# --- limits ---------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_max_objects_finishes_what_it_claimed_and_no_more(seed: int) -> None:
    world = World(seed=seed)
    world.plant(*ids(20))

    summary = world.sweep(max_objects=7, batch_size=3)

    assert counts(summary) == {
        "state": "stopped",
        "stopped": "limit",
        "archived": 7,
        "released": 7,
    }
    assert world.pointing_ids == ids(13, start=7)
    assert [] == world.troubles()


def test_max_bytes_counts_what_was_sent_though_it_is_not_recorded_yet() -> None:
    world = World()
    world.plant(*ids(60))
    size_bytes = len(body_of(b"000"))

    summary = world.sweep(max_bytes=8 * size_bytes, concurrency=2)

    in_flight = 2 * 4  # rows promise no size: what is in flight counts once it is sent
    assert summary.stopped == "limit"
    assert 8 <= summary.archived <= 8 + in_flight
    assert summary.released == summary.archived
    assert [] == world.troubles()


def test_a_limited_sweep_says_what_is_still_pending() -> None:
    world = World(grace_seconds=900)
    world.plant(*ids(4))
    assert world.sweep(max_objects=2).pending_release == 2


def test_given_back_claims_do_not_use_up_max_objects() -> None:
    world = World()
    world.plant(*ids(30))
    world.hot.faults.on("open", raise_=lambda: unavailable("hot", "open"), times=8)
    world.hot.faults.on("probe", raise_=lambda: unavailable("hot", "probe"), times=1)

    summary = world.sweep(max_objects=12, retry_wait_seconds=60)

    assert (summary.stopped, summary.archived) == ("limit", 12)


@pytest.mark.parametrize("seed", SEEDS)
def test_after_its_time_a_sweep_begins_nothing_and_brings_home_what_is_in_flight(
    seed: int,
) -> None:
    world = World(seed=seed)
    world.plant(*ids(60))
    worker = world.worker()
    worker.stop = worker.stop.within(10, world.clock)
    worker.script.on("hot.open", before=lambda: world.clock.advance(1), times=None)

    summary = worker.sweep()

    assert (summary.state, summary.stopped) == ("stopped", "duration")
    assert summary.archived == worker.script.calls.count("hot.open") == 10
    assert worker.told(events.Draining) == [events.Draining("duration", 25.0)]
    assert [] == world.held() + world.troubles()


# --- releases beside ------------------------------------------------------------------------


def test_a_release_waits_for_its_grace() -> None:
    world = World(grace_seconds=900)
    world.plant(*ids(3))

    summary = world.sweep()

    assert counts(summary) == {"state": "done", "archived": 3, "pending_release": 3}
    assert world.hot_ids == ids(3)
    world.clock.advance(901)
    assert counts(world.sweep()) == {"state": "done", "released": 3}
    assert world.hot_ids == []


def test_a_grace_shorter_than_the_patience_is_waited_for() -> None:
    world = World(grace_seconds=5)
    world.plant(*ids(3))
    assert counts(world.sweep(retry_wait_seconds=60)) == {
        "state": "done",
        "archived": 3,
        "released": 3,
    }


def test_release_off_keeps_every_hot_copy_and_the_next_on_sweep_lets_go() -> None:
    world = World()
    world.plant(*ids(5))

    summary = world.sweep(release=False, retry_wait_seconds=60)

    assert counts(summary) == {"state": "done", "archived": 5, "pending_release": 5}
    assert world.hot_ids == ids(5)
    assert world.pointing_ids == []
    assert world.hot.faults.calls["delete"] == 0
    assert counts(world.sweep()) == {"state": "done", "released": 5}
    assert [] == world.hot_ids + world.troubles()


# --- failures and patience ------------------------------------------------------------------


def test_a_retry_within_the_patience_counts_as_archived_not_waiting() -> None:
    world = World()
    world.plant(*ids(3))
    world.hot.faults.on("open", at("001"), raise_=unavailable("hot", "open"), times=2)

    summary = world.sweep(retry_wait_seconds=60)

    assert counts(summary) == {"state": "done", "archived": 3, "released": 3}
    assert [] == world.troubles()


def test_a_retry_beyond_the_patience_is_left_waiting_and_counted() -> None:
    world = World()
    world.plant(*ids(3))
    world.hot.faults.on("open", at("001"), raise_=unavailable("hot", "open"))
    worker = world.worker()

    summary = worker.sweep(retry_wait_seconds=1)

    assert counts(summary) == {"state": "done", "archived": 2, "released": 2, "waiting": 1}
    assert world.claim_states() == {"001": ClaimState.WAITING}
    assert world.attempts("001") == 1
    assert [it.claim.candidate.id for it in worker.told(events.MoveFailed)] == ["001"]


def test_a_failure_is_told_while_the_sweep_goes_on() -> None:
    world = World()
    world.plant(*ids(40))
    world.hot.faults.on("open", at("000"), raise_=unavailable("hot", "open"))
    worker = world.worker()
    worker.script.on("cold.create", before=lambda: world.clock.sleep(0.2), times=None)
    told: list[int] = []
    worker.script.on(
        "hot.open", before=lambda: told.append(len(worker.told(events.MoveFailed))), skip=30
    )

    assert worker.sweep().archived == 40

    assert told == [1]


def test_a_mismatch_parks_after_three_tries_and_stays_hot() -> None:
    world = World()
    world.plant("001")
    world.plant("002", content_digest=page("x").content_digest)

    summary = world.sweep(retry_wait_seconds=60)

    assert counts(summary) == {"state": "done", "archived": 1, "released": 1, "parked": 1}
    assert world.attempts("002") == 3
    assert world.hot_ids == ["002"]
    assert "content digest its row promises" in (world.reasons()["002"] or "")


def test_a_bad_pointer_is_parked_on_the_way_and_counted() -> None:
    world = World()
    world.rows.plant(page("000", path=None))
    world.plant("001")
    worker = world.worker()

    summary = worker.sweep()

    assert counts(summary) == {"state": "done", "archived": 1, "released": 1, "parked": 1}
    assert isinstance(world.tables.claims[world.rows.name, "000"].offer, BadRow)
    assert [] == worker.told(events.NothingDue)


def test_a_failure_ratio_stops_the_sweep() -> None:
    world = World()
    world.plant(*ids(300))
    for id_ in ids(300)[::2]:
        world.hot.faults.on("open", at(id_), raise_=unavailable("hot", "open"), times=None)

    summary = world.sweep(max_failure_ratio=0.25, batch_size=50)

    assert (summary.state, summary.stopped) == ("stopped", "failures")
    assert world.pointing_ids
    assert [] == world.troubles()


# --- what record answers ---------------------------------------------------------------------


def test_a_busy_row_is_asked_for_again_until_the_application_lets_go() -> None:
    world = World()
    world.plant(*ids(3))
    with world.rows.hold("001"):
        worker = world.worker()
        worker.script.on("claims.record", after=world.rows._held.clear, skip=4)
        summary = worker.sweep()
    assert counts(summary) == {"state": "done", "archived": 3, "released": 3}
    assert world.cold.faults.calls["create"] == 3 + 1  # a stamp


def test_a_row_that_stays_busy_waits_counted_and_told() -> None:
    world = World()
    world.plant(*ids(2))
    worker = world.worker()
    with world.rows.hold("001"):
        summary = worker.sweep()

    assert counts(summary) == {"state": "done", "archived": 1, "released": 1, "waiting": 1}
    assert world.claim_states() == {"001": ClaimState.WAITING}
    assert [it.claim.candidate.id for it in worker.told(events.MoveFailed)] == ["001"]
    assert world.sweep(retry_wait_seconds=60).archived == 1
    assert (
        world.cold.faults.calls["create"] == 3 + 1
    )  # a stamp; the second found the bytes there
    assert [] == world.troubles()


def test_h9_a_page_captured_again_while_it_is_moved_is_superseded_and_stays() -> None:
    world = World()
    world.plant(*ids(3))
    worker = world.worker()
    worker.script.on(
        "claims.record", before=lambda: world.capture_again("001", b"newer"), times=1
    )

    summary = worker.sweep()

    assert (summary.superseded, summary.archived) == (1, 2)
    assert len(worker.told(events.ObjectSuperseded)) == 1
    assert world.hot.peek(at("001")) == body_of(b"newer")
    assert counts(world.sweep()) == {"state": "done", "archived": 1, "released": 1}
    assert [] == world.pointing_ids + world.hot_ids + world.troubles()


def test_a_row_that_raises_is_parked_and_the_rest_of_its_group_is_not() -> None:
    world = World()
    world.plant(*ids(5))
    world.plant("002", refusal="not on a Sunday")
    worker = world.worker()

    summary = worker.sweep()

    assert counts(summary) == {"state": "done", "archived": 4, "released": 4, "parked": 1}
    assert world.reasons() == {"002": "not on a Sunday"}
    assert [it.claim.candidate.id for it in worker.told(events.ObjectParked)] == ["002"]
    assert world.hot_ids == ["002"]


def test_a_refused_row_that_waited_before_is_not_counted_twice() -> None:
    world = World()
    world.plant("001", refusal="never")
    world.hot.faults.on("open", at("001"), raise_=unavailable("hot", "open"))
    assert counts(world.sweep(retry_wait_seconds=60)) == {"state": "done", "parked": 1}


def test_g5_a_lost_claim_writes_nothing_and_counts_nothing() -> None:
    world = World()
    world.plant("001")
    first = world.worker()

    def another_takes_over() -> None:
        first.stop_beating()
        world.outlive_leases()
        world.sweep()

    first.script.on("claims.record", before=another_takes_over)
    summary = first.sweep()

    assert summary.archived == 0
    assert len(world.receipted_keys("001")) == 1
    assert [] == world.troubles() + world.held()


# --- other workers ----------------------------------------------------------------------------


def test_other_workers_claims_are_waited_for_up_to_the_takeover_time() -> None:
    world = World()
    world.plant(*ids(3))
    dead = world.worker()
    dead._claims.claim(2)
    dead.stop_beating()

    summary = world.sweep(takeover_wait_seconds=LEASE_SECONDS + 1)

    assert counts(summary) == {"state": "done", "archived": 3, "released": 3}


def test_a_live_workers_claims_are_left_to_it_and_counted() -> None:
    world = World()
    world.plant(*ids(3))
    live = world.worker()
    live._claims.claim(2)
    began_at = world.clock.monotonic()

    worker = world.worker()
    summary = worker.sweep(takeover_wait_seconds=LEASE_SECONDS + 1)

    assert counts(summary) == {"state": "done", "archived": 1, "released": 1, "elsewhere": 2}
    waited_seconds = world.clock.monotonic() - began_at
    assert LEASE_SECONDS + 1 <= waited_seconds < LEASE_SECONDS + 5


def test_a_killer_of_workers_runs_alone() -> None:
    world = World()
    world.plant("001", "002")
    worker = world.worker()
    world.sweep(release=True, max_objects=1)  # so that a release could be under way beside
    for _ in range(5):
        dying = world.worker()
        assert [it.candidate.id for it in dying._claims.claim(1).claims] == ["002"]
        dying.stop_beating()
        world.outlive_leases()
    worker = world.worker()
    moving: list[list[str]] = []

    def look() -> None:
        moving.append([i for i, s in world.claim_states().items() if s is ClaimState.CLAIMED])

    def more_work() -> None:
        world.plant("003")

    # Another piece of work runs first, and meanwhile something fresh falls due.
    worker.script.on("claims.claim", after=more_work, times=1)
    worker.script.on("hot.open", before=look, times=None)
    worker.pool.submit(lambda: None, lambda _: None, lambda _: None, ahead=True)

    summary = worker.sweep()

    assert summary.archived == 2
    assert moving[0] == ["002"]


def test_a_killer_that_dies_once_more_is_parked() -> None:
    world = World()
    world.plant("001")
    for _ in range(6):
        dying = world.worker()
        dying._claims.claim(1)
        dying.stop_beating()
        world.outlive_leases()

    summary = world.sweep()

    assert counts(summary) == {"state": "done", "parked": 1}
    assert world.reasons() == {"001": "crashes the worker"}


# --- stopping ---------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("skip", [0, 1, 5, 9])
def test_a_signal_drains_what_is_in_flight_and_gives_the_rest_back(
    seed: int, skip: int
) -> None:
    world = World(seed=seed)
    world.plant(*ids(40))
    worker = world.worker()
    worker.script.on("hot.open", before=lambda: worker.stop.request("signal"), skip=skip)

    summary = worker.sweep(batch_size=30)

    assert (summary.state, summary.stopped) == ("stopped", "signal")
    assert summary.archived == len(world.tables.receipts) == skip + 1
    assert len(worker.told(events.Draining)) == 1
    assert [] == world.held() + world.troubles()
    assert {} == world.claim_states()  # given back, not counted


def test_a_signal_between_slices_begins_no_further_delete() -> None:
    world = World()
    world.plant(*ids(20))
    world.sweep(release=False)
    worker = world.worker()
    worker.script.on("hot.delete", after=lambda: worker.stop.request("signal"))

    summary = worker.sweep(release_slice=5)

    assert summary.released == 5
    assert len(world.hot_ids) == 15
    assert [] == world.held() + world.troubles()


def test_a_pause_drains_what_is_in_flight_and_gives_the_rest_back() -> None:
    world = World()
    world.plant(*ids(40))
    worker = world.worker()
    worker.script.on("cold.create", after=lambda: worker.pause(Pause.ALL))

    summary = worker.sweep(batch_size=30)

    assert (summary.state, summary.stopped) == ("stopped", "paused")
    assert summary.archived == len(world.tables.receipts) < 10
    assert [] == world.held() + world.troubles()
    worker.pause(Pause.NOTHING)
    assert worker.sweep().archived == 40 - summary.archived


def test_a_pause_of_the_releases_lets_moves_go_on() -> None:
    world = World()
    world.plant(*ids(20))
    worker = world.worker()
    worker.pause(Pause.RELEASES)

    summary = worker.sweep()

    assert (summary.state, summary.archived, summary.released) == ("done", 20, 0)
    assert summary.pending_release == len(world.hot_ids) == 20
    worker.pause(Pause.NOTHING)
    assert worker.sweep().released == 20
    assert [] == world.held() + world.troubles()


def test_a_pause_of_the_releases_begins_no_further_delete() -> None:
    world = World()
    world.plant(*ids(20))
    world.sweep(release=False)
    worker = world.worker()
    worker.script.on("hot.delete", after=lambda: worker.pause(Pause.RELEASES))

    summary = worker.sweep(release_slice=5)

    assert (summary.state, summary.released) == ("done", 5)
    assert len(world.hot_ids) == 15
    assert [] == world.held() + world.troubles()


def test_the_drain_is_bounded_though_a_put_hangs() -> None:
    world = World()
    world.plant(*ids(6))
    worker = world.worker()
    worker.script.on("cold.create", before=raising(Hangs), skip=1)
    worker.script.on("cold.create", after=lambda: worker.stop.request("signal"), skip=2)
    began_at = world.clock.monotonic()

    summary = worker.sweep(drain_seconds=25)

    assert summary.stopped == "signal"
    assert 25 <= world.clock.monotonic() - began_at < 30
    assert summary.archived == 2
    assert [] == world.held() + world.troubles()
    world.sweep()
    assert [] == world.pointing_ids + world.troubles()


def test_a_hung_put_does_not_keep_the_others_from_being_recorded() -> None:
    world = World()
    world.plant(*ids(30))
    worker = world.worker()
    worker.script.on("cold.create", before=raising(Hangs))
    world.clock.every(30.0, lambda: worker.stop.request("signal"))

    summary = worker.sweep(drain_seconds=5)

    assert summary.archived == summary.released == 29
    assert [] == world.held() + world.troubles()


# --- the ledger -------------------------------------------------------------------------------


def silent() -> LedgerUnavailable:
    return LedgerUnavailable(operation="any", message="no answer")


@pytest.mark.parametrize(
    "call",
    [
        "claims.begin",
        "claims.claim",
        "claims.record",
        "claims.outlook",
        "claims.housekeeping",
        "releases.claim_release",
        "releases.released",
    ],
)
def test_a_ledger_call_that_is_not_answered_is_made_again(call: str) -> None:
    world = World()
    world.plant(*ids(3))
    worker = world.worker()
    worker.script.on(call, before=raising(silent), times=3)

    summary = worker.sweep()

    assert counts(summary) == {"state": "done", "archived": 3, "released": 3}
    assert len(worker.told(events.LedgerRetried)) == 3
    assert [] == world.troubles() + world.held()


@pytest.mark.parametrize("call", ["claims.record", "releases.released", "claims.give_back"])
def test_a_lost_reply_is_settled_by_asking_again(call: str) -> None:
    world = World()
    world.plant(*ids(3))
    worker = world.worker()
    worker.script.on(call, after=raising(silent))

    summary = worker.sweep()

    assert counts(summary) == {"state": "done", "archived": 3, "released": 3}
    assert len(world.tables.receipts) == len(world.tables.outcomes) == 3
    assert [] == world.troubles() + world.held()


def test_a_ledger_that_stays_silent_is_given_up_after_its_patience() -> None:
    world = World()
    world.plant(*ids(3))
    worker = world.worker()
    worker.script.on("claims.record", before=raising(silent), times=None)
    began_at = world.clock.monotonic()

    summary = worker.sweep(ledger_patience_seconds=30)

    assert (summary.state, summary.stopped) == ("stopped", "failures")
    assert summary.error is not None
    assert "did not answer" in summary.error
    assert 20 < world.clock.monotonic() - began_at <= 31
    assert "claims.give_back" not in worker.script.calls
    assert len(worker.told(events.SweepFailed)) == 1
    worker.leave()
    world.sweep()
    assert [] == world.pointing_ids + world.troubles()


@pytest.mark.parametrize("call", ["claims.claim", "claims.record", "releases.claim_release"])
def test_a_silent_ledger_is_not_waited_for_longer_than_a_stopping_sweep_may_drain(
    call: str,
) -> None:
    world = World()
    world.plant(*ids(3))
    worker = world.worker()
    worker.script.on(call, before=raising(silent), times=None)
    asked_at: list[float] = []

    def ask_at_the_second_failure(event: events.Event) -> None:
        worker.events.append(event)
        if len(worker.told(events.LedgerRetried)) == 2 and not asked_at:
            asked_at.append(world.clock.monotonic())
            worker.stop.request("signal")

    run = worker.run(ledger_patience_seconds=60, drain_seconds=3)
    run.observe = ask_at_the_second_failure

    Sweep(run, worker.workshop)(everything=True)

    assert world.clock.monotonic() - asked_at[0] <= 3.5
    assert [] == world.troubles()


def test_only_what_comes_home_counts_as_getting_on_while_something_is_in_flight() -> None:
    """The ledger answers all the same where a store hangs, so that proves nothing."""
    world = World()
    world.plant(*ids(5))
    worker = world.worker()
    worker.script.on("hot.open", before=raising(Hangs))
    idle_seconds: list[float] = []

    def look() -> None:
        idle_seconds.append(worker.heartbeat.idle_seconds)
        worker.stop.request("signal")

    world.clock.every(300, look)

    assert worker.sweep().archived == 4
    assert idle_seconds[0] > 250


def test_a_lost_lease_stops_the_sweep_at_once_and_gives_nothing_back() -> None:
    world = World()
    world.plant(*ids(20))
    worker = world.worker()

    def sleep_too_long() -> None:
        worker.stop_beating()
        world.outlive_leases()

    worker.script.on("hot.open", after=sleep_too_long, skip=2)
    calls_then: list[int] = []
    worker.script.on(
        "open.read", after=lambda: calls_then.append(len(worker.script.calls)), skip=2
    )

    summary = worker.sweep(batch_size=3, concurrency=2)

    assert summary.state == "fatal"
    assert summary.error is not None
    assert "lease ran out" in summary.error
    after = worker.script.calls[calls_then[0] :]
    assert not {"cold.create", "hot.delete", "claims.record", "claims.give_back"} & set(after)
    assert len(worker.told(events.SweepFailed)) == 1
    world.sweep()
    assert [] == world.pointing_ids + world.troubles()


@pytest.mark.parametrize("call", ["claims.claim", "claims.record"])
def test_a_lease_the_ledger_calls_lost_ends_it_too(call: str) -> None:
    world = World()
    world.plant(*ids(3))
    worker = world.worker()
    worker.script.on(call, before=raising(lambda: LeaseLost(worker=1)))

    summary = worker.sweep()

    assert summary.state == "fatal"
    assert worker.script.calls[-1] == call


def test_a_fatal_error_gives_back_uncounted() -> None:
    world = World()
    world.plant(*ids(20))
    worker = world.worker()
    denial = StoreDenied(store="cold", operation="create", where="cold-pages", code="403")
    worker.script.on("cold.create", before=raising(lambda: denial), skip=3)

    summary = worker.sweep()

    assert summary.state == "fatal"
    assert summary.error == str(denial)
    assert summary.archived == 3
    assert len(worker.told(events.SweepFailed)) == 1
    assert {} == world.claim_states()
    assert [] == world.held() + world.troubles()


def test_after_a_fatal_error_no_delete_is_begun() -> None:
    world = World()
    world.plant(*ids(6))
    world.sweep(release=False)
    world.plant(*ids(3, start=6))
    worker = world.worker()
    denial = StoreDenied(store="hot", operation="open", where="pages", code="403")
    worker.script.on("hot.open", before=raising(lambda: denial))

    summary = worker.sweep(release_slice=2)

    assert summary.state == "fatal"
    after = worker.script.calls[worker.script.calls.index("hot.open") :]
    assert "hot.delete" not in after
    assert [] == world.held() + world.troubles()


def test_a_ledger_that_denies_everything_is_fatal() -> None:
    world = World()
    worker = world.worker()
    worker.script.on(
        "claims.begin", before=raising(lambda: LedgerDenied(operation="begin", message="no"))
    )
    summary = worker.sweep()
    assert summary.state == "fatal"
    assert len(worker.told(events.SweepFailed)) == 1


@pytest.mark.parametrize("is_release", [False, True])
@pytest.mark.parametrize(
    "refusal",
    [
        StoreDenied(store="cold", operation="probe", where="cold-pages"),
        ObjectDenied(store="cold", operation="stat", where="cold-pages/.archiver/place"),
    ],
)
def test_stores_that_cannot_be_opened_leave_nothing_claimed(
    refusal: ArchiverError, *, is_release: bool
) -> None:
    world = World()
    world.plant(*ids(3))
    if is_release:
        world.sweep(release=False)
    worker = world.worker()
    worker.workshop.refusal = refusal

    summary = worker.sweep()

    assert (summary.state, "credentials" in (summary.error or "")) == ("fatal", True)
    assert len(worker.told(events.SweepEnded)) == 1
    assert [] == world.held()
    assert {} == world.claim_states()


# --- housekeeping and events ------------------------------------------------------------------


def test_housekeeping_is_done_before_and_after_a_sweep_that_archived() -> None:
    world = World()
    world.sweep()
    assert world.rows.asked == [True]

    world.rows.asked.clear()
    world.plant(*ids(3))
    world.sweep()
    assert world.rows.asked == [True, False]


def test_housekeeping_goes_on_while_it_finds_something_and_is_told_once() -> None:
    world = World()
    world.rows.houses_due = [500, 20]
    worker = world.worker()

    worker.sweep()

    assert world.rows.asked == [True, False, False]
    assert [it.counts for it in worker.told(events.Housekept)] == [{"houses_kept": 520}]


def test_one_event_for_each_thing_that_happens() -> None:
    world = World()
    world.plant(*ids(5))
    world.rows.houses_due = [1]
    worker = world.worker()

    worker.sweep()

    told = [type(event).__name__ for event in worker.events]
    assert {name: told.count(name) for name in told} == {
        "SweepStarted": 1,
        "Housekept": 1,
        "CandidatesClaimed": 1,
        "ObjectArchived": 5,
        "ColdPlaceStamped": 1,
        "ObjectReleased": 5,
        "SweepEnded": 1,
    }


@pytest.mark.parametrize("seed", SEEDS)
def test_a_bad_copy_is_never_recorded_at_readback(seed: int) -> None:
    world = World(seed=seed, evidence=Evidence.READBACK)
    world.plant(*ids(6))
    world.cold.faults.on("create", keep=flipped, times=3)

    summary = world.sweep(retry_wait_seconds=60)

    assert (summary.archived, summary.released) == (6, 6)
    assert [] == world.troubles()


def test_a_store_that_cannot_be_read_costs_nothing_at_readback() -> None:
    world = World(evidence=Evidence.READBACK)
    world.plant(*ids(6))
    world.cold.faults.on("readback", raise_=lambda: denied("readback"), times=None)

    summary = world.sweep()

    assert summary.state == "fatal"
    assert world.hot_ids == world.pointing_ids == ids(6)
    assert {} == world.claim_states()


# --- what was not sent ------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("store", "operation"),
    [("hot", "open"), ("cold", "create"), ("cold", "stat"), ("cold", "readback")],
)
def test_what_was_not_sent_is_given_back_uncounted_and_nobody_is_doubted(
    seed: int, store: str, operation: str
) -> None:
    world = World(seed=seed, evidence=Evidence.READBACK)
    world.plant(*ids(30))
    faults = world.hot.faults if store == "hot" else world.cold.faults
    unsent = NotSent(store=store, operation="wait", code="its turn did not come")
    faults.on(operation, raise_=lambda: unsent, times=20)
    worker = world.worker()

    summary = worker.sweep()

    assert counts(summary) == {"state": "done", "archived": 30, "released": 30}
    assert [] == worker.told(events.BreakerOpened) + worker.told(events.MoveFailed)
    assert [] == world.troubles()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_pause_beyond_our_patience_ends_the_sweep_and_counts_for_nobody(seed: int) -> None:
    world = World(seed=seed)
    world.plant(*ids(30))
    paused = NotSent(store="cold", operation="wait", code="a pause", retry_after_seconds=3600)
    world.cold.faults.on("create", raise_=lambda: paused, times=None)
    worker = world.worker()

    summary = worker.sweep(retry_wait_seconds=60)

    assert (summary.state, summary.stopped, summary.archived) == ("stopped", "failures", 0)
    assert "retry_after_seconds=3600" in (summary.error or "")
    assert world.clock.monotonic() < 120
    assert {world.attempts(id_) for id_ in ids(30)} == {0}
    assert [] == world.held() + world.troubles()


def test_a_short_pause_of_one_store_only_delays_the_sweep() -> None:
    world = World()
    world.plant(*ids(30))
    paused = NotSent(store="hot", operation="wait", code="a pause", retry_after_seconds=70)
    world.hot.faults.on("open", raise_=lambda: paused, times=6)

    summary = world.sweep(retry_wait_seconds=300)

    assert counts(summary) == {"state": "done", "archived": 30, "released": 30}


def test_stores_that_may_not_be_asked_yet_are_opened_later() -> None:
    world = World()
    world.plant(*ids(3))
    worker = world.worker()
    worker.workshop.refusal = NotSent(store="cold", operation="wait", code="the sweep ends")
    worker.stop.request("signal")

    summary = worker.sweep()

    assert (summary.state, summary.stopped) == ("stopped", "signal")
    assert [] == worker.told(events.BreakerOpened) + world.held()


@pytest.mark.parametrize("why", ["signal", "lease", "ledger"])
def test_a_sweep_that_ends_hurries_those_who_wait(why: str) -> None:
    world = World()
    world.plant(*ids(30))
    worker = world.worker()
    if why == "signal":
        worker.script.on("cold.create", before=lambda: worker.stop.request("signal"), times=1)
    elif why == "lease":
        worker.script.on("cold.create", before=raising(lambda: LeaseLost(worker=1)), times=1)
    else:
        gone = raising(lambda: LedgerUnavailable(operation="record", message="gone"))
        worker.script.on("claims.record", before=gone, times=None)

    worker.sweep(drain_seconds=25)

    assert worker.workshop.hurried == ([25] if why == "signal" else [0])
