"""A file of this machine as the source of a push: ranges of it, while nobody writes to it."""

from __future__ import annotations

import os
import select
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from archiver.errors import FileChanged, FileUnusable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import TracebackType

    from archiver.model import Buffer

_LOOK_SECONDS = 0.25  # at most between two looks at the wish to stop


class LocalFile:
    """One open file. Safe to share between threads.

    Raises, on opening:
        FileUnusable: There is none, or it is no plain file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            # Not blocking: a pipe without a writer would wait for one for ever.
            flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
            self._number = os.open(path, flags)
        except OSError as exc:
            raise FileUnusable(where=str(path), problem=exc.strerror or str(exc)) from exc
        status = os.fstat(self._number)
        if not stat.S_ISREG(status.st_mode):
            os.close(self._number)
            raise FileUnusable(where=str(path), problem=_what_else(status.st_mode))
        self._began = _identity(status)
        self.size_bytes = status.st_size

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        os.close(self._number)

    def __str__(self) -> str:
        return str(self._path)

    def read(self, start: int, stop: int) -> bytes:
        """The bytes from `start` on and before `stop`: all of them.

        Raises:
            FileChanged: It was written since it was opened.
            FileUnusable: Its disk fails.
        """
        try:
            body = b"".join(self._pieces(start, stop))
        except OSError as exc:
            raise FileUnusable(where=str(self), problem=exc.strerror or str(exc)) from exc
        self._require_same(os.fstat(self._number))
        if len(body) != stop - start:
            seen = f"no more than {start + len(body)} bytes"
            raise self._changed(seen)
        return body

    def require_unchanged(self) -> None:
        """Prove that the file is what was opened, and is still the one of its name.

        Raises:
            FileChanged
        """
        self._require_same(os.fstat(self._number))
        try:
            named = os.stat(self._path)  # noqa: PTH116  # beside fstat
        except OSError as exc:
            seen = f"nothing of that name ({exc.strerror})"
            raise self._changed(seen) from exc
        self._require_same(named)

    def _pieces(self, start: int, stop: int) -> Iterator[bytes]:
        while start < stop and (piece := os.pread(self._number, stop - start, start)):
            yield piece
            start += len(piece)

    def _require_same(self, status: os.stat_result) -> None:
        seen = _identity(status)
        if seen != self._began:
            is_other = (seen.device, seen.inode) != (self._began.device, self._began.inode)
            raise self._changed("another file of that name" if is_other else str(seen))

    def _changed(self, seen: str) -> FileChanged:
        return FileChanged(where=str(self), expected=str(self._began), seen=seen)


class Pipe:
    """What another program writes, in pieces of one size, however it writes it.

    `is_stopping` is asked while there is nothing to read: then the pipe ends as if cut, and
    `was_stopped` says so.
    """

    def __init__(self, number: int, is_stopping: Callable[[], bool]) -> None:
        self._number = number
        self._is_stopping = is_stopping
        self.was_stopped = False

    def read(self, size_bytes: int) -> Buffer:
        """So many bytes; fewer only at the end.

        Raises:
            FileUnusable: It cannot be read.
        """
        body, filled_bytes = bytearray(size_bytes), 0
        try:
            with memoryview(body) as view:
                while count := self._read_into(view[filled_bytes:]):
                    filled_bytes += count
        except OSError as exc:
            raise FileUnusable(where="-", problem=exc.strerror or str(exc)) from exc
        del body[filled_bytes:]
        return body

    def _read_into(self, view: memoryview) -> int:
        while view and not self._is_stopping():
            if select.select([self._number], [], [], _LOOK_SECONDS)[0]:
                return os.readv(self._number, [view])
        self.was_stopped = self._is_stopping()
        return 0


@dataclass(frozen=True, slots=True)
class _Identity:
    device: int
    inode: int
    size_bytes: int
    modified_ns: int

    def __str__(self) -> str:
        return f"{self.size_bytes} bytes, written at {self.modified_ns / 1e9:.6f}"


def _identity(status: os.stat_result) -> _Identity:
    return _Identity(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def _what_else(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "it is a directory; push its files, or an archive of it through a pipe"
    if stat.S_ISFIFO(mode):
        return "it is a pipe; push it with - in place of its name"
    return "it is no plain file"
