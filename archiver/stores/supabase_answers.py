"""What a refusal by Supabase Storage means. Goes by its JSON body; the status is a rumour.

The server flattens most statuses to 400 and says the real one in the body:
``{"statusCode": "404", "code": "NoSuchKey", "error": "not_found", "message": "Object not
found"}``. Servers before `code` are judged by `error` and `message` together. A body that is
not such JSON comes from something in between (a proxy, a gateway) and proves nothing.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from archiver.errors import (
    ArchiverError,
    BucketMissing,
    KeyTaken,
    ObjectDenied,
    ObjectMissing,
    StoreDenied,
    StoreThrottled,
    StoreUnavailable,
    UnusableName,
)
from archiver.stores.covering import covered
from archiver.stores.retry_after import retry_after_seconds

if TYPE_CHECKING:
    from collections.abc import Collection

    import urllib3

    from archiver.model import Secret

_BODY_LIMIT_BYTES = 64 << 10
_MESSAGE_LIMIT = 300

_THROTTLED_CODES = {"DatabaseTimeout", "SlowDown", "TooManyRequests"}  # no connection left
_THROTTLED_STATUSES = {429, 503, 544}  # where there is no code

_MISSING_OBJECT_CODES = {"NoSuchKey"}
_MISSING_BUCKET_CODES = {"NoSuchBucket"}
_DENIED_CODES = {"AccessDenied"}
_BAD_NAME_CODES = {"InvalidKey"}
_TAKEN_CODES = {"KeyAlreadyExists", "ResourceAlreadyExists"}
_BAD_KEY_CODES = {
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidJWT",
    "InvalidSignature",
    "SignatureDoesNotMatch",
    "TenantNotFound",
}

# (error, message) of servers that send no code, in lower case.
_MISSING_OBJECT_WORDS = {
    ("not_found", "object not found"),
    ("not found", "the resource was not found"),
    ("not found", "object not found"),
}
_MISSING_BUCKET_WORDS = {
    ("bucket not found", "bucket not found"),
    ("not_found", "bucket not found"),
    ("not found", "bucket not found"),
}
_TAKEN_WORDS = {("duplicate", "the resource already exists")}
_BAD_KEY_WORDS = {"invalid_jwt", "invalidjwt", "invalid jwt", "jwt expired"}


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked for, for the errors. Without a path the question was not of an object."""

    operation: str
    bucket: str
    path: str | None = None

    @property
    def where(self) -> str:
        return self.bucket if self.path is None else f"{self.bucket}/{self.path}"

    def unavailable(
        self,
        code: str,
        message: str = "",
        retry_after_seconds: float | None = None,
        *,
        is_throttled: bool = False,
    ) -> StoreUnavailable:
        unavailable = StoreThrottled if is_throttled else StoreUnavailable
        return unavailable(
            store="hot",
            operation=self.operation,
            code=code,
            where=self.where,
            message=message,
            retry_after_seconds=retry_after_seconds,
        )


@dataclass(frozen=True, slots=True)
class _Told:
    """The body of a refusal. `code` is empty on older servers."""

    status: int
    code: str
    error: str
    message: str

    @property
    def words(self) -> tuple[str, str]:
        return (self.error.lower(), self.message.lower())

    @property
    def is_throttled(self) -> bool:
        by_status = self.status in _THROTTLED_STATUSES
        return self.code in _THROTTLED_CODES if self.code else by_status

    @property
    def name(self) -> str:
        """The server's own word for it, for people."""
        return self.code or f"http {self.status}"


def refusal(
    response: urllib3.BaseHTTPResponse, asked: Asked, secrets: Collection[Secret]
) -> ArchiverError:
    """The error that an answer other than 200 stands for, without secrets. Reads the body."""
    body = response.read(_BODY_LIMIT_BYTES, decode_content=False)
    told = _parse(body, response.status, secrets)
    pause = retry_after_seconds(
        response.headers.get("Retry-After"), response.headers.get("Date")
    )
    if told is None:
        is_throttled = response.status in _THROTTLED_STATUSES
        return asked.unavailable(
            f"http {response.status}", "no typed answer", pause, is_throttled=is_throttled
        )
    if response.status == 401:  # noqa: PLR2004  # the gateway's own: the key is not known
        return _store_denied(told, asked)
    return _verdict(told, asked) or asked.unavailable(
        told.name, told.message, pause, is_throttled=told.is_throttled
    )


def _verdict(told: _Told, asked: Asked) -> ArchiverError | None:
    """What the words say beyond doubt; None: nothing that is known."""
    if _is(told, _MISSING_BUCKET_CODES, told.words in _MISSING_BUCKET_WORDS):
        return BucketMissing(store="hot", bucket=asked.bucket)
    if _is(told, _MISSING_OBJECT_CODES, told.words in _MISSING_OBJECT_WORDS):
        if asked.path is None:  # the bucket itself was asked for
            return BucketMissing(store="hot", bucket=asked.bucket)
        return ObjectMissing(store="hot", where=asked.where, code=told.name)
    if _is(told, _BAD_KEY_CODES, told.error.lower() in _BAD_KEY_WORDS or told.status == 401):  # noqa: PLR2004
        return _store_denied(told, asked)
    if _is(told, _DENIED_CODES, told.status == 403):  # noqa: PLR2004
        if asked.path is None:
            return _store_denied(told, asked)
        return ObjectDenied(
            store="hot", operation=asked.operation, where=asked.where, code=told.name
        )
    if asked.path is not None and _is(told, _TAKEN_CODES, told.words in _TAKEN_WORDS):
        return KeyTaken(where=asked.where)
    if told.code in _BAD_NAME_CODES and asked.path is not None:
        return UnusableName(store="hot", where=asked.where, reason=told.message)
    return None


def _is(told: _Told, codes: set[str], by_words: bool) -> bool:  # noqa: FBT001
    """By its code where there is one; only then by what it says otherwise."""
    return told.code in codes if told.code else by_words


def _store_denied(told: _Told, asked: Asked) -> StoreDenied:
    return StoreDenied(
        store="hot",
        operation=asked.operation,
        where=asked.where,
        code=told.name,
        message=told.message,
    )


def _parse(body: bytes, status: int, secrets: Collection[Secret]) -> _Told | None:
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(told, dict) or not told.keys() & {"code", "error", "message", "msg"}:
        return None
    inner = str(told.get("statusCode", status))  # a text, or a number, or left out
    return _Told(
        status=int(inner) if re.fullmatch("[0-9]{3}", inner) else status,
        code=_text(told.get("code"), secrets),
        error=_text(told.get("error"), secrets),
        message=_text(told.get("message", told.get("msg")), secrets),
    )


def _text(value: object, secrets: Collection[Secret]) -> str:
    if not isinstance(value, (str, int)):
        return ""
    return covered(str(value), secrets)[:_MESSAGE_LIMIT].strip()
