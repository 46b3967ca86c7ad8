"""The main job with the database behind a pooler, gone for a while, and under its own role."""

from __future__ import annotations

import secrets
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, get_args

import psycopg
import pytest
from psycopg import sql

from archiver.demo.postgres import StopMode
from tests.harness.hover import create_hover
from tests.harness.sides import SupabaseSide, s3_side
from tests.harness.world import BOUND_SECONDS, at_request, plant_world

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.demo.pages import Page
    from archiver.demo.postgres import EmbeddedPostgres
    from tests.harness.pgbouncer import Pooler
    from tests.harness.versitygw import S3Server
    from tests.harness.world import World
    from tests.standin.supabase import SupabaseStandIn

ROLE = Path(__file__).parents[2] / "deploy" / "postgres-role.sql"
TABLES = ("tasks", "jobs")


# --- behind a pooler ------------------------------------------------------------------------


def test_a_sweep_works_behind_a_pooler_in_transaction_mode(
    world: World, pooler: Pooler
) -> None:
    ran = world.once(ARCHIVE_DATABASE_URL=pooler.url(world.url), ARCHIVE_BATCH_SIZE="100")

    assert ran.exit_code == 0, ran.stderr
    assert ran.summary["archived"] == ran.summary["released"] == len(world.due)
    world.assert_done()


def test_two_workers_behind_a_pooler_move_nothing_twice(world: World, pooler: Pooler) -> None:
    settings = {"ARCHIVE_DATABASE_URL": pooler.url(world.url), "ARCHIVE_BATCH_SIZE": "50"}
    children = [world.start_once(**settings) for _ in range(2)]
    for child in children:
        _, stderr = child.communicate(timeout=BOUND_SECONDS)
        assert child.returncode == 0, stderr

    world.assert_done()


# --- a database that goes away --------------------------------------------------------------


@pytest.fixture
def fragile(
    postgres_server: EmbeddedPostgres,
    supabase: SupabaseStandIn,
    s3_server: S3Server,
    real_pages: list[Page],
) -> Iterator[World]:
    """A world whose database may be stopped."""
    url = postgres_server.create_database("app")
    create_hover(url)
    with s3_side(s3_server) as cold:
        hot = SupabaseSide(supabase)
        yield plant_world(url, hot, cold, real_pages, domains=5, jobs=50)


@pytest.mark.parametrize(("kind", "number"), [("get", 1), ("get", 200), ("bulk_delete", 2)])
@pytest.mark.parametrize("mode", get_args(StopMode))
def test_a_sweep_outlasts_a_restart_of_the_database(
    fragile: World,
    postgres_server: EmbeddedPostgres,
    supabase: SupabaseStandIn,
    mode: StopMode,
    kind: str,
    number: int,
) -> None:
    """One request is held from before the stop until after the start: both are mid-sweep."""
    came, is_back = Event(), Event()

    def hold() -> None:
        came.set()
        is_back.wait(BOUND_SECONDS)

    at_request(supabase, kind, number, hold)
    child = fragile.start_once(ARCHIVE_BATCH_SIZE="100")
    assert came.wait(BOUND_SECONDS)
    postgres_server.stop(mode)
    postgres_server.start()
    is_back.set()
    _, stderr = child.communicate(timeout=BOUND_SECONDS)

    assert child.returncode == 0, stderr
    fragile.assert_done()


# --- a role that may do this and nothing else -----------------------------------------------


@pytest.fixture
def worker_url(world: World) -> str:
    """The world's database under the worker's role; row-level security is on, as shipped."""
    password = secrets.token_hex(16)
    with psycopg.connect(world.url, autocommit=True) as owner:
        for table in TABLES:
            owner.execute(f"alter table {table} enable row level security".encode())
        owner.execute(ROLE.read_bytes())
        role = sql.SQL("alter role archiver_worker password {}").format(password)
        owner.execute(role)
    host = world.url.rpartition("@")[2]
    return f"postgresql://archiver_worker:{password}@{host}"


def test_a_sweep_needs_no_more_than_the_role_in_deploy_allows(
    world: World, worker_url: str
) -> None:
    ran = world.once(ARCHIVE_DATABASE_URL=worker_url)

    assert ran.exit_code == 0, ran.stderr
    assert ran.summary["archived"] == ran.summary["released"] == len(world.due)
    world.assert_done()
    marked = world.ask("select id from jobs where status = 'archived'")
    assert {id_ for (id_,) in marked} == {page.job_id for page in world.due}


@pytest.mark.parametrize("table", TABLES)
def test_a_role_that_may_not_see_all_rows_is_refused_with_the_policy_it_lacks(
    world: World, worker_url: str, table: str
) -> None:
    """It would see no row, which reads as nothing to do."""
    with psycopg.connect(world.url, autocommit=True) as owner:
        owner.execute(f"drop policy archiver_worker on {table}".encode())
    ran = world.once(ARCHIVE_DATABASE_URL=worker_url)

    assert ran.exit_code == 3
    assert ran.summary["state"] == "fatal"
    assert "create policy" in ran.stderr
    assert world.receipts_count() == 0
