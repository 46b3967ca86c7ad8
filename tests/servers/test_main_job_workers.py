"""Several workers, killed workers, workers asked to stop: the sums agree all the same."""

from __future__ import annotations

import json
import random
import signal
from concurrent.futures import Future
from threading import Event
from typing import TYPE_CHECKING, Any

import pytest

from tests.harness.world import BOUND_SECONDS, at_request, hold_until_both_work

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Mapping

    from tests.harness.world import World
    from tests.standin.supabase import SupabaseStandIn

CONCURRENCY = 4
SMALL_GROUPS = {"ARCHIVE_BATCH_SIZE": "100", "ARCHIVE_CONCURRENCY": str(CONCURRENCY)}
SHORT_LEASE = {"ARCHIVE_LEASE": "2s"}  # for those who will die: others wait so long for it
FAILED = ("waiting", "parked", "superseded", "replaced", "recovered")


def ended(child: subprocess.Popen[str]) -> tuple[int, Mapping[str, Any]]:
    """Wait for the end: the exit code, and the summary where there is one."""
    try:
        stdout, stderr = child.communicate(timeout=BOUND_SECONDS)
    finally:
        child.kill()
    assert "Traceback" not in stderr
    return child.returncode, json.loads(stdout or "{}")


def start_and(
    act: Callable[[subprocess.Popen[str]], object],
    world: World,
    supabase: SupabaseStandIn,
    kind: str,
    number: int,
    **settings: str,
) -> subprocess.Popen[str]:
    """Start a sweep, and do something to it at its nth request of one kind."""
    child: Future[subprocess.Popen[str]] = Future()
    at_request(supabase, kind, number, lambda: act(child.result(BOUND_SECONDS)))
    child.set_result(world.start_once(**SMALL_GROUPS, **settings))
    return child.result()


# --- two at once ----------------------------------------------------------------------------


@pytest.mark.parametrize("concurrency", [1, 16])
def test_two_workers_move_nothing_twice(
    world: World, supabase: SupabaseStandIn, concurrency: int
) -> None:
    hold_until_both_work(supabase, concurrency)
    settings = SMALL_GROUPS | {"ARCHIVE_CONCURRENCY": str(concurrency)}
    children = [world.start_once(**settings) for _ in range(2)]
    (code, one), (other_code, other) = map(ended, children)

    assert (code, other_code) == (0, 0)
    assert one["archived"] > 0 < other["archived"]
    assert one["archived"] + other["archived"] == len(world.due)
    assert one["released"] + other["released"] == len(world.due)
    sent_bytes = sum(len(page.page.gz) for page in world.due)
    assert one["moved_bytes"] + other["moved_bytes"] == sent_bytes
    assert {one[name] + other[name] for name in FAILED} == {0}
    assert supabase.requests["get"] == len(world.due)
    world.assert_done()


def test_a_worker_takes_over_from_one_that_was_killed_beside_it(
    world: World, supabase: SupabaseStandIn
) -> None:
    victim: Future[subprocess.Popen[str]] = Future()
    hold_until_both_work(supabase, CONCURRENCY)
    at_request(supabase, "bulk_delete", 1, lambda: victim.result(BOUND_SECONDS).kill())
    victim.set_result(world.start_once(**SMALL_GROUPS, **SHORT_LEASE))
    survivor = world.start_once(**SMALL_GROUPS)

    assert ended(victim.result())[0] == -signal.SIGKILL
    code, summary = ended(survivor)
    assert code == 0
    assert {summary[name] for name in (*FAILED, "elsewhere")} == {0}
    assert world.receipts_count() == len(world.due)
    world.assert_done()


# --- kill -9 --------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_a_worker_killed_at_a_random_read_loses_nothing(
    world: World, supabase: SupabaseStandIn, seed: int
) -> None:
    number = random.Random(seed).randint(1, len(world.due))  # noqa: S311 - any number will do
    child = start_and(lambda it: it.kill(), world, supabase, "get", number, **SHORT_LEASE)

    assert_killed_without_loss_and_finished(child, world)


@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("kind", ["list_v2", "bulk_delete"])
def test_a_worker_killed_while_it_lets_go_loses_nothing(
    world: World, supabase: SupabaseStandIn, kind: str, number: int
) -> None:
    """The delete takes effect, and nobody is left to write it down."""
    child = start_and(lambda it: it.kill(), world, supabase, kind, number, **SHORT_LEASE)

    assert_killed_without_loss_and_finished(child, world)


def assert_killed_without_loss_and_finished(child: subprocess.Popen[str], world: World) -> None:
    assert ended(child)[0] == -signal.SIGKILL
    assert [] == world.dangling()
    archived_before = world.receipts_count()
    assert archived_before < len(world.due) or world.in_motion()

    ran = world.once(**SMALL_GROUPS)
    assert ran.exit_code == 0, ran.stderr
    assert archived_before + ran.summary["archived"] == len(world.due)
    assert {ran.summary[name] for name in (*FAILED, "elsewhere")} == {0}
    world.assert_done()


# --- SIGTERM and SIGINT ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("which", "kind", "number"),
    [
        (signal.SIGTERM, "get", 1),
        (signal.SIGTERM, "get", 250),
        (signal.SIGTERM, "bulk_delete", 1),
        (signal.SIGINT, "get", 150),
    ],
)
def test_a_worker_asked_to_stop_gives_back_what_it_holds(
    world: World, supabase: SupabaseStandIn, which: signal.Signals, kind: str, number: int
) -> None:
    child = start_and(lambda it: it.send_signal(which), world, supabase, kind, number)
    code, summary = ended(child)

    assert code == 130
    assert (summary["state"], summary["stopped"]) == ("stopped", "signal")
    assert summary["archived"] == world.receipts_count()
    assert_nobody_holds_anything(world)
    assert [] == world.dangling()

    ran = world.once(**SMALL_GROUPS)
    assert ran.exit_code == 0, ran.stderr
    assert summary["archived"] + ran.summary["archived"] == len(world.due)
    assert summary["released"] + ran.summary["released"] == len(world.due)
    world.assert_done()


def test_a_worker_asked_to_stop_does_not_wait_for_a_read_that_hangs(
    world: World, supabase: SupabaseStandIn
) -> None:
    """`ended` would time out: the stand-in answers only when it closes."""
    supabase.on("get", world.due[100].location.path, hang=True)
    reached = Event()
    at_request(supabase, "list_v2", 1, reached.set)
    child = world.start_once(**SMALL_GROUPS, ARCHIVE_DRAIN_TIMEOUT="1s")
    assert reached.wait(BOUND_SECONDS)
    child.send_signal(signal.SIGTERM)

    assert ended(child)[0] == 130
    assert_nobody_holds_anything(world)
    assert [] == world.dangling()


def test_the_second_interrupt_quits_at_once(world: World, supabase: SupabaseStandIn) -> None:
    """What it held is taken over after one lease, as after a kill."""

    def interrupt_twice(child: subprocess.Popen[str]) -> None:
        child.send_signal(signal.SIGINT)
        interrupted.wait(BOUND_SECONDS)
        child.send_signal(signal.SIGINT)
        never.wait(BOUND_SECONDS)

    interrupted, never = Event(), Event()
    child = start_and(interrupt_twice, world, supabase, "get", 200, **SHORT_LEASE)
    assert child.stderr is not None
    for line in child.stderr:
        if "draining" in line:
            break
    interrupted.set()
    assert child.wait(BOUND_SECONDS) == 130
    never.set()
    child.communicate()

    assert [] == world.dangling()
    assert world.once(**SMALL_GROUPS).exit_code == 0
    world.assert_done()


def assert_nobody_holds_anything(world: World) -> None:
    assert [] == world.ask("select id from archiver.claim where state = 'claimed'")
    assert [] == world.ask("select 1 from archiver.release where worker_id is not null")
