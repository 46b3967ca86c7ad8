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

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from archiver.errors import (
    BucketMissing,
    ObjectChanged,
    ObjectDenied,
    ObjectMissing,
    StoreUnavailable,
    UnusableName,
)
from archiver.formats.etags import in_words
from archiver.model import Deleted, HotIdentity, HotLocation
from archiver.stores.covering import covered
from archiver.stores.supabase_answers import Asked
from archiver.stores.supabase_names import (
    by_bucket,
    by_directory_below,
    common_directory,
    escaped,
    escaped_segment,
    escaped_to_sign,
)
from archiver.stores.supabase_wire import (
    PARTIAL,
    WHOLE,
    SupabaseWire,
    give_back,
    parsed,
    read_body,
    translated,
)
from archiver.stores.timed_http import TIMED_POOLS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    import urllib3

    from archiver.stores.supabase_wire import SupabaseSettings

_NAMES_PER_CALL = 1_000  # the server's limit, for a delete and for a page of a listing
_WORTH_LISTING = 20  # objects a page must answer to be cheaper than asking for each
_DIGITS = 15  # of a size that is one
# Of a range behind the end of what lies there now; a fault of the server sounds alike.
_OUT_OF_RANGE = {"InternalError", "InvalidRange", "http 416", "http 500"}
_NO_BUCKETS = {"", ".", ".."}
_NO_LISTING = {"FeatureNotEnabled", "InvalidRequest", "http 404"}  # servers before list-v2


class SupabaseHotStore:
    """The objects of one Supabase project. Safe to share between threads."""

    def __init__(self, settings: SupabaseSettings) -> None:
        self._wire = SupabaseWire(settings, TIMED_POOLS)
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
                give_back(response)
                identity = self._info(location)
                response, _ = self._get(path, asked, identity.size_bytes)
            yield _OpenObject(identity, response, asked)
        finally:
            give_back(response)

    def read_range(
        self, location: HotLocation, identity: HotIdentity, start: int, stop: int
    ) -> bytes:
        asked = _about("read", location)
        path = f"/object/authenticated/{escaped(location)}"
        wanted = f"bytes {start}-{stop - 1}"
        self._pace.wait(stop - start)
        asked_for = {"Range": wanted.replace(" ", "=")}
        accepted = (WHOLE, PARTIAL)
        try:
            response = self._wire.request(
                "GET", path, asked, headers=asked_for, accepted=accepted
            )
        except StoreUnavailable as exc:
            if exc.code in _OUT_OF_RANGE:
                self._require_same(location, identity, self._info(location))
            raise
        try:
            # A whole object instead is not read: nobody made room for it.
            told, _, size = response.headers.get("Content-Range", "").partition("/")
            if response.status != PARTIAL or told != wanted:
                raise asked.unavailable(code="another range")
            seen = _identity(response.headers.get("ETag"), size) or self._info(location)
            self._require_same(location, identity, seen)
            return _body(response, stop - start, asked)
        finally:
            give_back(response)

    def _require_same(
        self, location: HotLocation, identity: HotIdentity, seen: HotIdentity
    ) -> None:
        if seen != identity:
            raise ObjectChanged(
                where=str(location),
                expected=in_words(identity.size_bytes, identity.etag),
                seen=covered(in_words(seen.size_bytes, seen.etag), self._wire.secrets),
            )

    def _get(
        self, path: str, asked: Asked, size_bytes: int = 0
    ) -> tuple[urllib3.BaseHTTPResponse, HotIdentity | None]:
        """Begin to read; the size matters where the answer does not tell it."""
        with self._pace.reading() as reading:
            response = self._wire.request("GET", path, asked)
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
        self._wire.json("GET", f"/bucket/{escaped_segment(bucket, asked)}", asked)

    def signed_url(self, where: HotLocation, lifetime_seconds: int) -> str:
        asked = _about("sign", where)
        path = f"/object/sign/{escaped_to_sign(where)}"
        told = self._wire.json("POST", path, asked, {"expiresIn": lifetime_seconds})
        signed = told.get("signedURL") if isinstance(told, dict) else None
        _, mark, token = str(signed).rpartition("?token=")
        if not mark or not token:
            raise asked.unavailable(code="not a signed URL")
        return (
            f"{self._wire.base}{path}?token={token}"  # in theirs the path is no longer escaped
        )

    def close(self) -> None:
        self._wire.close()

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
                page = self._wire.json("POST", path, asked, query)
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
        told = self._wire.json("GET", f"/object/info/authenticated/{escaped(location)}", asked)
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
        said = self._wire.said("DELETE", path, asked, names)
        self._pace.book(len(said))
        told = parsed(said, asked)
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
    with translated(asked):
        body = read_body(response, size_bytes)
    if len(body) != size_bytes:
        raise asked.unavailable(code="cut", message=f"{len(body)} of {size_bytes} bytes")
    return body


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
