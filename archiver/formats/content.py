"""Compressed content, told by its magic bytes: what it decompresses to, within a limit."""

from __future__ import annotations

import hashlib
import itertools
import re
import threading
import zlib
from contextlib import closing
from typing import TYPE_CHECKING, Protocol

import zstandard

from archiver.model import Digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    Buffer = bytes | bytearray | memoryview

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
    with closing(ContentHasher(limit_bytes)) as hasher:
        hasher.update(body)
        return hasher.digest()


def content(body: bytes, limit_bytes: int) -> bytes:
    """The decompressed bytes, told apart as by `content_digest`.

    Raises:
        CannotDecompress, TooMuchContent
    """
    with closing(_decoder_for(body)) as decoder:
        pieces = itertools.chain(decoder.feed(memoryview(body)), decoder.finish())
        return b"".join(_within(pieces, limit_bytes))


def _within(pieces: Iterable[Buffer], limit_bytes: int) -> Iterator[Buffer]:
    content_bytes = 0
    for piece in pieces:
        content_bytes += len(piece)
        if content_bytes > limit_bytes:
            message = f"more than {limit_bytes} bytes"
            raise TooMuchContent(message)
        yield piece


class ContentHasher:
    """SHA-256 of what a stream of bytes decompresses to, however it is cut. One thread's.

    It must be closed: a zstd frame with a wide window keeps others of that kind waiting.

    Args:
        limit_bytes: More than that is refused.
        takes_turns: Wait for the one turn of frames with a wide window. False: the caller
            sees to it that there is no second one.
    """

    def __init__(self, limit_bytes: int, *, takes_turns: bool = True) -> None:
        self._takes_turns = takes_turns
        self._left_bytes = limit_bytes
        self._limit_bytes = limit_bytes
        self._sha256 = hashlib.sha256()
        self._head = b""  # until there is enough of it to tell what it is
        self._decoder: _Decoder | None = None

    def update(self, body: Buffer) -> None:
        """Take the next bytes.

        Raises:
            CannotDecompress: Damaged.
            TooMuchContent: More than the limit came out.
        """
        if self._decoder is None:
            if len(self._head) + len(body) < len(_ZSTD_MAGIC):
                self._head += bytes(body)
                return
            start = self._head + bytes(body[: len(_ZSTD_MAGIC)])
            self._decoder = _decoder_for(start, takes_turns=self._takes_turns)
            self._take(self._decoder.feed(memoryview(self._head)))
        self._take(self._decoder.feed(memoryview(body)))

    def digest(self) -> Digest:
        """Of all that came; nothing more may come.

        Raises:
            CannotDecompress: It ends early.
            TooMuchContent
        """
        if self._decoder is None:
            self._decoder = _decoder_for(self._head, takes_turns=self._takes_turns)
            self._take(self._decoder.feed(memoryview(self._head)))
        self._take(self._decoder.finish())
        return Digest(self._sha256.digest())

    def close(self) -> None:
        if self._decoder is not None:
            self._decoder.close()

    def _take(self, pieces: Iterable[Buffer]) -> None:
        for piece in pieces:
            self._left_bytes -= len(piece)
            if self._left_bytes < 0:
                message = f"more than {self._limit_bytes} bytes"
                raise TooMuchContent(message)
            self._sha256.update(piece)


def _decoder_for(head: bytes, *, takes_turns: bool = True) -> _Decoder:
    match encoding_of(head):
        case "gzip":
            return _Gunzip()
        case "zstd":
            return _Unzstd(takes_turns=takes_turns)
        case _:
            return _AsItIs()


class _Decoder(Protocol):
    """Bytes in, pieces of content out, each a small step: a bomb is met early."""

    def feed(self, body: memoryview) -> Iterator[Buffer]: ...

    def finish(self) -> Iterator[Buffer]:
        """What was still held back, once all bytes have come."""

    def close(self) -> None: ...


class _AsItIs:
    def feed(self, body: memoryview) -> Iterator[Buffer]:
        yield body

    def finish(self) -> Iterator[Buffer]:
        return iter(())

    def close(self) -> None:
        """Nothing is held."""


class _Gunzip:
    """Member after member. Zeros behind one are skipped: tar and tape pad with them."""

    def __init__(self) -> None:
        self._member: zlib._Decompress | None = None  # None: between two

    def feed(self, body: memoryview) -> Iterator[Buffer]:
        # In steps of input: what is left over after a member is copied, and a body may be
        # nothing but members.
        at = 0
        while at < len(body):
            if self._member is None:
                at = _after_zeros(body, at)
                if at == len(body):
                    return
                self._member = zlib.decompressobj(wbits=31)
            member, step = self._member, body[at : at + _GZIP_STEP_BYTES]
            yield self._decompressed(member, step)
            at += len(step) - len(member.unused_data if member.eof else member.unconsumed_tail)
            if member.eof:
                self._member = None

    def finish(self) -> Iterator[Buffer]:
        while self._member is not None:
            piece = self._decompressed(self._member, memoryview(b""))
            if not (piece or self._member.eof):
                message = "the gzip stream ends early"
                raise CannotDecompress(message)
            yield piece
            if self._member.eof:
                self._member = None

    def close(self) -> None:
        self._member = None

    def _decompressed(self, member: zlib._Decompress, step: memoryview) -> bytes:
        try:
            return member.decompress(step, _READ_BYTES)
        except zlib.error as exc:
            raise CannotDecompress(str(exc)) from exc


def _after_zeros(body: memoryview, at: int) -> int:
    zeros = _ZEROS.match(body, at)
    return zeros.end() if zeros else at


class _Unzstd:
    """Frame after frame.

    A decompressobj gives a truncated frame without an error and stops after the first one;
    so the frames are walked here, and each must reach its end.
    """

    def __init__(self, *, takes_turns: bool) -> None:
        self._takes_turns = takes_turns
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES)
        self._frame: zstandard.ZstdDecompressionObj | None = None  # None: between two
        self._head = b""  # of the next frame, until its header is whole
        self._has_turn = False  # of those with a wide window

    def feed(self, body: memoryview) -> Iterator[Buffer]:
        while self._head and body:
            start = memoryview(self._head + bytes(body[:_ZSTD_HEADER_BYTES]))
            self._head, body = b"", body[_ZSTD_HEADER_BYTES:]
            yield from self._walk(start, is_last=False)
        yield from self._walk(body, is_last=False)

    def finish(self) -> Iterator[Buffer]:
        head, self._head = memoryview(self._head), b""
        yield from self._walk(head, is_last=True)
        if self._frame is not None:
            message = "the zstd frame ends early"
            raise CannotDecompress(message)

    def close(self) -> None:
        self._frame = None
        if self._has_turn:
            self._has_turn = False
            _WIDE_WINDOW.release()

    def _walk(self, body: memoryview, *, is_last: bool) -> Iterator[Buffer]:
        at = 0
        while at < len(body):
            if self._frame is None:
                if len(body) - at < _ZSTD_HEADER_BYTES and not is_last:
                    self._head = bytes(body[at:])
                    return
                self._frame = self._begin(body[at : at + _ZSTD_HEADER_BYTES])
            # A step of input is small, so that one step of output is bounded as well.
            frame, step = self._frame, body[at : at + _ZSTD_STEP_BYTES]
            try:
                piece = frame.decompress(step)
            except zstandard.ZstdError as exc:
                raise CannotDecompress(str(exc)) from exc
            at += len(step) - len(frame.unused_data)
            if frame.eof:
                self.close()
            yield piece

    def _begin(self, header: memoryview) -> zstandard.ZstdDecompressionObj:
        """The next frame; one that asks for a wide window waits for the one turn there is."""
        try:
            window_bytes = zstandard.get_frame_parameters(header).window_size
        except zstandard.ZstdError as exc:
            raise CannotDecompress(str(exc)) from exc
        if window_bytes > _WIDE_WINDOW_BYTES and self._takes_turns:
            _WIDE_WINDOW.acquire()
            self._has_turn = True
        return self._decompressor.decompressobj(write_size=_READ_BYTES)
