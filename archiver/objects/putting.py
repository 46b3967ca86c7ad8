"""One object on its way, from whoever has its bytes: a socket, a pipe, a program.

Pieces of any length become full parts, several of them in flight. One thread at a time hands
bytes over; the crew sends them; whoever wants to reads how it goes, and nobody need.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal, Protocol

from archiver.engine.pool import aside
from archiver.errors import (
    ArchiverError,
    ColdMismatch,
    KeyTaken,
    LedgerUnavailable,
    Mismatch,
    ObjectTooLarge,
    PartNotSent,
    PermanentError,
    StoreUnavailable,
    TransferBroken,
    TransferStopped,
    TransferTimedOut,
    UnexpectedDigest,
    UploadMissing,
    WrongLength,
)
from archiver.formats.parts import PartRange
from archiver.model import Digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import TracebackType
    from typing import Self

    from archiver.engine.parts import Label, Sending
    from archiver.engine.streams import Streams
    from archiver.model import Buffer, ColdStat, Part, UploadPlan
    from archiver.protocols import Clock, PartTarget

_READ_BYTES = 1 << 20  # asked of a reader at once


class Readable(Protocol):
    """Gives bytes in order: a file, a pipe, a socket's file."""

    def read(self, size_bytes: int, /) -> bytes | bytearray | None:
        """Some bytes, at most so many; none only at the end."""


Stream = Readable | Iterable[bytes]


@dataclass(frozen=True, slots=True)
class StoredPut:
    """An object that was put, as its store confirmed it."""

    key: str
    size_bytes: int
    etag: str | None
    digest: Digest | None  # of all its bytes, where this process saw or read back all of them


@dataclass(frozen=True, slots=True)
class PutStatus:
    """How far a put is. The last one is `ok` or `error`, and there is one of them."""

    code: Literal["progress", "ok", "error"]
    sent_bytes: int  # that the store has acknowledged, in all
    stored: StoredPut | None = None  # with `ok`
    error: Exception | None = None  # with `error`


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be put, and where."""

    plan: UploadPlan
    label: Label
    digest: Digest | None  # that is demanded
    target: PartTarget
    streams: Streams
    clock: Clock
    inactivity_seconds: float | None

    @property
    def where(self) -> str:
        return str(self.plan.location)


class Put:
    """A put under way. Its bytes begin at `start_bytes`: those before it are in the store.

    As a context manager it is ended with its block, or left to be resumed where that raises.

    Args:
        order: What and where.
        sending: Its upload, ours; None where there is nothing to send.
        parts: What the store has of it.
        is_ending: Set once it cannot succeed any more: then nothing is asked again.
        on_end: Called before the last status is told.
    """

    def __init__(
        self,
        order: Order,
        sending: Sending | None,
        parts: Sequence[Part],
        is_ending: threading.Event,
        on_end: Callable[[], None],
    ) -> None:
        self._order = order
        self._sending = sending
        self._is_ending = is_ending
        self._on_end = on_end
        self._turn = threading.Lock()  # one thread hands over; guards the next four
        self._filling = bytearray()
        self._parts = {part.number: part for part in parts}  # acknowledged
        self.start_bytes = prefix_bytes(self._parts, order.plan)
        self._next_number = self.start_bytes // order.plan.part_bytes + 1
        self._sha256 = hashlib.sha256() if self.start_bytes == 0 else None
        self._changed = threading.Condition()  # guards the parts, and all that follows
        self._received_bytes = self.start_bytes
        self._sent_bytes = sum(part.size_bytes for part in parts)
        self._in_flight_count = 0
        self._is_taking = False
        self._came_at = order.clock.monotonic()
        self._is_whole = False
        self._is_dropped = False
        self._is_finishing = False
        self._error: Exception | None = None
        self._told: list[PutStatus] = []  # a line for each part at most, so it may grow

    # --- handing over -------------------------------------------------------------------

    def write(self, piece: bytes | bytearray | memoryview) -> None:
        """Hand over what comes next; waits while the parts in flight are as many as may be.

        Raises:
            ArchiverError: The put has failed; each further piece is refused likewise.
        """
        with self._turn:
            rest = memoryview(piece).cast("B")
            self._begin_taking(len(rest))
            try:
                while rest:
                    room_bytes = self._order.plan.part_bytes - len(self._filling)
                    self._filling += rest[:room_bytes]
                    rest = rest[room_bytes:]
                    if len(self._filling) == self._order.plan.part_bytes:
                        self._send_filled()
            finally:
                self._end_taking()

    def send(self, body: Stream) -> None:
        """Hand over all of one stream. Several of them make one object, in their order.

        Raises:
            ArchiverError: As by `write`.
        """
        for piece in _pieces_of(body):
            self.write(piece)

    def end(self) -> None:
        """All was handed over: the object is made of it as soon as all parts are there.

        Does not wait (`result` does). Repeatable.

        Raises:
            ArchiverError: As by `write`.
        """
        with self._turn:
            if self._is_whole:
                return
            self._begin_taking(0)
            try:
                if self._filling:
                    self._send_filled()
                with self._changed:
                    self._is_whole = True
            finally:
                self._end_taking()
        self._settle()

    def stop(self) -> None:
        """End it, unless it is being completed; its upload stays, to be resumed."""
        self.fail(TransferStopped(offset=self._received_bytes, reason="stopped"))

    def abort(self) -> None:
        """End it, unless it is being completed, and drop what was sent of it."""
        with self._changed:
            self._is_dropped = True
        self.fail(TransferStopped(offset=self._received_bytes, reason="aborted"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self.end()
        else:
            self.stop()

    # --- how it goes --------------------------------------------------------------------

    def statuses(self) -> Iterator[PutStatus]:
        """Every status from the first on, as they come, up to the last. Anybody may ask."""
        for number in itertools.count():
            status = self._status(number)
            yield status
            if status.code != "progress":
                return

    def _status(self, number: int) -> PutStatus:
        with self._changed:
            self._changed.wait_for(lambda: len(self._told) > number)
            return self._told[number]

    def result(self, timeout_seconds: float | None = None) -> StoredPut:
        """Wait for the object to be made.

        Args:
            timeout_seconds: What takes longer is ended, its upload stays to be resumed; None
                or 0: as long as it takes.

        Raises:
            TransferTimedOut; and why it failed.
        """
        with self._changed:
            is_in_time = self._changed.wait_for(self._is_over, timeout_seconds or None)
        if not is_in_time:
            error = self._timed_out(timeout_seconds or 0.0)
            self.fail(error)
            raise error
        last = self._told[-1]
        if last.error is not None:
            raise last.error
        assert last.stored is not None  # noqa: S101  # a status is one or the other
        return last.stored

    def wait(self, timeout_seconds: float) -> bool:
        """Wait for its end, so long at most; whether it came."""
        with self._changed:
            return self._changed.wait_for(self._is_over, timeout_seconds)

    @property
    def key(self) -> str:
        return self._order.plan.location.key

    @property
    def is_over(self) -> bool:
        with self._changed:
            return self._is_over()

    @property
    def is_whole(self) -> bool:
        """Whether all of it was handed over."""
        return self._is_whole

    @property
    def received_bytes(self) -> int:
        """What was handed over, and what was in the store before."""
        return self._received_bytes

    @property
    def sent_bytes(self) -> int:
        """What the store has acknowledged."""
        with self._changed:
            return self._sent_bytes

    # --- what may end it ----------------------------------------------------------------

    def fail(self, error: Exception) -> None:
        """End it for a reason; the first one counts, and none once it is being completed."""
        with self._changed:
            if self._error is None and not self._is_finishing:
                self._error = error
            self._is_ending.set()
            self._changed.notify_all()
        self._settle()

    def end_if_idle(self) -> None:
        """End it where nothing came for too long."""
        limit_seconds = self._order.inactivity_seconds
        if not limit_seconds:
            return
        with self._changed:
            idle_seconds = self._order.clock.monotonic() - self._came_at
            is_idle = not (self._is_taking or self._is_whole) and idle_seconds > limit_seconds
        if is_idle:
            self.fail(self._timed_out(limit_seconds))

    def give_up(self) -> None:
        """Tell the end, though something still hangs in a store's call: its record stays."""
        self.stop()
        error = TransferStopped(offset=self._received_bytes, reason="closed")
        self._tell_last(PutStatus("error", self.sent_bytes, error=error))

    def fail_reading(self, exc: Exception) -> None:
        """The stream itself failed. Foreign words may hold secrets, so they go."""
        if isinstance(exc, ArchiverError):
            return self.fail(exc)
        number = exc.errno if isinstance(exc, OSError) else None
        code = errno.errorcode.get(number or 0, type(exc).__name__)
        message = (exc.strerror or "") if isinstance(exc, OSError) else ""
        error = TransferBroken(
            doing="reading", offset=self._received_bytes, code=code, message=message
        )
        error.__cause__ = exc
        return self.fail(error)

    # --- parts --------------------------------------------------------------------------

    def _begin_taking(self, size_bytes: int) -> None:
        with self._changed:
            self._require_going_on()
            if self._is_whole:
                message = "the put has ended: nothing more can be handed over"
                raise ValueError(message)
            self._received_bytes += size_bytes
            self._is_taking = True
            received_bytes, said_bytes = self._received_bytes, self._order.plan.size_bytes
        if said_bytes is not None and received_bytes > said_bytes:
            error = self._wrong_length(f"{received_bytes} bytes or more")
            self.fail(error)
            raise error

    def _end_taking(self) -> None:
        with self._changed:
            self._is_taking = False
            self._came_at = self._order.clock.monotonic()

    def _send_filled(self) -> None:
        body, self._filling = self._filling, bytearray()
        number, self._next_number = self._next_number, self._next_number + 1
        rules = self._order.target.multipart.rules
        if number > rules.max_count:  # of a stream whose length nobody knew
            limit_bytes = self._order.plan.part_bytes * rules.max_count
            error = ObjectTooLarge(
                where=self._order.where,
                size_bytes=self._received_bytes,
                limit_bytes=limit_bytes,
            )
            self.fail(error)
            raise error
        if self._sha256 is not None:
            self._sha256.update(body)
        self._take_room(len(body))
        self._order.streams.crew.submit(partial(self._send_part, number, body))

    def _take_room(self, size_bytes: int) -> None:
        """Wait for room in memory, and count one more in flight.

        Who holds some never waits for more than its own parts: all could wait for each other.
        """
        streams = self._order.streams
        held_count = self._wait_for_parts(streams.at_once - 1)
        while held_count and not streams.budget.try_take(size_bytes):
            held_count = self._wait_for_parts(held_count - 1)
        if not held_count:
            streams.budget.take(size_bytes)
        try:
            with self._changed:
                self._require_going_on()
                self._in_flight_count += 1
        except BaseException:
            streams.budget.give_back(size_bytes)
            raise

    def _wait_for_parts(self, most_count: int) -> int:
        """Wait until so many are in flight at most; how many are."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._error is not None or self._in_flight_count <= most_count
            )
            self._require_going_on()
            return self._in_flight_count

    def _send_part(self, number: int, body: Buffer) -> None:
        """On the crew."""
        assert self._sending is not None  # noqa: S101  # there are bytes
        try:
            part = self._sending.put(number, body)
        except Exception as exc:  # noqa: BLE001  # told to whoever waits, whatever it is
            self.fail(self._not_sent(number, exc))
        else:
            self._acknowledge(part)
        finally:
            self._order.streams.budget.give_back(len(body))
            with self._changed:
                self._in_flight_count -= 1
                self._changed.notify_all()
        self._settle()

    def _acknowledge(self, part: Part) -> None:
        with self._changed:
            if part.number not in self._parts:  # else it was sent before
                self._sent_bytes += part.size_bytes
            self._parts[part.number] = part
            if not self._is_over():  # else it was given up
                self._told.append(PutStatus("progress", self._sent_bytes))
            self._changed.notify_all()

    # --- the end ------------------------------------------------------------------------

    def _settle(self) -> None:
        """Begin the end once nothing is in flight, and all is there or all is lost."""
        with self._changed:
            is_due = self._is_whole or self._error is not None
            if not is_due or self._in_flight_count or self._is_finishing:
                return
            self._is_finishing = True
        # Not on the crew: a readback waits for the crew's threads.
        aside(self._finish, name="archiver-put-end")

    def _finish(self) -> None:
        error, stored = self._error, None
        if error is None:
            try:
                stored = self._complete()
            except Exception as exc:  # noqa: BLE001  # told to whoever waits, whatever it is
                error = exc
        self.conclude(stored, error)

    def conclude(self, stored: StoredPut | None, error: Exception | None) -> None:
        """Let go of the upload where there is an error, and tell the last status."""
        with self._changed:
            self._is_finishing = True
        if error is not None:
            self._let_go(error)
        self._on_end()  # first: who hears of the end may go on at once
        if stored is None:
            self._tell_last(PutStatus("error", self.sent_bytes, error=error))
        else:
            self._tell_last(PutStatus("ok", stored.size_bytes, stored))

    def _tell_last(self, status: PutStatus) -> None:
        """Once: of one that was given up, the end comes late."""
        with self._changed:
            if not self._is_over():
                self._is_whole = True
                self._told.append(status)
            self._changed.notify_all()

    def _complete(self) -> StoredPut:
        plan, demanded = self._order.plan, self._order.digest
        parts = [self._parts[number] for number in sorted(self._parts)]
        self._require_length(sum(part.size_bytes for part in parts))
        seen = None if self._sha256 is None else Digest(self._sha256.digest())
        if seen is not None and demanded not in {None, seen}:
            raise UnexpectedDigest(
                where=self._order.where, expected=str(demanded), seen=str(seen)
            )
        if not parts:
            return self._create_empty()
        assert self._sending is not None  # noqa: S101  # there are bytes
        self._require_free()
        completed = self._sending.complete(parts)
        if not completed.is_certain or (demanded is not None and seen is None):
            seen = self._read_back(completed.stat, parts)
        if not completed.is_certain:  # till now: the upload may be open still
            self._sending.abandon("the object is there")
        return StoredPut(plan.location.key, self._received_bytes, completed.stat.etag, seen)

    def _require_length(self, sent_bytes: int) -> None:
        if self._order.plan.size_bytes not in {None, self._received_bytes}:
            seen = f"{self._received_bytes} bytes"
            raise self._wrong_length(seen)
        if sent_bytes != self._received_bytes:  # more was sent before, of an unknown length
            raise WrongLength(
                where=self._order.where,
                expected=f"{sent_bytes} bytes, sent before",
                seen=f"{self._received_bytes} bytes",
            )

    def _require_free(self) -> None:
        """Look at the key, where completing it does not."""
        target, location = self._order.target, self._order.plan.location
        if target.capabilities.keeps_refused_parts:
            return
        if target.stat_many([location.key])[location.key] is not None:
            raise KeyTaken(where=self._order.where)

    def _create_empty(self) -> StoredPut:
        """An object without bytes has no parts."""
        if self._sending is not None:  # begun before that was known
            self._sending.abandon("the object is empty")
        label, location = self._order.label, self._order.plan.location
        self._require_free()
        stat = self._order.target.create(
            location.key,
            b"",
            metadata=label.metadata,
            content_type=label.content_type,
            content_encoding=label.content_encoding,
        )
        return StoredPut(location.key, 0, stat.etag, Digest.of(b""))

    def _read_back(self, stat: ColdStat, parts: list[Part]) -> Digest:
        """Prove each part of the object that was made, and the digest that is demanded."""
        seen = read_back(self._order.target, self._order.streams, stat, parts)
        if self._order.digest not in {None, seen}:
            expected = str(self._order.digest)
            raise ColdMismatch(where=self._order.where, expected=expected, seen=str(seen))
        return seen

    def _let_go(self, error: Exception) -> None:
        """Abort the upload that nothing can be made of; leave the others to be resumed."""
        if self._sending is None:
            return
        if self._is_dropped or isinstance(error, (Mismatch, PermanentError, UploadMissing)):
            with suppress(ArchiverError):
                self._sending.abandon(str(error))
        with suppress(ArchiverError):  # it is found by its record all the same
            self._sending.leave()

    # --- facts --------------------------------------------------------------------------

    def _require_going_on(self) -> None:
        if self._error is not None:
            raise self._error

    def _is_over(self) -> bool:
        return bool(self._told) and self._told[-1].code != "progress"

    def _not_sent(self, number: int, exc: Exception) -> Exception:
        if not isinstance(exc, (StoreUnavailable, LedgerUnavailable)):
            return exc
        error = PartNotSent(where=self._order.where, number=number, cause=str(exc))
        error.__cause__ = exc
        return error

    def _wrong_length(self, seen: str) -> WrongLength:
        expected = f"{self._order.plan.size_bytes} bytes"
        return WrongLength(where=self._order.where, expected=expected, seen=seen)

    def _timed_out(self, timeout_seconds: float) -> TransferTimedOut:
        return TransferTimedOut(
            doing="reading", offset=self._received_bytes, timeout_seconds=timeout_seconds
        )


def read_back(
    target: PartTarget, streams: Streams, stat: ColdStat, parts: list[Part]
) -> Digest:
    """SHA-256 of an object that was made of parts, each of which is compared with its own.

    Raises:
        ColdMismatch: A part is another one.
        ObjectChanged: Another object lies there by now.
    """
    sha256 = hashlib.sha256()

    def read(part: PartRange) -> Buffer:
        return target.read_range(stat, part.start, part.stop)

    where = str(target.location(stat.key))
    for part, body in zip(parts, streams.in_order(_ranges_of(parts), read), strict=True):
        seen = Digest.of(body)
        if seen != part.digest:
            at, expected = f"{where} part {part.number}", str(part.digest)
            raise ColdMismatch(where=at, expected=expected, seen=str(seen))
        sha256.update(body)
    return Digest(sha256.digest())


def _ranges_of(parts: list[Part]) -> Iterator[PartRange]:
    start = 0
    for part in parts:
        yield PartRange(part.number, start, start + part.size_bytes)
        start += part.size_bytes


def prefix_bytes(parts: Mapping[int, Part], plan: UploadPlan) -> int:
    """How much is there from the first byte on, without a gap."""
    size_bytes = 0
    for number in itertools.count(1):
        part = parts.get(number)
        if part is None:
            return size_bytes
        is_last = size_bytes + part.size_bytes == plan.size_bytes
        if part.size_bytes != plan.part_bytes and not is_last:
            return size_bytes  # where the length is not known, a short part may be the last
        size_bytes += part.size_bytes
    raise AssertionError  # not reached: the count has no end


def _pieces_of(body: Stream) -> Iterator[bytes | bytearray]:
    """What comes, whatever the stream is."""
    read = getattr(body, "read", None)
    if read is None:
        yield from body  # type: ignore[misc]
        return
    while piece := read(_READ_BYTES):
        yield piece
    if piece is None:  # what a raw, non-blocking file says
        raise BlockingIOError(errno.EAGAIN, "the stream does not wait for its bytes")
