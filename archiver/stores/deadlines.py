"""A caller's own limit on a whole transfer: what is under way on its behalf ends with it.

The limit is known to the thread it was set in (`limited`) and, by a copy of the context, to
those that work for it. `bounded_http.py` looks at it before each wait for the wire.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from archiver.errors import StoreUnavailable, TransferTimeout

if TYPE_CHECKING:
    from collections.abc import Iterator


class Deadline:
    """When a transfer must have ended. Safe to share between threads.

    By the clock that sockets wait by, as nothing else is decided by it.
    """

    def __init__(self, operation: str, where: str, timeout_seconds: float | None) -> None:
        self._operation = operation
        self._where = where
        self._timeout_seconds = timeout_seconds
        self._ends_at = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        self._is_cancelled = False

    def left_seconds(self) -> float | None:
        """How long it may still take; 0: it must end. None: as long as it needs."""
        if self._is_cancelled:
            return 0.0
        if self._ends_at is None:
            return None
        return max(0.0, self._ends_at - time.monotonic())

    def cancel(self) -> None:
        """End it now: part of it has failed, so the rest is of no use."""
        self._is_cancelled = True

    @property
    def is_over(self) -> bool:
        return self._ends_at is not None and time.monotonic() >= self._ends_at

    def require(self) -> None:
        """Return while there is time left.

        Raises:
            TransferTimeout
        """
        if self.left_seconds() == 0.0:
            raise self.error()

    def error(self) -> TransferTimeout:
        return TransferTimeout(
            operation=self._operation,
            where=self._where,
            timeout_seconds=self._timeout_seconds or 0.0,
        )


_CURRENT: ContextVar[Deadline | None] = ContextVar("archiver_deadline", default=None)
_REQUEST_ENDS_AT: ContextVar[float | None] = ContextVar("archiver_request", default=None)


@contextmanager
def limited(deadline: Deadline) -> Iterator[Deadline]:
    """Let all that this block asks of stores end by then.

    Raises:
        TransferTimeout: In place of what a store's client says of a wait that was cut short.
    """
    token = _CURRENT.set(deadline)
    try:
        yield deadline
    except StoreUnavailable as exc:
        if deadline.is_over:
            raise deadline.error() from exc
        raise
    finally:
        _CURRENT.reset(token)


@contextmanager
def one_request(ends_at: float | None) -> Iterator[None]:
    """Let all waits of one request end by then, on the monotonic clock; None: no limit.

    A timeout of sockets is of silence: an answer that trickles in would have none.
    """
    token = _REQUEST_ENDS_AT.set(ends_at)
    try:
        yield
    finally:
        _REQUEST_ENDS_AT.reset(token)


def ends_in(seconds: float | None) -> float | None:
    """When what is begun now and may take so long has to end, for `one_request`."""
    return None if seconds is None else time.monotonic() + seconds


def left_seconds() -> float | None:
    """How long this thread may still wait for the wire; None: as long as it takes."""
    deadline, ends_at = _CURRENT.get(), _REQUEST_ENDS_AT.get()
    left = [] if deadline is None else [deadline.left_seconds()]
    if ends_at is not None:
        left.append(max(0.0, ends_at - time.monotonic()))
    return min((it for it in left if it is not None), default=None)


def require_time() -> None:
    """Return while the transfer that this thread works for may go on.

    Raises:
        TransferTimeout
    """
    deadline = _CURRENT.get()
    if deadline is not None:
        deadline.require()
