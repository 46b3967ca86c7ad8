"""What an operator asks of the workers, and what the ledger keeps of their sweeps."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from archiver.ledger.queries import load

if TYPE_CHECKING:
    from tests.harness.scene import Scene


def test_a_paused_run_moves_nothing_and_the_next_one_does(scene: Scene) -> None:
    page = scene.due_page()
    assert scene.run("pause").exit_code == 0

    ran = scene.once("--json")

    assert (ran.exit_code, json.loads(ran.stdout)["stopped"]) == (0, "paused")
    assert scene.is_untouched(page)
    scene.run("resume")
    assert scene.once().exit_code == 0
    assert scene.is_archived(page)


def test_a_pause_of_the_releases_keeps_the_hot_copy_of_what_is_archived(scene: Scene) -> None:
    page = scene.due_page()
    scene.run("pause", "--releases")

    assert scene.once().exit_code == 0

    assert scene.is_archived(page)
    assert scene.hot_body(page) == page.body
    scene.run("resume")
    scene.once()
    assert scene.hot_body(page) is None


def test_old_sweeps_are_forgotten_and_those_that_are_kept_not_read_each_time(
    scene: Scene,
) -> None:
    """A worker that has something to do each minute keeps half a million a year."""
    scene.once()
    did_nothing = '{"state": "done", "archived": 0, "released": 0, "error": null}'
    out_of_budget = did_nothing.replace('"done"', '"stopped"')
    failed = did_nothing.replace("null", '"denied"')
    worked = did_nothing.replace('"archived": 0', '"archived": 7')
    old = {
        "kept": [("1 day", did_nothing), ("3 days", worked), ("2 days", failed)],
        "dropped": [("2 days", did_nothing), ("2 days", out_of_budget), ("2 years", worked)],
    }
    insert = (
        "insert into archiver.sweep (source, worker_id, started_at, ended_at, summary) "
        "select %s, 1, now() - %s::interval - n * interval '1 minute', now(), %s::jsonb "
        "from generate_series(1, %s) n"
    )
    connection = scene.hover.connection
    for name, sweeps in old.items():
        for age, summary in sweeps:
            connection.execute(insert, [name, age, summary, 1])
    connection.execute(insert, ["busy", "4 days", worked, 20_000])
    connection.execute("analyze archiver.sweep")

    scene.once()

    left = connection.execute(
        "select source, count(*) from archiver.sweep where source <> 'task_html' group by 1"
    ).fetchall()
    assert dict(left) == {"kept": 3, "busy": 20_000}
    query = b"explain (analyze, timing off) " + load("fleet.sql")["forget_sweeps"]
    plan = "\n".join(row[0] for row in connection.execute(query, {"idle_days": 2}).fetchall())
    assert "Seq Scan" not in plan, plan
    counts = [int(count) for count in re.findall(r"Removed by Filter: (\d+)", plan)]
    assert sum(counts) < 100, plan


def test_every_sweep_is_in_the_history_with_its_counts(scene: Scene) -> None:
    scene.due_page()
    scene.once()
    scene.once()

    told = json.loads(scene.run("history", "--json").stdout)["sweeps"]

    assert [sweep["summary"]["archived"] for sweep in told] == [0, 1]
    assert [sweep["summary"]["state"] for sweep in told] == ["done", "done"]
    assert all(sweep["ended_at"] >= sweep["started_at"] for sweep in told)
