"""Limits that hold over time: how long a run may take, and how much may be read."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING

from tests.harness.command import start

if TYPE_CHECKING:
    from tests.harness.hover import Page
    from tests.harness.scene import Scene

PAGE_BYTES = 4_000
_TIMEOUT_SECONDS = 300.0  # a bound, not an expectation


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


# --- the egress budget ----------------------------------------------------------------------


def due_pages(scene: Scene, count: int) -> list[Page]:
    """Of a few kilobytes each, which no compression makes smaller."""
    noise = random.Random(count)  # noqa: S311  # no secret
    return [scene.due_page(noise.randbytes(PAGE_BYTES).hex().encode()) for _ in range(count)]


def pass_days(scene: Scene, days: int) -> None:
    scene.hover.connection.execute(
        "update archiver.spend set began_at = began_at - make_interval(days => %s)", [days]
    )


def told_egress(scene: Scene, budget: str) -> dict[str, int]:
    ran = scene.run("status", "--json", ARCHIVE_EGRESS_BUDGET=budget)
    return dict(json.loads(ran.stdout)["egress"])


def test_a_run_stops_at_the_budget_and_goes_on_when_the_window_has_moved(
    scene: Scene,
) -> None:
    pages = due_pages(scene, 6)
    sizes = [len(page.body) for page in pages]
    budget = f"{sum(sizes[:4])}B/day"

    first = scene.once(ARCHIVE_EGRESS_BUDGET=budget)
    again = scene.once(ARCHIVE_EGRESS_BUDGET=budget)

    assert (first.exit_code, first.summary["stopped"]) == (0, "budget")
    assert first.summary["error"] is None
    assert 3 <= first.summary["archived"] <= 4
    assert first.summary["released"] == first.summary["archived"]
    assert (again.exit_code, again.summary["stopped"]) == (0, "budget")
    served = scene.hot.served_bytes
    assert served <= sum(sizes[:4])
    told = told_egress(scene, budget)
    assert (told["limit_bytes"], told["spent_bytes"]) == (sum(sizes[:4]), served)
    assert scene.lost() == []

    pass_days(scene, 2)
    last = scene.once(ARCHIVE_EGRESS_BUDGET=budget)

    assert (last.exit_code, last.summary["stopped"]) == (0, None)
    assert all(scene.is_archived(page) for page in pages)
    assert told_egress(scene, budget)["spent_bytes"] == scene.hot.served_bytes - served
    assert scene.lost() == []


def test_two_workers_at_once_read_no_more_than_the_budget_from_the_hot_store(
    scene: Scene,
) -> None:
    pages = due_pages(scene, 60)
    budget_bytes = sum(len(page.body) for page in pages) // 2
    settings = scene.settings | {
        "ARCHIVE_EGRESS_BUDGET": f"{budget_bytes}B/month",
        "ARCHIVE_BATCH_SIZE": "5",
    }

    workers = [start(settings, "--once", "--json") for _ in range(2)]
    ended = [worker.communicate(timeout=_TIMEOUT_SECONDS) for worker in workers]

    told = [json.loads(out) for out, _ in ended]
    assert [worker.returncode for worker in workers] == [0, 0]
    assert [summary["stopped"] for summary in told] == ["budget", "budget"]
    assert scene.hot.served_bytes <= budget_bytes
    largest_bytes = max(len(page.body) for page in pages)
    in_flight_bytes = 2 * 4 * largest_bytes  # reserved by a thread each, when it was spent
    assert scene.hot.served_bytes >= budget_bytes - in_flight_bytes
    assert sum(map(scene.is_archived, pages)) == sum(it["archived"] for it in told)
    assert told_egress(scene, f"{budget_bytes}B/month")["spent_bytes"] == scene.hot.served_bytes
    assert scene.lost() == []


def test_a_store_that_charges_nothing_is_read_though_the_budget_is_spent(
    scene: Scene,
) -> None:
    """The canary reads a directory; hot copies go."""
    page = scene.due_page()
    scene.once(ARCHIVE_RELEASE="off")
    scene.hover.connection.execute("insert into archiver.spend values (now(), 1000)")

    ran = scene.once(ARCHIVE_EGRESS_BUDGET="1000B/day")

    assert (ran.summary["stopped"], ran.summary["released"]) == ("budget", 1)
    assert scene.hot_body(page) is None


def test_an_object_larger_than_the_budget_is_told_and_stands_in_nobodys_way(
    scene: Scene,
) -> None:
    large, small = scene.due_page(random.Random(1).randbytes(9_000)), scene.due_page()  # noqa: S311  # no secret

    ran = scene.once(ARCHIVE_EGRESS_BUDGET="8000B/day")

    assert (ran.exit_code, ran.summary["stopped"]) == (0, "budget")
    assert "object larger than the whole egress budget" in ran.stderr
    assert large.path in ran.stderr
    assert scene.is_untouched(large)
    assert scene.is_archived(small)
    assert scene.once(ARCHIVE_EGRESS_BUDGET="80kB/day").summary["archived"] == 1


def test_without_a_budget_nothing_is_counted(scene: Scene) -> None:
    scene.due_page()
    assert scene.once().exit_code == 0
    spent = scene.hover.connection.execute("select count(*) from archiver.spend").fetchall()
    assert spent == [(0,)]
