"""A wire to Postgres that loses the reply to a COMMIT, after it took effect.

with LossyWire(url) as wire:
    ...  # work through `wire.url`
    wire.lose_next_commit()
"""

from __future__ import annotations

import select
import socket
import threading
from contextlib import suppress
from typing import Self
from urllib.parse import urlsplit, urlunsplit

_BUFFER_BYTES = 1 << 16
_ACCEPT_SECONDS = 0.05  # between two looks whether it was left


class LossyWire:
    """Listens until it is left. One lock guards what is to be lost, and what was."""

    def __init__(self, url: str) -> None:
        self.lost_count = 0
        self._split = urlsplit(url)
        self._is_armed = False
        self._lock = threading.Lock()
        self._is_left = threading.Event()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.settimeout(_ACCEPT_SECONDS)
        self._thread = threading.Thread(target=self._accept)

    @property
    def url(self) -> str:
        login, _, _ = self._split.netloc.rpartition("@")
        port = self._listening.getsockname()[1]
        return urlunsplit(self._split._replace(netloc=f"{login}@127.0.0.1:{port}"))

    def lose_next_commit(self) -> None:
        with self._lock:
            self._is_armed = True

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_left.set()
        self._thread.join()
        self._listening.close()

    def _accept(self) -> None:
        while not self._is_left.is_set():
            with suppress(TimeoutError):
                near, _ = self._listening.accept()
                threading.Thread(target=self._carry, args=(near,), daemon=True).start()

    def _carry(self, near: socket.socket) -> None:
        with near, socket.create_connection((self._split.hostname, self._split.port)) as far:
            peer = {near: far, far: near}
            with suppress(OSError):
                while True:
                    for ready in select.select([near, far], [], [])[0]:
                        data = ready.recv(_BUFFER_BYTES)
                        if not data:
                            return
                        peer[ready].sendall(data)
                        if ready is near and self._is_to_lose(data):
                            far.recv(_BUFFER_BYTES)  # it took effect, and nobody learns of it
                            return

    def _is_to_lose(self, data: bytes) -> bool:
        with self._lock:
            is_meant = self._is_armed and b"COMMIT" in data
            if is_meant:
                self._is_armed = False
                self.lost_count += 1
            return is_meant
