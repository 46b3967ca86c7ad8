"""The ledger's tables are the sum of their migrations, whoever applies them, however often."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from archiver.errors import LedgerDenied, LedgerOutdated
from archiver.ledger import schema
from archiver.ledger.migrate import apply_statements, migrate, pending
from archiver.model import Secret
from tests.fakes.clock import ManualClock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.demo.postgres import EmbeddedPostgres

PROJECT = Path(__file__).parents[2]
ALL_FILES = sorted(path.name for path in (PROJECT / "migrations").glob("*.sql"))
GOLDEN = PROJECT / "tests" / "golden" / "ledger_schema.txt"

_TELL_SCHEMA = """
select format('column %s.%s %s%s%s', c.table_name, c.column_name, c.data_type,
              case c.is_nullable when 'NO' then ' not null' else '' end,
              ' default ' || c.column_default)
from information_schema.columns c where c.table_schema = 'archiver'
union all
select format('index %s', indexdef) from pg_indexes where schemaname = 'archiver'
union all
select format('constraint %s %s', conrelid::regclass, pg_get_constraintdef(oid))
from pg_constraint where connamespace = 'archiver'::regnamespace and contype <> 'n'
union all
select format('trigger %s', pg_get_triggerdef(oid))
from pg_trigger
where tgrelid in (select oid from pg_class where relnamespace = 'archiver'::regnamespace)
  and not tgisinternal
order by 1
"""


class PatientClock(ManualClock):
    """Never reaches a deadline: whoever polls by it polls on."""

    def sleep(self, seconds: float) -> None:
        """Return at once; no time has passed."""


@pytest.fixture
def hands(postgres_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        yield connection


def test_migrations_are_applied_once(postgres_url: str) -> None:
    url = Secret(postgres_url)
    assert pending(url) == ALL_FILES

    assert migrate(url, ManualClock()) == ALL_FILES
    assert migrate(url, ManualClock()) == []
    assert pending(url) == []


def test_two_processes_that_migrate_at_once_apply_each_file_once(postgres_url: str) -> None:
    with ThreadPoolExecutor(3) as threads:
        applied = list(
            threads.map(lambda _: migrate(Secret(postgres_url), PatientClock()), range(3))
        )

    assert sorted(applied) == [[], [], ALL_FILES]


def test_a_file_that_changed_after_it_was_applied_is_an_error(
    postgres_url: str, hands: psycopg.Connection
) -> None:
    migrate(Secret(postgres_url), ManualClock())
    hands.execute("update archiver.schema_version set sha256 = sha256('x') where version = 1")

    with pytest.raises(LedgerOutdated, match=ALL_FILES[0]):
        migrate(Secret(postgres_url), ManualClock())
    with pytest.raises(LedgerOutdated, match=ALL_FILES[0]):
        pending(Secret(postgres_url))


def test_files_applied_by_psql_are_known_as_applied(
    postgres: EmbeddedPostgres, postgres_url: str, hands: psycopg.Connection
) -> None:
    psql = str(postgres._programs / "psql")
    for name in ALL_FILES:
        command = [
            psql,
            "-q",
            "-1",
            "-v",
            "ON_ERROR_STOP=1",
            "-f",
            str(PROJECT / "migrations" / name),
        ]
        subprocess.run([*command, postgres_url], check=True, capture_output=True)

    assert migrate(Secret(postgres_url), ManualClock()) == []

    noted = hands.execute("select sha256 from archiver.schema_version order by version")
    assert [row[0] for row in noted.fetchall()] == [it.sha256 for it in schema.migrations()]


def test_the_schema_is_the_sum_of_the_migrations(
    postgres_url: str, hands: psycopg.Connection
) -> None:
    """A change of the tables shows in the diff of the golden file, line by line."""
    migrate(Secret(postgres_url), ManualClock())

    assert told_schema(hands) == GOLDEN.read_text()


def told_schema(hands: psycopg.Connection) -> str:
    """The tables as they are, one thing a line."""
    return "".join(f"{row[0]}\n" for row in hands.execute(_TELL_SCHEMA.encode()).fetchall())


def test_a_failed_migration_leaves_nothing(
    postgres_url: str, hands: psycopg.Connection
) -> None:
    hands.execute("create schema archiver; create table archiver.outcome (x int)")

    with pytest.raises(Exception, match="already exists"):
        migrate(Secret(postgres_url), ManualClock())

    tables = hands.execute("select tablename from pg_tables where schemaname = 'archiver'")
    assert tables.fetchall() == [("outcome",)]


def test_a_role_that_may_not_create_is_denied(
    postgres_url: str, hands: psycopg.Connection
) -> None:
    hands.execute("create role powerless login password 'x'")
    try:
        host = postgres_url.partition("@")[2]
        with pytest.raises(LedgerDenied):
            migrate(Secret(f"postgresql://powerless:x@{host}"), ManualClock())
    finally:
        hands.execute("drop role powerless")


def test_statements_are_applied_outside_a_transaction_and_again(
    postgres_url: str, hands: psycopg.Connection
) -> None:
    hands.execute("create table pages (id int, path text)")
    needs = [
        "alter table pages add column if not exists archived_at timestamptz",
        "create index concurrently if not exists pages_hot on pages (id) where path like '%'",
    ]

    apply_statements(Secret(postgres_url), needs, ManualClock())
    apply_statements(Secret(postgres_url), needs, ManualClock())

    assert _is_valid(hands, "pages_hot")


def test_an_index_that_a_failed_build_left_behind_is_built_anew(
    postgres_url: str, hands: psycopg.Connection
) -> None:
    hands.execute("create table pages (id int); insert into pages values (1), (1)")
    need = 'CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS "Odd name" ON pages (id)'
    with pytest.raises(Exception, match="could not create unique index"):
        apply_statements(Secret(postgres_url), [need], ManualClock())
    assert not _is_valid(hands, '"Odd name"')
    hands.execute("truncate pages")

    apply_statements(Secret(postgres_url), [need], ManualClock())

    assert _is_valid(hands, '"Odd name"')


def test_a_failed_statement_lets_the_next_process_migrate(postgres_url: str) -> None:
    with pytest.raises(Exception, match="nowhere"):
        apply_statements(Secret(postgres_url), ["alter table nowhere add x int"], ManualClock())

    clock = ManualClock()
    migrate(Secret(postgres_url), clock)
    assert clock.sleeps == []


def _is_valid(hands: psycopg.Connection, name: str) -> bool:
    query = "select indisvalid from pg_index where indexrelid = %s::regclass"
    found = hands.execute(query, (name,)).fetchone()
    assert found is not None
    return bool(found[0])
