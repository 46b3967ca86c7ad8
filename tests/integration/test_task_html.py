"""The shipped source on the reference application's tables, without its defects."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import pq

from archiver.model import (
    BadRow,
    Candidate,
    CandidateId,
    ColdKey,
    Digest,
    Holding,
    HotLocation,
)
from archiver.sources.finding import shipped_source_file
from archiver.sources.sections import (
    RELATIONS,
    location_values,
    page_values,
    receipt_values,
)
from archiver.sources.sql_source import SourceParameters, SqlSource
from archiver.testing import SourceContract, receipt_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from archiver.model import Offer, Receipt
    from tests.harness.hover import Hover

Tx = psycopg.Connection[Any]


def task_html(retention_jobs: int = 0, retention_age: timedelta = timedelta(0)) -> SqlSource:
    parameters = SourceParameters(retention_jobs=retention_jobs, retention_age=retention_age)
    return SqlSource(shipped_source_file("task_html"), parameters)


class Sweeps:
    """Drives a source on a database; every call is a transaction of its own."""

    def __init__(self, url: str, source: SqlSource) -> None:
        self.url = url
        self.source = source

    def offers(self) -> list[Offer]:
        with psycopg.connect(self.url) as tx:
            self.source.prepare(tx)
            return list(self.source.find_candidates(1000, None, tx))

    def candidates(self) -> list[Candidate]:
        return [offer for offer in self.offers() if isinstance(offer, Candidate)]

    def due_jobs(self) -> list[str]:
        """In the order of their turn, without repetition."""
        return list(dict.fromkeys(str(one.group_id) for one in self.candidates()))

    def archive(self, *receipts: Receipt) -> set[str]:
        with psycopg.connect(self.url) as tx:
            return set(self.source.on_archived(receipts, tx))

    def sweep(self) -> dict[str, str]:
        """Archive all that is due; what was moved and the job it is of."""
        due = self.candidates()
        self.archive(*(self.receipt(one) for one in due))
        return {str(one.id): str(one.group_id) for one in due}

    def receipt(self, candidate: Candidate, **changes: Any) -> Receipt:
        return receipt_for(candidate, self.source, **changes)

    def mark(self, *, everything: bool = False) -> int:
        with psycopg.connect(self.url) as tx:
            counts = self.source.housekeeping(tx, everything=everything)
        assert ["jobs_marked"] == list(counts)
        return counts["jobs_marked"]


@pytest.fixture
def none_kept(hover_url: str) -> Sweeps:
    """Retention 0: every ended job is due."""
    return Sweeps(hover_url, task_html())


@pytest.fixture
def one_kept(hover_url: str) -> Sweeps:
    """The newest job of each group stays hot."""
    return Sweeps(hover_url, task_html(retention_jobs=1))


# --- the contract -----------------------------------------------------------------------


class HoverWorld:
    """One job a row, each in a domain of its own."""

    def __init__(self, url: str, hover: Hover) -> None:
        self.url = url
        self.source = task_html()
        self._hover = hover

    def plant(self, id_: str, due_at: datetime) -> None:
        job = self._hover.job(self._hover.domain(), created_at=due_at, completed_at=due_at)
        self._hover.page(job, id=id_)

    def change(self, id_: str) -> None:
        self._hover.update("tasks", id_, html_storage_path="elsewhere")

    def flipped_to(self, id_: str) -> str | None:
        key = self._hover.row("tasks", id_)["html_archive_key"]
        assert key is None or isinstance(key, str)
        return key


class TestTaskHtml(SourceContract):
    @pytest.fixture
    def world(self, hover_url: str, hover: Hover) -> HoverWorld:
        return HoverWorld(hover_url, hover)


# --- candidates -------------------------------------------------------------------------


def test_a_page_is_offered_as_its_row_says(hover: Hover, none_kept: Sweeps) -> None:
    job = hover.job(hover.domain())
    page = hover.page(job)
    (one,) = none_kept.candidates()
    assert (
        Candidate(
            id=one.id,
            due_at=hover.row("jobs", job)["completed_at"],
            location=HotLocation("task-html", page.path),
            cold_key=one.cold_key,
            digest=None,
            content_digest=Digest.of(page.html),
            size_bytes=len(page.body),
            content_type="text/html; charset=utf-8",
            content_encoding="gzip",
            group_id=job,
            metadata={
                "task_id": page.task_id,
                "job_id": job,
                "sha256": str(Digest.of(page.html)),
            },
        )
        == one
    )
    assert page.cold_key == one.cold_key


def test_a_row_that_promises_nothing_has_the_reference_defaults(
    hover: Hover, none_kept: Sweeps
) -> None:
    hover.page(
        hover.job(hover.domain()),
        html_content_type=None,
        html_content_encoding="",
        html_sha256=None,
        html_compressed_size_bytes=None,
    )
    (one,) = none_kept.candidates()
    assert ("text/html", "gzip") == (one.content_type, one.content_encoding)
    assert (None, None) == (one.content_digest, one.size_bytes)
    assert ["task_id", "job_id"] == list(one.metadata)
    assert {one.id} == none_kept.archive(none_kept.receipt(one))


def test_a_row_cannot_put_a_line_into_the_headers_of_its_object(
    hover: Hover, hover_url: str
) -> None:
    hover.page(
        hover.job(hover.domain()), html_content_type="text/html\r\nx-amz-acl: public-read"
    )
    (one,) = Sweeps(hover_url, task_html()).offers()
    assert isinstance(one, BadRow)
    assert one.reason.startswith("bad row: content_type: not plain printable ASCII")


def test_a_legacy_path_is_read_where_it_is_and_archived_at_the_canonical_key(
    hover: Hover, none_kept: Sweeps
) -> None:
    page = hover.page(hover.job(hover.domain()), legacy_path=True)
    (one,) = none_kept.candidates()
    assert ("page-path" in one.location.path, page.cold_key) == (True, one.cold_key)


def test_the_newest_jobs_of_each_group_stay_hot(hover: Hover, hover_url: str) -> None:
    domain, other_domain, organisation = hover.domain(), hover.domain(), hover.organisation()
    groups: list[dict[str, Any]] = [
        {"domain": domain},
        {"domain": domain, "organisation": organisation},
        {"domain": other_domain},
    ]
    due = []
    for group in groups:
        jobs = [hover.job(created_at=hover.instant(days=-age), **group) for age in (4, 3, 2, 1)]
        for job in jobs:
            hover.page(job)
        due += jobs[:2]
    sweeps = Sweeps(hover_url, task_html(retention_jobs=2))
    assert sorted(due) == sorted(sweeps.due_jobs())


def test_only_jobs_that_ended_count(hover: Hover, one_kept: Sweeps) -> None:
    domain = hover.domain()
    statuses = ["pending", "initializing", "running", "paused", "completed"]
    for age, status in enumerate(statuses):
        hover.page(hover.job(domain, status=status, created_at=hover.instant(days=-age)))
    assert [] == one_kept.due_jobs()


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
def test_a_job_that_ended_without_a_time_is_ranked_by_its_creation(
    hover: Hover, one_kept: Sweeps, status: str
) -> None:
    domain = hover.domain()
    old = hover.job(domain, status=status, created_at=hover.instant(days=-9), completed_at=None)
    hover.page(old)
    hover.page(hover.job(domain, created_at=hover.instant(days=-8)))
    assert [old] == one_kept.due_jobs()


def test_a_candidate_is_beyond_the_newest_and_past_the_age(
    hover: Hover, hover_url: str
) -> None:
    domain = hover.domain()
    jobs = [hover.job(domain, created_at=hover.instant(days=-age)) for age in (9, 5, 1)]
    for job in jobs:
        hover.page(job)
    sweeps = Sweeps(hover_url, task_html(retention_jobs=1, retention_age=timedelta(days=7)))
    assert jobs[:1] == sweeps.due_jobs()


def test_an_endless_completion_time_stops_nobody(hover: Hover, none_kept: Sweeps) -> None:
    job = hover.job(hover.domain())
    page = hover.page(job)
    hover.connection.execute("update jobs set started_at = null, completed_at = '-infinity'")
    assert [page.task_id] == [one.id for one in none_kept.offers()]


def test_h05_pages_of_a_job_are_read_past_rows_that_stay(
    hover: Hover, none_kept: Sweeps
) -> None:
    job = hover.job(hover.domain())
    for number in range(7):
        hover.page(job, id=f"page-{number}")
    with psycopg.connect(none_kept.url) as tx:
        none_kept.source.prepare(tx)
        first = none_kept.source.find_candidates(3, None, tx)
        rest = none_kept.source.find_candidates(100, first[-1].position, tx)
    assert [f"page-{number}" for number in range(3, 7)] == [offer.id for offer in rest]


def test_h08_a_late_page_of_an_archived_job_is_a_candidate(
    hover: Hover, none_kept: Sweeps
) -> None:
    job = hover.job(hover.domain())
    hover.page(job)
    none_kept.sweep()
    assert 1 == none_kept.mark()
    assert "archived" == hover.row("jobs", job)["status"]
    late = hover.page(job)
    assert {late.task_id: job} == none_kept.sweep()
    assert 0 == none_kept.mark()
    assert "archived" == hover.row("jobs", job)["status"]


def test_h08_a_job_archived_before_there_was_a_ledger_is_ranked_by_its_own_time(
    hover: Hover, one_kept: Sweeps
) -> None:
    domain = hover.domain()
    old = hover.job(domain, status="archived", created_at=hover.instant(days=-9))
    hover.archived_page(old)
    late = hover.page(old)
    new = hover.job(domain, status="archived", created_at=hover.instant(days=-8))
    hover.page(new)
    assert [late.task_id] == [one.id for one in one_kept.candidates()]


def test_h16_jobs_of_one_instant_have_a_total_order(hover: Hover, one_kept: Sweeps) -> None:
    domain, same = hover.domain(), hover.instant(days=-5)
    for id_ in ("b", "d", "a", "c"):
        hover.page(hover.job(domain, id=id_, created_at=same), id=f"page-{id_}")
    picked = [one.id for one in one_kept.candidates()]
    assert ["page-a", "page-b", "page-c"] == picked
    for id_ in ("a", "c"):  # the application touches rows: nobody changes places
        hover.update("jobs", id_, error_message="touched")
    assert picked == [one.id for one in one_kept.candidates()]


def test_h16_marking_a_job_moves_nobody_across_the_edge(hover: Hover, one_kept: Sweeps) -> None:
    """The trigger stamps completed_at of a failed job when the marker updates it."""
    domain = hover.domain()
    jobs = [
        hover.job(
            domain,
            status="failed",
            progress=100,
            created_at=hover.instant(days=-age),
            completed_at=None,
        )
        for age in (3, 2, 1)
    ]
    for job in jobs:
        hover.page(job)
    assert jobs[:2] == list(one_kept.sweep().values())
    assert 2 == one_kept.mark()
    assert hover.row("jobs", jobs[0])["completed_at"] > hover.instant()  # now the newest
    assert [] == one_kept.due_jobs()
    late = hover.page(jobs[0])
    assert [late.task_id] == [one.id for one in one_kept.candidates()]


@pytest.mark.parametrize("id_", ["a/b", "..", "%", "?x", "#", " ", "ü", "new\nline"])
def test_h17_awkward_ids_are_moved_under_safe_keys(
    hover: Hover, none_kept: Sweeps, id_: str
) -> None:
    job = hover.job(hover.domain(), id=id_)
    hover.page(job, id=id_)
    (one,) = none_kept.candidates()
    assert 5 == len(one.cold_key.split("/"))
    assert one.cold_key.isascii()
    assert {id_} == none_kept.archive(none_kept.receipt(one))
    assert 1 == none_kept.mark()


def test_h22_a_half_pointer_is_offered_as_a_bad_row(hover: Hover, none_kept: Sweeps) -> None:
    job = hover.job(hover.domain())
    page = hover.page(job, html_storage_bucket=None)
    (bad,) = none_kept.offers()
    assert isinstance(bad, BadRow)
    assert "bad pointer: hot_bucket is NULL" == bad.reason
    assert (page.task_id, page.path) == (bad.id, bad.hot_path)


# --- prepare ----------------------------------------------------------------------------


def ranks(hover: Hover) -> list[tuple[str, int]]:
    """The due jobs, and which version of its row each is."""
    rows = hover.connection.execute(
        "select job_id, xmin::text::int from archiver.task_html_rank order by job_id"
    )
    return rows.fetchall()


def test_prepare_writes_differences_only(hover: Hover, one_kept: Sweeps) -> None:
    domain = hover.domain()
    for id_, age in (("a", 9), ("b", 8), ("c", 7)):
        hover.page(hover.job(domain, id=id_, created_at=hover.instant(days=-age)))
    one_kept.offers()
    before = ranks(hover)
    assert ["a", "b"] == [job for job, _ in before]
    one_kept.offers()
    assert before == ranks(hover)
    hover.job(domain, created_at=hover.instant(days=-6))  # c is due, a and b stay as they are
    one_kept.offers()
    assert before == ranks(hover)[:2]
    assert 3 == len(ranks(hover))


def test_prepare_forgets_jobs_without_a_hot_page(hover: Hover, none_kept: Sweeps) -> None:
    hover.page(hover.job(hover.domain()))
    hover.task(hover.job(hover.domain()))
    none_kept.sweep()
    assert [] == none_kept.offers()
    assert [] == ranks(hover)


def test_a_job_that_runs_again_is_not_due(hover: Hover, none_kept: Sweeps) -> None:
    job = hover.job(hover.domain())
    hover.page(job)
    assert [job] == none_kept.due_jobs()
    hover.update("jobs", job, status="running", started_at=hover.instant(seconds=1))
    assert [] == none_kept.due_jobs()


def test_a_restarted_job_is_ranked_by_its_new_completion(
    hover: Hover, one_kept: Sweeps
) -> None:
    domain = hover.domain()
    first = hover.job(domain, created_at=hover.instant(days=-9))
    hover.page(first)
    second = hover.job(domain, created_at=hover.instant(days=-8))
    hover.page(second)
    one_kept.sweep()
    assert 1 == one_kept.mark()
    hover.update(
        "jobs",
        first,
        status="completed",
        started_at=hover.instant(hours=1),
        completed_at=hover.instant(hours=2),
    )
    hover.page(first)
    assert [second] == one_kept.due_jobs()


# --- the flip ---------------------------------------------------------------------------

ARCHIVE_COLUMNS = (
    "html_storage_bucket",
    "html_storage_path",
    "html_archive_provider",
    "html_archive_bucket",
    "html_archive_key",
)


def test_the_flip_sets_the_cold_pointer_and_keeps_the_rest(
    hover: Hover, none_kept: Sweeps
) -> None:
    page = hover.page(hover.job(hover.domain()))
    before = dict(hover.row("tasks", page.task_id))
    none_kept.sweep()
    after = dict(hover.row("tasks", page.task_id))
    flipped = [after.pop(name) for name in ARCHIVE_COLUMNS]
    assert [None, None, "r2", "cold", page.cold_key] == flipped
    assert after.pop("html_archived_at") > hover.now
    assert after.items() <= before.items()


def test_a_digest_in_upper_case_is_the_same_digest(hover: Hover, none_kept: Sweeps) -> None:
    page = hover.page(hover.job(hover.domain()))
    sha256 = hover.row("tasks", page.task_id)["html_sha256"]
    hover.update("tasks", page.task_id, html_sha256=f" {sha256.upper()} ")
    assert [page.task_id] == list(none_kept.sweep())
    assert [] == none_kept.offers()


@pytest.mark.parametrize(
    "column", ["html_storage_path", "html_storage_bucket", "html_sha256", "html_sha256 to NULL"]
)
def test_h09_a_row_that_changed_since_is_not_flipped(
    hover: Hover, none_kept: Sweeps, column: str
) -> None:
    page = hover.page(hover.job(hover.domain()))
    (one,) = none_kept.candidates()
    name, to_null, _ = column.partition(" to NULL")
    changed = None if to_null else "ab" * 32
    hover.update("tasks", page.task_id, **{name: changed})
    assert set() == none_kept.archive(none_kept.receipt(one))
    row = hover.row("tasks", page.task_id)
    assert (changed, None) == (row[name], row["html_archived_at"])


def test_h09_a_row_captured_again_while_the_flip_waits_for_it_is_not_flipped(
    hover: Hover, none_kept: Sweeps
) -> None:
    page = hover.page(hover.job(hover.domain()))
    (one,) = none_kept.candidates()
    taken: list[set[str]] = []
    flip = threading.Thread(
        target=lambda: taken.append(none_kept.archive(none_kept.receipt(one)))
    )
    with hover.connection.transaction():
        again = hover.capture_again(page, b"<html>new</html>")
        flip.start()
        wait_until_blocked(none_kept.url, flip)
    flip.join()
    assert [set()] == taken
    (new,) = none_kept.candidates()
    assert Digest.of(again.html) == new.content_digest


def test_h09_a_null_digest_is_compared_too(hover: Hover, none_kept: Sweeps) -> None:
    page = hover.page(hover.job(hover.domain()), html_sha256=None)
    (one,) = none_kept.candidates()
    hover.update("tasks", page.task_id, html_sha256="ab" * 32)
    assert set() == none_kept.archive(none_kept.receipt(one))


def test_h19_a_page_captured_again_after_archiving_is_a_new_candidate(
    hover: Hover, none_kept: Sweeps
) -> None:
    job = hover.job(hover.domain())
    page = hover.page(job)
    none_kept.sweep()
    first_time = hover.row("tasks", page.task_id)["html_archived_at"]
    again = hover.capture_again(page, b"<html>new</html>")
    (one,) = none_kept.candidates()
    assert Digest.of(again.html) == one.content_digest
    assert 0 == none_kept.mark()  # a hot page keeps its job from being marked
    new_key = ColdKey(f"{page.cold_key}.new")
    cold = replace(none_kept.receipt(one).cold, key=new_key)
    assert {page.task_id} == none_kept.archive(none_kept.receipt(one, cold=cold))
    row = hover.row("tasks", page.task_id)
    assert (new_key, None) == (row["html_archive_key"], row["html_storage_path"])
    assert row["html_archived_at"] > first_time
    assert 1 == none_kept.mark()


def test_a_restored_row_points_hot_again(hover: Hover, none_kept: Sweeps) -> None:
    page = hover.page(hover.job(hover.domain()))
    before = dict(hover.row("tasks", page.task_id))
    (one,) = none_kept.candidates()
    receipt = none_kept.receipt(one)
    none_kept.archive(receipt)
    with psycopg.connect(none_kept.url) as tx:
        assert {page.task_id} == set(none_kept.source.on_restored([receipt], tx))
        assert set() == set(none_kept.source.on_restored([receipt], tx))
    assert before == hover.row("tasks", page.task_id)


def test_a_row_captured_again_is_not_restored_over(hover: Hover, none_kept: Sweeps) -> None:
    page = hover.page(hover.job(hover.domain()))
    (one,) = none_kept.candidates()
    none_kept.archive(none_kept.receipt(one))
    hover.capture_again(page, b"<html>new</html>")
    with psycopg.connect(none_kept.url) as tx:
        assert set() == set(none_kept.source.on_restored([none_kept.receipt(one)], tx))


def test_points_at_counts_every_row_that_may_mean_the_object(
    hover: Hover, none_kept: Sweeps
) -> None:
    job = hover.job(hover.domain())
    pages = [hover.page(job), hover.page(job, html_storage_bucket=None)]
    pages.append(hover.page(job, html_storage_path=pages[0].path))  # shared by two rows
    archived = hover.archived_page(job)
    here = {HotLocation("task-html", page.path) for page in pages}
    others = {HotLocation("task-html", archived.path), HotLocation("other", pages[0].path)}
    with psycopg.connect(none_kept.url) as tx:
        assert here == set(none_kept.source.points_at(here | others, tx))


def test_holdings_are_the_rows_that_are_archived(hover: Hover, none_kept: Sweeps) -> None:
    job = hover.job(hover.domain())
    page = hover.archived_page(job, id="a")
    b = hover.archived_page(job, id="b")
    skipped = {"html_archive_bucket": None, "html_archive_key": None}
    hover.update("tasks", "b", **skipped)
    again = hover.archived_page(job, id="c")
    hover.capture_again(again, b"<html>another page</html>")
    skipped_then_captured = hover.archived_page(job, id="d")
    hover.update("tasks", "d", **skipped)
    hover.capture_again(skipped_then_captured, b"<html>there after all</html>")
    hover.page(job)
    hover.task(job)
    key, digest = ColdKey(page.cold_key), Digest.of(page.html)
    held = [
        Holding(CandidateId("a"), "cold", key, digest, job),
        Holding(CandidateId("b"), None, None, Digest.of(b.html), job),
        # What its row promises is the new page's, and says nothing of the archived one.
        Holding(CandidateId("c"), "cold", ColdKey(again.cold_key), None, job),
    ]
    with psycopg.connect(none_kept.url) as tx:
        assert held == none_kept.source.holdings(9, None, tx)
        assert held[1:2] == none_kept.source.holdings(1, CandidateId("a"), tx)
        assert [] == none_kept.source.holdings(9, CandidateId("c"), tx)


# --- the marker -------------------------------------------------------------------------


def marks(hover: Hover) -> Mapping[str, tuple[str, datetime]]:
    rows = hover.connection.execute(
        "select job_id, status_before, completed_at from archiver.job_mark"
    )
    return {job: (status, completed_at) for job, status, completed_at in rows}


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
def test_h20_the_status_before_the_marker_is_kept(
    hover: Hover, none_kept: Sweeps, status: str
) -> None:
    job = hover.job(hover.domain(), status=status)
    hover.page(job)
    completed_at = hover.row("jobs", job)["completed_at"]
    none_kept.sweep()
    assert 1 == none_kept.mark()
    assert "archived" == hover.row("jobs", job)["status"]
    assert {job: (status, completed_at)} == marks(hover)


def test_h14_only_touched_jobs_are_looked_at_unless_all_are_asked_for(
    hover: Hover, none_kept: Sweeps
) -> None:
    job = hover.job(hover.domain())
    hover.archived_page(job)  # by an earlier system: nothing touched it
    assert 0 == none_kept.mark()
    assert 1 == none_kept.mark(everything=True)
    assert 0 == none_kept.mark(everything=True)


def test_h04_a_job_without_an_archived_page_is_never_marked(
    hover: Hover, none_kept: Sweeps
) -> None:
    without_pages = hover.job(hover.domain())
    hover.task(without_pages)
    skipped = hover.job(hover.domain())  # the reference's mark for what it could not find
    hover.task(skipped, html_archived_at=hover.now)
    half = hover.job(hover.domain())
    hover.archived_page(half)
    hover.page(half, html_storage_bucket=None)
    assert 0 == none_kept.mark(everything=True)
    assert {"completed"} == {
        hover.row("jobs", job)["status"] for job in (without_pages, skipped, half)
    }


@pytest.mark.parametrize("status", ["running", "pending", "paused"])
def test_a_job_that_has_not_ended_is_not_marked(
    hover: Hover, none_kept: Sweeps, status: str
) -> None:
    hover.archived_page(hover.job(hover.domain(), status=status))
    assert 0 == none_kept.mark(everything=True)


def test_h21_a_job_that_comes_back_is_marked_again_with_what_it_was(
    hover: Hover, one_kept: Sweeps
) -> None:
    domain, organisation = hover.domain(), hover.organisation()
    old = hover.job(
        domain,
        status="cancelled",
        organisation=organisation,
        created_at=hover.instant(days=-9),
    )
    page = hover.page(old)
    new = hover.job(domain, organisation=organisation, created_at=hover.instant(days=-8))
    hover.page(new)
    one_kept.sweep()
    assert 1 == one_kept.mark()
    before = marks(hover)
    hover.update("tasks", page.task_id, status="failed")  # the trigger: completed again
    assert "completed" == hover.row("jobs", old)["status"]
    assert [] == one_kept.offers()  # ranked where it was; nothing moves twice
    assert 1 == one_kept.mark()
    assert "archived" == hover.row("jobs", old)["status"]
    assert before == marks(hover)
    assert "cancelled" == before[old][0]


def test_a_job_the_application_holds_is_marked_the_next_time(
    hover: Hover, none_kept: Sweeps
) -> None:
    held, free = hover.job(hover.domain()), hover.job(hover.domain())
    for job in (held, free):
        hover.page(job)
    none_kept.sweep()
    with hover.connection.transaction():
        hover.connection.execute("select from jobs where id = %s for update", [held])
        assert 1 == none_kept.mark()
    assert 1 == none_kept.mark()
    assert "archived" == hover.row("jobs", held)["status"]


def test_a_flip_the_marker_cannot_see_yet_keeps_its_note(
    hover: Hover, none_kept: Sweeps
) -> None:
    """The note of an earlier flip is there; the last page's flip is not committed yet."""
    job = hover.job(hover.domain())
    hover.page(job, id="1")
    hover.page(job, id="2")
    first, last = none_kept.candidates()
    none_kept.archive(none_kept.receipt(first))
    with psycopg.connect(none_kept.url) as flipping:
        none_kept.source.on_archived([none_kept.receipt(last)], flipping)
        assert 0 == none_kept.mark()
    assert 1 == none_kept.mark()


def test_a_flip_during_the_marker_leaves_a_note_for_the_next(
    hover: Hover, none_kept: Sweeps
) -> None:
    job = hover.job(hover.domain())
    hover.page(job, id="1")
    hover.page(job, id="2")
    first, last = none_kept.candidates()
    none_kept.archive(none_kept.receipt(first))
    flip = threading.Thread(target=lambda: none_kept.archive(none_kept.receipt(last)))
    with psycopg.connect(none_kept.url) as marking:
        none_kept.source.housekeeping(marking, everything=False)  # takes the first's note
        flip.start()
        wait_until_blocked(none_kept.url, flip)
    flip.join()
    assert 1 == none_kept.mark()


def test_two_markers_mark_each_job_once(hover: Hover, none_kept: Sweeps) -> None:
    for _ in range(5):
        hover.page(hover.job(hover.domain()))
    none_kept.sweep()
    with psycopg.connect(none_kept.url) as marking:
        counts = none_kept.source.housekeeping(marking, everything=False)
        assert 0 == none_kept.mark()
    assert {"jobs_marked": 5} == counts
    assert 0 == none_kept.mark()


def test_the_marker_takes_no_more_than_its_batch(hover: Hover, none_kept: Sweeps) -> None:
    hover.many(jobs=2001, pages_per_job=1)
    hover.connection.execute(
        "update tasks set html_storage_path = null, html_archived_at = now(),"
        " html_archive_key = 'k'"
    )
    marked = [none_kept.mark(everything=True), none_kept.mark(), none_kept.mark()]
    assert [2000, 1, 0] == marked


# --- the database -----------------------------------------------------------------------


def test_the_source_is_trusted_once_its_needs_are_met(hover: Hover, none_kept: Sweeps) -> None:
    hover.page(hover.job(hover.domain()))
    with psycopg.connect(none_kept.url) as tx:
        warnings = none_kept.source.check(tx)
    assert ["archiver_tasks_hot_page", "archiver_tasks_hot_path"] == [
        warning.split()[1] for warning in warnings
    ]
    meet_needs(hover, none_kept.source)
    meet_needs(hover, none_kept.source)  # repeatable
    with psycopg.connect(none_kept.url) as tx:
        assert [] == list(none_kept.source.check(tx))
    assert [] == ranks(hover)  # the check leaves nothing behind


def test_a_missing_ledger_is_left_to_the_ledger(hover: Hover, none_kept: Sweeps) -> None:
    hover.connection.execute("drop table archiver.task_html_rank")
    with (
        psycopg.connect(none_kept.url) as tx,
        pytest.raises(psycopg.errors.UndefinedTable, match=r"archiver\.task_html_rank"),
    ):
        none_kept.source.check(tx)


def test_needs_add_the_columns_of_a_table_without_them(hover: Hover, none_kept: Sweeps) -> None:
    of_type = html_columns(hover)
    unused = {"html_size_bytes", "html_captured_at"}
    for name in of_type:
        hover.connection.execute(f"alter table tasks drop column {name}".encode())
    meet_needs(hover, none_kept.source)
    added = html_columns(hover)
    assert {name: of_type[name] for name in of_type.keys() - unused} == added
    with psycopg.connect(none_kept.url) as tx:
        assert [] == list(none_kept.source.check(tx))


def html_columns(hover: Hover) -> dict[str, str]:
    rows = hover.connection.execute(
        "select attname, atttypid::regtype::text from pg_attribute"
        " where attrelid = 'tasks'::regclass and attname like 'html%'"
    )
    return dict(rows.fetchall())


def test_an_index_whose_build_was_cut_is_told(hover: Hover, none_kept: Sweeps) -> None:
    meet_needs(hover, none_kept.source)
    hover.connection.execute(
        "update pg_index set indisvalid = false"
        " where indexrelid = 'archiver_tasks_hot_page'::regclass"
    )
    with psycopg.connect(none_kept.url) as tx:
        (warning,) = none_kept.source.check(tx)
    assert "archiver_tasks_hot_page is not valid" in warning


def test_candidates_reach_pages_through_the_partial_index(
    hover: Hover, none_kept: Sweeps
) -> None:
    hover.many(jobs=200, pages_per_job=100)
    meet_needs(hover, none_kept.source)
    hover.connection.execute("analyze")
    with psycopg.connect(none_kept.url) as tx:
        none_kept.source.prepare(tx)
        offers = none_kept.source.find_candidates(500, None, tx)
        for after in (None, offers[-1].position):
            found = plan(tx, none_kept.source, "candidates", page_values(500, after))
            assert "archiver_tasks_hot_page" in indexes(found)
            assert "tasks" not in scanned(found)
            assert rows_read(found) <= 700  # a window and two jobs


def test_a_window_of_a_huge_job_reads_a_window(hover: Hover, none_kept: Sweeps) -> None:
    hover.many(jobs=2, pages_per_job=5000)
    meet_needs(hover, none_kept.source)
    hover.connection.execute("analyze")
    with psycopg.connect(none_kept.url) as tx:
        none_kept.source.prepare(tx)
        found = plan(tx, none_kept.source, "candidates", page_values(100, None))
    assert rows_read(found) <= 200


def test_points_at_reaches_rows_through_its_index(hover: Hover, none_kept: Sweeps) -> None:
    hover.many(jobs=100, pages_per_job=500)
    meet_needs(hover, none_kept.source)
    hover.connection.execute("analyze")
    locations = [HotLocation("task-html", f"nowhere/{number}") for number in range(100)]
    with psycopg.connect(none_kept.url) as tx:
        found = plan(tx, none_kept.source, "points_at", location_values(locations))
    assert "archiver_tasks_hot_path" in indexes(found)
    assert "tasks" not in scanned(found)


def test_the_flip_reaches_rows_by_their_ids(hover: Hover, none_kept: Sweeps) -> None:
    hover.many(jobs=100, pages_per_job=500)
    hover.connection.execute("analyze")
    receipts = [none_kept.receipt(one) for one in none_kept.candidates()[:100]]
    with psycopg.connect(none_kept.url) as tx:
        found = plan(tx, none_kept.source, "archived", receipt_values(receipts))
    assert "tasks_pkey" in indexes(found)
    assert "tasks" not in scanned(found)


Plan = list[dict[str, Any]]


def plan(tx: Tx, source: SqlSource, section: str, values: dict[str, object]) -> Plan:
    """Every node of the plan a section was run by."""
    (statement,) = source.file.sections[section].statements
    text = statement.for_psycopg(
        RELATIONS.get(section, ""), explain="explain (analyze, format json)"
    )
    found = tx.execute(text, values, prepare=False).fetchone()
    assert found is not None
    return list(nodes(found[0][0]["Plan"]))


def indexes(found: Plan) -> set[str]:
    return {node["Index Name"] for node in found if "Index Name" in node}


def rows_read(found: Plan) -> float:
    """Of tasks."""
    return sum(
        float(node["Actual Rows"] * node["Actual Loops"])
        for node in found
        if node.get("Relation Name") == "tasks"
    )


def scanned(found: Plan) -> set[str]:
    """The tables that were read from end to end."""
    return {node["Relation Name"] for node in found if node["Node Type"] == "Seq Scan"}


def nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from nodes(child)


def meet_needs(hover: Hover, source: SqlSource) -> None:
    for statement in source.needs:
        assert pq.TransactionStatus.IDLE == hover.connection.info.transaction_status
        hover.connection.execute(statement.encode())


def wait_until_blocked(url: str, thread: threading.Thread) -> None:
    """Until the thread's session waits for another's lock, or it ended without."""
    waiting = """
        select count(*) from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock'
    """
    with psycopg.connect(url, autocommit=True) as watching:
        while thread.is_alive() and watching.execute(waiting).fetchone() == (0,):
            pass
