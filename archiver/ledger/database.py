"""Connections and transactions. Fit for pgbouncer in transaction mode: no session state.

Nothing is prepared, and every `SET` is local to its transaction. Every wait has a bound, kept
on both sides: the server gives up a statement, and a transaction whose client says nothing; the
client gives up an answer that does not come, and its connection with it.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
from psycopg import IsolationLevel
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool, PoolTimeout

from archiver.errors import SettingsError
from archiver.ledger.translation import translated

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping

    from archiver.ledger.settings import LedgerSettings
    from archiver.model import Secret
    from archiver.protocols import Clock

T = TypeVar("T")
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
# The dates: psycopg reads no other form, and a database may have one of its own. Its commits
# may be lazy, too: then a crash would take back a receipt whose hot copy is deleted already.
_SET_UP = b"""
    select set_config('statement_timeout', %(statement)s, true),
           set_config('idle_in_transaction_session_timeout', %(idle)s, true),
           set_config('datestyle', 'ISO', true),
           set_config('synchronous_commit', case own when 'off' then 'on' else own end, true)
    from current_setting('synchronous_commit') as own
"""
_FIRST_WORD = 0.25  # of a bound is the server's: it knows better why it takes so long
_FIRST_WORD_SECONDS = 5.0  # at most
_ASK_WHY_AFTER_SECONDS = 1.0
_MAX_IDLE_SECONDS = 60.0  # firewalls forget a silent connection after some minutes


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of one transaction."""

    statement_seconds: float
    idle_seconds: float  # between two statements

    @property
    def answer_seconds(self) -> float:
        """After which the server is not there, or frozen: it had its time to say otherwise."""
        first_word = min(_FIRST_WORD * self.statement_seconds, _FIRST_WORD_SECONDS)
        return self.statement_seconds + first_word


class BoundedConnection(psycopg.Connection[tuple[Any, ...]]):
    """Waits for an answer until its bound, then closes itself.

    A server that is frozen keeps no bound of its own, and its kernel acknowledges whatever is
    sent to it, so neither do keepalives end the wait.
    """

    bound: tuple[Clock, float] | None = None  # seconds for one answer, however it trickles in

    def wait(self, gen: Generator[Any, Any, T], *args: Any, **kwargs: Any) -> T:
        if self.bound is None:
            return super().wait(gen, *args, **kwargs)
        return super().wait(self._until_late(gen, *self.bound), *args, **kwargs)

    def _until_late(
        self, gen: Generator[Any, Any, T], clock: Clock, seconds: float
    ) -> Generator[Any, Any, T]:
        """Psycopg resumes this ten times a second, whether anything has come or not."""
        deadline = clock.monotonic() + seconds
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if clock.monotonic() >= deadline:
                    self.pgconn.finish()
                    message = f"no answer within {seconds:g} s; the connection is closed"
                    raise psycopg.OperationalError(message)
                wanted = gen.send(ready)
        except StopIteration as end:
            answer: T = end.value
            return answer


class Database:
    """A pool of connections to one database, and transactions on them. Thread-safe."""

    def __init__(self, settings: LedgerSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._parameters = connection_parameters(
            settings.url,
            application_name=settings.application_name,
            connect_timeout_seconds=settings.connect_timeout_seconds,
        )
        self._pool: ConnectionPool[BoundedConnection] = ConnectionPool(
            connection_class=BoundedConnection,
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
        self,
        operation: str,
        *,
        timeout_seconds: float | None = None,
        idle_seconds: float | None = None,
    ) -> Iterator[Connection]:
        """One transaction: committed on return, rolled back on any error.

        `timeout_seconds` bounds each statement and the wait for a connection, `idle_seconds`
        the time between two statements; else the settings do.
        """
        settings = self._settings
        bounds = Bounds(
            timeout_seconds or settings.statement_timeout_seconds,
            idle_seconds or settings.idle_transaction_seconds,
        )
        with translated(operation), self._connection(timeout_seconds) as connection:
            connection.bound = self._clock, bounds.answer_seconds
            with connection.transaction():
                set_up(connection, bounds)
                yield connection
            if connection.closed:  # of which psycopg says nothing, where nothing was asked
                message = "the connection was lost before the transaction was committed"
                raise psycopg.OperationalError(message)

    @contextmanager
    def rolled_back(self, operation: str) -> Iterator[Connection]:
        """One transaction of which nothing stays."""
        with (
            self.transaction(operation) as connection,
            connection.transaction(force_rollback=True),
        ):
            yield connection

    @contextmanager
    def _connection(self, timeout_seconds: float | None) -> Iterator[BoundedConnection]:
        connection = self._take(timeout_seconds or self._settings.connect_timeout_seconds)
        try:
            yield connection
        finally:
            if connection.closed:
                self._pool.drain()  # what ended one ended others: not to be found one by one
            self._pool.putconn(connection)

    def _take(self, patience_seconds: float) -> BoundedConnection:
        """A connection of the pool.

        The pool connects in the background and tells nobody why it cannot. So where it
        takes long we try by ourselves: that raises what is wrong, unless all are in use.
        """
        deadline = self._clock.monotonic() + patience_seconds
        while True:
            left_seconds = max(0.0, deadline - self._clock.monotonic())
            try:
                return self._pool.getconn(min(left_seconds, _ASK_WHY_AFTER_SECONDS))
            except PoolTimeout:
                self._connect_directly()
                if self._clock.monotonic() >= deadline:
                    raise

    def _connect_directly(self) -> None:
        with translated("connect"):
            psycopg.connect(**self._parameters).close()


def _read_committed(connection: Connection) -> None:
    """Whatever the database's own default is: said by each BEGIN, so that no session keeps it.

    What follows an advisory lock must see what the one who held it before has committed.
    """
    connection.isolation_level = IsolationLevel.READ_COMMITTED


def set_up(tx: Connection, bounds: Bounds) -> None:
    """Bound what this transaction may take, fix the form of its dates, and make it durable."""
    in_milliseconds = {
        "statement": str(max(1, round(bounds.statement_seconds * 1000))),
        "idle": str(max(1, round(bounds.idle_seconds * 1000))),
    }
    tx.execute(_SET_UP, in_milliseconds)


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
