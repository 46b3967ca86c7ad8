"""Connections and transactions. Fit for pgbouncer in transaction mode: no session state.

Nothing is prepared, and every `SET` is local to its transaction.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import IsolationLevel
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool, PoolTimeout

from archiver.errors import SettingsError
from archiver.ledger.translation import translated

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from archiver.ledger.settings import LedgerSettings
    from archiver.model import Secret

Row = dict[str, Any]  # of one of our own queries; `rows` makes a noun of it at once
Connection = psycopg.Connection[tuple[Any, ...]]

_CONNECTION = {
    # A peer that is gone without a word is noticed within the minute, also mid-statement.
    "keepalives": 1,
    "keepalives_idle": 20,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,  # [ms]
}
# Until the end of the transaction, so that a pooler's connection is given back as it was.
# The dates: psycopg reads no other form, and a database may have one of its own.
_SET_UP = b"""
    select set_config('statement_timeout', %(timeout)s, true),
           set_config('datestyle', 'ISO', true)
"""
_ASK_WHY_AFTER_SECONDS = 1.0
_MAX_IDLE_SECONDS = 60.0  # firewalls forget a silent connection after some minutes


class Database:
    """A pool of connections to one database, and transactions on them. Thread-safe."""

    def __init__(self, settings: LedgerSettings) -> None:
        self._settings = settings
        self._parameters = connection_parameters(
            settings.url,
            application_name=settings.application_name,
            connect_timeout_seconds=settings.connect_timeout_seconds,
        )
        self._pool: ConnectionPool[Connection] = ConnectionPool(
            kwargs={**self._parameters, "autocommit": True, "prepare_threshold": None},
            min_size=0,
            max_size=settings.max_connections,
            timeout=settings.connect_timeout_seconds,
            max_idle=_MAX_IDLE_SECONDS,
            # Give up soon: the next caller tries anew, at once. The pool's own back-off
            # would go on sleeping after the database has come back.
            reconnect_timeout=settings.connect_timeout_seconds,
            configure=_read_committed,
            name=settings.application_name,
            open=False,
        )

    def open(self) -> None:
        """Connect once, so that a wrong password is said now and by its name.

        Raises:
            LedgerDenied, LedgerUnavailable
        """
        self._connect_directly()
        self._pool.open()

    def close(self) -> None:
        self._pool.close()

    @contextmanager
    def transaction(
        self, operation: str, *, timeout_seconds: float | None = None
    ) -> Iterator[Connection]:
        """One transaction: committed on return, rolled back on any error.

        `timeout_seconds` bounds each statement and the wait for a connection; else the
        settings do.
        """
        bound = timeout_seconds or self._settings.statement_timeout_seconds
        with (
            translated(operation),
            self._connection(timeout_seconds) as connection,
            connection.transaction(),
        ):
            set_up(connection, bound)
            yield connection

    @contextmanager
    def rolled_back(self, operation: str) -> Iterator[Connection]:
        """One transaction of which nothing stays."""
        with (
            self.transaction(operation) as connection,
            connection.transaction(force_rollback=True),
        ):
            yield connection

    @contextmanager
    def _connection(self, timeout_seconds: float | None) -> Iterator[Connection]:
        connection = self._take(timeout_seconds or self._settings.connect_timeout_seconds)
        try:
            yield connection
        finally:
            self._pool.putconn(connection)

    def _take(self, patience_seconds: float) -> Connection:
        """A connection of the pool.

        The pool connects in the background and tells nobody why it cannot. So where it
        takes long we try by ourselves: that raises what is wrong, unless all are in use.
        """
        while True:
            wait_seconds = min(patience_seconds, _ASK_WHY_AFTER_SECONDS)
            try:
                return self._pool.getconn(wait_seconds)
            except PoolTimeout:
                self._connect_directly()
                patience_seconds -= wait_seconds
                if patience_seconds <= 0:
                    raise

    def _connect_directly(self) -> None:
        with translated("connect"):
            psycopg.connect(**self._parameters).close()


def _read_committed(connection: Connection) -> None:
    """Whatever the database's own default is: said by each BEGIN, so that no session keeps it.

    What follows an advisory lock must see what the one who held it before has committed.
    """
    connection.isolation_level = IsolationLevel.READ_COMMITTED


def set_up(tx: Connection, timeout_seconds: float) -> None:
    """Bound each statement of this transaction, and fix the form of its dates."""
    milliseconds = str(max(1, round(timeout_seconds * 1000)))
    tx.execute(_SET_UP, {"timeout": milliseconds})


def connection_parameters(
    url: Secret, *, application_name: str, connect_timeout_seconds: int
) -> dict[str, Any]:
    """What libpq gets: the URL's own words go before ours.

    Raises:
        SettingsError: It is not a connection string. Nothing of it is quoted.
    """
    try:
        asked = conninfo_to_dict(url.reveal())
    except psycopg.ProgrammingError:
        problem = (
            "the database URL cannot be read; "
            "accepted: postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
        )
        # Its cause would quote pieces of the URL, password and all.
        raise SettingsError(problems=(problem,)) from None
    ours = {
        **_CONNECTION,
        "application_name": application_name,
        "connect_timeout": connect_timeout_seconds,
    }
    return {**ours, **asked}


def fetch(tx: Connection, query: bytes, parameters: Mapping[str, object]) -> list[Row]:
    """All rows of one of our own queries, by column name."""
    with tx.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query, parameters).fetchall()
