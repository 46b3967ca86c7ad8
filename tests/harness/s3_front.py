"""A front before an S3 server, or another: passes requests on, and refuses what a rule says.

    with S3Front(moto_url) as front:
        front.rule = refuse("GET", "HEAD", status=403, code="AccessDenied")

So a store is seen as its owner's policies make it, which no server for tests can do. What
passes by is metered.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import unquote, urlsplit

import urllib3

from tests.harness.meter import Meter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_HOP = {"connection", "keep-alive", "transfer-encoding", "expect"}  # of one hop alone


@dataclass(frozen=True, slots=True)
class Asked:
    """A request on its way. The key is empty where the bucket is asked."""

    method: str
    bucket: str
    key: str
    query: str
    headers: Mapping[str, str] = field(repr=False)  # names in lower case
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error as S3 words it."""

    status: int
    code: str
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def body(self) -> bytes:
        return f"<Error><Code>{self.code}</Code><Message>said so</Message></Error>".encode()


def refuse(
    *methods: str, status: int, code: str, key: str | None = None
) -> Callable[[Asked], Refusal | None]:
    """Refuse these methods: for every object, or for this key ("": the bucket itself)."""

    def rule(asked: Asked) -> Refusal | None:
        is_meant = bool(asked.key) if key is None else asked.key == key
        return Refusal(status, code) if is_meant and asked.method in methods else None

    return rule


def refuse_all(status: int, code: str) -> Callable[[Asked], Refusal | None]:
    """Refuse whatever comes by."""
    return lambda _: Refusal(status, code)


class S3Front:
    """Listens until it is left. `asked` is what came by, refused or not."""

    def __init__(self, behind: str) -> None:
        self.rule: Callable[[Asked], Refusal | None] = lambda _: None
        self.strips: frozenset[str] = frozenset()  # headers that are not passed on
        self.is_chunked = False  # bodies of answers come in chunks, which tell no length
        self.damages: Callable[[Asked], bool] = lambda _: False  # what is read of these
        self.asked: list[Asked] = []
        self.answered: list[tuple[Asked, int]] = []  # by the server behind, with its status
        self.meter = Meter()
        self.behind = behind
        self._pool = urllib3.PoolManager(retries=False, maxsize=32)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._pool.clear()

    def count(self, method: str, key: str) -> int:
        """How often an object was asked for so."""
        return sum(1 for asked in self.asked if (asked.method, asked.key) == (method, key))

    def judge(self, asked: Asked) -> Refusal | None:
        self.asked.append(asked)
        return self.rule(asked)

    def pass_on(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes
    ) -> urllib3.BaseHTTPResponse:
        return self._pool.request(
            method,
            self.behind + target,
            headers=dict(headers),
            body=body,
            preload_content=False,
            decode_content=False,
        )


def _handler(front: S3Front) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except ConnectionError:  # the client gave up first
                self.close_connection = True

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            asked = _read(self.command, self.path, self.headers, body)
            front.meter.request(len(body))
            refusal = front.judge(asked)
            if refusal is not None:
                kind = {"Content-Type": "application/xml", **refusal.headers}
                self._send(refusal.status, kind, refusal.body)
                return
            kept_back = _HOP | front.strips
            headers = {n: v for n, v in self.headers.items() if n.lower() not in kept_back}
            told = front.pass_on(self.command, self.path, headers, body)
            answered = {n: v for n, v in told.headers.items() if n.lower() not in _HOP}
            got = told.read(decode_content=False)
            front.answered.append((asked, told.status))
            front.meter.bytes(len(got))
            if self.command == "GET" and told.status == HTTPStatus.OK and front.damages(asked):
                got = got[:-1] + bytes([got[-1] ^ 1])
            self._send(told.status, answered, got)

        def _send(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
            self.send_response_only(status)
            for name, value in headers.items():
                if self.command == "HEAD" or name.lower() != "content-length":
                    self.send_header(name, value)
            if self.command != "HEAD" and front.is_chunked:
                self.send_header("Transfer-Encoding", "chunked")
                body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
            elif self.command != "HEAD":
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = answer

        def log_message(self, *_: object) -> None:
            """Quiet."""

    return Handler


def _read(method: str, target: str, headers: Any, body: bytes) -> Asked:
    split = urlsplit(target)
    bucket, _, key = split.path.removeprefix("/").partition("/")
    lowered = {name.lower(): value for name, value in headers.items()}
    return Asked(method, unquote(bucket), unquote(key), split.query, lowered, body)
