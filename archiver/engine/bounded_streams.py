"""The two ends of a transfer: any reader and any writer, each call of theirs bounded in time.

They are foreign code that may hang, so each has a thread of its own (`SideThread`). Nothing
is asked of a reader but `read`, of a writer but `write`; what else they can do is found out.
"""

from __future__ import annotations

import errno
import fcntl
import io
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar

from archiver.engine.pool import NotInTime
from archiver.errors import (
    NO_ROOM,
    ArchiverError,
    TargetFull,
    TargetMisplaced,
    TransferBroken,
    TransferTimedOut,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from archiver.engine.pool import Errand, SideThread

T = TypeVar("T")
Doing = Literal["reading", "skipping", "writing", "syncing"]


class BinaryReader(Protocol):
    """Gives bytes in order: a file, a socket's file, a response."""

    def read(self, size_bytes: int, /) -> bytes | bytearray | None:
        """Some bytes, at most so many; none only at the end. None, of no wait, is refused."""


class BinaryWriter(Protocol):
    """Takes bytes in order.

    Where it can, it is flushed (`flush`) after each chunk, synced (`fileno`) before each
    checkpoint, and cut and positioned (`seek`, `truncate`), or else asked where it stands
    (`tell`).
    """

    def write(self, body: bytes | bytearray | memoryview, /) -> int | None:
        """Take some of these bytes; how many. None, of no wait, is refused."""


# --- reading ----------------------------------------------------------------------------


class BoundedReader:
    """A source that gives full chunks, and reads one of them ahead."""

    def __init__(
        self,
        source: BinaryReader,
        thread: SideThread,
        *,
        chunk_bytes: int,
        timeout_seconds: float,
    ) -> None:
        self._source = source
        self._thread = thread
        self._chunk_bytes = chunk_bytes
        self._timeout_seconds = timeout_seconds
        self._origin: int | None = None

    def note_origin(self) -> None:
        """Remember where the object begins, for `rewind`."""
        self._origin = self._ask("reading", 0, lambda _: _position(self._source))

    def rewind(self) -> bool:
        """Stand again where the object begins; False where the source cannot."""
        origin = self._origin
        if origin is None:
            return False
        return self._ask("reading", 0, lambda _: _seek(self._source, origin) == origin)

    def chunks(self, doing: Doing, start: int, stop: int | None) -> Iterator[bytes | bytearray]:
        """What comes from `start`, up to `stop` or the end: full chunks but for the last.

        What came before a failure is given out first: a wire that breaks every few MiB is
        still of use.

        Raises:
            TransferBroken
        """
        offset = start
        filling: _Filling | None = self._fill(doing, offset, stop)
        while filling is not None:
            body, error = filling.wait(self._timeout_seconds)
            offset += len(body)
            goes_on = error is None and len(body) == filling.wanted_bytes and offset != stop
            filling = self._fill(doing, offset, stop) if goes_on else None
            if body:
                yield body
            if error is not None:
                raise error

    def is_at_end(self, offset: int) -> bool:
        """Whether nothing comes any more.

        Raises:
            TransferBroken
        """
        return not any(self.chunks("reading", offset, offset + 1))

    def _fill(self, doing: Doing, offset: int, stop: int | None) -> _Filling:
        wanted_bytes = (
            self._chunk_bytes if stop is None else min(self._chunk_bytes, stop - offset)
        )
        return _Filling(self._source, self._thread, doing, offset, wanted_bytes)

    def _ask(self, doing: Doing, offset: int, work: Callable[[Callable[[], None]], T]) -> T:
        return _wait(self._thread.begin(work), self._timeout_seconds, doing, lambda: offset)


class _Filling:
    """One chunk on its way. Grows with what comes, so it is never larger than the object."""

    def __init__(
        self,
        source: BinaryReader,
        thread: SideThread,
        doing: Doing,
        offset: int,
        wanted_bytes: int,
    ) -> None:
        self.wanted_bytes = wanted_bytes
        self._source = source
        self._doing = doing
        self._offset = offset
        self._body: bytes | bytearray = bytearray()
        self._errand = thread.begin(self._run)

    def wait(self, timeout_seconds: float) -> tuple[bytes | bytearray, ArchiverError | None]:
        """What came, and why no more did, unless that was the end."""
        try:
            _wait(self._errand, timeout_seconds, self._doing, self._reached)
        except ArchiverError as exc:
            return bytes(self._body), exc  # a copy: a thread left behind may go on with it
        return self._body, None

    def _run(self, got_on: Callable[[], None]) -> None:
        while (missing_bytes := self.wanted_bytes - len(self._body)) > 0:
            piece = self._source.read(missing_bytes)
            if piece is None:  # what a raw, non-blocking file says
                raise BlockingIOError(errno.EAGAIN, "the source does not wait for its bytes")
            if not piece:
                return
            if len(piece) > missing_bytes:
                message = f"{len(piece)} bytes, where {missing_bytes} were asked for"
                raise OSError(errno.EOVERFLOW, message)
            got_on()
            self._add(piece)

    def _add(self, piece: bytes | bytearray) -> None:
        if len(piece) == self.wanted_bytes and isinstance(piece, bytes):
            self._body = piece  # not copied
        else:
            self._body += piece

    def _reached(self) -> int:
        return self._offset + len(self._body)


# --- writing ----------------------------------------------------------------------------


@dataclass(slots=True)
class _Written:
    size_bytes: int = 0


class BoundedWriter:
    """A target of one object, from its first byte on."""

    def __init__(
        self, target: BinaryWriter, thread: SideThread, *, timeout_seconds: float
    ) -> None:
        self._target = target
        self._thread = thread
        self._timeout_seconds = timeout_seconds
        self.is_hung = False

    def require_empty(self, *, is_new: bool) -> None:
        """Refuse to cut what may be somebody else's: a header, what `>>` is to follow.

        One that an earlier session left may stand anywhere, unless it only appends.

        Raises:
            TargetMisplaced, TransferBroken
        """

        def found(_: object) -> int | None:
            return _standing(self._target) if is_new or _appends(self._target) else None

        offset = self._ask("writing", 0, found)
        if offset:
            raise TargetMisplaced(expected=0, found=offset)

    def holds(self, offset: int) -> bool:
        """Whether as many bytes are there at least; True where it cannot be asked.

        Raises:
            TransferBroken
        """
        end = self._ask("writing", offset, lambda _: _end(self._target))
        return end is None or end >= offset

    def place(self, offset: int) -> None:
        """Cut it there, and stand there.

        Raises:
            TargetMisplaced, TransferBroken
        """
        self._ask("writing", offset, lambda _: _place(self._target, offset))

    def begin(self, body: bytes | bytearray, offset: int) -> Callable[[], None]:
        """Begin to write; the answer waits until all of it is out of this process's hands.

        Raises:
            TransferBroken: By the answer.
        """
        written = _Written()
        errand = self._thread.begin(lambda got_on: self._write(body, written, got_on))
        return lambda: self._wait(errand, "writing", lambda: offset + written.size_bytes)

    def sync(self, offset: int) -> None:
        """Make durable what was written, where it is a file.

        Raises:
            TransferBroken
        """
        self._ask("syncing", offset, lambda _: _sync(self._target))

    def _write(
        self, body: bytes | bytearray, written: _Written, got_on: Callable[[], None]
    ) -> None:
        rest: bytes | bytearray | memoryview = body
        while rest:
            count = self._target.write(rest)
            if not isinstance(count, int) or not 0 < count <= len(rest):
                message = f"the target says that it took {count!r} of {len(rest)} bytes"
                raise OSError(errno.EIO, message)
            written.size_bytes += count
            got_on()
            rest = memoryview(body)[written.size_bytes :]
        written.size_bytes = 0  # a flush that fails may be about any of them
        _flush(self._target)

    def _ask(self, doing: Doing, offset: int, work: Callable[[Callable[[], None]], T]) -> T:
        return self._wait(self._thread.begin(work), doing, lambda: offset)

    def _wait(self, errand: Errand[T], doing: Doing, offset: Callable[[], int]) -> T:
        try:
            return _wait(errand, self._timeout_seconds, doing, offset)
        except TransferTimedOut:
            self.is_hung = True
            raise


# --- what else a stream can do ------------------------------------------------------------


def _position(stream: object) -> int | None:
    """Where it stands; None where it does not know, or cannot be moved."""
    try:
        return stream.tell() if stream.seekable() else None  # type: ignore[attr-defined]
    except (AttributeError, OSError, ValueError):
        return None


def _seek(stream: object, offset: int) -> int:
    return stream.seek(offset)  # type: ignore[attr-defined, no-any-return]


def _standing(target: object) -> int | None:
    """Where the next byte goes; None where nobody can tell."""
    if _appends(target):
        return _end(target)
    try:
        return target.tell()  # type: ignore[attr-defined, no-any-return]
    except (AttributeError, OSError, ValueError):
        return None


def _appends(target: object) -> bool:
    """Whether the system puts whatever is written at the end, wherever the file stands."""
    number = _descriptor(target)
    return number is not None and bool(fcntl.fcntl(number, fcntl.F_GETFL) & os.O_APPEND)


def _end(target: object) -> int | None:
    """How much it holds; None where it cannot be asked."""
    try:
        if not target.seekable():  # type: ignore[attr-defined]
            return None
        return target.seek(0, io.SEEK_END)  # type: ignore[attr-defined, no-any-return]
    except (AttributeError, OSError, ValueError):
        return None


def _place(target: object, offset: int) -> None:
    end = _end(target)
    if end is None:
        found = _standing(target)
        if found != offset and not (found is None and offset == 0):
            raise TargetMisplaced(expected=offset, found="unknown" if found is None else found)
        return
    if end != offset and not _is_device(target):
        try:
            target.truncate(offset)  # type: ignore[attr-defined]
        except (AttributeError, io.UnsupportedOperation) as exc:
            raise TargetMisplaced(expected=offset, found=end) from exc
    _seek(target, offset)


def _flush(target: object) -> None:
    flush = getattr(target, "flush", None)  # the one thing a plain writer may lack in silence
    if flush is not None:
        flush()


def _sync(target: object) -> None:
    number = _descriptor(target)
    if number is not None:
        os.fsync(number)


def _descriptor(target: object) -> int | None:
    """Of a file or a disk: a pipe or a terminal has nothing to be synced."""
    number, mode = _file(target)
    return number if stat.S_ISREG(mode) or stat.S_ISBLK(mode) else None


def _is_device(target: object) -> bool:
    """Whether it is of a size that nobody changes: a disk, `/dev/null`."""
    _, mode = _file(target)
    return stat.S_ISBLK(mode) or stat.S_ISCHR(mode)


def _file(target: object) -> tuple[int | None, int]:
    """Its descriptor and its mode; None and 0 where it is no file of the system's."""
    try:
        number: int = target.fileno()  # type: ignore[attr-defined]
    except (AttributeError, OSError):
        return None, 0
    return number, os.fstat(number).st_mode


# --- what went wrong ----------------------------------------------------------------------


def _wait(
    errand: Errand[T], timeout_seconds: float, doing: Doing, offset: Callable[[], int]
) -> T:
    try:
        return errand.wait(timeout_seconds)
    except NotInTime as exc:
        raise TransferTimedOut(
            doing=doing, offset=offset(), timeout_seconds=timeout_seconds
        ) from exc
    except ArchiverError as exc:
        exc.add_note(f"While {doing} at offset {offset()}.")
        raise
    except Exception as exc:
        raise _broken(exc, doing, offset()) from exc


def _broken(exc: Exception, doing: Doing, offset: int) -> TransferBroken:
    """The kind of error stays; of a foreign one the words may hold secrets, so they go."""
    number = exc.errno if isinstance(exc, OSError) else None
    code = errno.errorcode.get(number or 0, type(exc).__name__)
    message = (exc.strerror or "") if isinstance(exc, OSError) else ""
    kind = (
        TargetFull if number in NO_ROOM and doing in {"writing", "syncing"} else TransferBroken
    )
    return kind(doing=doing, offset=offset, code=code, message=message)
