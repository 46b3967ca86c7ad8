"""What an operator does besides sweeping is stopped at every point there is, on Postgres."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, cast

import psycopg
import pytest

from archiver import succession
from archiver.config import Settings
from archiver.engine.adopting import Adopting, AdoptPlan, Prover, Reading
from archiver.engine.budget import BytesInFlight
from archiver.engine.stop import Stop
from archiver.errors import LedgerUnavailable, StoreUnavailable
from archiver.ledger import schema
from archiver.ledger.migrate import apply_statements, migrate
from archiver.model import CandidateId, Pause, Secret
from archiver.ops.clock import SystemClock
from archiver.sources.finding import shipped_source_file
from archiver.succession import Succession
from tests.fakes.clock import ManualClock
from tests.fakes.faults import unavailable
from tests.fakes.pool import SteppingPool
from tests.harness.copies import rows_of
from tests.harness.crash_sources import Avatars, Pages
from tests.harness.crash_world import State, eventful
from tests.harness.crashes import Point, Struck, Witness, cuts_of
from tests.harness.hover import create_hover
from tests.harness.tap import Tap
from tests.integration.test_ledger_migrations import ALL_FILES, GOLDEN, told_schema
from tests.unit.engine.world import Script, _Between, raising

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from archiver.model import Takeover, UndoAnswer
    from tests.harness.crash_sources import Rowed
    from tests.harness.crash_world import CrashWorld, MakeCrashWorld
    from tests.harness.figures import TellFigure
    from tests.harness.postgres import Databases
    from tests.harness.tap import Around
    from tests.unit.engine.world import Worker

GRACE_SECONDS = 900.0
HOLD_SECONDS = 30.0  # shorter than a lease


# --- undo -------------------------------------------------------------------------------------


@pytest.mark.parametrize("rowed", [Pages(), Avatars()], ids=lambda it: it.name)
def test_an_undo_that_dies_anywhere_is_finished_by_the_next(
    rowed: Rowed, make_crash_world: MakeCrashWorld, tell_figure: TellFigure
) -> None:
    world = make_crash_world(rowed, 0)
    base, ids = archived(world)
    witness = Witness(world)
    undo(world, witness)
    wrong = []
    for death in witness.deaths:
        world.put_back(death.state)
        wrong += [f"{death}: {it}" for it in world.troubles()]
        answers = undo(world, Script())
        wrong += [
            f"{death}: {id_} is {told}" for id_, told in answers.items() if not told.is_undone
        ]
        wrong += [f"{death}: {id_} points cold" for id_ in ids - pointing_hot(world)]
        archive_again(world)
        wrong += [f"{death}, then a sweep: {it}" for it in world.leftovers()]
    for point in cuts_of(witness.calls):
        world.put_back(base)
        struck = Struck(point, world.tap.cut)
        with suppress(LedgerUnavailable):
            undo(world, struck)
        assert struck.has_hit, point
        wrong += [f"{point}: {it}" for it in world.troubles()]
        archive_again(world)
        wrong += [f"{point}, then a sweep: {it}" for it in world.leftovers()]
    tell_figure(
        f"crashes of an undo, {rowed.name}",
        f"{witness.points_count} points, {len(witness.deaths)} states",
    )
    assert [] == wrong
    assert len(witness.deaths) == 3  # before it, between its two groups, after it


def archived(world: CrashWorld) -> tuple[State, set[str]]:
    """Hot copies in their grace, and some past it, of jobs that are marked."""
    ids = {"a0", "a1", "b0", "b1"}
    world.grace_seconds = GRACE_SECONDS
    for group in ("a", "b"):
        world.plant(group, *sorted(id_ for id_ in ids if id_.startswith(group)))
        worker = world.worker()
        world.sweep(worker, release=False)
        worker.leave()
        world.bury()
        world.clock.advance(GRACE_SECONDS * 2 / 3)
    assert set() == pointing_hot(world)
    return world.state(), ids


def undo(world: CrashWorld, script: Script) -> dict[str, UndoAnswer]:
    worker = world.worker()
    worker.script = world.tap.script = script
    try:
        return worker.undo(HOLD_SECONDS)
    finally:
        world.tap.script = None
        worker.leave()


def archive_again(world: CrashWorld) -> None:
    """All holds end, all is archived, all grace passes."""
    world.finish()
    world.clock.advance(GRACE_SECONDS)
    world.finish()


def pointing_hot(world: CrashWorld) -> set[str]:
    pointers = world.rowed.pointers(world.copies.save())
    return {id_ for id_, (hot, _) in pointers.items() if hot is not None}


# --- adopt ------------------------------------------------------------------------------------


def test_an_adopt_that_dies_anywhere_is_finished_by_the_next(
    make_crash_world: MakeCrashWorld, tell_figure: TellFigure
) -> None:
    world = make_crash_world(Pages(), 0)
    base = without_ledger(world)
    witness = Witness(world)
    assert adopt(world, witness).adopted == 5
    wrong = []
    for death in witness.deaths:
        world.put_back(death.state)
        world.outlive_leases()
        takeover = adopt(world, Script())
        wrong += [f"{death}: {it}" for it in amiss_after_adopting(world, takeover)]
    for point in cuts_of(witness.calls):
        world.put_back(base)
        struck = Struck(point, world.tap.cut)
        takeover = adopt(world, struck)
        assert struck.has_hit, point
        wrong += [f"{point}: {it}" for it in amiss_after_adopting(world, takeover)]
    tell_figure(
        "crashes of an adopt", f"{witness.points_count} points, {len(witness.deaths)} states"
    )
    assert [] == wrong
    assert len(witness.deaths) > 3


def without_ledger(world: CrashWorld) -> State:
    """Rows that another worker archived: this ledger knows nothing of them."""
    world.plant("a", *(f"a{number}" for number in range(5)))
    world.finish()
    for table in ("outcome", "release", "receipt", "place", "job_mark"):
        world.db.execute(f"delete from archiver.{table}".encode())
    return world.state()


def adopt(world: CrashWorld, script: Script) -> Takeover:
    worker, ledger = world.worker(), world.newest_ledger
    worker.script = world.tap.script = script
    source = world.rows
    plan = AdoptPlan(bucket="cold-pages", concurrency=2, page_rows=2, record_group=2)
    reading = Reading(source.name, ledger.adoptions(source), world.clock, lambda _: None, plan)
    prover = Prover(source.name, world.cold, BytesInFlight())
    pool = SteppingPool(world.clock)
    try:
        return Adopting(reading, prover, pool, worker.heartbeat, Stop())()
    finally:
        world.tap.script = None
        worker.leave()


def amiss_after_adopting(world: CrashWorld, takeover: Takeover) -> list[str]:
    """Each row has one receipt, and nothing can ever be deleted against it."""
    saved = world.copies.save()
    receipts = sorted(row["id"] for row in rows_of(saved, "archiver.receipt"))
    found = [] if receipts == [f"a{it}" for it in range(5)] else [f"receipts {receipts}"]
    found += [f"a release {row}" for row in rows_of(saved, "archiver.release")]
    found += [] if takeover.error is None else [takeover.error]
    return found


# --- ledger take-over -------------------------------------------------------------------------


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Of a command whose ledger and cold store are the world's."""
    return Settings.read(
        {
            "ARCHIVE_DATABASE_URL": "postgresql://nobody@127.0.0.1/nothing",
            "ARCHIVE_HOT": f"file://{tmp_path}/hot",
            "ARCHIVE_PROVIDER": "file",
            "ARCHIVE_ENDPOINT": f"file://{tmp_path}/cold",
            "ARCHIVE_BUCKET": "cold-pages",
        }
    )


def test_a_take_over_that_dies_anywhere_is_finished_by_the_next(
    make_crash_world: MakeCrashWorld,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    tell_figure: TellFigure,
) -> None:
    """Once it is decided this database does all its work, and the other one is refused."""
    world = make_crash_world(Pages(), 0)
    open_worlds_cold_store(world, monkeypatch)
    other, base = forked(world)
    witness = Witness(world)
    take_over(world, settings, witness)
    wrong = []
    for death in witness.deaths:
        world.put_back(death.state)
        if death is witness.deaths[0]:
            wrong += [f"{death}: {it}" for it in amiss_where_refused(world, world.state())]
        else:  # a worker comes before the operator does
            world.finish()
            wrong += [f"{death}, then a sweep: {it}" for it in world.leftovers()]
            world.put_back(death.state)
        take_over(world, settings, Script())
        wrong += [f"{death}: {it}" for it in amiss_after_take_over(world, other)]
    points = [*cuts_of(witness.calls), *losses_in_cold(witness.calls)]
    for point in points:
        world.put_back(base)
        is_in_cold = point.call.startswith("cold.")
        struck = Struck(point, raising(store_lost) if is_in_cold else world.tap.cut)
        with suppress(LedgerUnavailable, StoreUnavailable):
            take_over(world, settings, struck)
        assert struck.has_hit, point
        take_over(world, settings, Script())
        wrong += [f"{point}: {it}" for it in amiss_after_take_over(world, other)]
    tell_figure(
        "crashes of a take-over",
        f"{witness.points_count} points, {len(witness.deaths)} states, {len(points)} losses",
    )
    assert [] == wrong
    assert len(witness.deaths) == 3  # before it, decided, and the cold store told of it


class _Scripted:
    """Of a worker, what stands before a store asks for."""

    def __init__(self, tap: Tap) -> None:
        self._tap = tap

    @property
    def script(self) -> Around:
        return self._tap.script or Script()


def open_worlds_cold_store(world: CrashWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """For the command, wherever it opens one; its calls pass the script of the tap."""

    def open_cold(*_: object) -> _Between:
        return _Between(world.cold, "cold", cast("Worker", _Scripted(world.tap)))

    monkeypatch.setattr(succession, "open_cold", open_cold)
    monkeypatch.setattr(
        succession, "find_capabilities", lambda *_: (world.cold.capabilities, None)
    )


def forked(world: CrashWorld) -> tuple[State, State]:
    """A database that releases here, with two more to let go; and its copy from before that.

    In the copy a row points at an object that the other one let go of.
    """
    world.plant("a", "a0", "a1")
    world.finish()
    world.plant("b", "b0", "b1")
    other = world.state()
    world.db.execute("delete from archiver.stamp")
    world.restore_row("a0")
    return other, world.state()


def take_over(world: CrashWorld, settings: Settings, script: Script) -> None:
    ledger = world.ledger()
    world.tap.script = script
    try:
        succeeding = Succession(ledger, {world.rows.name: settings}, world.clock)
        succeeding.take_over()
        succeeding.outlive_leases()
    finally:
        world.bury()


def store_lost() -> StoreUnavailable:
    return unavailable("cold", "scripted")


def losses_in_cold(calls: list[str]) -> Iterator[Point]:
    """Before and after each call of the cold store."""
    for number, call in enumerate(calls):
        if call.startswith("cold."):
            yield Point(number, is_after=False, call=call)
            yield Point(number, is_after=True, call=call)


def amiss_after_take_over(world: CrashWorld, other: State) -> list[str]:
    """This database does what is left; the other one, as it was, lets go of nothing."""
    world.finish()
    found = world.leftovers()
    cold = world.state().cold
    return found + [
        f"the other database: {it}"
        for it in amiss_where_refused(world, State(other.rows, other.hot, cold, 0))
    ]


def amiss_where_refused(world: CrashWorld, state: State) -> list[str]:
    world.put_back(state)
    summary = world.finish()
    is_refused = (summary.state, summary.released) == ("fatal", 0)
    found = [] if is_refused else [f"not refused: {summary}"]
    found += [f"deleted: {at}" for at in set(state.hot) - set(world.hot.objects)]
    found += world.troubles()
    world.put_back(state)
    return found


# --- retry, pause, resume ---------------------------------------------------------------------


def retry_all(world: CrashWorld) -> None:
    world.newest_ledger.records.retry(world.rows.name, None)


def retry_some(world: CrashWorld) -> None:
    ids = [CandidateId("spoilt"), CandidateId("unreadable")]
    world.newest_ledger.records.retry(world.rows.name, ids)


def pause(world: CrashWorld) -> None:
    world.newest_ledger.fleet.pause(Pause.RELEASES)


def resume(world: CrashWorld) -> None:
    world.newest_ledger.fleet.pause(Pause.NOTHING)


@pytest.mark.parametrize("command", [retry_all, retry_some, pause, resume])
def test_a_command_that_dies_anywhere_can_be_given_again(
    command: Callable[[CrashWorld], None],
    make_crash_world: MakeCrashWorld,
    tell_figure: TellFigure,
) -> None:
    world = make_crash_world(Pages(), 0)
    eventful(world)
    world.finish()  # two rows are parked
    if command is resume:
        give(pause, world, Script())
    base = world.state()
    witness = Witness(world)
    give(command, world, witness)
    after, wrong = world.state(), []
    for death in witness.deaths:
        world.put_back(death.state)
        give(command, world, Script())
        if told_of(world.state()) != told_of(after):
            wrong.append(f"{death}: {told_of(world.state())}")
        give(resume, world, Script())
        world.finish()
        wrong += [f"{death}, then a sweep: {it}" for it in world.leftovers()]
    for point in cuts_of(witness.calls):
        world.put_back(base)
        struck = Struck(point, world.tap.cut)
        with pytest.raises(LedgerUnavailable):
            give(command, world, struck)
        told = told_of(world.state())
        if told not in (told_of(base), told_of(after)):
            wrong.append(f"{point}: {told}")
    tell_figure(
        f"crashes of {command.__name__}",
        f"{witness.points_count} points, {len(witness.deaths)} states",
    )
    assert [] == wrong
    assert len(witness.deaths) == 2


def give(command: Callable[[CrashWorld], None], world: CrashWorld, script: Script) -> None:
    worker = world.worker()
    worker.script = world.tap.script = script
    try:
        command(world)
    finally:
        world.tap.script = None
        worker.leave()


def told_of(state: State) -> tuple[object, ...]:
    """What these commands change, without the time at which they did."""
    claims = [(row["id"], row["state"]) for row in rows_of(state.rows, "archiver.claim")]
    return claims, [row["what"] for row in rows_of(state.rows, "archiver.pause")]


# --- migrate ----------------------------------------------------------------------------------


class HurriedClock(ManualClock):
    """Whoever polls by it gives up after the second look."""

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds + 1000.0)


@pytest.fixture
def tap(monkeypatch: pytest.MonkeyPatch) -> Tap:
    tap = Tap()
    tap.install(monkeypatch)
    return tap


def migrate_under(tap: Tap, url: str, script: Script) -> list[str]:
    tap.script = script
    try:
        return migrate(Secret(url), SystemClock())
    finally:
        tap.script = None


def points_of_migrate(tap: Tap, databases: Databases) -> list[Point]:
    script = Script()
    assert migrate_under(tap, databases.empty(), script) == ALL_FILES
    return list(cuts_of(script.calls))


def test_a_migrate_that_dies_anywhere_leaves_whole_migrations(
    tap: Tap, databases: Databases, tell_figure: TellFigure
) -> None:
    points = points_of_migrate(tap, databases)
    for point in points:
        url = databases.empty()
        struck = Struck(point, tap.cut)
        with pytest.raises(LedgerUnavailable):
            migrate_under(tap, url, struck)
        with psycopg.Connection.connect(url, autocommit=True) as hands:
            applied = sorted(schema.applied(hands))
            assert applied == list(range(1, len(applied) + 1)), point

            again = migrate_under(tap, url, Script())

            assert again == ALL_FILES[len(applied) :], point
            assert told_schema(hands) == GOLDEN.read_text(), point
        databases.drop_newest()
    tell_figure("crashes of a migrate", f"{len(points)} points")
    assert len(points) > 3 * len(ALL_FILES)


def test_a_whole_second_migrate_fits_between_any_two_steps_of_the_first(
    tap: Tap, databases: Databases, tell_figure: TellFigure
) -> None:
    points = points_of_migrate(tap, databases)
    for point in points:
        url = databases.empty()
        applied: list[str] = []

        def second(url: str = url, applied: list[str] = applied) -> None:
            with suppress(LedgerUnavailable):  # the first one has the lock
                applied += migrate(Secret(url), HurriedClock())

        struck = Struck(point, second)
        applied += migrate_under(tap, url, struck)
        assert struck.has_hit, point
        with psycopg.Connection.connect(url, autocommit=True) as hands:
            assert applied == ALL_FILES, point
            assert told_schema(hands) == GOLDEN.read_text(), point
        databases.drop_newest()
    tell_figure("migrates at once", f"{len(points)} points")


def test_what_a_source_needs_is_there_wherever_the_statements_were_stopped(
    tap: Tap, databases: Databases, tell_figure: TellFigure
) -> None:
    """Columns and indexes, one by one; a concurrent build is no transaction."""
    needs = shipped_source_file("task_html").needs

    def apply(url: str, script: Script) -> None:
        tap.script = script
        try:
            apply_statements(Secret(url), needs, SystemClock())
        finally:
            tap.script = None

    script = Script()
    apply(databases.like("hover", create_hover), script)
    points = list(cuts_of(script.calls))
    for point in points:
        url = databases.like("hover", create_hover)
        with pytest.raises(LedgerUnavailable):
            apply(url, Struck(point, tap.cut))
        apply(url, Script())
        with psycopg.Connection.connect(url, autocommit=True) as hands:
            found = hands.execute(
                "select c.relname from pg_index i join pg_class c on c.oid = i.indexrelid "
                "where i.indisvalid and c.relname like 'archiver_tasks_hot_%' order by 1"
            ).fetchall()
        assert found == [("archiver_tasks_hot_page",), ("archiver_tasks_hot_path",)], point
        databases.drop_newest()
    tell_figure("crashes of what a source needs", f"{len(points)} points")
