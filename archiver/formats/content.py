"""Compressed content, told by its magic bytes: what it decompresses to, within a limit."""

from __future__ import annotations

import hashlib
import re
import threading
import zlib
from contextlib import closing, nullcontext
from typing import TYPE_CHECKING

import zstandard

from archiver.model import Digest

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from contextlib import AbstractContextManager

_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_READ_BYTES = 256 * 1024  # decompressed at a time, so that a bomb is met in small steps
_ZSTD_WINDOW_BYTES = 128 * 1024 * 1024  # a frame may ask for more memory than it has content
_ZSTD_STEP_BYTES = 512  # of input at a time: at most 16 MiB of output (128 KiB from 4 bytes)
_ZSTD_HEADER_BYTES = 18  # of a frame, at most
_WIDE_WINDOW_BYTES = 8 * 1024 * 1024  # what every decoder should give (RFC 8878)
_WIDE_WINDOW = threading.Lock()  # held while one frame may use more than that
_GZIP_STEP_BYTES = 4096  # of input at a time
_ZEROS = re.compile(rb"\0*")


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
    with closing(_gunzip(body) if encoding == "gzip" else _unzstd(body)) as pieces:
        for piece in pieces:
            content_bytes += len(piece)
            if content_bytes > limit_bytes:
                message = f"more than {limit_bytes} bytes"
                raise TooMuchContent(message)
            yield piece


def _gunzip(body: bytes) -> Generator[bytes]:
    # In steps of input: what is left over after a member is copied, and a body may be
    # nothing but members.
    view, at = memoryview(body), 0
    while at < len(body):
        member, is_whole = zlib.decompressobj(wbits=31), False
        while not is_whole:
            step = view[at : at + _GZIP_STEP_BYTES]
            try:
                piece = member.decompress(step, _READ_BYTES)
            except zlib.error as exc:
                raise CannotDecompress(str(exc)) from exc
            is_whole = member.eof
            at += len(step) - len(member.unused_data if is_whole else member.unconsumed_tail)
            if not (piece or step or is_whole):
                message = "the gzip stream ends early"
                raise CannotDecompress(message)
            yield piece
        at = _after_zeros(body, at)  # tar and tape pad with them; gzip allows it


def _after_zeros(body: bytes, at: int) -> int:
    zeros = _ZEROS.match(body, at)
    return zeros.end() if zeros else at


def _unzstd(body: bytes) -> Generator[bytes]:
    # decompressobj() gives a truncated frame without an error and stops after the first
    # frame; so the frames are walked here, and each must reach its end.
    view, at = memoryview(body), 0
    decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES)
    while at < len(body):
        frame = decompressor.decompressobj(write_size=_READ_BYTES)
        with _room_for_window(view[at : at + _ZSTD_HEADER_BYTES]):
            while not frame.eof and at < len(body):
                # A step of input is small, so that one step of output is bounded as well.
                step = view[at : at + _ZSTD_STEP_BYTES]
                try:
                    piece = frame.decompress(step)
                except zstandard.ZstdError as exc:
                    raise CannotDecompress(str(exc)) from exc
                at += len(step) - len(frame.unused_data)
                yield piece
        if not frame.eof:
            message = "the zstd frame ends early"
            raise CannotDecompress(message)


def _room_for_window(header: memoryview) -> AbstractContextManager[object]:
    """Wait for the one turn of a frame that asks for a wide window; others go at once."""
    try:
        window_bytes = zstandard.get_frame_parameters(header).window_size
    except zstandard.ZstdError as exc:
        raise CannotDecompress(str(exc)) from exc
    return _WIDE_WINDOW if window_bytes > _WIDE_WINDOW_BYTES else nullcontext()
