"""Sources of every kind over a real database, for tests that stop a sweep anywhere.

Each plants rows with their objects, spoils some, and says where its rows point.
"""

from __future__ import annotations

import importlib.util
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import psycopg

from archiver.ledger.migrate import migrate
from archiver.model import ColdKey, Digest, HotLocation, Secret
from archiver.ops.clock import SystemClock
from archiver.sources.finding import shipped_source_file
from archiver.sources.plugins import PluginSettings, PluginSource
from archiver.sources.sql_source import SourceParameters, SqlSource
from tests.harness.copies import rows_of
from tests.harness.hover import Hover, create_hover
from tests.integration.test_plugin import TABLE as INVOICES_TABLE
from tests.integration.test_sql_source import FILE as AVATARS_FILE
from tests.integration.test_sql_source import TABLE as AVATARS_TABLE

if TYPE_CHECKING:
    from archiver.protocols import ArchiveSource
    from tests.harness.copies import Rows

Connection = psycopg.Connection[Any]
Pointers = dict[str, tuple[HotLocation | None, ColdKey | None]]

_PLUGIN = Path(__file__).parents[1] / "plugin_example" / "archiver_invoices.py"
_NO_RETENTION = timedelta()
_LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


class Rowed(Protocol):
    """The application's rows behind one source."""

    name: str
    bucket: str  # of its hot objects

    def create(self, url: str) -> None:
        """Fill an empty database: the application's tables and the ledger's."""

    def source(self, url: str) -> ArchiveSource: ...

    def plant(
        self, db: Connection, id_: str, content: bytes, group: str
    ) -> tuple[HotLocation, bytes]:
        """A row that may move; where its object belongs, and the bytes of it."""

    def plant_spoilt(
        self, db: Connection, id_: str, group: str
    ) -> tuple[HotLocation, bytes | None]:
        """One whose object is not what its row promises; None: there is no object."""

    def plant_unreadable(self, db: Connection, id_: str, group: str) -> None:
        """A row that cannot be a candidate."""

    def point_hot(self, db: Connection, id_: str) -> None:
        """The row as it was before it was archived, from a backup."""

    def cold_key(self, id_: str, group: str) -> ColdKey: ...

    def pointers(self, saved: Rows) -> Pointers: ...

    def amiss(self, saved: Rows) -> list[str]:
        """What is wrong with the rest of the application's rows, at any time."""

    def left_undone(self, saved: Rows) -> list[str]:
        """The same once everything is done."""


class Pages:
    """`task_html`: rows of tasks; a group is a job, which is marked once its pages are cold."""

    name = "task_html"
    bucket = "task-html"

    def create(self, url: str) -> None:
        create_hover(url)
        with psycopg.connect(url) as db:
            hover = Hover(db)
            hover.organisation()
            hover.domain()

    def source(self, url: str) -> ArchiveSource:
        del url
        file = shipped_source_file("task_html")
        return SqlSource(file, SourceParameters(0, _NO_RETENTION))

    def plant(
        self, db: Connection, id_: str, content: bytes, group: str
    ) -> tuple[HotLocation, bytes]:
        page = self._page(db, id_, group, html=content)
        return HotLocation(self.bucket, page.path), page.body

    def plant_spoilt(
        self, db: Connection, id_: str, group: str
    ) -> tuple[HotLocation, bytes | None]:
        page = self._page(db, id_, group, html_sha256=str(Digest.of(b"another page")))
        return HotLocation(self.bucket, page.path), page.body

    def plant_unreadable(self, db: Connection, id_: str, group: str) -> None:
        self._page(db, id_, group, html_storage_bucket=None)

    def _page(
        self, db: Connection, id_: str, job: str, html: bytes | None = None, **columns: Any
    ) -> Any:
        hover = Hover(db)
        if not db.execute("select 1 from jobs where id = %s", [job]).fetchone():
            organisation, domain = db.execute(
                "select (select id from organisations), (select id from domains)"
            ).fetchall()[0]
            hover.job(domain, id=job, organisation=organisation)
        return hover.page(job, html, id=id_, **columns)

    def point_hot(self, db: Connection, id_: str) -> None:
        db.execute(
            "update tasks set html_storage_bucket = %s, html_archive_provider = null, "
            "html_storage_path = html_archive_key, html_archive_bucket = null, "
            "html_archive_key = null, html_archived_at = null where id = %s",
            [self.bucket, id_],
        )

    def cold_key(self, id_: str, group: str) -> ColdKey:
        return ColdKey(f"jobs/{group}/tasks/{id_}/page-content.html.gz")

    def pointers(self, saved: Rows) -> Pointers:
        return {
            row["id"]: _pointer(
                row["html_storage_bucket"], row["html_storage_path"], row["html_archive_key"]
            )
            for row in rows_of(saved, "public.tasks")
        }

    def amiss(self, saved: Rows) -> list[str]:
        marks = {row["job_id"]: row for row in rows_of(saved, "archiver.job_mark")}
        found = [f"{row['job_id']} was told of twice" for row in self._notifications(saved)]
        for job in rows_of(saved, "public.jobs"):
            mark = marks.get(job["id"])
            if (job["status"] == "archived") != (mark is not None):
                found.append(f"{job['id']} is {job['status']}, its mark {mark}")
            if mark is not None and (mark["status_before"], mark["completed_at"]) != (
                "completed",
                job["completed_at"],
            ):
                found.append(f"{job['id']} is marked {mark}")
        return found

    def _notifications(self, saved: Rows) -> list[Any]:
        """The application tells its customers of a job that becomes completed: none did."""
        return list(rows_of(saved, "public.notifications"))

    def left_undone(self, saved: Rows) -> list[str]:
        hot = {
            row["job_id"]
            for row in rows_of(saved, "public.tasks")
            if row["html_storage_path"] is not None
        }
        found = [
            f"{job['id']} is {job['status']}"
            for job in rows_of(saved, "public.jobs")
            if (job["status"] == "archived") != (job["id"] not in hot)
        ]
        found += [f"a note is left: {it}" for it in rows_of(saved, _TOUCHED)]
        return found


_TOUCHED = "archiver.task_html_touched"


class Avatars:
    """A source of an author's own: one SQL file. Rows promise the digest of the bytes."""

    name = "avatars"
    bucket = "people"

    def create(self, url: str) -> None:
        _create(url, AVATARS_TABLE)

    def source(self, url: str) -> ArchiveSource:
        del url
        return SqlSource.load(AVATARS_FILE, parameters=SourceParameters(0, _NO_RETENTION))

    def plant(
        self, db: Connection, id_: str, content: bytes, group: str
    ) -> tuple[HotLocation, bytes]:
        del group
        self._insert(db, id_, self.bucket, f"{id_}.png", Digest.of(content))
        return HotLocation(self.bucket, f"{id_}.png"), content

    def plant_spoilt(
        self, db: Connection, id_: str, group: str
    ) -> tuple[HotLocation, bytes | None]:
        del group
        self._insert(db, id_, self.bucket, f"{id_}.png", Digest.of(b"another face"))
        return HotLocation(self.bucket, f"{id_}.png"), b"this face"

    def plant_unreadable(self, db: Connection, id_: str, group: str) -> None:
        del group
        self._insert(db, id_, None, f"{id_}.png", None)

    def _insert(
        self, db: Connection, id_: str, bucket: str | None, path: str, digest: Digest | None
    ) -> None:
        sha256 = None if digest is None else str(digest)
        db.execute(
            "insert into avatars (id, made_at, bucket, path, sha256) "
            "values (%s, %s, %s, %s, %s)",
            [id_, _LONG_AGO, bucket, path, sha256],
        )

    def point_hot(self, db: Connection, id_: str) -> None:
        db.execute(
            "update avatars set path = id || '.png', cold_key = null where id = %s", [id_]
        )

    def cold_key(self, id_: str, group: str) -> ColdKey:
        del group
        return ColdKey(f"avatars/{id_}.png")

    def pointers(self, saved: Rows) -> Pointers:
        return {
            row["id"]: _pointer(row["bucket"], row["path"], row["cold_key"])
            for row in rows_of(saved, "public.avatars")
        }

    def amiss(self, saved: Rows) -> list[str]:
        del saved
        return []

    left_undone = amiss


class Invoices:
    """A plugin of somebody else's, in Python. Its rows promise nothing."""

    name = "invoices"
    bucket = "invoices"

    def create(self, url: str) -> None:
        _create(url, INVOICES_TABLE)

    def source(self, url: str) -> ArchiveSource:
        spec = importlib.util.spec_from_file_location("archiver_invoices", _PLUGIN)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        settings = PluginSettings(Secret(url), 0, _NO_RETENTION)
        return PluginSource(module.Invoices(settings))

    def plant(
        self, db: Connection, id_: str, content: bytes, group: str
    ) -> tuple[HotLocation, bytes]:
        del group
        db.execute("insert into invoices values (%s, %s, %s)", [id_, _LONG_AGO, f"{id_}.pdf"])
        return HotLocation(self.bucket, f"{id_}.pdf"), content

    def plant_spoilt(
        self, db: Connection, id_: str, group: str
    ) -> tuple[HotLocation, bytes | None]:
        location, _ = self.plant(db, id_, b"", group)
        return location, None

    def plant_unreadable(self, db: Connection, id_: str, group: str) -> None:
        del group
        db.execute("insert into invoices values (%s, %s, '')", [id_, _LONG_AGO])

    def point_hot(self, db: Connection, id_: str) -> None:
        db.execute(
            "update invoices set pdf = id || '.pdf', cold_key = null where id = %s", [id_]
        )

    def cold_key(self, id_: str, group: str) -> ColdKey:
        del group
        return ColdKey(f"invoices/{id_}.pdf")

    def pointers(self, saved: Rows) -> Pointers:
        return {
            row["id"]: _pointer(self.bucket, row["pdf"] or None, row["cold_key"])
            for row in rows_of(saved, "public.invoices")
        }

    def amiss(self, saved: Rows) -> list[str]:
        del saved
        return []

    left_undone = amiss


def _create(url: str, table: str) -> None:
    migrate(Secret(url), SystemClock())
    with psycopg.connect(url) as db:
        db.execute(table.encode())


def _pointer(
    bucket: str | None, path: str | None, cold_key: str | None
) -> tuple[HotLocation | None, ColdKey | None]:
    hot = None if bucket is None or path is None else HotLocation(bucket, path)
    return hot, None if cold_key is None else ColdKey(cold_key)
