"""Any stream into any other: every byte once, and every checkpoint true.

The first part is P's own list of tests; the second its defects, by number.
"""

from __future__ import annotations

import gzip
import io
import os
import threading
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.engine.stop import Stop
from archiver.engine.transfer import stream_transfer
from archiver.errors import (
    CheckpointUnusable,
    SourceChanged,
    SourceDigestMismatch,
    SourceSizeMismatch,
    StoreDenied,
    TargetFull,
    TargetMisplaced,
    TransferBroken,
    TransferStopped,
    TransferTimedOut,
)
from archiver.formats.checkpoint import Checkpoint
from archiver.formats.parts import DATACENTER, EDGE, TACTICAL, Profile, custom_profile
from archiver.model import Digest
from tests.fakes.streams import (
    AppendedPipe,
    BrokenReader,
    Disk,
    Hang,
    Pipe,
    ShortReader,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

BODY = bytes(range(200))
WRONG = Digest.of(b"something else")
SOON = 1.0  # seconds until a timeout that a test waits for: what does not hang is faster
LATE = 20.0  # seconds until one that no test meets


def small(read_bytes: int = 50, reads: int = 1, *, timeout_seconds: float = LATE) -> Profile:
    return custom_profile(read_bytes, reads, timeout_seconds=timeout_seconds)


class Saved(list[Checkpoint]):
    """What `on_checkpoint` was given, each compared with what the disk holds by then."""

    def __init__(self, disk: Disk | None = None, body: bytes = BODY) -> None:
        self._disk = disk
        self._body = body

    def __call__(self, checkpoint: Checkpoint) -> None:
        assert checkpoint.prefix_digest == Digest.of(self._body[: checkpoint.offset])
        if self._disk is not None:
            assert self._disk.durable.startswith(self._body[: checkpoint.offset])
        self.append(Checkpoint.from_json(checkpoint.to_json()))

    @property
    def offsets(self) -> list[int]:
        return [checkpoint.offset for checkpoint in self]


def checkpoint_at(offset: int, body: bytes = BODY, *, session_id: str = "s") -> Checkpoint:
    """As a transfer in chunks of 50 leaves it."""
    begun = Checkpoint.new(session_id, Digest.of(body), len(body))
    prefix = Digest.of(body[:offset])
    return replace(begun, offset=offset, chunks=-(-offset // 50), prefix_digest=prefix)


@pytest.fixture
def hang() -> Iterator[Hang]:
    hang = Hang()
    yield hang
    hang.end()


# --- P's own tests; profiles are in formats/test_parts.py, checkpoints in test_checkpoint.py --


@pytest.mark.parametrize("profile", [DATACENTER, TACTICAL, EDGE], ids=lambda it: it.name)
def test_a_small_object(profile: Profile) -> None:
    target = io.BytesIO()

    result = stream_transfer(io.BytesIO(BODY), target, profile)

    assert target.getvalue() == BODY
    assert (result.bytes_transferred, result.resumed) == (200, False)


def test_several_checkpoints() -> None:
    body, saved = os.urandom(1024), Saved(body=b"")
    saved._body = body

    result = stream_transfer(io.BytesIO(body), io.BytesIO(), small(100, 2), None, saved)

    assert saved.offsets == [200, 400, 600, 800, 1000, 1024]
    assert [checkpoint.chunks for checkpoint in saved] == [2, 4, 6, 8, 10, 11]
    assert result.checkpoints_saved == 6


def test_the_right_digest() -> None:
    result = stream_transfer(io.BytesIO(BODY), io.BytesIO(), digest=Digest.of(BODY))

    assert result.computed_digest == Digest.of(BODY)


def test_a_wrong_digest() -> None:
    with pytest.raises(SourceDigestMismatch, match=f"expected={WRONG} seen={Digest.of(BODY)}"):
        stream_transfer(io.BytesIO(BODY), io.BytesIO(), digest=WRONG)


def test_resume_writes_only_the_rest() -> None:
    disk = Disk(BODY[:50])
    target = disk.open()

    result = stream_transfer(io.BytesIO(BODY), target, small(), checkpoint_at(50))

    assert (result.bytes_transferred, target.written_bytes) == (150, 150)
    assert (result.total_size, result.resumed) == (200, True)
    assert result.computed_digest == Digest.of(BODY)
    assert disk.durable == BODY


@pytest.mark.parametrize("total_size", [0, None])
def test_an_empty_source(total_size: int | None) -> None:
    saved = Saved()

    result = stream_transfer(
        io.BytesIO(), io.BytesIO(b""), on_checkpoint=saved, total_size=total_size
    )

    assert (result.bytes_transferred, result.total_size) == (0, 0)
    assert result.computed_digest == Digest.of(b"")
    assert [checkpoint.is_complete for checkpoint in saved] == [True]


@pytest.mark.parametrize("total_size", [200, None])
@pytest.mark.parametrize("chunk_bytes", [50, 100, 200])
def test_an_exact_chunk_boundary(chunk_bytes: int, total_size: int | None) -> None:
    target, saved = io.BytesIO(), Saved()

    stream_transfer(
        io.BytesIO(BODY), target, small(chunk_bytes), None, saved, total_size=total_size
    )

    assert target.getvalue() == BODY
    assert saved[-1].chunks == 200 // chunk_bytes
    assert saved[-1].is_complete


class CallbackError(Exception):
    """Of the caller's own."""


def test_a_callback_error_ends_the_transfer() -> None:
    target, told = io.BytesIO(), []

    def fail(checkpoint: Checkpoint) -> None:
        told.append(checkpoint.offset)
        raise CallbackError

    with pytest.raises(CallbackError):
        stream_transfer(io.BytesIO(BODY), target, small(), None, fail)

    assert told == [50]  # and not once more for its own failure
    assert target.getvalue() == BODY[:50]


def test_result_fields() -> None:
    result = stream_transfer(
        io.BytesIO(BODY), io.BytesIO(BODY[:50]), small(), checkpoint_at(50), Saved()
    )

    assert result.bytes_transferred == 150
    assert result.total_size == 200
    assert str(result.computed_digest) == Digest.of(BODY).raw.hex()
    assert result.resumed
    assert result.checkpoints_saved == 3
    assert result.started_over is None


# --- P's defects --------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(1,), (49,), (51, 1, 7), (200,)], ids=str)
def test_p01_short_reads_are_filled(sizes: tuple[int, ...]) -> None:
    written: list[int] = []

    class Seen(io.BytesIO):
        def write(self, body: object, /) -> int:
            written.append(len(body))  # type: ignore[arg-type]
            return super().write(body)  # type: ignore[arg-type]

    saved = Saved()
    stream_transfer(ShortReader(BODY, sizes), Seen(), small(60, 2), None, saved)

    assert written == [60, 60, 60, 20]
    assert saved.offsets == [120, 200]
    assert saved[-1].chunks == 4


def test_p02_the_last_checkpoint_is_the_progress_on_success() -> None:
    disk = Disk()
    saved = Saved(disk)

    stream_transfer(io.BytesIO(BODY), disk.open(), TACTICAL, None, saved)

    assert saved.offsets == [200]
    assert saved[-1].is_complete


def test_p02_the_last_checkpoint_is_the_progress_on_a_failed_read() -> None:
    disk = Disk()
    saved = Saved(disk)

    def reset() -> None:
        raise ConnectionResetError(104, "reset by peer")

    with pytest.raises(TransferBroken) as caught:
        stream_transfer(BrokenReader(BODY, 130, reset), disk.open(), TACTICAL, None, saved)

    assert (caught.value.doing, caught.value.offset) == ("reading", 130)
    assert caught.value.code == "ECONNRESET"
    assert (saved.offsets, disk.durable) == ([130], BODY[:130])  # nothing read is lost


def test_p02_the_last_checkpoint_is_the_progress_on_a_read_that_hangs(hang: Hang) -> None:
    disk = Disk()
    saved = Saved(disk)
    profile = replace(TACTICAL, timeout_seconds=SOON)

    with pytest.raises(TransferTimedOut):
        stream_transfer(BrokenReader(BODY, 130, hang), disk.open(), profile, None, saved)

    assert (saved.offsets, disk.durable) == ([130], BODY[:130])


def test_p02_the_last_checkpoint_is_the_progress_on_a_failed_write() -> None:
    disk = Disk(is_full_at=130)
    saved = Saved(disk)

    with pytest.raises(TargetFull) as caught:
        stream_transfer(io.BytesIO(BODY), disk.open(), small(), None, saved)

    assert (caught.value.doing, caught.value.offset) == ("writing", 130)
    assert saved.offsets == [50, 100]


def test_p02_the_last_checkpoint_is_the_progress_when_it_is_stopped() -> None:
    disk, stop = Disk(), Stop()
    saved = Saved(disk)

    class Asking(ShortReader):
        def read(self, size_bytes: int, /) -> bytes:
            if self.reads_count == 2:
                stop.request("signal")
            return super().read(size_bytes)

    with pytest.raises(TransferStopped, match="reason=signal") as caught:
        stream_transfer(Asking(BODY), disk.open(), small(40, 100), None, saved, stop=stop)

    assert saved.offsets == [caught.value.offset]
    assert 40 <= caught.value.offset <= 120
    result = stream_transfer(io.BytesIO(BODY), disk.open(), small(40), saved[-1])
    assert (result.resumed, disk.durable) == (True, BODY)


def test_p02_a_wish_made_before_it_began_is_heard() -> None:
    stop = Stop()
    stop.request("duration")
    target = io.BytesIO()

    with pytest.raises(TransferStopped, match="reason=duration"):
        stream_transfer(io.BytesIO(BODY), target, stop=stop)

    assert target.getvalue() == b""


def test_p03_what_a_checkpoint_says_is_durable_by_then(tmp_path: Path) -> None:
    """In a real file: what was written is in it, and was synced, at each checkpoint."""
    path = tmp_path / "target"
    sizes = []
    with path.open("wb") as target:

        def look(checkpoint: Checkpoint) -> None:
            sizes.append((checkpoint.offset, path.stat().st_size))

        stream_transfer(io.BytesIO(BODY), target, small(), None, look, total_size=200)

    assert sizes == [(50, 50), (100, 100), (150, 150), (200, 200)]


def test_p03_a_file_is_synced_before_each_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[object] = []
    monkeypatch.setattr(os, "fsync", lambda _: order.append("synced"))
    with (tmp_path / "target").open("wb") as target:
        stream_transfer(
            io.BytesIO(BODY),
            target,
            small(100),
            None,
            lambda it: order.append(it.offset),
            total_size=200,
        )

    assert order == ["synced", 100, "synced", 200]


def test_p03_a_target_that_cannot_be_synced_gets_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    saved = Saved()
    with (
        (tmp_path / "target").open("wb") as target,
        pytest.raises(TransferBroken, match="doing=syncing offset=50 code=EIO"),
    ):
        stream_transfer(io.BytesIO(BODY), target, small(), None, saved)

    assert saved == []


def test_p03_bytes_beyond_the_offset_are_cut_on_resume() -> None:
    disk = Disk(BODY[:50] + b"half a chunk that a failed write left" * 10)

    stream_transfer(io.BytesIO(BODY), disk.open(), small(), checkpoint_at(50))

    assert disk.durable == BODY


@pytest.mark.parametrize("mode", ["r+b", "ab"])
def test_p03_a_file_is_cut_and_positioned_on_resume(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "target"
    path.write_bytes(BODY[:50] + b"left")
    with path.open(mode) as target:
        stream_transfer(io.BytesIO(BODY), target, small(), checkpoint_at(50))

    assert path.read_bytes() == BODY


def test_p03_a_target_that_only_appends_must_stand_at_the_offset() -> None:
    pipe = AppendedPipe(body=bytearray(BODY[:50]))
    stream_transfer(io.BytesIO(BODY), pipe, small(), checkpoint_at(50))
    assert pipe.body == BODY

    pipe = AppendedPipe(body=bytearray(BODY[:49]))
    with pytest.raises(TargetMisplaced, match="expected=50 found=49"):
        stream_transfer(io.BytesIO(BODY), pipe, small(), checkpoint_at(50))
    assert pipe.body == BODY[:49]

    silent = Pipe(body=bytearray(BODY[:50]))
    with pytest.raises(TargetMisplaced, match="expected=50 found=unknown"):
        stream_transfer(io.BytesIO(BODY), silent, small(), checkpoint_at(50))


def test_p03_a_target_with_something_in_it_is_not_cut_for_a_new_object(tmp_path: Path) -> None:
    """`>>` of a shell, and a file that somebody wrote a header into."""
    path = tmp_path / "target"
    path.write_bytes(b"a header")
    with (
        path.open("ab") as target,
        pytest.raises(TargetMisplaced, match="expected=0 found=8"),
    ):
        stream_transfer(io.BytesIO(BODY), target)
    with path.open("r+b") as target:
        target.seek(3)
        with pytest.raises(TargetMisplaced, match="expected=0 found=3"):
            stream_transfer(io.BytesIO(BODY), target)

    assert path.read_bytes() == b"a header"


def test_p03_a_new_checkpoint_is_no_leave_to_cut_what_is_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"lines of others")
    with path.open("ab") as target, pytest.raises(TargetMisplaced, match="found=15"):
        stream_transfer(io.BytesIO(BODY), target, checkpoint=Checkpoint.new("s"))

    assert path.read_bytes() == b"lines of others"


@pytest.mark.parametrize("mode", ["r+b", "ab"])
def test_p03_what_a_failed_write_left_is_cut_at_once(tmp_path: Path, mode: str) -> None:
    path, saved = tmp_path / "target", Saved()
    path.touch()

    class Breaking(io.FileIO):
        def write(self, body: object, /) -> int:
            if self.tell() > 0:
                raise OSError(5, "Input/output error")
            return super().write(memoryview(body)[:20])  # type: ignore[arg-type]

    with Breaking(path, mode) as broken, pytest.raises(TransferBroken, match="offset=20"):
        stream_transfer(io.BytesIO(BODY), broken, small(), None, saved)
    assert (saved.offsets, path.read_bytes()) == ([0], b"")

    with path.open(mode) as target:
        stream_transfer(io.BytesIO(BODY), target, small(), saved[-1])
    assert path.read_bytes() == BODY


def test_p03_a_target_that_lost_bytes_is_filled_anew() -> None:
    disk = Disk(BODY[:30])
    saved = Saved(disk)

    result = stream_transfer(io.BytesIO(BODY), disk.open(), small(), checkpoint_at(50), saved)

    assert (result.started_over, result.resumed) == ("target", False)
    assert (disk.durable, result.bytes_transferred) == (BODY, 200)
    assert saved.offsets == [0, 50, 100, 150, 200]


@pytest.mark.parametrize("total_size", [199, 201])
def test_p04_any_difference_from_the_declared_size_is_an_error(total_size: int) -> None:
    saved = Saved()

    with pytest.raises(SourceSizeMismatch, match=f"expected={total_size} seen="):
        stream_transfer(
            io.BytesIO(BODY), io.BytesIO(), small(), None, saved, total_size=total_size
        )

    assert all(0 <= (checkpoint.progress or 0) <= 1 for checkpoint in saved)
    assert not any(checkpoint.is_complete for checkpoint in saved)


def test_p04_a_source_that_was_cut_goes_on_where_it_ended() -> None:
    disk = Disk()
    saved = Saved(disk)
    with pytest.raises(SourceSizeMismatch, match="expected=200 seen=130"):
        stream_transfer(
            io.BytesIO(BODY[:130]), disk.open(), small(), None, saved, total_size=200
        )

    result = stream_transfer(io.BytesIO(BODY), disk.open(), small(), saved[-1], saved)

    assert (result.bytes_transferred, disk.durable) == (70, BODY)


def test_p04_one_that_is_too_long_leaves_nothing_to_be_taken_for_it() -> None:
    disk = Disk()
    saved = Saved(disk)

    with pytest.raises(SourceSizeMismatch, match="seen=more than 199"):
        stream_transfer(io.BytesIO(BODY), disk.open(), small(), None, saved, total_size=199)

    assert (saved[-1].offset, disk.durable) == (0, b"")


def test_p05_after_a_mismatch_the_next_try_starts_clean() -> None:
    disk = Disk()
    bad = BODY[:-1] + b"?"
    saved = Saved(disk, bad)

    with pytest.raises(SourceDigestMismatch):
        stream_transfer(
            io.BytesIO(bad), disk.open(), small(), None, saved, digest=Digest.of(BODY)
        )

    assert (saved[-1].offset, saved[-1].chunks, disk.durable) == (0, 0, b"")
    assert not any(checkpoint.is_complete for checkpoint in saved)
    result = stream_transfer(io.BytesIO(BODY), disk.open(), small(), saved[-1])
    assert (result.resumed, result.started_over, disk.durable) == (False, None, BODY)


def test_p05_a_target_that_cannot_be_cut_is_no_way_to_pass() -> None:
    pipe, saved = AppendedPipe(), Saved()
    with pytest.raises(SourceDigestMismatch):
        stream_transfer(io.BytesIO(BODY), pipe, small(), None, saved, digest=WRONG)

    with pytest.raises(TargetMisplaced):
        stream_transfer(io.BytesIO(BODY), pipe, small(), saved[-1])


def test_p06_a_resume_sends_nothing_again_and_proves_the_whole() -> None:
    disk = Disk(BODY[:150])
    target = disk.open()

    result = stream_transfer(io.BytesIO(BODY), target, small(), checkpoint_at(150))

    assert target.written_bytes == 50
    assert result.computed_digest == Digest.of(BODY)


def test_p06_what_is_complete_is_proven_again_and_not_sent() -> None:
    target, saved = Disk(BODY).open(), Saved()

    result = stream_transfer(io.BytesIO(BODY), target, small(), checkpoint_at(200), saved)

    assert (target.written_bytes, result.bytes_transferred, result.resumed) == (0, 0, True)
    assert (result.checkpoints_saved, saved) == (0, [])  # the caller has that one


FOREIGN = {
    "session": {"session_id": "another"},
    "size": {"total_size": 199},
    "digest": {"digest": Digest.of(BODY[::-1])},
}


@pytest.mark.parametrize("changed", FOREIGN)
def test_p08_a_foreign_checkpoint_is_not_used_and_that_is_said(changed: str) -> None:
    disk, saved = Disk(BODY[:50]), Saved(body=BODY[::-1][:199])
    body = BODY[::-1] if changed != "size" else BODY[::-1][:199]
    saved._body = body

    result = stream_transfer(
        ShortReader(body),
        disk.open(),
        small(),
        checkpoint_at(50),
        saved,
        **FOREIGN[changed],  # type: ignore[arg-type]
    )

    assert (result.started_over, result.resumed) == (changed, False)
    assert disk.durable == body
    assert saved.offsets[0] == 0
    assert saved[-1].session_id == ("another" if changed == "session" else "s")


@pytest.mark.parametrize("length", [200, 20])
def test_p08_a_source_that_changed_starts_over_and_that_is_said(length: int) -> None:
    changed = bytes(length)
    disk, saved = Disk(BODY[:50]), Saved(body=changed)
    begun = replace(checkpoint_at(50), digest=None, total_size=None)
    source = io.BytesIO(b"a header" + changed)
    source.seek(8)  # an object need not begin where its file does

    result = stream_transfer(source, disk.open(), small(), begun, saved)

    assert (result.started_over, result.resumed) == ("bytes", False)
    assert disk.durable == changed
    assert saved.offsets[0] == 0


def test_p08_one_that_cannot_be_read_again_starts_over_at_the_next_try() -> None:
    changed = bytes(200)
    disk, saved = Disk(BODY[:50]), Saved(body=changed)
    begun = replace(checkpoint_at(50), digest=None)

    with pytest.raises(SourceChanged, match="Open it anew"):
        stream_transfer(ShortReader(changed), disk.open(), small(), begun, saved)

    assert (saved.offsets, disk.durable) == ([0], b"")
    stream_transfer(ShortReader(changed), disk.open(), small(), saved[-1], saved)
    assert disk.durable == changed


def test_p08_a_changed_source_does_not_get_by_the_digest_it_was_begun_with() -> None:
    disk = Disk(BODY[:50])
    with pytest.raises(SourceDigestMismatch):
        stream_transfer(io.BytesIO(bytes(200)), disk.open(), small(), checkpoint_at(50))
    assert disk.durable == b""


@pytest.mark.parametrize("total_size", [10, None])
@pytest.mark.parametrize("sizes", [(1 << 30,), (3,)], ids=["whole", "short"])
def test_p09_a_tiny_object_costs_no_large_buffer(
    total_size: int | None, sizes: tuple[int, ...]
) -> None:
    tracemalloc.start()
    try:
        stream_transfer(
            ShortReader(b"0123456789", sizes), io.BytesIO(), DATACENTER, total_size=total_size
        )
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 1 << 20


def test_p10_an_offset_beyond_the_size_is_rejected_at_load() -> None:
    text = checkpoint_at(200).to_json().replace('"offset": 200', '"offset": 201')

    with pytest.raises(CheckpointUnusable, match=r"offset 201 is beyond the total_size of 200"):
        Checkpoint.from_json(text)


def test_p10_errors_name_the_true_position_and_what_was_done(hang: Hang) -> None:
    def reset() -> None:
        raise ConnectionResetError(104, "reset by peer")

    disk, begun = Disk(BODY[:150]), checkpoint_at(150)
    with pytest.raises(TransferBroken, match="doing=skipping offset=70 code=ECONNRESET"):
        stream_transfer(BrokenReader(BODY, 70, reset), disk.open(), small(), begun)
    with pytest.raises(TransferBroken, match="doing=reading offset=170 code=ECONNRESET"):
        stream_transfer(BrokenReader(BODY, 170, reset), disk.open(), small(), begun)
    with pytest.raises(TransferTimedOut, match="doing=reading offset=170 code=timeout"):
        stream_transfer(
            BrokenReader(BODY, 170, hang), disk.open(), small(timeout_seconds=SOON), begun
        )


@pytest.mark.parametrize("seconds", [0.5, 0.05, 1e-9, 1 / 3, 120, 86_400.001])
def test_p11_durations_survive_a_round_trip_exactly(seconds: float) -> None:
    profile = custom_profile(1, 1, timeout_seconds=seconds)

    assert Profile.from_json(profile.to_json()) == profile


def test_p12_a_source_that_stalls_while_it_is_skipped_is_given_up(hang: Hang) -> None:
    disk = Disk(BODY[:150])

    with pytest.raises(TransferTimedOut, match="doing=skipping offset=70") as caught:
        stream_transfer(
            BrokenReader(BODY, 70, hang),
            disk.open(),
            small(timeout_seconds=SOON),
            checkpoint_at(150),
        )

    assert "left behind" in str(caught.value)
    assert disk.durable == BODY[:150]


def test_p12_a_target_that_stalls_is_given_up_and_gets_no_checkpoint(hang: Hang) -> None:
    class Stalled(Pipe):
        def write(self, body: bytes | bytearray | memoryview, /) -> int:
            if len(self.body) == 100:
                hang()
            return super().write(body)

    saved = Saved()
    with pytest.raises(TransferTimedOut, match="doing=writing offset=100"):
        stream_transfer(
            io.BytesIO(BODY), Stalled(), small(50, 100, timeout_seconds=SOON), None, saved
        )

    assert saved == []  # nobody can tell what became of it


def test_p12_who_wakes_up_after_it_was_given_up_writes_no_more(hang: Hang) -> None:
    class Slow(Pipe):
        def write(self, body: bytes | bytearray | memoryview, /) -> int:
            hang()
            return super().write(body)

    target = Slow(most=10)
    with pytest.raises(TransferTimedOut):
        stream_transfer(io.BytesIO(BODY), target, small(timeout_seconds=SOON))
    hang.end()
    for thread in threading.enumerate():
        if thread.name == "archiver-transfer-writer":
            thread.join(LATE)

    assert target.body == BODY[:10]


def test_p12_a_slow_wire_that_gets_on_is_not_given_up() -> None:
    """The bound is of one read: a chunk of many may take much longer."""

    class Slow(ShortReader):
        def read(self, size_bytes: int, /) -> bytes:
            threading.Event().wait(0.02)
            return super().read(size_bytes)

    target = io.BytesIO()
    stream_transfer(Slow(BODY, (2,)), target, small(200, timeout_seconds=1.0))  # about 2 s
    assert target.getvalue() == BODY


def test_p13_a_checkpoint_says_nothing_that_is_not_used() -> None:
    """Each field decides something: another value of it is noticed, or told on."""
    begun = checkpoint_at(50)
    other = {
        "session_id": "another",
        "digest": WRONG,
        "total_size": 201,
        "offset": 51,
        "prefix_digest": WRONG,
    }

    def outcome(checkpoint: Checkpoint) -> object:
        saved: list[Checkpoint] = []
        try:
            result = stream_transfer(
                io.BytesIO(BODY),
                Disk(BODY[:100]).open(),
                small(),
                checkpoint,
                saved.append,
                session_id="s",
            )
        except (SourceDigestMismatch, SourceSizeMismatch) as exc:
            return type(exc)
        return result.started_over, saved[-1].chunks

    assert outcome(begun) == (None, 4)
    assert outcome(replace(begun, chunks=7)) == (None, 10)
    for name, value in other.items():
        assert outcome(replace(begun, **{name: value})) != (None, 4), name  # type: ignore[arg-type]


@pytest.mark.parametrize("prefix", ["", "sha256:", "SHA256:"])
def test_p13_digests_are_compared_as_bytes_and_not_as_text(prefix: str) -> None:
    promised = Digest.parse(prefix + str(Digest.of(BODY)).upper())

    stream_transfer(io.BytesIO(BODY), io.BytesIO(), digest=promised)


@pytest.mark.parametrize("digest", ["md5:" + 32 * "0", "sha1:" + 64 * "0", "0" * 63, ""])
def test_p13_unknown_algorithms_are_refused(digest: str) -> None:
    text = checkpoint_at(50).to_json().replace(f"sha256:{Digest.of(BODY)}", digest)

    with pytest.raises(CheckpointUnusable, match="not a SHA-256"):
        Checkpoint.from_json(text)


# --- any sizes, any stop, any offset --------------------------------------------------------


@given(
    body=st.binary(max_size=300),
    sizes=st.lists(st.integers(1, 100), min_size=1, max_size=5),
    taken=st.integers(1, 100),
    chunk_bytes=st.integers(1, 120),
    reads=st.integers(1, 4),
    is_size_known=st.booleans(),
)
def test_any_reads_writes_and_chunks_bring_the_same_bytes(
    body: bytes,
    sizes: list[int],
    taken: int,
    chunk_bytes: int,
    reads: int,
    is_size_known: bool,  # noqa: FBT001
) -> None:
    target, saved = AppendedPipe(most=taken), Saved(body=body)

    result = stream_transfer(
        ShortReader(body, sizes),
        target,
        small(chunk_bytes, reads),
        None,
        saved,
        total_size=len(body) if is_size_known else None,
    )

    assert (bytes(target.body), result.computed_digest) == (body, Digest.of(body))
    assert result.total_size == result.bytes_transferred == len(body)
    assert saved[-1].is_complete
    steps = [b - a for a, b in zip([0, *saved.offsets], saved.offsets, strict=False)]
    assert all(
        step == -(-chunk_bytes * reads // chunk_bytes) * chunk_bytes for step in steps[:-1]
    )


@given(
    body=st.binary(min_size=1, max_size=200),
    sizes=st.lists(st.integers(1, 100), min_size=1, max_size=5),
    chunk_bytes=st.lists(st.integers(1, 90), min_size=2, max_size=2),
    data=st.data(),
)
def test_broken_anywhere_and_resumed_it_is_as_if_unbroken(
    body: bytes, sizes: list[int], chunk_bytes: list[int], data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(body) - 1))
    disk = Disk()
    saved = Saved(disk, body)

    def reset() -> None:
        raise ConnectionResetError

    with pytest.raises(TransferBroken) as caught:
        stream_transfer(
            BrokenReader(body, at, reset), disk.open(), small(chunk_bytes[0]), None, saved
        )
    assert caught.value.offset == saved[-1].offset == at
    again = disk.open()
    result = stream_transfer(
        ShortReader(body, sizes), again, small(chunk_bytes[1]), saved[-1], saved
    )

    assert (disk.durable, result.computed_digest) == (body, Digest.of(body))
    assert (again.written_bytes, result.total_size) == (len(body) - at, len(body))
    assert saved[-1].is_complete


@pytest.mark.parametrize("offset", range(65))
def test_resumed_from_every_offset(offset: int) -> None:
    body = BODY[:64]
    disk = Disk(body[:offset] + b"left over")

    result = stream_transfer(
        ShortReader(body, (5,)), disk.open(), small(16), checkpoint_at(offset, body)
    )

    assert (disk.durable, result.computed_digest) == (body, Digest.of(body))
    assert result.bytes_transferred == 64 - offset


def test_killed_between_any_two_writes_it_resumes(tmp_path: Path) -> None:
    """The disk as it is at each write, with the last checkpoint by then."""
    last: list[Checkpoint | None] = [None]
    moments: list[tuple[bytes, Checkpoint | None]] = []
    path = tmp_path / "target"

    class Watched(io.FileIO):
        def write(self, body: object, /) -> int:
            written = super().write(body)  # type: ignore[arg-type]
            moments.append((path.read_bytes(), last[0]))
            return written

    with Watched(path, "wb") as target:
        stream_transfer(
            io.BytesIO(BODY), target, small(30, 2), None, lambda it: last.__setitem__(0, it)
        )

    assert len(moments) == 7
    for left, checkpoint in moments:
        disk = Disk(left)
        stream_transfer(ShortReader(BODY), disk.open(), small(30), checkpoint)
        assert disk.durable == BODY


# --- streams that are not what they say ----------------------------------------------------


@pytest.mark.parametrize("told", [None, 0, -1, 1 << 40, "all"], ids=repr)
def test_a_writer_that_does_not_say_what_it_took_is_not_believed(told: object) -> None:
    class Odd:
        def write(self, body: object, /) -> int:
            assert body
            return told  # type: ignore[return-value]

    with pytest.raises(TransferBroken, match="doing=writing offset=0 code=EIO"):
        stream_transfer(io.BytesIO(BODY), Odd())


@pytest.mark.parametrize(
    ("given", "code"), [(None, "EAGAIN"), (bytes(51), "EOVERFLOW"), (1, "TypeError")]
)
def test_a_reader_that_gives_what_it_should_not_is_refused(given: object, code: str) -> None:
    class Odd:
        def read(self, _: int, /) -> bytes:
            return given  # type: ignore[return-value]

    with pytest.raises(TransferBroken, match=f"doing=reading offset=0 code={code}"):
        stream_transfer(Odd(), io.BytesIO(), small())


def test_a_reader_may_use_its_buffer_again() -> None:
    class Careless(ShortReader):
        def __init__(self) -> None:
            super().__init__(BODY, (50,))
            self._buffer = bytearray(50)

        def read(self, size_bytes: int, /) -> bytearray:  # type: ignore[override]
            body = super().read(size_bytes)
            self._buffer[:] = body
            return self._buffer

    target = io.BytesIO()
    stream_transfer(Careless(), target, small(60))
    assert target.getvalue() == BODY


def test_an_error_of_a_store_stays_what_it_is_and_says_where() -> None:
    def deny() -> None:
        raise StoreDenied(store="cold", operation="read", where="k")

    with pytest.raises(StoreDenied) as caught:
        stream_transfer(BrokenReader(BODY, 130, deny), io.BytesIO(), small())

    assert caught.value.__notes__ == ["While reading at offset 130."]


def test_words_of_foreign_errors_are_not_told() -> None:
    def fail() -> None:
        raise RuntimeError("https://store/object?X-Amz-Signature=secret")

    with pytest.raises(TransferBroken) as caught:
        stream_transfer(BrokenReader(BODY, 130, fail), io.BytesIO(), small())

    assert caught.value.code == "RuntimeError"
    assert "secret" not in str(caught.value)


def test_a_pipe_a_terminal_and_dev_null_are_targets() -> None:
    with open(os.devnull, "wb") as null:  # noqa: PTH123
        assert stream_transfer(io.BytesIO(BODY), null).total_size == 200
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as out, os.fdopen(writing, "wb") as into:
        stream_transfer(io.BytesIO(BODY), into)
        assert out.read(200) == BODY


def test_a_compressing_file_is_a_target_and_a_source() -> None:
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb") as target:
        stream_transfer(io.BytesIO(BODY), target, small())
    packed.seek(0)
    with gzip.GzipFile(fileobj=packed) as source:
        result = stream_transfer(source, io.BytesIO(), small(), digest=Digest.of(BODY))

    assert result.total_size == 200


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_flush_that_fails_is_of_the_whole_chunk() -> None:
    full = io.BufferedWriter(io.FileIO("/dev/full", "wb"))
    with pytest.raises(TargetFull, match="doing=writing offset=0 code=ENOSPC"):
        stream_transfer(io.BytesIO(BODY), full, small())
    with pytest.raises(OSError, match="No space left"):
        full.close()  # what it holds is flushed once more


def test_a_pipe_that_falls_silent_is_given_up() -> None:
    reading, writing = os.pipe()
    target = io.BytesIO()
    with os.fdopen(reading, "rb", buffering=0) as out:
        os.write(writing, BODY)
        with pytest.raises(TransferTimedOut, match="doing=reading offset=200"):
            stream_transfer(out, target, small(timeout_seconds=SOON))
        os.close(writing)  # the thread that was left behind ends
        for thread in threading.enumerate():
            if thread.name == "archiver-transfer-reader":
                thread.join(LATE)
    assert target.getvalue() == BODY


def test_no_thread_stays_behind() -> None:
    before = set(threading.enumerate())

    stream_transfer(io.BytesIO(BODY), io.BytesIO(), small())

    assert [it.name for it in threading.enumerate() if it not in before] == []
