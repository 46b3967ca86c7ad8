"""Several pieces of one transfer at once. When it is over, none of them goes on."""

from __future__ import annotations

from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from archiver.engine.pool import ThreadPool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from archiver.errors import ArchiverError
    from archiver.protocols import Clock
    from archiver.stores.deadlines import Deadline

T = TypeVar("T")

_LOOK_SECONDS = 60.0  # at most for one result; a store that says nothing is waited for again
_PATIENCE_SECONDS = 10.0  # with threads that hang in a system call, once all is lost


def do_each(
    works: Iterable[Callable[[], T]], width: int, deadline: Deadline, clock: Clock
) -> list[T]:
    """Do each piece of work, so many at once; their results, as they come home.

    The next piece is asked for when there is room for it, so no more are held in memory.
    Where one fails, those under way are ended, and the others are never begun.

    Raises:
        ArchiverError: The first failure.
    """
    results: list[T] = []
    failures: list[ArchiverError] = []

    def failed(error: ArchiverError) -> None:
        failures.append(error)
        deadline.cancel()

    pool = ThreadPool(width=width, clock=clock)
    try:
        for work in works:
            pool.submit(partial(copy_context().run, work), results.append, failed)
            while pool.under_way_count >= width:
                pool.turn(_LOOK_SECONDS)
            if failures:
                break
        while pool.under_way_count:
            pool.turn(_LOOK_SECONDS)
    except BaseException:
        deadline.cancel()
        raise
    finally:
        pool.close(timeout_seconds=_PATIENCE_SECONDS)
    if failures:
        raise failures[0]
    return results
