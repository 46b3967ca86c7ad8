"""Limits that hold over time and over all sources: how long a run may take."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.harness.scene import Scene


def test_a_run_out_of_time_moves_nothing_more_and_the_next_one_does(scene: Scene) -> None:
    page = scene.due_page()

    ran = scene.once("--max-duration", "1ms")

    assert (ran.exit_code, json.loads(ran.stdout)["stopped"]) == (0, "duration")
    assert scene.is_untouched(page)
    assert scene.once(ARCHIVE_MAX_DURATION="1h").exit_code == 0
    assert scene.is_archived(page)


def test_the_setting_ends_a_run_as_the_option_does(scene: Scene) -> None:
    page = scene.due_page()

    ran = scene.once("--max-duration", "1h", ARCHIVE_MAX_DURATION="1ms")

    assert (ran.exit_code, json.loads(ran.stdout)["stopped"]) == (0, "duration")
    assert scene.is_untouched(page)
