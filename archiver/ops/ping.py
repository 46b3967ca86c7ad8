"""Tells a monitor how the sweeps end. Its URL is a secret, and it never harms a sweep."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import urllib3

from archiver.events import PingFailed

if TYPE_CHECKING:
    from pathlib import Path

    from archiver.model import Secret
    from archiver.protocols import Observer

_TIMEOUT_SECONDS = 10.0
_FIRST_FAILURE = 400  # HTTP status
_REDIRECTS = 3


class Ping:
    """One URL to GET after a good sweep, the same with ``/fail`` after a bad one."""

    def __init__(
        self,
        url: Secret,
        observe: Observer,
        *,
        ca_bundle: Path | None,
        proxy_url: Secret | None,
    ) -> None:
        self._url = url
        self._observe = observe
        self._http = _open_pool(ca_bundle, proxy_url)

    def __call__(self, is_good: bool) -> None:  # noqa: FBT001  # the whole message
        """Wait for the answer, ten seconds at most; a failure is told, without the URL.

        Its status is all that is read: a body without end would keep every later ping.
        """
        url = self._url.reveal()
        try:
            answer = self._http.request(
                "GET", url if is_good else failed(url), preload_content=False
            )
        except urllib3.exceptions.HTTPError as error:
            cause = getattr(error, "reason", None) or error  # of too many retries
            self._observe(PingFailed(type(cause).__name__))  # its text quotes the URL
        else:
            answer.close()
            answer.release_conn()
            if answer.status >= _FIRST_FAILURE:
                self._observe(PingFailed(f"HTTP {answer.status}"))


def failed(url: str) -> str:
    """The URL with ``/fail`` at the end of its path; a query stays behind it."""
    parts = urlsplit(url)
    return parts._replace(path=f"{parts.path.removesuffix('/')}/fail").geturl()


def _open_pool(ca_bundle: Path | None, proxy_url: Secret | None) -> urllib3.PoolManager:
    options: dict[str, Any] = {
        "headers": {"User-Agent": "archiver"},
        "timeout": urllib3.Timeout(total=_TIMEOUT_SECONDS),
        "retries": urllib3.Retry(
            connect=0, read=0, status=0, other=0, redirect=_REDIRECTS, raise_on_redirect=False
        ),
        "cert_reqs": "CERT_REQUIRED",
        "ca_certs": str(ca_bundle) if ca_bundle else None,
    }
    if proxy_url is None:
        return urllib3.PoolManager(**options)
    proxy = urlsplit(proxy_url.reveal())
    who = f"{unquote(proxy.username or '')}:{unquote(proxy.password or '')}"
    return urllib3.ProxyManager(
        f"http://{proxy.netloc.rpartition('@')[2]}",
        proxy_headers=urllib3.make_headers(proxy_basic_auth=who) if proxy.username else None,
        **options,
    )
