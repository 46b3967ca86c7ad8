"""A monitor on loopback: it writes down what it is asked, as a dead man's switch would."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


_BOUND_SECONDS = 30.0


class Monitor:
    """`status` is what it answers from now on."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.status = 200
        self.body_ends = threading.Event()  # until then what follows the status has no end
        self.body_ends.set()
        monitor = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                monitor.asked.append(self.path)
                self.send_response(monitor.status)
                self.send_header("Content-Length", "0" if monitor.body_ends.is_set() else "9")
                self.end_headers()
                monitor.body_ends.wait(_BOUND_SECONDS)

            def log_message(self, *_args: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@contextmanager
def running_monitor() -> Iterator[Monitor]:
    monitor = Monitor()
    thread = Thread(target=monitor.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield monitor
    finally:
        monitor.server.shutdown()
        monitor.server.server_close()
        thread.join()
