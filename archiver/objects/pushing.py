"""What a person pushes: a file, resumed by record, or a pipe, all or nothing.

It goes into the cold store and replaces nothing. Nothing of it shows before all its bytes are
there, and it counts as pushed once the store has shown what its evidence asks for.
"""

from __future__ import annotations

import hashlib
import secrets
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from archiver.engine.copies import evidence_of_parts
from archiver.engine.parts import Label
from archiver.errors import (
    ArchiverError,
    ColdMismatch,
    FatalError,
    KeyHeld,
    KeyTaken,
    Mismatch,
    NotSent,
    ObjectChanged,
    ObjectTooLarge,
    PermanentError,
    PipeTooLong,
    UnexpectedDigest,
    UploadBusy,
    UploadMissing,
)
from archiver.events import UploadAwaited, UploadLeft
from archiver.formats.metadata import metadata_of_digest
from archiver.formats.parts import part_bytes_for, part_ranges
from archiver.model import Digest, Evidence, Part, UploadPlan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from archiver.engine.parts import Completed, PartSender, Sending
    from archiver.engine.streams import Streams
    from archiver.formats.parts import PartRange
    from archiver.model import Buffer, ColdKey, ColdObject, ColdStat
    from archiver.objects.local_file import LocalFile, Pipe
    from archiver.protocols import ColdStore

_BEGINS = 3  # of one push: the file is another one, or the store dropped its upload
_LOOK_SECONDS = 0.5  # between two looks whether another worker has let go of an upload


@dataclass(frozen=True, slots=True)
class Pushed:
    """An object that lies in the cold store with these bytes, proven."""

    key: ColdKey
    size_bytes: int
    digest: Digest
    etag: str | None
    evidence: Evidence
    sent_bytes: int = 0  # by this push
    kept_bytes: int = 0  # sent by those before it
    was_there: bool = False


@dataclass(slots=True)
class Course:
    """How far a push or a pull is. Told whenever it gets on."""

    size_bytes: int | None  # None: a pipe's
    doing: str = "pushing"
    done_bytes: int = 0
    kept_bytes: int = 0  # of these: by those before it


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be made of the bytes."""

    key: ColdKey  # whole
    digest: Digest | None = None  # which they must have
    content_type: str | None = None


@dataclass(frozen=True, slots=True)
class Pusher:
    """Pushes to one cold store, for one worker; one object at a time."""

    cold: ColdStore
    sender: PartSender
    streams: Streams
    evidence: Evidence
    patience_seconds: float  # with another worker's upload: a dead one's lease ends
    tell: Callable[[Course], object]

    # --- a file -------------------------------------------------------------------------------

    def push_file(self, file: LocalFile, wanted: Wanted) -> Pushed:
        """Push a file, or go on where an earlier push of it ended; nothing is sent twice.

        A key that holds these bytes already, proven, is success.

        Raises:
            KeyHeld: It holds others.
            FileChanged, UnexpectedDigest: Nothing was put, and nothing is left there.
            UploadBusy: Another worker pushes to this key.
            NotSent: It was asked to stop; what was sent is recorded.
            TransientError: As well: the next push goes on.
            PermanentError, FatalError
        """
        found = self._look(wanted.key)
        try:
            if found is None:
                if not self.streams.is_large(file.size_bytes):
                    return self._push_whole(file, wanted)
                return self._push_parts(file, wanted)
        except KeyTaken:
            found = self._look(wanted.key)
        return self._push_nothing(file, wanted, found)

    def _push_whole(self, file: LocalFile, wanted: Wanted) -> Pushed:
        body = file.read(0, file.size_bytes)
        return self._create(body, wanted, file.require_unchanged)

    def _create(
        self, body: bytes, wanted: Wanted, require_unchanged: Callable[[], None]
    ) -> Pushed:
        digest = Digest.of(body)
        _require_expected(wanted, digest)
        require_unchanged()
        stat = self.sender.patiently(
            lambda: self.cold.create(
                wanted.key,
                body,
                metadata=metadata_of_digest(digest),
                content_type=wanted.content_type,
                content_encoding=None,
            )
        )
        course = Course(len(body), done_bytes=len(body))
        self.tell(course)
        return self._proven(stat, digest, self.evidence, course)

    def _push_parts(self, file: LocalFile, wanted: Wanted) -> Pushed:
        plan = self._plan(wanted.key, _origin_of(file), file.size_bytes)
        begins_left = _BEGINS
        while True:
            begins_left -= 1
            sending = self._opened(plan, wanted)
            try:
                return self._send_file(sending, file, wanted)
            except (ObjectChanged, UploadMissing) as error:
                # It was begun with other bytes, or the store dropped it: begun anew.
                sending.abandon(str(error))
                if not begins_left:
                    raise
            except (Mismatch, PermanentError) as error:
                sending.abandon(str(error))
                raise
            except FatalError:
                raise  # perhaps the lease is lost: whoever has none gives nothing back
            except BaseException:
                with suppress(ArchiverError):  # it is found by its record all the same
                    sending.leave()
                raise

    def _send_file(self, sending: Sending, file: LocalFile, wanted: Wanted) -> Pushed:
        course, seen, parts = Course(file.size_bytes), hashlib.sha256(), list[Part]()

        def work(part: PartRange) -> tuple[bytes, Part]:
            body = self.sender.patiently(lambda: file.read(part.start, part.stop))
            return body, sending.put(part.number, body)

        ranges = part_ranges(file.size_bytes, sending.part_bytes)
        with closing(self.streams.in_order(ranges, work)) as sent:
            for body, part in sent:
                seen.update(body)
                parts.append(part)
                course.done_bytes += part.size_bytes
                if part.number in sending.acknowledged:
                    course.kept_bytes += part.size_bytes
                self.tell(course)
                del body  # its memory counts as free once the next one is asked for
        digest = Digest(seen.digest())
        _require_expected(wanted, digest)
        file.require_unchanged()
        return self._completed(sending, parts, digest, wanted, course)

    def _push_nothing(
        self, file: LocalFile, wanted: Wanted, found: ColdObject | None
    ) -> Pushed:
        """The key was in use: perhaps by these very bytes.

        Raises:
            KeyHeld, KeyTaken, FileChanged, UnexpectedDigest
        """
        if found is None:
            raise KeyTaken(where=str(self.cold.location(wanted.key)))
        if found.stat.size_bytes != file.size_bytes:
            raise self._held(found)
        course = Course(file.size_bytes, "comparing")
        read = lambda start, stop: self.sender.patiently(lambda: file.read(start, stop))  # noqa: E731
        digest = self.streams.digest(file.size_bytes, read, self._telling(course))
        _require_expected(wanted, digest)
        file.require_unchanged()
        if self._read_back(found.stat) != digest:
            raise self._held(found)
        if self.streams.is_large(file.size_bytes):  # whoever made it may have died right after
            self._drop_record(wanted.key)
            self.sender.note_digest(wanted.key, file.size_bytes, digest)
        return Pushed(
            wanted.key,
            file.size_bytes,
            digest,
            found.stat.etag,
            Evidence.READBACK,
            was_there=True,
        )

    def _drop_record(self, key: ColdKey) -> None:
        location = self.cold.location(key)
        for upload in self.sender.uploads.uploads():
            if upload.plan.location == location:
                with suppress(UploadBusy):
                    self.sender.drop(upload.plan)

    # --- a pipe -------------------------------------------------------------------------------

    def push_pipe(self, pipe: Pipe, wanted: Wanted) -> Pushed:
        """Push all that a pipe gives. On every error nothing of it is left.

        Raises:
            KeyHeld: Before anything is read of the pipe.
            UnexpectedDigest, PipeTooLong
            NotSent: It was asked to stop.
            TransientError, PermanentError, FatalError
        """
        found = self._look(wanted.key)
        if found is not None:
            raise self._held(found)
        plan = self._plan(wanted.key, f"pipe\n{secrets.token_hex(16)}", None)
        first = pipe.read(plan.part_bytes)
        try:
            if len(first) < plan.part_bytes:
                _require_not_stopped(pipe)
                return self._create(bytes(first), wanted, lambda: None)
            return self._push_pipe_parts(pipe, first, plan, wanted)
        except KeyTaken as exc:
            found = self._look(wanted.key)
            if found is None:
                raise
            raise self._held(found) from exc

    def _push_pipe_parts(
        self, pipe: Pipe, first: Buffer, plan: UploadPlan, wanted: Wanted
    ) -> Pushed:
        sending = self._opened(plan, wanted)
        try:
            course, seen, parts = Course(None), hashlib.sha256(), list[Part]()

            def work(piece: _Piece) -> tuple[_Piece, Part]:
                return piece, sending.put(piece.number, piece.body)

            pieces = self._pieces(pipe, first, plan)
            with closing(self.streams.in_order(pieces, work)) as sent:
                for piece, part in sent:
                    seen.update(piece.body)
                    parts.append(part)
                    course.done_bytes += part.size_bytes
                    self.tell(course)
                    del piece  # its memory counts as free once the next one is asked for
            digest = Digest(seen.digest())
            _require_expected(wanted, digest)
            return self._completed(sending, parts, digest, wanted, course)
        except BaseException as error:
            try:
                sending.abandon(f"a pipe cannot be read again: {error}")
            except ArchiverError as left:  # it is recorded, and aborted past its expiry
                self.sender.observe(UploadLeft(str(plan.location), str(left)))
            raise

    def _pieces(self, pipe: Pipe, first: Buffer, plan: UploadPlan) -> Iterator[_Piece]:
        rules, body, number = self.cold.multipart.rules, first, 1
        while body:
            if number > rules.max_count:
                raise PipeTooLong(
                    where=str(plan.location), limit_bytes=rules.max_count * plan.part_bytes
                )
            yield _Piece(number, body)
            body = pipe.read(plan.part_bytes)
            number += 1
        _require_not_stopped(pipe)

    # --- both ---------------------------------------------------------------------------------

    def _completed(
        self,
        sending: Sending,
        parts: list[Part],
        digest: Digest,
        wanted: Wanted,
        course: Course,
    ) -> Pushed:
        if not self.cold.capabilities.keeps_refused_parts and self._look(wanted.key):
            raise KeyTaken(where=str(self.cold.location(wanted.key)))
        completed = sending.complete(parts)
        size_bytes = sum(part.size_bytes for part in parts)
        self.sender.note_digest(wanted.key, size_bytes, digest)
        pushed = self._proven(completed.stat, digest, self._evidence_of(completed), course)
        if not completed.is_certain:  # until it was proven, its record stayed
            self._drop_record(wanted.key)
        return pushed

    def _evidence_of(self, completed: Completed) -> Evidence:
        if not completed.is_certain:
            return Evidence.READBACK
        return evidence_of_parts(self.evidence, self.cold)

    def _proven(
        self, stat: ColdStat, digest: Digest, evidence: Evidence, course: Course
    ) -> Pushed:
        """The object as it is seen from outside, with the evidence that is asked for.

        Raises:
            ColdMismatch
        """
        seen = self.sender.patiently(lambda: self.cold.stat_many([stat.key])[stat.key])
        if seen is None or (seen.size_bytes, seen.etag) != (stat.size_bytes, stat.etag):
            raise self._mismatch(stat, f"{stat.size_bytes} bytes, {stat.etag}", str(seen))
        read: Digest | None = digest
        if evidence is Evidence.READBACK:
            read = self._read_back(stat)
        elif evidence is Evidence.CHECKSUM:
            read = self.cold.held_digest(stat.key)
        if read != digest:
            raise self._mismatch(stat, str(digest), str(read))
        sent_bytes = course.done_bytes - course.kept_bytes
        return Pushed(
            stat.key,
            stat.size_bytes,
            digest,
            stat.etag,
            evidence,
            sent_bytes=sent_bytes,
            kept_bytes=course.kept_bytes,
        )

    def _mismatch(self, stat: ColdStat, expected: str, seen: str) -> ColdMismatch:
        where = str(self.cold.location(stat.key))
        return ColdMismatch(where=where, expected=expected, seen=seen)

    def _read_back(self, stat: ColdStat) -> Digest:
        course = Course(stat.size_bytes, "reading back")
        return self.streams.digest(
            stat.size_bytes,
            lambda start, stop: self.sender.patiently(
                lambda: self.cold.read_range(stat, start, stop)
            ),
            self._telling(course),
        )

    def _telling(self, course: Course) -> Callable[[Buffer], None]:
        def got(body: Buffer) -> None:
            course.done_bytes += len(body)
            self.tell(course)

        return got

    def _opened(self, plan: UploadPlan, wanted: Wanted) -> Sending:
        """Open the upload; wait for a worker that has it, as long as a lease of a dead one.

        Raises:
            UploadBusy, NotSent; and as by `PartSender.open`
        """
        clock = self.sender.clock
        until, was_told = clock.monotonic() + self.patience_seconds, False
        label = Label({}, wanted.content_type)
        while True:
            try:
                return self.sender.patiently(lambda: self.sender.open(plan, label))
            except UploadBusy:
                if clock.monotonic() >= until:
                    raise
            if not was_told:
                self.sender.observe(UploadAwaited(str(plan.location), self.patience_seconds))
            was_told = True
            clock.sleep(_LOOK_SECONDS)

    def _plan(self, key: ColdKey, origin: str, size_bytes: int | None) -> UploadPlan:
        rules, location = self.cold.multipart.rules, self.cold.location(key)
        try:
            part_bytes = part_bytes_for(size_bytes, self.streams.part_bytes, rules)
        except ValueError as exc:
            raise ObjectTooLarge(
                where=str(location),
                size_bytes=size_bytes or 0,
                limit_bytes=rules.max_bytes * rules.max_count,
            ) from exc
        return UploadPlan(location, origin, size_bytes, part_bytes)

    def _look(self, key: ColdKey) -> ColdObject | None:
        return self.sender.patiently(lambda: self.cold.look(key))

    def _held(self, found: ColdObject) -> KeyHeld:
        where = str(self.cold.location(found.stat.key))
        return KeyHeld(where=where, size_bytes=found.stat.size_bytes)


@dataclass(frozen=True, slots=True)
class _Piece:
    """Bytes of a pipe that are sent as one part."""

    number: int
    body: Buffer

    @property
    def size_bytes(self) -> int:
        return len(self.body)


def _origin_of(file: LocalFile) -> str:
    """Which bytes are sent, as far as another machine can tell before it reads them.

    Its inode and its time are another one's there. What is equal in size and is not the same
    shows at its first part that differs: each was recorded with its SHA-256.
    """
    return f"push\n{file.size_bytes}"


def _require_expected(wanted: Wanted, digest: Digest) -> None:
    if wanted.digest not in (None, digest):
        raise UnexpectedDigest(where=wanted.key, expected=str(wanted.digest), seen=str(digest))


def _require_not_stopped(pipe: Pipe) -> None:
    if pipe.was_stopped:
        raise NotSent(store="cold", operation="put_part", code="interrupted")
