"""`archiver adopt`: what the reference worker archived enters the ledger, and nothing else."""

from __future__ import annotations

import gzip
import hashlib
import json
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from tests.harness.command import start
from tests.harness.scene import COLD_BUCKET, client_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.harness.command import Ran
    from tests.harness.hover import Page
    from tests.harness.scene import Scene

BOUND_SECONDS = 60.0  # for what never happens when the tests pass


@dataclass
class Left:
    """A world as the reference worker left it: rows archived, no ledger of them."""

    scene: Scene
    _client: Any = None  # made once: that takes longer than most puts

    def archived(self, body: bytes | None = None, **columns: object) -> Page:
        """A row whose page lies in cold; `body` is what lies there instead of the page."""
        page = self.row_alone(**columns)
        self.put(page.cold_key, page.body if body is None else body)
        return page

    def row_alone(self, **columns: object) -> Page:
        """A row that says archived, with nothing in cold."""
        hover = self.scene.hover
        page = hover.archived_page(hover.job(self.scene.domain))
        if columns:
            hover.update("tasks", page.task_id, **columns)
        return page

    def skipped(self) -> Page:
        return self.row_alone(
            html_archive_provider=None, html_archive_bucket=None, html_archive_key=None
        )

    def put(self, key: str, body: bytes) -> None:
        if self.scene.front is None:
            self.scene.cold_path(key).write_bytes(body)
        else:
            self._client = client = self._client or client_of(self.scene.front.behind)
            metadata = {"task_id": "t", "job_id": "j", "sha256": ""}  # as the worker puts it
            client.put_object(Bucket=COLD_BUCKET, Key=key, Body=body, Metadata=metadata)

    def adopt(self, *arguments: str, **changes: str | None) -> Ran:
        return self.scene.run("adopt", "--source", "task_html", "--json", *arguments, **changes)

    def receipts(self) -> dict[str, tuple[Any, ...]]:
        """(digest, evidence, size, cold key, hot bucket, hot path) by task id."""
        found = self.scene.hover.connection.execute(
            "select id, digest, evidence, size_bytes, cold_key, hot_bucket, hot_path "
            "from archiver.archived"
        ).fetchall()
        return {id_: tuple(rest) for id_, *rest in found}

    def releases_count(self) -> int:
        found = self.scene.hover.connection.execute("select count(*) from archiver.release")
        return int(found.fetchall()[0][0])

    def rows(self) -> list[tuple[Any, ...]]:
        """All rows of the application, whole."""
        query = "select t from tasks t order by id"
        return self.scene.hover.connection.execute(query).fetchall()


@pytest.fixture(params=["file", "s3"])
def left(request: pytest.FixtureRequest) -> Left:
    name = "scene" if request.param == "file" else "s3_scene"
    return Left(request.getfixturevalue(name))


@pytest.fixture
def left_in_files(scene: Scene) -> Left:
    return Left(scene)


def why(ran: Ran) -> dict[str, str]:
    return {row["id"]: row["why"] for row in ran.summary["not_adopted"]}


def test_h04_what_the_reference_worker_left_is_adopted_counted_or_shown(left: Left) -> None:
    good = [left.archived(), left.archived(html_sha256=None)]
    plain = left.row_alone()
    left.put(plain.cold_key, plain.html)  # H18: stored decoded, under a gzip label
    damaged = left.archived(body=b"\x1f\x8bnot this page")
    stale = left.archived(body=gzip.compress(b"<html>an older page</html>"))
    missing = left.row_alone()
    skipped = left.skipped()
    moved_away = left.row_alone(html_archive_bucket="older-bucket")
    half = left.row_alone(html_archive_bucket=None)
    garbled = left.archived(html_sha256="none")
    hot = left.scene.page(left.scene.hover.job(left.scene.domain, status="running"))
    before = left.rows()

    ran = left.adopt()

    assert ran.exit_code == 1, ran.stderr
    told = ran.summary
    assert why(ran) == {
        damaged.task_id: "damaged",
        stale.task_id: "damaged",
        missing.task_id: "missing",
        half.task_id: "unreadable",
        garbled.task_id: "unreadable",
    }
    assert (told["adopted"], told["unpromised"], told["skipped"]) == (3, 1, 1)
    assert told["elsewhere"] == {"older-bucket": 1}
    assert left.receipts() == {
        page.task_id: (
            hashlib.sha256(body).digest(), 3, len(body), page.cold_key, None, None,
        )
        for page, body in [*((it, it.body) for it in good), (plain, plain.html)]
    }  # fmt: skip
    assert (left.releases_count(), left.rows()) == (0, before)
    assert hot.task_id not in ran.stdout
    assert skipped.task_id not in ran.stdout
    assert moved_away.task_id not in ran.stdout


def test_a_second_run_reads_nothing_again_and_a_mended_row_is_adopted_then(
    left: Left,
) -> None:
    pages = [left.archived() for _ in range(5)]
    missing = left.row_alone()
    assert left.adopt().summary["adopted"] == 5
    left.put(missing.cold_key, missing.body)

    ran = left.adopt()

    assert ran.exit_code == 0, ran.stderr
    assert (ran.summary["adopted"], ran.summary["known"]) == (1, 5)
    assert set(left.receipts()) == {page.task_id for page in (*pages, missing)}
    assert left.adopt().summary["known"] == 6


def test_unproven_reads_no_bytes_and_is_proven_by_a_later_run(left_in_files: Left) -> None:
    left = left_in_files
    good, damaged = left.archived(), left.archived(body=b"rotten")
    missing = left.row_alone()
    unreadable = left.scene.cold_path(damaged.cold_key)

    ran = left.adopt("--unproven")

    assert (ran.exit_code, why(ran)) == (1, {missing.task_id: "missing"})
    assert left.receipts() == {
        good.task_id: (None, 0, len(good.body), good.cold_key, None, None),
        damaged.task_id: (None, 0, len(b"rotten"), damaged.cold_key, None, None),
    }
    first_in_line = left.scene.hover.connection.execute(
        "select id from archiver.unproven where source = 'task_html' order by receipt_id"
    ).fetchall()
    assert {id_ for (id_,) in first_in_line} == {good.task_id, damaged.task_id}
    assert "2 of task_html are unproven" in left.scene.run("status").stdout
    told = left.scene.run("show", good.task_id).stdout
    assert "not known: another worker archived it" in told
    assert "unproven" in told

    proven = left.adopt()

    assert why(proven) == {damaged.task_id: "damaged", missing.task_id: "missing"}
    assert proven.summary["adopted"] == 1
    [counts] = json.loads(left.scene.run("status", "--json").stdout)["sources"]
    assert (counts["archived_count"], counts["unproven_count"]) == (2, 1)
    assert unreadable.read_bytes() == b"rotten"


def test_a_dry_run_counts_and_asks_no_store(left_in_files: Left) -> None:
    left = left_in_files
    for _ in range(3):
        left.archived()
    left.skipped()
    left.row_alone()  # missing: only a look at the store could tell

    ran = left.adopt("--dry-run", ARCHIVE_ENDPOINT="file:///nowhere/at/all")

    assert ran.exit_code == 0, ran.stderr
    assert (ran.summary["adopted"], ran.summary["skipped"]) == (4, 1)
    assert left.receipts() == {}
    workers = left.scene.hover.connection.execute("select count(*) from archiver.worker")
    assert workers.fetchall() == [(0,)]
    assert left.adopt("--dry-run", "--limit", "2").summary["adopted"] == 2


def test_a_limit_counts_receipts_so_bad_rows_at_the_head_do_not_block(
    left_in_files: Left,
) -> None:
    left = left_in_files
    for _ in range(6):
        left.row_alone()
        left.archived()

    ran = left.adopt("--limit", "4")

    assert ran.summary["adopted"] == 4
    assert (ran.summary["stopped"], len(left.receipts())) == ("limit", 4)


def test_rows_in_another_bucket_are_adopted_with_that_bucket_set(left_in_files: Left) -> None:
    left = left_in_files
    page = left.row_alone(html_archive_bucket="older")
    older = left.scene.cold_root / "older" / page.cold_key
    older.parent.mkdir(parents=True)
    older.write_bytes(page.body)
    told = left.scene.run("adopt", "--source", "task_html")
    assert "ARCHIVE_SOURCE__TASK_HTML__BUCKET=older" in told.stderr

    assert left.adopt(ARCHIVE_SOURCE__TASK_HTML__BUCKET="older").exit_code == 0

    assert left.adopt().exit_code == 0  # with its receipt it is known, wherever it lies


def test_a_sweep_leaves_adopted_rows_and_their_objects_alone(left: Left) -> None:
    pages = [left.archived() for _ in range(3)]
    assert left.adopt().exit_code == 0
    before = left.rows()

    swept = left.scene.once()

    assert (swept.exit_code, swept.summary["archived"]) == (0, 0)
    assert (swept.summary["released"], left.releases_count()) == (0, 0)
    assert left.rows() == before
    assert [left.scene.cold_body(it.cold_key) for it in pages] == [it.body for it in pages]


def test_an_adopted_page_captured_again_is_archived_beside_the_old_one(left: Left) -> None:
    page = left.archived()
    assert left.adopt().exit_code == 0
    again = left.scene.hover.capture_again(page, b"<html>captured again</html>")
    left.scene.plant(again, again.body)
    # Its old object is a holding still, and what the row promises now is of the new page.
    assert left.adopt().exit_code == 0

    swept = left.scene.once()

    assert (swept.exit_code, swept.summary["archived"]) == (0, 1), swept.stderr
    row = left.scene.row(page)
    assert row["html_archive_key"] != page.cold_key
    assert left.scene.cold_body(page.cold_key) == page.body
    assert left.scene.lost() == []
    assert left.adopt().summary["known"] == 1


def test_a_page_captured_again_before_it_is_adopted_does_not_count_as_damaged(
    left: Left,
) -> None:
    page = left.archived()
    again = left.scene.hover.capture_again(page, b"<html>captured again</html>")
    left.scene.plant(again, again.body)

    ran = left.adopt()

    assert (ran.exit_code, ran.summary["unpromised"]) == (0, 1), ran.stdout


def test_a_skipped_page_that_was_captured_again_is_no_holding(left_in_files: Left) -> None:
    left = left_in_files
    page = left.skipped()
    left.scene.hover.capture_again(page, b"<html>there again</html>")

    assert left.adopt("--dry-run").summary["skipped"] == 0


def test_a_store_that_is_down_ends_the_run_and_the_next_one_goes_on(s3_scene: Scene) -> None:
    left = Left(s3_scene)
    for _ in range(30):
        left.archived()
    assert s3_scene.front is not None
    behind = s3_scene.settings["ARCHIVE_ENDPOINT"]

    down = left.adopt(ARCHIVE_ENDPOINT="http://127.0.0.1:9")

    assert (down.exit_code, down.summary["stopped"]) == (1, "failures"), down.stderr
    assert 0 < down.summary["unreachable"] < 30
    assert down.summary["error"]
    assert left.adopt(ARCHIVE_ENDPOINT=behind).summary["adopted"] == 30


def test_a_missing_bucket_is_fatal_and_no_row_is_called_missing(left_in_files: Left) -> None:
    left = left_in_files
    page = left.row_alone(html_archive_bucket="gone")

    ran = left.adopt(ARCHIVE_BUCKET="gone")

    assert ran.exit_code == 3, ran.stderr
    assert (ran.summary["state"], ran.summary["missing"]) == ("fatal", 0)
    assert "gone" in ran.summary["error"]
    assert left.receipts() == {}
    assert left.scene.row(page)["html_archive_key"] == page.cold_key


def test_killed_in_the_middle_and_run_again_each_row_has_one_receipt(
    left_in_files: Left,
) -> None:
    left = left_in_files
    pages = [left.archived() for _ in range(600)]
    process = start(left.scene.settings, "adopt", "--source", "task_html", "--json")
    try:
        _wait_until(left.receipts)
    finally:
        process.kill()
        process.communicate(timeout=BOUND_SECONDS)
    between = len(left.receipts())
    left.scene.make_due()

    assert left.adopt().exit_code == 0

    assert 0 < between
    assert _receipts_per_row(left) == {page.task_id: 1 for page in pages}


def test_interrupted_it_stops_between_objects_and_keeps_what_it_has(s3_scene: Scene) -> None:
    left = Left(s3_scene)
    pages = [left.archived() for _ in range(400)]
    process = start(left.scene.settings, "adopt", "--source", "task_html", "--json")
    try:
        _wait_until(left.receipts)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=BOUND_SECONDS)
    finally:
        process.kill()
    told = json.loads(out)

    assert (process.returncode, told["stopped"]) == (130, "signal"), err
    assert told["adopted"] == len(left.receipts()) < len(pages)
    assert left.adopt().summary["known"] == told["adopted"]
    assert _receipts_per_row(left) == {page.task_id: 1 for page in pages}


def test_two_at_once_make_one_receipt_each(left_in_files: Left) -> None:
    left = left_in_files
    pages = [left.archived() for _ in range(300)]
    both = [
        start(left.scene.settings, "adopt", "--source", "task_html", "--json") for _ in range(2)
    ]
    ended = [process.communicate(timeout=BOUND_SECONDS) for process in both]

    assert [process.returncode for process in both] == [0, 0], ended
    assert _receipts_per_row(left) == {page.task_id: 1 for page in pages}
    assert sum(json.loads(out)["adopted"] for out, _ in ended) == 300


def test_while_the_workers_are_paused_nothing_is_adopted(left_in_files: Left) -> None:
    left = left_in_files
    left.archived()
    left.scene.run("pause")

    assert left.adopt().summary["stopped"] == "paused"
    assert left.receipts() == {}


def test_a_ledger_refuses_a_release_of_what_was_adopted(left_in_files: Left) -> None:
    left = left_in_files
    left.archived()
    left.adopt()

    with pytest.raises(psycopg.errors.RaiseException, match="knows its hot object"):
        left.scene.hover.connection.execute(
            "insert into archiver.release (receipt_id, source, due_at) "
            "select receipt_id, source, now() from archiver.receipt"
        )


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["adopt"], "Missing option '--source'"),
        (["adopt", "--source", "tasks"], "--source tasks: no such source; configured are"),
        (["adopt", "--source", "task_html", "--limit", "0"], "0 is not in the range"),
        (["adopt", "--source", "task_html", "--limit", "many"], "not a valid integer"),
        (["adopt", "--source", "task_html", "now"], "unexpected extra argument"),
    ],
)
def test_bad_usage_is_told(left_in_files: Left, arguments: list[str], told: str) -> None:
    ran = left_in_files.scene.run(*arguments)

    assert (ran.exit_code, ran.stdout) == (2, "")
    assert told in ran.stderr


def test_a_source_that_does_not_tell_its_holdings_is_refused(
    left_in_files: Left, tmp_path: Path
) -> None:
    source = tmp_path / "mute.sql"
    source.write_text(
        "-- name: mute\n-- cold_key: {id}\n-- shares_objects: no\n"
        "-- candidates --\nselect id, now() as due_at, 'b' as hot_bucket, id as hot_path "
        "from tasks where :after_id = '' and :after_due_at < now() and false limit :limit;\n"
        "-- archived --\nupdate tasks set id = tasks.id from receipt "
        "where tasks.id = receipt.id and tasks.html_storage_path = receipt.hot_path "
        "returning tasks.id;\n"
    )
    left = left_in_files

    ran = left.scene.run("adopt", "--source", "mute", ARCHIVE_SOURCES=str(source))

    assert ran.exit_code == 3
    assert "section holdings: the file has no such section" in ran.stderr


def _receipts_per_row(left: Left) -> dict[str, int]:
    found = left.scene.hover.connection.execute(
        "select id, count(*) from archiver.receipt group by id"
    ).fetchall()
    return dict(found)


def _wait_until(is_so: Callable[[], object]) -> None:
    deadline = time.monotonic() + BOUND_SECONDS
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)
