"""The user's own objects in a directory, beside those of the cold store of files.

Where they lie is `cold_directory.py`. An object is replaced by a rename, and its metadata is
there before it is: meanwhile, and after a crash, it says which of the two it belongs to.
"""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from archiver.errors import (
    NoUrl,
    ObjectChanged,
    ObjectMissing,
    RangeOutside,
    StoreUnavailable,
    UnusableName,
)
from archiver.formats.etags import in_words
from archiver.model import ColdKey, ListedObject, ObjectHead
from archiver.stores.cold_directory import (
    FORMAT_VERSION,
    ColdDirectory,
    make_directories,
    stat_of,
    sync_directory,
)
from archiver.stores.cold_file import FileColdStore
from archiver.stores.cold_file_errors import translated
from archiver.stores.deadlines import require_time
from archiver.stores.outgoing import Outgoing
from archiver.stores.pace import Pace

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from archiver.model import Digest, Disposition, ObjectFacts, SignedUrl

_READ_BYTES = 1 << 20
_NS_PER_MS = 1_000_000


class FileObjectStore:
    """The files below `root/bucket`. Safe to share between threads and processes.

    Args:
        root: Holds a directory for each bucket; the bucket's must be there.
        bucket: Which one.
        path_prefix: Of the cold store that works there: what is kept beside the bytes lies
            below `{path_prefix}.archiver/`.
        pace: An object asked for is a request.
    """

    def __init__(
        self, root: Path, bucket: str, path_prefix: str = "", pace: Pace | None = None
    ) -> None:
        self._bucket = bucket
        self._pace = pace or Pace()
        self._directory = ColdDirectory(root, bucket, path_prefix)
        self._cold = FileColdStore(root, bucket, path_prefix, self._pace)

    @property
    def name(self) -> str:
        return "cold"

    def where(self, key: str) -> str:
        return str(self._cold.location(ColdKey(key)))

    # --- reading --------------------------------------------------------------------------

    def head(self, key: str) -> ObjectHead | None:
        require_time()
        self._directory.path(ColdKey(key))
        self._pace.wait()
        with translated("head", key):
            status = self._directory.status(ColdKey(key))
            return None if status is None else self._head(ColdKey(key), status)

    def _head(self, key: ColdKey, status: os.stat_result) -> ObjectHead:
        told, etag = self._told(key, status), stat_of(key, status).etag
        return ObjectHead(
            key,
            status.st_size,
            etag,
            datetime.fromtimestamp(status.st_mtime, UTC),
            told.get("content_type"),
            told.get("content_encoding"),
            {name.lower(): said for name, said in told.get("metadata", {}).items()},
        )

    def _told(self, key: ColdKey, status: os.stat_result) -> Mapping[str, Any]:
        """What is kept beside this very file; empty where it was put by other hands."""
        told = self._directory.read_sidecar(key)
        before: Mapping[str, Any] = told.get("before") or {}
        is_replaced = before.get("etag") != stat_of(key, status).etag
        return told if is_replaced else before

    @contextmanager
    def open(
        self, key: str, start: int = 0, stop: int | None = None, *, etag: str | None = None
    ) -> Iterator[_FileBody]:
        require_time()
        self._directory.path(ColdKey(key))
        with translated("read", key), self._pace.reading() as reading:
            number = self._directory.open(ColdKey(key))
            status = os.fstat(number)
            reading.size_bytes = (status.st_size if stop is None else stop) - start
        try:
            with translated("read", key):
                head = self._head(ColdKey(key), status)
            if etag is not None and head.etag != etag:
                seen = in_words(head.size_bytes, head.etag)
                raise ObjectChanged(where=self.where(key), expected=f"ETag {etag}", seen=seen)
            end = head.size_bytes if stop is None else stop
            if end > head.size_bytes or start > end:
                size_bytes = head.size_bytes
                raise RangeOutside(
                    where=self.where(key), start=start, stop=stop, size_bytes=size_bytes
                )
            yield _FileBody(head, self.where(key), number, start, end)
        finally:
            os.close(number)

    def list(self, prefix: str) -> Iterator[ListedObject]:
        for found in self._cold.list(prefix):
            require_time()
            with translated("list", found.key):
                status = self._directory.status(found.key)
                if status is None:
                    continue
                head = self._head(found.key, status)
            yield ListedObject(
                found.key, head.size_bytes, head.etag, head.modified_at, head.content_type
            )

    def held_md5(self, key: str) -> bytes | None:  # noqa: ARG002
        """A file system holds none that it would check."""
        return None

    def held_sha256(self, key: str) -> Digest | None:  # noqa: ARG002
        return None

    # --- writing --------------------------------------------------------------------------

    def put(
        self,
        key: str,
        pieces: Iterable[bytes],
        size_bytes: int | None,
        facts: ObjectFacts,
        *,
        create_only: bool,
    ) -> str | None:
        require_time()
        name = ColdKey(key)
        self._directory.path(name)
        self._pace.wait(size_bytes or 0)
        body = Outgoing(pieces)
        try:
            with translated("put", key):
                if create_only:
                    self._directory.require_free(name)
                self._directory.prepare()
                with self._directory.temporary(body) as temporary:
                    if create_only:
                        return self._created(name, temporary, facts)
                    return self._replaced(name, temporary, facts)
        except Exception as exc:
            if body.failure is not None:
                raise body.failure from exc
            raise

    def _created(self, key: ColdKey, temporary: Path, facts: ObjectFacts) -> str | None:
        return self._directory.appear(
            key,
            temporary,
            metadata=facts.metadata,
            content_type=facts.content_type,
            content_encoding=facts.content_encoding,
        ).etag

    def _replaced(self, key: ColdKey, temporary: Path, facts: ObjectFacts) -> str | None:
        _set_apart(temporary)
        fresh = _sidecar(key, facts.content_type, facts.content_encoding, facts.metadata)
        with self._directory.locked(key):
            path = self._replaceable(key)
            status = self._directory.status(key)
            if status is not None:
                fresh["before"] = {
                    **_without_before(self._told(key, status)),
                    "etag": stat_of(key, status).etag,
                }
            self._directory.write_sidecar(key, fresh)
            make_directories(path.parent)
            temporary.replace(path)
            sync_directory(path.parent)
            return stat_of(key, path.lstat()).etag

    def _replaceable(self, key: ColdKey) -> Path:
        """The file of a key, where nothing but a plain file would be replaced.

        Raises:
            UnusableName
        """
        path, reason = self._directory.path(key), ""
        if self._directory.is_behind_link(path):
            reason = "a symbolic link leads there"
        elif path.is_symlink() or (path.exists() and not path.is_file()):
            is_directory = stat.S_ISDIR(path.lstat().st_mode)
            reason = "a directory of that name" if is_directory else "not a plain file"
        if reason:
            raise UnusableName(store=self.name, where=self.where(key), reason=reason)
        return path

    def delete(self, key: str) -> None:
        require_time()
        name = ColdKey(key)
        path = self._directory.path(name)
        self._pace.wait()
        with translated("delete", key):
            if self._directory.status(name) is None:
                return
            self._directory.prepare()
            with self._directory.locked(name):
                if self._directory.status(name) is None:  # somebody was faster
                    return
                path.unlink()
                sync_directory(path.parent)
                self._directory.sidecar_path(name).unlink(missing_ok=True)

    def set_content_type(self, key: str, content_type: str) -> None:
        require_time()
        name = ColdKey(key)
        self._directory.path(name)
        self._pace.wait()
        with translated("set_content_type", key):
            if self._directory.status(name) is None:
                raise ObjectMissing(store=self.name, where=self.where(key))
            self._directory.prepare()
            with self._directory.locked(name):
                status = self._directory.status(name)
                if status is None:  # somebody was faster
                    raise ObjectMissing(store=self.name, where=self.where(key))
                head = self._head(name, status)
                told = _sidecar(name, content_type, head.content_encoding, head.metadata)
                self._directory.write_sidecar(name, told)

    # --- URLs -----------------------------------------------------------------------------

    def signed_get(
        self,
        key: str,
        lifetime_seconds: int,  # noqa: ARG002
        *,
        disposition: Disposition | None,  # noqa: ARG002
        content_type: str | None,  # noqa: ARG002
    ) -> SignedUrl:
        raise NoUrl(where=self.where(key))

    def signed_put(
        self,
        key: str,
        lifetime_seconds: int,  # noqa: ARG002
        *,
        content_type: str | None,  # noqa: ARG002
        create_only: bool,  # noqa: ARG002
    ) -> SignedUrl:
        raise NoUrl(where=self.where(key))

    def close(self) -> None:
        """Nothing is kept open."""


class _FileBody:
    """An open file."""

    def __init__(
        self, head: ObjectHead, where: str, number: int, start: int, stop: int
    ) -> None:
        self._head = head
        self._where = where
        self._number = number
        self._start = start
        self._stop = stop

    @property
    def head(self) -> ObjectHead:
        return self._head

    def __iter__(self) -> Iterator[bytes]:
        at = self._start
        while at < self._stop and (buffer := self._read(at)):
            at += len(buffer)
            yield buffer
        after = stat_of(ColdKey(self._head.key), os.fstat(self._number))
        if at != self._stop or after.etag != self._head.etag:
            raise StoreUnavailable(
                store="cold",
                operation="read",
                code="changed while it was read",
                where=self._where,
            )

    def _read(self, at: int) -> bytes:
        require_time()
        with translated("read", self._where):
            return os.pread(self._number, min(self._stop - at, _READ_BYTES), at)


def _sidecar(
    key: ColdKey,
    content_type: str | None,
    content_encoding: str | None,
    metadata: Mapping[str, str],
) -> dict[str, Any]:
    return {
        "version": FORMAT_VERSION,
        "key": key,
        "metadata": dict(metadata),
        "content_type": content_type,
        "content_encoding": content_encoding,
    }


def _without_before(told: Mapping[str, Any]) -> dict[str, Any]:
    return {name: said for name, said in told.items() if name != "before"}


def _set_apart(path: Path) -> None:
    """Give a file a time of its own: a tick of the file system's clock is milliseconds.

    The ETag is made of time and size, and two objects of one key must never share it.
    """
    status = path.stat()
    at = status.st_mtime_ns - status.st_mtime_ns % _NS_PER_MS + secrets.randbelow(_NS_PER_MS)
    os.utime(path, ns=(status.st_atime_ns, at))
