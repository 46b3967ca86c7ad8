"""A directory as a cold store: the object `key` is the plain file `root/bucket/key`.

Beside the objects, below `{prefix}.archiver/`, lie three directories of our own:

    metadata/{xx}/{SHA-256 of the key}.json   what a store keeps beside the bytes
    temporary/                                bodies on their way in
    locks/{nn}                                one creator at a time, for each key

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
from archiver.model import Capabilities, ColdKey, ColdLocation, ColdObject, ColdStat, Digest
from archiver.stores.cold_file_errors import translated
from archiver.stores.pace import Pace
from archiver.stores.plain_file import NotPlainFile, open_plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from io import FileIO

_FORMAT_VERSION = 1  # of a metadata file
_LOCKS_COUNT = 64
_OURS = ".archiver"
_OUR_DIRECTORIES = ("metadata", "temporary", "locks")
_TEMPORARY_NAME = re.compile(r"[0-9a-f]{32}")


class FileColdStore:
    """The files below one directory. Safe to share between threads and processes.

    The file system must know hard links and `flock`; `root/bucket` must be there already,
    so that a disk that is not mounted is noticed. An object asked for is a request: the
    directory may lie on a busy network share.
    """

    def __init__(
        self, root: Path, bucket: str, path_prefix: str, pace: Pace | None = None
    ) -> None:
        self._pace = pace or Pace()
        self._bucket_name = bucket
        self._bucket = root.resolve() / bucket
        self._path_prefix = path_prefix
        self._ours = self._bucket / f"{path_prefix}{_OURS}"
        self._preparing = threading.Lock()
        self._is_prepared = False  # written under `_preparing`

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            enforces_signed_digest=False, enforces_create=True, returns_digest=False
        )

    @property
    def path_prefix(self) -> str:
        return self._path_prefix

    def location(self, key: ColdKey) -> ColdLocation:
        return ColdLocation("file", self._bucket_name, key)

    # --- create -------------------------------------------------------------------------

    def create(
        self,
        key: ColdKey,
        body: bytes,
        *,
        metadata: Mapping[str, str],
        content_type: str | None,
        content_encoding: str | None,
    ) -> ColdStat:
        path = self._path(key)
        if self._is_behind_link(path):
            reason = "a symbolic link leads there"
            raise UnusableName(store="cold", where=str(self.location(key)), reason=reason)
        sidecar = {
            "version": _FORMAT_VERSION,
            "key": key,
            "metadata": dict(metadata),
            "content_type": content_type,
            "content_encoding": content_encoding,
        }
        self._pace.wait(len(body))
        with translated("create", key):
            self._check_free(key, path)
            self._prepare()
            with self._temporary(body) as temporary, self._locked(key):
                self._check_free(key, path)  # again: under the lock it stays so
                self._write_sidecar(key, sidecar)
                _make_directories(path.parent)
                try:
                    os.link(temporary, path)
                except FileExistsError as exc:  # a writer that does not know our locks
                    raise KeyTaken(where=str(self.location(key))) from exc
                _sync_directory(path.parent)
                return _stat(key, os.stat(temporary))  # noqa: PTH116  # the same inode

    def _check_free(self, key: ColdKey, path: Path) -> None:
        try:
            status = path.lstat()
        except FileNotFoundError:
            return
        if stat.S_ISDIR(status.st_mode):
            reason = "a directory of that name holds other objects"
            raise UnusableName(store="cold", where=str(self.location(key)), reason=reason)
        raise KeyTaken(where=str(self.location(key)))

    def _prepare(self) -> None:
        """Make our own directories, once; throw away what killed processes left in them."""
        with self._preparing:
            self._check_bucket()
            if self._is_prepared:
                return
            for name in _OUR_DIRECTORIES:
                self._prepare_directory(self._ours / name)
            for left in (self._ours / "temporary").iterdir():
                _unlink_if_abandoned(left)
            self._is_prepared = True

    def _prepare_directory(self, path: Path) -> None:
        """Make one of our own. Behind a link others' files would be taken for left ones."""
        _make_directories(path)
        if not path.is_dir() or self._is_behind_link(path / "any"):
            raise StoreUnavailable(
                store="cold", operation="create", code="not a directory", where=str(path)
            )

    @contextmanager
    def _temporary(self, body: bytes) -> Iterator[Path]:
        """A whole, synced file that is gone on every exit; locked while its writer lives."""
        path, file = self._open_temporary()
        with file:
            try:
                _write_all(file.fileno(), body)
                os.fsync(file.fileno())
                yield path
            finally:
                path.unlink(missing_ok=True)

    def _open_temporary(self) -> tuple[Path, FileIO]:
        while True:
            path = self._ours / "temporary" / secrets.token_hex(16)
            file = path.open("xb", buffering=0)
            fcntl.flock(file, fcntl.LOCK_EX)
            if os.fstat(file.fileno()).st_nlink:
                return path, file
            file.close()  # a process that starts just now took it for abandoned

    @contextmanager
    def _locked(self, key: ColdKey) -> Iterator[None]:
        """One creator at a time, among threads (each opens for itself) and processes."""
        number = hashlib.sha256(os.fsencode(key)).digest()[0] % _LOCKS_COUNT
        path = self._ours / "locks" / f"{number:02}"
        with os.fdopen(open_plain(path, os.O_RDWR | os.O_CREAT), "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _write_sidecar(self, key: ColdKey, sidecar: Mapping[str, object]) -> None:
        """Replace the metadata of a key that is free: whatever was there had no object."""
        path = self._sidecar_path(key)
        _make_directories(path.parent)
        with self._temporary(json.dumps(sidecar, indent=1).encode()) as temporary:
            temporary.rename(path)
        _sync_directory(path.parent)

    # --- look ---------------------------------------------------------------------------

    def stat_many(self, keys: Sequence[ColdKey]) -> Mapping[ColdKey, ColdStat | None]:
        return {key: self._stat(key) for key in keys}

    def look(self, key: ColdKey) -> ColdObject | None:
        found = self._stat(key)
        if found is None:
            return None
        sidecar = self._read_sidecar(key)
        return ColdObject(
            found,
            {name.lower(): value for name, value in sidecar.get("metadata", {}).items()},
            sidecar.get("content_type"),
            sidecar.get("content_encoding"),
        )

    def held_digest(self, key: ColdKey) -> Digest | None:  # noqa: ARG002
        """A file system holds none that it would check."""
        return None

    def readback(self, key: ColdKey) -> Digest:
        with self._opened("readback", key) as number:
            seen = hashlib.sha256()
            while buffer := os.read(number, 1 << 20):
                seen.update(buffer)
            return Digest(seen.digest())

    def read(self, key: ColdKey) -> bytes:
        with self._opened("read", key) as number:
            return b"".join(iter(lambda: os.read(number, 1 << 20), b""))

    @contextmanager
    def _opened(self, operation: str, key: ColdKey) -> Iterator[int]:
        path = self._path(key)
        with translated(operation, key):
            with self._pace.reading() as reading:
                number = self._open(key, path)
                reading.size_bytes = os.fstat(number).st_size
            try:
                yield number
            finally:
                os.close(number)

    def _open(self, key: ColdKey, path: Path) -> int:
        where = str(self.location(key))
        if self._is_behind_link(path):
            raise ObjectMissing(store="cold", where=where, code="symbolic link")
        try:
            return open_plain(path)
        except (FileNotFoundError, NotADirectoryError) as exc:
            self._check_bucket()
            raise ObjectMissing(store="cold", where=where) from exc
        except NotPlainFile as exc:
            raise ObjectMissing(store="cold", where=where, code="not a file") from exc

    def _stat(self, key: ColdKey) -> ColdStat | None:
        path = self._path(key)
        self._pace.wait()
        with translated("stat", key):
            try:
                status = path.lstat()
            except (FileNotFoundError, NotADirectoryError):
                self._check_bucket()  # an unmounted disk proves no absence
                return None
            is_object = stat.S_ISREG(status.st_mode) and not self._is_behind_link(path)
            return _stat(key, status) if is_object else None

    def _read_sidecar(self, key: ColdKey) -> dict[str, Any]:
        """Empty for a file that was put here by other hands."""
        with translated("look", key):
            try:
                with os.fdopen(open_plain(self._sidecar_path(key)), "rb") as file:
                    told = json.loads(file.read())
            except FileNotFoundError:
                return {}
            except (NotPlainFile, ValueError) as exc:
                raise self._unreadable(key) from exc
        if not isinstance(told, dict) or told.get("version") != _FORMAT_VERSION:
            raise self._unreadable(key)
        return told

    def _unreadable(self, key: ColdKey) -> StoreUnavailable:
        where = str(self._sidecar_path(key))
        return StoreUnavailable(store="cold", operation="look", code="metadata", where=where)

    # --- list ---------------------------------------------------------------------------

    def list(self, prefix: str) -> Iterator[ColdStat]:
        with translated("list", prefix):
            self._check_bucket()
        directory, slash, _ = prefix.rpartition("/")
        segments = directory.split("/") if slash else []
        if not any(map(_why_not, segments)) and not any(_is_ours(segments)):
            yield from self._walk(directory + slash, prefix)

    def _walk(self, directory: str, prefix: str) -> Iterator[ColdStat]:
        """Depth first; a directory sorts as its name with a slash, as its keys do."""
        with translated("list", directory):
            entries = self._entries(directory)
        for key, is_directory in entries:
            if not key.startswith(prefix):
                continue
            if is_directory:
                yield from self._walk(key, prefix)
            else:
                found = self._stat(ColdKey(key))
                if found is not None:  # it was there when the directory was read
                    yield found

    def _entries(self, directory: str) -> Sequence[tuple[str, bool]]:
        """Keys and further directories right below; the latter end in a slash."""
        found = []
        try:
            with os.scandir(self._bucket / directory) as entries:
                for entry in entries:
                    is_directory = entry.is_dir(follow_symlinks=False)
                    key = f"{directory}{entry.name}{'/' if is_directory else ''}"
                    if not any(_is_ours(key.split("/"))):
                        found.append((key, is_directory))
        except (FileNotFoundError, NotADirectoryError):
            return ()
        return sorted(found, key=lambda item: os.fsencode(item[0]))

    def close(self) -> None:
        """Nothing is kept open."""

    # --- names --------------------------------------------------------------------------

    def _path(self, key: ColdKey) -> Path:
        segments = key.split("/")
        reason = next(filter(None, map(_why_not, segments)), None)
        if reason is None and any(_is_ours(segments)):
            reason = "that place is the store's own"
        if reason is not None:
            raise UnusableName(store="cold", where=ascii(key), reason=reason)
        return self._bucket.joinpath(*segments)

    def _is_behind_link(self, path: Path) -> bool:
        """Whether a link between the bucket and this name's directory leads elsewhere."""
        below = path.parent.relative_to(self._bucket)
        bucket = Path(os.path.realpath(self._bucket))  # which may be a link itself
        return Path(os.path.realpath(path.parent)) != bucket / below

    def _sidecar_path(self, key: ColdKey) -> Path:
        """By digest: of the keys `a` and `a.json/b` both may exist, and any may be long."""
        name = hashlib.sha256(os.fsencode(key)).hexdigest()
        return self._ours / "metadata" / name[:2] / f"{name}.json"

    def _check_bucket(self) -> None:
        if not self._bucket.is_dir():
            raise BucketMissing(store="cold", bucket=str(self._bucket))


def _stat(key: ColdKey, status: os.stat_result) -> ColdStat:
    return ColdStat(key, status.st_size, f"{status.st_size:x}-{status.st_mtime_ns:x}")


def _why_not(segment: str) -> str | None:
    """Why a part of a key cannot be a file name."""
    if segment in {"", ".", ".."} or "\0" in segment:
        return f"{segment!r} is not a file name"
    try:
        length = len(os.fsencode(segment))
    except UnicodeEncodeError:
        return "not Unicode"
    return f"a name of {length} bytes" if length > 255 else None  # noqa: PLR2004  # NAME_MAX


def _is_ours(segments: Sequence[str]) -> Iterator[bool]:
    """Whether a step of this path enters one of our directories, under any prefix."""
    for above, name in itertools.pairwise(segments):
        yield above == _OURS and name in _OUR_DIRECTORIES


def _write_all(number: int, body: bytes) -> None:
    rest = memoryview(body)
    while rest:
        rest = rest[os.write(number, rest) :]


def _make_directories(path: Path) -> None:
    """As `mkdir -p`, each new entry synced: a crash of the machine leaves no hole above."""
    if path.is_dir():
        return
    _make_directories(path.parent)
    with suppress(FileExistsError):
        path.mkdir()
        _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    number = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _unlink_if_abandoned(path: Path) -> None:
    if not _TEMPORARY_NAME.fullmatch(path.name):
        return
    with (
        suppress(FileNotFoundError, BlockingIOError, NotPlainFile),
        os.fdopen(open_plain(path), "rb") as file,
    ):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
