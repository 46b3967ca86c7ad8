"""Connections that end with the transfer they serve (`deadlines.py`).

Before each wait for the wire the socket is given what is left of the limit, and no more than
the client's own timeout of silence. A wait that is cut short closes its connection: the
store sees an upload that is not whole, and a download that nobody reads.
"""

from __future__ import annotations

import io
from http.client import HTTPResponse
from typing import TYPE_CHECKING, Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from archiver.stores.deadlines import left_seconds

if TYPE_CHECKING:
    import socket

_PIECE_BYTES = 1 << 16  # sent before the limit is looked at again


def _bounded_seconds(silence_seconds: float | None) -> float | None:
    """How long one wait may be.

    Raises:
        TimeoutError: The limit is reached.
    """
    left = left_seconds()
    if left is None:
        return silence_seconds
    if left <= 0:
        message = "the transfer's own limit is reached"
        raise TimeoutError(message)
    return left if silence_seconds is None else min(left, silence_seconds)


class _BoundedReader(io.RawIOBase):
    """What comes in on a socket, each wait bounded."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket) -> None:
        self._raw = raw
        self._sock = sock
        self._silence_seconds = sock.gettimeout()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(_bounded_seconds(self._silence_seconds))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _BoundedResponse(HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_BoundedReader(self.fp.detach(), sock))


class Bounded:
    """Mixed into a connection of urllib3, or of botocore (`bounded_s3.py`), before it."""

    response_class: Any = _BoundedResponse
    timeout: Any
    sock: Any

    def connect(self) -> None:
        silence_seconds, self.timeout = self.timeout, _bounded_seconds(self.timeout)
        try:
            super().connect()  # type: ignore[misc]  # of the class it is mixed into
        finally:
            self.timeout = silence_seconds

    def send(self, data: Any) -> None:
        # In pieces, as one call that sends all of a part has one timeout for all of it.
        rest = memoryview(data)
        for start in range(0, len(rest), _PIECE_BYTES):
            if self.sock is not None:
                self.sock.settimeout(_bounded_seconds(self.timeout))
            super().send(rest[start : start + _PIECE_BYTES])  # type: ignore[misc]

    def getresponse(self) -> Any:
        silence_seconds, self.timeout = self.timeout, _bounded_seconds(self.timeout)
        try:
            return super().getresponse()  # type: ignore[misc]
        finally:
            self.timeout = silence_seconds


class _Connection(Bounded, HTTPConnection):
    pass


class _TlsConnection(Bounded, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


BOUNDED_POOLS = {"http": _Pool, "https": _TlsPool}  # for a PoolManager
