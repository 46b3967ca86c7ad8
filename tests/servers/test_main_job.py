"""The main job on a backlog of real pages, between real stores, by the real program."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

import psycopg
import pytest

from archiver.demo.postgres import EmbeddedPostgres
from archiver.model import Evidence
from tests.harness.command import archiver
from tests.harness.hover import create_hover
from tests.harness.sides import OUR_OWN, FileSide, S3Side, SupabaseSide, s3_side
from tests.harness.spent import archiver_measured
from tests.harness.world import PAGES_PER_JOB, plant_world
from tests.standin.supabase import SupabaseStandIn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.demo.pages import Page
    from tests.harness.command import Ran
    from tests.harness.sides import Side
    from tests.harness.spent import Spent
    from tests.harness.versitygw import S3Request, S3Server
    from tests.harness.world import Row, World

Route = Literal["supabase to s3", "s3 to s3", "s3 to s3 by boto3", "file to file"]

DOMAINS = 20
NOTHING_SPECIAL = (
    "recovered",
    "replaced",
    "waiting",
    "parked",
    "superseded",
    "elsewhere",
    "pending_release",
)
OF_THE_BUCKET = "-"  # a request that names no object
PROBE_REQUESTS = (
    22  # three for each of three questions, five for each of two of parts, and room
)
ROUTES: tuple[Route, ...] = get_args(Route)
JOBS = 500  # of ten pages each
PEAK_BYTES = 200 * 10**6


@dataclass(frozen=True)
class Sweep:
    """One sweep over a world, and the world after it."""

    world: World
    ran: Ran
    spent: Spent
    kept_rows_before: list[Row] = field(repr=False)
    requests: list[S3Request] = field(repr=False)  # the S3 stores were asked during it
    statements: dict[str, int] = field(repr=False)  # run during it, by text
    transactions_count: int

    @property
    def summary(self) -> dict[str, Any]:
        assert self.ran.exit_code == 0, self.ran.stderr
        return self.ran.summary


@pytest.fixture(scope="module")
def counting_postgres() -> Iterator[EmbeddedPostgres]:
    """A server that counts its statements."""
    with EmbeddedPostgres() as server:
        with psycopg.connect(server.url(), autocommit=True) as connection:
            connection.execute("alter system set shared_preload_libraries = pg_stat_statements")
        server.stop()
        server.start()
        with psycopg.connect(server.url(), autocommit=True) as connection:
            connection.execute("create extension pg_stat_statements")
        yield server


@pytest.fixture(scope="module", params=ROUTES)
def sweep(
    request: pytest.FixtureRequest,
    counting_postgres: EmbeddedPostgres,
    s3_server: S3Server,
    real_pages: list[Page],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Sweep]:
    """One sweep from one kind of hot store to one kind of cold store."""
    route: Route = request.param
    database = route.replace(" ", "_")
    url = counting_postgres.create_database(database)
    create_hover(url, with_ledger=False)
    with ExitStack() as closing:
        hot, cold = _sides(route, s3_server, tmp_path_factory, closing)
        world = plant_world(url, hot, cold, real_pages, domains=DOMAINS, jobs=JOBS)
        for arguments in (("migrate",), ("migrate", "--source", "task_html")):
            migrated = archiver(world.settings, *arguments)
            assert migrated.exit_code == 0, migrated.stderr
        kept_rows_before = world.rows(world.kept)
        requests_before = len(_requests(s3_server, hot, cold))
        with psycopg.connect(counting_postgres.url(), autocommit=True) as watcher:
            watcher.execute("select pg_stat_statements_reset()")
            transactions_before = _transactions_count(watcher, database)
            ran, spent = archiver_measured(world.settings, "--once", "--json")
            statements = _statements(watcher, database)
            transactions_count = _transactions_count(watcher, database) - transactions_before
        requests = _requests(s3_server, hot, cold)[requests_before:]
        print(  # noqa: T201 - for people: `pytest -rP`
            f"{route}: {len(world.due)} objects, {spent}, {transactions_count} transactions, "
            f"{sum(statements.values())} statements: {ran.stdout}"
        )
        yield Sweep(
            world, ran, spent, kept_rows_before, requests, statements, transactions_count
        )
    counting_postgres.drop_database(database)


def test_everything_due_is_archived_and_let_go_of(sweep: Sweep) -> None:
    """Read back by plain boto3 or from the disk, the pages are what they were."""
    world, summary = sweep.world, sweep.summary
    assert (
        len(world.due) == (len(world.captured) // PAGES_PER_JOB - 3 * DOMAINS) * PAGES_PER_JOB
    )
    assert (summary["state"], summary["stopped"], summary["error"]) == ("done", None, None)
    assert summary["archived"] == summary["released"] == len(world.due)
    assert summary["moved_bytes"] == sum(len(page.page.gz) for page in world.due)
    assert {summary[name] for name in NOTHING_SPECIAL} == {0}
    world.assert_done()


def test_the_newest_jobs_of_each_domain_are_untouched(sweep: Sweep) -> None:
    world = sweep.world

    assert world.rows(world.kept) == sweep.kept_rows_before
    assert [world.hot.read(page.location.path) for page in world.kept] == [
        page.page.gz for page in world.kept
    ]


def test_jobs_are_marked_once_all_their_pages_are_archived(sweep: Sweep) -> None:
    world = sweep.world
    marked = {page.job_id for page in world.due}

    assert {id_ for (id_,) in world.ask("select id from jobs where status = 'archived'")} == (
        marked
    )
    kept_facts = world.ask(
        "select job_id, status_before, mark.completed_at = job.completed_at "
        "from archiver.job_mark as mark join jobs as job on job.id = mark.job_id"
    )
    assert set(kept_facts) == {(job_id, "completed", True) for job_id in marked}
    assert len(kept_facts) == len(marked)


def test_the_evidence_is_what_the_store_was_seen_to_enforce(sweep: Sweep) -> None:
    proven = Evidence.READBACK if sweep.world.cold.provider == "file" else Evidence.SIGNED

    assert sweep.world.ask("select distinct evidence from archiver.receipt") == [(proven,)]


def test_a_second_sweep_does_nothing(sweep: Sweep) -> None:
    hot, cold = sweep.world.hot.names(), sweep.world.cold.names()
    ran = sweep.world.once()

    assert ran.exit_code == 0, ran.stderr
    assert ran.summary["state"] == "done"
    assert {ran.summary[name] for name in (*NOTHING_SPECIAL, "archived", "released")} == {0}
    assert (sweep.world.hot.names(), sweep.world.cold.names()) == (hot, cold)


def test_memory_stays_below_a_bound(sweep: Sweep) -> None:
    assert sweep.spent.peak_bytes < PEAK_BYTES


def test_rows_are_claimed_and_marked_in_groups(sweep: Sweep) -> None:
    """No statement runs for each row, neither in transactions of its own nor in a large one."""
    calls_count, statement = max((calls, text) for text, calls in sweep.statements.items())

    assert sweep.transactions_count < len(sweep.world.due) / 4
    assert calls_count < len(sweep.world.due) / 4, statement


def test_no_object_is_moved_by_another_client_than_the_one_chosen(sweep: Sweep) -> None:
    """Opening the stores and asking after buckets is always boto3's.

    Those are a few requests that do not grow with objects.
    """
    by_boto3 = [it for it in sweep.requests if "Boto3" in it.client]
    cold = sweep.world.cold
    if isinstance(cold, S3Side) and cold.cold_client == "boto3":
        in_cold = [it for it in sweep.requests if it.bucket == cold.bucket]
        assert [it for it in in_cold if "Boto3" not in it.client] == []
        by_boto3 = [it for it in by_boto3 if it.bucket != cold.bucket]

    assert len(by_boto3) <= PROBE_REQUESTS
    objects = [it.key for it in by_boto3 if it.key != OF_THE_BUCKET]
    assert [key for key in objects if not key.startswith(OUR_OWN)] == []


def test_each_cold_object_is_put_once(sweep: Sweep) -> None:
    if sweep.world.cold.provider == "file":
        return  # nothing counts there; `moved_bytes` is all there is
    bucket = sweep.world.cold.bucket
    puts = [
        it.key
        for it in sweep.requests
        if it.bucket == bucket
        and it.operation == "s3_PutObject"
        and not it.key.startswith(OUR_OWN)
    ]
    assert sorted(puts) == sorted(page.cold_key for page in sweep.world.due)


def _sides(
    route: Route,
    s3_server: S3Server,
    folders: pytest.TempPathFactory,
    closing: ExitStack,
) -> tuple[Side, Side]:
    hot: Side
    if route == "file to file":
        folder = folders.mktemp("stores")
        return FileSide(folder / "hot"), FileSide(folder / "cold")
    if route.startswith("s3 to s3"):
        hot = closing.enter_context(s3_side(s3_server))
    else:
        hot = SupabaseSide(closing.enter_context(SupabaseStandIn()))
    cold_client = "boto3" if route.endswith("by boto3") else "obstore"
    return hot, closing.enter_context(s3_side(s3_server, cold_client))


def _requests(s3_server: S3Server, hot: Side, cold: Side) -> list[S3Request]:
    return s3_server.requests(hot.bucket, cold.bucket)


def _transactions_count(watcher: psycopg.Connection, database: str) -> int:
    # Read from beside: whoever asks in that database is counted too.
    found = watcher.execute(
        "select xact_commit + xact_rollback from pg_stat_database where datname = %s",
        [database],
    ).fetchone()
    assert found is not None
    return int(found[0])


def _statements(watcher: psycopg.Connection, database: str) -> dict[str, int]:
    found = watcher.execute(
        "select query, calls from pg_stat_statements as seen "
        "join pg_database as db on db.oid = seen.dbid where datname = %s",
        [database],
    )
    return dict(found.fetchall())
