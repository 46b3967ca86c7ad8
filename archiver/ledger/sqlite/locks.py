"""Locks that end with the process that has them, whatever ends it."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from archiver.errors import LedgerFileUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from archiver.protocols import Clock

_POLL_SECONDS = 0.02
_FLAGS = os.O_RDWR | os.O_CLOEXEC


@contextmanager
def held_alone(path: Path, clock: Clock, patience_seconds: float) -> Iterator[None]:
    """Hold the lock of a file, which stays; wait for who has it.

    Raises:
        LedgerFileUnavailable: It was held for too long.
    """
    number = os.open(path, _FLAGS | os.O_CREAT, 0o600)
    try:
        deadline = clock.monotonic() + patience_seconds
        while not _try_lock(number):
            if clock.monotonic() >= deadline:
                message = f"another process holds {path}"
                raise LedgerFileUnavailable(operation="open", message=message)
            clock.sleep(_POLL_SECONDS)
        yield
    finally:
        os.close(number)


class LifeSign:
    """A new file that is locked while this process lives, unless it is ended before."""

    def __init__(self, path: Path) -> None:
        """Make and lock it; nobody else may do so, or look, at the same time."""
        self._path = path
        self._number = os.open(path, _FLAGS | os.O_CREAT | os.O_EXCL, 0o600)
        _try_lock(self._number)

    def end(self) -> None:
        """Repeatable."""
        with suppress(FileNotFoundError):
            self._path.unlink()
        if self._number >= 0:
            os.close(self._number)
        self._number = -1


def is_alive(path: Path) -> bool:
    """Whether the process lives whose life sign it is. Not to be asked by two at once."""
    try:
        number = os.open(path, _FLAGS)
    except FileNotFoundError:
        return False
    try:
        return not _try_lock(number)
    finally:
        os.close(number)


def _try_lock(number: int) -> bool:
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
