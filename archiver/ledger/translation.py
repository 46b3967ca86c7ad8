"""Foreign errors in, ours out: the one place where this room reads SQLSTATEs.

No message carries the connection string: psycopg quotes it in its complaints about a
malformed one, so those are replaced, not passed on.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg
from psycopg import errors

from archiver.errors import (
    ArchiverError,
    LedgerDenied,
    LedgerFull,
    LedgerOutdated,
    LedgerUnavailable,
    SourceRefused,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.model import SourceName

_MESSAGE_LENGTH = 300

_CONTENTION = (errors.LockNotAvailable, errors.DeadlockDetected, errors.SerializationFailure)

# Classes of SQLSTATE that say nothing about a row: connection, transaction state, resources,
# limits, object state, operator, system, internal.
_NOT_THE_ROW = frozenset({"08", "25", "28", "3D", "40", "53", "54", "55", "57", "58", "XX"})
# Names, permissions, features: the statement's affair, unless a trigger of the application's
# came upon them; then the server tells the context in which it did.
_OF_THE_STATEMENT = frozenset({"0A", "3F", "42"})

# libpq keeps no SQLSTATE of a connection that was refused, so its English words are all
# there is. Words we do not know are read as "unavailable", never as anything better.
_REFUSALS = (
    "authentication failed",
    "no password supplied",
    "no pg_hba.conf entry",
    "permission denied for database",
    "does not exist",  # the role or the database
)


@contextmanager
def translated(operation: str) -> Iterator[None]:
    """Everything psycopg raises in here leaves as one of our errors."""
    try:
        yield
    except psycopg.Error as exc:
        raise _as_ours(exc, operation) from exc


@contextmanager
def blaming(source: SourceName, operation: str, *, leaves_rows: bool = False) -> Iterator[None]:
    """In here a source's own SQL runs: what the server says of it is the source's fault.

    That is an unknown table or column, and a row its statements cannot take: a cast, a
    trigger, a constraint. `leaves_rows`: the caller finds out which row is meant.
    """
    try:
        yield
    except psycopg.Error as exc:
        is_blamed = _is_about_the_statement(exc) or (not leaves_rows and is_about_the_row(exc))
        if not is_blamed or _is_denied(exc) or _is_about_our_schema(exc):
            raise
        problem = f"{operation}: {first_line(exc)}"
        raise SourceRefused(source=source, problem=problem) from exc


def is_contention(exc: psycopg.Error) -> bool:
    """Somebody else holds the row: the same again may pass."""
    return isinstance(exc, _CONTENTION)


def _is_about_the_statement(exc: psycopg.Error) -> bool:
    is_of_statement = isinstance(exc, psycopg.ProgrammingError | psycopg.NotSupportedError)
    return is_of_statement and not exc.diag.context


def is_about_the_row(exc: psycopg.Error) -> bool:
    """A constraint, a trigger or a value says no to this very row."""
    if exc.sqlstate is None:
        return isinstance(exc, psycopg.DataError)  # a value that psycopg cannot send
    code_class = exc.sqlstate[:2]
    if code_class in _OF_THE_STATEMENT:
        return exc.diag.context is not None
    return code_class not in _NOT_THE_ROW


def first_line(exc: psycopg.Error) -> str:
    """What the server says, without the detail that would quote the row."""
    text = exc.diag.message_primary or " ".join(str(exc).split())
    return text.partition("\n")[0][:_MESSAGE_LENGTH]


def _as_ours(exc: psycopg.Error, operation: str) -> ArchiverError:
    message = first_line(exc)
    if _is_denied(exc):
        return LedgerDenied(operation=operation, message=message)
    if _is_about_our_schema(exc):
        return LedgerOutdated(found=message, needed="the tables of this version")
    code = f" (SQLSTATE {exc.sqlstate})" if exc.sqlstate else ""
    unavailable = LedgerFull if isinstance(exc, errors.DiskFull) else LedgerUnavailable
    return unavailable(operation=operation, message=f"{message}{code}")


def _is_denied(exc: psycopg.Error) -> bool:
    if exc.sqlstate is None and isinstance(exc, psycopg.OperationalError):
        return any(words in str(exc) for words in _REFUSALS)
    return exc.sqlstate == "42501" or (exc.sqlstate or "").startswith("28")


def _is_about_our_schema(exc: psycopg.Error) -> bool:
    """A table, column or schema of ours is not there; quoted names are in every language."""
    is_missing = isinstance(
        exc, errors.UndefinedTable | errors.UndefinedColumn | errors.InvalidSchemaName
    )
    return is_missing and "archiver" in first_line(exc)
