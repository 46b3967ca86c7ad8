"""Uploads in parts, in memory: the other side of `FakeColdStore`, with its faults."""

from __future__ import annotations

import hashlib
import itertools
import threading
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from archiver.errors import StoreUnavailable, UploadMissing
from archiver.formats.etags import md5_etag
from archiver.model import ColdKey, ColdObject, ColdStat, OpenUpload, PartRules, StoredPart
from tests.fakes.faults import reply_lost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from archiver.model import Buffer, Part
    from tests.fakes.faults import Faults

PART_RULES = PartRules(min_bytes=1, max_bytes=1 << 20, max_count=100)
_BEGUN_AT = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class _Kept:
    body: bytes
    etag: str  # that it was acknowledged with


@dataclass(slots=True)
class _Begun:
    upload: OpenUpload
    metadata: Mapping[str, str]
    content_type: str | None
    content_encoding: str | None
    parts: dict[int, _Kept] = field(default_factory=dict)


class FakeMultipart:
    """Uploads in a dictionary. One lock guards them; bodies appear by the store's own.

    Operations of its faults: begin put_part parts complete abort open_uploads, each on a key;
    the last on a prefix.

    Args:
        faults: The store's.
        where: How errors call a key.
        appear: Makes the object; raises `KeyTaken` where that is asked for and it is in use.
        keeps_refused_parts: Complete on the condition that the key is free.
    """

    def __init__(
        self,
        faults: Faults,
        where: Callable[[ColdKey], str],
        appear: Callable[[ColdObject, bytes, bool], None],
        *,
        rules: PartRules,
        keeps_refused_parts: bool,
    ) -> None:
        self._faults = faults
        self._where = where
        self._appear = appear
        self._rules = rules
        self._keeps_refused_parts = keeps_refused_parts
        self._uploads: dict[str, _Begun] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    # --- the contract -------------------------------------------------------------------

    @property
    def rules(self) -> PartRules:
        return self._rules

    def begin(
        self,
        key: ColdKey,
        *,
        part_bytes: int,  # noqa: ARG002  # it takes any, and looks at the end
        metadata: Mapping[str, str],
        content_type: str | None,
        content_encoding: str | None,
    ) -> OpenUpload:
        fault = self._faults.begin("begin", key)
        with self._lock:
            number = next(self._numbers)
            begun_at = _BEGUN_AT + timedelta(seconds=number)
            upload = OpenUpload(key, f"upload-{number}", begun_at)
            if not fault.forget:
                self._uploads[upload.upload_id] = _Begun(
                    upload,
                    {name.lower(): value for name, value in metadata.items()},
                    content_type,
                    content_encoding,
                )
        reply_lost(fault)
        return upload

    def put_part(self, upload: OpenUpload, number: int, body: Buffer) -> str:
        fault = self._faults.begin("put_part", upload.key)
        body = bytes(body)
        if not 1 <= number <= self._rules.max_count or len(body) > self._rules.max_bytes:
            raise self._refused("put_part", upload.key, "InvalidArgument")
        with self._lock:
            begun = self._begun(upload)
            if not fault.forget:
                kept = body if fault.keep is None else fault.keep(body)
                begun.parts[number] = _Kept(kept, md5_etag(body))
        reply_lost(fault)
        return fault.etag or md5_etag(body)

    def parts(self, upload: OpenUpload) -> Sequence[StoredPart]:
        fault = self._faults.begin("parts", upload.key)
        with self._lock:
            stored = sorted(self._begun(upload).parts.items())
        if fault.forget:
            return ()
        return [
            StoredPart(number, len(it.body), fault.etag or it.etag) for number, it in stored
        ]

    def complete(self, upload: OpenUpload, parts: Sequence[Part]) -> ColdStat:
        fault = self._faults.begin("complete", upload.key)
        with self._lock:
            begun = self._begun(upload)
            bodies = self._named(begun, parts)
            body = b"".join(bodies)
            stat = ColdStat(upload.key, len(body), _etag_of(bodies))
            seen = ColdObject(stat, begun.metadata, begun.content_type, begun.content_encoding)
            if not fault.forget:
                kept = body if fault.keep is None else fault.keep(body)
                self._appear(seen, kept, self._keeps_refused_parts)
            del self._uploads[upload.upload_id]
        reply_lost(fault)
        return replace(stat, etag=fault.etag or stat.etag)

    def _named(self, begun: _Begun, parts: Sequence[Part]) -> list[bytes]:
        """The bodies of these parts, if they make an object."""
        numbers = [part.number for part in parts]
        kept = [begun.parts.get(number) for number in numbers]
        bodies = [it.body for it in kept if it is not None]
        code = ""
        if not parts or numbers != sorted(set(numbers)):
            code = "InvalidPartOrder"
        elif [it and it.etag for it in kept] != [part.etag for part in parts]:
            code = "InvalidPart"
        elif {len(body) for body in bodies[:-1]} - {len(bodies[0])}:  # as R2, the strictest
            code = "UnequalParts"
        elif any(len(body) < self._rules.min_bytes for body in bodies[:-1]):
            code = "EntityTooSmall"
        if code:
            raise self._refused("complete", begun.upload.key, code)
        return bodies

    def abort(self, upload: OpenUpload) -> None:
        fault = self._faults.begin("abort", upload.key)
        if not fault.forget:
            self.lose(upload)
        reply_lost(fault)

    def open_uploads(self, prefix: str) -> Iterator[OpenUpload]:
        if self._faults.begin("open_uploads", prefix).forget:
            return
        yield from [it for it in self.uploads if it.key.startswith(prefix)]

    def _begun(self, upload: OpenUpload) -> _Begun:
        begun = self._uploads.get(upload.upload_id)
        if begun is None or begun.upload.key != upload.key:
            raise UploadMissing(where=self._where(upload.key))
        return begun

    def _refused(self, operation: str, key: ColdKey, code: str) -> StoreUnavailable:
        return StoreUnavailable(
            store="cold", operation=operation, code=code, where=self._where(key)
        )

    # --- hands that reach around it -------------------------------------------------------

    def lose(self, upload: OpenUpload) -> None:
        """Forget an upload and its parts: a lifecycle rule, or somebody's abort."""
        with self._lock:
            self._uploads.pop(upload.upload_id, None)

    def lose_part(self, upload: OpenUpload, number: int) -> None:
        """Forget a part after it was acknowledged."""
        with self._lock:
            self._uploads[upload.upload_id].parts.pop(number, None)

    def rot_part(self, upload: OpenUpload, number: int, body: bytes) -> None:
        """Other bytes in the place of a part: its ETag shows it."""
        with self._lock:
            self._uploads[upload.upload_id].parts[number] = _Kept(body, md5_etag(body))

    def kept(self, upload: OpenUpload) -> dict[int, _Kept]:
        """The parts it has now, to be restored."""
        with self._lock:
            return dict(self._uploads[upload.upload_id].parts)

    def restore(self, parts: Mapping[str, dict[int, _Kept]]) -> None:
        """Uploads have the parts again that they had, and those begun since are forgotten."""
        with self._lock:
            for upload_id in [*self._uploads]:
                if upload_id not in parts:
                    del self._uploads[upload_id]
                else:
                    self._uploads[upload_id].parts = parts[upload_id]

    @property
    def uploads(self) -> list[OpenUpload]:
        """All that are under way, by key and then in the order of their beginning."""
        with self._lock:
            found = [begun.upload for begun in self._uploads.values()]
        return sorted(found, key=lambda it: it.key.encode())

    def held(self, upload: OpenUpload) -> dict[int, bytes]:
        """The parts it has now."""
        with self._lock:
            parts = self._uploads[upload.upload_id].parts
            return {number: it.body for number, it in parts.items()}


def _etag_of(bodies: Sequence[bytes]) -> str:
    """As S3 makes it of an object sent in parts: no MD5 of its bytes."""
    digests = b"".join(hashlib.md5(body, usedforsecurity=False).digest() for body in bodies)
    return f'"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(bodies)}"'
