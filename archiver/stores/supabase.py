"""Supabase Storage as a hot store, over its REST interface. Retries nothing by itself.

The identity of an object is its ETag and its size: what a GET, `info` and a listing all
tell alike. A modification time is left out on purpose: a GET gives the one of the object
beneath, the others that of the database row, and the two differ by the time of the upload.
`version` is left out because a GET does not tell it. For an object uploaded in one piece the
ETag is the MD5 of its bytes, so an overwrite by the same bytes is no change.

There is no conditional delete: between the caller's last `identify` and the delete an
overwrite is not noticed.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import urllib3

from archiver.errors import (
    BucketMissing,
    ObjectChanged,
    ObjectDenied,
    ObjectMissing,
    SettingsError,
    StoreUnavailable,
    UnusableName,
)
from archiver.formats.etags import in_words
from archiver.model import Deleted, HotIdentity, HotLocation
from archiver.stores.covering import covered
from archiver.stores.pace import Pace
from archiver.stores.supabase_answers import Asked, refusal
from archiver.stores.supabase_names import (
    by_bucket,
    by_directory_below,
    common_directory,
    escaped,
    escaped_segment,
    escaped_to_sign,
)
from archiver.stores.timed_http import TIMED_POOLS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from archiver.model import Secret

_NAMES_PER_CALL = 1_000  # the server's limit, for a delete and for a page of a listing
_WORTH_LISTING = 20  # objects a page must answer to be cheaper than asking for each
_READ_BYTES = 1 << 20
_ANSWER_LIMIT_BYTES = 16 << 20  # that is no object; a page of a listing is a megabyte or two
_DIGITS = 15  # of a size that is one
# Of a range behind the end of what lies there now; a fault of the server sounds alike.
_OUT_OF_RANGE = {"InternalError", "InvalidRange", "http 416", "http 500"}
_NO_BUCKETS = {"", ".", ".."}
_NO_LISTING = {"FeatureNotEnabled", "InvalidRequest", "http 404"}  # servers before list-v2


@dataclass(frozen=True, slots=True)
class SupabaseSettings:
    """Where the project is, as whom we ask it, and how fast."""

    url: str  # of the project; what is below /storage/v1 is ours to add
    service_role_key: Secret
    publishable_key: Secret | None = None  # sent as `apikey`; None: the service role's
    timeout_seconds: float = 120  # on the wire, for one request and then for its answer
    connect_timeout_seconds: float = 5
    max_connections: int = 32
    ca_bundle: Path | None = None
    proxy_url: Secret | None = None
    pace: Pace = field(default_factory=Pace, repr=False, compare=False)


class SupabaseHotStore:
    """The objects of one Supabase project. Safe to share between threads."""

    def __init__(self, settings: SupabaseSettings) -> None:
        self._base = f"{settings.url.rstrip('/')}/storage/v1"
        self._headers = _headers(settings)
        said = (settings.service_role_key, settings.publishable_key, settings.proxy_url)
        self._secrets = tuple(secret for secret in said if secret is not None)
        self._pool = _open_pool(settings)
        self._pool_timeout_seconds = settings.timeout_seconds
        self._pace = settings.pace

    @contextmanager
    def open(self, location: HotLocation) -> Iterator[_OpenObject]:
        asked = _about("open", location)
        # Not the shorter /object/{bucket}/..., which answers a refused key of a private
        # bucket with "Bucket not found".
        path = f"/object/authenticated/{escaped(location)}"
        response, identity = self._get(path, asked)
        try:
            if identity is None:  # a proxy sent the body in chunks, or dropped the ETag
                _give_back(response)
                identity = self._info(location)
                response, _ = self._get(path, asked, identity.size_bytes)
            yield _OpenObject(identity, response, asked)
        finally:
            _give_back(response)

    def read_range(
        self, location: HotLocation, identity: HotIdentity, start: int, stop: int
    ) -> bytes:
        asked = _about("read", location)
        path = f"/object/authenticated/{escaped(location)}"
        wanted = f"bytes {start}-{stop - 1}"
        self._pace.wait(stop - start)
        try:
            response = self._request("GET", path, asked, wanted_range=wanted.replace(" ", "="))
        except StoreUnavailable as exc:
            if exc.code in _OUT_OF_RANGE:
                self._require_same(location, identity, self._info(location))
            raise
        try:
            # A whole object instead is not read: nobody made room for it.
            told, _, size = response.headers.get("Content-Range", "").partition("/")
            if response.status != 206 or told != wanted:  # noqa: PLR2004
                raise asked.unavailable(code="another range")
            seen = _identity(response.headers.get("ETag"), size) or self._info(location)
            self._require_same(location, identity, seen)
            return _body(response, stop - start, asked)
        finally:
            _give_back(response)

    def _require_same(
        self, location: HotLocation, identity: HotIdentity, seen: HotIdentity
    ) -> None:
        if seen != identity:
            raise ObjectChanged(
                where=str(location),
                expected=in_words(identity.size_bytes, identity.etag),
                seen=covered(in_words(seen.size_bytes, seen.etag), self._secrets),
            )

    def _get(
        self, path: str, asked: Asked, size_bytes: int = 0
    ) -> tuple[urllib3.BaseHTTPResponse, HotIdentity | None]:
        """Begin to read; the size matters where the answer does not tell it."""
        with self._pace.reading() as reading:
            response = self._request("GET", path, asked)
            identity = _identity_of_headers(response)
            reading.size_bytes = size_bytes if identity is None else identity.size_bytes
            return response, identity

    def identify(
        self, locations: Collection[HotLocation]
    ) -> Mapping[HotLocation, HotIdentity | None]:
        seen: dict[HotLocation, HotIdentity | None] = {}
        for bucket, group in by_bucket(locations).items():
            seen |= dict(self._listed(bucket, group))
        for location in locations:
            if location not in seen:  # a listing without it proves nothing: policies hide rows
                seen[location] = self._info_if_there(location)
        return seen

    def delete(
        self,
        targets: Sequence[tuple[HotLocation, HotIdentity]],
        allow: Callable[[], None],
    ) -> Mapping[HotLocation, Deleted]:
        answers: dict[HotLocation, Deleted] = {}
        for bucket, group in by_bucket(location for location, _ in targets).items():
            for start in range(0, len(group), _NAMES_PER_CALL):
                names = group[start : start + _NAMES_PER_CALL]
                answers |= self._delete(bucket, names, allow)
        return answers

    def probe(self, bucket: str) -> None:
        asked = Asked("probe", bucket)
        if bucket in _NO_BUCKETS:
            raise BucketMissing(store="hot", bucket=bucket)
        self._json("GET", f"/bucket/{escaped_segment(bucket, asked)}", asked)

    def signed_url(self, where: HotLocation, lifetime_seconds: int) -> str:
        asked = _about("sign", where)
        path = f"/object/sign/{escaped_to_sign(where)}"
        told = self._json("POST", path, asked, {"expiresIn": lifetime_seconds})
        signed = told.get("signedURL") if isinstance(told, dict) else None
        _, mark, token = str(signed).rpartition("?token=")
        if not mark or not token:
            raise asked.unavailable(code="not a signed URL")
        return f"{self._base}{path}?token={token}"  # in theirs the path is no longer escaped

    def close(self) -> None:
        self._pool.clear()

    # --- identify -----------------------------------------------------------------------

    def _listed(
        self, bucket: str, locations: Sequence[HotLocation]
    ) -> Iterator[tuple[HotLocation, HotIdentity]]:
        """What listings find of these, as long as each page finds enough of them."""
        if len(locations) < _WORTH_LISTING:
            return
        wanted = {location.path: location for location in locations}
        prefix = common_directory(wanted)
        for page in self._pages(bucket, prefix):
            found = wanted.keys() & page.keys()
            for name in found:
                identity = _identity_of_listing(page[name])
                if identity is not None:
                    yield wanted.pop(name), identity
            if len(found) < _WORTH_LISTING:
                break
            if not wanted:
                return
        else:
            return  # the end of the listing: the others are not there, or hidden
        for below in by_directory_below(prefix, wanted.values()):
            yield from self._listed(bucket, below)

    def _pages(self, bucket: str, prefix: str) -> Iterator[dict[str, Any]]:
        """The metadata of every object below a prefix, by name, a page at a time."""
        asked = Asked("identify", bucket)
        path = f"/object/list-v2/{escaped_segment(bucket, asked)}"
        query: dict[str, object] = {
            "prefix": prefix,
            "limit": _NAMES_PER_CALL,
            "with_delimiter": False,
        }
        while True:
            try:
                page = self._json("POST", path, asked, query)
            except StoreUnavailable as exc:
                if exc.code in _NO_LISTING:
                    return
                raise
            if not isinstance(page, dict) or not isinstance(page.get("objects"), list):
                raise asked.unavailable(code="not a listing")
            yield {
                item["name"]: item.get("metadata")
                for item in page["objects"]
                if _has_name(item)
            }
            if not page.get("hasNext") or not page.get("nextCursor"):
                return
            query["cursor"] = page["nextCursor"]

    def _info_if_there(self, location: HotLocation) -> HotIdentity | None:
        try:
            return self._info(location)
        except ObjectMissing:  # the typed answer is the proof
            return None

    def _info(self, location: HotLocation) -> HotIdentity:
        asked = _about("identify", location)
        told = self._json("GET", f"/object/info/authenticated/{escaped(location)}", asked)
        identity = _identity_of_info(told)
        if identity is None:
            raise asked.unavailable(code="no etag or size")
        return identity

    # --- delete -------------------------------------------------------------------------

    def _delete(
        self, bucket: str, locations: Sequence[HotLocation], allow: Callable[[], None]
    ) -> dict[HotLocation, Deleted]:
        asked = Asked("delete", bucket)
        path = f"/object/{escaped_segment(bucket, asked)}"
        names = {"prefixes": [location.path for location in locations]}  # exact names
        self._pace.wait(ahead=True)
        allow()
        said = self._said("DELETE", path, asked, names)
        self._pace.book(len(said))
        told = _parsed(said, asked)
        if not isinstance(told, list):
            raise asked.unavailable(code="not a list of deleted objects")
        deleted = {item["name"] for item in told if _has_name(item)}
        return {
            location: Deleted.DELETED if location.path in deleted else self._left(location)
            for location in locations
        }

    def _left(self, location: HotLocation) -> Deleted:
        """The answer names only what was deleted: was this one gone, or is it refused?"""
        try:
            return Deleted.ABSENT if self._info_if_there(location) is None else Deleted.DENIED
        except (ObjectDenied, UnusableName):
            return Deleted.DENIED

    # --- the wire -----------------------------------------------------------------------

    def _json(self, method: str, path: str, asked: Asked, body: object = None) -> Any:
        with self._pace.reading(f"{method} {asked.operation}") as reading:
            said = self._said(method, path, asked, body)
            reading.size_bytes = len(said)
        return _parsed(said, asked)

    def _said(self, method: str, path: str, asked: Asked, body: object = None) -> bytes:
        response = self._request(method, path, asked, body)
        try:
            with _translated(asked):
                said = _read(response, _ANSWER_LIMIT_BYTES)
        finally:
            _give_back(response)
        if len(said) > _ANSWER_LIMIT_BYTES:
            raise asked.unavailable("too long", f"more than {_ANSWER_LIMIT_BYTES} bytes")
        return said

    def _request(
        self,
        method: str,
        path: str,
        asked: Asked,
        body: object = None,
        *,
        wanted_range: str | None = None,
    ) -> urllib3.BaseHTTPResponse:
        headers = self._headers
        if wanted_range is not None:
            headers = {**headers, "Range": wanted_range}
        if body is not None:
            headers = {**headers, "Content-Type": "application/json"}
        with _translated(asked):
            response = self._pool.request(
                method,
                self._base + path,
                body=None if body is None else json.dumps(body).encode(),
                headers=headers,
                redirect=False,
                preload_content=False,
                decode_content=False,
                pool_timeout=self._pool_timeout_seconds,
            )
            if response.status in ({200} if wanted_range is None else {200, 206}):
                return response
            try:
                error = refusal(response, asked, self._secrets)
            finally:
                _give_back(response)
        if isinstance(error, StoreUnavailable) and error.retry_after_seconds is not None:
            self._pace.pause(error.retry_after_seconds)
        raise error


def _parsed(said: bytes, asked: Asked) -> Any:
    try:
        return json.loads(said)
    except (ValueError, RecursionError) as exc:  # a page of a proxy, or half an answer
        raise asked.unavailable(code="not JSON") from exc


class _OpenObject:
    """A response whose body is still on the wire."""

    def __init__(
        self, identity: HotIdentity, response: urllib3.BaseHTTPResponse, asked: Asked
    ) -> None:
        self._identity = identity
        self._response = response
        self._asked = asked

    @property
    def identity(self) -> HotIdentity:
        return self._identity

    def read(self) -> bytes:
        return _body(self._response, self._identity.size_bytes, self._asked)


def _body(response: urllib3.BaseHTTPResponse, size_bytes: int, asked: Asked) -> bytes:
    """All of a body that is so long.

    Raises:
        StoreUnavailable
    """
    with _translated(asked):
        body = _read(response, size_bytes)
    if len(body) != size_bytes:
        raise asked.unavailable(code="cut", message=f"{len(body)} of {size_bytes} bytes")
    return body


def _read(response: urllib3.BaseHTTPResponse, limit_bytes: int) -> bytes:
    """The stored bytes, never decoded; no more than a buffer beyond the limit."""
    pieces: list[bytes] = []
    size_bytes = 0
    for piece in response.stream(_READ_BYTES, decode_content=False):
        pieces.append(piece)
        size_bytes += len(piece)
        if size_bytes > limit_bytes:
            break
    return b"".join(pieces)


@contextmanager
def _translated(asked: Asked) -> Iterator[None]:
    """Turn what urllib3 raises into ours. What it says may name a URL, never a key."""
    try:
        yield
    except urllib3.exceptions.NewConnectionError as exc:  # to them, a kind of timeout
        raise asked.unavailable(code="connection", message=str(exc)) from exc
    except urllib3.exceptions.TimeoutError as exc:
        raise asked.unavailable(code="timeout", message=str(exc)) from exc
    except (urllib3.exceptions.IncompleteRead, urllib3.exceptions.InvalidChunkLength) as exc:
        raise asked.unavailable(code="cut", message=str(exc)) from exc
    except urllib3.exceptions.ProtocolError as exc:  # often around one of those above
        is_cut = isinstance(exc.__cause__, urllib3.exceptions.IncompleteRead)
        code = "cut" if is_cut else "connection"
        raise asked.unavailable(code=code, message=str(exc.args[0])) from exc
    except urllib3.exceptions.HTTPError as exc:
        raise asked.unavailable(code="connection", message=str(exc)) from exc


def _give_back(response: urllib3.BaseHTTPResponse) -> None:
    """Free the connection; one with bytes still on the wire is closed, not reused."""
    response.close()
    response.release_conn()


def _open_pool(settings: SupabaseSettings) -> urllib3.PoolManager:
    pool = _pool_manager(settings)
    pool.pool_classes_by_scheme = TIMED_POOLS
    return pool


def _pool_manager(settings: SupabaseSettings) -> urllib3.PoolManager:
    options: dict[str, Any] = {
        "num_pools": 1,
        "maxsize": settings.max_connections,
        "block": True,
        "retries": False,
        "timeout": urllib3.Timeout(
            connect=settings.connect_timeout_seconds, read=settings.timeout_seconds
        ),
        "cert_reqs": "CERT_REQUIRED",
        "ca_certs": str(settings.ca_bundle) if settings.ca_bundle else None,
    }
    if settings.proxy_url is None:
        return urllib3.PoolManager(**options)
    proxy = urlsplit(settings.proxy_url.reveal())
    who = f"{unquote(proxy.username or '')}:{unquote(proxy.password or '')}"
    return urllib3.ProxyManager(
        f"http://{proxy.netloc.rpartition('@')[2]}",
        proxy_headers=urllib3.make_headers(proxy_basic_auth=who) if proxy.username else None,
        **options,
    )


def _headers(settings: SupabaseSettings) -> dict[str, str]:
    headers = {"Accept-Encoding": "identity", "User-Agent": "archiver"}
    service = settings.service_role_key.reveal()
    if service:  # without one, the reference worker asks as nobody
        publishable = settings.publishable_key or settings.service_role_key
        headers["apikey"] = publishable.reveal()
        headers["Authorization"] = f"Bearer {service}"
    if not all(value.isascii() and value.isprintable() for value in headers.values()):
        # Here, because the HTTP client would quote the whole key in its complaint.
        problem = "a Supabase key has characters that no key has (a line break?)"
        raise SettingsError(problems=(problem,))
    return headers


def _about(operation: str, location: HotLocation) -> Asked:
    return Asked(operation, location.bucket, location.path)


def _identity_of_headers(response: urllib3.BaseHTTPResponse) -> HotIdentity | None:
    return _identity(response.headers.get("ETag"), response.headers.get("Content-Length"))


def _identity_of_info(told: Any) -> HotIdentity | None:
    return _identity(told.get("etag"), told.get("size")) if isinstance(told, dict) else None


def _identity_of_listing(told: Any) -> HotIdentity | None:
    return _identity(told.get("eTag"), told.get("size")) if isinstance(told, dict) else None


def _has_name(item: Any) -> bool:
    return isinstance(item, dict) and isinstance(item.get("name"), str)


def _identity(etag: object, size: object) -> HotIdentity | None:
    """None where either is not told: such an object has no identity by this answer."""
    told = str(size)
    if not isinstance(etag, str) or not told.isdecimal() or len(told) > _DIGITS:
        return None
    bare = etag.strip().removeprefix("W/").strip('"')  # a proxy may weaken a strong one
    return HotIdentity(int(told), etag=bare) if bare else None
