"""Rows as an attack: whatever a row says, it costs at most itself.

Real parts: a source file over a table of plain texts, Postgres, the engine, two directories.
Each example plants rows that nobody would write, and one good row behind them. However they
are read, the good one is archived; each other one is archived and can be verified, or is parked
with a line that says why; and nothing outside the two directories is touched.
"""

from __future__ import annotations

import gzip
import hashlib
import shutil
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from archiver.model import Summary
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

-- points_at --
select hot_bucket, hot_path from location
where exists (
    select from things
    where things.hot_bucket = location.hot_bucket and things.hot_path = location.hot_path
);
"""
BUCKET = "pages"
DUE_AT = datetime(2025, 1, 1, tzinfo=UTC)

# Postgres keeps every text but one with a NUL, and lone surrogates are no Unicode.
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)
NASTY = st.sampled_from(
    [
        "",
        " ",
        ".",
        "..",
        "/",
        "//",
        "../../escaped",
        "/etc/passwd",
        "a/../../../escaped",
        "%2e%2e/%2e%2e/escaped",
        "..\\..\\escaped",
        "a\\b",
        "%s%n%(x)s{}{0.__class__}$1",
        "%",
        "'; drop table things; --",
        '"; delete from archiver.receipt; --',
        "a\nlevel=error event=forged",
        "a\r\nx-amz-meta-evil: 1",
        "\x1b[2J\x1b]0;owned\x07",
        "\x9b31m",
        "\u2028\u2029\x85",
        "\u202egpj.exe",
        "e\u0301",
        "\u00e9",
        "A",
        "a",
        "a.",
        "a ",
        "a/",
        ".archiver/metadata/00/x.json",
        ".archiver/probe",
        ".archiver",
        "a" * 255,
        "a" * 256,
        "\u00fc" * 200,
        "a/" * 600 + "a",
        "\U0001f4a3" * 100,
        "=1+1",
        "-1",
        "None",
        "null",
    ]
)
# Ids that the index of a table could still hold, and some that it could not.
LONG = st.sampled_from(
    [
        hashlib.sha256(b"1").hexdigest() * 16,
        "".join(hashlib.sha256(bytes([n])).hexdigest() for n in range(50)),
        "".join(hashlib.sha256(bytes([n])).hexdigest() for n in range(200)),
    ]
)
STRANGE = NASTY | TEXT
HEX = hashlib.sha256(b"another page").hexdigest()
DIGEST = st.sampled_from(
    [None, "", HEX, HEX.upper(), HEX[:-1], HEX + "0", f"sha256:{HEX}", "\\x" + HEX, "g" * 64]
)


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


THINGS = st.builds(
    Thing,
    id=STRANGE | LONG,
    hot_bucket=st.just(BUCKET) | st.sampled_from([None, "", "..", "a/b", "pages/", "x" * 300]),
    hot_path=STRANGE | st.none(),
    digest=st.none() | DIGEST,
    content_digest=st.none() | DIGEST,
    size_bytes=st.none() | st.sampled_from([-1, 0, 6, 2**31, 2**62, 2**63 - 1, -(2**63)]),
    content_type=st.none() | STRANGE,
    content_encoding=st.none() | STRANGE | st.sampled_from(["gzip", "zstd", "br"]),
    group_id=st.none() | STRANGE,
    note=st.none() | STRANGE,
    body=st.sampled_from([b"a page", b"", gzip.compress(b"a page"), b"\x1f\x8b\x08\0broken"]),
)


@dataclass
class Sandbox:
    """A database and a directory, in which hot and cold stores are two of several."""

    url: str
    root: Path
    source: SqlSource
    connection: psycopg.Connection[Any]
    planted: dict[str, bytes] = field(default_factory=dict)  # by id, what lies in hot
    seen: int = 0

    def empty(self) -> None:
        self.connection.execute(
            "truncate things, archiver.claim, archiver.release, archiver.outcome, "
            "archiver.receipt"
        )
        self.planted.clear()
        for name in ("hot", "cold"):
            shutil.rmtree(self.root / name, ignore_errors=True)
            (self.root / name / BUCKET).mkdir(parents=True)

    def plant(self, thing: Thing, minutes: int) -> None:
        names = [name for name in thing.__dataclass_fields__ if name != "body"]
        marks = ", ".join(["%s"] * (len(names) + 1))
        insert = f"insert into things ({', '.join(names)}, due_at) values ({marks})"
        values = [getattr(thing, name) for name in names]
        self.connection.execute(insert.encode(), [*values, DUE_AT + timedelta(minutes=minutes)])
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

    def sweep(self) -> Summary:
        """Sweep until nothing waits: what fails for a while is tried three times."""
        clock = SystemClock()
        ledger_settings = LedgerSettings(
            url=Secret(self.url),
            retry_base_seconds=0.001,
            retry_max_seconds=0.001,
            release_grace_seconds=0.0,
            max_connections=3,
        )
        with PostgresLedger(ledger_settings, clock) as ledger:
            return sweep_by_hand(
                self.source,
                ledger=ledger,
                hot=FileHotStore(self.root / "hot"),
                cold=FileColdStore(self.root / "cold", BUCKET, ""),
                observer=lambda _: None,
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
        cold = self.root / "cold" / BUCKET / row["cold_key"]
        receipts = self.connection.execute(
            "select digest from archiver.archived where id = %s and cold_key = %s",
            [id_, row["cold_key"]],
        ).fetchall()
        assert [bytes(digest) for (digest,) in receipts] == [Digest.of(body).raw]
        assert cold.read_bytes() == body
        return True

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


@pytest.fixture
def sandbox(databases: Databases, tmp_path: Path) -> Iterator[Sandbox]:
    url = databases.like("things", create_things)
    parameters = SourceParameters(retention_jobs=0, retention_age=timedelta(0))
    source = SqlSource.load(FILE, parameters=parameters)
    root = tmp_path / "sandbox"
    root.mkdir()
    (root / "escaped").write_bytes(b"not ours")
    with psycopg.connect(url, autocommit=True) as connection:
        yield Sandbox(url, root, source, connection)


@settings(
    derandomize=True,
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(things=st.lists(THINGS, min_size=1, max_size=5, unique_by=lambda it: it.id))
def test_a_row_costs_at_most_itself(sandbox: Sandbox, things: list[Thing]) -> None:
    sandbox.empty()
    for number, thing in enumerate(things):
        sandbox.plant(thing, number)
    good = Thing("a good row", BUCKET, "good/page.html.gz", body=b"a good page")
    sandbox.plant(good, len(things))
    hot_before = dict(sandbox.planted)

    summary = sandbox.sweep()

    assert (summary.state, summary.error) == ("done", None)
    assert sandbox.is_archived(good.id, good.body)
    reasons = sandbox.reasons()
    for thing in things:
        body = hot_before.get(thing.id)
        if body is None or not sandbox.is_archived(thing.id, body):
            path = sandbox.hot_file(thing)
            assert body is None or (path is not None and path.read_bytes() == body)
            assert sandbox.row(thing.id)["hot_path"] == thing.hot_path
    not_archived = [it for it in things if sandbox.row(it.id)["cold_key"] is None]
    assert len(reasons) == len(not_archived)
    for reason in reasons:
        assert reason.splitlines() == [reason]
        assert reason.isprintable()
        assert len(reason) < 1000
    assert sandbox.beside() == {"hot", "cold", "escaped"}
    assert (sandbox.root / "escaped").read_bytes() == b"not ours"
