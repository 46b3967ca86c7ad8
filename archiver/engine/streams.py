"""Large objects, a part at a time: several under way, taken home in order, memory bounded."""

from __future__ import annotations

import hashlib
import threading
from collections import deque
from concurrent.futures import wait
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from archiver.engine.budget import BytesInFlight
from archiver.engine.pool import Crew, ThreadCrew
from archiver.formats.parts import TACTICAL, part_ranges
from archiver.model import Digest

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from concurrent.futures import Future

    from archiver.model import Buffer, ColdStat
    from archiver.protocols import ColdStore

T = TypeVar("T")


class Piece(Protocol):
    """What is worked on at once: it has bytes, or is about to read them."""

    @property
    def size_bytes(self) -> int: ...


P = TypeVar("P", bound=Piece)

_CREW_WIDTH = 16  # parts of all objects of a process at once; mostly memory bounds them first
_AT_ONCE = 4  # of one object


@dataclass(frozen=True, slots=True)
class Streams:
    """What the large objects of a process share. An object above `part_bytes` is one of them.

    The parts in flight of all objects, and all whole small ones, hold memory of one budget.
    """

    budget: BytesInFlight = field(default_factory=BytesInFlight)
    crew: Crew = field(default_factory=lambda: ThreadCrew(width=_CREW_WIDTH))
    part_bytes: int = TACTICAL.read_bytes  # wanted; a store's rules may make it more
    at_once: int = _AT_ONCE
    # A zstd frame may ask for much memory: content of such streams is checked one by one.
    zstd_turn: threading.Lock = field(default_factory=threading.Lock)
    progressed: Callable[[], None] = field(default=lambda: None)  # a part has come home

    def is_large(self, size_bytes: int) -> bool:
        return size_bytes > self.part_bytes

    def in_order(self, parts: Iterable[P], work: Callable[[P], T]) -> Generator[T]:
        """Do some work with each part, several at once; the results in the order of the parts.

        The memory of a part is held from before its work begins until its result was used.
        The first error ends it, once what is under way has ended. Close it.
        """
        under_way: deque[tuple[Future[T], int]] = deque()
        try:
            for part in parts:
                # Who holds memory must not wait for more: all could, for each other.
                has_room = False
                while under_way and not has_room:
                    if len(under_way) < self.at_once:
                        has_room = self.budget.try_take(part.size_bytes)
                    if not has_room:
                        yield from self._first(under_way)
                if not has_room:
                    self.budget.take(part.size_bytes)
                under_way.append((self._begin(partial(work, part), part), part.size_bytes))
            while under_way:
                yield from self._first(under_way)
        finally:
            wait([future for future, _ in under_way if not future.cancel()])
            for _, size_bytes in under_way:
                self.budget.give_back(size_bytes)

    def _begin(self, work: Callable[[], T], part: Piece) -> Future[T]:
        try:
            return self.crew.submit(work)
        except BaseException:  # there is no thread to be had
            self.budget.give_back(part.size_bytes)
            raise

    def _first(self, under_way: deque[tuple[Future[T], int]]) -> Generator[T]:
        future, size_bytes = under_way[0]
        result = future.result()
        self.progressed()  # an object of hours is no hang
        yield result
        under_way.popleft()
        self.budget.give_back(size_bytes)

    def digest(
        self,
        size_bytes: int,
        read: Callable[[int, int], Buffer],
        got: Callable[[Buffer], object] | None = None,
    ) -> Digest:
        """Read an object in ranges and hash it; `got` is told of its bytes, in order."""
        sha256 = hashlib.sha256()
        ranges = part_ranges(size_bytes, self.part_bytes)
        with closing(self.in_order(ranges, lambda it: read(it.start, it.stop))) as bodies:
            for body in bodies:
                sha256.update(body)
                if got is not None:
                    got(body)
                del body  # its memory counts as free once the next one is asked for
        return Digest(sha256.digest())

    def read_back(self, cold: ColdStore, stat: ColdStat) -> Digest:
        """SHA-256 of the stored bytes of a cold object: in one read, or in ranges.

        Raises:
            ObjectMissing, ObjectDenied, ObjectFrozen: As by `ColdStore.read`.
            ObjectChanged: It has another size or ETag than was said.
        """
        if not self.is_large(stat.size_bytes):
            return cold.readback(stat.key)
        return self.digest(stat.size_bytes, partial(cold.read_range, stat))
