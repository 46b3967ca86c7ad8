"""Requests to Supabase's REST, and answers that end. Retries nothing by itself."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import urllib3

from archiver.errors import SettingsError, StoreUnavailable
from archiver.stores.pace import Pace
from archiver.stores.supabase_answers import refusal

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from pathlib import Path

    from archiver.model import Secret
    from archiver.stores.supabase_answers import Asked

READ_BYTES = 1 << 20
_ANSWER_LIMIT_BYTES = 16 << 20  # that is no object; a page of a listing is a megabyte or two
WHOLE, PARTIAL = 200, 206  # HTTP statuses


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


class SupabaseWire:
    """The REST interface of one project. Safe to share between threads.

    Args:
        settings: Where it is.
        pools: Whose connections carry the requests: they say when an answer must end.
    """

    def __init__(self, settings: SupabaseSettings, pools: Mapping[str, Any]) -> None:
        self.base = f"{settings.url.rstrip('/')}/storage/v1"
        self.pace = settings.pace
        said = (settings.service_role_key, settings.publishable_key, settings.proxy_url)
        self.secrets = tuple(secret for secret in said if secret is not None)
        self._headers = _headers(settings)
        self._pool = _pool_manager(settings)
        self._pool.pool_classes_by_scheme = dict(pools)
        self._pool_timeout_seconds = settings.timeout_seconds

    def close(self) -> None:
        self._pool.clear()

    def json(
        self,
        method: str,
        path: str,
        asked: Asked,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """What is asked for and answered in JSON; waits for its turn."""
        with self.pace.reading(f"{method} {asked.operation}") as reading:
            said = self.said(method, path, asked, body, headers)
            reading.size_bytes = len(said)
        return parsed(said, asked)

    def said(
        self,
        method: str,
        path: str,
        asked: Asked,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        headers = dict(headers or {})
        if body is not None:
            headers["Content-Type"] = "application/json"
        raw = None if body is None else json.dumps(body).encode()
        return self.whole(self.request(method, path, asked, raw, headers), asked)

    def whole(self, response: urllib3.BaseHTTPResponse, asked: Asked) -> bytes:
        """The body of an answer that is no object."""
        try:
            with translated(asked):
                said = read_body(response, _ANSWER_LIMIT_BYTES)
        finally:
            give_back(response)
        if len(said) > _ANSWER_LIMIT_BYTES:
            raise asked.unavailable("too long", f"more than {_ANSWER_LIMIT_BYTES} bytes")
        return said

    def request(
        self,
        method: str,
        path: str,
        asked: Asked,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        accepted: Collection[int] = (WHOLE,),
    ) -> urllib3.BaseHTTPResponse:
        """An answer with one of these statuses, its body still on the wire."""
        with translated(asked):
            response = self._pool.request(
                method,
                self.base + path,
                body=body,
                headers={**self._headers, **(headers or {})},
                redirect=False,
                preload_content=False,
                decode_content=False,
                pool_timeout=self._pool_timeout_seconds,
            )
            if response.status in accepted:
                return response
            try:
                error = refusal(response, asked, self.secrets)
            finally:
                give_back(response)
        if isinstance(error, StoreUnavailable) and error.retry_after_seconds is not None:
            self.pace.pause(error.retry_after_seconds)
        raise error


def parsed(said: bytes, asked: Asked) -> Any:
    try:
        return json.loads(said)
    except (ValueError, RecursionError) as exc:  # a page of a proxy, or half an answer
        raise asked.unavailable(code="not JSON") from exc


def read_body(response: urllib3.BaseHTTPResponse, limit_bytes: int) -> bytes:
    """The stored bytes, never decoded; no more than a buffer beyond the limit."""
    pieces: list[bytes] = []
    size_bytes = 0
    for piece in response.stream(READ_BYTES, decode_content=False):
        pieces.append(piece)
        size_bytes += len(piece)
        if size_bytes > limit_bytes:
            break
    return b"".join(pieces)


@contextmanager
def translated(asked: Asked) -> Iterator[None]:
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


def give_back(response: urllib3.BaseHTTPResponse) -> None:
    """Free the connection; one with bytes still on the wire is closed, not reused."""
    response.close()
    response.release_conn()


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
