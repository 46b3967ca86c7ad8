"""A whole world for the main job: the application's rows, a hot store, a cold store.

It runs the real program, and afterwards looks at what lies where with none of its code.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from functools import cached_property
from threading import Event
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from archiver.model import Digest
from tests.harness.backlog import plant_backlog
from tests.harness.command import Ran, archiver, start
from tests.harness.hover import Hover
from tests.harness.sides import SupabaseSide, s3_side
from tests.standin.supabase import SupabaseStandIn

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator, Sequence

    from archiver.demo.pages import Page
    from tests.harness.backlog import Captured
    from tests.harness.sides import Side
    from tests.harness.versitygw import S3Server

KEPT_JOBS = 3  # the newest of each domain: the default of ARCHIVE_RETENTION_JOBS
PAGES_PER_JOB = 10
BOUND_SECONDS = 60.0  # for what never happens when the tests pass

Row = tuple[Any, ...]


@dataclass
class World:
    """One backlog and its two stores."""

    url: str  # of the application's database, as the superuser
    hot: Side
    cold: Side
    captured: Sequence[Captured] = field(repr=False)

    @property
    def settings(self) -> dict[str, str]:
        """Of a sweep that lets go at once."""
        return {
            **self.hot.hot_settings,
            **self.cold.cold_settings,
            "ARCHIVE_DATABASE_URL": self.url,
            "ARCHIVE_RELEASE_GRACE": "0s",
        }

    def once(self, *arguments: str, **settings: str) -> Ran:
        """Run `archiver --once --json` to its end, with settings of this run alone."""
        return archiver(self.settings | settings, "--once", "--json", *arguments)

    def start_once(self, **settings: str) -> subprocess.Popen[str]:
        """The same, left running; whoever starts it ends it."""
        return start(self.settings | settings, "--once", "--json")

    # --- what ought to be -------------------------------------------------------------------

    @cached_property
    def due(self) -> list[Captured]:
        return [page for page in self.captured if page.place > KEPT_JOBS]

    @cached_property
    def kept(self) -> list[Captured]:
        return [page for page in self.captured if page.place <= KEPT_JOBS]

    # --- what is ------------------------------------------------------------------------------

    def ask(self, query: str, *parameters: object) -> list[Row]:
        """Rows of a query, on a connection of its own: the server may have been away."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            return connection.execute(query.encode(), parameters).fetchall()

    def rows(self, pages: Sequence[Captured]) -> list[Row]:
        """The rows of these pages and their jobs, whole."""
        return self.ask(
            "select task, job from tasks as task join jobs as job on job.id = task.job_id "
            "where task.id = any(%s) order by task.id",
            [page.task_id for page in pages],
        )

    def dangling(self) -> list[str]:
        """Pages whose row does not point at their bytes."""
        pointers = {
            id_: pointer
            for id_, *pointer in self.ask(
                "select id, html_storage_path, html_archive_provider, html_archive_bucket, "
                "html_archive_key from tasks"
            )
        }
        return [page.task_id for page in self.captured if not self._leads(page, pointers)]

    def _leads(self, page: Captured, pointers: dict[str, list[str | None]]) -> bool:
        hot_path, provider, bucket, cold_key = pointers[page.task_id]
        if hot_path is not None:
            body = self.hot.read(hot_path)
        elif cold_key is not None and (provider, bucket) == self._cold_place:
            body = self.cold.read(cold_key)
        else:
            body = None
        return body is not None and Digest.of(body) == page.page.digest

    @property
    def _cold_place(self) -> tuple[str, str]:
        return self.cold.provider, self.cold.bucket

    def not_archived(self) -> set[str]:
        """Due pages whose row does not point cold."""
        archived = self.ask(
            "select id from tasks where html_archive_key is not null "
            "and html_storage_path is null"
        )
        return {page.task_id for page in self.due} - {id_ for (id_,) in archived}

    def astray_in_hot(self) -> set[str]:
        """Objects that should be there and are not, or are there and should not."""
        return self.hot.names() ^ {page.location.path for page in self.kept}

    def astray_in_cold(self) -> set[str]:
        return self.cold.names() ^ {page.cold_key for page in self.due}

    def not_once_receipted(self) -> list[Row]:
        """Pages with several receipts, and due pages without one."""
        return self.ask(
            "select id, count(receipt_id) from unnest(%s::text[]) as due (id) "
            "full join archiver.receipt using (id) group by id having count(receipt_id) <> 1",
            [page.task_id for page in self.due],
        )

    def in_motion(self) -> list[Row]:
        """Claims and releases the ledger still has in its hands."""
        return self.ask(
            "select 'claim', state, count(*) from archiver.claim group by state union all "
            "select 'release', 'pending', count(*) from archiver.release having count(*) > 0"
        )

    def receipts_count(self) -> int:
        ((count,),) = self.ask("select count(*) from archiver.receipt")
        return int(count)

    def assert_done(self) -> None:
        """Everything due is cold and let go of, once; everything else is untouched."""
        assert [] == self.dangling()
        assert set() == self.not_archived()
        assert set() == self.astray_in_hot()
        assert set() == self.astray_in_cold()
        assert [] == self.not_once_receipted()
        assert [] == self.in_motion()


def plant_world(
    url: str, hot: Side, cold: Side, pages: Sequence[Page], *, domains: int, jobs: int
) -> World:
    """Fill a database that has the application's tables, and the hot store."""
    with psycopg.connect(url, autocommit=True) as connection:
        captured = plant_backlog(
            Hover(connection),
            hot.plant,
            pages,
            domains=domains,
            jobs=jobs,
            pages_count=PAGES_PER_JOB * jobs,
            bucket=hot.bucket,
        )
    return World(url, hot, cold, captured)


@pytest.fixture
def supabase() -> Iterator[SupabaseStandIn]:
    """A Supabase Storage; faults that were declared must have fired by the end."""
    with SupabaseStandIn() as standin:
        yield standin
        standin.verify_all_fired()


@pytest.fixture
def world(
    hover_url: str, supabase: SupabaseStandIn, s3_server: S3Server, real_pages: list[Page]
) -> Iterator[World]:
    """Supabase to S3: 350 pages due and 150 kept, of 50 jobs of 5 domains."""
    with s3_side(s3_server) as cold:
        hot = SupabaseSide(supabase)
        yield plant_world(hover_url, hot, cold, real_pages, domains=5, jobs=50)


def at_request(
    standin: SupabaseStandIn, kind: str, number: int, do: Callable[[], object]
) -> None:
    """Do something when the nth request of one kind (or of `any`) has come in.

    It is answered afterwards, so what happens in there happens in mid-sweep.
    """
    count = itertools.count(1)
    standin.on(kind, times=None, run=lambda: next(count) == number and do())


def hold_until_both_work(standin: SupabaseStandIn, concurrency: int) -> None:
    """Answer no read before there are more than one worker can have under way."""
    count, both_work = itertools.count(1), Event()

    def run() -> None:
        if next(count) > concurrency:
            both_work.set()
        both_work.wait(BOUND_SECONDS)

    standin.on("get", times=None, run=run)
