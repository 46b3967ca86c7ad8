"""What callers hand over and take: bytes, readers and files, as pieces of one length each."""

from __future__ import annotations

import io
import os
import secrets
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Protocol

from archiver.errors import ObjectChanged, WrongLength
from archiver.stores.deadlines import require_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

PIECE_BYTES = 1 << 20


class Reader(Protocol):
    """A binary file, a socket's file, a pipe: anything that is read from front to back."""

    def read(self, size: int, /) -> bytes: ...


class Writer(Protocol):
    """Anything that takes bytes from front to back."""

    def write(self, data: bytes, /) -> object: ...


class RandomAccessWriter(Protocol):
    """Takes bytes at any place, from several threads at once."""

    def write_at(self, offset: int, data: bytes, /) -> None: ...


Body = bytes | bytearray | memoryview | Reader


def pieces_of(reader: Reader, piece_bytes: int) -> Iterator[bytes]:
    """Full pieces, however little each read brings; only the last may be shorter."""
    while piece := _filled(reader, piece_bytes):
        yield piece
        if len(piece) < piece_bytes:
            return


def _filled(reader: Reader, size_bytes: int) -> bytes:
    buffers: list[bytes] = []
    while size_bytes and (buffer := reader.read(size_bytes)):
        require_time()  # a part of a slow reader may take longer than there is
        buffers.append(buffer)
        size_bytes -= len(buffer)
    return buffers[0] if len(buffers) == 1 else b"".join(buffers)


def as_reader(body: Body) -> tuple[Reader, int | None]:
    """The body from where it stands, and how long it is, where that is known."""
    if isinstance(body, (bytes, bytearray, memoryview)):
        return io.BytesIO(body), memoryview(body).nbytes
    return body, None


def exactly(pieces: Iterable[bytes], size_bytes: int | None, where: str) -> Iterator[bytes]:
    """The same pieces.

    Raises:
        WrongLength: They are not as long as was said; then the last of them is not given out.
    """
    seen_bytes = 0
    held: bytes | None = None  # a store that has all of it might take it for good already
    for piece in pieces:
        seen_bytes += len(piece)
        if size_bytes is not None and seen_bytes > size_bytes:
            raise _wrong_length(where, size_bytes, f"{seen_bytes} bytes or more")
        if held is not None:
            yield held
        held = piece
    if size_bytes is not None and seen_bytes < size_bytes:
        raise _wrong_length(where, size_bytes, f"{seen_bytes} bytes")
    if held is not None:
        yield held


def _wrong_length(where: str, size_bytes: int, seen: str) -> WrongLength:
    return WrongLength(where=where, expected=f"{size_bytes} bytes", seen=seen)


def pieces_of_file(file: io.BufferedReader, piece_bytes: int) -> Iterator[bytes]:
    """As `pieces_of`.

    Raises:
        ObjectChanged: At the end: the file was written meanwhile.
    """
    before = os.fstat(file.fileno())
    yield from pieces_of(file, piece_bytes)
    after = os.fstat(file.fileno())
    if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise ObjectChanged(
            where=str(file.name),
            expected=f"{before.st_size} bytes",
            seen=f"{after.st_size} bytes, written meanwhile",
        )


class FileAtOnce:
    """A file that appears under its name whole, or not at all."""

    def __init__(self, number: int) -> None:
        self._number = number

    def write_at(self, offset: int, data: bytes, /) -> None:
        rest = memoryview(data)
        while rest:
            count = os.pwrite(self._number, rest, offset)
            rest, offset = rest[count:], offset + count

    @classmethod
    @contextmanager
    def at(cls, path: Path) -> Iterator[FileAtOnce]:
        """What is written in the block is synced and takes the place of what was there."""
        temporary = path.with_name(f".{secrets.token_hex(8)}.part")
        number = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            try:
                yield cls(number)
                os.fsync(number)
            finally:
                os.close(number)
            temporary.replace(path)
            _sync_directory(path.parent)
        finally:
            with suppress(FileNotFoundError):
                temporary.unlink()


def _sync_directory(path: Path) -> None:
    number = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
