"""A file that has its name only once it is whole and durable: where a transfer lands.

Until then its bytes are in `{name}.part`, and how far they are durable is in
`{name}.part.json`. Both stay after a crash, for whoever resumes; nobody else may read them.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Self

from archiver.errors import (
    NO_ROOM,
    CheckpointUnusable,
    TargetBusy,
    TargetFull,
    TargetUnusable,
)
from archiver.formats.checkpoint import Checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from io import FileIO
    from pathlib import Path

    from archiver.engine.bounded_streams import BinaryReader
    from archiver.engine.transfer import TransferResult

_MODE = 0o600
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CHECKPOINT_MAX_BYTES = 1 << 16


class LandingFile:
    """One file on its way. Locked while it is open: one process at a time brings it in.

        with LandingFile(path) as landing:
            landing.land(
                stream_transfer(
                    landing.source(open_at),
                    landing.target,
                    checkpoint=landing.checkpoint(),
                    on_checkpoint=landing.save,
                )
            )

    Raises, on entering:
        TargetBusy, TargetUnusable
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._part = path.parent / f"{path.name}.part"
        self._state = path.parent / f"{path.name}.part.json"
        self._fresh_state = path.parent / f"{path.name}.part.json.new"
        self._closing = ExitStack()

    def __enter__(self) -> Self:
        with self._translated():
            if self._path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            self._file = self._closing.enter_context(self._open())
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of it. What has not landed stays, to be resumed."""
        self._closing.close()

    @property
    def target(self) -> FileIO:
        """Where the bytes go. Unbuffered: a full disk is noticed by the write that meets it."""
        return self._file

    def source(self, open_at: Callable[[int], BinaryReader]) -> BinaryReader:
        """The bytes that are here already, and behind them those that `open_at` reads.

        `open_at` is given the offset to read from, and is called once: for what is missing,
        or for all of it where what is here turns out not to be what the checkpoint says. What
        it opens, its owner closes.
        """
        checkpoint = self.checkpoint()
        return _Resumed(self._file, 0 if checkpoint is None else checkpoint.offset, open_at)

    # --- the checkpoint -------------------------------------------------------------------

    def checkpoint(self) -> Checkpoint | None:
        """How far an earlier transfer came; None where there was none.

        Raises:
            CheckpointUnusable: `discard` begins anew.
            TargetUnusable
        """
        with self._translated():
            try:
                number = os.open(self._state, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            except FileNotFoundError:
                return None
            with os.fdopen(number, "rb") as file:
                text = file.read(_CHECKPOINT_MAX_BYTES)
        try:
            return Checkpoint.from_json(text)
        except CheckpointUnusable as exc:
            exc.where = str(self._state)
            raise

    def save(self, checkpoint: Checkpoint) -> None:
        """Keep a checkpoint, durably and at once or not at all.

        Raises:
            TargetFull, TargetUnusable: The one before it is there still.
        """
        with self._translated(checkpoint.offset):
            self._fresh_state.unlink(missing_ok=True)
            number = os.open(self._fresh_state, _FLAGS | os.O_EXCL, _MODE)
            with os.fdopen(number, "wb", buffering=0) as file:
                _write_all(file, checkpoint.to_json().encode())
                os.fsync(number)
            self._fresh_state.rename(self._state)
            _sync_directory(self._path.parent)  # which knows the part by then, too

    def discard(self) -> None:
        """Forget what came so far.

        Raises:
            TargetUnusable
        """
        with self._translated():
            self._forget()
            self._file.truncate(0)
            self._file.seek(0)

    # --- the end --------------------------------------------------------------------------

    def land(self, result: TransferResult) -> None:
        """Give it its name, in place of whatever had it. Whole and durable on return.

        Raises:
            TargetFull, TargetUnusable: It has not landed.
        """
        with self._translated(result.total_size):
            size_bytes = os.fstat(self._file.fileno()).st_size
            if size_bytes != result.total_size:
                message = (
                    f"it holds {size_bytes} bytes, not the {result.total_size} transferred"
                )
                raise OSError(errno.EINVAL, message)
            os.fsync(self._file.fileno())
            self._part.rename(self._path)
            _sync_directory(self._path.parent)
            self._forget()  # last: a checkpoint without its part does no harm

    def _forget(self) -> None:
        self._state.unlink(missing_ok=True)
        self._fresh_state.unlink(missing_ok=True)

    # --- opening --------------------------------------------------------------------------

    def _open(self) -> FileIO:
        while True:
            with ExitStack() as failing:
                number = os.open(self._part, _FLAGS, _MODE)
                file = failing.enter_context(os.fdopen(number, "r+b", buffering=0))
                if self._owns(number):
                    failing.pop_all()
                    return file

    def _owns(self, number: int) -> bool:
        """Lock the part; False where it landed while it was opened: then another one is it."""
        status = os.fstat(number)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, f"{self._part.name} is not a plain file")
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise TargetBusy(where=str(self._path)) from exc
        try:
            is_landed = not os.path.samestat(status, self._part.lstat())
        except FileNotFoundError:
            is_landed = True
        if not is_landed:
            os.fchmod(number, _MODE)
        return not is_landed

    @contextmanager
    def _translated(self, offset: int = 0) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            code = errno.errorcode.get(exc.errno or 0, "unknown")
            message = exc.strerror or ""
            if exc.errno in NO_ROOM:
                raise TargetFull(
                    doing="syncing", offset=offset, code=code, message=message
                ) from exc
            raise TargetUnusable(where=str(self._path), code=code, message=message) from exc
        except ValueError as exc:  # a name with a NUL, or one that is no Unicode
            message = str(exc)
            raise TargetUnusable(where=ascii(self._path), code="name", message=message) from exc


class _Resumed:
    """What has landed, then what is behind it. Can be read from its beginning again."""

    def __init__(
        self, landed: FileIO, landed_bytes: int, open_at: Callable[[int], BinaryReader]
    ) -> None:
        self._landed = landed
        self._landed_bytes = landed_bytes
        self._open_at = open_at
        self._offset = 0
        self._rest: BinaryReader | None = None

    def read(self, size_bytes: int, /) -> bytes | bytearray | None:
        piece = self._read_landed(size_bytes) or self._read_rest(size_bytes)
        self._offset += len(piece or b"")
        return piece

    def _read_landed(self, size_bytes: int) -> bytes:
        """Nothing where it has all been read, or was cut in the meantime."""
        wanted_bytes = min(size_bytes, self._landed_bytes - self._offset)
        if self._rest is not None or wanted_bytes <= 0:
            return b""
        return os.pread(self._landed.fileno(), wanted_bytes, self._offset)

    def _read_rest(self, size_bytes: int) -> bytes | bytearray | None:
        self._rest = self._rest or self._open_at(self._offset)
        return self._rest.read(size_bytes)

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._offset

    def seek(self, offset: int) -> int:
        """To the beginning, from where nothing that has landed is used."""
        self._offset, self._landed_bytes, self._rest = offset, offset, None
        return offset


def _write_all(file: FileIO, body: bytes) -> None:
    rest = memoryview(body)
    while rest:
        rest = rest[file.write(rest) :]


def _sync_directory(path: Path) -> None:
    number = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
