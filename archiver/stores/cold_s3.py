"""A bucket behind an S3 API as a cold store. It overwrites nothing and deletes nothing."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import obstore

from archiver.errors import ObjectMissing
from archiver.model import ColdKey, ColdLocation, ColdObject, ColdStat, Digest
from archiver.stores.s3 import S3

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from obstore import Attributes, GetResult, ObjectMeta

    from archiver.model import Capabilities
    from archiver.stores.providers import Provider
    from archiver.stores.s3 import S3Settings
    from archiver.stores.s3_answers import Asked

_READ_BYTES = 1 << 20
_HEADERS = {
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-type",
    "storage-class",
}


class S3ColdStore:
    """Keys are whole: the path prefix is part of them. Safe to share between threads.

    Args:
        settings: Where the account is.
        provider: What is known of the product.
        bucket: Where everything goes.
        path_prefix: Empty, or ending in a slash.
        capabilities: What the probe of this bucket found (`probe.py`).
    """

    def __init__(
        self,
        settings: S3Settings,
        provider: Provider,
        bucket: str,
        path_prefix: str,
        capabilities: Capabilities,
    ) -> None:
        self._s3 = S3(settings, "cold", sends_checksum=capabilities.returns_digest)
        self._provider = provider
        self._bucket = bucket
        self._path_prefix = path_prefix
        self._capabilities = capabilities

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    @property
    def path_prefix(self) -> str:
        return self._path_prefix

    def location(self, key: ColdKey) -> ColdLocation:
        return ColdLocation(self._provider.name, self._bucket, key)

    def create(
        self,
        key: ColdKey,
        body: bytes,
        *,
        metadata: Mapping[str, str],
        content_type: str | None,
        content_encoding: str | None,
    ) -> ColdStat:
        asked = self._asked("create", key)
        with self._s3.translate(asked):
            result = obstore.put(
                self._s3.bucket(self._bucket),
                key,
                body,
                attributes=self._attributes(metadata, content_type, content_encoding),
                mode="create" if self._capabilities.enforces_create else "overwrite",
                use_multipart=False,  # one request, whatever the size: at once or not at all
            )
        if not result["e_tag"]:  # nothing says that an object was made
            raise asked.unavailable(code="no etag")
        return ColdStat(key, len(body), result["e_tag"])

    def stat_many(self, keys: Sequence[ColdKey]) -> Mapping[ColdKey, ColdStat | None]:
        found = self._s3.find(
            "stat", self._bucket, keys, list_pays_from=self._provider.list_pays_from
        )
        return {key: _stat(key, meta) if (meta := found[key]) else None for key in keys}

    def look(self, key: ColdKey) -> ColdObject | None:
        try:
            with self._s3.translate(self._asked("look", key)):
                result = obstore.get(self._s3.bucket(self._bucket), key, options={"head": True})
        except ObjectMissing:
            return None
        said = {name.lower(): value for name, value in result.attributes.items()}
        return ColdObject(
            _stat(key, result.meta),
            {name: value for name, value in said.items() if name not in _HEADERS},
            said.get("content-type"),
            said.get("content-encoding"),
        )

    def held_digest(self, key: ColdKey) -> Digest | None:
        return self._s3.questions().held_digest(self._asked("held_digest", key))

    def readback(self, key: ColdKey) -> Digest:
        asked, result = self._get("readback", key)
        sha256, size_bytes = hashlib.sha256(), 0
        with self._s3.translate(asked):
            for buffer in result.stream(min_chunk_size=_READ_BYTES):
                sha256.update(buffer)
                size_bytes += len(buffer)
        _require_whole(asked, size_bytes, result)
        return Digest(sha256.digest())

    def read(self, key: ColdKey) -> bytes:
        asked, result = self._get("read", key)
        with self._s3.translate(asked):
            body = bytes(result.bytes())
        _require_whole(asked, len(body), result)
        return body

    def list(self, prefix: str) -> Iterator[ColdStat]:
        # By boto3: obstore's prefixes are whole directories, and its keys not always the
        # store's (`a/` reads as `a`).
        asked = self._s3.asked("list", self._bucket)
        for item in self._s3.questions().objects(asked, prefix):
            yield ColdStat(ColdKey(item["Key"]), item["Size"], item.get("ETag"))

    def signed_url(self, where: ColdKey, lifetime_seconds: int) -> str:
        return self._s3.signed_url(self._asked("sign", where), lifetime_seconds)

    def close(self) -> None:
        self._s3.close()

    def _attributes(
        self,
        metadata: Mapping[str, str],
        content_type: str | None,
        content_encoding: str | None,
    ) -> Attributes:
        attributes: Attributes = dict(metadata)
        if self._s3.settings.storage_class is not None:
            attributes["Storage-Class"] = self._s3.settings.storage_class
        if content_type is not None:
            attributes["Content-Type"] = content_type
        if content_encoding is not None:
            attributes["Content-Encoding"] = content_encoding
            # Else some stores decode it on the way out, and a readback sees other bytes.
            attributes["Cache-Control"] = "no-transform"
        return attributes

    def _asked(self, operation: str, key: ColdKey) -> Asked:
        return self._s3.asked(operation, self._bucket, key)

    def _get(self, operation: str, key: ColdKey) -> tuple[Asked, GetResult]:
        asked = self._asked(operation, key)
        with self._s3.translate(asked):
            return asked, obstore.get(self._s3.bucket(self._bucket), key)


def _stat(key: ColdKey, meta: ObjectMeta) -> ColdStat:
    return ColdStat(key, meta["size"], meta["e_tag"])


def _require_whole(asked: Asked, size_bytes: int, result: GetResult) -> None:
    if size_bytes != result.meta["size"]:
        raise asked.unavailable(
            code="cut", message=f"{size_bytes} of {result.meta['size']} bytes"
        )
