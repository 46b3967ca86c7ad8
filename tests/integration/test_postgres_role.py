"""deploy/postgres-role.sql gives a worker what a sweep needs, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.harness.postgres import Databases

PROJECT = Path(__file__).parents[2]
ROLE = PROJECT / "deploy" / "postgres-role.sql"

APPLICATION = """
    create table jobs (
        id text primary key, status text not null, completed_at timestamptz
    );
    create table tasks (
        id text primary key, job_id text not null references jobs, status text,
        html_sha256 text, html_storage_bucket text, html_storage_path text,
        html_archive_provider text, html_archive_bucket text, html_archive_key text,
        html_archived_at timestamptz
    );
    alter table jobs enable row level security;
    alter table tasks enable row level security;
    insert into jobs values ('j', 'completed', now());
    insert into tasks (id, job_id, html_storage_bucket, html_storage_path)
    values ('t', 'j', 'pages', 'a/b');
"""
PLACE = """
    insert into archiver.place (provider, cold_bucket, prefix, hot_bucket)
    values ('s3', 'cold', '', 'pages')
"""
RECEIPT = """
    insert into archiver.receipt
        (source, id, epoch, worker_id, number, place_id, cold_key, size_bytes, digest, evidence)
    select 'task_html', 't', 1, 1, nextval('archiver.fencing_number'), place_id, 'k', 1,
        sha256('x'), 1
    from archiver.place
"""
OUTCOME = """
    insert into archiver.outcome (receipt_id, source, outcome)
    select receipt_id, source, 'released' from archiver.receipt
"""
FLIP = """
    with held as (select task.id from tasks as task order by task.id for no key update)
    update tasks set
        html_archive_provider = 's3', html_archive_bucket = 'cold', html_archive_key = 'k',
        html_archived_at = now(), html_storage_bucket = null, html_storage_path = null
    from held where held.id = tasks.id
"""


@pytest.fixture
def worker(databases: Databases) -> Iterator[psycopg.Connection]:
    """A connection that has this role, and one receipt with its outcome."""
    url = databases.like("with_worker_role", _install)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("set session authorization archiver_worker")
        for statement in (PLACE, RECEIPT, OUTCOME):
            connection.execute(statement)
        yield connection


def test_a_worker_flips_a_row_and_marks_its_job(worker: psycopg.Connection) -> None:
    assert worker.execute(FLIP).rowcount == 1
    assert worker.execute("update jobs set status = 'archived'").rowcount == 1


def test_a_worker_claims_and_lets_go(worker: psycopg.Connection) -> None:
    worker.execute("""
        insert into archiver.release (receipt_id, source, due_at)
        select receipt_id, source, now() from archiver.receipt
    """)
    assert worker.execute("update archiver.release set attempts_count = 1").rowcount == 1
    assert worker.execute("delete from archiver.release").rowcount == 1


def test_a_worker_keeps_record_of_an_upload(worker: psycopg.Connection) -> None:
    worker.execute("""
        insert into archiver.upload
            (provider, cold_bucket, cold_key, origin, part_bytes, expires_at)
        values ('s3', 'cold', 'k', 'etag', 1, now())
    """)
    worker.execute("""
        insert into archiver.upload_part (upload_no, number, size_bytes, digest, etag)
        select upload_no, 1, 1, sha256('x'), 'e' from archiver.upload
    """)
    assert worker.execute("select * from archiver.live_worker").fetchall() == []
    assert worker.execute("update archiver.upload set upload_id = 'id'").rowcount == 1
    assert worker.execute("delete from archiver.upload").rowcount == 1
    assert worker.execute("select * from archiver.upload_part").fetchall() == []


def test_a_worker_adopts_and_can_release_nothing_of_that(worker: psycopg.Connection) -> None:
    worker.execute("""
        with place as (
            insert into archiver.place (provider, cold_bucket, prefix)
            values ('s3', 'cold', '') returning place_id
        )
        insert into archiver.receipt
            (source, id, epoch, worker_id, number, place_id, cold_key, size_bytes, evidence)
        select 'task_html', 'adopted', 1, 1, 1, place_id, 'k', 1, 0 from place
    """)
    assert worker.execute("select id from archiver.unproven").fetchall() == [("adopted",)]
    with pytest.raises(psycopg.errors.RaiseException):
        worker.execute("""
            insert into archiver.release (receipt_id, source, due_at)
            select receipt_id, source, now() from archiver.receipt
        """)
    with pytest.raises(psycopg.errors.CheckViolation):  # bytes that were read have a digest
        worker.execute("""
            insert into archiver.receipt
                (source, id, epoch, worker_id, number, place_id, cold_key, size_bytes, evidence)
            select 'task_html', 'adopted', 1, 1, 1, place_id, 'k', 1, 3 from archiver.place
        """)


def test_a_worker_stamps_and_overrules_nothing(worker: psycopg.Connection) -> None:
    columns = "source, provider, cold_bucket, prefix, number, epoch, database_name"
    values = "'task_html', 's3', 'cold', '', 1, 1, 'app'"
    worker.execute(f"insert into archiver.stamp ({columns}) values ({values})".encode())
    confirmed = worker.execute("update archiver.stamp set confirmed_at = now()")
    assert confirmed.rowcount == 1
    assert worker.execute("select archiver.system_identifier()").fetchone() is not None
    for statement in (
        f"insert into archiver.stamp ({columns}, overrules) values ({values}, true)",
        "update archiver.stamp set overrules = true",
        "update archiver.stamp set number = 9",
        "delete from archiver.stamp",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            worker.execute(statement.encode())


@pytest.mark.parametrize("table", ["place", "receipt", "outcome"])
@pytest.mark.parametrize(
    "statement",
    [
        "update archiver.{} set {} = {}",
        "delete from archiver.{}",
        "truncate archiver.{}",
        "select 1 from archiver.{} for update",
    ],
)
def test_what_was_proven_cannot_be_changed(
    worker: psycopg.Connection, table: str, statement: str
) -> None:
    column = "source" if table != "place" else "provider"
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        worker.execute(statement.format(table, column, column).encode())


@pytest.mark.parametrize(
    "statement",
    [
        "update tasks set html_sha256 = null",
        "update tasks set status = 'pending'",
        "update jobs set completed_at = null",
        "insert into tasks (id, job_id) values ('new', 'j')",
        "delete from tasks",
        "delete from jobs",
        "update archiver.fleet set epoch = epoch + 1",
        "update archiver.fleet set database_name = current_database()",
        "delete from archiver.schema_version",
        "select setval('archiver.fencing_number', 1)",
        "create table archiver.mine (n int)",
        "drop table archiver.receipt",
    ],
)
def test_everything_else_is_refused(worker: psycopg.Connection, statement: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        worker.execute(statement.encode())


def test_row_level_security_hides_no_row_from_a_worker(worker: psycopg.Connection) -> None:
    assert worker.execute("select id from tasks").fetchall() == [("t",)]
    assert worker.execute("select id from jobs").fetchall() == [("j",)]


def test_every_table_of_the_ledger_was_thought_of(worker: psycopg.Connection) -> None:
    """A migration that adds a table says here and in the role's file what it is for."""
    may_write = worker.execute("""
        select relname from pg_class
        where relnamespace = 'archiver'::regnamespace and relkind = 'r'
            and has_table_privilege(oid, 'insert')
    """).fetchall()
    read_only = worker.execute("""
        select relname from pg_class
        where relnamespace = 'archiver'::regnamespace and relkind = 'r'
            and not has_table_privilege(oid, 'insert')
    """).fetchall()

    # A worker adds to stamp too, but not to every column of it.
    assert {name for (name,) in read_only} == {"fleet", "schema_version", "stamp"}
    assert len(may_write) == 15


def _install(url: str) -> None:
    with psycopg.connect(url) as connection:
        for migration in sorted((PROJECT / "migrations").glob("*.sql")):
            connection.execute(migration.read_bytes())
        connection.execute(APPLICATION.encode())
        connection.execute(ROLE.read_bytes())
        connection.execute(ROLE.read_bytes())  # it may be repeated
