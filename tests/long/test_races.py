"""What the application does between any two steps of a sweep, on real stores and Postgres.

The steps are the calls of a sweep that nothing happens to, so a new one is covered the day it
is written. Each point has pages of its own: two whose release is pending, two to be moved.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import pytest

from archiver.config import Settings
from tests.harness.racing import RacingWorld, racing_world
from tests.harness.sides import FileSide, SupabaseSide, s3_side
from tests.harness.wire import How, Wire
from tests.unit.engine.world import Script

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from threading import Event

    from tests.harness.figures import TellFigure
    from tests.harness.hover import Hover, Page
    from tests.harness.versitygw import S3Server
    from tests.harness.wire import Turn
    from tests.standin.supabase import SupabaseStandIn

T = TypeVar("T")
Thing = Callable[[str], object]  # is told which call it happens before
Strike = Callable[["Race", Sequence["Page"], int], dict[int, list[Thing]]]
Then = Callable[[int, Sequence["Page"]], object]

NEWER = b"<html>captured again, and longer than before</html>"
NEVER = 10_000  # the number of no call: after the sweep


class Between(Script):
    """Does things before the calls of certain numbers; what is left over, at the end."""

    def __init__(self, things: dict[int, list[Thing]]) -> None:
        super().__init__()
        self._things = things

    def around(self, name: str, call: Callable[[], T]) -> T:
        number = len(self.calls)
        self.calls.append(name)
        for thing in self._things.pop(number, []):
            thing(name)
        return call()

    def finish(self) -> None:
        for number in sorted(self._things):
            for thing in self._things.pop(number):
                thing("the end")


@dataclass
class Race:
    """One world, used for all points in turn."""

    world: RacingWorld
    has_safe_delete: bool  # the hot store looks once more when it deletes
    kept_count: int = 0  # of the pages planted, the last ones
    points_count: int = 0
    wrong: list[str] = field(default_factory=list)
    lost_before: set[str] = field(default_factory=set)
    _number: int = 0  # of the point at hand
    _overwritten_before: dict[str, str] = field(default_factory=dict)  # by id, which call

    def plant(self) -> list[Page]:
        """Two pages whose release is pending, and two to be moved."""
        world = self.world
        world.forget()
        pending = [world.page() for _ in range(2)]
        world.sweep(release=False)
        assert all(map(world.is_archived, pending))
        return [*pending, *(world.page() for _ in range(2))]

    def calls(self) -> list[str]:
        """All calls of a sweep that nothing happens to."""
        self.plant()
        self.world.sweep()  # the first one stamps the store
        pages = self.plant()
        racer = self.world.racer()
        racer.sweep()
        racer.leave()
        assert [] == self.world.troubles()
        due = pages[: len(pages) - self.kept_count]
        assert all(map(self.world.is_archived, due))
        gone = {page.path for page in due}
        assert (
            self.world.hot.names() & {page.path for page in pages}
            == {page.path for page in pages} - gone
        )
        return racer.script.calls

    def run(self, strike: Strike, then: Then | None = None) -> None:
        """Strike before each call, and after the last; each time somebody finishes."""
        calls = self.calls()
        for number in range(len(calls) + 1):
            pages = self.plant()
            self._number, self._overwritten_before = number, {}
            script = Between(strike(self, pages, number))
            racer = self.world.racer(script)
            racer.sweep()
            script.finish()
            racer.leave()
            self.world.finish()
            self.points_count += 1
            self._judge(number)
            if then is not None:
                then(number, pages)
        assert self.points_count == len(calls) + 1

    def overwrite(self, page: Page, html: bytes) -> Thing:
        def thing(call: str) -> None:
            self._overwritten_before[page.task_id] = call
            self.world.put_object(page, html)

        return thing

    def rewrite(self, page: Page, html: bytes) -> Thing:
        return lambda _: self.world.write_row(page, html)

    def replace_alike(self, page: Page) -> Thing:
        """Overwrite the object by one of the same size; a file keeps its time as well."""

        def thing(call: str) -> None:
            self._overwritten_before[page.task_id] = call
            self.world.put_alike(page)

        return thing

    def delete_row(self, page: Page) -> Thing:
        return lambda _: self.world.delete_row(page)

    def restart_job(self, page: Page) -> Thing:
        hover = self.world.hover
        return lambda _: hover.update(
            "jobs", page.job_id, status="running", completed_at=None, started_at=hover.instant()
        )

    def is_kept(self, page: Page) -> bool:
        """It is hot, or its delete had been sent when it was overwritten."""
        return self.world.is_hot(page) or (
            not self.has_safe_delete and self._overwritten_before[page.task_id] == "hot.delete"
        )

    def require_archived(self, pages: Sequence[Page]) -> None:
        """All but what was lost: that is parked, for nobody can find it."""
        for page in pages:
            is_lost = self._overwritten_before.get(page.task_id) == "hot.delete"
            self.require(is_lost or self.world.is_archived(page))

    def require_let_go(self, pages: Sequence[Page]) -> None:
        for page in pages:
            self.require(self.world.outcomes(page) == ["released"])

    def require(self, claim: bool) -> None:  # noqa: FBT001  # the claim is named where it is made
        if not claim:
            self.wrong.append(f"#{self._number}: not as it must be")

    def _judge(self, number: int) -> None:
        """A page that was overwritten between the last look and the delete may be lost."""
        for trouble in [*self.world.troubles(), *map(str, self.world.in_motion())]:
            excused = [
                call
                for id_, call in self._overwritten_before.items()
                if id_ in trouble and call == "hot.delete"
            ]
            if excused:
                self.lost_before.update(excused)
            else:
                self.wrong.append(f"#{number}: {trouble}")

    def require_nothing_lost(self) -> None:
        assert [] == self.wrong
        assert self.lost_before == (set() if self.has_safe_delete else {"hot.delete"})


class RaceInWindow(Race):
    """One job of the domain is kept: its page is the last one."""

    def plant(self) -> list[Page]:
        world = self.world
        world.forget()
        pending = [world.page() for _ in range(2)]
        world.job()
        world.sweep(release=False)
        assert all(map(world.is_archived, pending))
        return [*pending, *(world.page() for _ in range(3))]


@pytest.fixture
def race_in_window(hover: Hover, hover_url: str, tmp_path: Path) -> Iterator[RaceInWindow]:
    hot, cold = FileSide(tmp_path / "hot"), FileSide(tmp_path / "cold")
    with racing_world(hover, hover_url, hot, cold, ARCHIVE_RETENTION_JOBS="1") as world:
        yield RaceInWindow(world, has_safe_delete=True, kept_count=1)


@pytest.fixture
def race(
    request: pytest.FixtureRequest, hover: Hover, hover_url: str, tmp_path: Path
) -> Iterator[Race]:
    """S3 to S3 (versitygw), files to files, Supabase to files."""
    if request.param == "s3":
        server: S3Server = request.getfixturevalue("s3_server")
        with (
            s3_side(server) as hot,
            s3_side(server) as cold,
            racing_world(hover, hover_url, hot, cold) as world,
        ):
            yield Race(world, has_safe_delete=False)
        return
    cold_file = FileSide(tmp_path / "cold")
    if request.param == "supabase":
        supabase: SupabaseStandIn = request.getfixturevalue("supabase")
        hot_supabase = SupabaseSide(supabase)
        with racing_world(hover, hover_url, hot_supabase, cold_file) as world:
            yield Race(world, has_safe_delete=False)
        return
    with racing_world(hover, hover_url, FileSide(tmp_path / "hot"), cold_file) as world:
        yield Race(world, has_safe_delete=True)


# --- captured again -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("race", "later"),
    [("s3", 0), ("s3", 1), ("s3", None), ("files", 1), ("supabase", 0)],
    indirect=["race"],
)
def test_g3_a_page_captured_again_between_any_two_steps_is_archived_anew(
    race: Race, later: int | None, tell_figure: TellFigure, request: pytest.FixtureRequest
) -> None:
    """In both orders; the second write so many calls after the first, or after the sweep."""

    def strike(race: Race, pages: Sequence[Page], number: int) -> dict[int, list[Thing]]:
        then = NEVER if later is None else number + later
        things: dict[int, list[Thing]] = defaultdict(list)
        for object_first in pages[::2]:
            things[number].append(race.overwrite(object_first, NEWER))
            things[then].append(race.rewrite(object_first, NEWER))
        for row_first in pages[1::2]:
            things[number].append(race.rewrite(row_first, NEWER))
            things[then].append(race.overwrite(row_first, NEWER))
        return things

    race.run(strike, then=lambda _, pages: race.require_archived(pages))

    tell_figure(f"captured again, {request.node.callspec.id}", f"{race.points_count} points")
    race.require_nothing_lost()


@pytest.mark.parametrize("race", ["s3", "files"], indirect=True)
def test_g3_an_object_replaced_while_its_release_is_pending_stays(
    race: Race, tell_figure: TellFigure, request: pytest.FixtureRequest
) -> None:
    """The row points cold already; the new object is as long, and a file as old."""

    def strike(race: Race, pages: Sequence[Page], number: int) -> dict[int, list[Thing]]:
        return {number: [race.replace_alike(pages[0])]}

    race.run(strike, then=lambda _, pages: race.require(race.is_kept(pages[0])))

    tell_figure(f"replaced alike, {request.node.callspec.id}", f"{race.points_count} points")
    race.require_nothing_lost()


# --- another worker -------------------------------------------------------------------------


@pytest.mark.parametrize("race", ["files"], indirect=True)
def test_g5_another_workers_whole_sweep_fits_between_any_two_steps(
    race: Race, tell_figure: TellFigure
) -> None:
    """It claims, archives and lets go of whatever the first one has not claimed yet."""

    def strike(race: Race, pages: Sequence[Page], number: int) -> dict[int, list[Thing]]:
        del pages
        return {number: [lambda _: race.world.sweep()]}

    race.run(strike, then=lambda _, pages: race.require_let_go(pages))

    tell_figure("another worker", f"{race.points_count} points")
    assert [] == race.wrong


# --- what else the application does ---------------------------------------------------------


@pytest.mark.parametrize("race", ["files"], indirect=True)
def test_g1_a_row_deleted_or_a_job_restarted_between_any_two_steps_loses_nothing(
    race: Race, tell_figure: TellFigure
) -> None:
    """Of one pending and one fresh page the row goes; of the others the job begins anew."""

    def strike(race: Race, pages: Sequence[Page], number: int) -> dict[int, list[Thing]]:
        deleted = [race.delete_row(page) for page in pages[::2]]
        restarted = [race.restart_job(page) for page in pages[1::2]]
        return {number: [*deleted, *restarted]}

    race.run(strike)

    tell_figure("row deleted, job restarted", f"{race.points_count} points")
    race.require_nothing_lost()
    assert {} == race.world.parked()


def test_a_window_that_moves_between_any_two_steps_loses_nothing(
    race_in_window: RaceInWindow, tell_figure: TellFigure
) -> None:
    """A newer job completes: the one that was kept is due, now or in the next sweep."""
    race = race_in_window

    race.run(
        lambda race, _, number: {number: [lambda _: race.world.job()]},
        then=lambda _number, pages: race.require(race.world.is_archived(pages[-1])),
    )

    tell_figure("window moved on", f"{race.points_count} points")
    race.require_nothing_lost()


def test_a_window_that_moves_back_is_obeyed_by_the_next_sweep(
    race_in_window: RaceInWindow, tell_figure: TellFigure
) -> None:
    """The newest job begins anew: the one before it is kept, if its sweep had not begun."""
    race = race_in_window
    begins = race.calls().index("claims.begin")

    def require_obeyed(number: int, pages: Sequence[Page]) -> None:
        _, _, _, before, kept = pages
        race.require(race.world.is_archived(before) == (number > begins))
        race.require(race.world.is_hot(kept))

    race.run(
        lambda race, pages, number: {number: [race.restart_job(pages[-1])]},
        then=require_obeyed,
    )

    tell_figure("window moved back", f"{race.points_count} points")
    race.require_nothing_lost()


# --- a COMMIT whose reply is lost -----------------------------------------------------------


def test_g5_a_commit_whose_reply_is_lost_is_settled_by_asking_again(
    hover: Hover, hover_url: str, tmp_path: Path, tell_figure: TellFigure
) -> None:
    """Each call of the ledger in turn: of moves that fail too, and that are given back."""
    hot, cold = FileSide(tmp_path / "hot"), FileSide(tmp_path / "cold")
    port = hover.connection.info.port
    with Wire(port) as wire, racing_world(hover, hover_url, hot, cold) as world:
        eventful_sweep(world, Script())  # the first one stamps the store
        asked = eventful_sweep(world, Script())
        numbers = [n for n, name in enumerate(asked) if name.startswith(("claims", "releases"))]
        named = {asked[number].partition(".")[2] for number in numbers}
        assert named >= {"claim", "record", "fail", "give_back", "claim_release", "released"}
        url = hover_url.replace(f":{port}/", f":{wire.port}/")
        world.settings = Settings.read({**world.environ, "ARCHIVE_DATABASE_URL": url})
        for number in numbers:
            lost: list[Event] = []

            def lose(_: str, lost: list[Event] = lost) -> None:
                lost.append(wire.at(is_commit, partial(wire.fail, How.CUT), is_answered=True))

            eventful_sweep(world, Between({number: [lose]}))

            assert [it.is_set() for it in lost] == [True], asked[number]

    tell_figure("lost COMMIT", f"{len(numbers)} points")


def is_commit(turn: Turn) -> bool:
    return b"COMMIT\0" in turn.data  # and no BEGIN that says READ COMMITTED


def eventful_sweep(world: RacingWorld, script: Script) -> list[str]:
    """One page is let go, one archived, one fails, one is claimed and given back."""
    world.forget()
    pending = world.page()
    world.sweep(release=False)
    moved, damaged, later = world.page(), world.page(), world.page()
    world.put_alike(damaged)
    racer = world.racer(script)
    summary = racer.sweep(max_bytes=len(moved.body) + len(damaged.body))
    racer.die()

    assert (summary.archived, summary.released, summary.waiting) == (1, 2, 1)
    assert [] == [it for it in world.troubles() if damaged.task_id not in it]
    assert ["released"] == world.outcomes(pending) == world.outcomes(moved)
    assert world.ask("select id, state, attempts_count from archiver.claim order by id") == [
        (damaged.task_id, "waiting", 1)
    ]
    assert world.is_hot(later)
    assert sum(name == "hot.open" for name in script.calls) == 2
    return script.calls
