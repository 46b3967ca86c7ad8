"""A table of plain texts, a source file over it, Postgres, a hot directory and a cold store.

    sandbox.plant(Thing("an id", BUCKET, "a/path", body=b"a page"))
    summary = sandbox.sweep()
    assert sandbox.is_archived("an id", b"a page")

Nothing of the table is constrained, so that a row may say what nobody would write.
"""

from __future__ import annotations

import shutil
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from archiver.api import (
    FileColdStore,
    FileHotStore,
    LedgerSettings,
    PostgresLedger,
    Secret,
    SourceParameters,
    SqlSource,
    SweepPlan,
    SystemClock,
    migrate_ledger,
    sweep_by_hand,
)
from archiver.model import Digest
from archiver.stores.cold_s3 import S3ColdStore
from archiver.stores.providers import PROVIDERS
from archiver.stores.s3_questions import open_client
from tests.fakes.s3_worlds import ENFORCES_ALL, empty, peek, settings_of
from tests.liar.server import LyingS3

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from archiver.model import Summary
    from archiver.protocols import ArchiveSource, ColdStore, Observer
    from tests.harness.postgres import Databases

TABLE = """
create table things (
    id text collate "C", due_at timestamptz, hot_bucket text, hot_path text, digest text,
    content_digest text, size_bytes bigint, content_type text, content_encoding text,
    group_id text, note text, cold_bucket text, cold_key text
);
create index on things (due_at, md5(id));
"""
FILE = """\
-- name: things
-- cold_key: things/{id}.html.gz
-- metadata: note={note}

-- candidates --
select id, due_at, hot_bucket, hot_path, digest, content_digest, size_bytes, content_type,
    content_encoding, group_id, note
from things
where cold_key is null and (due_at, id) > (:after_due_at, :after_id)
order by due_at, id
limit :limit;

-- archived --
with held as (
    select things.id
    from receipt
    join things on things.id = receipt.id
    where things.hot_path = receipt.hot_path
        and things.hot_bucket = receipt.hot_bucket
        and things.content_digest is not distinct from receipt.content_digest
    order by things.id
    for no key update of things
)
update things
set cold_bucket = receipt.cold_bucket, cold_key = receipt.cold_key,
    hot_bucket = null, hot_path = null
from held
join receipt on receipt.id = held.id
where things.id = held.id
returning things.id;

-- restored --
update things
set hot_bucket = receipt.hot_bucket, hot_path = receipt.hot_path,
    cold_bucket = null, cold_key = null
from receipt
where things.id = receipt.id
    and things.cold_bucket = receipt.cold_bucket
    and things.cold_key = receipt.cold_key
    and things.hot_path is null
returning things.id;

-- points_at --
select hot_bucket, hot_path from location
where exists (
    select from things
    where things.hot_bucket = location.hot_bucket and things.hot_path = location.hot_path
);
"""
BUCKET = "pages"  # in hot, and of a cold directory
COLD_BUCKET = "archive"  # of a cold S3 store
_DUE_AT = datetime(2025, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Thing:
    """One row, and what lies where it points, if anything can."""

    id: str
    hot_bucket: str | None
    hot_path: str | None
    digest: str | None = None
    content_digest: str | None = None
    size_bytes: int | None = None
    content_type: str | None = None
    content_encoding: str | None = None
    group_id: str | None = None
    note: str | None = None
    body: bytes = b"a page"


class ColdDirectory:
    """Where objects go, and the bytes that lie there, read with none of archiver's code."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def open(self) -> ColdStore:
        return FileColdStore(self._root, BUCKET, "")

    def empty(self) -> None:
        """But for the stamps of the ledger, which goes on."""
        (self._root / BUCKET).mkdir(parents=True, exist_ok=True)
        for there in (self._root / BUCKET).iterdir():
            if there.is_symlink() or not there.is_dir():
                there.unlink()
            elif there.name != ".archiver":
                shutil.rmtree(there)

    def peek(self, key: str) -> bytes | None:
        path = self._root / BUCKET / key
        return path.read_bytes() if path.is_file() else None

    def damage(self, key: str, body: bytes) -> None:
        (self._root / BUCKET / key).write_bytes(body)


class ColdS3:
    """The same of a server that speaks S3."""

    def __init__(self, url: str) -> None:
        self._settings = settings_of(url)
        self._client = open_client(self._settings)
        empty(self._client, COLD_BUCKET)

    def open(self) -> ColdStore:
        return S3ColdStore(self._settings, PROVIDERS["minio"], COLD_BUCKET, "", ENFORCES_ALL)

    def empty(self) -> None:
        """But for the stamps, as above."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=COLD_BUCKET)
        keys = [item["Key"] for page in pages for item in page.get("Contents", ())]
        for key in keys:
            if not key.startswith(".archiver/"):
                self._client.delete_object(Bucket=COLD_BUCKET, Key=key)

    def peek(self, key: str) -> bytes | None:
        return peek(self._client, COLD_BUCKET, key)

    def damage(self, key: str, body: bytes) -> None:
        self._client.put_object(Bucket=COLD_BUCKET, Key=key, Body=body)


@dataclass
class Sandbox:
    """A database and a directory, in which hot and cold stores are two of several."""

    url: str
    root: Path
    source: ArchiveSource
    connection: psycopg.Connection[Any]
    cold: ColdDirectory | ColdS3
    planted: dict[str, bytes] = field(default_factory=dict)  # by id, what lies in hot

    def empty(self) -> None:
        self.connection.execute(
            "truncate things, archiver.claim, archiver.release, archiver.outcome, "
            "archiver.receipt"
        )
        self.planted.clear()
        shutil.rmtree(self.root / "hot", ignore_errors=True)
        (self.root / "hot" / BUCKET).mkdir(parents=True)
        self.cold.empty()

    def plant(self, thing: Thing, minutes: int = 0) -> None:
        names = [name for name in thing.__dataclass_fields__ if name != "body"]
        marks = ", ".join(["%s"] * (len(names) + 1))
        insert = f"insert into things ({', '.join(names)}, due_at) values ({marks})"
        values = [getattr(thing, name) for name in names]
        self.connection.execute(
            insert.encode(), [*values, _DUE_AT + timedelta(minutes=minutes)]
        )
        path = self.hot_file(thing)
        if path is not None and _writes(path, thing.body):
            self.planted[thing.id] = thing.body

    def hot_file(self, thing: Thing) -> Path | None:
        """Where its object lies; None: no object can have that name."""
        if thing.hot_bucket != BUCKET or not thing.hot_path:
            return None
        segments = thing.hot_path.split("/")
        if {"", ".", ".."} & set(segments):
            return None
        return self.root.joinpath("hot", BUCKET, *segments)

    def sweep(self, grace_seconds: float = 0.0, observer: Observer = lambda _: None) -> Summary:
        """Sweep until nothing waits: what fails for a while is tried three times."""
        clock = SystemClock()
        ledger_settings = LedgerSettings(
            url=Secret(self.url),
            retry_base_seconds=0.001,
            retry_max_seconds=0.001,
            release_grace_seconds=grace_seconds,
            max_connections=3,
        )
        with (
            PostgresLedger(ledger_settings, clock) as ledger,
            closing(self.cold.open()) as cold,
        ):
            return sweep_by_hand(
                self.source,
                ledger=ledger,
                hot=FileHotStore(self.root / "hot"),
                cold=cold,
                observer=observer,
                clock=clock,
                threads_count=2,
                plan=SweepPlan(
                    batch_size=4,
                    retry_wait_seconds=5.0,
                    retry_base_seconds=0.01,
                    ledger_patience_seconds=2.0,
                ),
            )

    def row(self, id_: str) -> dict[str, Any]:
        with self.connection.cursor(row_factory=psycopg.rows.dict_row) as cursor:
            row = cursor.execute("select * from things where id = %s", [id_]).fetchone()
        assert row is not None
        return row

    def reasons(self) -> list[str]:
        """Of what is parked; nothing else may be left in the ledger."""
        rows = self.connection.execute(
            "select state, reason from archiver.claim "
            "union all select 'release ' || coalesce(parked_at::text, 'pending'), reason "
            "from archiver.release"
        ).fetchall()
        assert [row for row in rows if row[0] != "parked"] == []
        return [reason for _, reason in rows]

    def is_archived(self, id_: str, body: bytes) -> bool:
        """By its row, its receipt and the bytes themselves."""
        row = self.row(id_)
        if row["cold_key"] is None:
            return False
        receipts = self.connection.execute(
            "select digest from archiver.archived where id = %s and cold_key = %s",
            [id_, row["cold_key"]],
        ).fetchall()
        assert [bytes(digest) for (digest,) in receipts] == [Digest.of(body).raw]
        assert self.cold.peek(row["cold_key"]) == body
        return True

    def receipted(self) -> dict[str, list[bytes | None]]:
        """By id and in the order of their receipts: what cold holds under their keys."""
        found: dict[str, list[bytes | None]] = {}
        for id_, cold_key in self.connection.execute(
            "select id, cold_key from archiver.archived order by receipt_id"
        ).fetchall():
            found.setdefault(id_, []).append(self.cold.peek(cold_key))
        return found

    def hot_files(self) -> list[str]:
        """Paths below the hot bucket."""
        bucket = self.root / "hot" / BUCKET
        return sorted(str(it.relative_to(bucket)) for it in bucket.rglob("*") if it.is_file())

    def beside(self) -> set[str]:
        """Whatever lies in the sandbox and in neither store."""
        return {str(it.relative_to(self.root)) for it in self.root.iterdir()}


def _writes(path: Path, body: bytes) -> bool:
    try:
        if path.exists():
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    except (OSError, ValueError):  # too long, or below a file
        return False
    return True


def create_things(url: str) -> None:
    migrate_ledger(Secret(url), SystemClock())
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(TABLE)


def things_source(text: str = FILE) -> SqlSource:
    """Everything of the table is due."""
    parameters = SourceParameters(retention_jobs=0, retention_age=timedelta(0))
    return SqlSource.load(text, parameters=parameters)


@pytest.fixture(params=["directory"])
def sandbox(
    databases: Databases, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Sandbox]:
    """Cold is a directory; parametrized indirectly, also `s3` (checks all) and `moto`."""
    url = databases.like("things", create_things)
    root = tmp_path / "sandbox"
    root.mkdir()
    (root / "escaped").write_bytes(b"not ours")
    with (
        psycopg.connect(url, autocommit=True) as connection,
        _cold(request.param, root, request) as cold,
    ):
        sandbox = Sandbox(url, root, things_source(), connection, cold)
        sandbox.empty()
        yield sandbox


@contextmanager
def _cold(
    kind: str, root: Path, request: pytest.FixtureRequest
) -> Iterator[ColdDirectory | ColdS3]:
    if kind == "directory":
        yield ColdDirectory(root / "cold")
    elif kind == "moto":
        yield ColdS3(request.getfixturevalue("moto_url"))
    else:
        with LyingS3() as server:  # it tells no lies
            yield ColdS3(server.url)
