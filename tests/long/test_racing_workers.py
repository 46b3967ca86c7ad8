"""Two and four workers, real processes, on one backlog and on every kind of store.

None of them records anything before each of them holds claims, and no two or three of them may
take it all: there is work left for the one that comes last.
"""

from __future__ import annotations

import json
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
import pytest

from tests.harness.sides import FileSide, SupabaseSide, s3_side
from tests.harness.versitygw import S3Server
from tests.harness.world import plant_world

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from archiver.demo.pages import Page
    from tests.harness.sides import Side
    from tests.harness.world import World
    from tests.standin.supabase import SupabaseStandIn

BOUND_SECONDS = 240.0  # four programs start at once, on a machine that is busy
SMALL_WINDOWS = {
    "ARCHIVE_BATCH_SIZE": "10",
    "ARCHIVE_CONCURRENCY": "2",
    "ARCHIVE_STATEMENT_TIMEOUT": "2m",  # who records waits for the one that comes last
    "ARCHIVE_MAX_BYTES": "1GB",  # so that each queues a few moves, and leaves the others some
}
FAILED = ("waiting", "parked", "superseded", "replaced", "recovered")
_WATCH = """
create table flip (id text, how text);
create function note_flip() returns trigger language plpgsql as $$
begin
    insert into flip
    values (new.id, case when new.html_storage_path is null then 'cold' else 'hot' end);
    return null;
end $$;
create trigger note_flip after update of html_storage_path on tasks
for each row execute function note_flip();

create function wait_for_all() returns trigger language plpgsql as $$
begin
    while not exists (select from archiver.receipt)
        and {count} > (
            select count(distinct worker_id) from archiver.claim where state = 'claimed'
        )
    loop
        perform pg_sleep(0.02);
    end loop;
    return null;
end $$;
create trigger wait_for_all before insert on archiver.receipt
for each statement execute function wait_for_all();
"""


@pytest.fixture
def backlog(
    request: pytest.FixtureRequest, hover_url: str, real_pages: list[Page], tmp_path: Path
) -> Iterator[World]:
    """120 pages due and 30 kept."""
    with ExitStack() as open_sides:
        hot: Side
        cold: Side
        match request.param:
            case "s3":
                server: S3Server = request.getfixturevalue("s3_server")
                hot = open_sides.enter_context(s3_side(server))
                cold = open_sides.enter_context(s3_side(server))
            case "moto":
                moto = S3Server(
                    request.getfixturevalue("moto_url"), bucket_names=f"race-{uuid4()}"
                )
                hot = open_sides.enter_context(s3_side(moto))
                cold = open_sides.enter_context(s3_side(moto))
            case "files":
                hot, cold = FileSide(tmp_path / "hot"), FileSide(tmp_path / "cold")
            case _:
                supabase: SupabaseStandIn = request.getfixturevalue("supabase")
                hot, cold = SupabaseSide(supabase), FileSide(tmp_path / "cold")
        world = plant_world(hover_url, hot, cold, real_pages, domains=1, jobs=15)
        yield world


@pytest.mark.parametrize(
    ("backlog", "count"),
    [("s3", 2), ("s3", 4), ("moto", 2), ("files", 4), ("supabase", 4)],
    indirect=["backlog"],
)
def test_g5_workers_on_one_backlog_do_each_thing_once(backlog: World, count: int) -> None:
    with psycopg.connect(backlog.url, autocommit=True) as connection:
        connection.execute(_WATCH.format(count=count).encode())
    most_count = (len(backlog.due) - 1) // (count - 1)  # of all others, one object is left
    limits = {**SMALL_WINDOWS, "ARCHIVE_MAX_OBJECTS": str(most_count)}
    with starting_line(backlog, count):
        children = [backlog.start_once(**limits) for _ in range(count)]
    summaries = ended(children)

    assert {it["stopped"] or it["state"] for it in summaries} <= {"done", "limit"}
    assert all(0 < it["archived"] <= most_count for it in summaries)
    for name in ("archived", "released"):
        assert sum(it[name] for it in summaries) == len(backlog.due)
    assert sum(it["moved_bytes"] for it in summaries) == sum(
        len(page.page.gz) for page in backlog.due
    )
    assert {it[name] for it in summaries for name in FAILED} == {0}
    assert flips(backlog) == {page.task_id: ["cold"] for page in backlog.due}
    if (reads_count := reads_of_hot(backlog)) is not None:
        assert reads_count == len(backlog.due)
    backlog.assert_done()


@contextmanager
def starting_line(world: World, count: int) -> Iterator[None]:
    """Nobody prepares the source before all of them want to.

    By then each has tried the flip on a real row, and would wait for one that is held.
    """
    with psycopg.connect(world.url, autocommit=True) as held:
        held.execute("select pg_advisory_lock(hashtextextended('archiver task_html', 0))")
        yield
        deadline = time.monotonic() + BOUND_SECONDS
        waiting_count = 0
        while waiting_count < count:
            assert time.monotonic() < deadline, f"{waiting_count} of {count} have come"
            time.sleep(0.05)
            found = held.execute(
                "select count(*) from pg_locks where locktype = 'advisory' and not granted "
                "and database = (select oid from pg_database "
                "where datname = current_database())"
            ).fetchone()
            waiting_count = 0 if found is None else found[0]


def ended(children: Sequence[subprocess.Popen[str]]) -> list[Mapping[str, Any]]:
    try:
        told = [child.communicate(timeout=BOUND_SECONDS) for child in children]
    finally:
        for child in children:
            child.kill()
            child.communicate()
    assert [child.returncode for child in children] == [0] * len(children), told
    return [json.loads(stdout) for stdout, _ in told]


def flips(world: World) -> dict[str, list[str]]:
    found = world.ask("select id, array_agg(how) from flip group by id")
    return {id_: list(how) for id_, how in found}


def reads_of_hot(world: World) -> int | None:
    """How often a hot object was asked for; None: its store does not tell."""
    hot = world.hot
    if isinstance(hot, SupabaseSide):
        return hot.standin.requests["get"]
    asked = getattr(hot, "server", None)
    if isinstance(asked, S3Server) and asked.access_log.is_file():
        return sum(it.operation == "s3_GetObject" for it in asked.requests(hot.bucket))
    return None
