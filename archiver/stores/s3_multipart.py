"""Objects sent in parts to a bucket, by boto3: upload ids, ListParts, and typed refusals.

Imported when a first object is sent so. Retries nothing by itself.

MinIO lists the uploads of one key alone: `open_uploads` of a mere beginning finds none there.
"""

from __future__ import annotations

import base64
import hashlib
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from archiver.errors import UploadMissing
from archiver.model import ColdKey, ColdStat, OpenUpload, StoredPart
from archiver.stores.cold_bucket import stat_of_put
from archiver.stores.s3_questions import encryption

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from mypy_boto3_s3.type_defs import (
        CompletedPartTypeDef,
        ListMultipartUploadsOutputTypeDef,
    )

    from archiver.model import Buffer, Capabilities, Part, PartRules
    from archiver.stores.s3 import S3Settings
    from archiver.stores.s3_answers import Asked
    from archiver.stores.s3_questions import Questions

_ID_LIMIT = 4_096  # characters; those of known products have some hundreds at most
_EMPTY_PAGES = 100  # in a row, after which a listing is taken to have no end


@dataclass(frozen=True, slots=True)
class S3Multipart:
    """The uploads of one bucket. Safe to share between threads."""

    settings: S3Settings
    bucket: str
    rules: PartRules
    capabilities: Capabilities
    questions: Callable[[], Questions]  # opened when they are first needed
    asked: Callable[[str, ColdKey | None], Asked]
    put_headers: Callable[[str | None, str | None], Mapping[str, str]]

    def begin(
        self,
        key: ColdKey,
        *,
        part_bytes: int,  # noqa: ARG002  # S3 takes what comes, or refuses it at the end
        metadata: Mapping[str, str],
        content_type: str | None,
        content_encoding: str | None,
    ) -> OpenUpload:
        asked = self.asked("begin", key)
        headers = self.put_headers(content_type, content_encoding)
        said: dict[str, Any] = {name.replace("-", ""): it for name, it in headers.items()}
        if self.capabilities.returns_digest:
            said |= {"ChecksumAlgorithm": "SHA256"}
        questions = self.questions()
        with questions.translate(asked):
            answer = questions.client.create_multipart_upload(
                Bucket=self.bucket,
                Key=key,
                Metadata=metadata,
                **said,
                **encryption(self.settings),
            )
        upload_id = answer.get("UploadId", "")
        if not 0 < len(upload_id) <= _ID_LIMIT:
            raise asked.unavailable(code="no upload id")
        return OpenUpload(key, upload_id)

    def put_part(self, upload: OpenUpload, number: int, body: Buffer) -> str:
        asked = self.asked("put_part", upload.key)
        said: dict[str, Any] = {}
        if self.capabilities.returns_digest:
            said["ChecksumSHA256"] = _as_header(hashlib.sha256(body).digest())
        questions = self.questions()
        told = cast("bytes", body)  # its stubs know no bytearray
        with questions.translate(asked):
            answer = questions.client.upload_part(
                **self._named(upload), PartNumber=number, Body=told, **said
            )
        etag = answer.get("ETag")
        if not etag:
            raise asked.unavailable(code="no etag")
        return etag

    def parts(self, upload: OpenUpload) -> Sequence[StoredPart]:
        asked = self.asked("parts", upload.key)
        found: dict[int, StoredPart] = {}
        start: dict[str, Any] = {}
        questions = self.questions()
        while True:
            with questions.translate(asked):
                page = questions.client.list_parts(**self._named(upload), **start)
            told = [_stored(it, asked, self.rules.max_count) for it in page.get("Parts", ())]
            if not page.get("IsTruncated"):
                break
            # By what is new, not by the marker: some count parts where others number them.
            if all(part.number in found for part in told):
                raise asked.unavailable(code="endless listing")
            found |= {part.number: part for part in told}
            start = {"PartNumberMarker": max(part.number for part in told)}
        found |= {part.number: part for part in told}
        return sorted(found.values(), key=lambda part: part.number)

    def complete(self, upload: OpenUpload, parts: Sequence[Part]) -> ColdStat:
        asked = self.asked("complete", upload.key)
        # Elsewhere a refusal might cost the parts, or the condition is not even looked at.
        condition: dict[str, Any] = {}
        if self.capabilities.keeps_refused_parts:
            condition["IfNoneMatch"] = "*"
        questions = self.questions()
        with questions.translate(asked):
            answer = questions.client.complete_multipart_upload(
                **self._named(upload),
                MultipartUpload={"Parts": [self._said_of(part) for part in parts]},
                **condition,
            )
        size_bytes = sum(part.size_bytes for part in parts)
        return stat_of_put(asked, upload.key, size_bytes, answer.get("ETag"))

    def abort(self, upload: OpenUpload) -> None:
        questions = self.questions()
        with suppress(UploadMissing), questions.translate(self.asked("abort", upload.key)):
            questions.client.abort_multipart_upload(**self._named(upload))

    def open_uploads(self, prefix: str) -> Iterator[OpenUpload]:
        asked = self.asked("open_uploads", None)
        questions = self.questions()
        seen: set[tuple[str, str]] = set()  # the first of each page
        start: dict[str, Any] = {}
        empty_count = 0
        while True:
            with questions.translate(asked):
                page = questions.client.list_multipart_uploads(
                    Bucket=self.bucket, Prefix=prefix, **start
                )
            uploads = list(_uploads(page, asked))
            yield from (it for it in uploads if it.key.startswith(prefix))
            if not page.get("IsTruncated"):
                return
            empty_count = 0 if uploads else empty_count + 1
            first = {(it.key, it.upload_id) for it in uploads[:1]}
            said = {
                "KeyMarker": page.get("NextKeyMarker"),
                "UploadIdMarker": page.get("NextUploadIdMarker"),
            }
            start = {name: marker for name, marker in said.items() if marker}
            if empty_count > _EMPTY_PAGES or first & seen or not start:
                raise asked.unavailable(code="endless listing")
            seen |= first

    def _named(self, upload: OpenUpload) -> dict[str, Any]:
        return {"Bucket": self.bucket, "Key": upload.key, "UploadId": upload.upload_id}

    def _said_of(self, part: Part) -> CompletedPartTypeDef:
        said: CompletedPartTypeDef = {"PartNumber": part.number, "ETag": part.etag}
        if self.capabilities.returns_digest:
            said["ChecksumSHA256"] = _as_header(part.digest.raw)
        return said


def _as_header(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


def _stored(said: Mapping[str, Any], asked: Asked, max_count: int) -> StoredPart:
    """One part of an answer to ListParts.

    Raises:
        StoreUnavailable: It is none.
    """
    number, size_bytes = said.get("PartNumber"), said.get("Size")
    etag = said.get("ETag")
    if number is None or size_bytes is None or not etag or not 1 <= number <= max_count:
        raise asked.unavailable(code="not a listing")
    return StoredPart(number, size_bytes, etag)


def _uploads(page: ListMultipartUploadsOutputTypeDef, asked: Asked) -> Iterator[OpenUpload]:
    for said in page.get("Uploads", ()):
        key, upload_id = said.get("Key"), said.get("UploadId")
        if not key or not upload_id:
            raise asked.unavailable(code="not a listing")
        yield OpenUpload(ColdKey(key), upload_id, said.get("Initiated"))
