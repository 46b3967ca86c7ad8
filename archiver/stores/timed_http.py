"""urllib3 connections whose answers end in time, however they trickle in.

The timeout of a socket is of silence: an answer of which a byte comes now and then has no end.
"""

from __future__ import annotations

import io
import time
from http.client import HTTPResponse
from typing import TYPE_CHECKING, Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

if TYPE_CHECKING:
    import socket

_LEAST_SECONDS = 0.001  # 0 would mean: do not wait at all


class _TimedReader(io.RawIOBase):
    """What comes in on a socket, until all waits for it together took the socket's timeout.

    Time between two reads does not count: the reader may have to wait for room.
    """

    def __init__(self, raw: io.RawIOBase, sock: socket.socket) -> None:
        self._raw = raw
        self._sock = sock
        self._left_seconds = sock.gettimeout()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._left_seconds is None:
            return self._raw.readinto(buffer)
        if self._left_seconds <= 0:
            message = "the answer takes too long"
            raise TimeoutError(message)
        self._sock.settimeout(max(_LEAST_SECONDS, self._left_seconds))
        began_at = time.monotonic()
        try:
            return self._raw.readinto(buffer)
        finally:
            self._left_seconds -= time.monotonic() - began_at

    def close(self) -> None:
        self._raw.close()
        super().close()


class _TimedResponse(HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_TimedReader(self.fp.detach(), sock))


class _TimedConnection(HTTPConnection):
    response_class = _TimedResponse


class _TimedTlsConnection(HTTPSConnection):
    response_class = _TimedResponse


class _TimedPool(HTTPConnectionPool):
    ConnectionCls = _TimedConnection


class _TimedTlsPool(HTTPSConnectionPool):
    ConnectionCls = _TimedTlsConnection


TIMED_POOLS = {"http": _TimedPool, "https": _TimedTlsPool}  # for a PoolManager
