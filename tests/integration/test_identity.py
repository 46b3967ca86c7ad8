"""Restored and copied databases, with real dumps and the real program (G10)."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import psycopg
import pytest

from archiver.engine.stamping import Stamper
from archiver.model import SourceName, Stamp
from archiver.stores.cold_file import FileColdStore
from tests.fakes.s3_worlds import peek
from tests.harness.command import archiver
from tests.harness.dumps import dump, restore
from tests.harness.scene import COLD_BUCKET, client_of
from tests.harness.sides import FileSide
from tests.harness.world import World, plant_world

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from archiver.demo.pages import Page
    from archiver.demo.postgres import EmbeddedPostgres
    from tests.harness.command import Ran
    from tests.harness.postgres import Databases
    from tests.harness.scene import Scene

UNKNOWN_STAMP = "The ledger does not know its own stamp"


@pytest.fixture
def world(hover_url: str, real_pages: list[Page], tmp_path: Path) -> World:
    """Directories on both sides: 20 pages due, a third of them without any digest."""
    hot, cold = FileSide(tmp_path / "hot"), FileSide(tmp_path / "cold")
    world = plant_world(hover_url, hot, cold, real_pages, domains=1, jobs=5)
    forget_digests(world)
    return world


def forget_digests(world: World) -> None:
    world.ask("update tasks set html_sha256 = null where right(id::text, 1) < '6' returning 1")
    ((count,),) = world.ask("select count(*) from tasks where html_sha256 is null")
    assert 0 < count < len(world.captured)


def take_over(world: World) -> Ran:
    return archiver(world.settings, "ledger", "take-over", "--yes", "--json")


def name_of(url: str) -> str:
    return url.rpartition("/")[2]


def cold_writes(world: World) -> dict[str, bytes | None]:
    return {name: world.cold.read(name) for name in world.cold.names()}


def as_of(world: World, action: Callable[[], object]) -> tuple[set[str], set[str]]:
    """What an action does to the names in hot and in cold."""
    before = world.hot.names(), world.cold.names()
    action()
    return before[0] ^ world.hot.names(), before[1] ^ world.cold.names()


def test_g10_an_older_dump_is_refused_and_after_a_take_over_loses_and_repeats_nothing(
    world: World, postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    dump(world.url, tmp_path / "dump")
    assert world.once().exit_code == 0
    world.assert_done()
    archived = cold_writes(world)
    restore(postgres, name_of(world.url), tmp_path / "dump")

    refused = world.once()

    assert refused.exit_code == 3
    assert UNKNOWN_STAMP in refused.summary["error"]
    assert (refused.summary["released"], refused.summary["parked"]) == (0, 0)

    taken = take_over(world)

    assert taken.exit_code == 0, taken.stderr
    assert json.loads(taken.stdout)["epoch"] == 2
    again = world.once()
    assert again.exit_code == 0, again.stderr
    assert (again.summary["parked"], again.summary["moved_bytes"]) == (0, 0)
    assert refused.summary["moved_bytes"] == 0
    world.assert_done()
    assert cold_writes(world) == archived


def test_g10_a_dump_from_after_the_days_stamp_is_not_refused_and_every_row_is_recovered(
    world: World, postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    assert world.once("--limit", "5").exit_code == 0
    dump(world.url, tmp_path / "dump")
    assert world.once().exit_code == 0
    world.assert_done()
    archived = cold_writes(world)
    restore(postgres, name_of(world.url), tmp_path / "dump")
    assert len(world.dangling()) == 15

    again = world.once()

    assert again.exit_code == 0, again.stderr
    assert (again.summary["recovered"], again.summary["moved_bytes"]) == (15, 0)
    world.assert_done()
    assert cold_writes(world) == archived


def test_g10_a_copy_under_another_name_is_refused_at_once_and_can_be_read(
    world: World, postgres: EmbeddedPostgres
) -> None:
    assert world.once("--limit", "5").exit_code == 0
    copy = replace(world, url=postgres.create_database("copied", template=name_of(world.url)))
    try:
        workers = copy.ask("select worker_id from archiver.worker order by 1")

        runs = []
        assert as_of(copy, lambda: runs.append(copy.once())) == (set(), set())

        assert runs[0].exit_code == 3
        told = runs[0].summary["error"]
        for words in ("at home in another database", "found=copied", name_of(world.url)):
            assert words in told
        assert "archiver ledger take-over" in told
        assert copy.ask("select worker_id from archiver.worker order by 1") == workers
        adopted = archiver(copy.settings, "adopt", "--source", "task_html", "--json")
        assert adopted.exit_code == 3
        for reading in (
            ("--once", "--dry-run"),
            ("parked",),
            ("history",),
            ("show", world.due[0].task_id),
            ("ledger", "export", "--since", "1h"),
        ):
            assert archiver(copy.settings, *reading).exit_code == 0, reading
        status = archiver(copy.settings, "status")
        assert status.exit_code == 0
        assert "found in database copied" in status.stdout
    finally:
        postgres.drop_database("copied")
    assert world.once().exit_code == 0
    world.assert_done()


def test_a_staging_copy_that_releases_nothing_may_take_over_and_disturbs_nobody(
    world: World, postgres: EmbeddedPostgres
) -> None:
    assert world.once("--limit", "5").exit_code == 0
    copy = replace(world, url=postgres.create_database("copied", template=name_of(world.url)))
    try:
        settings = copy.settings | {"ARCHIVE_RELEASE": "off"}
        taken = archiver(settings, "ledger", "take-over", "--yes", "--json")
        assert (taken.exit_code, json.loads(taken.stdout)["sources"]) == (0, [])
        hot, _ = as_of(copy, lambda: copy.once("--limit", "5", ARCHIVE_RELEASE="off"))
        assert hot == set()
    finally:
        postgres.drop_database("copied")
    assert world.once().exit_code == 0
    assert [] == world.dangling()


def test_after_a_move_a_stamp_from_before_is_told_with_the_home_it_was_made_in(
    world: World, postgres: EmbeddedPostgres
) -> None:
    assert world.once("--limit", "5").exit_code == 0
    moved = replace(world, url=postgres.create_database("moved", template=name_of(world.url)))
    try:
        taken = take_over(moved)

        (standing,) = json.loads(taken.stdout)["sources"]
        assert f"database {name_of(world.url)}, epoch 1" in standing["last"]
        assert standing["found"] == [standing["last"]]
        assert moved.once().exit_code == 0
        again = take_over(moved)
        (standing,) = json.loads(again.stdout)["sources"]
        assert "database moved, epoch 2" in standing["last"]
    finally:
        postgres.drop_database("moved")


def test_a_take_over_for_another_database_than_the_workers_is_refused(
    world: World, databases: Databases
) -> None:
    settings = world.settings | {"ARCHIVE_MIGRATE_URL": databases.like("hover", lambda _: None)}
    ran = archiver(settings, "ledger", "take-over", "--yes")
    assert (ran.exit_code, "both must name the same one" in ran.stderr) == (2, True)


@pytest.mark.parametrize("client", ["obstore", "boto3"])
def test_a_stamp_on_s3_says_whose_it_is_and_a_forgotten_one_is_refused(
    s3_scene: Scene, moto_url: str, client: str
) -> None:
    scene = s3_scene
    scene.settings["ARCHIVE_S3_CLIENT"] = client
    scene.due_page()
    assert scene.once().exit_code == 0
    key = ".archiver/stamps/task_html/0000000001"
    found = client_of(moto_url).head_object(Bucket=COLD_BUCKET, Key=key)
    identity = json.loads(scene.run("status", "--json").stdout)
    told = found["Metadata"]
    assert told["archiver-ledger"] == identity["ledger_id"]
    assert (told["archiver-number"], told["archiver-epoch"]) == ("1", "1")
    assert json.loads(peek(client_of(moto_url), COLD_BUCKET, key) or b"")["version"] == 1

    late = scene.due_page()
    assert scene.once().exit_code == 0  # it knows its own
    assert scene.hot_body(late) is None
    scene.hover.connection.execute("delete from archiver.stamp")
    late = scene.due_page()
    ran = scene.once()

    assert (ran.exit_code, scene.hot_body(late)) == (3, late.body)
    assert UNKNOWN_STAMP in ran.summary["error"]
    assert "epoch 1" in ran.summary["error"]
    assert scene.run("ledger", "take-over", "--yes").exit_code == 0
    assert scene.once().exit_code == 0
    assert scene.hot_body(late) is None
    assert scene.lost() == []
    assert scene.hover.connection.execute(
        "select number, epoch, overrules from archiver.stamp where confirmed_at is not null"
    ).fetchall() == [(2, 2, True)]


def test_an_interrupted_take_over_is_finished_by_the_next_worker(s3_scene: Scene) -> None:
    """The ledger has decided, and the cold store was never told."""
    scene = s3_scene
    scene.due_page()
    assert scene.once().exit_code == 0
    scene.hover.connection.execute("delete from archiver.stamp")
    scene.hover.connection.execute("""
        insert into archiver.stamp
            (source, provider, cold_bucket, prefix, number, epoch, database_name, overrules)
        values ('task_html', 'minio', 'cold', '', 2, 2, 'app', true)
    """)
    scene.hover.connection.execute("update archiver.fleet set epoch = 2")
    page = scene.due_page()
    assert scene.once().exit_code == 0
    assert scene.hot_body(page) is None


def test_no_stamp_that_somebody_writes_there_prevents_a_take_over(scene: Scene) -> None:
    """The highest number of ten digits, and the last epoch that an integer has room for."""
    page = scene.due_page()
    (scene.cold_root / COLD_BUCKET).mkdir(exist_ok=True)
    stamp = Stamp(
        "x", SourceName("task_html"), 9_999_999_999, 2**31 - 1, "x", datetime.now(UTC), "x"
    )
    with closing(FileColdStore(scene.cold_root, COLD_BUCKET, "")) as cold:
        Stamper(cold, stamp.source).put(stamp)
    assert scene.once().exit_code == 3

    for epoch in (2, 3):
        taken = scene.run("ledger", "take-over", "--yes", "--json")
        assert (taken.exit_code, json.loads(taken.stdout)["epoch"]) == (0, epoch)

    assert scene.once().exit_code == 0
    assert scene.hot_body(page) is None


def test_a_worker_that_may_not_decide_is_told_so(scene: Scene) -> None:
    connection = scene.hover.connection
    connection.execute("drop role if exists only_reads")
    connection.execute("create role only_reads login password 'x' in role pg_read_all_data")
    try:
        parts = psycopg.conninfo.conninfo_to_dict(scene.database_url)
        url = f"postgresql://only_reads:x@{parts['host']}:{parts['port']}/{parts['dbname']}"
        ran = scene.run("ledger", "take-over", "--yes", ARCHIVE_MIGRATE_URL=url)
        assert ran.exit_code == 3
        assert "permission denied" in ran.stderr
    finally:
        connection.execute("drop role only_reads")
