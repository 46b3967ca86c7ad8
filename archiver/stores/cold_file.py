"""A directory as a cold store: the object `key` is the plain file `root/bucket/key`.

Where files lie, and how one appears, is `cold_directory.py`.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from archiver.errors import ObjectChanged, StoreUnavailable
from archiver.formats.etags import in_words
from archiver.model import Capabilities, ColdKey, ColdLocation, ColdObject, ColdStat, Digest
from archiver.stores.cold_directory import ColdDirectory, is_ours, stat_of, why_not
from archiver.stores.cold_file_errors import translated
from archiver.stores.file_multipart import FileMultipart
from archiver.stores.pace import Pace
from archiver.stores.plain_file import read_plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path


class FileColdStore:
    """The files below one directory. Safe to share between threads and processes.

    An object asked for is a request: the directory may lie on a busy network share.
    """

    def __init__(
        self, root: Path, bucket: str, path_prefix: str, pace: Pace | None = None
    ) -> None:
        self._pace = pace or Pace()
        self._path_prefix = path_prefix
        self._directory = ColdDirectory(root, bucket, path_prefix)
        self._multipart = FileMultipart(self._directory, self._pace)

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            enforces_signed_digest=False,
            enforces_create=True,
            returns_digest=False,
            keeps_refused_parts=True,
        )

    @property
    def path_prefix(self) -> str:
        return self._path_prefix

    @property
    def multipart(self) -> FileMultipart:
        return self._multipart

    def location(self, key: ColdKey) -> ColdLocation:
        return self._directory.location(key)

    def create(
        self,
        key: ColdKey,
        body: bytes,
        *,
        metadata: Mapping[str, str],
        content_type: str | None,
        content_encoding: str | None,
    ) -> ColdStat:
        self._directory.path(key)  # a name that is none waits for nothing
        self._pace.wait(len(body))
        with translated("create", key):
            self._directory.require_free(key)
            self._directory.prepare()
            with self._directory.temporary([body]) as temporary:
                return self._directory.appear(
                    key,
                    temporary,
                    metadata=metadata,
                    content_type=content_type,
                    content_encoding=content_encoding,
                )

    # --- look ---------------------------------------------------------------------------

    def stat_many(self, keys: Sequence[ColdKey]) -> Mapping[ColdKey, ColdStat | None]:
        return {key: self._stat(key) for key in keys}

    def look(self, key: ColdKey) -> ColdObject | None:
        found = self._stat(key)
        if found is None:
            return None
        sidecar = self._directory.read_sidecar(key)
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

    def read_range(self, stat: ColdStat, start: int, stop: int) -> bytes:
        self._directory.path(stat.key)
        self._pace.wait(stop - start)
        with translated("read", stat.key):
            number = self._directory.open(stat.key)
            try:
                self._require_same(stat, number)
                body = read_plain(number, start, stop)
                self._require_same(stat, number)  # one that was cut meanwhile shows
            finally:
                os.close(number)
        if len(body) != stop - start:
            where = str(self.location(stat.key))
            raise StoreUnavailable(store="cold", operation="read", code="cut", where=where)
        return body

    def _require_same(self, stat: ColdStat, number: int) -> None:
        seen = stat_of(stat.key, os.fstat(number))
        if seen != stat:
            raise ObjectChanged(
                where=str(self.location(stat.key)),
                expected=in_words(stat.size_bytes, stat.etag),
                seen=in_words(seen.size_bytes, seen.etag),
            )

    @contextmanager
    def _opened(self, operation: str, key: ColdKey) -> Iterator[int]:
        self._directory.path(key)
        with translated(operation, key):
            with self._pace.reading() as reading:
                number = self._directory.open(key)
                reading.size_bytes = os.fstat(number).st_size
            try:
                yield number
            finally:
                os.close(number)

    def _stat(self, key: ColdKey) -> ColdStat | None:
        self._directory.path(key)
        self._pace.wait()
        with translated("stat", key):
            status = self._directory.status(key)
        return None if status is None else stat_of(key, status)

    # --- list ---------------------------------------------------------------------------

    def list(self, prefix: str) -> Iterator[ColdStat]:
        with translated("list", prefix):
            self._directory.require_bucket()
        directory, slash, _ = prefix.rpartition("/")
        segments = directory.split("/") if slash else []
        if not any(map(why_not, segments)) and not is_ours(segments):
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
            with os.scandir(self._directory.bucket / directory) as entries:
                for entry in entries:
                    is_directory = entry.is_dir(follow_symlinks=False)
                    key = f"{directory}{entry.name}{'/' if is_directory else ''}"
                    if not is_ours(key.split("/")):
                        found.append((key, is_directory))
        except (FileNotFoundError, NotADirectoryError):
            return ()
        return sorted(found, key=lambda item: os.fsencode(item[0]))

    def close(self) -> None:
        """Nothing is kept open."""
