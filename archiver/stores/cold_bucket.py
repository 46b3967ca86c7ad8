"""What the cold stores of both S3 clients share: the bucket, and what is said with a put."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING

from archiver.model import ColdKey, ColdLocation, ColdStat
from archiver.stores.s3_answers import Asked, check_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.model import Capabilities, Digest, Secret
    from archiver.stores.providers import Provider
    from archiver.stores.s3 import S3Settings
    from archiver.stores.s3_multipart import S3Multipart
    from archiver.stores.s3_questions import Questions


WRITES = {
    "create",
    "put",
    "begin",
    "put_part",
    "parts",
    "complete",
    "abort",
}  # no object is meant


class ColdBucket(ABC):
    """One bucket. Keys are whole: the path prefix is part of them.

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
        self._settings = settings
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

    @cached_property
    def multipart(self) -> S3Multipart:
        """By boto3, whoever moves: obstore tells no upload id."""
        from archiver.stores.s3_multipart import S3Multipart  # noqa: PLC0415  # imports boto3

        return S3Multipart(
            self._settings,
            self._bucket,
            self._provider.part_rules,
            self._capabilities,
            self._questions,
            self._asked,
            self._put_headers,
        )

    def location(self, key: ColdKey) -> ColdLocation:
        return ColdLocation(self._provider.name, self._bucket, key)

    # Both are asked by boto3, whoever moves: obstore tells no checksums, its prefixes are
    # whole directories, and its keys not always the store's (`a/` reads as `a`).

    def held_digest(self, key: ColdKey) -> Digest | None:
        return self._questions().held_digest(self._asked("held_digest", key))

    def list(self, prefix: str) -> Iterator[ColdStat]:
        for item in self._questions().objects(self._asked("list"), prefix):
            yield ColdStat(ColdKey(item["Key"]), item["Size"], item.get("ETag"))

    def _put_headers(
        self, content_type: str | None, content_encoding: str | None
    ) -> dict[str, str]:
        return put_headers(self._settings, content_type, content_encoding)

    def _asked(self, operation: str, key: ColdKey | None = None) -> Asked:
        """Name a question, for its errors.

        Raises:
            UnusableName: It would reach the store under another name.
        """
        writes = operation in WRITES
        asked = Asked("cold", operation, self._bucket, key, writes, self._secrets())
        check_name(asked)
        return asked

    @abstractmethod
    def _secrets(self) -> tuple[Secret, ...]: ...

    @abstractmethod
    def _questions(self) -> Questions: ...


def stat_of_put(asked: Asked, key: ColdKey, size_bytes: int, etag: str | None) -> ColdStat:
    """What was made by a put that was taken.

    Raises:
        StoreUnavailable: There is no ETag: nothing says that an object was made.
    """
    if not etag:
        raise asked.unavailable(code="no etag")
    return ColdStat(key, size_bytes, etag)


def put_headers(
    settings: S3Settings, content_type: str | None, content_encoding: str | None
) -> dict[str, str]:
    """What is said of an object beside its metadata and its encryption."""
    headers: dict[str, str] = {}
    if settings.storage_class is not None:
        headers["Storage-Class"] = settings.storage_class
    if content_type is not None:
        headers["Content-Type"] = content_type
    if content_encoding is not None:
        headers["Content-Encoding"] = content_encoding
        # Else some stores decode it on the way out, and a readback sees other bytes.
        headers["Cache-Control"] = "no-transform"
    return headers
