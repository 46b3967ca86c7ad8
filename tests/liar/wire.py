"""What is asked and answered on the wire, and the ways in which an answer fails to arrive."""

from __future__ import annotations

import itertools
import socket
import struct
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Literal
from urllib.parse import parse_qsl, unquote, urlsplit
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_DRIP_BYTES = 16
_ENDLESS_BYTES = 192 << 20  # more than any bound of ours, and not what fills a machine
_RESET = struct.pack("ii", 1, 0)  # linger no second: what is closed is reset


@dataclass(frozen=True, slots=True)
class Asked:
    """One request. The key is empty where the bucket is asked."""

    operation: str  # as S3 names it, `Unknown` else
    bucket: str
    key: str
    query: Mapping[str, str]
    headers: Mapping[str, str] = field(repr=False)  # names in lower case
    body: bytes = field(repr=False)

    def without(self, *headers: str) -> Asked:
        """The same, of a store that does not look at these headers."""
        kept = {name: said for name, said in self.headers.items() if name not in headers}
        return replace(self, headers=kept)


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer, and how much of it gets through.

    Attributes:
        length: What Content-Length says; None: the truth, "": nothing is said.
        stops_at: So many bytes of the body are sent, then comes `end`. None: all of them.
        end: What a client sees then: the connection closed, reset, or silent.
        is_silent: Not even the headers come, only `end`.
        drip_seconds: Between the pieces of a body that drips; None: it flows.
        is_endless: The body is sent again and again, in chunks, until the client leaves.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = field(default=b"", repr=False)
    length: str | None = None
    stops_at: int | None = None
    end: Literal["cut", "reset", "hang"] = "cut"
    is_silent: bool = False
    drip_seconds: float | None = None
    is_endless: bool = False

    def with_headers(self, **headers: str) -> Reply:
        """Underscores in names stand for dashes."""
        named = {name.replace("_", "-"): said for name, said in headers.items()}
        return replace(self, headers={**self.headers, **named})

    def pieces(self, *, with_body: bool) -> Iterator[bytes]:
        """The bytes on the wire, head first; dripping, many small ones."""
        body = self.body[: self.stops_at] if with_body else b""
        if self.is_endless and body:
            yield self._head()
            chunk = b"%x\r\n%b\r\n" % (len(body), body)
            yield from itertools.repeat(chunk, _ENDLESS_BYTES // len(body))
            return
        if self.drip_seconds is None:
            yield self._head() + body
            return
        yield self._head()
        for start in range(0, len(body), _DRIP_BYTES):
            yield body[start : start + _DRIP_BYTES]

    def _head(self) -> bytes:
        length = str(len(self.body)) if self.length is None else self.length
        told = {"Date": formatdate(usegmt=True), **self.headers}
        if self.is_endless:
            told["Transfer-Encoding"], length = "chunked", self.length or ""
        if length and self.status != HTTPStatus.NO_CONTENT:
            told["Content-Length"] = length
        lines = [
            f"HTTP/1.1 {self.status} said",
            *(f"{name}: {it}" for name, it in told.items()),
        ]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")


def xml(body: str, status: int = 200, **headers: str) -> Reply:
    said = f'<?xml version="1.0" encoding="UTF-8"?>\n{body}'.encode()
    return Reply(status, {"Content-Type": "application/xml"}, said).with_headers(**headers)


def error(status: int, code: str, message: str = "said so", **headers: str) -> Reply:
    """A refusal as S3 words it."""
    told = f"<Error><Code>{escape(code)}</Code><Message>{escape(message)}</Message></Error>"
    return xml(told, status, **headers)


def read_asked(method: str, target: str, headers: Mapping[str, str], body: bytes) -> Asked:
    split = urlsplit(target)
    bucket, _, key = split.path.removeprefix("/").partition("/")
    query = dict(parse_qsl(split.query, keep_blank_values=True))
    return Asked(
        _operation(method, key, query), unquote(bucket), unquote(key), query, headers, body
    )


_OF_OBJECTS = {
    "GET": "GetObject",
    "HEAD": "HeadObject",
    "PUT": "PutObject",
    "DELETE": "DeleteObject",
}
_OF_UPLOADS = {
    "PUT": "UploadPart",
    "GET": "ListParts",
    "POST": "CompleteMultipartUpload",
    "DELETE": "AbortMultipartUpload",
}
_UNKNOWN = {"acl", "tagging"}


def _operation(method: str, key: str, query: Mapping[str, str]) -> str:
    if query.keys() & _UNKNOWN:
        return "Unknown"
    if "uploadId" in query:
        return _OF_UPLOADS.get(method, "Unknown")
    if "uploads" in query:
        return "CreateMultipartUpload" if key else "ListMultipartUploads"
    if key:
        return _OF_OBJECTS.get(method, "Unknown")
    match method:
        case "GET" if "location" in query:
            return "GetBucketLocation"
        case "GET" if query.get("list-type") == "2":
            return "ListObjectsV2"
        case "POST" if "delete" in query:
            return "DeleteObjects"
        case "HEAD":
            return "HeadBucket"
        case "PUT" if not query:
            return "CreateBucket"
    return "Unknown"


def send(
    reply: Reply,
    connection: socket.socket,
    *,
    with_body: bool,
    wait: Callable[[float], bool],
    count: Callable[[int], object],
) -> bool:
    """Send as much of a reply as gets through; whether the connection may be used again.

    `wait` sleeps for so many seconds, and tells whether the server is being closed: a hang
    ends with it, or when the client goes. `count` is told of the bytes that were sent.
    """
    if not reply.is_silent:
        for piece in reply.pieces(with_body=with_body):
            connection.sendall(piece)
            count(len(piece))
            if reply.drip_seconds is not None and wait(reply.drip_seconds):
                return False
        is_as_said = reply.stops_at is None and reply.length is None and not reply.is_endless
        if is_as_said or not with_body:
            return True
    if reply.end == "hang":
        _hang(connection, wait)
    elif reply.end == "reset":
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    return False


_LOOK_SECONDS = 0.05


def _hang(connection: socket.socket, wait: Callable[[float], bool]) -> None:
    """Say nothing until the client gives up."""
    connection.setblocking(False)  # noqa: FBT003  # its only argument
    while not wait(_LOOK_SECONDS):
        try:
            if not connection.recv(1, socket.MSG_PEEK):
                return
        except BlockingIOError:
            continue
        except OSError:
            return
