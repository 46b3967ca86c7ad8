"""One SQLite file: made, opened and brought up to date; its transactions, its errors as ours.

WAL, so that readers wait for nobody; `synchronous=full`, so that what was committed survives a
power cut. Threads of a process share one connection: SQLite lets one writer in anyway.
"""

from __future__ import annotations

import errno
import os
import re
import sqlite3
import stat
import threading
from collections.abc import Mapping
from contextlib import contextmanager, suppress
from importlib import resources
from typing import TYPE_CHECKING, Any

from archiver.errors import (
    ArchiverError,
    LedgerFileNewer,
    LedgerFileUnavailable,
    LedgerFileUnusable,
    LedgerFull,
    StateDirUnusable,
)
from archiver.ledger.sqlite.locks import held_alone

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from archiver.protocols import Clock

Row = dict[str, Any]  # of one of our own queries
Parameters = Mapping[str, object]

APPLICATION_ID = 0x61726368  # "arch", in the file's header
_MIGRATION = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")

_DAMAGED = frozenset({sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_ERROR})
_DENIED = frozenset(
    {
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_AUTH,
        sqlite3.SQLITE_NOLFS,
    }
)
_OUTAGES = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_PROTOCOL,
    }
)
_OUTAGES_OF_DIRECTORIES = frozenset({errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM})


class LedgerFile:
    """The file and this process's connection to it. Thread-safe."""

    def __init__(self, path: Path, clock: Clock, *, busy_seconds: float) -> None:
        self.path = path
        self._clock = clock
        self._busy_seconds = busy_seconds  # how long to wait for another process's transaction
        self._connection: sqlite3.Connection | None = None
        self._inode = 0
        self._lock = threading.Lock()  # held by the thread whose transaction it is

    def open(self) -> None:
        """Open the file; make it, or bring it up to this release, where need be.

        Raises:
            StateDirUnusable, LedgerFileUnusable, LedgerFileNewer, LedgerFileUnavailable
        """
        with translated("open", self.path):
            _make_directory(self.path.parent)
            # One process at a time: two that switch a new file to WAL refuse each other.
            lock = self.path.with_suffix(".lock")
            with held_alone(lock, self._clock, self._busy_seconds):
                self._connection = self._opened()

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    @contextmanager
    def transaction(self, operation: str) -> Iterator[sqlite3.Connection]:
        """One transaction beside which nobody writes: durable on return, undone on any error.

        What it reads is what it writes upon, in however many statements.
        """
        with self._in_transaction(operation, "begin immediate") as tx:
            yield tx

    @contextmanager
    def snapshot(self, operation: str) -> Iterator[sqlite3.Connection]:
        """One moment of the file, to read; waits for no writer."""
        with self._in_transaction(operation, "begin") as tx:
            yield tx

    @contextmanager
    def _in_transaction(self, operation: str, begin: str) -> Iterator[sqlite3.Connection]:
        with self._lock, translated(operation, self.path):
            connection = self._connection
            if connection is None:
                message = "the ledger is opened before it is used"
                raise RuntimeError(message)
            self._require_in_place()
            connection.execute(begin)
            try:
                yield connection
                connection.execute("commit")
            except BaseException:
                if connection.in_transaction:  # SQLite may have undone it by itself
                    connection.execute("rollback")
                raise

    def _require_in_place(self) -> None:
        """SQLite goes on writing to a file that was deleted, which nobody would find again."""
        try:
            is_there = self.path.stat().st_ino == self._inode
        except FileNotFoundError:
            is_there = False
        if not is_there:
            problem = "the file was moved or deleted while it was open"
            raise LedgerFileUnusable(path=str(self.path), problem=problem)

    def _opened(self) -> sqlite3.Connection:
        _make_file(self.path)
        connection = sqlite3.connect(
            self.path,
            timeout=self._busy_seconds,
            isolation_level=None,  # transactions begin where we say so
            check_same_thread=False,
        )
        try:
            self._require_ours(connection)
            self._set_up(connection)
            self._migrate(connection)
        except BaseException:
            connection.close()
            raise
        self._inode = self.path.stat().st_ino
        return connection

    def _require_ours(self, connection: sqlite3.Connection) -> None:
        """Asked before anything is written to it."""
        connection.execute("pragma trusted_schema = off")
        application_id = _pragma(connection, "application_id")
        (tables_count,) = connection.execute("select count(*) from sqlite_master").fetchone()
        is_new = application_id == 0 and tables_count == 0
        if application_id != APPLICATION_ID and not is_new:
            problem = "it is a database of another program"
            raise LedgerFileUnusable(path=str(self.path), problem=problem)

    def _set_up(self, connection: sqlite3.Connection) -> None:
        (mode,) = connection.execute("pragma journal_mode = wal").fetchone()
        if mode != "wal":
            problem = f"its file system has no shared memory for SQLite (journal mode {mode})"
            raise StateDirUnusable(path=str(self.path.parent), problem=problem)
        connection.execute("pragma synchronous = full")
        connection.execute("pragma fullfsync = on")  # macOS: else its disk may keep it back
        connection.execute("pragma foreign_keys = on")

    def _migrate(self, connection: sqlite3.Connection) -> None:
        files = migrations()
        found, known = _pragma(connection, "user_version"), max(files)
        if found > known:
            raise LedgerFileNewer(path=str(self.path), found=found, known=known)
        for version in range(found + 1, known + 1):
            connection.executescript(
                f"begin immediate;\n{files[version]}\n"
                f"pragma application_id = {APPLICATION_ID};\n"
                f"pragma user_version = {version};\ncommit;"
            )


def migrations() -> Mapping[int, str]:
    """The texts of all files, by the version that each brings a ledger's file to."""
    folder = resources.files(__package__).joinpath("migrations")
    return {
        int(match[1]): it.read_text(encoding="utf-8")
        for it in folder.iterdir()
        if (match := _MIGRATION.fullmatch(it.name))
    }


def fetch(tx: sqlite3.Connection, query: str, parameters: Parameters) -> Sequence[Row]:
    """All rows of one of our own queries, by column name."""
    cursor = tx.execute(query, parameters)
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


@contextmanager
def translated(operation: str, path: Path) -> Iterator[None]:
    """What SQLite and the directory refuse leaves as one of our errors; a bug as it is."""
    try:
        yield
    except sqlite3.Error as exc:
        error = _as_ours(exc, operation, path)
        if error is None:
            raise
        raise error from exc
    except OSError as exc:
        raise _of_directory(exc, operation, path) from exc


def _as_ours(exc: sqlite3.Error, operation: str, path: Path) -> ArchiverError | None:
    # What the module itself refuses has no code: a closed connection, a wrong parameter.
    code = getattr(exc, "sqlite_errorcode", None)
    if code is None:
        return None
    kind = code & 0xFF  # the rest says more of the same
    message = f"{exc} ({exc.sqlite_errorname}): {path}"
    if kind == sqlite3.SQLITE_FULL:
        return LedgerFull(operation=operation, message=message)
    if kind in _OUTAGES:
        return LedgerFileUnavailable(operation=operation, message=message)
    if kind in _DENIED:
        return StateDirUnusable(path=str(path.parent), problem=message)
    if kind in _DAMAGED:
        return LedgerFileUnusable(path=str(path), problem=f"{exc} ({exc.sqlite_errorname})")
    return None


def _of_directory(exc: OSError, operation: str, path: Path) -> ArchiverError:
    told = f"{exc.strerror or exc}: {exc.filename or path}"
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return LedgerFull(operation=operation, message=told)
    if exc.errno in _OUTAGES_OF_DIRECTORIES:
        return LedgerFileUnavailable(operation=operation, message=told)
    return StateDirUnusable(path=str(path.parent), problem=told)


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    (value,) = connection.execute(f"pragma {name}").fetchone()
    return int(value)


def _make_directory(directory: Path) -> None:
    if not directory.is_dir():
        directory.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            directory.mkdir(mode=0o700)
        _sync(directory.parent)


def _make_file(path: Path) -> None:
    """Only where there is none: to close a file that SQLite has open would end its locks."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        if not stat.S_ISREG(path.stat().st_mode):
            raise LedgerFileUnusable(path=str(path), problem="it is no plain file") from None
    else:
        _sync(path.parent)


def _sync(directory: Path) -> None:
    """Make its new entries durable."""
    number = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(number)
    finally:
        os.close(number)
