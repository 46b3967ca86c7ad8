"""A directory as a hot store: the object `bucket/path` is the file `root/bucket/path`.

The identity of a file is its inode, its size and when its bytes (mtime) and its entry
(ctime) last changed. A file rewritten in place, to the same size and within one tick of the
file system's clock (a few milliseconds) keeps its identity; one replaced by a rename, as a
careful writer does, never does. Symbolic links are not objects: nothing below a bucket is
reached through one.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from archiver.errors import (
    ArchiverError,
    BucketMissing,
    ObjectChanged,
    ObjectDenied,
    ObjectMissing,
    StoreDenied,
    StoreUnavailable,
    UnusableName,
)
from archiver.formats.etags import in_words
from archiver.model import Deleted, HotIdentity, HotLocation
from archiver.stores.pace import Pace
from archiver.stores.plain_file import NotPlainFile, open_plain, read_plain

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence


_NAME_LIMIT_BYTES = 255  # NAME_MAX


class FileHotStore:
    """The files below one directory. Safe to share between threads and processes.

    A file asked for is a request: a directory may lie on a busy network share.
    """

    def __init__(self, root: Path, pace: Pace | None = None) -> None:
        self._root = root.resolve()
        self._pace = pace or Pace()

    @contextmanager
    def open(self, location: HotLocation) -> Iterator[_OpenFile]:
        path = self._path(location)
        with self._pace.reading() as reading, _translated("open", location):
            number = open_plain(path)
            status = os.fstat(number)
            reading.size_bytes = status.st_size
        try:
            yield _OpenFile(_identity(status), number, location)
        finally:
            os.close(number)

    def read_range(
        self, location: HotLocation, identity: HotIdentity, start: int, stop: int
    ) -> bytes:
        path = self._path(location)
        self._pace.wait(stop - start)
        with _translated("read", location):
            number = open_plain(path)
            try:
                _require_same(number, identity, location)
                body = read_plain(number, start, stop)
                _require_same(number, identity, location)
            finally:
                os.close(number)
        if len(body) != stop - start:
            raise _unavailable("cut", location)
        return body

    def identify(
        self, locations: Collection[HotLocation]
    ) -> Mapping[HotLocation, HotIdentity | None]:
        seen: dict[HotLocation, HotIdentity | None] = {}
        for location in locations:
            self._pace.wait()
            seen[location] = self._identify(location)
        return seen

    def delete(
        self,
        targets: Sequence[tuple[HotLocation, HotIdentity]],
        allow: Callable[[], None],
    ) -> Mapping[HotLocation, Deleted]:
        answers: dict[HotLocation, Deleted] = {}
        for location, identity in targets:
            self._pace.wait(ahead=True)
            allow()
            answers[location] = self._delete(location, identity)
        return answers

    def probe(self, bucket: str) -> None:
        location = HotLocation(bucket, "")
        self._pace.wait()
        with _translated("probe", location):
            try:
                os.scandir(self._bucket(bucket)).close()
            except PermissionError as exc:
                raise _store_denied(exc, "probe", bucket) from exc

    def close(self) -> None:
        """Nothing is kept open."""

    def _identify(self, location: HotLocation) -> HotIdentity | None:
        try:
            path = self._path(location)
            with _translated("identify", location):
                status = os.lstat(path)
        except ObjectMissing:
            return None
        return _identity(status) if stat.S_ISREG(status.st_mode) else None

    def _delete(self, location: HotLocation, identity: HotIdentity) -> Deleted:
        """Unlink the file if it is still that one. Directories stay, empty ones too."""
        try:
            seen = self._identify(location)
            if seen is None:
                return Deleted.ABSENT
            if seen != identity:
                return Deleted.CHANGED
            with _translated("delete", location):
                Path(self._path(location)).unlink()
        except ObjectMissing:  # somebody was faster
            return Deleted.ABSENT
        except ObjectDenied:
            return Deleted.DENIED
        return Deleted.DELETED

    def _path(self, location: HotLocation) -> str:
        """The file of a location; its directory exists, and no link led there.

        Raises:
            UnusableName, ObjectDenied, ObjectMissing, BucketMissing
        """
        if reason := _why_no_bucket(location.bucket):
            raise UnusableName(store="hot", where=repr(str(location)), reason=reason)
        bucket = self._bucket(location.bucket)
        segments = location.path.split("/")
        for segment in segments:
            _check_name(segment, location)
        directory = os.path.join(bucket, *segments[:-1])  # noqa: PTH118  # Path merges names
        with _translated("open", location):
            real = os.path.realpath(directory, strict=True)
        if real != directory:
            raise ObjectDenied(
                store="hot", operation="open", where=str(location), code="symbolic link"
            )
        return os.path.join(directory, segments[-1])  # noqa: PTH118

    def _bucket(self, bucket: str) -> str:
        directory = self._root / bucket
        if _why_no_bucket(bucket):
            raise BucketMissing(store="hot", bucket=bucket)
        try:
            is_there = stat.S_ISDIR(os.lstat(directory).st_mode)
        except PermissionError as exc:
            raise _store_denied(exc, "open", bucket) from exc
        except OSError as exc:
            raise BucketMissing(store="hot", bucket=bucket) from exc
        if not is_there:
            raise BucketMissing(store="hot", bucket=bucket)
        return str(directory)


class _OpenFile:
    def __init__(self, identity: HotIdentity, number: int, location: HotLocation) -> None:
        self._identity = identity
        self._number = number
        self._location = location

    @property
    def identity(self) -> HotIdentity:
        return self._identity

    def read(self) -> bytes:
        with _translated("read", self._location):
            size_bytes = self._identity.size_bytes
            body = read_plain(self._number, 0, size_bytes + 1)  # one that grows shows
            after = _identity(os.fstat(self._number))
        if after != self._identity or len(body) != self._identity.size_bytes:
            raise _unavailable("changed while it was read", self._location)
        return body


def _require_same(number: int, identity: HotIdentity, location: HotLocation) -> None:
    seen = _identity(os.fstat(number))
    if seen != identity:
        raise ObjectChanged(
            where=str(location),
            expected=in_words(identity.size_bytes, identity.etag),
            seen=in_words(seen.size_bytes, seen.etag),
        )


def _unavailable(code: str, location: HotLocation) -> StoreUnavailable:
    return StoreUnavailable(store="hot", operation="read", code=code, where=str(location))


def _identity(status: os.stat_result) -> HotIdentity:
    etag = f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_ctime_ns:x}"
    return HotIdentity(status.st_size, etag=etag)


def _why_no_bucket(bucket: str) -> str:
    """Why no directory right below the root can have this name; empty where one can."""
    if "/" in bucket or "\0" in bucket or bucket in {"", ".", ".."}:
        return "no bucket's name"
    try:
        is_short = len(os.fsencode(bucket)) <= _NAME_LIMIT_BYTES
    except UnicodeEncodeError:
        is_short = False
    return "" if is_short else "no bucket's name"


def _check_name(segment: str, location: HotLocation) -> None:
    if segment in {"", ".", ".."} or "\0" in segment:
        reason = f"{segment!r} is not a file name"
        raise UnusableName(store="hot", where=str(location), reason=reason)


def _store_denied(exc: OSError, operation: str, bucket: str) -> StoreDenied:
    return StoreDenied(
        store="hot", operation=operation, where=bucket, code=_code(exc), message=str(exc)
    )


@contextmanager
def _translated(operation: str, location: HotLocation) -> Iterator[None]:
    try:
        yield
    except (OSError, UnicodeEncodeError) as exc:
        raise _error(exc, operation, location) from exc


def _error(
    exc: OSError | UnicodeEncodeError, operation: str, location: HotLocation
) -> ArchiverError:
    if isinstance(exc, UnicodeEncodeError) or exc.errno == errno.ENAMETOOLONG:
        reason = exc.reason if isinstance(exc, UnicodeEncodeError) else exc.strerror
        return UnusableName(store="hot", where=ascii(str(location)), reason=str(reason))
    if isinstance(exc, (FileNotFoundError, NotADirectoryError)):
        return ObjectMissing(store="hot", where=str(location), code=_code(exc))
    if isinstance(exc, PermissionError) or exc.errno == errno.ELOOP:
        return ObjectDenied(
            store="hot", operation=operation, where=str(location), code=_code(exc)
        )
    if isinstance(exc, NotPlainFile):
        return ObjectMissing(store="hot", where=str(location), code="not a file")
    return StoreUnavailable(
        store="hot",
        operation=operation,
        code=_code(exc),
        where=str(location),
        message=exc.strerror or "",
    )


def _code(exc: OSError) -> str:
    return errno.errorcode.get(exc.errno or 0, "unknown")
