"""The user's own objects in one bucket of Supabase Storage, over its REST interface.

What it cannot: keep a content encoding, look at a condition, send in parts, tell a digest that
it vouches for, or choose how long an upload URL lasts. Such a wish is refused, not bent.
"""

from __future__ import annotations

import base64
import json
import re
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from archiver.errors import (
    BadLifetime,
    KeyTaken,
    NotOffered,
    ObjectChanged,
    ObjectDenied,
    ObjectMissing,
    RangeOutside,
    StoreThrottled,
    StoreUnavailable,
    UnusableName,
)
from archiver.formats.etags import in_words
from archiver.model import HotLocation, ListedObject, ObjectHead, SignedUrl
from archiver.stores.bounded_http import BOUNDED_POOLS
from archiver.stores.deadlines import require_time
from archiver.stores.outgoing import Outgoing
from archiver.stores.supabase_answers import Asked
from archiver.stores.supabase_names import escaped, escaped_segment, escaped_to_sign
from archiver.stores.supabase_wire import (
    PARTIAL,
    READ_BYTES,
    WHOLE,
    SupabaseWire,
    give_back,
    parsed,
    translated,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import urllib3

    from archiver.model import Digest, Disposition, ObjectFacts
    from archiver.stores.supabase_wire import SupabaseSettings

_PAGE_NAMES = 1_000  # the server's limit
_TOO_LARGE = {"EntityTooLarge", "http 413"}
_NO_LISTING = {"FeatureNotEnabled", "InvalidRequest", "http 404"}  # servers before list-v2
_CONTENT_RANGE = re.compile(r"bytes (\d{1,15})-(\d{1,15})/(\d{1,15})")
_SIZE = re.compile(r"[0-9]{1,15}")
_NAME_BYTES = 1_024  # what the store beneath takes
_COPY_LIMIT_BYTES = 5 << 30  # of one copy, as its documentation says
_LONGEST_SECONDS = 7 * 86_400


class SupabaseObjectStore:
    """One bucket. Safe to share between threads."""

    def __init__(self, settings: SupabaseSettings, bucket: str) -> None:
        self._bucket = bucket
        self._wire = SupabaseWire(settings, BOUNDED_POOLS)

    @property
    def name(self) -> str:
        return "hot"

    def where(self, key: str) -> str:
        return f"{self._bucket}/{key}"

    # --- reading --------------------------------------------------------------------------

    def head(self, key: str) -> ObjectHead | None:
        try:
            return self._info(self._asked("head", key))[0]
        except ObjectMissing:  # the typed answer is the proof
            return None

    def _info(self, asked: Asked) -> tuple[ObjectHead, Mapping[str, Any]]:
        """The object, and all that the server says of it."""
        path = f"/object/info/authenticated/{self._path(asked)}"
        told = self._wire.json("GET", path, asked)
        if not isinstance(told, dict):
            raise asked.unavailable(code="no etag or size")
        size, etag, metadata = str(told.get("size")), told.get("etag"), told.get("metadata")
        if not _SIZE.fullmatch(size) or not isinstance(etag, str):
            raise asked.unavailable(code="no etag or size")
        said = metadata if isinstance(metadata, dict) else {}
        head = ObjectHead(
            asked.path or "",
            int(size),
            _plain(etag),
            _instant(told.get("last_modified")),
            told.get("content_type"),
            None,
            {str(name).lower(): _text(value) for name, value in said.items()},
        )
        return head, told

    @contextmanager
    def open(
        self, key: str, start: int = 0, stop: int | None = None, *, etag: str | None = None
    ) -> Iterator[_SupabaseBody]:
        asked = self._asked("read", key)
        is_range = start > 0 or stop is not None
        with self._wire.pace.reading() as reading:
            response = self._get(asked, start, stop, is_range=is_range)
            length = response.headers.get("Content-Length", "")
            reading.size_bytes = int(length) if _SIZE.fullmatch(length) else 0
        try:
            head = _head_of(asked, response, start, is_range=is_range)
            if etag is not None and head.etag != etag:
                seen = in_words(head.size_bytes, head.etag)
                raise ObjectChanged(where=asked.where, expected=f"ETag {etag}", seen=seen)
            if stop is not None and stop > head.size_bytes:
                raise _outside(asked, start, stop, head.size_bytes)
            length_bytes = (head.size_bytes if stop is None else stop) - start
            yield _SupabaseBody(head, asked, response, length_bytes)
        finally:
            give_back(response)

    def _get(
        self, asked: Asked, start: int, stop: int | None, *, is_range: bool
    ) -> urllib3.BaseHTTPResponse:
        # Not the shorter /object/{bucket}/..., which answers a refused key of a private
        # bucket with "Bucket not found".
        path = f"/object/authenticated/{self._path(asked)}"
        if not is_range:
            return self._wire.request("GET", path, asked)
        wanted = {"Range": f"bytes={start}-{'' if stop is None else stop - 1}"}
        try:
            return self._wire.request(
                "GET", path, asked, headers=wanted, accepted=(WHOLE, PARTIAL)
            )
        except StoreUnavailable as exc:
            if isinstance(exc, StoreThrottled):
                raise
            # What the store beneath says of such a range may come as any error.
            size_bytes = self._info(asked)[0].size_bytes
            if start < size_bytes:
                raise
            raise _outside(asked, start, stop, size_bytes) from exc

    def list(self, prefix: str) -> Iterator[ListedObject]:
        asked = self._asked("list")
        path = f"/object/list-v2/{escaped_segment(self._bucket, asked)}"
        query: dict[str, object] = {
            "prefix": prefix,
            "limit": _PAGE_NAMES,
            "with_delimiter": False,
        }
        is_first = True
        while True:
            page = self._page(asked, path, query)
            if is_first and not page["objects"]:
                self._require_bucket(asked)  # nothing is what a missing one lists, too
            is_first = False
            for item in page["objects"]:
                found = _listed(item)
                if found is not None and found.key.startswith(prefix):
                    yield found
            if not page.get("hasNext") or not page.get("nextCursor"):
                return
            if page["nextCursor"] == query.get("cursor"):
                raise asked.unavailable(code="endless listing")
            query["cursor"] = page["nextCursor"]

    def _page(self, asked: Asked, path: str, query: object) -> dict[str, Any]:
        try:
            page = self._wire.json("POST", path, asked, query)
        except StoreUnavailable as exc:
            if exc.code not in _NO_LISTING:
                raise
            raise self._not_offered(asked, "this server is older than its listings") from exc
        if not isinstance(page, dict) or not isinstance(page.get("objects"), list):
            raise asked.unavailable(code="not a listing")
        return page

    def _require_bucket(self, asked: Asked) -> None:
        self._wire.json("GET", f"/bucket/{escaped_segment(self._bucket, asked)}", asked)

    def held_md5(self, key: str) -> bytes | None:  # noqa: ARG002
        """An ETag looks like one, and nobody says whether it is."""
        return None

    def held_sha256(self, key: str) -> Digest | None:  # noqa: ARG002
        return None

    # --- writing --------------------------------------------------------------------------

    def put(
        self,
        key: str,
        pieces: Iterable[bytes],
        size_bytes: int | None,
        facts: ObjectFacts,
        *,
        create_only: bool,
    ) -> str | None:
        asked = self._asked("put", key)
        type_ = facts.content_type or "application/octet-stream"
        if facts.content_encoding is not None:
            raise self._not_offered(asked, "it drops the content encoding of what is put")
        if type_.startswith("multipart/"):
            raise self._not_offered(asked, "it takes a multipart type for a form")
        headers = {"Content-Type": type_, "x-upsert": "false" if create_only else "true"}
        if facts.metadata:
            headers["x-metadata"] = _in_base64(facts.metadata)
        if size_bytes is not None:
            headers["Content-Length"] = str(size_bytes)
        body = Outgoing(pieces)
        self._wire.pace.wait(size_bytes or 0)
        try:
            told = self._send(asked, body, headers)
        except Exception as exc:
            if body.failure is not None:  # not the wire's: the client took it for that
                raise body.failure from exc
            raise
        if not isinstance(told, dict) or told.get("Key") != f"{self._bucket}/{key}":
            raise asked.unavailable(code="not confirmed")
        head, _ = self._info(asked)
        if head.size_bytes != body.sent_bytes:
            seen = f"{head.size_bytes} bytes are there, {body.sent_bytes} were sent"
            raise asked.unavailable(code="not confirmed", message=seen)
        return head.etag

    def _send(self, asked: Asked, body: Outgoing, headers: Mapping[str, str]) -> Any:
        path = f"/object/{self._path(asked)}"
        try:
            response = self._wire.request("POST", path, asked, body, headers)
        except StoreUnavailable as exc:
            if exc.code in _TOO_LARGE:
                reason = "the bucket or the project takes none so large"
                raise self._not_offered(asked, reason) from exc
            raise
        return parsed(self._wire.whole(response, asked), asked)

    def delete(self, key: str) -> None:
        asked = self._asked("delete", key)
        self._path(asked)
        path = f"/object/{escaped_segment(self._bucket, asked)}"
        told = self._wire.json("DELETE", path, asked, {"prefixes": [key]})  # exact names
        if not isinstance(told, list):
            raise asked.unavailable(code="not a list of deleted objects")
        if any(isinstance(item, dict) and item.get("name") == key for item in told):
            return
        if self.head(key) is not None:  # the answer names only what was deleted
            raise ObjectDenied(
                store="hot", operation="delete", where=asked.where, code="not deleted"
            )

    def set_content_type(self, key: str, content_type: str) -> None:
        """By a copy onto itself. The server knows no condition: the last writer wins."""
        asked = self._asked("set_content_type", key)
        head, told = self._info(asked)
        if head.size_bytes > _COPY_LIMIT_BYTES:
            limit = f"{head.size_bytes} bytes; one copy takes {_COPY_LIMIT_BYTES}"
            raise self._not_offered(asked, limit)
        metadata = {"mimetype": content_type, "cacheControl": told.get("cache_control")}
        copy = {
            "bucketId": self._bucket,
            "sourceKey": key,
            "destinationKey": key,
            "copyMetadata": False,
            "metadata": {name: it for name, it in metadata.items() if it is not None},
        }
        kept = told.get("metadata") or {}
        headers = {"x-upsert": "true", "x-metadata": _in_base64(kept)}
        try:
            self._wire.json("POST", "/object/copy", asked, copy, headers)
        except KeyTaken as exc:
            raise self._not_offered(asked, "this server copies nothing onto itself") from exc
        seen, _ = self._info(asked)
        if seen.content_type != content_type:
            raise self._not_offered(asked, f"this server kept {seen.content_type}")

    # --- URLs -----------------------------------------------------------------------------

    def signed_get(
        self,
        key: str,
        lifetime_seconds: int,
        *,
        disposition: Disposition | None,
        content_type: str | None,
    ) -> SignedUrl:
        asked = self._asked("sign", key)
        if content_type is not None:
            raise self._not_offered(asked, "its URLs say no other content type")
        download = ""
        if disposition is not None and disposition.kind == "attachment":
            download = f"&download={quote(disposition.filename or '', safe='')}"
        elif disposition is not None and disposition.filename:
            raise self._not_offered(asked, "its URLs name a file only to be saved")
        path = f"/object/sign/{escaped_to_sign(HotLocation(self._bucket, key))}"
        expires_at = datetime.fromtimestamp(time.time() + lifetime_seconds, UTC)
        told = self._wire.json("POST", path, asked, {"expiresIn": lifetime_seconds})
        token = _token(told, "signedURL", asked)
        url = f"{self._wire.base}{path}?token={token}{download}"
        return SignedUrl("GET", url, {}, expires_at)

    def signed_put(
        self, key: str, lifetime_seconds: int, *, content_type: str | None, create_only: bool
    ) -> SignedUrl:
        """The server alone decides how long it lasts: one that outlives the wish is refused."""
        asked = self._asked("sign", key)
        path = f"/object/upload/sign/{escaped_to_sign(HotLocation(self._bucket, key))}"
        headers = {"x-upsert": "false" if create_only else "true"}
        told = self._wire.json("POST", path, asked, {}, headers)
        token = _token(told, "url", asked)
        expires_at = _end_of(token, asked)
        lasts_seconds = (expires_at - datetime.now(UTC)).total_seconds()
        if lasts_seconds > lifetime_seconds:
            raise BadLifetime(
                lifetime_seconds=lifetime_seconds,
                shortest_seconds=round(lasts_seconds) + 1,
                longest_seconds=_LONGEST_SECONDS,
                reason="the server alone decides how long its upload URLs last",
            )
        sent = {} if content_type is None else {"Content-Type": content_type}
        return SignedUrl("PUT", f"{self._wire.base}{path}?token={token}", sent, expires_at)

    # --- the rest -------------------------------------------------------------------------

    def close(self) -> None:
        self._wire.close()

    def _asked(self, operation: str, key: str | None = None) -> Asked:
        require_time()
        return Asked(operation, self._bucket, key)

    def _path(self, asked: Asked) -> str:
        if len((asked.path or "").encode(errors="replace")) > _NAME_BYTES:
            reason = f"it is longer than {_NAME_BYTES} bytes"
            raise UnusableName(store="hot", where=asked.where, reason=reason)
        return escaped(HotLocation(self._bucket, asked.path or ""))

    def _not_offered(self, asked: Asked, reason: str) -> NotOffered:
        return NotOffered(
            store="hot", operation=asked.operation, where=asked.where, reason=reason
        )


class _SupabaseBody:
    """A body on the wire."""

    def __init__(
        self,
        head: ObjectHead,
        asked: Asked,
        response: urllib3.BaseHTTPResponse,
        length_bytes: int,
    ) -> None:
        self._head = head
        self._asked = asked
        self._response = response
        self._length_bytes = length_bytes

    @property
    def head(self) -> ObjectHead:
        """Without type and metadata: the server disarms the one and does not tell the other."""
        return self._head

    def __iter__(self) -> Iterator[bytes]:
        seen_bytes = 0
        while seen_bytes <= self._length_bytes and (buffer := self._read()):
            seen_bytes += len(buffer)
            yield buffer
        if seen_bytes != self._length_bytes:
            message = f"{seen_bytes} of {self._length_bytes} bytes"
            raise self._asked.unavailable(code="cut", message=message)

    def _read(self) -> bytes:
        require_time()
        with translated(self._asked):
            return self._response.read(READ_BYTES, decode_content=False)


def _head_of(
    asked: Asked, response: urllib3.BaseHTTPResponse, start: int, *, is_range: bool
) -> ObjectHead:
    """What an answer says of the object whose bytes it brings.

    Raises:
        StoreUnavailable: Not enough, or it brings others.
    """
    size = response.headers.get("Content-Length", "")
    if is_range:
        said = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if said is None or int(said[1]) != start:
            raise asked.unavailable(code="another range")
        size = said[3]
    if not _SIZE.fullmatch(size):
        raise asked.unavailable(code="no length")
    etag = response.headers.get("ETag")
    return ObjectHead(asked.path or "", int(size), _plain(etag) if etag else None, None)


def _listed(item: Any) -> ListedObject | None:
    """None: it is no object, or has no size by this answer."""
    if not isinstance(item, dict) or not isinstance(item.get("name"), str):
        return None
    told = item.get("metadata")
    if not isinstance(told, dict) or not _SIZE.fullmatch(str(told.get("size"))):
        return None
    etag = told.get("eTag")
    return ListedObject(
        item["name"],
        int(told["size"]),
        _plain(etag) if isinstance(etag, str) else None,
        _instant(item.get("updated_at")),
        told.get("mimetype"),
    )


def _plain(etag: str) -> str:
    """A proxy may weaken a strong one."""
    bare = etag.strip().removeprefix("W/").strip('"')
    return f'"{bare}"'


def _instant(said: object) -> datetime | None:
    try:
        at = datetime.fromisoformat(str(said))
    except ValueError:
        return None
    return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).astimezone(UTC)


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _in_base64(metadata: Mapping[str, Any]) -> str:
    return base64.b64encode(json.dumps(dict(metadata)).encode()).decode()


def _token(told: Any, name: str, asked: Asked) -> str:
    """The token of a signed URL; in the server's own URL the path is no longer escaped."""
    _, mark, token = str(told.get(name) if isinstance(told, dict) else "").rpartition("?token=")
    if not mark or not token:
        raise asked.unavailable(code="not a signed URL")
    return token


def _end_of(token: str, asked: Asked) -> datetime:
    """When a token ends, by its own claims."""
    try:
        claims = token.split(".")[1]
        told = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
        return datetime.fromtimestamp(int(told["exp"]), UTC)
    except (ValueError, LookupError, TypeError, OverflowError, OSError) as exc:
        raise asked.unavailable(code="not a signed URL") from exc


def _outside(asked: Asked, start: int, stop: int | None, size_bytes: int) -> RangeOutside:
    return RangeOutside(where=asked.where, start=start, stop=stop, size_bytes=size_bytes)
