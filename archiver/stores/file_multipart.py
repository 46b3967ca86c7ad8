"""Objects sent in parts to a directory.

Below `{prefix}.archiver/uploads/`, for each upload:

    {upload id}.json            what it is to become; made first, gone last
    {upload id}/data            the object so far: each part where it belongs, holes between
    {upload id}/{number}.json   that this part is there, whole and synced

A part counts once its record says so, and the record is made after the bytes are synced. At
the end `data` is linked at the key, as a whole object is by `create`. A crash leaves an upload
that `open_uploads` tells of, or nothing.

Who writes a part holds the first file shared, who completes or aborts holds it alone: so no
late part is written into what is an object already.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from archiver.errors import StoreUnavailable, UploadMissing
from archiver.model import ColdKey, ColdStat, OpenUpload, PartRules, StoredPart
from archiver.stores.cold_directory import make_directories, stat_of, sync_directory
from archiver.stores.cold_file_errors import translated
from archiver.stores.plain_file import NotPlainFile, open_plain
from archiver.stores.providers import PROVIDERS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from archiver.model import Buffer, Part
    from archiver.stores.cold_directory import ColdDirectory
    from archiver.stores.pace import Pace

_FORMAT_VERSION = 1  # of both kinds of file
_UPLOAD_ID = re.compile(r"[0-9a-f]{32}")
_RECORD = re.compile(r"([1-9][0-9]{0,4})\.json")


class FileMultipart:
    """Safe to share between threads and processes."""

    def __init__(self, directory: ColdDirectory, pace: Pace) -> None:
        self._directory = directory
        self._pace = pace
        self._uploads = directory.ours / "uploads"

    @property
    def rules(self) -> PartRules:
        return PROVIDERS["file"].part_rules

    def begin(
        self,
        key: ColdKey,
        *,
        part_bytes: int,
        metadata: Mapping[str, str],
        content_type: str | None,
        content_encoding: str | None,
    ) -> OpenUpload:
        self._directory.path(key)
        self._pace.wait()
        place = self._place(secrets.token_hex(16))
        told = {
            "version": _FORMAT_VERSION,
            "key": key,
            "part_bytes": part_bytes,
            "metadata": dict(metadata),
            "content_type": content_type,
            "content_encoding": content_encoding,
        }
        with translated("begin", key):
            self._directory.prepare()
            self._directory.replace(place.record, told)
            return place.upload(key)

    def put_part(self, upload: OpenUpload, number: int, body: Buffer) -> str:
        self._pace.wait(len(body))
        with (
            translated("put_part", upload.key),
            self._opened(upload, fcntl.LOCK_SH) as (place, told),
            self._directory.locked(f"{upload.upload_id}/{number}"),
        ):
            part_bytes = told["part_bytes"]
            if len(body) > part_bytes:
                message = f"a part of {len(body)} bytes, where each has {part_bytes} at most"
                raise ValueError(message)
            self._require_nowhere_else(upload, place)
            make_directories(place.directory)
            place.forget_part(number)  # until the new bytes are whole, there is none
            place.write((number - 1) * part_bytes, body)
            etag = f'"{secrets.token_hex(16)}"'
            record = {"version": _FORMAT_VERSION, "size_bytes": len(body), "etag": etag}
            self._directory.replace(place.part(number), record)
            return etag

    def parts(self, upload: OpenUpload) -> Sequence[StoredPart]:
        self._pace.wait()
        with (
            translated("parts", upload.key),
            self._opened(upload, fcntl.LOCK_SH) as (place, _),
        ):
            return self._parts(place, upload.key)

    def complete(self, upload: OpenUpload, parts: Sequence[Part]) -> ColdStat:
        self._pace.wait()
        with (
            translated("complete", upload.key),
            self._opened(upload, fcntl.LOCK_EX) as (place, told),
        ):
            stat = self._completed(upload, place)
            if stat is None:
                self._require_nowhere_else(upload, place)
                self._directory.require_free(upload.key)
                place.cut(self._size_of(upload, place, told, parts))
                stat = self._directory.appear(
                    upload.key,
                    place.data,
                    metadata=told["metadata"],
                    content_type=told["content_type"],
                    content_encoding=told["content_encoding"],
                )
            place.remove()
            return stat

    def abort(self, upload: OpenUpload) -> None:
        self._pace.wait()
        with translated("abort", upload.key):
            try:
                with self._opened(upload, fcntl.LOCK_EX) as (place, _):
                    place.remove()
            except UploadMissing:
                return

    def open_uploads(self, prefix: str) -> Iterator[OpenUpload]:
        with translated("open_uploads", prefix):
            self._directory.require_bucket()
            if self._directory.is_behind_link(self._uploads / "any"):
                return
            names = sorted(path.stem for path in self._uploads.glob("*.json"))
        for name in filter(_UPLOAD_ID.fullmatch, names):
            place = self._place(name)
            upload: OpenUpload | None = None
            with translated("open_uploads", prefix), suppress(FileNotFoundError):
                told = self._directory.read_ours(place.record, "open_uploads", prefix)
                if told is not None:
                    upload = place.upload(ColdKey(told["key"]))
            if upload is not None and upload.key.startswith(prefix):
                yield upload

    # --- one upload -----------------------------------------------------------------------

    def _place(self, upload_id: str) -> _Place:
        return _Place(self._uploads / f"{upload_id}.json", self._uploads / upload_id)

    def _require_nowhere_else(self, upload: OpenUpload, place: _Place) -> None:
        """Return unless the data has a second name: it may be an object's.

        Raises:
            UploadMissing
        """
        with suppress(FileNotFoundError, NotADirectoryError):
            if place.data.lstat().st_nlink != 1:
                raise self._missing(upload)

    def _missing(self, upload: OpenUpload) -> UploadMissing:
        return UploadMissing(where=str(self._directory.location(upload.key)))

    @contextmanager
    def _opened(self, upload: OpenUpload, lock: int) -> Iterator[tuple[_Place, dict[str, Any]]]:
        """The upload, held by that lock while it is in use.

        Raises:
            UploadMissing
        """
        self._directory.prepare()
        place = self._place(upload.upload_id)
        is_name = _UPLOAD_ID.fullmatch(upload.upload_id) is not None
        if not is_name or self._directory.is_behind_link(place.data):
            raise self._missing(upload)
        try:
            number = open_plain(place.record)
        except (FileNotFoundError, NotADirectoryError, NotPlainFile) as exc:
            raise self._missing(upload) from exc
        try:
            fcntl.flock(number, lock)
            told = self._directory.read_ours(place.record, "open", upload.key)
            if not os.fstat(number).st_nlink or told is None or told["key"] != upload.key:
                raise self._missing(upload)
            yield place, told
        finally:
            os.close(number)

    def _completed(self, upload: OpenUpload, place: _Place) -> ColdStat | None:
        """What this upload became, where it was completed by one who died over removing it."""
        try:
            status = self._directory.path(upload.key).lstat()
            is_same = os.path.samestat(status, place.data.lstat())
        except (FileNotFoundError, NotADirectoryError):
            return None
        return stat_of(upload.key, status) if is_same else None

    def _size_of(
        self,
        upload: OpenUpload,
        place: _Place,
        told: Mapping[str, Any],
        parts: Sequence[Part],
    ) -> int:
        """The size of the object that these parts make.

        Raises:
            StoreUnavailable: They are not the parts that lie here.
        """
        stored = self._parts(place, upload.key)
        said = [StoredPart(it.number, it.size_bytes, it.etag) for it in parts]
        are_all = [it.number for it in said] == list(range(1, len(said) + 1))
        are_full = all(it.size_bytes == told["part_bytes"] for it in said[:-1])
        if not said or not are_all or not are_full or not set(said) <= set(stored):
            raise StoreUnavailable(
                store="cold",
                operation="complete",
                code="InvalidPart",
                where=str(self._directory.location(upload.key)),
                message=f"{len(stored)} parts are here, {len(said)} were named",
            )
        return sum(it.size_bytes for it in said)

    def _parts(self, place: _Place, key: ColdKey) -> list[StoredPart]:
        found = []
        for number in place.numbers():
            told = self._directory.read_ours(place.part(number), "parts", key)
            if told is not None:  # it is not being sent again at this moment
                found.append(StoredPart(number, told["size_bytes"], told["etag"]))
        return found


@dataclass(frozen=True, slots=True)
class _Place:
    """The files of one upload."""

    record: Path
    directory: Path

    def upload(self, key: ColdKey) -> OpenUpload:
        begun_at = datetime.fromtimestamp(self.record.stat().st_mtime, UTC)
        return OpenUpload(key, self.directory.name, begun_at)

    @property
    def data(self) -> Path:
        return self.directory / "data"

    def part(self, number: int) -> Path:
        return self.directory / f"{number}.json"

    def numbers(self) -> list[int]:
        """Of the parts that have a record."""
        try:
            names = [path.name for path in self.directory.iterdir()]
        except FileNotFoundError:  # no part was sent yet
            return []
        return sorted(int(it[1]) for it in map(_RECORD.fullmatch, names) if it is not None)

    def forget_part(self, number: int) -> None:
        with suppress(FileNotFoundError):
            self.part(number).unlink()
            sync_directory(self.directory)

    def write(self, offset: int, body: Buffer) -> None:
        """Write and sync a part."""
        number = open_plain(self.data, os.O_RDWR | os.O_CREAT)
        try:
            rest = memoryview(body)
            while rest:
                count = os.pwrite(number, rest, offset)
                rest, offset = rest[count:], offset + count
            os.fsync(number)
        finally:
            os.close(number)
        sync_directory(self.directory)

    def cut(self, size_bytes: int) -> None:
        """Leave nothing behind the last part: one of its number may have been longer."""
        number = open_plain(self.data, os.O_RDWR)
        try:
            os.ftruncate(number, size_bytes)
            os.fsync(number)
        finally:
            os.close(number)

    def remove(self) -> None:
        """What says most goes first, the record last: what is left never says too much."""
        if self.directory.exists():
            for number in self.numbers():
                self.part(number).unlink()
            sync_directory(self.directory)
            shutil.rmtree(self.directory)
            sync_directory(self.directory.parent)
        self.record.unlink(missing_ok=True)
        sync_directory(self.record.parent)
