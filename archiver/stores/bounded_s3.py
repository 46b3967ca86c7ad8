"""Connections of boto3 that end with the transfer they serve, as those of `bounded_http.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from botocore.awsrequest import AWSHTTPConnection, AWSHTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from archiver.stores.bounded_http import Bounded

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class _Connection(Bounded, AWSHTTPConnection):  # type: ignore[misc]
    pass


class _TlsConnection(Bounded, AWSHTTPSConnection):  # type: ignore[misc]
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection  # type: ignore[assignment]


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection  # type: ignore[assignment]


def bound_transfers(client: S3Client) -> None:
    """Let each request of this client end with the transfer it serves."""
    session = client._endpoint.http_session  # type: ignore[attr-defined]  # noqa: SLF001  # boto3 offers no hold on its connections
    # Its own, and those to come: proxies get theirs when they are first needed.
    session._pool_classes_by_scheme.update({"http": _Pool, "https": _TlsPool})  # noqa: SLF001
    session._manager.pool_classes_by_scheme = session._pool_classes_by_scheme  # noqa: SLF001
