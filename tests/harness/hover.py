"""The reference application's database: its tables, and rows for them in one line each.

    hover = Hover(connection)
    domain = hover.domain()
    job = hover.job(domain, completed_at=hover.instant(days=-3))
    page = hover.page(job)  # a row of tasks; `page.body` is the object it points at

`hover` writes through the connection it is given and commits only where that is in
autocommit.
"""

from __future__ import annotations

import gzip
import hashlib
import itertools
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.harness.postgres import Databases

SCHEMA = Path(__file__).parent / "hover_schema.sql"
MIGRATIONS = Path(__file__).parents[2] / "migrations"
BUCKET = "task-html"


def create_hover(url: str, *, with_ledger: bool = True) -> None:
    """Fill an empty database: the application's tables and, unless told, the ledger's."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(SCHEMA.read_bytes())
        if with_ledger:
            for migration in sorted(MIGRATIONS.glob("*.sql")):
                connection.execute(migration.read_bytes())


@dataclass(frozen=True, slots=True)
class Page:
    """A crawled page: its row's id and pointer, and the object it points at."""

    task_id: str
    job_id: str
    bucket: str | None
    path: str
    html: bytes
    body: bytes  # the object as stored: gzip

    @property
    def cold_key(self) -> str:
        return f"jobs/{self.job_id}/tasks/{self.task_id}/page-content.html.gz"


class Hover:
    """Writes and reads rows as the application would."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.connection = connection
        self.now = datetime.now(UTC)
        self._numbers = itertools.count(1)

    def instant(self, *, days: float = 0, hours: float = 0, seconds: float = 0) -> datetime:
        """A time relative to when this was made."""
        return self.now + timedelta(days=days, hours=hours, seconds=seconds)

    def organisation(self) -> UUID:
        return UUID(self._insert("organisations", {"id": uuid4()}))

    def domain(self, name: str | None = None) -> int:
        name = name or f"site-{uuid4()}.example"
        return int(self._insert("domains", {"name": name}))

    def job(
        self,
        domain: int,
        *,
        id: str | None = None,  # noqa: A002 - the column's name
        status: str = "completed",
        organisation: UUID | None = None,
        created_at: datetime | None = None,
        **columns: object,
    ) -> str:
        """A job; one that ended does so a minute after it was created, unless told."""
        created_at = created_at or self.instant(days=-30, seconds=next(self._numbers))
        if status in {"completed", "failed", "cancelled", "archived"}:
            columns.setdefault("started_at", created_at)
            columns.setdefault("completed_at", created_at + timedelta(minutes=1))
        row = {
            "id": id or str(uuid4()),
            "domain_id": domain,
            "organisation_id": organisation,
            "status": status,
            "progress": 100 if status in {"completed", "archived"} else 0,
            "created_at": created_at,
            "concurrency": 5,
            "max_pages": 0,
            "find_links": True,
        }
        return self._insert("jobs", row | columns)

    def page(
        self,
        job: str,
        html: bytes | None = None,
        *,
        id: str | None = None,  # noqa: A002 - the column's name
        legacy_path: bool = False,
        **columns: object,
    ) -> Page:
        """A completed task with a captured page; `columns` override whatever is set here."""
        number = next(self._numbers)
        task_id = id or str(uuid4())
        html = html or f"<html><body>page {number} of {job}</body></html>".encode()
        body = gzip.compress(html, mtime=0)
        path = f"jobs/{job}/tasks/{task_id}/page-content.html.gz"
        if legacy_path:
            path = f"jobs/{job}/tasks/page-path/{task_id}.html.gz"
        captured: dict[str, object] = {
            "html_storage_bucket": BUCKET,
            "html_storage_path": path,
            "html_content_type": "text/html; charset=utf-8",
            "html_content_encoding": "gzip",
            "html_size_bytes": len(html),
            "html_compressed_size_bytes": len(body),
            "html_sha256": hashlib.sha256(html).hexdigest(),
            "html_captured_at": self.now,
        }
        self.task(job, id=task_id, **(captured | columns))
        bucket = columns.get("html_storage_bucket", BUCKET)
        hot_path = columns.get("html_storage_path", path)
        assert bucket is None or isinstance(bucket, str)
        assert isinstance(hot_path, str)
        return Page(task_id, job, bucket, hot_path, html, body)

    def archived_page(self, job: str, *, id: str | None = None) -> Page:  # noqa: A002
        """A page that is in the cold store already."""
        page = self.page(job, id=id)
        self.update(
            "tasks",
            page.task_id,
            html_storage_bucket=None,
            html_storage_path=None,
            html_archive_provider="r2",
            html_archive_bucket="cold",
            html_archive_key=page.cold_key,
            html_archived_at=self.now,
        )
        return page

    def task(
        self,
        job: str,
        *,
        id: str | None = None,  # noqa: A002 - the column's name
        **columns: object,
    ) -> str:
        """A completed task, without a captured page unless `columns` have one."""
        path = f"/{next(self._numbers)}-{uuid4()}"
        page = """
            insert into pages (domain_id, host, path)
            select domain_id, 'example', %s from jobs where id = %s returning id
        """
        found = self.connection.execute(page, [path, job]).fetchone()
        assert found is not None, f"no job {job}"
        row = {
            "id": id or str(uuid4()),
            "job_id": job,
            "page_id": found[0],
            "host": "example",
            "path": path,
            "source_type": "sitemap",
            "status": "completed",
            "created_at": self.now,
            "retry_count": 0,
        }
        return self._insert("tasks", row | columns)

    def capture_again(self, page: Page, html: bytes) -> Page:
        """The same task captured once more: the same path, another page, a hot pointer."""
        body = gzip.compress(html, mtime=0)
        self.update(
            "tasks",
            page.task_id,
            html_storage_bucket=BUCKET,
            html_storage_path=page.path,
            html_size_bytes=len(html),
            html_compressed_size_bytes=len(body),
            html_sha256=hashlib.sha256(html).hexdigest(),
            html_captured_at=self.now,
        )
        return Page(page.task_id, page.job_id, BUCKET, page.path, html, body)

    def update(self, table: str, id_: str, **columns: object) -> None:
        assignments = sql.SQL(", ").join(
            sql.SQL("{} = {}").format(sql.Identifier(name), sql.Placeholder())
            for name in columns
        )
        statement = sql.SQL("update {} set {} where id = %s").format(
            sql.Identifier(table), assignments
        )
        self.connection.execute(statement, [*columns.values(), id_])

    def row(self, table: str, id_: str) -> Mapping[str, Any]:
        """One row as it is now."""
        statement = sql.SQL("select * from {} where id = %s").format(sql.Identifier(table))
        with self.connection.cursor(row_factory=dict_row) as cursor:
            row = cursor.execute(statement, [id_]).fetchone()
        assert row is not None, f"no row {id_} in {table}"
        return row

    def many(self, jobs: int, pages_per_job: int) -> None:
        """A backlog, written by the server: one domain a job, each job completed.

        The rows promise no digest and point at objects that nobody has stored.
        """
        self.connection.execute(
            """
            with site as (
                insert into domains (name)
                select gen_random_uuid() || '.example' from generate_series(1, %(jobs)s)
                returning id
            ),
            job as (
                insert into jobs (id, domain_id, status, progress, created_at, started_at,
                    completed_at, concurrency, max_pages, find_links)
                select gen_random_uuid()::text, id, 'completed', 100, t, t, t, 5, 0, true
                from (select id, now() - id * interval '1 minute' as t from site) as made
                returning id, domain_id
            ),
            page as (
                insert into pages (domain_id, host, path)
                select domain_id, 'example', '/' || number
                from job, generate_series(1, %(pages)s) as number
                returning id, domain_id
            )
            insert into tasks (id, job_id, page_id, host, path, source_type, status,
                created_at, retry_count, html_storage_bucket, html_storage_path)
            select made.id, made.job_id, made.page_id, 'example', '/', 'sitemap', 'completed',
                now(), 0, 'task-html',
                format('jobs/%%s/tasks/%%s/page-content.html.gz', made.job_id, made.id)
            from (
                select gen_random_uuid()::text as id, job.id as job_id, page.id as page_id
                from job join page using (domain_id)
            ) as made
            """,
            {"jobs": jobs, "pages": pages_per_job},
        )

    def _insert(self, table: str, row: Mapping[str, object]) -> str:
        statement = sql.SQL("insert into {} ({}) values ({}) returning id").format(
            sql.Identifier(table),
            sql.SQL(", ").join(map(sql.Identifier, row)),
            sql.SQL(", ").join(map(sql.Placeholder, row)),
        )
        found = self.connection.execute(statement, dict(row)).fetchone()
        assert found is not None
        return str(found[0])


@pytest.fixture
def hover_url(databases: Databases) -> str:
    """A fresh database with the application's tables and the ledger's."""
    return databases.like("hover", create_hover)


@pytest.fixture
def hover(hover_url: str) -> Iterator[Hover]:
    """The application at work in it, each statement committed."""
    with psycopg.connect(hover_url, autocommit=True) as connection:
        yield Hover(connection)
