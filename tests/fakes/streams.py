"""Readers and writers that behave as wires, disks and pipes do."""

from __future__ import annotations

import io
import os
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class ShortReader:
    """Gives as many bytes at once as it likes: `sizes`, again and again. Cannot go back."""

    def __init__(self, body: bytes, sizes: Sequence[int] = (1 << 30,)) -> None:
        self._body = io.BytesIO(body)
        self._sizes = sizes
        self.reads_count = 0

    def read(self, size_bytes: int, /) -> bytes:
        most = self._sizes[self.reads_count % len(self._sizes)]
        self.reads_count += 1
        return self._body.read(min(size_bytes, most))


class BrokenReader:
    """Does something else once so many bytes were read: raises, or hangs."""

    def __init__(self, body: bytes, at: int, do: Callable[[], object]) -> None:
        self._body = io.BytesIO(body)
        self._at = at
        self._do = do

    def read(self, size_bytes: int, /) -> bytes:
        if self._body.tell() == self._at:
            self._do()
        return self._body.read(min(size_bytes, self._at - self._body.tell()) or size_bytes)


@dataclass
class Disk:
    """A file, and what of it would be there still after the machine lost its power."""

    durable: bytes = b""
    is_full_at: int | None = None

    def open(self) -> DiskFile:
        return DiskFile(self)


class DiskFile(io.BytesIO):
    """What is written is durable once it was flushed."""

    def __init__(self, disk: Disk) -> None:
        super().__init__(disk.durable)
        self._disk = disk
        self.written_bytes = 0

    def write(self, body: object, /) -> int:
        full_at = self._disk.is_full_at
        taken = memoryview(body)  # type: ignore[arg-type]
        if full_at is not None and self.tell() + len(taken) > full_at:
            taken = taken[: full_at - self.tell()]
            if not taken:
                raise OSError(28, os.strerror(28))  # ENOSPC
        self.written_bytes += len(taken)
        return super().write(taken)

    def flush(self) -> None:
        self._disk.durable = self.getvalue()

    def truncate(self, size: int | None = None, /) -> int:
        cut = super().truncate(size)
        self.flush()
        return cut


@dataclass
class Pipe:
    """Takes bytes, `most` at once, and can do nothing else."""

    most: int = 1 << 30
    body: bytearray = field(default_factory=bytearray)

    def write(self, body: bytes | bytearray | memoryview, /) -> int:
        taken = memoryview(body)[: self.most]
        self.body += taken
        return len(taken)


class AppendedPipe(Pipe):
    """One that knows how much it was given."""

    def tell(self) -> int:
        return len(self.body)


class Hang:
    """Something that never comes back, until the test is over."""

    def __init__(self) -> None:
        self._ended = threading.Event()

    def __call__(self) -> None:
        self._ended.wait(60)

    def end(self) -> None:
        self._ended.set()
