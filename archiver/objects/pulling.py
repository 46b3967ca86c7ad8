"""What a person pulls: an object of the cold store, brought into a file, resumed and proven."""

from __future__ import annotations

import hashlib
import itertools
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
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
from archiver.model import Digest
from archiver.objects.pushing import Course

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from archiver.engine.stop import Stop
    from archiver.engine.streams import Streams
    from archiver.formats.checkpoint import Checkpoint
    from archiver.formats.parts import Profile
    from archiver.model import Buffer, ColdKey, ColdObject
    from archiver.protocols import Clock, ColdStore

_ATTEMPTS = 5  # of one range
_WAIT_SECONDS = 0.5  # before the second; doubled by each further one

_CHECKPOINT_READS = 4  # to a disk of one's own; one that is full takes no more of them

PromisedBy = Literal["you", "its metadata", "the note beside it"]


@dataclass(frozen=True, slots=True)
class Thing:
    """One object somewhere, as it was seen; its ranges are of that very object."""

    where: str  # no secret in it
    name: str
    size_bytes: int
    etag: str | None
    read: Callable[[int, int], Buffer]
    digest: Digest | None = None  # which its bytes must have
    promised_by: PromisedBy | None = None


@dataclass(frozen=True, slots=True)
class Pulled:
    """An object whose bytes are here, whole."""

    name: str
    size_bytes: int
    digest: Digest
    promised_by: PromisedBy | None  # None: nothing says what its digest must be
    kept_bytes: int = 0  # by those before


def thing_at(cold: ColdStore, key: ColdKey) -> Thing:
    """An object of the cold store, with the digest that was put beside it.

    Raises:
        ObjectMissing, ObjectDenied; and as by `ColdStore.look`
    """
    found = cold.look(key)
    where = str(cold.location(key))
    if found is None:
        raise ObjectMissing(store="cold", where=where)
    digest, promised_by = _promise(cold, found)
    read = partial(cold.read_range, found.stat)
    size_bytes, etag = found.stat.size_bytes, found.stat.etag
    return Thing(where, key, size_bytes, etag, read, digest, promised_by)


def _promise(cold: ColdStore, found: ColdObject) -> tuple[Digest | None, PromisedBy | None]:
    told = digest_in(found.metadata)
    if told is not None:
        return told, "its metadata"
    key, size_bytes = found.stat.key, found.stat.size_bytes
    try:
        note = cold.read(digest_notes.note_key(cold.path_prefix, key))
    except ObjectMissing:
        return None, None
    noted = digest_notes.of_body(note, key, size_bytes)
    return noted, None if noted is None else "the note beside it"


@dataclass(frozen=True, slots=True)
class Puller:
    """Pulls one object at a time."""

    streams: Streams
    profile: Profile
    clock: Clock
    stop: Stop
    tell: Callable[[Course], object]

    def pull(self, thing: Thing, path: Path) -> Pulled:
        """Bring an object into a file, which has its name once all of it is there and proven.

        Raises:
            ObjectMissing, ObjectDenied, ObjectFrozen, ObjectChanged
            SourceDigestMismatch: Nothing was kept.
            TargetBusy, TargetUnusable
            TargetFull, TransferStopped, TransientError: The next pull goes on.
        """
        course = Course(thing.size_bytes, "pulling")
        with LandingFile(path) as landing, ExitStack() as reading:

            def open_at(offset: int) -> _Ranges:
                course.done_bytes = course.kept_bytes = offset
                return reading.enter_context(closing(_Ranges(self._ranges(thing, course))))

            checkpoint = _begun(landing)
            result = stream_transfer(
                landing.source(open_at),
                landing.target,
                replace(self.profile, checkpoint_reads=_CHECKPOINT_READS),
                checkpoint,
                landing.save,
                session_id=f"{thing.where} {thing.size_bytes} {thing.etag}",
                digest=thing.digest,
                total_size=thing.size_bytes,
                stop=self.stop,
            )
            landing.land(result)
        kept_bytes = thing.size_bytes - result.bytes_transferred
        digest = result.computed_digest
        return Pulled(thing.name, thing.size_bytes, digest, thing.promised_by, kept_bytes)

    def pour(self, thing: Thing, target: BinaryIO) -> Pulled:
        """Write an object to a stream from front to back.

        Raises:
            UnexpectedDigest: At the end; what was written is not what it must be.
            And as `pull`
        """
        course, seen = Course(thing.size_bytes, "pulling"), hashlib.sha256()
        with closing(self._ranges(thing, course)) as bodies:
            for body in bodies:
                seen.update(body)
                target.write(body)
                del body  # its memory counts as free once the next one is asked for
        digest = Digest(seen.digest())
        if thing.digest not in (None, digest):
            raise UnexpectedDigest(
                where=thing.where, expected=str(thing.digest), seen=str(digest)
            )
        return Pulled(thing.name, thing.size_bytes, digest, thing.promised_by)

    def _ranges(self, thing: Thing, course: Course) -> Generator[Buffer]:
        """All that lies behind what is done."""
        offset = course.done_bytes
        if offset >= thing.size_bytes:
            return
        ranges = (
            PartRange(it.number, it.start + offset, it.stop + offset)
            for it in part_ranges(thing.size_bytes - offset, self.streams.part_bytes)
        )
        read = self.streams.in_order(ranges, lambda it: self._read(thing, it.start, it.stop))
        with closing(read) as bodies:
            for body in bodies:
                yield body
                course.done_bytes += len(body)
                self.tell(course)
                del body  # its memory counts as free once the next one is asked for

    def _read(self, thing: Thing, start: int, stop: int) -> Buffer:
        for attempt in itertools.count(1):
            if self.stop.reason is not None:
                raise NotSent(store="cold", operation="read", code="interrupted")
            try:
                return thing.read(start, stop)
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
