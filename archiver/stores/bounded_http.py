"""Connections of both HTTP clients that end with the transfer they serve (`deadlines.py`).

Before each wait for the wire the socket is given what is left of the limit, and no more than
the client's own timeout of silence. A wait that is cut short closes its connection: the
store sees an upload that is not whole, and a download that nobody reads.
"""

from __future__ import annotations

import io
from http.client import HTTPResponse
from typing import TYPE_CHECKING, Any

from botocore.awsrequest import AWSHTTPConnection, AWSHTTPSConnection
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from archiver.stores.deadlines import left_seconds

if TYPE_CHECKING:
    import socket

    from mypy_boto3_s3 import S3Client

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


class _Bounded:
    """Mixed into a connection of urllib3 or botocore, before it."""

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


class _Connection(_Bounded, HTTPConnection):
    pass


class _TlsConnection(_Bounded, HTTPSConnection):
    pass


class _AwsConnection(_Bounded, AWSHTTPConnection):  # type: ignore[misc]
    pass


class _AwsTlsConnection(_Bounded, AWSHTTPSConnection):  # type: ignore[misc]
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class _AwsPool(HTTPConnectionPool):
    ConnectionCls = _AwsConnection  # type: ignore[assignment]


class _AwsTlsPool(HTTPSConnectionPool):
    ConnectionCls = _AwsTlsConnection  # type: ignore[assignment]


BOUNDED_POOLS = {"http": _Pool, "https": _TlsPool}  # for a PoolManager
_AWS_POOLS = {"http": _AwsPool, "https": _AwsTlsPool}


def bound_transfers(client: S3Client) -> None:
    """Let each request of this boto3 client end with the transfer it serves."""
    session = client._endpoint.http_session  # type: ignore[attr-defined]  # noqa: SLF001  # boto3 offers no hold on its connections
    # Its own, and those to come: proxies get theirs when they are first needed.
    session._pool_classes_by_scheme.update(_AWS_POOLS)  # noqa: SLF001
    session._manager.pool_classes_by_scheme = session._pool_classes_by_scheme  # noqa: SLF001
