"""Asking a source to flip its rows, so that no row spoils its group.

Whatever Postgres says of one row is said of the whole statement. So a group that fails is
halved, again and again, until the row that is meant stands alone.
"""

from __future__ import annotations

from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import psycopg

from archiver.ledger.database import fetch
from archiver.ledger.queries import load
from archiver.ledger.translation import blaming, first_line, is_about_the_row, is_contention

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from archiver.ledger.database import Connection
    from archiver.model import CandidateId, Receipt
    from archiver.protocols import ArchiveSource

T = TypeVar("T")
R = TypeVar("R")

_SQL = load("claims.sql")

BUSY_TRIES = 32  # waits for held rows in one call; where more are held, all wait their turn


class RowBusy(Exception):
    """Another transaction holds a row of this group."""


class RowRefused(Exception):
    """A row of this group raises; the text says why."""


def flip(
    source: ArchiveSource, receipts: Sequence[Receipt], tx: Connection, *, wait_seconds: float
) -> Collection[CandidateId]:
    """Let the source flip the rows of these receipts, in a savepoint; the ids it took.

    Raises:
        RowBusy, RowRefused: Nothing was flipped, the transaction is as it was.
    """
    with _in_savepoint(source, "on_archived", tx, wait_seconds):
        return source.on_archived(receipts, tx)


def point_back(
    source: ArchiveSource, receipts: Sequence[Receipt], tx: Connection, *, wait_seconds: float
) -> Collection[CandidateId]:
    """The mirror: let the source point these rows hot again.

    Raises:
        RowBusy, RowRefused: As by `flip`.
        SourceRefused: The source cannot.
    """
    with _in_savepoint(source, "on_restored", tx, wait_seconds):
        return source.on_restored(receipts, tx)


@contextmanager
def _in_savepoint(
    source: ArchiveSource, operation: str, tx: Connection, wait_seconds: float
) -> Iterator[None]:
    try:
        with tx.transaction():
            milliseconds = str(max(1, round(wait_seconds * 1000)))
            (own,) = fetch(tx, _SQL["set_lock_timeout"], {"timeout": milliseconds})
            with blaming(source.name, operation, leaves_rows=True):
                yield
            # What follows waits for other workers of ours, not for the application.
            tx.execute(_SQL["set_lock_timeout"], {"timeout": own["before"]})
    except psycopg.Error as exc:
        if is_contention(exc):
            raise RowBusy from exc
        if is_about_the_row(exc):
            raise RowRefused(first_line(exc)) from exc
        raise


def halving(
    items: Sequence[T],
    attempt: Callable[[Sequence[T]], R],
    alone: Callable[[T, RowBusy | RowRefused], R],
) -> Iterator[R]:
    """Attempt the whole, and the halves of what raises; one that raises alone is told so.

    The widest groups come first, so that a run of held rows at one end does not use up the
    patience that the other end needs.
    """
    groups = deque([items] if items else [])
    busy_count = 0
    while groups:
        group = groups.popleft()
        if busy_count >= BUSY_TRIES:
            yield from (alone(item, RowBusy()) for item in group)
            continue
        try:
            yield attempt(group)
        except (RowBusy, RowRefused) as exc:
            busy_count += isinstance(exc, RowBusy)
            if len(group) == 1:
                yield alone(group[0], exc)
            else:
                middle = len(group) // 2
                groups += [group[:middle], group[middle:]]
