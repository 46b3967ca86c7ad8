"""Between the ledger and its database: every statement and every COMMIT passes a script.

    tap = Tap()
    tap.install(monkeypatch)  # before the ledger is opened
    tap.script = worker.script

What it sees is what psycopg is asked to send, on the pool's connections and on direct ones.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

import psycopg
from psycopg.pq import TransactionStatus
from psycopg_pool import ConnectionPool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pytest

T = TypeVar("T")

_NAME_LENGTH = 48


class Around(Protocol):
    """Does something around a call, and logs its name."""

    def around(self, name: str, call: Callable[[], T], /) -> T: ...


class Tap:
    """The connections of one process; `script` is who is asked, None: nobody."""

    def __init__(self) -> None:
        self.script: Around | None = None
        self.at: psycopg.Connection[Any] | None = None  # on which something is just sent
        self.pids: set[int] = set()  # of the backends behind all watched connections

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """From now on, whatever connects is watched: the pool, and who connects directly."""

        def pool(*, connection_class: type, **named: Any) -> ConnectionPool[Any]:
            return ConnectionPool(connection_class=self._watched(connection_class), **named)

        monkeypatch.setattr("archiver.ledger.database.ConnectionPool", pool)
        monkeypatch.setattr("psycopg.connect", self._watched(psycopg.Connection).connect)

    def _watched(self, kind: type) -> Any:
        return type("Watched", (_Watched, kind), {"tap": self})

    def cut(self) -> None:
        """Lose the connection on which something is just sent.

        Raises:
            psycopg.OperationalError: Always. What was not committed is undone already, so
                that nobody has to wait until the server has noticed.
        """
        assert self.at is not None
        if self.at.info.transaction_status is not TransactionStatus.IDLE:
            self.at.pgconn.exec_(b"ROLLBACK")
        self.at.close()
        raise psycopg.OperationalError("scripted: the connection is lost")

    def around(
        self, connection: psycopg.Connection[Any], name: str, send: Callable[[], T]
    ) -> T:
        if self.script is None:
            return send()
        before, self.at = self.at, connection
        try:
            self.pids.add(connection.info.backend_pid)
            return self.script.around(f"sql.{name}", send)
        finally:
            self.at = before


class _Cursor(psycopg.Cursor[Any]):
    def execute(self, query: Any, *args: Any, **named: Any) -> Any:
        connection: Any = self.connection
        send = partial(super().execute, query, *args, **named)
        return connection.tap.around(connection, _words(query), send)

    def executemany(self, query: Any, *args: Any, **named: Any) -> Any:
        connection: Any = self.connection
        send = partial(super().executemany, query, *args, **named)
        return connection.tap.around(connection, _words(query), send)


class _Watched(psycopg.Connection[Any]):
    tap: ClassVar[Tap]

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.cursor_factory = _Cursor

    @contextmanager
    def transaction(
        self,
        savepoint_name: str | None = None,
        force_rollback: bool = False,  # noqa: FBT001, FBT002  # as psycopg has it
    ) -> Iterator[psycopg.Transaction]:
        is_outermost = self.info.transaction_status is TransactionStatus.IDLE
        with ExitStack() as stack:
            yield stack.enter_context(super().transaction(savepoint_name, force_rollback))
            if is_outermost:
                with stack.pop_all() as ending:
                    self.tap.around(self, "commit", ending.close)

    def commit(self) -> None:
        self.tap.around(self, "commit", super().commit)


def _words(query: Any) -> str:
    """Enough of a statement to know it by."""
    if isinstance(query, psycopg.sql.Composable):
        query = query.as_bytes(None)
    text = query.decode() if isinstance(query, bytes) else str(query)
    lines = (line.partition("--")[0] for line in text.splitlines())
    return " ".join(" ".join(lines).split())[:_NAME_LENGTH]
