"""Compressed content, told by its magic bytes: what it decompresses to, within a limit."""

from __future__ import annotations

import hashlib
import zlib
from typing import TYPE_CHECKING

import zstandard

from archiver.model import Digest

if TYPE_CHECKING:
    from collections.abc import Iterator

_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_READ_BYTES = 256 * 1024  # decompressed at a time, so that a bomb is met in small steps
_ZSTD_WINDOW_BYTES = 128 * 1024 * 1024  # a frame may ask for more memory than it has content
_ZSTD_STEP_BYTES = 512  # of input at a time: at most 16 MiB of output (128 KiB from 4 bytes)


class CannotDecompress(ValueError):
    """The bytes say that they are compressed, but they are not whole or not sound."""


class TooMuchContent(ValueError):
    """The bytes decompress to more than the limit."""


def encoding_of(body: bytes) -> str | None:
    """``gzip`` or ``zstd`` where the bytes begin like it, else None."""
    if body.startswith(_GZIP_MAGIC):
        return "gzip"
    if body.startswith(_ZSTD_MAGIC):
        return "zstd"
    return None


def label_of(body: bytes, promised: str | None) -> str | None:
    """The content encoding to store beside these bytes: the promised one, unless it is false.

    An encoding that cannot be told from its first bytes (``br``) is believed.
    """
    if promised in ("gzip", "zstd") and encoding_of(body) != promised:
        return None
    return promised


def content_digest(body: bytes, limit_bytes: int) -> Digest:
    """SHA-256 of the decompressed bytes: every gzip member, every zstd frame; else of `body`.

    Raises:
        CannotDecompress: Truncated or damaged.
        TooMuchContent: More than `limit_bytes` come out.
    """
    hasher = hashlib.sha256()
    for piece in _pieces(body, limit_bytes):
        hasher.update(piece)
    return Digest(hasher.digest())


def content(body: bytes, limit_bytes: int) -> bytes:
    """The decompressed bytes, told apart as by `content_digest`.

    Raises:
        CannotDecompress, TooMuchContent
    """
    return b"".join(_pieces(body, limit_bytes))


def _pieces(body: bytes, limit_bytes: int) -> Iterator[bytes]:
    encoding = encoding_of(body)
    if encoding is None:
        yield body
        return
    content_bytes = 0
    for piece in _gunzip(body) if encoding == "gzip" else _unzstd(body):
        content_bytes += len(piece)
        if content_bytes > limit_bytes:
            message = f"more than {limit_bytes} bytes"
            raise TooMuchContent(message)
        yield piece


def _gunzip(body: bytes) -> Iterator[bytes]:
    rest: bytes = body
    while rest:
        member = zlib.decompressobj(wbits=31)
        try:
            while not member.eof:
                piece = member.decompress(rest, _READ_BYTES)
                rest = member.unconsumed_tail
                if not piece and not rest and not member.eof:
                    message = "the gzip stream ends early"
                    raise CannotDecompress(message)
                yield piece
        except zlib.error as exc:
            raise CannotDecompress(str(exc)) from exc
        rest = member.unused_data.lstrip(b"\0")  # tar and tape pad with zeros; gzip allows it


def _unzstd(body: bytes) -> Iterator[bytes]:
    # decompressobj() gives a truncated frame without an error and stops after the first
    # frame; so the frames are walked here, and each must reach its end.
    rest: bytes = body
    decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES)
    while rest:
        frame = decompressor.decompressobj(write_size=_READ_BYTES)
        fed = 0
        try:
            while not frame.eof and fed < len(rest):
                # A step of input is small, so that one step of output is bounded as well.
                piece = frame.decompress(rest[fed : fed + _ZSTD_STEP_BYTES])
                fed += _ZSTD_STEP_BYTES
                yield piece
        except zstandard.ZstdError as exc:
            raise CannotDecompress(str(exc)) from exc
        if not frame.eof:
            message = "the zstd frame ends early"
            raise CannotDecompress(message)
        rest = frame.unused_data + rest[fed:]
