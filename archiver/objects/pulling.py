"""What a person pulls: an object of the cold store, brought into a file, resumed and proven."""

from __future__ import annotations

import itertools
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, BinaryIO, Literal

from archiver.engine.landing_file import LandingFile
from archiver.engine.transfer import stream_transfer
from archiver.errors import (
    CheckpointUnusable,
    NotSent,
    ObjectMissing,
    StoreUnavailable,
    UnexpectedDigest,
)
from archiver.formats import digest_notes
from archiver.formats.metadata import digest_in
from archiver.formats.parts import PartRange, part_ranges
from archiver.objects.pushing import Course

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from archiver.engine.stop import Stop
    from archiver.engine.streams import Streams
    from archiver.formats.checkpoint import Checkpoint
    from archiver.formats.parts import Profile
    from archiver.model import Buffer, ColdKey, ColdObject, Digest
    from archiver.protocols import Clock, ColdStore

_ATTEMPTS = 5  # of one range
_WAIT_SECONDS = 0.5  # before the second; doubled by each further one

_CHECKPOINT_READS = 4  # to a disk of one's own; one that is full takes no more of them

PromisedBy = Literal["you", "its metadata", "the note beside it"]


@dataclass(frozen=True, slots=True)
class Pulled:
    """An object whose bytes are here, whole."""

    key: ColdKey
    size_bytes: int
    digest: Digest
    promised_by: PromisedBy | None  # None: nothing says what its digest must be
    kept_bytes: int = 0  # by those before


@dataclass(frozen=True, slots=True)
class Puller:
    """Pulls from one cold store, which it only reads; one object at a time."""

    cold: ColdStore
    streams: Streams
    profile: Profile
    clock: Clock
    stop: Stop
    tell: Callable[[Course], object]

    def pull(self, key: ColdKey, path: Path, digest: Digest | None) -> Pulled:
        """Bring an object into a file, which has its name once all of it is there and proven.

        Raises:
            ObjectMissing, ObjectDenied, ObjectFrozen, ObjectChanged
            SourceDigestMismatch: Nothing was kept.
            TargetBusy, TargetUnusable
            TargetFull, TransferStopped, TransientError: The next pull goes on.
        """
        found = self._look(key)
        promised, promised_by = self._promise(found, digest)
        size_bytes = found.stat.size_bytes
        course = Course(size_bytes, "pulling")
        with LandingFile(path) as landing:
            checkpoint = _begun(landing)
            reader: _Ranges | None = None

            def open_at(offset: int) -> _Ranges:
                nonlocal reader
                course.done_bytes = course.kept_bytes = offset
                reader = _Ranges(self._ranges(found, offset, course))
                return reader

            try:
                result = stream_transfer(
                    landing.source(open_at),
                    landing.target,
                    replace(self.profile, checkpoint_reads=_CHECKPOINT_READS),
                    checkpoint,
                    landing.save,
                    session_id=f"{self.cold.location(key)} {size_bytes} {found.stat.etag}",
                    digest=promised,
                    total_size=size_bytes,
                    stop=self.stop,
                )
            finally:
                if reader is not None:
                    reader.close()
            landing.land(result)
        kept_bytes = size_bytes - result.bytes_transferred
        return Pulled(key, size_bytes, result.computed_digest, promised_by, kept_bytes)

    def pour(self, key: ColdKey, target: BinaryIO, digest: Digest | None) -> Pulled:
        """Write an object to a stream from front to back.

        Raises:
            UnexpectedDigest: At the end; what was written is not what it must be.
            And as `pull`
        """
        found = self._look(key)
        promised, promised_by = self._promise(found, digest)

        def got(body: Buffer) -> None:
            target.write(body)
            course.done_bytes += len(body)
            self.tell(course)

        course = Course(found.stat.size_bytes, "pulling")
        if not found.stat.size_bytes:
            seen = self.cold.readback(key)
        else:
            seen = self.streams.digest(
                found.stat.size_bytes, lambda start, stop: self._read(found, start, stop), got
            )
        if promised not in (None, seen):
            where = str(self.cold.location(key))
            raise UnexpectedDigest(where=where, expected=str(promised), seen=str(seen))
        return Pulled(key, found.stat.size_bytes, seen, promised_by)

    def _look(self, key: ColdKey) -> ColdObject:
        found = self.cold.look(key)
        if found is None:
            raise ObjectMissing(store="cold", where=str(self.cold.location(key)))
        return found

    def _promise(
        self, found: ColdObject, digest: Digest | None
    ) -> tuple[Digest | None, PromisedBy | None]:
        """Which digest its bytes must have, and who says so."""
        if digest is not None:
            return digest, "you"
        told = digest_in(found.metadata)
        if told is not None:
            return told, "its metadata"
        key, size_bytes = found.stat.key, found.stat.size_bytes
        try:
            note = self.cold.read(digest_notes.note_key(self.cold.path_prefix, key))
        except ObjectMissing:
            return None, None
        noted = digest_notes.of_body(note, key, size_bytes)
        return noted, None if noted is None else "the note beside it"

    def _ranges(self, found: ColdObject, offset: int, course: Course) -> Generator[Buffer]:
        size_bytes = found.stat.size_bytes
        if offset >= size_bytes:
            return
        ranges = (
            PartRange(it.number, it.start + offset, it.stop + offset)
            for it in part_ranges(size_bytes - offset, self.streams.part_bytes)
        )
        read = self.streams.in_order(ranges, lambda it: self._read(found, it.start, it.stop))
        with closing(read) as bodies:
            for body in bodies:
                yield body
                course.done_bytes += len(body)
                self.tell(course)
                del body  # its memory counts as free once the next one is asked for

    def _read(self, found: ColdObject, start: int, stop: int) -> Buffer:
        for attempt in itertools.count(1):
            if self.stop.reason is not None:
                raise NotSent(store="cold", operation="read", code="interrupted")
            try:
                return self.cold.read_range(found.stat, start, stop)
            except NotSent:
                raise
            except StoreUnavailable:
                if attempt == _ATTEMPTS:
                    raise
                self.clock.sleep(_WAIT_SECONDS * 2 ** (attempt - 1))
        raise AssertionError  # not reached: the count has no end


class _Ranges:
    """Bodies that come in order, as something that is read."""

    def __init__(self, bodies: Generator[Buffer]) -> None:
        self._bodies = bodies
        self._rest = memoryview(b"")

    def read(self, size_bytes: int, /) -> bytes:
        if not self._rest:
            self._rest = memoryview(next(self._bodies, b""))
        piece, self._rest = bytes(self._rest[:size_bytes]), self._rest[size_bytes:]
        return piece

    def close(self) -> None:
        self._bodies.close()


def _begun(landing: LandingFile) -> Checkpoint | None:
    """How far an earlier pull came; what nothing vouches for is thrown away."""
    try:
        checkpoint = landing.checkpoint()
    except CheckpointUnusable:
        checkpoint = None
    if checkpoint is None:
        landing.discard()
    return checkpoint
