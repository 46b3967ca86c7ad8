"""`archiver undo` and `archiver ledger export`, the real commands on real parts."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

if TYPE_CHECKING:
    from tests.harness.hover import Page
    from tests.harness.scene import Scene

ROOT = Path(__file__).parents[2]
GRACE = {"ARCHIVE_RELEASE_GRACE": "1h"}


def archived(scene: Scene, count: int = 2) -> list[Page]:
    """Pages that are cold, whose hot copies are in their grace."""
    pages = [scene.due_page() for _ in range(count)]
    assert scene.once(**GRACE).exit_code == 0
    assert all(scene.is_archived(page) for page in pages)
    return pages


def undone(scene: Scene, *arguments: str, exit_code: int = 0) -> dict[str, Any]:
    ran = scene.run("undo", "--json", *arguments)
    assert ran.exit_code == exit_code, ran.stderr
    told: dict[str, Any] = json.loads(ran.stdout)
    return told


def status_of(scene: Scene, page: Page) -> str:
    return str(scene.hover.row("jobs", page.job_id)["status"])


def test_an_undone_page_points_hot_again_is_held_and_stays(scene: Scene) -> None:
    one, other = archived(scene)
    assert status_of(scene, one) == "archived"

    assert undone(scene, one.task_id) == {"answers": {"undone": 1}, "not_undone": []}

    assert scene.is_untouched(one)
    scene.hover.connection.execute("update archiver.release set due_at = now()")
    assert json.loads(scene.once().stdout)["archived"] == 0
    assert scene.hot_body(one) == one.body
    assert scene.hot_body(other) is None
    assert scene.lost() == []
    shown = scene.run("show", one.task_id).stdout
    assert "held until" in shown
    assert "undone" in shown
    [counts] = json.loads(scene.run("status", "--json").stdout)["sources"]
    assert (counts["held_count"], counts["undone_count"]) == (1, 1)


def test_nobody_is_told_that_an_undone_job_is_complete_once_more(scene: Scene) -> None:
    """The application's trigger would, if the job went back from `archived`."""
    scene.hover.connection.execute("insert into organisations default values")
    [(organisation,)] = scene.hover.connection.execute(
        "select id from organisations"
    ).fetchall()
    page = scene.page(scene.hover.job(scene.domain, organisation_id=organisation))
    assert scene.once(**GRACE).exit_code == 0
    assert status_of(scene, page) == "archived"

    undone(scene, page.task_id, "--hold", "0s")

    assert scene.is_untouched(page)
    assert status_of(scene, page) == "archived"
    scene.once()
    assert scene.is_archived(page)
    told = scene.hover.connection.execute("select count(*) from notifications").fetchall()
    assert told == [(0,)]


def test_after_its_hold_a_page_is_archived_again_to_the_same_copy(scene: Scene) -> None:
    [page] = archived(scene, 1)
    key = scene.row(page)["html_archive_key"]
    undone(scene, page.task_id, "--hold", "0s")

    assert scene.once().exit_code == 0

    assert scene.is_archived(page)
    assert scene.row(page)["html_archive_key"] == key
    assert scene.receipts_count() == 2
    assert scene.hot_body(page) is None
    assert status_of(scene, page) == "archived"
    assert scene.lost() == []


def test_a_hold_ends_early_by_retry(scene: Scene) -> None:
    [page] = archived(scene, 1)
    undone(scene, page.task_id, "--hold", "365d")
    scene.run("retry", "--all")
    assert json.loads(scene.once().stdout)["archived"] == 0

    assert scene.run("retry", page.task_id).exit_code == 0

    assert json.loads(scene.once().stdout)["archived"] == 1


def test_a_sweep_is_undone_and_no_other(scene: Scene) -> None:
    [before] = archived(scene, 1)
    [page] = archived(scene, 1)
    [after] = archived(scene, 1)
    sweeps = json.loads(scene.run("history", "--json").stdout)["sweeps"]

    assert undone(scene, "--sweep", str(sweeps[1]["sweep_id"]))["answers"] == {"undone": 1}

    assert [scene.is_archived(it) for it in (before, page, after)] == [True, False, True]


def test_a_slow_pace_makes_small_transactions(scene: Scene) -> None:
    """Releases are not claimed during one: the sweep of a worker would wait until it fails."""
    archived(scene, 4)
    scene.settings |= {"ARCHIVE_REQUESTS_PER_SECOND": "2"}

    assert undone(scene, "--since", "1h")["answers"] == {"undone": 4}

    times = scene.hover.connection.execute("select count(distinct at) from archiver.outcome")
    assert times.fetchall() == [(2,)]


def test_all_since_a_time_is_undone_while_the_workers_are_paused(scene: Scene) -> None:
    pages = archived(scene, 3)
    scene.run("pause")

    assert undone(scene, "--since", "1h")["answers"] == {"undone": 3}

    assert all(scene.is_untouched(page) for page in pages)
    assert undone(scene, "--since", "1h")["answers"] == {"undone before": 3}


def test_what_cannot_be_undone_is_told_with_the_reason(scene: Scene) -> None:
    gone, missing, changed, captured, fine = archived(scene, 5)
    scene.hover.connection.execute(
        "update archiver.release set due_at = now() where receipt_id in"
        " (select receipt_id from archiver.receipt where id = %s)",
        [gone.task_id],
    )
    scene.once()
    assert scene.hot_body(gone) is None
    assert missing.bucket is not None
    assert changed.bucket is not None
    scene.hot.delete(missing.bucket, [missing.path])
    scene.hot.plant(changed.bucket, changed.path, b"another")
    scene.hover.capture_again(captured, b"<html>newer</html>")

    told = undone(scene, "--since", "1h", exit_code=1)

    reasons = {row["id"]: row["answer"] for row in told["not_undone"]}
    assert reasons == {
        gone.task_id: "released",
        missing.task_id: "hot copy missing",
        changed.task_id: "hot copy changed",
        captured.task_id: "changed",
    }
    assert scene.is_untouched(fine)
    assert all(scene.is_archived(page) for page in (gone, missing, changed))
    text = scene.run("undo", gone.task_id, "nowhere").stdout
    assert "the hot copy is deleted" in text
    assert "the ledger knows of no move of it" in text


def test_a_dry_run_writes_nothing(scene: Scene) -> None:
    pages = archived(scene, 2)

    ran = scene.run("undo", "--since", "1h", "--dry-run")

    assert ran.exit_code == 0
    assert "2 rows were archived; of 2 the hot copy is not let go of yet" in ran.stdout
    assert all(scene.is_archived(page) for page in pages)


def test_a_release_that_never_comes_can_be_undone(scene: Scene) -> None:
    page = scene.due_page()
    scene.once(ARCHIVE_RELEASE="off")
    assert scene.hot_body(page) == page.body

    assert undone(scene, page.task_id)["answers"] == {"undone": 1}


def test_the_workers_role_may_undo(scene: Scene) -> None:
    [page] = archived(scene, 1)
    role = (ROOT / "deploy" / "postgres-role.sql").read_text()
    with psycopg.connect(scene.database_url, autocommit=True) as connection:
        connection.execute(role.encode())
        connection.execute("alter role archiver_worker password 'of-the-test'")
    there = scene.database_url.partition("@")[2]
    scene.settings["ARCHIVE_DATABASE_URL"] = f"postgresql://archiver_worker:of-the-test@{there}"

    assert undone(scene, page.task_id)["answers"] == {"undone": 1}
    assert len(scene.run("ledger", "export", "--since", "1h").stdout.splitlines()) == 1


def test_the_ledger_is_exported_line_by_line(scene: Scene, tmp_path: Path) -> None:
    one, two = archived(scene, 2)
    undone(scene, one.task_id)
    scene.hover.connection.execute("update archiver.release set due_at = now()")
    scene.once()

    lines = scene.run("ledger", "export", "--since", "1h").stdout.splitlines()
    output = tmp_path / "ledger.csv"
    ran = scene.run(
        *("ledger", "export", "--since", "1h", "--format", "csv", "--output", str(output))
    )

    told = {it["id"]: it for it in map(json.loads, lines) if it["outcome"] == "undone"}
    assert told.keys() == {one.task_id}
    assert told[one.task_id]["sha256"] == hashlib.sha256(one.body).hexdigest()
    assert ran.exit_code == 0
    sheet = list(csv.DictReader(io.StringIO(output.read_bytes().decode(), newline="")))
    released = [row for row in sheet if row["outcome"] == "released"]
    assert {row["id"] for row in released} == {two.task_id}
    assert released[0]["cold_key"] == scene.row(two)["html_archive_key"]
    assert list(tmp_path.glob(".ledger.csv*")) == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["undo"], "name ids"),
        (["undo", "x", "--since", "1h"], "name ids"),
        (["undo", "--since", "yesterday"], "with its zone"),
        (["undo", "--since", "2026-01-31T12:00"], "with its zone"),
        (["undo", "x", "--hold", "7"], "a duration such as"),
        (["undo", "--sweep", "99"], "no sweep 99 is known"),
        (["undo", "--sweep", "0"], "--sweep"),
        (["undo", "--since", "1h", "--source", "nobody"], "no such source"),
        (["ledger", "export"], "--since"),
        (["ledger", "export", "--since", "soon"], "with its zone"),
        (["ledger", "export", "--since", "1h", "--output", "/nowhere/at/all"], "be written"),
    ],
    ids=" ".join,
)
def test_bad_input_is_told_and_nothing_is_done(
    scene: Scene, arguments: list[str], says: str
) -> None:
    ran = scene.run(*arguments)

    assert ran.exit_code == 2
    assert says in ran.stderr
