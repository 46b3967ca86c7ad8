from __future__ import annotations

import gzip
import zlib
from collections import deque
from contextlib import closing

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from archiver.formats.content import (
    CannotDecompress,
    ContentHasher,
    TooMuchContent,
    content,
    content_digest,
    encoding_of,
    label_of,
)
from archiver.model import Digest

MIB = 1024 * 1024


@given(st.binary(max_size=2000))
def test_gzip_and_zstd_content_has_the_digest_of_the_plain_bytes(plain: bytes) -> None:
    assert content_digest(gzip.compress(plain), MIB) == Digest.of(plain)
    assert content_digest(zstandard.compress(plain), MIB) == Digest.of(plain)


@given(st.binary(max_size=500), st.binary(max_size=500))
def test_every_member_and_every_frame_is_content(first: bytes, second: bytes) -> None:
    both = Digest.of(first + second)
    assert content_digest(gzip.compress(first) + gzip.compress(second), MIB) == both
    assert content_digest(zstandard.compress(first) + zstandard.compress(second), MIB) == both


def test_bytes_without_a_magic_are_their_own_content() -> None:
    assert content_digest(b"<html>", MIB) == Digest.of(b"<html>")
    assert content_digest(b"", MIB) == Digest.of(b"")


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress])
def test_a_cut_stream_is_no_content_wherever_it_is_cut(compress: object) -> None:
    assert callable(compress)
    whole = compress(b"page " * 4000)
    for length in range(4, len(whole)):
        with pytest.raises(CannotDecompress):
            content_digest(whole[:length], MIB)


def test_rubbish_after_a_stream_is_refused() -> None:
    with pytest.raises(CannotDecompress):
        content_digest(gzip.compress(b"page") + b"rubbish", MIB)
    with pytest.raises(CannotDecompress):
        content_digest(zstandard.compress(b"page") + b"rubbish", MIB)


def test_a_flipped_bit_is_found() -> None:
    body = bytearray(gzip.compress(b"page " * 4000))
    body[len(body) // 2] ^= 1
    with pytest.raises(CannotDecompress):
        content_digest(bytes(body), MIB)


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress])
def test_a_bomb_is_stopped_at_the_limit(compress: object) -> None:
    assert callable(compress)
    bomb = compress(bytes(64 * MIB))
    with pytest.raises(TooMuchContent):
        content_digest(bomb, MIB)


def test_a_zstd_frame_may_not_ask_for_a_huge_window() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=31, compression_level=1)
    compressor = zstandard.ZstdCompressor(compression_params=parameters)
    frame = compressor.compressobj()
    body = frame.compress(b"x" * 1000) + frame.flush()
    with pytest.raises(CannotDecompress):
        content_digest(body, MIB)


def test_the_label_is_dropped_where_the_bytes_deny_it() -> None:
    assert label_of(gzip.compress(b"page"), "gzip") == "gzip"
    assert label_of(b"<html>", "gzip") is None
    assert label_of(gzip.compress(b"page"), "zstd") is None
    assert label_of(b"<html>", "br") == "br"
    assert label_of(gzip.compress(b"page"), None) is None


def test_zlib_without_a_gzip_header_is_not_taken_for_gzip() -> None:
    assert encoding_of(zlib.compress(b"page")) is None


@pytest.mark.parametrize("level", [1, 6, 9])
def test_members_of_every_length_follow_each_other(level: int) -> None:
    """Ends of members fall on every place of a step of input, and of a step of output."""
    parts = [bytes(3_000_000), b"", b"x" * 262_144, b"y" * 262_145, bytes(range(256)) * 50]
    padded = [gzip.compress(part, level) + bytes(n % 3) for n, part in enumerate(parts * 5)]

    assert content_digest(b"".join(padded), 64 * MIB) == Digest.of(b"".join(parts * 5))


BODIES = {
    "plain": b"<html>" * 50,
    "empty": b"",
    "short": b"\x1f\x8b",
    "gzip": gzip.compress(b"page " * 40) + gzip.compress(b"") + bytes(3) + gzip.compress(b"!"),
    "zstd": zstandard.compress(b"page " * 40) + zstandard.compress(b"") * 3,
}


@pytest.mark.parametrize("name", BODIES)
def test_wherever_a_stream_is_cut_in_two_its_content_is_the_same(name: str) -> None:
    body = BODIES[name]
    whole = outcome(body)
    for length in range(len(body) + 1):
        assert outcome(body[:length], body[length:]) == whole
    assert outcome(*[body[n : n + 1] for n in range(len(body))]) == whole


@pytest.mark.parametrize("name", ["gzip", "zstd"])
def test_a_stream_in_pieces_that_ends_early_is_refused(name: str) -> None:
    body = BODIES[name][:-1]
    assert outcome(body[:30], body[30:]) == outcome(body) == "CannotDecompress"


def test_a_bomb_in_pieces_is_stopped_at_the_limit() -> None:
    bomb = zstandard.compress(bytes(64 * MIB))
    pieces = iter(bomb[start : start + 100] for start in range(0, len(bomb), 100))
    with hasher_of(MIB) as hasher, pytest.raises(TooMuchContent):
        deque(map(hasher.update, pieces), maxlen=0)
    assert next(pieces, None) is not None


def test_an_abandoned_frame_with_a_wide_window_lets_the_next_one_go() -> None:
    wide = wide_frame()
    for _ in range(3):
        with hasher_of(64 * MIB) as hasher:
            hasher.update(wide[: len(wide) // 2])
    assert content(wide, 64 * MIB) == bytes(9 * MIB)


def outcome(*pieces: bytes) -> Digest | str:
    with hasher_of(MIB) as hasher:
        try:
            for piece in pieces:
                hasher.update(piece)
            return hasher.digest()
        except CannotDecompress as exc:
            return type(exc).__name__


def hasher_of(limit_bytes: int) -> closing[ContentHasher]:
    return closing(ContentHasher(limit_bytes))


def wide_frame() -> bytes:
    parameters = zstandard.ZstdCompressionParameters(window_log=24, compression_level=1)
    frame = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return frame.compress(bytes(9 * MIB)) + frame.flush()
