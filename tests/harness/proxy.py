"""A proxy on loopback that tunnels, and keeps whom it was asked for and by whom."""

from __future__ import annotations

import base64
import select
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

_BUFFER_BYTES = 1 << 16


class TunnelProxy:
    """Listens until it is left. With a user, others are refused with 407."""

    def __init__(self, user: str = "", password: str = "") -> None:
        self.asked: list[str] = []  # host:port of each tunnel that was opened
        self.refused_count = 0
        self._login = f"{user}:{password}@" if user else ""
        self.expected = (
            f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"
            if user
            else None
        )
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    @property
    def url(self) -> str:
        return f"http://{self._login}127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _handler(proxy: TunnelProxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_CONNECT(self) -> None:
            if proxy.expected not in {None, self.headers.get("Proxy-Authorization")}:
                proxy.refused_count += 1
                self.send_error(407)
                return
            proxy.asked.append(self.path)
            host, _, port = self.path.rpartition(":")
            with socket.create_connection((host, int(port))) as behind:
                self.send_response_only(200)
                self.end_headers()
                _tunnel(self.connection, behind)
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            """Quiet."""

    return Handler


def _tunnel(one: socket.socket, other: socket.socket) -> None:
    """Until either side closes."""
    peer = {one: other, other: one}
    try:
        while True:
            for ready in select.select([one, other], [], [])[0]:
                data = ready.recv(_BUFFER_BYTES)
                if not data:
                    return
                peer[ready].sendall(data)
    except OSError:
        return
