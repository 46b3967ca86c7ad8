"""An S3 server that can be made to lie: threads of this process, on loopback, bounded.

    with LyingS3("cold-bucket") as server:
        server.lies.on("PutObject", keep=lambda held: held.damaged(truncated))

At its end, a lie that was declared and not told is a failure.
"""

from __future__ import annotations

import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Self

from tests.liar.bucket import Buckets
from tests.liar.lies import Lies
from tests.liar.wire import read_asked, send

if TYPE_CHECKING:
    import ssl

    from tests.liar.wire import Asked, Reply

_SILENCE_SECONDS = 60.0  # of a client, before its connection is closed
_BODY_LIMIT_BYTES = 64 << 20
_REMEMBERED = 20_000  # requests


class LyingS3:
    """Listens until it is left. `asked` is what came by, the latest last."""

    def __init__(self, *buckets: str, tls: ssl.SSLContext | None = None) -> None:
        self.lies = Lies()
        self.buckets = Buckets()
        self.buckets.make(*buckets)
        self.asked: deque[Asked] = deque(maxlen=_REMEMBERED)
        self.sent_bytes = 0
        self._lock = threading.Lock()  # over that count
        self._is_closing = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._scheme = "http"
        if tls is not None:
            self._scheme = "https"
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._is_closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        if kind is None:
            self.lies.verify_all_told()

    def answer(self, asked: Asked) -> Reply:
        self.asked.append(asked)
        lie = self.lies.begin(asked)
        if lie.answer is not None:
            return lie.answer(asked)
        reply = self.buckets.answer(
            asked.without(*lie.ignores), lie.keep or (lambda held: held)
        )
        if lie.then is not None:
            lie.then(asked)
        return reply if lie.retell is None else lie.retell(reply)

    def count(self, size_bytes: int) -> None:
        with self._lock:
            self.sent_bytes += size_bytes

    def wait(self, seconds: float) -> bool:
        """Whether the server is being closed, at the latest after so long."""
        return self._is_closing.wait(seconds)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128


def _handler(server: LyingS3) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        timeout = _SILENCE_SECONDS

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except OSError:  # the client gave up first
                self.close_connection = True

        def finish(self) -> None:
            try:
                super().finish()
            except OSError:
                self.close_connection = True

        def serve(self) -> None:
            size_bytes = int(self.headers.get("Content-Length") or 0)
            if size_bytes > _BODY_LIMIT_BYTES:
                self.send_error(413)
                return
            body = self.rfile.read(size_bytes)
            headers = {name.lower(): said for name, said in self.headers.items()}
            reply = server.answer(read_asked(self.command, self.path, headers, body))
            is_kept = send(
                reply,
                self.connection,
                with_body=self.command != "HEAD",
                wait=server.wait,
                count=server.count,
            )
            if not is_kept:
                self.close_connection = True

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = serve

        def log_message(self, *_: object) -> None:
            """Quiet: a test reads `asked`."""

    return Handler
