"""Uploads in parts as they should be: a bucket's, in memory. No lies, no HTTP."""

from __future__ import annotations

import base64
import hashlib
import itertools
import threading
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

from tests.liar.wire import Reply, error, xml

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.liar.bucket import Held
    from tests.liar.wire import Asked


@dataclass(frozen=True, slots=True)
class Begun:
    """One upload under way."""

    bucket: str
    key: str
    headers: Mapping[str, str]
    begun_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    parts: dict[int, Held] = field(default_factory=dict)


class Uploads:
    """All uploads of one account. One lock guards them."""

    def __init__(self) -> None:
        self._begun: dict[str, Begun] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    @property
    def open(self) -> dict[str, Begun]:
        with self._lock:
            return dict(self._begun)

    def empty(self) -> None:
        with self._lock:
            self._begun.clear()

    def forget_parts(self) -> None:
        """Behind everybody's back."""
        with self._lock:
            for begun in self._begun.values():
                begun.parts.clear()

    def begin(self, asked: Asked, headers: Mapping[str, str]) -> Reply:
        with self._lock:
            upload_id = f"upload-{next(self._numbers)}"
            self._begun[upload_id] = Begun(asked.bucket, asked.key, headers)
        said = f"<Bucket>{asked.bucket}</Bucket><Key>{escape(asked.key)}</Key>"
        told = f"{said}<UploadId>{upload_id}</UploadId>"
        return xml(f"<InitiateMultipartUploadResult>{told}</InitiateMultipartUploadResult>")

    def put_part(self, asked: Asked, held: Held, keep: Callable[[Held], Held | None]) -> Reply:
        kept = keep(held)
        with self._lock:
            begun = self._of(asked)
            if begun is None:
                return error(404, "NoSuchUpload")
            if kept is not None:
                begun.parts[int(asked.query["partNumber"])] = kept
        return Reply(headers={"ETag": held.etag if kept is None else kept.etag})

    def list_parts(self, asked: Asked) -> Reply:
        with self._lock:
            begun = self._of(asked)
            if begun is None:
                return error(404, "NoSuchUpload")
            parts = sorted(begun.parts.items())
        told = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>{escape(held.etag)}</ETag>"
            f"<Size>{held.size_bytes}</Size></Part>"
            for number, held in parts
        )
        return xml(f"<ListPartsResult><IsTruncated>false</IsTruncated>{told}</ListPartsResult>")

    def complete(self, asked: Asked, put: Callable[[Held], bool]) -> Reply:
        """`put` makes the object, or says that its key is taken."""
        wanted = ET.fromstring(asked.body)  # noqa: S314  # our own clients wrote it
        named = [
            (int(_text(part, "PartNumber")), _text(part, "ETag"))
            for part in wanted.iter()
            if _name(part) == "Part"
        ]
        with self._lock:
            begun = self._of(asked)
            if begun is None:
                return error(404, "NoSuchUpload")
            parts = [begun.parts.get(number) for number, _ in named]
            held = [part for part in parts if part is not None]
            if [it and it.etag for it in parts] != [etag for _, etag in named] or not held:
                return error(400, "InvalidPart")
            whole = _joined(held, begun.headers)
            if not put(whole):
                return error(412, "PreconditionFailed")
            del self._begun[asked.query["uploadId"]]
        said = f"<Key>{escape(asked.key)}</Key><ETag>{escape(whole.etag)}</ETag>"
        return xml(f"<CompleteMultipartUploadResult>{said}</CompleteMultipartUploadResult>")

    def abort(self, asked: Asked) -> Reply:
        with self._lock:
            if self._of(asked) is None:
                return error(404, "NoSuchUpload")
            del self._begun[asked.query["uploadId"]]
        return Reply(204)

    def list_uploads(self, asked: Asked) -> Reply:
        prefix = asked.query.get("prefix", "")
        told = "".join(
            f"<Upload><Key>{escape(begun.key)}</Key><UploadId>{upload_id}</UploadId>"
            f"<Initiated>{begun.begun_at:%Y-%m-%dT%H:%M:%S.000Z}</Initiated></Upload>"
            for upload_id, begun in sorted(self.open.items())
            if begun.bucket == asked.bucket and begun.key.startswith(prefix)
        )
        return xml(
            "<ListMultipartUploadsResult><IsTruncated>false</IsTruncated>"
            f"{told}</ListMultipartUploadsResult>"
        )

    def _of(self, asked: Asked) -> Begun | None:
        begun = self._begun.get(asked.query.get("uploadId", ""))
        is_it = begun is not None and (begun.bucket, begun.key) == (asked.bucket, asked.key)
        return begun if is_it else None


def _joined(parts: list[Held], headers: Mapping[str, str]) -> Held:
    """One object of its parts. Its ETag is made of theirs, right or wrong."""
    body = b"".join(part.body for part in parts)
    md5s = b"".join(bytes.fromhex(part.etag.strip('"')) for part in parts)
    etag = f'"{hashlib.md5(md5s, usedforsecurity=False).hexdigest()}-{len(parts)}"'
    sha256 = base64.b64encode(hashlib.sha256(body).digest()).decode()
    size_bytes = len(body)
    return replace(
        parts[0], body=body, size_bytes=size_bytes, etag=etag, sha256=sha256, headers=headers
    )


def _name(node: ET.Element) -> str:
    return node.tag.rpartition("}")[2]


def _text(node: ET.Element, name: str) -> str:
    return next((it.text or "" for it in node if _name(it) == name), "")
