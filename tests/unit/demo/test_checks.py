"""The demo's own checks: on a world where all is well, and on each way it may not be."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from archiver.demo.backlog import Backlog, Captured, spread
from archiver.demo.checks import Seen, check
from archiver.demo.command import Ran
from archiver.demo.s3 import Stored
from archiver.demo.state import Row, State
from archiver.model import Digest, Evidence

if TYPE_CHECKING:
    from collections.abc import Callable

    from archiver.demo.pages import Page

    Break = Callable[[Seen], Seen]


def stored(captured: Captured) -> Stored:
    return Stored(len(captured.page.gz), f'"{captured.page.digest}"')


def before(backlog: Backlog) -> State:
    return State(
        rows={
            it.id: Row(it.id, it.hot_path, None, is_stamped=False) for it in backlog.captured
        },
        jobs={job.id: job.status for job in backlog.jobs},
        evidence={},
        hot={it.hot_path: stored(it) for it in backlog.captured},
        cold={},
    )


def after(backlog: Backlog) -> State:
    was = before(backlog)
    moved = {it.id: Row(it.id, None, it.id, is_stamped=True) for it in backlog.due}
    marked = {job.id: "archived" for job in backlog.jobs if job.is_due}
    return State(
        rows={**was.rows, **moved},
        jobs={**was.jobs, **marked},
        evidence={it.id: Evidence.READBACK for it in backlog.due},
        hot={it.hot_path: stored(it) for it in backlog.kept},
        cold={it.id: stored(it) for it in backlog.due},
    )


def ran(archived: int, exit_code: int = 0, **more: object) -> Ran:
    summary = {
        "state": "done",
        "archived": archived,
        "released": archived,
        "waiting": 0,
        "parked": 0,
        "moved_bytes": archived,
    }
    return Ran(exit_code, json.dumps(summary | more))


@pytest.fixture
def seen(real_pages: list[Page]) -> Seen:
    """All is well."""
    backlog = spread(real_pages, datetime(2025, 6, 1, tzinfo=UTC))
    return Seen(
        backlog=backlog,
        before=before(backlog),
        sweep=ran(len(backlog.due)),
        after=after(backlog),
        cold_digests={it.id: it.page.digest for it in backlog.due},
        second_sweep=ran(0),
        at_last=after(backlog),
    )


def test_every_claim_holds_when_all_is_well(seen: Seen) -> None:
    assert [] == [it for it in check(seen) if not it.holds]


def with_after(seen: Seen, state: State) -> Seen:
    return replace(seen, after=state, at_last=state)


def sweep_failed(seen: Seen) -> Seen:
    return replace(seen, sweep=replace(seen.sweep, exit_code=1))


def sweep_said_nothing(seen: Seen) -> Seen:
    return replace(seen, sweep=Ran(0, ""))


def one_was_parked(seen: Seen) -> Seen:
    return replace(seen, sweep=ran(len(seen.backlog.due), parked=1))


def one_row_still_points_hot(seen: Seen) -> Seen:
    id_ = seen.backlog.due[0].id
    rows = {**seen.after.rows, id_: replace(seen.after.rows[id_], hot_path="x")}
    return with_after(seen, replace(seen.after, rows=rows))


def one_row_is_gone(seen: Seen) -> Seen:
    id_ = seen.backlog.due[0].id
    rows = {name: row for name, row in seen.after.rows.items() if name != id_}
    return with_after(seen, replace(seen.after, rows=rows))


def one_row_does_not_say_when(seen: Seen) -> Seen:
    id_ = seen.backlog.due[0].id
    rows = {**seen.after.rows, id_: replace(seen.after.rows[id_], is_stamped=False)}
    return with_after(seen, replace(seen.after, rows=rows))


def one_cold_object_is_other_bytes(seen: Seen) -> Seen:
    wrong = {**seen.cold_digests, seen.backlog.due[0].id: Digest.of(b"")}
    return replace(seen, cold_digests=wrong)


def one_cold_object_is_missing(seen: Seen) -> Seen:
    id_ = seen.backlog.due[0].id
    return replace(seen, cold_digests={k: d for k, d in seen.cold_digests.items() if k != id_})


def a_kept_page_is_in_cold(seen: Seen) -> Seen:
    kept = seen.backlog.kept[0]
    return with_after(
        seen, replace(seen.after, cold={**seen.after.cold, kept.id: stored(kept)})
    )


def one_hot_copy_stayed(seen: Seen) -> Seen:
    due = seen.backlog.due[0]
    hot = {**seen.after.hot, due.hot_path: stored(due)}
    return with_after(seen, replace(seen.after, hot=hot))


def a_kept_object_is_gone(seen: Seen) -> Seen:
    path = seen.backlog.kept[0].hot_path
    hot = {name: it for name, it in seen.after.hot.items() if name != path}
    return with_after(seen, replace(seen.after, hot=hot))


def a_kept_object_changed(seen: Seen) -> Seen:
    path = seen.backlog.kept[0].hot_path
    hot = {**seen.after.hot, path: Stored(1, "other")}
    return with_after(seen, replace(seen.after, hot=hot))


def a_kept_row_changed(seen: Seen) -> Seen:
    kept = seen.backlog.kept[0]
    rows = {**seen.after.rows, kept.id: Row(kept.id, None, "x", is_stamped=True)}
    return with_after(seen, replace(seen.after, rows=rows))


def a_due_job_is_not_marked(seen: Seen) -> Seen:
    job = seen.backlog.due[0].job
    jobs = {**seen.after.jobs, job.id: job.status}
    return with_after(seen, replace(seen.after, jobs=jobs))


def a_kept_job_is_marked(seen: Seen) -> Seen:
    job = seen.backlog.kept[0].job
    return with_after(seen, replace(seen.after, jobs={**seen.after.jobs, job.id: "archived"}))


def the_second_sweep_moved_something(seen: Seen) -> Seen:
    return replace(seen, second_sweep=ran(1))


def the_second_sweep_failed(seen: Seen) -> Seen:
    return replace(seen, second_sweep=ran(0, exit_code=3))


def the_second_sweep_changed_something(seen: Seen) -> Seen:
    return replace(seen, at_last=replace(seen.at_last, hot={}))


@pytest.mark.parametrize(
    ("broken", "claim"),
    [
        (sweep_failed, "the sweep archived"),
        (sweep_said_nothing, "the sweep archived"),
        (one_was_parked, "the sweep archived"),
        (one_row_still_points_hot, "due rows"),
        (one_row_is_gone, "due rows"),
        (one_row_does_not_say_when, "due rows"),
        (one_cold_object_is_other_bytes, "cold objects"),
        (one_cold_object_is_missing, "cold objects"),
        (a_kept_page_is_in_cold, "cold objects"),
        (one_hot_copy_stayed, "hot copies"),
        (a_kept_object_is_gone, "pages to keep"),
        (a_kept_object_changed, "pages to keep"),
        (a_kept_row_changed, "pages to keep"),
        (a_due_job_is_not_marked, "jobs are marked"),
        (a_kept_job_is_marked, "jobs are marked"),
        (the_second_sweep_moved_something, "second sweep"),
        (the_second_sweep_failed, "second sweep"),
        (the_second_sweep_changed_something, "second sweep"),
    ],
)
def test_whatever_is_off_fails_the_claim_about_it(
    seen: Seen, broken: Break, claim: str
) -> None:
    failed = [it.claim for it in check(broken(seen)) if not it.holds]

    assert any(claim in it for it in failed), failed
