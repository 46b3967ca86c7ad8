"""A sweep is hit before and after every call that crosses a contract, by enumeration.

The calls are those that a sweep without trouble makes: a new step is covered the day it is
written. What hits it is a death, a lost reply, a whole sweep of another worker in between, a
pause longer than the lease, or the application that captures a page again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import pytest

import archiver.protocols
from archiver.engine.streams import Streams
from archiver.errors import LedgerUnavailable, StoreUnavailable
from archiver.model import ClaimState, ColdKey, EgressBudget, Evidence
from archiver.protocols import (
    Adoptions,
    ArchiveSource,
    Clock,
    Leases,
    ObjectStore,
    Observer,
    OpenBody,
    PartTarget,
    PassesInTheWay,
    PutsInParts,
    Records,
    UrlSigner,
)
from tests.fakes.pool import InlineCrew
from tests.fakes.table_source import page
from tests.harness.crashes import Point, Struck
from tests.unit.engine.world import (
    CONTRACTS,
    WATCHED,
    Script,
    World,
    at,
    ids,
    raising,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from archiver.model import Summary
    from tests.harness.figures import TellFigure
    from tests.unit.engine.world import Worker

SEEDS = [0, 1, 2]
SMALL = {  # so that every loop of the engine turns more than once
    "batch_size": 4,
    "concurrency": 2,
    "verify_group": 2,
    "record_group": 3,
    "release_group": 4,
    "release_slice": 2,
}
BUDGET = EgressBudget(limit_bytes=10_000, window_seconds=86400.0)  # several blocks of it
IN_FLIGHT_BYTES = 64  # one body: what was sent where no answer came is not known
PART_BYTES = 30  # above that go all bodies of `world_of_parts`
LARGE = bytes(range(0, 240, 4))
PARKED = ["070", "080"]
TAKEN = ColdKey("jobs/060.html.gz")


class Died(BaseException):
    """The process is gone; nobody catches this."""


class Plant(Protocol):
    """Makes the world that a sweep is hit in."""

    __name__: str

    def __call__(self, seed: int, evidence: Evidence = ..., /) -> World: ...


def eventful_world(seed: int, evidence: Evidence = Evidence.SIGNED) -> World:
    """Every kind of row there is, and hot copies that fell due before."""
    world = World(seed=seed, evidence=evidence, retry_base_seconds=0.25)
    fill(world)
    return world


def fill(world: World) -> None:
    world.budget = BUDGET
    world.plant(*ids(3), "050")
    world.sweep(release=False)
    # To be recovered from cold: the row is back from a backup, the hot object is not.
    world.rows.plant(page("050", minutes=50))
    world.lose_hot("050")
    world.plant(*ids(3, start=3))
    # Other bytes lie under its key already.
    world.plant("060")
    world.cold.create(TAKEN, b"older", metadata={}, content_type=None, content_encoding=None)
    # Parked: not what its row promises, and a bad pointer.
    world.plant("070", content_digest=page("x").content_digest)
    world.rows.plant(page("080", minutes=80, path=None))


def world_of_parts(seed: int, evidence: Evidence = Evidence.SIGNED) -> World:
    """Objects of two and of three parts, and what workers that died have left of others."""
    world = World(seed=seed, evidence=evidence, retry_base_seconds=0.25)
    world.budget = BUDGET
    world.streams = Streams(crew=InlineCrew(), part_bytes=PART_BYTES)
    world.plant("001", content=LARGE[:30])  # two parts
    world.sweep(release=False)
    # Left in the middle, by a worker that died: to be resumed; and of a version before.
    world.plant("003", content=LARGE)
    dies_at(world, "uploads.save_part")
    world.plant("004", content=LARGE[::-1])
    dies_at(world, "multipart.complete")
    world.capture_again("004", LARGE[::-1])
    # Nobody will come back for this one.
    world.plant("009", content=LARGE)
    dies_at(world, "multipart.begin")
    world.rows.remove("009")
    world.hot.remove(at("009"))
    world.forget("009")
    world.expire_uploads_of("009")
    world.outlive_leases()
    world.plant("002", content=LARGE[2:])
    return world


def dies_at(world: World, call: str) -> None:
    """A worker dies right after the first call of that name."""
    worker = world.worker()
    worker.script.on(call, after=raising(Died))
    with pytest.raises(Died):
        worker.sweep(release=False)
    worker.stop_beating()


WORLDS = [
    *[pytest.param(eventful_world, seed, id=f"whole-{seed}") for seed in SEEDS],
    pytest.param(world_of_parts, 1, id="parts-1"),
]


def calls_of(plant: Plant, seed: int, evidence: Evidence) -> list[str]:
    """All calls of a sweep that nothing happens to."""
    world = plant(seed, evidence)
    worker = world.worker()
    worker.script = Script()  # it has joined
    worker.sweep(retry_wait_seconds=60, **SMALL)
    assert [] == leftovers(world)
    return worker.script.calls


def points_of(plant: Plant, seed: int, evidence: Evidence) -> Iterator[Point]:
    for number, call in enumerate(calls_of(plant, seed, evidence)):
        yield Point(number, is_after=False, call=call)
        yield Point(number, is_after=True, call=call)


def struck(world: World, point: Point, what: Callable[[Worker], object]) -> Worker:
    """A worker whose script does this at that point."""
    worker = world.worker()
    worker.script = Struck(point, lambda: what(worker))
    return worker


def is_hit(worker: Worker) -> bool:
    return isinstance(worker.script, Struck) and worker.script.has_hit


def finish(world: World) -> Summary:
    """Whoever comes next, after every lease has run out."""
    world.outlive_leases()
    return world.sweep(retry_wait_seconds=60, **SMALL)


def leftovers(world: World) -> list[str]:
    """All that must not be there once everything is done.

    A copy that was made and never recorded may stay where the page was captured again
    meanwhile: its next version goes to a key of its own.
    """
    found = [*world.troubles(), *world.held(), *world.open_uploads(), *world.wrong_notes()]
    found += world.held_memory()
    found += [f"still pending: {it}" for it in world.pointing_ids if it not in PARKED]
    found += [f"still hot: {it}" for it in world.hot_ids if it != "070"]
    planted = {*world.rows._rows}
    states = {it: ClaimState.PARKED for it in PARKED if it in planted}
    if world.claim_states() != states:
        found.append(f"claims {world.claim_states()}")
    unknown = set(world.archived) - {it.receipt.cold.key for it in world.tables.receipts}
    left_behind = {TAKEN, *world.superseded_keys}
    found += [f"an orphan in cold: {key}" for key in unknown - left_behind]
    if world.tables.releases:
        found.append(f"releases {list(world.tables.releases)}")
    if world.spent_bytes() < world.served_bytes - IN_FLIGHT_BYTES:
        found.append(f"{world.served_bytes} bytes were read, {world.spent_bytes()} counted")
    return found


def told(plant: Plant, seed: int) -> str:
    return f"{plant.__name__.replace('_', ' ')}, seed {seed}"


def matrix(
    plant: Plant, seed: int, evidence: Evidence, strike: Callable[[World, Point], Worker]
) -> tuple[int, list[str]]:
    """Each point in a world of its own, `strike` says whose; what went wrong, by point."""
    count, wrong = 0, []
    for point in points_of(plant, seed, evidence):
        world = plant(seed, evidence)
        assert is_hit(strike(world, point)), point
        count += 1
        wrong += [f"{point}: {it}" for it in leftovers(world)]
    return count, wrong


def test_no_contract_of_a_sweep_is_forgotten() -> None:
    """A protocol that is added is either watched, or said here to be none of a sweep's."""
    protocols = {
        it for it in vars(archiver.protocols).values() if getattr(it, "_is_protocol", False)
    } - {Protocol}
    of_no_sweep = {Adoptions, Records, UrlSigner, ObjectStore, OpenBody, PutsInParts}
    part_of_another = {Leases, PartTarget}
    ask_nobody = {Observer, Clock}
    inside_the_ledgers_transactions = {ArchiveSource, PassesInTheWay}
    said = of_no_sweep | part_of_another | ask_nobody | inside_the_ledgers_transactions
    assert protocols - said == set(CONTRACTS.values())
    assert "claim" in WATCHED["claims"]
    assert "create" in WATCHED["cold"]


@pytest.mark.parametrize("evidence", [Evidence.SIGNED, Evidence.READBACK], ids=str)
@pytest.mark.parametrize(("plant", "seed"), WORLDS)
def test_no_byte_is_lost_wherever_the_worker_dies(
    plant: Plant, seed: int, evidence: Evidence, tell_figure: TellFigure
) -> None:
    """The bytes are hot, or cold with a receipt; and nothing is left lying about."""

    def die(_: Worker) -> None:
        raise Died

    def strike(world: World, point: Point) -> Worker:
        worker = struck(world, point, die)
        with pytest.raises(Died):
            worker.sweep(retry_wait_seconds=60, **SMALL)
        assert len(worker.script.calls) == point.number + 1, "it went on after its death"
        worker.stop_beating()
        assert [] == world.troubles(), point
        finish(world)
        return worker

    count, wrong = matrix(plant, seed, evidence, strike)
    tell_figure(
        f"crash matrix, death at {evidence}, {plant.__name__}, seed {seed}", f"{count} points"
    )
    assert [] == wrong
    assert count > 100


@pytest.mark.parametrize(("plant", "seed"), WORLDS)
def test_an_answer_that_never_comes_changes_nothing(
    plant: Plant, seed: int, tell_figure: TellFigure
) -> None:
    """One call of the ledger or a store fails, before or after it took effect."""

    def fail_at(point: Point) -> Callable[[Worker], None]:
        room, _, operation = point.call.partition(".")

        def fail(_: Worker) -> None:
            if room not in ("hot", "open", "cold", "multipart"):
                raise LedgerUnavailable(operation=operation, message="scripted")
            side = "cold" if room in ("cold", "multipart") else "hot"
            raise StoreUnavailable(store=side, operation=operation, code="scripted")

        return fail

    def strike(world: World, point: Point) -> Worker:
        worker = struck(world, point, fail_at(point))
        worker.sweep(retry_wait_seconds=60, **SMALL)
        assert [] == world.troubles(), point
        worker.leave()
        finish(world)
        return worker

    count, wrong = matrix(plant, seed, Evidence.SIGNED, strike)
    tell_figure(f"crash matrix, lost answer, {told(plant, seed)}", f"{count} points")
    assert [] == wrong


@pytest.mark.parametrize(("plant", "seed"), WORLDS)
def test_g5_another_workers_whole_sweep_fits_in_anywhere(
    plant: Plant, seed: int, tell_figure: TellFigure
) -> None:
    def sweep_beside(world: World) -> Callable[[Worker], None]:
        def sweep(_: Worker) -> None:
            other = world.worker()
            other.sweep(**SMALL)
            other.leave()

        return sweep

    def strike(world: World, point: Point) -> Worker:
        worker = struck(world, point, sweep_beside(world))
        summary = worker.sweep(retry_wait_seconds=60, **SMALL)
        assert summary.state == "done", point
        worker.leave()
        finish(world)
        return worker

    count, wrong = matrix(plant, seed, Evidence.SIGNED, strike)
    tell_figure(
        f"crash matrix, another worker, {plant.__name__}, seed {seed}", f"{count} points"
    )
    assert [] == wrong


@pytest.mark.parametrize(("plant", "seed"), WORLDS)
def test_g9_a_worker_that_wakes_after_its_lease_harms_nothing(
    plant: Plant, seed: int, tell_figure: TellFigure
) -> None:
    """It sleeps in the middle of a call; meanwhile another finishes all of its work."""

    def oversleep(world: World) -> Callable[[Worker], None]:
        def sleep(worker: Worker) -> None:
            worker.stop_beating()
            finish(world)
            assert [] == world.troubles()

        return sleep

    def strike(world: World, point: Point) -> Worker:
        worker = struck(world, point, oversleep(world))
        worker.sweep(retry_wait_seconds=60, **SMALL)
        assert [] == world.troubles(), point
        worker.leave()
        finish(world)
        return worker

    count, wrong = matrix(plant, seed, Evidence.SIGNED, strike)
    tell_figure(f"crash matrix, oversleeping, {told(plant, seed)}", f"{count} points")
    assert [] == wrong


@pytest.mark.parametrize("id_", ["001", "004"])
@pytest.mark.parametrize(("plant", "seed"), WORLDS)
def test_g3_a_page_captured_again_at_any_time_is_never_lost(
    plant: Plant, seed: int, id_: str, tell_figure: TellFigure
) -> None:
    """001 is archived and its release is due; 004 is still to be moved."""
    newer = b"captured again, and longer than before"

    def strike(world: World, point: Point) -> Worker:
        worker = struck(world, point, lambda _: world.capture_again(id_, newer))
        worker.sweep(retry_wait_seconds=60, **SMALL)
        assert [] == world.troubles(), point
        worker.leave()
        finish(world)
        assert world.rows.row(id_).hot_path is None
        assert world.hot.peek(at(id_)) is None
        return worker

    count, wrong = matrix(plant, seed, Evidence.SIGNED, strike)
    tell_figure(
        f"crash matrix, {id_} captured again, {plant.__name__}, seed {seed}", f"{count} points"
    )
    assert [] == wrong
