"""The application that the demo archives for: what it crawled, and how it stored that."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_URL, uuid5

import psycopg

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from archiver.demo.pages import Page
    from archiver.demo.s3 import S3Server

RETENTION_JOBS = 3

_SCHEMA = Path(__file__).with_name("schema.sql")

# Domain, organisation, and how many of its jobs have ended. The newest of each stay hot, so
# the last has nothing to archive.
_GROUPS: tuple[tuple[str, str | None, int], ...] = (
    ("docs.example", "Acme", 12),
    ("docs.example", "Globex", 9),
    ("shop.example", "Acme", 8),
    ("blog.example", None, 7),
    ("news.example", "Globex", 3),
)
_ENDINGS = ("completed", "completed", "failed", "completed", "cancelled")


@dataclass(frozen=True, slots=True)
class Job:
    """One visit to a domain."""

    id: str
    domain: str
    organisation: str | None
    status: str
    started_at: datetime
    ended_at: datetime | None  # None: it still runs
    is_due: bool  # to be archived: newer jobs have taken its place


@dataclass(frozen=True, slots=True)
class Captured:
    """One page that a job kept."""

    id: str  # of its task
    job: Job
    page: Page

    @property
    def hot_path(self) -> str:
        return f"{self.job.id}/{self.id}.html.gz"


@dataclass(frozen=True, slots=True)
class Backlog:
    """All that was crawled."""

    jobs: tuple[Job, ...]
    captured: tuple[Captured, ...]

    @property
    def due(self) -> list[Captured]:
        return [it for it in self.captured if it.job.is_due]

    @property
    def kept(self) -> list[Captured]:
        return [it for it in self.captured if not it.job.is_due]


def spread(pages: Sequence[Page], now: datetime) -> Backlog:
    """Deal the pages out to jobs. The ids are the same in every demo."""
    jobs = tuple(_jobs(now))
    captured = tuple(
        Captured(_id(f"{job.id}/{page.name}"), job, page)
        for number, page in enumerate(pages)
        for job in [jobs[number % len(jobs)]]
    )
    return Backlog(jobs, captured)


def _jobs(now: datetime) -> Iterable[Job]:
    for domain, organisation, ended_count in _GROUPS:
        for place in range(1, ended_count + 1):  # the newest is 1
            ended_at = now - timedelta(days=place)
            yield Job(
                id=_id(f"{domain}/{organisation}/{place}"),
                domain=domain,
                organisation=organisation,
                status=_ENDINGS[place % len(_ENDINGS)],
                started_at=ended_at - timedelta(minutes=20),
                ended_at=ended_at,
                is_due=place > RETENTION_JOBS,
            )
    domain, organisation, _ = _GROUPS[0]
    started_at = now - timedelta(days=90)  # old, but it has not ended
    running = _id(f"{domain}/{organisation}/running")
    yield Job(running, domain, organisation, "running", started_at, None, is_due=False)


def _id(name: str) -> str:
    return str(uuid5(NAMESPACE_URL, name))


def plant(backlog: Backlog, url: str, hot: S3Server) -> None:
    """Create the application's tables, write its rows and store its objects."""
    for captured in backlog.captured:
        hot.put(captured.hot_path, captured.page.gz)
    with psycopg.connect(url) as connection:
        connection.execute(_SCHEMA.read_bytes())
        with connection.cursor() as cursor:
            _write_rows(cursor, backlog, hot.bucket)


def _write_rows(cursor: psycopg.Cursor[Any], backlog: Backlog, bucket: str) -> None:
    cursor.executemany(
        "insert into organisations (name) values (%s)",
        sorted({(job.organisation,) for job in backlog.jobs if job.organisation}),
    )
    cursor.executemany(
        "insert into domains (name) values (%s)",
        sorted({(job.domain,) for job in backlog.jobs}),
    )
    cursor.executemany(
        """
        insert into jobs (id, domain_id, organisation_id, status, created_at, started_at,
            completed_at)
        select %(id)s, domain.id, organisation.id, %(status)s, %(started_at)s, %(started_at)s,
            %(ended_at)s
        from domains as domain
        left join organisations as organisation on organisation.name = %(organisation)s
        where domain.name = %(domain)s
        """,
        [
            {
                "id": job.id,
                "domain": job.domain,
                "organisation": job.organisation,
                "status": job.status,
                "started_at": job.started_at,
                "ended_at": job.ended_at,
            }
            for job in backlog.jobs
        ],
    )
    cursor.executemany(
        """
        with page as (
            insert into pages (domain_id, host, path)
            select domain_id, %(host)s, %(path)s from jobs where id = %(job)s
            returning id
        )
        insert into tasks (id, job_id, page_id, status, created_at, completed_at, status_code,
            html_storage_bucket, html_storage_path, html_content_type, html_content_encoding,
            html_size_bytes, html_compressed_size_bytes, html_sha256, html_captured_at)
        select %(id)s, %(job)s, page.id, 'completed', %(at)s, %(at)s, 200,
            %(bucket)s, %(hot_path)s, 'text/html; charset=utf-8', 'gzip',
            %(html_bytes)s, %(gz_bytes)s, %(digest)s, %(at)s
        from page
        """,
        [
            {
                "id": captured.id,
                "job": captured.job.id,
                "host": captured.job.domain,
                "path": f"/library/{captured.page.name}.html",
                "at": captured.job.started_at,
                "bucket": bucket,
                "hot_path": captured.hot_path,
                "html_bytes": len(captured.page.html),
                "gz_bytes": len(captured.page.gz),
                "digest": str(captured.page.content_digest),
            }
            for captured in backlog.captured
        ],
    )
