"""The user's own objects in one bucket behind an S3 API, by boto3.

Its answers are typed, it signs all that a URL can say, and it can copy: obstore can neither.
What is put carries its signed SHA-256, so a store that checks it refuses damaged bytes.
"""

from __future__ import annotations

import re
import threading
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from botocore.exceptions import ClientError

from archiver.errors import (
    KeyTaken,
    NotOffered,
    ObjectChanged,
    ObjectDenied,
    ObjectMissing,
    RangeOutside,
    StoreDenied,
)
from archiver.formats.disposition import disposition_header
from archiver.model import Capabilities, ListedObject, ObjectHead, SignedUrl
from archiver.stores.cold_boto3 import length_of
from archiver.stores.cold_bucket import WRITES, put_headers
from archiver.stores.deadlines import require_time
from archiver.stores.probe import probe_cold
from archiver.stores.s3_answers import Asked, check_name, told_by_botocore
from archiver.stores.s3_bodies import READ_BYTES, require_whole
from archiver.stores.s3_multipart import S3Multipart
from archiver.stores.s3_questions import Questions, encryption, whole_digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from archiver.model import Digest, Disposition, ObjectFacts, PartRules
    from archiver.protocols import Multipart
    from archiver.stores.providers import Provider
    from archiver.stores.s3 import S3Settings

_COPY_LIMIT_BYTES = 5 << 30  # of one CopyObject, by the S3 API
_CONTENT_RANGE = re.compile(r"bytes (?:(\d{1,15})-(\d{1,15})|\*)/(\d{1,15})")
_MD5_ETAG = re.compile(r'"?([0-9a-f]{32})"?')
_UNKNOWN = Capabilities(
    enforces_signed_digest=False, enforces_create=False, returns_digest=False
)
_OUT_OF_RANGE = 416

# What an object says of itself and a copy with new metadata would drop.
_KEPT = (
    "CacheControl",
    "ContentDisposition",
    "ContentEncoding",
    "ContentLanguage",
    "StorageClass",
    "WebsiteRedirectLocation",
    "ServerSideEncryption",
    "SSEKMSKeyId",
    "BucketKeyEnabled",
    "ObjectLockMode",
    "ObjectLockRetainUntilDate",
    "ObjectLockLegalHoldStatus",
)


class S3ObjectStore:
    """One bucket. Safe to share between threads.

    Args:
        settings: Where the account is; storage class and encryption of what is put.
        provider: What is known of the product.
        bucket: Where the objects are.
        path_prefix: Below which archiver works in that bucket: empty, or ending in a slash.
        capabilities: What a probe of the bucket found; None: it is probed when that first
            matters, which leaves objects below `{path_prefix}.archiver/`.
        store: What errors call it.
    """

    def __init__(
        self,
        settings: S3Settings,
        provider: Provider,
        bucket: str,
        path_prefix: str = "",
        capabilities: Capabilities | None = None,
        *,
        store: Literal["hot", "cold"] = "cold",
    ) -> None:
        self._settings = settings
        self._provider = provider
        self._bucket = bucket
        self._path_prefix = path_prefix
        self._store = store
        # A put may be of any size: the limit is the caller's, on the whole transfer.
        self._asker = Questions(settings, bounds_requests=False)
        self._client = self._asker.client
        self._found = capabilities
        self._probing = threading.Lock()

    @property
    def name(self) -> str:
        return self._store

    @property
    def part_rules(self) -> PartRules:
        return self._provider.part_rules

    def where(self, key: str) -> str:
        return f"{self._bucket}/{key}"

    # --- reading --------------------------------------------------------------------------

    def head(self, key: str) -> ObjectHead | None:
        asked = self._asked("head", key)
        try:
            head = self._head(asked)
        except ObjectMissing:
            return None
        return _head_of(asked, head, length_of(head, asked))

    def _head(self, asked: Asked) -> Mapping[str, Any]:
        # Asked for it, AWS wants to decrypt: who may only look would be refused.
        tells = self._found is not None and self._found.returns_digest
        mode: dict[str, Any] = {"ChecksumMode": "ENABLED"} if tells else {}
        with self._asker.translate(asked):
            return self._client.head_object(Bucket=self._bucket, Key=asked.key or "", **mode)

    @contextmanager
    def open(
        self, key: str, start: int = 0, stop: int | None = None, *, etag: str | None = None
    ) -> Iterator[_S3Body]:
        asked = self._asked("read", key)
        said: dict[str, Any] = {}
        if etag is not None:
            said["IfMatch"] = etag
        is_range = start > 0 or stop is not None
        if is_range:
            said["Range"] = f"bytes={start}-{'' if stop is None else stop - 1}"
        answer = self._get(asked, said, start, stop)
        with closing(answer["Body"]):
            length_bytes = length_of(answer, asked)
            size_bytes = _whole_size(asked, answer, start) if is_range else length_bytes
            head = _head_of(asked, answer, size_bytes)
            if etag is not None and head.etag != etag:  # a store that knows no condition
                raise _changed(asked, etag, str(head.etag))
            if stop is not None and stop > size_bytes:
                raise _outside(asked, start, stop, size_bytes)
            if length_bytes != (size_bytes if stop is None else stop) - start:
                raise asked.unavailable(code="another range", message=f"{length_bytes} bytes")
            yield _S3Body(head, asked, self._asker, answer["Body"], length_bytes)

    def _get(
        self, asked: Asked, said: Mapping[str, Any], start: int, stop: int | None
    ) -> Mapping[str, Any]:
        with self._asker.translate(asked):
            try:
                return self._client.get_object(Bucket=self._bucket, Key=asked.key or "", **said)
            except ClientError as exc:
                told = told_by_botocore(exc)
                if told.is_condition:
                    raise _changed(asked, said["IfMatch"], "another one") from exc
                if told.status != _OUT_OF_RANGE:
                    raise
        raise _outside(asked, start, stop, length_of(self._head(asked), asked))

    def list(self, prefix: str) -> Iterator[ListedObject]:
        asked = self._asked("list")
        for item in self._asker.objects(asked, prefix):
            modified_at = item.get("LastModified")
            yield ListedObject(item["Key"], item["Size"], item.get("ETag"), modified_at)

    def held_md5(self, key: str) -> bytes | None:
        """The ETag, of a bucket where a probe has seen that it is one."""
        asked = self._asked("md5", key)
        head = self._head(asked)
        etag = _MD5_ETAG.fullmatch(head.get("ETag", ""))
        is_of_others = head.get("ServerSideEncryption", "AES256") != "AES256"
        if etag is None or is_of_others or "SSECustomerAlgorithm" in head:
            return None
        try:
            return bytes.fromhex(etag[1]) if self._capabilities().etag_is_md5 else None
        except (StoreDenied, ObjectDenied):  # keys that may only read cannot try it out
            return None

    def held_sha256(self, key: str) -> Digest | None:
        try:
            return self._asker.held_digest(self._asked("sha256", key))
        except ObjectDenied:  # who may look and not decrypt
            return None

    # --- writing --------------------------------------------------------------------------

    def put(
        self,
        key: str,
        pieces: Iterable[bytes],
        size_bytes: int | None,  # noqa: ARG002  # one request needs all of it at once
        facts: ObjectFacts,
        *,
        create_only: bool,
    ) -> str | None:
        asked = self._asked("put", key)
        body = b"".join(pieces)
        headers = put_headers(self._settings, facts.content_type, facts.content_encoding)
        said: dict[str, Any] = {name.replace("-", ""): it for name, it in headers.items()}
        if create_only and self._has_condition(asked):
            said["IfNoneMatch"] = "*"
        with self._asker.translate(asked):
            answer = self._client.put_object(
                Bucket=self._bucket,
                Key=key,
                Body=body,
                Metadata=facts.metadata,
                **said,
                **encryption(self._settings),
            )
        etag = answer.get("ETag")
        if not etag:
            raise asked.unavailable(code="no etag")  # nothing says that an object was made
        return etag

    def _has_condition(self, asked: Asked) -> bool:
        """Whether this store itself refuses to create what is there.

        Raises:
            KeyTaken: It does not, and the key is in use now.
        """
        if self._capabilities().enforces_create:
            return True
        if self.head(asked.key or "") is not None:
            raise KeyTaken(where=asked.where)
        return False

    def multipart(self, key: str, *, create_only: bool) -> Multipart:
        """Where a refused one costs its parts, as on R2, they are of no use any more."""
        conditional = create_only and self._has_condition(self._asked("put", key))
        found = self._found or _UNKNOWN
        return S3Multipart(
            self._settings,
            self._bucket,
            self._provider.part_rules,
            replace(found, keeps_refused_parts=conditional),
            lambda: self._asker,
            self._asked,
            partial(put_headers, self._settings),
        )

    def delete(self, key: str) -> None:
        asked = self._asked("delete", key)
        try:
            with self._asker.translate(asked):
                self._client.delete_object(Bucket=self._bucket, Key=key)
        except ObjectMissing:  # most stores say nothing of it
            return

    def set_content_type(self, key: str, content_type: str) -> None:
        """By a copy onto itself. What the API does not tell of an object is lost: its ACL."""
        asked = self._asked("set_content_type", key)
        head = self._head(asked)
        size_bytes = length_of(head, asked)
        if size_bytes > _COPY_LIMIT_BYTES:
            limit = f"{size_bytes} bytes; one copy takes {_COPY_LIMIT_BYTES}"
            raise self._not_offered(asked, limit)
        kept: dict[str, Any] = {name: head[name] for name in _KEPT if name in head}
        if "ExpiresString" in head:
            kept["Expires"] = head["ExpiresString"]
        etag = head.get("ETag", "")
        with self._asker.translate(asked):
            try:
                answer = self._client.copy_object(
                    Bucket=self._bucket,
                    Key=key,
                    CopySource={"Bucket": self._bucket, "Key": key},
                    CopySourceIfMatch=etag,
                    MetadataDirective="REPLACE",
                    Metadata=head.get("Metadata", {}),
                    ContentType=content_type,
                    **kept,
                )
            except ClientError as exc:
                if told_by_botocore(exc).is_condition:
                    raise _changed(asked, etag, "another one") from exc
                raise
        if not answer.get("CopyObjectResult", {}).get("ETag"):
            raise asked.unavailable(code="no etag")

    # --- URLs -----------------------------------------------------------------------------

    def signed_get(
        self,
        key: str,
        lifetime_seconds: int,
        *,
        disposition: Disposition | None,
        content_type: str | None,
    ) -> SignedUrl:
        said: dict[str, Any] = {}
        if disposition is not None:
            said["ResponseContentDisposition"] = disposition_header(disposition)
        if content_type is not None:
            said["ResponseContentType"] = content_type
        url, expires_at = self._sign("get_object", key, said, lifetime_seconds)
        return SignedUrl("GET", url, {}, expires_at)

    def signed_put(
        self, key: str, lifetime_seconds: int, *, content_type: str | None, create_only: bool
    ) -> SignedUrl:
        """Class and encryption are those of the bucket: whoever has the URL need not know."""
        asked = self._asked("sign", key)
        said: dict[str, Any] = {}
        headers: dict[str, str] = {}
        if content_type is not None:
            said["ContentType"] = headers["Content-Type"] = content_type
        if create_only:
            if not self._capabilities().enforces_create:
                raise self._not_offered(asked, "it writes over what is there")
            said["IfNoneMatch"] = headers["If-None-Match"] = "*"
        url, expires_at = self._sign("put_object", key, said, lifetime_seconds)
        return SignedUrl("PUT", url, headers, expires_at)

    def _sign(
        self,
        operation: Literal["get_object", "put_object"],
        key: str,
        said: Mapping[str, Any],
        lifetime_seconds: int,
    ) -> tuple[str, datetime]:
        asked = self._asked("sign", key)
        expires_at = datetime.now(UTC) + timedelta(seconds=lifetime_seconds)
        with self._asker.translate(asked):
            url = self._client.generate_presigned_url(
                operation,
                Params={"Bucket": self._bucket, "Key": key, **said},
                ExpiresIn=lifetime_seconds,
            )
        return url, expires_at

    # --- the rest -------------------------------------------------------------------------

    def close(self) -> None:
        self._asker.close()

    def _capabilities(self) -> Capabilities:
        with self._probing:
            if self._found is None:
                self._found = probe_cold(
                    self._settings, self._provider, self._bucket, self._path_prefix
                )
            return self._found

    def _asked(self, operation: str, key: str | None = None) -> Asked:
        """Name a question, for its errors.

        Raises:
            UnusableName: It would reach the store under another name.
            TransferTimeout: The limit is reached.
        """
        require_time()
        writes = operation in WRITES
        asked = Asked(self._store, operation, self._bucket, key, writes, self._asker.secrets)
        check_name(asked)
        return asked

    def _not_offered(self, asked: Asked, reason: str) -> NotOffered:
        return NotOffered(
            store=self._store, operation=asked.operation, where=asked.where, reason=reason
        )


class _S3Body:
    """A body on the wire."""

    def __init__(
        self, head: ObjectHead, asked: Asked, asker: Questions, body: Any, length_bytes: int
    ) -> None:
        self._head = head
        self._asked = asked
        self._asker = asker
        self._body = body
        self._length_bytes = length_bytes

    @property
    def head(self) -> ObjectHead:
        return self._head

    def __iter__(self) -> Iterator[bytes]:
        seen_bytes = 0
        while seen_bytes <= self._length_bytes and (buffer := self._read()):
            seen_bytes += len(buffer)
            yield buffer
        require_whole(self._asked, seen_bytes, self._length_bytes)

    def _read(self) -> bytes:
        require_time()
        with self._asker.translate(self._asked):
            buffer: bytes = self._body.read(READ_BYTES)
            return buffer


def _head_of(asked: Asked, answer: Mapping[str, Any], size_bytes: int) -> ObjectHead:
    return ObjectHead(
        asked.key or "",
        size_bytes,
        answer.get("ETag"),
        answer.get("LastModified"),
        answer.get("ContentType"),
        answer.get("ContentEncoding"),
        {name.lower(): said for name, said in answer.get("Metadata", {}).items()},
        whole_digest(answer.get("ChecksumSHA256")),
    )


def _whole_size(asked: Asked, answer: Mapping[str, Any], start: int) -> int:
    """The size of the whole object, of which an answer brings a range.

    Raises:
        StoreUnavailable: It brings something else.
    """
    said = _CONTENT_RANGE.fullmatch(answer.get("ContentRange", ""))
    if said is None or said[1] is None or int(said[1]) != start:
        raise asked.unavailable(code="another range", message=answer.get("ContentRange", ""))
    return int(said[3])


def _outside(asked: Asked, start: int, stop: int | None, size_bytes: int) -> RangeOutside:
    return RangeOutside(where=asked.where, start=start, stop=stop, size_bytes=size_bytes)


def _changed(asked: Asked, expected: str, seen: str) -> ObjectChanged:
    return ObjectChanged(where=asked.where, expected=expected, seen=seen)
