"""A directory as a cold bucket: where its files lie, and how one appears in it.

Beside the objects, below `{prefix}.archiver/`, lie directories of our own:

    metadata/{xx}/{SHA-256 of the key}.json   what a store keeps beside the bytes
    temporary/                                bodies on their way in
    uploads/                                  objects sent in parts (`file_multipart.py`)
    locks/{nn}                                one writer at a time, for each name

No key reaches into them. An object appears by a hard link to a file that is whole and
synced: at once or not at all, and never over another. Its metadata is there before it is.

Symbolic links are not objects, and nothing below the bucket is reached through one: it
might lead to the hot copy, which would then be taken for its own archived one.
"""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import json
import os
import re
import secrets
import stat
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archiver.errors import (
    BucketMissing,
    KeyTaken,
    ObjectMissing,
    StoreUnavailable,
    UnusableName,
)
from archiver.model import ColdKey, ColdLocation, ColdStat
from archiver.stores.cold_file_errors import translated
from archiver.stores.plain_file import NotPlainFile, open_plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from io import FileIO

FORMAT_VERSION = 1  # of a metadata file
LOCKS_COUNT = 64
_OURS = ".archiver"
_OUR_DIRECTORIES = ("metadata", "temporary", "uploads", "locks")
_TEMPORARY_NAME = re.compile(r"[0-9a-f]{32}")


class ColdDirectory:
    """One bucket. Safe to share between threads and processes.

    The file system must know hard links and `flock`; `root/bucket` must be there already,
    so that a disk that is not mounted is noticed.
    """

    def __init__(self, root: Path, bucket: str, path_prefix: str) -> None:
        self.bucket = root.resolve() / bucket
        self.ours = self.bucket / f"{path_prefix}{_OURS}"
        self._bucket_name = bucket
        self._preparing = threading.Lock()
        self._is_prepared = False  # written under `_preparing`

    def location(self, key: ColdKey) -> ColdLocation:
        return ColdLocation("file", self._bucket_name, key)

    def require_bucket(self) -> None:
        """Return when the bucket is there.

        Raises:
            BucketMissing: Also of a disk that is not mounted, which proves no absence.
        """
        if not self.bucket.is_dir():
            raise BucketMissing(store="cold", bucket=str(self.bucket))

    # --- what is there ------------------------------------------------------------------

    def status(self, key: ColdKey) -> os.stat_result | None:
        """What the file system says of an object; None: there is none.

        Raises:
            BucketMissing, UnusableName, OSError
        """
        path = self.path(key)
        try:
            status = path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            self.require_bucket()
            return None
        is_object = stat.S_ISREG(status.st_mode) and not self.is_behind_link(path)
        return status if is_object else None

    def open(self, key: ColdKey) -> int:
        """A descriptor of an object, which the caller closes.

        Raises:
            ObjectMissing, BucketMissing, UnusableName, OSError
        """
        path, where = self.path(key), str(self.location(key))
        if self.is_behind_link(path):
            raise ObjectMissing(store="cold", where=where, code="symbolic link")
        try:
            return open_plain(path)
        except (FileNotFoundError, NotADirectoryError) as exc:
            self.require_bucket()
            raise ObjectMissing(store="cold", where=where) from exc
        except NotPlainFile as exc:
            raise ObjectMissing(store="cold", where=where, code="not a file") from exc

    # --- one appears --------------------------------------------------------------------

    def require_free(self, key: ColdKey) -> Path:
        """The file of a key that no object has.

        Raises:
            KeyTaken, UnusableName
        """
        path = self.path(key)
        where = str(self.location(key))
        if self.is_behind_link(path):
            raise UnusableName(store="cold", where=where, reason="a symbolic link leads there")
        try:
            status = path.lstat()
        except FileNotFoundError:
            return path
        if stat.S_ISDIR(status.st_mode):
            reason = "a directory of that name holds other objects"
            raise UnusableName(store="cold", where=where, reason=reason)
        raise KeyTaken(where=where)

    def appear(
        self,
        key: ColdKey,
        whole: Path,
        *,
        metadata: Mapping[str, str],
        content_type: str | None,
        content_encoding: str | None,
    ) -> ColdStat:
        """Make an object of a whole, synced file: at once or not at all.

        Raises:
            KeyTaken, UnusableName: Nothing was written.
        """
        sidecar = {
            "version": FORMAT_VERSION,
            "key": key,
            "metadata": dict(metadata),
            "content_type": content_type,
            "content_encoding": content_encoding,
        }
        with self.locked(key):
            path = self.require_free(key)  # under the lock it stays so
            self.write_sidecar(key, sidecar)
            make_directories(path.parent)
            try:
                os.link(whole, path)
            except FileExistsError as exc:  # a writer that does not know our locks
                raise KeyTaken(where=str(self.location(key))) from exc
            sync_directory(path.parent)
            return stat_of(key, os.stat(whole))  # noqa: PTH116  # the same inode

    def prepare(self) -> None:
        """Make our own directories, once; throw away what killed processes left in them."""
        with self._preparing:
            self.require_bucket()
            if self._is_prepared:
                return
            for name in _OUR_DIRECTORIES:
                self.prepare_directory(self.ours / name)
            for left in (self.ours / "temporary").iterdir():
                _unlink_if_abandoned(left)
            self._is_prepared = True

    def prepare_directory(self, path: Path) -> None:
        """Make one of our own. Behind a link others' files would be taken for left ones."""
        make_directories(path)
        if not path.is_dir() or self.is_behind_link(path / "any"):
            raise StoreUnavailable(
                store="cold", operation="create", code="not a directory", where=str(path)
            )

    @contextmanager
    def temporary(self, pieces: Iterable[bytes]) -> Iterator[Path]:
        """A whole, synced file that is gone on every exit; locked while its writer lives."""
        path, file = self._open_temporary()
        with file:
            try:
                for piece in pieces:
                    write_all(file.fileno(), piece)
                os.fsync(file.fileno())
                yield path
            finally:
                path.unlink(missing_ok=True)

    def _open_temporary(self) -> tuple[Path, FileIO]:
        while True:
            path = self.ours / "temporary" / secrets.token_hex(16)
            file = path.open("xb", buffering=0)
            fcntl.flock(file, fcntl.LOCK_EX)
            if os.fstat(file.fileno()).st_nlink:
                return path, file
            file.close()  # a process that starts just now took it for abandoned

    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """One writer at a time, among threads (each opens for itself) and processes."""
        number = hashlib.sha256(os.fsencode(name)).digest()[0] % LOCKS_COUNT
        path = self.ours / "locks" / f"{number:02}"
        with os.fdopen(open_plain(path, os.O_RDWR | os.O_CREAT), "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def replace(self, path: Path, told: Mapping[str, object]) -> None:
        """Write a small file of our own durably, over an older one of its name."""
        with self.temporary([json.dumps(told, indent=1).encode()]) as temporary:
            temporary.rename(path)
        sync_directory(path.parent)

    # --- what is kept beside the bytes ----------------------------------------------------

    def read_sidecar(self, key: ColdKey) -> dict[str, Any]:
        """Empty for a file that was put here by other hands."""
        return self.read_ours(self.sidecar_path(key), "look", key) or {}

    def read_ours(self, path: Path, operation: str, key: str) -> dict[str, Any] | None:
        """What a small file of our own says; None: there is none.

        Raises:
            StoreUnavailable: It is not ours, or of another version.
        """
        with translated(operation, key):
            try:
                with os.fdopen(open_plain(path), "rb") as file:
                    told = json.loads(file.read())
            except FileNotFoundError:
                return None
            except (NotPlainFile, ValueError) as exc:
                raise _unreadable(operation, path) from exc
        if not isinstance(told, dict) or told.get("version") != FORMAT_VERSION:
            raise _unreadable(operation, path)
        return told

    def write_sidecar(self, key: ColdKey, sidecar: Mapping[str, object]) -> None:
        """Replace the metadata of a key; its lock is held."""
        path = self.sidecar_path(key)
        make_directories(path.parent)
        self.replace(path, sidecar)

    def sidecar_path(self, key: ColdKey) -> Path:
        """By digest: of the keys `a` and `a.json/b` both may exist, and any may be long."""
        name = hashlib.sha256(os.fsencode(key)).hexdigest()
        return self.ours / "metadata" / name[:2] / f"{name}.json"

    # --- names --------------------------------------------------------------------------

    def path(self, key: ColdKey) -> Path:
        """Where the object of a key lies.

        Raises:
            UnusableName
        """
        segments = key.split("/")
        reason = next(filter(None, map(why_not, segments)), None)
        if reason is None and is_ours(segments):
            reason = "that place is the store's own"
        if reason is not None:
            raise UnusableName(store="cold", where=ascii(key), reason=reason)
        return self.bucket.joinpath(*segments)

    def is_behind_link(self, path: Path) -> bool:
        """Whether a link between the bucket and this name's directory leads elsewhere."""
        below = path.parent.relative_to(self.bucket)
        bucket = Path(os.path.realpath(self.bucket))  # which may be a link itself
        return Path(os.path.realpath(path.parent)) != bucket / below


def stat_of(key: ColdKey, status: os.stat_result) -> ColdStat:
    return ColdStat(key, status.st_size, f"{status.st_size:x}-{status.st_mtime_ns:x}")


def why_not(segment: str) -> str | None:
    """Why a part of a key cannot be a file name."""
    if segment in {"", ".", ".."} or "\0" in segment:
        return f"{segment!r} is not a file name"
    try:
        length = len(os.fsencode(segment))
    except UnicodeEncodeError:
        return "not Unicode"
    return f"a name of {length} bytes" if length > 255 else None  # noqa: PLR2004  # NAME_MAX


def is_ours(segments: Sequence[str]) -> bool:
    """Whether a step of this path enters one of our directories, under any prefix."""
    steps = itertools.pairwise(segments)
    return any(above == _OURS and name in _OUR_DIRECTORIES for above, name in steps)


def write_all(number: int, body: bytes) -> None:
    rest = memoryview(body)
    while rest:
        rest = rest[os.write(number, rest) :]


def make_directories(path: Path) -> None:
    """As `mkdir -p`, each new entry synced: a crash of the machine leaves no hole above."""
    if path.is_dir():
        return
    make_directories(path.parent)
    with suppress(FileExistsError):
        path.mkdir()
        sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    number = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _unreadable(operation: str, path: Path) -> StoreUnavailable:
    return StoreUnavailable(store="cold", operation=operation, code="metadata", where=str(path))


def _unlink_if_abandoned(path: Path) -> None:
    if not _TEMPORARY_NAME.fullmatch(path.name):
        return
    with (
        suppress(FileNotFoundError, BlockingIOError, NotPlainFile),
        os.fdopen(open_plain(path), "rb") as file,
    ):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
