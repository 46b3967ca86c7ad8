"""The defects of the reference archiver, each refuted by a whole run of the real command.

What has no file before it is in this one; the others are closer to the part that settles it.

    H1   test_h01_nothing_is_deleted_without_proof
    H1   test_move.py::test_h01_an_object_that_is_not_what_its_row_promises_is_not_sent
    H2   test_h02_a_hot_error_never_makes_a_stale_cold_copy_the_page
    H2   test_h02_a_missing_page_that_cold_provably_holds_is_recovered
    H2   test_doubts.py::test_h2_a_missing_object_that_cold_holds_is_recovered
    H3   test_h03_the_words_not_found_prove_nothing
    H3   test_bad_input_hot.py::test_a_missing_hot_bucket_stops_the_sweep_and_parks_nothing
    H4   test_h04_a_missing_page_does_not_look_archived
    H4   test_task_html.py::test_h04_a_job_without_an_archived_page_is_never_marked
    H4   test_adopt.py::test_h04_what_the_reference_worker_left_is_adopted_counted_or_shown
    H5   test_h05_more_failing_rows_than_a_batch_do_not_starve_the_others
    H5   test_h05_a_row_that_keeps_failing_is_parked_at_the_limit
    H5   test_task_html.py::test_h05_pages_of_a_job_are_read_past_rows_that_stay
    H5   test_doubts.py::test_h5_bad_rows_at_the_head_do_not_keep_a_breaker_open
    H6   test_h06_two_workers_move_each_object_once
    H6   test_h06_a_worker_starts_while_another_takes_the_row_it_proves_itself_on
    H6   ledger_contract.py::test_a_late_owner_writes_nothing
    H7   test_h07_rows_are_flipped_before_anything_is_deleted
    H8   test_h08_a_page_that_comes_after_its_job_was_archived_is_archived
    H8   test_task_html.py::test_h08_a_late_page_of_an_archived_job_is_a_candidate
    H9   test_h09_a_page_captured_again_while_it_is_moved_keeps_its_pointer
    H9   test_h09_an_object_overwritten_before_its_release_is_not_deleted
    H9   test_task_html.py::test_h09_a_row_that_changed_since_is_not_flipped
    H9   test_task_html.py::test_h09_a_null_digest_is_compared_too
    H9   test_sweep.py::test_h9_a_page_captured_again_while_it_is_moved_is_superseded_and_stays
    H10  test_h10_an_object_beyond_the_memory_budget_goes_in_parts
    H10  test_adopting.py::test_h10_a_large_object_is_hashed_as_it_streams
    H10  test_budget.py::test_h10_bytes_in_flight_never_pass_the_budget
    H11  test_h11_the_same_bytes_are_not_sent_again
    H11  test_move.py::test_h11_the_same_bytes_are_never_sent_twice
    H12  test_h12_a_cold_store_that_is_down_at_one_run_works_at_the_next
    H12  test_worker.py::test_h12_a_cold_store_that_is_gone_at_the_start_is_used_once_it_is_back
    H13  test_h13_bad_settings_are_refused_together_and_none_becomes_a_default
    H13  test_h13_a_retention_of_zero_jobs_keeps_none
    H13  test_bad_input_settings.py::test_a_wrong_setting_is_told_and_nothing_is_touched
    H14  test_h14_a_backlog_of_many_batches_drains_in_one_run_and_its_jobs_are_marked
    H14  test_worker.py::test_h14_one_sweep_of_the_worker_drains_a_backlog_of_many_batches
    H14  test_task_html.py::test_h14_only_touched_jobs_are_looked_at_unless_all_are_asked_for
    H15  test_h15_a_dry_run_writes_nothing
    H15  test_h15_each_object_has_a_receipt_that_is_found_by_its_id
    H16  test_h16_two_runs_on_the_same_data_pick_the_same_rows
    H16  test_task_html.py::test_h16_jobs_of_one_instant_have_a_total_order
    H16  test_task_html.py::test_h16_marking_a_job_moves_nobody_across_the_edge
    H17  test_h17_ids_never_reach_another_path
    H17  test_sql_source.py::test_h17_an_id_too_long_for_a_key_is_offered_with_its_reason
    H17  test_sql_source.py::test_h17_awkward_ids_are_flipped_by_their_own_receipts
    H17  test_task_html.py::test_h17_awkward_ids_are_moved_under_safe_keys
    H17  test_template.py::test_h17_an_awkward_id_stays_one_segment
    H17  test_template.py::test_h17_awkward_ids_give_distinct_keys
    H17  test_template.py::test_h17_any_id_is_found_again_in_its_key
    H18  test_h18_stored_bytes_are_moved_as_they_are
    H18  test_move.py::test_h18_bytes_are_stored_as_they_are_and_labelled_by_what_they_are
    H19  test_h19_a_page_captured_again_after_its_archiving_is_archived_again
    H19  test_task_html.py::test_h19_a_page_captured_again_after_archiving_is_a_new_candidate
    H20  test_h20_how_a_job_ended_can_be_read_back_after_it_is_archived
    H20  test_task_html.py::test_h20_the_status_before_the_marker_is_kept
    H21  test_h21_an_archived_job_that_comes_back_is_marked_again_and_nothing_moves
    H21  test_task_html.py::test_h21_a_job_that_comes_back_is_marked_again_with_what_it_was
    H22  test_h22_a_half_pointer_is_parked_where_it_is_seen
    H22  test_task_html.py::test_h22_a_half_pointer_is_offered_as_a_bad_row
    H23  test_h23_nothing_of_ours_removes_or_rewrites_an_archived_object
    H24  test_h24_every_put_is_signed_with_its_digest_and_a_store_that_ignores_it_is_found_out
    H24  test_probe.py::test_an_altered_body_that_is_refused_shows_that_digests_are_enforced

To come with later versions: H10 for objects in parts, H15 for restore, H23 for a tool that
renames keys (here: the rule it stands for).
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections import defaultdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from archiver.formats.metadata import Origin
from archiver.protocols import ColdStore
from archiver.sources.finding import shipped_source_file
from archiver.sources.sql_source import SourceParameters, SqlSource
from tests.harness.command import start
from tests.harness.hover import BUCKET
from tests.harness.s3_front import Asked, Refusal, refuse_all
from tests.harness.scene import COLD_BUCKET, client_of

if TYPE_CHECKING:
    from collections.abc import Collection

    from archiver.model import HotLocation
    from archiver.protocols import Transaction
    from tests.harness.hover import Page
    from tests.harness.scene import Scene

NO_RETRIES = {"ARCHIVE_RETRY_BASE": "1h", "ARCHIVE_RETRY_MAX": "1h", "ARCHIVE_ONCE_WAIT": "0s"}
MISSING = {"statusCode": "404", "code": "NoSuchKey", "error": "not_found", "message": "gone"}
BROKEN = {"statusCode": "500", "code": "InternalError", "error": "Internal", "message": "oops"}


def test_every_defect_has_a_test_and_each_that_is_listed_is_there() -> None:
    files: defaultdict[str, str] = defaultdict(str)  # two may have one name
    for path in Path(__file__).parents[1].rglob("*.py"):
        files[path.name] += path.read_text()
    named = {
        int(number)
        for text in files.values()
        for number in re.findall(r"^ *def test_h(\d+)_", text, re.MULTILINE)
    }
    listed = re.findall(r"^ +H(\d+) +(?:(\w+\.py)::)?(\w+)$", __doc__ or "", re.MULTILINE)

    assert set(range(1, 25)) == named == {int(number) for number, _, _ in listed}
    here = Path(__file__).name
    assert [] == [it for it in listed if f"def {it[2]}(" not in files[it[1] or here]]


def job_of(scene: Scene, page: Page) -> dict[str, Any]:
    return dict(scene.hover.row("jobs", page.job_id))


# --- proof before delete ----------------------------------------------------------------


def test_h01_nothing_is_deleted_without_proof(s3_scene: Scene) -> None:
    """Of three pages one is cut in hot and one is damaged in cold: only the third goes."""
    scene = s3_scene
    cut, damaged, good = (scene.due_page() for _ in range(3))
    scene.hot.on("get", cut.path, times=None, cut_after_bytes=20)
    assert scene.front is not None
    scene.front.damages = lambda asked: damaged.task_id in asked.key

    ran = scene.once(ARCHIVE_ONCE_WAIT="0s")

    assert (ran.exit_code, ran.summary["archived"], ran.summary["released"]) == (1, 1, 1)
    assert sorted([cut.path, damaged.path]) == scene.hot.names(BUCKET)
    assert scene.is_archived(good)
    assert scene.is_untouched(cut)
    assert scene.is_untouched(damaged)
    assert [] == scene.lost()


def test_h02_a_hot_error_never_makes_a_stale_cold_copy_the_page(scene: Scene) -> None:
    page = scene.due_page()
    stale = gzip.compress(b"<html>of last year</html>")
    scene.cold_path(page.cold_key).write_bytes(stale)
    scene.hot.on("get", page.path, status=500, body=BROKEN)

    assert scene.once(**NO_RETRIES).summary["waiting"] == 1
    assert scene.is_untouched(page)

    scene.hot.on("get", page.path, status=400, body=MISSING)  # even proven missing
    scene.make_due()
    assert scene.once(**NO_RETRIES).summary["parked"] == 1
    assert scene.is_untouched(page)

    scene.run("retry", "--all")
    assert scene.once().summary["archived"] == 1
    assert scene.row(page)["html_archive_key"] != page.cold_key
    assert scene.cold_body(page.cold_key) == stale
    assert [] == scene.lost()


def test_h02_a_missing_page_that_cold_provably_holds_is_recovered(scene: Scene) -> None:
    page = scene.due_page()
    scene.cold_path(page.cold_key).write_bytes(page.body)
    scene.hot.delete(BUCKET, [page.path])

    ran = scene.once()

    assert (ran.exit_code, ran.summary["recovered"], ran.summary["moved_bytes"]) == (0, 1, 0)
    assert scene.row(page)["html_archive_key"] == page.cold_key
    assert [] == scene.lost()


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (400, {**MISSING, "code": "NoSuchBucket", "message": "Bucket not found"}, 3),
        (404, b"<html>404: page not found</html>", 1),
        (400, {"statusCode": "403", "code": "AccessDenied", "message": "not found"}, 1),
        (200, b"not found", 1),
    ],
    ids=["bucket", "proxy", "policy", "nonsense"],
)
def test_h03_the_words_not_found_prove_nothing(
    scene: Scene, status: int, body: object, code: int
) -> None:
    pages = [scene.due_page() for _ in range(3)]
    scene.hot.on("get", times=None, status=status, body=body)

    ran = scene.once(**NO_RETRIES)

    assert ran.exit_code == code
    assert ran.summary["archived"] == ran.summary["recovered"] == 0
    assert all(scene.is_untouched(page) for page in pages)
    assert [] == scene.lost()


def test_h04_a_missing_page_does_not_look_archived(scene: Scene) -> None:
    job = scene.hover.job(scene.domain)
    gone, there = scene.hover.page(job), scene.page(job)

    assert scene.once().exit_code == 1

    assert "There is no such object" in scene.parked()[gone.task_id]
    assert scene.is_untouched(gone)
    assert scene.is_archived(there)
    assert scene.hover.row("jobs", job)["status"] == "completed"  # not archived: one is left


# --- nobody in the way ------------------------------------------------------------------


def test_h05_more_failing_rows_than_a_batch_do_not_starve_the_others(scene: Scene) -> None:
    """At the head of the queue, some for good and some for now."""
    gone = [scene.due_page() for _ in range(6)]
    broken = [scene.due_page() for _ in range(6)]
    good = [scene.due_page() for _ in range(5)]
    for page in gone:
        scene.hot.on("get", page.path, times=None, status=400, body=MISSING)
    for page in broken:
        scene.hot.on("get", page.path, times=None, status=500, body=BROKEN)

    ran = scene.once(**NO_RETRIES, ARCHIVE_BATCH_SIZE="4", ARCHIVE_CONCURRENCY="2")

    assert ran.exit_code == 1
    counts = ("archived", "released", "parked", "waiting")
    assert [ran.summary[name] for name in counts] == [5, 5, 6, 6]
    assert all(scene.is_archived(page) for page in good)
    assert set(scene.parked()) == {page.task_id for page in gone}
    assert [] == scene.lost()


def test_h05_a_row_that_keeps_failing_is_parked_at_the_limit(scene: Scene) -> None:
    page = scene.due_page()
    scene.hot.on("get", page.path, times=3, status=500, body=BROKEN)

    ran = scene.once(ARCHIVE_MAX_ATTEMPTS="3")

    assert (ran.exit_code, ran.summary["parked"]) == (1, 1)
    assert "code=InternalError" in scene.parked()[page.task_id]
    scene.hot.verify_all_fired()
    assert [] == scene.lost()


def test_h06_two_workers_move_each_object_once(scene: Scene) -> None:
    pages = [scene.due_page() for _ in range(20)]
    settings = scene.settings | {"ARCHIVE_BATCH_SIZE": "3"}

    workers = [start(settings, "--once", "--json") for _ in range(2)]
    ended = [worker.communicate(timeout=120) for worker in workers]

    assert [worker.returncode for worker in workers] == [0, 0], ended
    summaries = [json.loads(out) for out, _ in ended]
    assert sum(summary["archived"] for summary in summaries) == len(pages)
    assert sum(summary["released"] for summary in summaries) == len(pages)
    assert scene.receipts_count() == len(pages)
    assert scene.hot.requests["get"] == len(pages)  # read once each, so sent once
    assert [] == scene.lost()


def test_h06_a_worker_starts_while_another_takes_the_row_it_proves_itself_on(
    scene: Scene,
) -> None:
    """The proof of a source reads a real row, without a lock; that one may go meanwhile."""
    first, second = scene.due_page(), scene.due_page()

    class Overtaken(SqlSource):
        def points_at(
            self, locations: Collection[HotLocation], tx: Transaction
        ) -> Collection[HotLocation]:
            scene.hover.update(
                "tasks", first.task_id, html_storage_bucket=None, html_storage_path=None
            )
            return super().points_at(locations, tx)

    source = Overtaken(
        shipped_source_file("task_html"), SourceParameters(0, retention_age=timedelta())
    )
    with psycopg.connect(scene.database_url) as tx:
        assert not [told for told in source.check(tx) if "index" not in told]

    assert scene.is_untouched(second)
    assert scene.receipts_count() == 0


def test_h07_rows_are_flipped_before_anything_is_deleted(scene: Scene) -> None:
    page = scene.due_page()
    seen: list[tuple[bool, int, bytes | None]] = []

    def look() -> None:
        key = scene.row(page)["html_archive_key"]
        seen.append((scene.is_archived(page), scene.receipts_count(), scene.cold_body(key)))

    # The delete takes place and its answer is lost: the worker cannot know.
    scene.hot.on("bulk_delete", run=look, reset=True, after_effect=True)
    ran = scene.once(**NO_RETRIES)

    assert seen == [(True, 1, page.body)]
    assert (ran.summary["archived"], ran.summary["released"]) == (1, 0)
    assert scene.hot_body(page) is None
    scene.make_due()
    assert scene.once().summary["released"] == 1  # it is found gone
    assert [] == scene.lost()


# --- pages that come late, or again -----------------------------------------------------


def test_h08_a_page_that_comes_after_its_job_was_archived_is_archived(scene: Scene) -> None:
    early = scene.due_page()
    assert scene.once().summary["archived"] == 1
    assert job_of(scene, early)["status"] == "archived"

    late = scene.page(early.job_id)
    assert scene.once().summary["archived"] == 1

    assert scene.is_archived(late)
    assert job_of(scene, early)["status"] == "archived"
    assert [] == scene.lost()


def test_h09_a_page_captured_again_while_it_is_moved_keeps_its_pointer(s3_scene: Scene) -> None:
    """Between the download and the flip the application writes a newer page there."""
    scene = s3_scene
    page = scene.due_page()
    newer: list[Page] = []

    def capture_again(asked: Asked) -> Refusal | None:
        if asked.method == "PUT" and asked.key == page.cold_key and not newer:
            again = scene.hover.capture_again(page, b"<html>newer</html>")
            newer.append(again)
            scene.plant(again, again.body)
        return None

    assert scene.front is not None
    scene.front.rule = capture_again
    ran = scene.once()

    assert (ran.exit_code, ran.summary["superseded"]) == (0, 1)
    assert ran.summary["released"] == 0
    assert scene.row(page)["html_storage_path"] == page.path
    assert scene.hot_body(page) == newer[0].body
    assert scene.once().summary["archived"] == 1  # the newer version is a candidate of its own
    assert scene.cold_body(scene.row(page)["html_archive_key"]) == newer[0].body
    assert [] == scene.lost()


def test_h09_an_object_overwritten_before_its_release_is_not_deleted(scene: Scene) -> None:
    """The application has uploaded; its row does not point there yet."""
    page = scene.due_page()
    newer = gzip.compress(b"<html>newer</html>", mtime=0)
    scene.hot.on("info", page.path, run=lambda: scene.hot.plant(BUCKET, page.path, newer))

    ran = scene.once()

    assert (ran.summary["archived"], ran.summary["released"]) == (1, 0)
    assert ran.summary["replaced"] == 1
    assert scene.hot_body(page) == newer
    scene.hot.verify_all_fired()

    again = scene.hover.capture_again(page, b"<html>newer</html>")
    scene.plant(again, again.body)
    assert scene.once().summary["archived"] == 1
    assert [] == scene.lost()


def test_h10_an_object_beyond_the_memory_budget_goes_in_parts(scene: Scene) -> None:
    page = scene.due_page(
        html_compressed_size_bytes=None, html_sha256=None, html_content_encoding=None
    )
    body = bytes(range(256)) * (1 << 18) + b"."  # 64 MiB and a byte
    scene.plant(page, body)

    ran = scene.once()

    assert (ran.exit_code, ran.summary["archived"], ran.summary["parked"]) == (0, 1, 0)
    assert scene.row(page)["html_storage_path"] is None
    assert scene.cold_body(scene.row(page)["html_archive_key"]) == body


def test_h11_the_same_bytes_are_not_sent_again(s3_scene: Scene) -> None:
    """What was sent before a crash is proven, not sent; so is a page that came back."""
    scene = s3_scene
    page = scene.due_page()
    assert scene.once().summary["moved_bytes"] == len(page.body)
    client = client_of(s3_url(scene))
    first = client.head_object(Bucket=COLD_BUCKET, Key=page.cold_key)

    scene.hover.update(
        "tasks", page.task_id, html_storage_bucket=BUCKET, html_storage_path=page.path
    )
    scene.plant(page, page.body)
    ran = scene.once()

    assert (ran.summary["archived"], ran.summary["moved_bytes"]) == (1, 0)
    objects = client.list_objects_v2(Bucket=COLD_BUCKET, Prefix="jobs/")
    assert objects["KeyCount"] == 1
    again = client.head_object(Bucket=COLD_BUCKET, Key=page.cold_key)
    assert again["LastModified"] == first["LastModified"]
    assert [] == scene.lost()


def s3_url(scene: Scene) -> str:
    assert scene.front is not None
    return scene.front.behind


# --- the run ----------------------------------------------------------------------------


def test_h12_a_cold_store_that_is_down_at_one_run_works_at_the_next(s3_scene: Scene) -> None:
    scene = s3_scene
    page = scene.due_page()
    assert scene.front is not None
    scene.front.rule = refuse_all(503, "ServiceUnavailable")

    down = scene.once(**NO_RETRIES)
    unreachable = scene.once(**NO_RETRIES, ARCHIVE_ENDPOINT="http://127.0.0.1:1")

    for ran in (down, unreachable):
        assert ran.exit_code == 1
        assert "store=cold" in ran.summary["error"]
    assert scene.is_untouched(page)
    scene.front.rule = lambda _: None
    assert scene.once().summary["archived"] == 1
    assert [] == scene.lost()


def test_h13_bad_settings_are_refused_together_and_none_becomes_a_default(scene: Scene) -> None:
    page = scene.due_page()

    ran = scene.once(
        ARCHIVE_PROVIDER="glacier",
        ARCHIVE_BUCKET=None,
        ARCHIVE_RETENTION_JOBS="many",
        ARCHIVE_INTERVAL="60",
        ARCHIVE_CONCURRENCY=" 5x",
    )

    assert ran.exit_code == 2
    for name in ("PROVIDER", "BUCKET", "RETENTION_JOBS", "INTERVAL", "CONCURRENCY"):
        assert f"ARCHIVE_{name}" in ran.stderr
    assert scene.is_untouched(page)


def test_h13_a_retention_of_zero_jobs_keeps_none(scene: Scene) -> None:
    page = scene.due_page()
    assert scene.once(ARCHIVE_RETENTION_JOBS="1").summary["archived"] == 0
    assert scene.once(ARCHIVE_RETENTION_JOBS="0").summary["archived"] == 1
    assert scene.is_archived(page)


def test_h14_a_backlog_of_many_batches_drains_in_one_run_and_its_jobs_are_marked(
    scene: Scene,
) -> None:
    jobs = [scene.hover.job(scene.domain) for _ in range(4)]
    pages = [scene.page(job) for job in jobs for _ in range(6)]

    ran = scene.once(ARCHIVE_BATCH_SIZE="5")

    assert (ran.exit_code, ran.summary["archived"], ran.summary["released"]) == (0, 24, 24)
    assert all(scene.is_archived(page) for page in pages)
    assert {scene.hover.row("jobs", job)["status"] for job in jobs} == {"archived"}
    assert "jobs_marked=4" in ran.stderr
    assert [] == scene.lost()


def test_h15_a_dry_run_writes_nothing(scene: Scene) -> None:
    pages = [scene.due_page() for _ in range(3)]
    before = everything_written(scene)
    asked = sum(scene.hot.requests.values())

    ran = scene.run("--once", "--dry-run", "--json")

    offered = json.loads(ran.stdout)
    assert ran.exit_code == 0
    assert [offer["id"] for offer in offered["offers"]] == [page.task_id for page in pages]
    assert offered["counts"]["known_bytes"] == sum(len(page.body) for page in pages)
    assert everything_written(scene) == before
    assert sum(scene.hot.requests.values()) == asked


def everything_written(scene: Scene) -> dict[str, object]:
    """All rows of all tables, and what lies in the cold store."""
    tables = scene.hover.connection.execute("""
        select format('%I.%I', schemaname, tablename) from pg_tables
        where schemaname in ('public', 'archiver') order by 1
    """).fetchall()
    rows: dict[str, object] = {
        name: scene.hover.connection.execute(
            f"select coalesce(jsonb_agg(t order by t::text), '[]') from {name} as t"
        ).fetchall()
        for (name,) in tables
    }
    return {**rows, "cold": sorted((scene.cold_root / COLD_BUCKET).rglob("*"))}


def test_h15_each_object_has_a_receipt_that_is_found_by_its_id(scene: Scene) -> None:
    pages = [scene.due_page() for _ in range(3)]
    assert scene.once("--limit", "2").summary["stopped"] == "limit"

    for page in pages[:2]:  # oldest first
        (told,) = json.loads(scene.run("show", page.task_id, "--json").stdout)["histories"]
        (receipt,) = told["receipts"]
        assert receipt["digest"] == hashlib.sha256(page.body).hexdigest()
        assert receipt["content_digest"] == hashlib.sha256(page.html).hexdigest()
        assert (receipt["cold_key"], receipt["hot_path"]) == (page.cold_key, page.path)
        assert (receipt["evidence"], receipt["outcome"]) == ("readback", "released")
    assert scene.run("show", pages[2].task_id).exit_code == 1
    assert scene.is_untouched(pages[2])
    assert scene.once().summary["archived"] == 1


def test_h16_two_runs_on_the_same_data_pick_the_same_rows(scene: Scene) -> None:
    """Ten jobs of one instant: which one is the newest does not change between looks."""
    instant = scene.hover.instant(days=-9)
    for _ in range(10):
        job = scene.hover.job(scene.domain, created_at=instant, completed_at=instant)
        scene.page(job)

    def offered() -> list[str]:
        ran = scene.run("--once", "--dry-run", "--json", ARCHIVE_RETENTION_JOBS="4")
        return [offer["id"] for offer in json.loads(ran.stdout)["offers"]]

    first = offered()
    scene.hover.connection.execute(
        "update jobs set progress = progress"
    )  # other places on disk
    assert offered() == first
    assert len(first) == 6

    assert scene.once("--limit", "2", ARCHIVE_RETENTION_JOBS="4").summary["archived"] == 2
    assert offered() == first[2:]
    assert scene.once(ARCHIVE_RETENTION_JOBS="4").summary["archived"] == 4
    assert offered() == []
    assert [] == scene.lost()


def test_h17_ids_never_reach_another_path(s3_scene: Scene) -> None:
    scene = s3_scene
    victim = scene.due_page()
    assert scene.once().exit_code == 0
    job = scene.hover.job(scene.domain, id=f"{victim.job_id}/tasks/{victim.task_id}")
    ids = ["..", "../..", f"../../{victim.job_id}", "a?b", "a#b", "%2e%2e", "a b", "ü", "a\nb"]
    pages = [
        scene.page(job, id=id_, html_storage_path=f"pages/{number}")
        for number, id_ in enumerate(ids)
    ]

    assert scene.once().summary["archived"] == len(ids)
    assert len({scene.row(page)["html_archive_key"] for page in pages}) == len(ids)
    assert scene.cold_body(victim.cold_key) == victim.body
    assert [] == scene.lost()


def test_h18_stored_bytes_are_moved_as_they_are(s3_scene: Scene) -> None:
    """A hot store that names an encoding must not make us gunzip; the label fits the bytes."""
    scene = s3_scene
    page = scene.due_page()
    scene.hot.on("get", page.path, content_encoding="gzip")
    plain = scene.due_page(html_compressed_size_bytes=None)
    scene.plant(plain, plain.html)  # its row says gzip, and it is not

    assert scene.once().summary["archived"] == 2

    client = client_of(s3_url(scene))
    heads = [client.head_object(Bucket=COLD_BUCKET, Key=it.cold_key) for it in (page, plain)]
    assert scene.cold_body(page.cold_key) == page.body
    assert heads[0]["ContentEncoding"] == "gzip"
    assert heads[0]["CacheControl"] == "no-transform"
    assert scene.cold_body(plain.cold_key) == plain.html
    assert "gzip" not in heads[1].get("ContentEncoding", "")
    assert [] == scene.lost()


def test_h19_a_page_captured_again_after_its_archiving_is_archived_again(scene: Scene) -> None:
    page = scene.due_page()
    assert scene.once().summary["archived"] == 1
    before = scene.row(page)

    again = scene.hover.capture_again(page, b"<html>once more</html>")
    scene.plant(again, again.body)
    assert scene.once().summary["archived"] == 1

    after = scene.row(page)
    assert after["html_archive_key"] != before["html_archive_key"]
    assert after["html_sha256"] == hashlib.sha256(again.html).hexdigest()
    assert after["html_archived_at"] > before["html_archived_at"]
    assert scene.cold_body(after["html_archive_key"]) == again.body
    assert job_of(scene, page)["status"] == "archived"
    assert [] == scene.lost()


# --- jobs and rows ----------------------------------------------------------------------


def test_h20_how_a_job_ended_can_be_read_back_after_it_is_archived(scene: Scene) -> None:
    ended = {
        scene.hover.job(scene.domain, status=status): status
        for status in ("completed", "failed", "cancelled")
    }
    for job in ended:
        scene.page(job)

    assert scene.once().summary["archived"] == 3

    assert {scene.hover.row("jobs", job)["status"] for job in ended} == {"archived"}
    kept = "select job_id, status_before from archiver.job_mark"
    assert dict(scene.hover.connection.execute(kept).fetchall()) == ended


def test_h21_an_archived_job_that_comes_back_is_marked_again_and_nothing_moves(
    scene: Scene,
) -> None:
    page = scene.due_page()
    assert scene.once().summary["archived"] == 1
    cold = sorted((scene.cold_root / COLD_BUCKET).rglob("*.gz"))

    scene.hover.update("jobs", page.job_id, status="completed")  # as the counter trigger does
    ran = scene.once()

    assert (ran.exit_code, ran.summary["archived"], ran.summary["released"]) == (0, 0, 0)
    assert job_of(scene, page)["status"] == "archived"
    assert scene.receipts_count() == 1
    assert sorted((scene.cold_root / COLD_BUCKET).rglob("*.gz")) == cold
    assert [] == scene.lost()


def test_h22_a_half_pointer_is_parked_where_it_is_seen(scene: Scene) -> None:
    job = scene.hover.job(scene.domain)
    half, whole = scene.hover.page(job, html_storage_bucket=None), scene.page(job)
    scene.hot.plant(BUCKET, half.path, half.body)

    ran = scene.once()

    assert (ran.exit_code, ran.summary["parked"], ran.summary["archived"]) == (1, 1, 1)
    assert "bad pointer" in scene.parked()[half.task_id]
    assert half.task_id in scene.run("parked").stdout
    assert scene.is_untouched(half)
    assert scene.hot.peek(BUCKET, half.path) == half.body
    assert scene.is_archived(whole)
    assert job_of(scene, whole)["status"] == "completed"


def test_h23_nothing_of_ours_removes_or_rewrites_an_archived_object(s3_scene: Scene) -> None:
    """The contract has no word for it, and over two versions of a page none is asked for."""
    assert not {"delete", "remove", "put", "copy", "move"} & set(dir(ColdStore))
    scene = s3_scene
    page = scene.due_page()
    assert scene.once().exit_code == 0
    again = scene.hover.capture_again(page, b"<html>newer</html>")
    scene.plant(again, again.body)
    assert scene.once().exit_code == 0

    key = scene.row(page)["html_archive_key"]
    assert scene.front is not None
    asked = [it for it in scene.front.asked if it.method in {"DELETE", "POST"}]
    # Uploads in parts are begun, completed and aborted: here the probe's alone.
    assert [it for it in asked if "upload" not in it.query] == []
    assert {it.key for it in asked} <= {".archiver/probe-parts", ".archiver/probe-digest"}
    assert scene.cold_body(page.cold_key) == page.body
    client = client_of(s3_url(scene))
    for cold_key, version in ((page.cold_key, page), (key, again)):
        told = client.head_object(Bucket=COLD_BUCKET, Key=cold_key)["Metadata"]
        origin = Origin.of(told)
        assert origin is not None
        assert (origin.id, str(origin.location)) == (page.task_id, f"{BUCKET}/{page.path}")
        assert str(origin.digest) == hashlib.sha256(version.body).hexdigest()
        assert told["task_id"], told["job_id"] == (page.task_id, page.job_id)
        assert told["sha256"] == hashlib.sha256(version.html).hexdigest()


def test_h24_every_put_is_signed_with_its_digest_and_a_store_that_ignores_it_is_found_out(
    s3_scene: Scene,
) -> None:
    scene = s3_scene
    pages = [scene.due_page() for _ in range(3)]

    ran = scene.once()

    assert scene.front is not None
    puts = [it for it in scene.front.asked if it.method == "PUT" and it.key.startswith("jobs/")]
    assert len(puts) == 3
    for put in puts:
        assert put.headers["x-amz-content-sha256"] == hashlib.sha256(put.body).hexdigest()
    # This server takes whatever comes, so its word is no evidence: all is read back.
    assert "enforces_signed_digest=false" in ran.stderr
    for page in pages:
        history = scene.history(page)
        assert history is not None
        assert str(history.receipts[0][0].receipt.evidence) == "readback"
