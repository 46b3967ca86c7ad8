"""The cold store by boto3 alone, for who wants its ways to the store and no others.

It takes more time and CPU an object than obstore. Its answers are typed, so most need no
second question. Imported only where it is chosen.
"""

from __future__ import annotations

import base64
import hashlib
import re
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from archiver.errors import ObjectMissing, StoreDenied
from archiver.model import ColdKey, ColdObject, ColdStat, Digest
from archiver.stores.cold_bucket import ColdBucket, stat_of_put
from archiver.stores.deadlines import ends_in, one_request
from archiver.stores.s3_answers import told_by_botocore
from archiver.stores.s3_bodies import READ_BYTES, require_whole
from archiver.stores.s3_listing import Listed, find
from archiver.stores.s3_questions import Questions, encryption

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from archiver.model import Capabilities, Secret
    from archiver.stores.providers import Provider
    from archiver.stores.s3 import S3Settings
    from archiver.stores.s3_answers import Asked

_NOT_FOUND = 404
_SIZE = re.compile("[0-9]{1,15}")


class Boto3ColdStore(ColdBucket):
    """By boto3. Safe to share between threads, as its client is."""

    def __init__(
        self,
        settings: S3Settings,
        provider: Provider,
        bucket: str,
        path_prefix: str,
        capabilities: Capabilities,
    ) -> None:
        super().__init__(settings, provider, bucket, path_prefix, capabilities)
        self._asker = Questions(settings)
        self._client = self._asker.client

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
        headers = self._put_headers(content_type, content_encoding)
        said: dict[str, Any] = {name.replace("-", ""): said for name, said in headers.items()}
        if self._capabilities.enforces_create:
            said["IfNoneMatch"] = "*"
        if self._capabilities.returns_digest:
            said["ChecksumSHA256"] = base64.b64encode(hashlib.sha256(body).digest()).decode()
        with self._asker.translate(asked):
            answer = self._client.put_object(
                Bucket=self._bucket,
                Key=key,
                Body=body,
                Metadata=metadata,
                **said,
                **encryption(self._settings),
            )
        return stat_of_put(asked, key, len(body), answer.get("ETag"))

    def stat_many(self, keys: Sequence[ColdKey]) -> Mapping[ColdKey, ColdStat | None]:
        for key in keys:
            self._asked("stat", key)
        requests = _Requests(self._asker, self._asked)
        found = find(requests, keys, self._provider.list_pays_from)
        return {
            key: ColdStat(key, item["size"], item["e_tag"]) if (item := found[key]) else None
            for key in keys
        }

    def look(self, key: ColdKey) -> ColdObject | None:
        asked = self._asked("look", key)
        try:
            with self._asker.translate(asked):
                head = self._client.head_object(Bucket=self._bucket, Key=key)
        except ObjectMissing:
            return None
        return ColdObject(
            ColdStat(key, length_of(head, asked), head.get("ETag")),
            {name.lower(): said for name, said in head.get("Metadata", {}).items()},
            head.get("ContentType"),
            head.get("ContentEncoding"),
        )

    def readback(self, key: ColdKey) -> Digest:
        sha256 = hashlib.sha256()
        for buffer in self._buffers("readback", key):
            sha256.update(buffer)
        return Digest(sha256.digest())

    def read(self, key: ColdKey) -> bytes:
        return b"".join(self._buffers("read", key))

    def read_range(self, stat: ColdStat, start: int, stop: int) -> bytes:
        asked = self._asked("read", stat.key)
        expected = stat.size_bytes, stat.etag
        condition: dict[str, Any] = {} if stat.etag is None else {"IfMatch": stat.etag}
        ends_at = ends_in(self._settings.timeout_seconds)
        with self._asker.translate(asked):
            with asked.on_condition(expected):
                answer = self._client.get_object(
                    Bucket=self._bucket,
                    Key=stat.key,
                    Range=f"bytes={start}-{stop - 1}",
                    **condition,
                )
            with closing(answer["Body"]) as body:
                seen_bytes = _whole_size(answer, asked, start, stop)
                asked.require_same(expected, (seen_bytes, answer.get("ETag")))
                buffers, size_bytes = [], 0
                with one_request(ends_at):
                    while size_bytes <= stop - start and (buffer := body.read(READ_BYTES)):
                        size_bytes += len(buffer)
                        buffers.append(buffer)
        require_whole(asked, size_bytes, stop - start)
        return b"".join(buffers)

    def signed_url(self, where: ColdKey, lifetime_seconds: int) -> str:
        asked = self._asked("sign", where)
        with self._asker.translate(asked):
            return self._client.generate_presigned_url(
                "get_object",
                Params={"Bucket": self._bucket, "Key": where},
                ExpiresIn=lifetime_seconds,
            )

    def close(self) -> None:
        self._asker.close()

    def _buffers(self, operation: str, key: ColdKey) -> Iterator[bytes]:
        """The stored bytes as they come, never decoded; all of them, or an error."""
        asked, size_bytes = self._asked(operation, key), 0
        ends_at = ends_in(self._settings.timeout_seconds)
        with self._asker.translate(asked):
            answer = self._client.get_object(Bucket=self._bucket, Key=key)
            with closing(answer["Body"]) as body:
                declared_bytes = length_of(answer, asked)
                while size_bytes <= declared_bytes:
                    with one_request(ends_at):
                        buffer = body.read(READ_BYTES)
                    if not buffer:
                        break
                    size_bytes += len(buffer)
                    yield buffer
        require_whole(asked, size_bytes, declared_bytes)

    def _secrets(self) -> tuple[Secret, ...]:
        return self._asker.secrets

    def _questions(self) -> Questions:
        return self._asker


def _whole_size(answer: Mapping[str, Any], asked: Asked, start: int, stop: int) -> int:
    """The size of the object, of which this range is on its way.

    Raises:
        StoreUnavailable: It is another range, or the whole object.
    """
    range_, _, size = str(answer.get("ContentRange", "")).partition("/")
    if range_ != f"bytes {start}-{stop - 1}" or not _SIZE.fullmatch(size):
        raise asked.unavailable(code="another range")
    return int(size)


def length_of(answer: Mapping[str, Any], asked: Asked) -> int:
    """The size an answer declares.

    Raises:
        StoreUnavailable: None: nothing would tell a cut from the end.
    """
    if "ContentLength" not in answer:
        raise asked.unavailable(code="no length")
    length: int = answer["ContentLength"]
    return length


@dataclass(frozen=True, slots=True)
class _Requests:
    """What finding keys needs of boto3. HEADs go one by one: no thread is born for them."""

    asker: Questions
    asked: Callable[[str, ColdKey | None], Asked]

    def pages(self, directory: str, after: str | None) -> Iterator[Sequence[Listed]]:
        """LIST pages, unless these keys may read objects and may not list the bucket."""
        pages = self.asker.pages(self.asked("list", None), f"{directory}/", after)
        with suppress(StoreDenied):
            for page in pages:
                yield [
                    {"path": item["Key"], "size": item["Size"], "e_tag": item.get("ETag")}
                    for item in page
                ]

    def heads(self, keys: Sequence[str]) -> dict[str, Listed | None]:
        return {key: self._head(ColdKey(key)) for key in keys}

    def prove_missing(self, key: str) -> None:
        self.asker.prove_missing(self.asked("stat", ColdKey(key)))

    def _head(self, key: ColdKey) -> Listed | None:
        asked = self.asked("stat", key)
        with self.asker.translate(asked):
            try:
                head = self.asker.client.head_object(Bucket=asked.bucket, Key=key)
            except ClientError as exc:
                if told_by_botocore(exc).status == _NOT_FOUND:
                    return None
                raise
        return {"path": key, "size": length_of(head, asked), "e_tag": head.get("ETag")}
