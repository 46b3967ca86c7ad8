"""Copies any stream into any other: bounded in memory and in time, and resumable.

The order that keeps bytes: written, flushed and synced, and only then told by a checkpoint.
Reading, hashing and writing go on beside each other: while one chunk is hashed it is written,
and the next one is read.
"""

from __future__ import annotations

import hashlib
import secrets
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from archiver.engine.bounded_streams import BoundedReader, BoundedWriter
from archiver.engine.pool import SideThread
from archiver.engine.stop import Stop
from archiver.errors import (
    ArchiverError,
    SourceChanged,
    SourceDigestMismatch,
    SourceSizeMismatch,
    TargetMisplaced,
    TransferBroken,
    TransferStopped,
)
from archiver.formats.checkpoint import Checkpoint
from archiver.formats.parts import TACTICAL
from archiver.model import Digest

if TYPE_CHECKING:
    from collections.abc import Callable

    from archiver.engine.bounded_streams import BinaryReader, BinaryWriter
    from archiver.errors import Mismatch
    from archiver.formats.parts import Profile

Changed = Literal["session", "size", "digest", "bytes", "target"]


@dataclass(frozen=True, slots=True)
class TransferResult:
    """A transfer that is done: whole, durable, and of the promised size and digest."""

    bytes_transferred: int  # written in this session
    total_size: int
    computed_digest: Digest  # of all bytes, those of earlier sessions included
    resumed: bool
    checkpoints_saved: int  # handed to `on_checkpoint` in this session
    started_over: Changed | None = None  # what differed from the checkpoint, so it was not used


def stream_transfer(
    source: BinaryReader,
    target: BinaryWriter,
    profile: Profile = TACTICAL,
    checkpoint: Checkpoint | None = None,
    on_checkpoint: Callable[[Checkpoint], object] | None = None,
    *,
    session_id: str | None = None,
    digest: Digest | None = None,
    total_size: int | None = None,
    stop: Stop | None = None,
) -> TransferResult:
    """Copy all that comes from `source`, hashing it, and prove it at the end.

    `session_id`, `digest` and `total_size` say what the source is; what they leave out is as
    the checkpoint says. A checkpoint of another source is not used, nor one whose first bytes
    are others: the result tells. Both streams stay open; the target holds this object alone.
    `on_checkpoint` is given what is durable: every `profile.checkpoint_bytes`, and once more
    at the end, after a failure, when it is stopped and when it starts over.

    Raises:
        TransferBroken: The source or the target failed, or took longer than the profile says.
        TransferStopped
        SourceSizeMismatch, SourceDigestMismatch: The next try starts clean where it must.
        SourceChanged: It must start over, and the source cannot: the next try does.
        TargetMisplaced: Nothing was written.
        ValueError: `total_size` is negative.
    """
    if session_id is None:
        session_id = secrets.token_hex(16) if checkpoint is None else checkpoint.session_id
    said = Checkpoint.new(session_id, digest, total_size)
    with ExitStack() as closing:
        reader = BoundedReader(
            source,
            closing.enter_context(SideThread("transfer-reader")),
            chunk_bytes=profile.read_bytes,
            timeout_seconds=profile.timeout_seconds,
        )
        writer = BoundedWriter(
            target,
            closing.enter_context(SideThread("transfer-writer")),
            timeout_seconds=profile.timeout_seconds,
        )
        transfer = _Transfer(
            reader, writer, said, profile.checkpoint_bytes, on_checkpoint, stop or Stop()
        )
        return transfer.run(checkpoint)


class _Transfer:
    """One transfer; its state belongs to the thread that asked for it."""

    def __init__(
        self,
        reader: BoundedReader,
        writer: BoundedWriter,
        promised: Checkpoint,
        checkpoint_bytes: int,
        on_checkpoint: Callable[[Checkpoint], object] | None,
        stop: Stop,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._promised = promised
        self._checkpoint_bytes = checkpoint_bytes
        self._on_checkpoint = on_checkpoint
        self._stop = stop
        self._hash = hashlib.sha256()  # of what is written
        self._offset = 0
        self._chunks = 0
        self._told: Checkpoint | None = None  # the last one that the caller has
        self._told_count = 0

    def run(self, begun: Checkpoint | None) -> TransferResult:
        self._told = begun
        started_over = self._begin(begun)
        resumed_at = self._offset
        try:
            is_at_end = self._copy()
        except BaseException:
            self._save_progress()
            raise
        return TransferResult(
            bytes_transferred=self._offset - resumed_at,
            total_size=self._offset,
            computed_digest=self._prove(is_at_end=is_at_end),
            resumed=resumed_at > 0,
            checkpoints_saved=self._told_count,
            started_over=started_over,
        )

    # --- begin --------------------------------------------------------------------------

    def _begin(self, begun: Checkpoint | None) -> Changed | None:
        """Find the place to go on from, and put the target there; why not the checkpoint's."""
        changed = None if begun is None else self._compare(begun)
        if begun is None or begun.offset == 0:
            self._writer.require_empty(is_new=begun is None)
        elif changed is not None:
            self._start_over(begun, changed)
            return changed
        self._writer.place(self._offset)
        return None

    def _compare(self, begun: Checkpoint) -> Changed | None:
        """What is not as in the checkpoint; else its prefix was read again, and is the same."""
        changed = _difference(begun, self._promised)
        if changed is not None:
            return changed
        said = self._promised
        self._promised = replace(
            said,
            digest=said.digest or begun.digest,
            total_size=begun.total_size if said.total_size is None else said.total_size,
        )
        if not self._writer.holds(begun.offset):
            return "target"
        self._reader.note_origin()
        self._skip(begun)
        is_same = (self._offset, self._digest) == (begun.offset, begun.prefix_digest)
        return None if is_same else "bytes"

    def _skip(self, begun: Checkpoint) -> None:
        for body in self._reader.chunks("skipping", 0, begun.offset):
            self._require_no_stop()
            self._hash.update(body)
            self._offset += len(body)
        self._chunks = begun.chunks

    def _start_over(self, begun: Checkpoint, changed: Changed) -> None:
        seen = str(self._digest)
        self._start_clean()
        if changed == "bytes" and not self._reader.rewind():
            expected = str(begun.prefix_digest)
            raise SourceChanged(where=begun.session_id, expected=expected, seen=seen)

    # --- copy ---------------------------------------------------------------------------

    def _copy(self) -> bool:
        """Copy as much as was promised; whether the source ends there."""
        self._require_no_stop()
        total_size = self._promised.total_size
        for body in self._reader.chunks("reading", self._offset, total_size):
            self._write(body)
            if self._offset != total_size:  # else it is proven before it is told
                self._save_when_due()
                self._require_no_stop()
        if total_size is not None and self._offset < total_size:
            raise self._wrong_size(str(self._offset))
        return total_size is None or self._reader.is_at_end(self._offset)

    def _write(self, body: bytes | bytearray) -> None:
        finish = self._writer.begin(body, self._offset)
        ahead = self._hash.copy()  # for a chunk that is not written does not count
        ahead.update(body)
        finish()
        self._hash = ahead
        self._offset += len(body)
        self._chunks += 1

    def _save_when_due(self) -> None:
        saved = self._told.offset if self._told is not None else 0
        if self._on_checkpoint is not None and self._offset - saved >= self._checkpoint_bytes:
            self._writer.sync(self._offset)
            self._tell()

    def _save_progress(self) -> None:
        """After a failure: a last checkpoint, where what was written can be made durable."""
        if self._writer.is_hung:
            return
        with suppress(TargetMisplaced, TransferBroken):
            self._writer.place(self._offset)  # cuts what a failed write left
        try:
            self._writer.sync(self._offset)
        except ArchiverError:
            return  # the one before it stays true
        self._tell()

    def _tell(self) -> None:
        """Give the caller a checkpoint, unless it has that one."""
        checkpoint = replace(
            self._promised,
            offset=self._offset,
            chunks=self._chunks,
            prefix_digest=self._digest,
        )
        if self._on_checkpoint is None or checkpoint == self._told:
            return
        self._told = checkpoint  # even if it is not taken: it is not given twice
        self._on_checkpoint(checkpoint)
        self._told_count += 1

    # --- prove --------------------------------------------------------------------------

    def _prove(self, *, is_at_end: bool) -> Digest:
        """Demand the promised size and digest; make all of it durable, and tell so."""
        digest = self._digest
        mismatch = self._mismatch(digest, is_at_end=is_at_end)
        if mismatch is not None:
            with suppress(TargetMisplaced, TransferBroken):  # said by the next try, then
                self._start_clean()
            raise mismatch
        self._promised = replace(self._promised, total_size=self._offset)
        self._writer.sync(self._offset)
        self._tell()
        return digest

    def _mismatch(self, digest: Digest, *, is_at_end: bool) -> Mismatch | None:
        if not is_at_end:
            return self._wrong_size(f"more than {self._offset}")
        expected = self._promised.digest
        if expected in {None, digest}:
            return None
        return SourceDigestMismatch(
            where=self._promised.session_id, expected=str(expected), seen=str(digest)
        )

    def _wrong_size(self, seen: str) -> SourceSizeMismatch:
        return SourceSizeMismatch(
            where=self._promised.session_id,
            expected=str(self._promised.total_size),
            seen=seen,
        )

    def _start_clean(self) -> None:
        """Cut the target and reset the checkpoint: whatever comes next begins anew."""
        self._hash = hashlib.sha256()
        self._offset = self._chunks = 0
        try:
            self._writer.place(0)
            self._writer.sync(0)
        finally:
            self._tell()

    @property
    def _digest(self) -> Digest:
        """Of the bytes before the offset."""
        return Digest(self._hash.digest())

    def _require_no_stop(self) -> None:
        if self._stop.reason is not None:
            raise TransferStopped(offset=self._offset, reason=self._stop.reason)


def _difference(begun: Checkpoint, said: Checkpoint) -> Changed | None:
    """How another source shows before anything is read."""
    if begun.session_id != said.session_id:
        return "session"
    if None not in {begun.digest, said.digest} and begun.digest != said.digest:
        return "digest"
    if said.total_size is None:
        return None
    is_other = begun.total_size not in {None, said.total_size} or said.total_size < begun.offset
    return "size" if is_other else None
