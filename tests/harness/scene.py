"""A small world for one run of the real command: rows, a hot store, a cold store.

    page = scene.due_page()
    ran = scene.once()
    assert (ran.exit_code, scene.lost()) == (0, [])

Rows lie in embedded Postgres, hot objects in the Supabase stand-in, cold ones in a directory
or behind `S3Front`. The command runs in this process, on the real app. Nothing is kept hot
by age, grace is over at once, and a failure waits a millisecond.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from archiver.ledger.postgres import LedgerSettings, PostgresLedger
from archiver.model import CandidateId, HotLocation, Secret
from archiver.ops.clock import SystemClock
from archiver.stores.s3_questions import open_client
from tests.fakes.s3_worlds import empty, peek, settings_of
from tests.harness.command import run_here
from tests.harness.hover import BUCKET
from tests.harness.s3_front import S3Front
from tests.standin.supabase import SERVICE_KEY, SupabaseStandIn

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from archiver.model import History
    from archiver.protocols import Clock
    from tests.harness.command import Ran
    from tests.harness.hover import Hover, Page

COLD_BUCKET = "cold"


@dataclass
class Scene:
    """`settings` are those of the next run; a test changes them as it likes."""

    database_url: str
    hover: Hover
    hot: SupabaseStandIn
    cold_root: Path
    settings: dict[str, str]
    front: S3Front | None = None  # before the cold bucket, where that is on S3
    hot_front: S3Front | None = None  # before the hot bucket, where that is on S3
    clock: Clock = field(default_factory=SystemClock)
    domain: int = field(init=False)
    planted: dict[str, tuple[HotLocation, bytes]] = field(default_factory=dict)  # by task id

    def __post_init__(self) -> None:
        self.domain = self.hover.domain()

    # --- what is there ------------------------------------------------------------------

    def due_page(self, html: bytes | None = None, **columns: Any) -> Page:
        """A page of a job of its own, with its object in the hot store."""
        return self.page(self.hover.job(self.domain), html, **columns)

    def page(self, job: str, html: bytes | None = None, **columns: Any) -> Page:
        page = self.hover.page(job, html, **columns)
        self.plant(page, page.body)
        return page

    def plant(self, page: Page, body: bytes) -> None:
        """Put bytes where the page's row points; from now on they must not be lost."""
        location = _location(page)
        if self.hot_front is None:
            self.hot.plant(location.bucket, location.path, body)
        else:
            client = client_of(self.hot_front.behind)
            client.put_object(Bucket=location.bucket, Key=location.path, Body=body)
        self.planted[page.task_id] = (location, body)

    def hot_body(self, page: Page) -> bytes | None:
        return self._hot_body(_location(page))

    def _hot_body(self, location: HotLocation) -> bytes | None:
        if self.hot_front is None:
            return self.hot.peek(location.bucket, location.path)
        return peek(client_of(self.hot_front.behind), location.bucket, location.path)

    def cold_body(self, key: str) -> bytes | None:
        if self.front is not None:
            # Past the front: whether it is there, not whether we may read it.
            return peek(client_of(self.front.behind), COLD_BUCKET, key)
        path = self.cold_root / COLD_BUCKET / key
        return path.read_bytes() if path.is_file() else None

    def cold_path(self, key: str) -> Path:
        """Where a directory keeps that key; its folders are made."""
        path = self.cold_root / COLD_BUCKET / key
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def row(self, page: Page) -> Mapping[str, Any]:
        return self.hover.row("tasks", page.task_id)

    def is_archived(self, page: Page) -> bool:
        row = self.row(page)
        return row["html_archived_at"] is not None and row["html_storage_path"] is None

    def is_untouched(self, page: Page) -> bool:
        """The row points where it did, and says nothing of an archive."""
        row = self.row(page)
        return row["html_archived_at"] is None and row["html_storage_path"] == page.path

    def history(self, page: Page) -> History | None:
        settings = LedgerSettings(url=Secret(self.database_url), max_connections=1)
        with PostgresLedger(settings, SystemClock()) as ledger:
            found = ledger.records.history(CandidateId(page.task_id), None)
        return found[0] if found else None

    def receipts_count(self) -> int:
        found = self.hover.connection.execute("select count(*) from archiver.receipt")
        return int(found.fetchall()[0][0])

    def make_due(self) -> None:
        """As if all waits were over, and all dead workers' leases."""
        for table, column in (("claim", "next_attempt_at"), ("release", "due_at")):
            self.hover.connection.execute(f"update archiver.{table} set {column} = now()")
        self.hover.connection.execute("update archiver.worker set lease_until = now()")

    # --- the promise --------------------------------------------------------------------

    def lost(self) -> list[str]:
        """Whose bytes are neither hot nor, under a receipt with their digest, in cold.

        And whose row points at nothing: at a hot object that is gone, or at a cold key that
        does not hold what was planted.
        """
        return [
            task_id
            for task_id, (location, body) in self.planted.items()
            if not self._is_safe(task_id, location, body)
        ]

    def _is_safe(self, task_id: str, location: HotLocation, body: bytes) -> bool:
        row = self.hover.row("tasks", task_id)
        is_hot = self._hot_body(location) == body
        if row["html_archive_key"] is None:
            return is_hot and row["html_storage_path"] == location.path
        is_cold = self.cold_body(row["html_archive_key"]) == body
        return is_cold and hashlib.sha256(body).digest() in self._receipted(task_id)

    def _receipted(self, task_id: str) -> set[bytes]:
        rows = self.hover.connection.execute(
            "select digest from archiver.receipt where id = %s", [task_id]
        ).fetchall()
        return {bytes(row[0]) for row in rows}

    # --- the command --------------------------------------------------------------------

    def once(self, *arguments: str, **changes: str | None) -> Ran:
        """`archiver --once --json`, with these changes to the settings; None unsets one."""
        return self.run("--once", "--json", *arguments, **changes)

    def run(self, *arguments: str, **changes: str | None) -> Ran:
        return run_here({**self.settings, **changes}, *arguments, clock=self.clock)

    def parked(self) -> dict[str, str]:
        """Reasons by id, as `archiver parked` says them."""
        rows = json.loads(self.run("parked", "--json").stdout)["parked"]
        return {row["id"]: row["reason"] for row in rows}


def client_of(url: str) -> Any:
    """A client of a server that believes every key."""
    return open_client(settings_of(url))


def _location(page: Page) -> HotLocation:
    assert page.bucket is not None
    return HotLocation(page.bucket, page.path)


def settings_for(database_url: str, hot: SupabaseStandIn, cold_root: Path) -> dict[str, str]:
    return {
        "ARCHIVE_DATABASE_URL": database_url,
        "ARCHIVE_PROVIDER": "file",
        "ARCHIVE_BUCKET": COLD_BUCKET,
        "ARCHIVE_ENDPOINT": f"file://{cold_root}",
        "SUPABASE_URL": hot.url,
        "SUPABASE_SERVICE_ROLE_KEY": SERVICE_KEY,
        "ARCHIVE_RETENTION_JOBS": "0",
        "ARCHIVE_RELEASE_GRACE": "0s",
        "ARCHIVE_RETRY_BASE": "1ms",
        "ARCHIVE_RETRY_MAX": "1ms",
        "ARCHIVE_CONCURRENCY": "4",
    }


@pytest.fixture
def scene(hover_url: str, hover: Hover, tmp_path: Path) -> Iterator[Scene]:
    """Cold is a directory."""
    with SupabaseStandIn() as hot:
        hot.create_bucket(BUCKET)
        (tmp_path / "store" / COLD_BUCKET).mkdir(parents=True)
        settings = settings_for(hover_url, hot, tmp_path / "store")
        yield Scene(hover_url, hover, hot, tmp_path / "store", settings)


@pytest.fixture
def s3_scene(scene: Scene, moto_url: str) -> Iterator[Scene]:
    """Cold is an S3 bucket, empty, behind a front."""
    empty(client_of(moto_url), COLD_BUCKET)
    with S3Front(moto_url) as front:
        scene.front = front
        scene.settings |= {
            "ARCHIVE_PROVIDER": "minio",
            "ARCHIVE_ENDPOINT": front.url,
            "ARCHIVE_ACCESS_KEY_ID": "key-id",
            "ARCHIVE_SECRET_ACCESS_KEY": "secret-key",
        }
        yield scene


@pytest.fixture
def hot_s3_scene(scene: Scene, moto_url: str) -> Iterator[Scene]:
    """Hot is an S3 bucket behind a front, cold a directory."""
    empty(client_of(moto_url), BUCKET)
    with S3Front(moto_url) as front:
        scene.hot_front = front
        scene.settings |= {
            "ARCHIVE_HOT": f"s3://{BUCKET}",
            "ARCHIVE_HOT_ENDPOINT": front.url,
            "ARCHIVE_HOT_ACCESS_KEY_ID": "key-id",
            "ARCHIVE_HOT_SECRET_ACCESS_KEY": "hot-secret-key",
        }
        yield scene
