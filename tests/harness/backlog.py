"""A backlog of real pages: rows in the reference application's tables, objects in hot."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from itertools import cycle, islice
from typing import TYPE_CHECKING, Protocol
from uuid import UUID

from archiver.model import HotLocation
from tests.harness.hover import BUCKET

if TYPE_CHECKING:
    from collections.abc import Sequence

    from archiver.demo.pages import Page
    from tests.harness.hover import Hover

_PAGE_COLUMNS = "id, domain_id, host, path"
_JOB_COLUMNS = (
    "id, domain_id, status, progress, created_at, started_at, completed_at, "
    "concurrency, max_pages, find_links"
)
_TASK_COLUMNS = (
    "id, job_id, page_id, host, path, source_type, status, created_at, retry_count, "
    "html_storage_bucket, html_storage_path, html_content_type, html_content_encoding, "
    "html_size_bytes, html_compressed_size_bytes, html_sha256, html_captured_at"
)


class Plants(Protocol):
    """The hands of the application in the hot store."""

    def __call__(self, location: HotLocation, body: bytes) -> object: ...


@dataclass(frozen=True, slots=True)
class Captured:
    """One planted page: where it is, and what it is."""

    task_id: str
    job_id: str
    location: HotLocation
    page: Page
    place: int  # of its job in its domain, the newest is 1

    @property
    def cold_key(self) -> str:
        return f"jobs/{self.job_id}/tasks/{self.task_id}/page-content.html.gz"


def plant_backlog(
    hover: Hover,
    plant: Plants,
    pages: Sequence[Page],
    *,
    domains: int,
    jobs: int,
    pages_count: int,
    bucket: str = BUCKET,
) -> list[Captured]:
    """Rows and objects, oldest job first: `pages_count` pages spread evenly over all jobs.

    The pages repeat under different ids. Job n belongs to domain n modulo `domains` and
    ended n minutes after the first.
    """
    domain_ids = [hover.domain() for _ in range(domains)]
    jobs_per_domain = jobs // domains
    captured: list[Captured] = []
    supply = cycle(pages)
    with hover.connection.cursor() as cursor:
        page_id = 1 + cursor.execute("select coalesce(max(id), 0) from pages").fetchone()[0]  # type: ignore[index]  # an aggregate has a row
        job_rows, page_rows, task_rows = [], [], []
        for number in range(jobs):
            job_id = str(UUID(int=number + 1))
            domain = domain_ids[number % domains]
            ended = hover.instant(days=-30) + timedelta(minutes=number)
            job_rows.append((job_id, domain, "completed", 100, ended, ended, ended, 5, 0, True))
            share = pages_count // jobs
            for index, page in enumerate(islice(supply, share)):
                task_id = str(UUID(int=(number << 32) + index + 1))
                path = f"jobs/{job_id}/tasks/{task_id}/page-content.html.gz"
                location = HotLocation(bucket, path)
                plant(location, page.gz)
                page_rows.append((page_id, domain, "example", f"/{page_id}"))
                task_rows.append(
                    (
                        task_id,
                        job_id,
                        page_id,
                        "example",
                        f"/{page_id}",
                        "sitemap",
                        "completed",
                        ended,
                        0,
                        bucket,
                        path,
                        "text/html; charset=utf-8",
                        "gzip",
                        len(page.html),
                        len(page.gz),
                        str(page.content_digest),
                        ended,
                    )
                )
                place = jobs_per_domain - number // domains
                captured.append(Captured(task_id, job_id, location, page, place))
                page_id += 1
        for table, columns, rows in (
            ("pages", _PAGE_COLUMNS, page_rows),
            ("jobs", _JOB_COLUMNS, job_rows),
            ("tasks", _TASK_COLUMNS, task_rows),
        ):
            with cursor.copy(f"copy {table} ({columns}) from stdin") as copy:
                for row in rows:
                    copy.write_row(row)
    return captured
