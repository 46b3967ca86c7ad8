from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from archiver.demo.backlog import RETENTION_JOBS, Job, spread

if TYPE_CHECKING:
    from archiver.demo.pages import Page

NOW = datetime(2025, 6, 1, tzinfo=UTC)


def test_every_page_is_captured_once_under_an_id_of_its_own(real_pages: list[Page]) -> None:
    captured = spread(real_pages, NOW).captured

    assert [it.page for it in captured] == real_pages
    assert len({it.id for it in captured}) == len({it.hot_path for it in captured}) == 200


def test_due_is_what_ended_before_the_newest_jobs_of_its_domain_and_organisation(
    real_pages: list[Page],
) -> None:
    groups: dict[object, list[Job]] = defaultdict(list)
    for job in spread(real_pages, NOW).jobs:
        if job.ended_at is not None:
            groups[job.domain, job.organisation].append(job)

    for group in groups.values():
        newest_first = sorted(group, key=lambda job: (job.ended_at, job.id), reverse=True)
        for place, job in enumerate(newest_first, start=1):
            assert job.is_due == (place > RETENTION_JOBS)


def test_there_is_something_of_everything_to_see(real_pages: list[Page]) -> None:
    backlog = spread(real_pages, NOW)

    assert len(backlog.due) == 120
    assert len(backlog.kept) == 80
    assert len({job.domain for job in backlog.jobs}) == 4
    assert {job.organisation for job in backlog.jobs} == {"Acme", "Globex", None}
    assert {job.status for job in backlog.jobs} == {
        "completed",
        "failed",
        "cancelled",
        "running",
    }
    assert not any(job.is_due for job in backlog.jobs if job.ended_at is None)
