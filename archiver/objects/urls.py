"""An object behind a URL, as `archiver sign` gives one: read in ranges, its secret kept."""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import urllib3

from archiver.errors import (
    NotOffered,
    ObjectChanged,
    ObjectDenied,
    ObjectMissing,
    SettingsError,
    StoreUnavailable,
)
from archiver.formats.etags import in_words
from archiver.objects.pulling import Thing
from archiver.opening import is_http_allowed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from archiver.config import Settings

_CONNECT_SECONDS = 10.0
_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+)")
_OK, _PARTIAL, _OUTSIDE = 200, 206, 416


@contextmanager
def open_url(url: str, settings: Settings) -> Iterator[Thing]:
    """Look at what a URL names. It may be signed for GET alone, so a first byte is asked for.

    Raises:
        SettingsError: It cannot be asked; nothing of it is told.
        ObjectMissing, ObjectDenied, NotOffered, StoreUnavailable
    """
    not_one = SettingsError(problems=("the URL is not one: https://host/path?query",))
    try:
        split = urlsplit(url)
        is_whole = bool(split.hostname) and "@" not in split.netloc and split.port != 0
    except ValueError:
        raise not_one from None
    if not is_whole or not url.isascii() or not url.isprintable():
        raise not_one
    if split.scheme == "http" and not is_http_allowed(url, settings):
        problem = "the URL is plain http; set ARCHIVE_ALLOW_HTTP=on to send its secret so"
        raise SettingsError(problems=(problem,))
    where = f"{split.scheme}://{split.netloc}{split.path}"
    http = _open_http(settings, url)
    try:
        yield _Asked(http, url, where).thing()
    finally:
        http.clear()


def _open_http(settings: Settings, url: str) -> urllib3.PoolManager:
    timeout = urllib3.Timeout(connect=_CONNECT_SECONDS, read=settings.timeout_seconds)
    bundle = None if settings.ca_bundle is None else str(settings.ca_bundle)
    proxy = settings.proxy_for(url)
    if proxy is None:
        return urllib3.PoolManager(timeout=timeout, retries=False, ca_certs=bundle)
    return urllib3.ProxyManager(proxy.reveal(), timeout=timeout, retries=False, ca_certs=bundle)


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: Mapping[str, str]  # names in lower case
    data: bytes


@dataclass(frozen=True, slots=True)
class _Asked:
    http: urllib3.PoolManager
    url: str
    where: str

    def thing(self) -> Thing:
        answer = self._get(0, 1, None)
        found = _RANGE.fullmatch(answer.headers.get("content-range", ""))
        if answer.status == _OK and answer.headers.get("content-length") == "0":
            size_bytes = 0
        elif answer.status in (_PARTIAL, _OUTSIDE) and found is not None:
            size_bytes = int(found[3])
        else:
            raise self._refused(answer)
        etag = answer.headers.get("etag")

        def read(start: int, stop: int) -> bytes:
            return self._read(start, stop, size_bytes, etag)

        return Thing(self.where, self.where, size_bytes, etag, read)

    def _read(self, start: int, stop: int, size_bytes: int, etag: str | None) -> bytes:
        answer = self._get(start, stop, etag)
        if answer.status != _PARTIAL:
            raise self._refused(answer)
        found = _RANGE.fullmatch(answer.headers.get("content-range", ""))
        seen_bytes = int(found[3]) if found else None
        if (seen_bytes, answer.headers.get("etag")) != (size_bytes, etag):
            raise self._changed(size_bytes, etag)
        if len(answer.data) != stop - start:
            raise self._unavailable("cut")
        return answer.data

    def _get(self, start: int, stop: int, etag: str | None) -> _Answer:
        headers = {"Range": f"bytes={start}-{stop - 1}", "Accept-Encoding": "identity"}
        if etag is not None and not etag.startswith("W/"):  # a weak one never matches
            headers["If-Match"] = etag
        try:
            answer = self.http.request(
                "GET",
                self.url,
                headers=headers,
                redirect=False,
                preload_content=False,
                decode_content=False,
            )
            try:
                # Who knows no ranges would send all of it.
                data = answer.read(stop - start + 1) if answer.status == _PARTIAL else b""
            finally:
                if answer.status != _PARTIAL:
                    answer.close()
                answer.release_conn()
        except (urllib3.exceptions.HTTPError, OSError) as exc:
            # Its words may hold the URL.
            raise self._unavailable(type(exc).__name__) from None
        return _Answer(answer.status, {n.lower(): it for n, it in answer.headers.items()}, data)

    def _refused(self, answer: _Answer) -> Exception:
        match answer.status:
            case 404:
                return ObjectMissing(store="URL", where=self.where, code="404")
            case 401 | 403:
                return ObjectDenied(
                    store="URL", operation="read", where=self.where, code=str(answer.status)
                )
            case 412:
                return self._changed(None, None)
            case 200:
                return NotOffered(
                    store="URL", operation="read", where=self.where, reason="no ranges"
                )
            case _:
                return self._unavailable(str(answer.status))

    def _changed(self, size_bytes: int | None, etag: str | None) -> ObjectChanged:
        expected = "the object that was begun"
        if size_bytes is not None:
            expected = in_words(size_bytes, etag)
        return ObjectChanged(where=self.where, expected=expected, seen="another one")

    def _unavailable(self, code: str) -> StoreUnavailable:
        return StoreUnavailable(store="URL", operation="read", code=code, where=self.where)
