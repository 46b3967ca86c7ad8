"""Changes to the database's shape: the ledger's own tables, and what a source needs.

Over a direct connection: the lock is a session's, which a pooler in transaction mode would
give to somebody else.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg

from archiver.errors import LedgerOutdated, LedgerUnavailable
from archiver.ledger.database import Connection, connection_parameters, fetch
from archiver.ledger.queries import load
from archiver.ledger.schema import applied, migrations
from archiver.ledger.translation import translated

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from archiver.ledger.schema import Migration
    from archiver.model import Secret
    from archiver.protocols import Clock

_SQL = load("schema.sql")

_CONNECT_TIMEOUT_SECONDS = 10
_POLL_SECONDS = 0.2
_PATIENCE_SECONDS = 600.0  # another process may be building an index over millions of rows

_CONCURRENT_INDEX = re.compile(
    r"\s*create\s+(?:unique\s+)?index\s+concurrently\s+(?:if\s+not\s+exists\s+)?"
    r'((?:"(?:[^"]|"")+"|[\w.])+)\s+on\s',
    re.IGNORECASE,
)


def migrate(url: Secret, clock: Clock) -> list[str]:
    """Bring the ledger's tables up to this release; the names of the files applied.

    Repeatable, and one at a time across processes. Each file is a transaction of its own.

    Raises:
        LedgerOutdated: A file that was applied once reads differently now.
        LedgerDenied, LedgerUnavailable
    """
    with _alone(url, clock, "migrate") as connection:
        known = applied(connection)
        new = [it for it in migrations() if not _is_applied(it, known)]
        for migration in new:
            _apply(connection, migration)
        for migration in migrations():
            if migration.version in known and known[migration.version] is None:
                _note(connection, migration)  # psql applied it
        return [migration.file_name for migration in new]


def pending(url: Secret) -> list[str]:
    """The names of the files that `migrate` would apply; nothing is written."""
    with _connected(url, "pending") as connection:
        known = applied(connection)
        return [it.file_name for it in migrations() if not _is_applied(it, known)]


def apply_statements(url: Secret, statements: Sequence[str], clock: Clock) -> None:
    """Run what a source needs: each statement by itself, outside a transaction.

    They must be idempotent (`if not exists`). An index that an earlier, failed build left
    invalid is dropped first: `if not exists` would take it for the real one.
    """
    with _alone(url, clock, "apply_statements") as connection:
        for statement in statements:
            _drop_broken_index(connection, statement)
            connection.execute(statement.encode())


def _is_applied(migration: Migration, known: Mapping[int, bytes | None]) -> bool:
    if migration.version not in known:
        return False
    sha256 = known[migration.version]
    if sha256 is not None and bytes(sha256) != migration.sha256:
        found = f"{migration.file_name} was applied with another text"
        raise LedgerOutdated(found=found, needed="the files of one release, unchanged")
    return True


def _apply(connection: Connection, migration: Migration) -> None:
    with connection.transaction():
        connection.execute(migration.text)
        _note(connection, migration)


def _note(connection: Connection, migration: Migration) -> None:
    parameters = {"version": migration.version, "sha256": migration.sha256}
    connection.execute(_SQL["note_sha256"], parameters)


def _drop_broken_index(connection: Connection, statement: str) -> None:
    match = _CONCURRENT_INDEX.match(statement)
    if match is None:
        return
    for row in fetch(connection, _SQL["find_broken_index"], {"name": match[1]}):
        connection.execute(f"drop index concurrently {row['index_name']}".encode())


@contextmanager
def _alone(url: Secret, clock: Clock, operation: str) -> Iterator[Connection]:
    """A direct connection that holds the lock of all migrations."""
    with _connected(url, operation) as connection:
        deadline = clock.monotonic() + _PATIENCE_SECONDS
        while not fetch(connection, _SQL["try_lock"], {})[0]["is_ours"]:
            if clock.monotonic() >= deadline:
                message = "another process has been migrating for too long"
                raise LedgerUnavailable(operation=operation, message=message)
            clock.sleep(_POLL_SECONDS)
        try:
            yield connection
        finally:
            if not connection.closed:
                connection.execute(_SQL["unlock"])


@contextmanager
def _connected(url: Secret, operation: str) -> Iterator[Connection]:
    parameters = connection_parameters(
        url,
        application_name="archiver migrate",
        connect_timeout_seconds=_CONNECT_TIMEOUT_SECONDS,
    )
    with (
        translated(operation),
        psycopg.connect(**parameters, autocommit=True, prepare_threshold=None) as connection,
    ):
        yield connection
