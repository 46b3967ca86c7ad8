"""How far a transfer came: what it says, how it is kept, and what is none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.errors import CheckpointUnusable
from archiver.formats.checkpoint import Checkpoint
from archiver.model import Digest

GOLDEN = Path(__file__).parents[2] / "golden" / "checkpoint.json"
DIGEST = Digest.of(b"x")


def at(offset: int, total_size: int | None) -> Checkpoint:
    return Checkpoint("session", DIGEST, total_size, offset, 1, DIGEST)


def test_a_new_checkpoint() -> None:
    checkpoint = Checkpoint.new("session", DIGEST, 200)

    assert (checkpoint.offset, checkpoint.chunks) == (0, 0)
    assert checkpoint.prefix_digest == Digest.of(b"")
    assert (checkpoint.progress, checkpoint.remaining) == (0.0, 200)
    assert not checkpoint.is_complete


@pytest.mark.parametrize(
    ("offset", "progress", "remaining", "is_complete"),
    [(0, 0.0, 200, False), (50, 0.25, 150, False), (200, 1.0, 0, True)],
)
def test_progress_of_a_checkpoint(
    offset: int, progress: float, remaining: int, *, is_complete: bool
) -> None:
    checkpoint = at(offset, 200)

    assert (checkpoint.progress, checkpoint.remaining) == (progress, remaining)
    assert checkpoint.is_complete is is_complete


def test_progress_of_zero_bytes_is_whole() -> None:
    checkpoint = Checkpoint.new("session", total_size=0)

    assert (checkpoint.progress, checkpoint.remaining) == (1.0, 0)
    assert checkpoint.is_complete


def test_progress_towards_an_unknown_size_is_unknown() -> None:
    checkpoint = at(50, None)

    assert (checkpoint.progress, checkpoint.remaining) == (None, None)
    assert not checkpoint.is_complete


@given(
    st.text(),
    st.none() | st.builds(Digest, st.binary(min_size=32, max_size=32)),
    st.none() | st.integers(0, 1 << 70),
    st.integers(0, 1 << 70),
    st.integers(0, 1 << 70),
)
def test_a_checkpoint_survives_a_round_trip(
    session_id: str, digest: Digest | None, total_size: int | None, offset: int, chunks: int
) -> None:
    if total_size is not None:
        offset = min(offset, total_size)
    checkpoint = Checkpoint(session_id, digest, total_size, offset, chunks, DIGEST)

    assert Checkpoint.from_json(checkpoint.to_json()) == checkpoint
    assert Checkpoint.from_json(checkpoint.to_json().encode()) == checkpoint


def test_one_that_an_earlier_release_wrote_is_read() -> None:
    text = GOLDEN.read_text()

    checkpoint = Checkpoint.from_json(text)

    assert checkpoint.to_json() + "\n" == text
    assert (checkpoint.session_id, checkpoint.offset) == ('"5f1c"', 50)


WHOLE = json.loads(at(50, 200).to_json())


@pytest.mark.parametrize(
    ("told", "problem"),
    [
        ("", "not JSON"),
        (at(50, 200).to_json()[:-1], "not JSON"),
        ("[" * 100_000, "not JSON"),
        (b"\xff\xfe\xfd", "not JSON"),
        ("null", "not of version 1"),
        (WHOLE | {"version": 2}, "not of version 1"),
        ({key: WHOLE[key] for key in WHOLE if key != "offset"}, "missing or unknown: offset"),
        (WHOLE | {"upload_session_url": ""}, "missing or unknown: upload_session_url"),
        (WHOLE | {"session_id": 7}, "session_id must be a text, not '7'"),
        (WHOLE | {"offset": "50"}, "offset must be a whole number, not '50'"),
        (WHOLE | {"offset": 50.0}, "offset must be a whole number"),
        (WHOLE | {"offset": True}, "offset must be a whole number"),
        (WHOLE | {"offset": None}, "offset must be a whole number"),
        (WHOLE | {"chunks": float("nan")}, "chunks must be a whole number"),
        (WHOLE | {"offset": -1}, "offset is negative: -1"),
        (WHOLE | {"chunks": -1}, "chunks is negative: -1"),
        (WHOLE | {"total_size": -1, "offset": 0}, "total_size is negative: -1"),
        (WHOLE | {"offset": 201}, "offset 201 is beyond the total_size of 200"),
        (WHOLE | {"digest": "md5:" + 32 * "0"}, "not a SHA-256 in hex"),
        (WHOLE | {"prefix_digest": None}, "prefix_digest must be a text"),
        (WHOLE | {"prefix_digest": ""}, "not a SHA-256 in hex"),
    ],
)
def test_what_is_no_checkpoint_is_refused_with_a_hint(told: object, problem: str) -> None:
    text = told if isinstance(told, str | bytes) else json.dumps(told)

    with pytest.raises(CheckpointUnusable, match=problem) as caught:
        Checkpoint.from_json(text)

    assert str(caught.value).endswith(CheckpointUnusable.hint)


@given(st.binary(max_size=200) | st.text(max_size=200))
def test_no_text_makes_anything_else_of_it(text: str | bytes) -> None:
    with pytest.raises(CheckpointUnusable):
        Checkpoint.from_json(text)


@given(st.integers(0, 400), st.integers(0, 255))
def test_damage_is_an_error_or_a_checkpoint_that_can_be(place: int, byte: int) -> None:
    text = bytearray(at(50, 200).to_json().encode())
    text[place % len(text)] = byte
    try:
        checkpoint = Checkpoint.from_json(bytes(text))
    except CheckpointUnusable:
        return
    assert 0 <= checkpoint.offset <= (checkpoint.total_size or checkpoint.offset)
