"""What there is to see: the application's rows, and the objects in both stores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg
from psycopg.rows import class_row

from archiver.model import Digest, Evidence

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from archiver.demo.s3 import S3Server, Stored
    from archiver.demo.world import World

_OURS = ".archiver/"  # where archiver keeps what it found out about the store


@dataclass(frozen=True, slots=True)
class Row:
    """The pointers of one row of tasks."""

    id: str
    hot_path: str | None
    cold_key: str | None
    is_stamped: bool  # it says when, and in which store and bucket


@dataclass(frozen=True, slots=True)
class State:
    rows: Mapping[str, Row]  # by id
    jobs: Mapping[str, str]  # status by id
    evidence: Mapping[str, Evidence]  # by id, of what was archived
    hot: Mapping[str, Stored]  # by path
    cold: Mapping[str, Stored]  # by key, without archiver's own

    @property
    def rows_hot(self) -> int:
        return sum(row.hot_path is not None for row in self.rows.values())

    @property
    def rows_cold(self) -> int:
        return sum(row.cold_key is not None for row in self.rows.values())

    @property
    def jobs_archived(self) -> int:
        return sum(status == "archived" for status in self.jobs.values())


def bytes_of(objects: Mapping[str, Stored]) -> int:
    return sum(stored.size_bytes for stored in objects.values())


def observe(world: World) -> State:
    """Look at everything from outside: plain SQL, plain S3."""
    with psycopg.connect(world.database_url) as connection:
        rows = connection.cursor(row_factory=class_row(Row)).execute(
            """
            select id, html_storage_path as hot_path, html_archive_key as cold_key,
                html_archived_at is not null and html_archive_provider is not null
                    and html_archive_bucket = %s and html_storage_bucket is null as is_stamped
            from tasks
            """,
            [world.cold.bucket],
        )
        tasks = {row.id: row for row in rows}
        jobs = connection.execute("select id, status from jobs").fetchall()
        receipts = connection.execute("select id, evidence from archiver.receipt").fetchall()
    return State(
        rows=tasks,
        jobs=dict(jobs),
        evidence={id_: Evidence(level) for id_, level in receipts},
        hot=world.hot.objects(),
        cold={
            key: stored
            for key, stored in world.cold.objects().items()
            if not key.startswith(_OURS)
        },
    )


def read_digests(store: S3Server, keys: Iterable[str]) -> dict[str, Digest]:
    """Read these objects whole; the digest of each, as it lies there."""
    return {key: Digest.of(store.read(key)) for key in keys}
