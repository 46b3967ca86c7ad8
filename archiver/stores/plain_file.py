"""Opens and reads plain files, and nothing else that has a name in a directory.

To open a pipe waits for whoever holds its other end, to open a device may wind a tape, a
socket cannot be opened, and a symbolic link leads elsewhere.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_READ_BYTES = 1 << 20  # of one buffer


class NotPlainFile(OSError):
    """What has that name is something else; it was not opened. A link has `errno.ELOOP`."""


def open_plain(path: str | Path, flags: int = os.O_RDONLY) -> int:
    """A descriptor of a plain file, which the caller closes.

    Raises:
        NotPlainFile, OSError
    """
    with suppress(FileNotFoundError):  # `flags` may make it
        _require_plain(os.lstat(path), path)
    number = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    try:
        _require_plain(os.fstat(number), path)  # somebody may have been faster
    except BaseException:
        os.close(number)
        raise
    return number


def read_plain(number: int, start: int, stop: int) -> bytes:
    """The bytes from `start` on and before `stop`; fewer where the file ends before that."""
    buffers: list[bytes] = []
    while start < stop and (buffer := os.pread(number, min(stop - start, _READ_BYTES), start)):
        start += len(buffer)
        buffers.append(buffer)
    return b"".join(buffers)


def _require_plain(status: os.stat_result, path: str | Path) -> None:
    if stat.S_ISREG(status.st_mode):
        return
    code = errno.ELOOP if stat.S_ISLNK(status.st_mode) else errno.EINVAL
    raise NotPlainFile(code, f"{os.fspath(path)} is not a plain file")
