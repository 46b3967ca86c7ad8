"""What an error of the operating system means for a cold store of files."""

from __future__ import annotations

import errno
from contextlib import contextmanager
from typing import TYPE_CHECKING

from archiver.errors import (
    NO_ROOM,
    ArchiverError,
    ObjectDenied,
    StoreDenied,
    StoreFull,
    StoreUnavailable,
    UnusableName,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

_READS = {"read", "readback"}


@contextmanager
def translated(operation: str, where: str) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise _error(exc, operation, where) from exc


def _error(exc: OSError, operation: str, where: str) -> ArchiverError:
    code = errno.errorcode.get(exc.errno or 0, "unknown")
    if isinstance(exc, PermissionError):
        if operation in _READS:  # the one file; a store that refuses all fails the canary
            return ObjectDenied(store="cold", operation=operation, where=where, code=code)
        return StoreDenied(
            store="cold", operation=operation, where=where, code=code, message=str(exc)
        )
    if exc.errno in {errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR}:
        reason = exc.strerror or code
        return UnusableName(store="cold", where=where, reason=reason)
    unavailable = StoreFull if exc.errno in NO_ROOM else StoreUnavailable
    return unavailable(
        store="cold",
        operation=operation,
        code=code,
        where=where,
        message=exc.strerror or "",
    )
