"""Two servers of one data directory, and a take-over in mid-sweep: real processes (G10)."""

from __future__ import annotations

import json
from dataclasses import replace
from threading import Event
from typing import TYPE_CHECKING

from tests.harness.command import archiver
from tests.harness.dumps import Snapshot
from tests.harness.hover import create_hover
from tests.harness.sides import FileSide, SupabaseSide
from tests.harness.world import BOUND_SECONDS, World, at_request, plant_world

if TYPE_CHECKING:
    from pathlib import Path

    from archiver.demo.pages import Page
    from archiver.demo.postgres import EmbeddedPostgres
    from tests.harness.command import Ran
    from tests.standin.supabase import SupabaseStandIn


def test_g10_a_snapshot_under_the_same_name_is_refused_at_its_first_release(
    postgres_server: EmbeddedPostgres, real_pages: list[Page], tmp_path: Path
) -> None:
    """As the disk of a machine is copied: the same system, the same database, another port."""
    url = postgres_server.create_database("app")
    create_hover(url)
    hot, cold = FileSide(tmp_path / "hot"), FileSide(tmp_path / "cold")
    world = plant_world(url, hot, cold, real_pages, domains=1, jobs=5)
    postgres_server.stop()
    with Snapshot(postgres_server) as second:
        postgres_server.start()
        snapshot = replace(world, url=second.url("app"))
        assert snapshot.ask("select archiver.system_identifier()") == world.ask(
            "select system_identifier from archiver.fleet"
        )
        assert world.once("--limit", "5").exit_code == 0
        in_hot = hot.names()

        refused = snapshot.once()

        assert refused.exit_code == 3
        assert "The ledger does not know its own stamp" in refused.summary["error"]
        assert hot.names() == in_hot
        assert world.once().exit_code == 0
        world.assert_done()
        # Its operator decides for it all the same: then the first one is refused.
        taken = archiver(snapshot.settings, "ledger", "take-over", "--yes", "--json")
        assert (taken.exit_code, json.loads(taken.stdout)["epoch"]) == (0, 2)
        assert snapshot.once().exit_code == 0
        snapshot.assert_done()
        world.ask(
            "update archiver.stamp set confirmed_at = now() - interval '2 days' returning 1"
        )
        more = plant_more(world, real_pages)
        assert world.once().exit_code == 3
        assert [] == [page for page in more if hot.read(page) is None]


def plant_more(world: World, pages: list[Page]) -> list[str]:
    """Rows of the first database alone, due at once: their objects' names."""
    body = pages[0].gz
    names = []
    for (task_id,) in world.ask(
        "update tasks set html_storage_bucket = %s, html_storage_path = id::text || '.again', "
        "html_archive_key = null, html_archived_at = null, html_archive_provider = null, "
        "html_archive_bucket = null, html_sha256 = null "
        "where html_archive_key is not null returning id::text",
        world.hot.bucket,
    ):
        location = replace(world.due[0].location, path=f"{task_id}.again")
        world.hot.plant(location, body)
        names.append(location.path)
    assert names
    return names


def test_g10_when_a_take_over_is_over_no_worker_from_before_deletes_any_more(
    hover_url: str, supabase: SupabaseStandIn, real_pages: list[Page], tmp_path: Path
) -> None:
    """It begins with the first delete of a sweep that would take half a minute for all."""
    hot, cold = SupabaseSide(supabase), FileSide(tmp_path / "cold")
    world = plant_world(hover_url, hot, cold, real_pages, domains=1, jobs=10)
    lease = {"ARCHIVE_LEASE": "3s"}  # of the one that is fenced off: so long a take-over waits
    slowly = {"ARCHIVE_REQUESTS_PER_SECOND": "2"}  # and as many objects a delete
    assert world.once(ARCHIVE_RELEASE="off").exit_code == 0
    taken: list[Ran] = []
    is_over = Event()
    deletes_count: list[int] = []

    def take_over() -> None:
        taken.append(archiver(world.settings, "ledger", "take-over", "--yes", "--json"))
        deletes_count.append(supabase.requests["bulk_delete"])
        is_over.set()

    at_request(supabase, "bulk_delete", 1, take_over)

    with world.start_once(**lease, **slowly) as process:
        out, _ = process.communicate(timeout=BOUND_SECONDS)

    assert is_over.wait(BOUND_SECONDS)
    assert taken[0].exit_code == 0, taken[0].stderr
    assert json.loads(taken[0].stdout)["live_workers"]
    assert process.returncode == 3, out
    assert "lease" in json.loads(out)["error"]
    assert deletes_count == [supabase.requests["bulk_delete"]]
    assert len(hot.names()) > len(world.kept)
    assert [] == world.dangling()
    assert world.once().exit_code == 0
    world.assert_done()
