"""What an operator asks of the workers, and what the ledger keeps of their sweeps."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

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


def test_every_sweep_is_in_the_history_with_its_counts(scene: Scene) -> None:
    scene.due_page()
    scene.once()
    scene.once()

    told = json.loads(scene.run("history", "--json").stdout)["sweeps"]

    assert [sweep["summary"]["archived"] for sweep in told] == [0, 1]
    assert [sweep["summary"]["state"] for sweep in told] == ["done", "done"]
    assert all(sweep["ended_at"] >= sweep["started_at"] for sweep in told)
