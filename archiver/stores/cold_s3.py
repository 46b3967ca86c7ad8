"""A bucket behind an S3 API as a cold store. It overwrites nothing and deletes nothing."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import obstore

from archiver.errors import ObjectMissing
from archiver.model import ColdKey, ColdObject, ColdStat, Digest
from archiver.stores.cold_bucket import ColdBucket, stat_of_put
from archiver.stores.s3 import S3
from archiver.stores.s3_bodies import buffers_of, range_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from obstore import Attributes, GetResult, ObjectMeta

    from archiver.model import Buffer, Capabilities, Secret
    from archiver.stores.providers import Provider
    from archiver.stores.s3 import S3Settings
    from archiver.stores.s3_answers import Asked
    from archiver.stores.s3_questions import Questions

_HEADERS = {
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-type",
    "storage-class",
}


class S3ColdStore(ColdBucket):
    """By obstore. Safe to share between threads."""

    def __init__(
        self,
        settings: S3Settings,
        provider: Provider,
        bucket: str,
        path_prefix: str,
        capabilities: Capabilities,
    ) -> None:
        super().__init__(settings, provider, bucket, path_prefix, capabilities)
        self._s3 = S3(settings, "cold", sends_checksum=capabilities.returns_digest)

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
        attributes: Attributes = {
            **metadata,
            **self._put_headers(content_type, content_encoding),
        }
        self._s3.pace.wait(len(body))
        with self._s3.translate(asked):
            result = obstore.put(
                self._s3.bucket(self._bucket),
                key,
                body,
                attributes=attributes,
                mode="create" if self._capabilities.enforces_create else "overwrite",
                use_multipart=False,  # one request, whatever the size: at once or not at all
            )
        return stat_of_put(asked, key, len(body), result["e_tag"])

    def stat_many(self, keys: Sequence[ColdKey]) -> Mapping[ColdKey, ColdStat | None]:
        found = self._s3.find(
            "stat", self._bucket, keys, list_pays_from=self._provider.list_pays_from
        )
        return {key: _stat(key, meta) if (meta := found[key]) else None for key in keys}

    def look(self, key: ColdKey) -> ColdObject | None:
        asked = self._asked("look", key)
        self._s3.pace.wait()
        try:
            with self._s3.translate(asked):
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

    def readback(self, key: ColdKey) -> Digest:
        asked, result = self._get("readback", key)
        sha256 = hashlib.sha256()
        with self._s3.translate(asked):
            for buffer in buffers_of(asked, result):
                sha256.update(buffer)
        return Digest(sha256.digest())

    def read(self, key: ColdKey) -> bytes:
        asked, result = self._get("read", key)
        with self._s3.translate(asked):
            return b"".join(buffers_of(asked, result))

    def read_range(self, stat: ColdStat, start: int, stop: int) -> Buffer:
        asked = self._asked("read", stat.key)
        expected = stat.size_bytes, stat.etag
        self._s3.pace.wait(stop - start)
        with self._s3.translate(asked):
            with asked.on_condition(expected):
                result = obstore.get(
                    self._s3.bucket(self._bucket),
                    stat.key,
                    options={"range": (start, stop), "if_match": stat.etag},
                )
            asked.require_same(expected, (result.meta["size"], result.meta["e_tag"]))
            return range_of(asked, result, start, stop)

    def signed_url(self, where: ColdKey, lifetime_seconds: int) -> str:
        return self._s3.signed_url(self._asked("sign", where), lifetime_seconds)

    def close(self) -> None:
        self._s3.close()

    def _get(self, operation: str, key: ColdKey) -> tuple[Asked, GetResult]:
        asked = self._asked(operation, key)
        with self._s3.pace.reading() as reading, self._s3.translate(asked):
            result = obstore.get(self._s3.bucket(self._bucket), key)
            reading.size_bytes = result.meta["size"]
        return asked, result

    def _secrets(self) -> tuple[Secret, ...]:
        return self._s3.secrets

    def _questions(self) -> Questions:
        return self._s3.questions()


def _stat(key: ColdKey, meta: ObjectMeta) -> ColdStat:
    return ColdStat(key, meta["size"], meta["e_tag"])
