"""How many bytes may be in flight at once, over all threads (G6)."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from archiver.errors import ObjectTooLarge

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1024 * 1024


class BytesInFlight:
    """Blocks a move before it reads what would not fit. First come, first served.

    Whole objects are small: one larger than `object_limit_bytes` is refused, for it goes in
    parts. A part that is larger than all there may be goes alone.
    """

    def __init__(
        self, *, total_bytes: int = 128 * MIB, object_limit_bytes: int = 64 * MIB
    ) -> None:
        self._total_bytes = total_bytes
        self._object_limit_bytes = object_limit_bytes
        self._held_bytes = 0
        self._turn = threading.Condition()  # guards all three counters
        self._next_ticket = 0
        self._serving = 0

    @property
    def held_bytes(self) -> int:
        return self._held_bytes

    @contextmanager
    def hold(self, size_bytes: int, where: str) -> Iterator[None]:
        """Wait until so many bytes fit; give them back on exit.

        Raises:
            ObjectTooLarge: One object may never be that large.
        """
        if size_bytes > self._object_limit_bytes:
            raise ObjectTooLarge(
                where=where, size_bytes=size_bytes, limit_bytes=self._object_limit_bytes
            )
        self.take(size_bytes)
        try:
            yield
        finally:
            self.give_back(size_bytes)

    def take(self, size_bytes: int) -> None:
        """Wait until so many bytes fit. Whoever waits holds nothing else, or all would wait."""
        with self._turn:
            ticket = self._next_ticket
            self._next_ticket += 1
            # Tickets keep a large object from waiting behind an endless row of small ones.
            self._turn.wait_for(lambda: ticket == self._serving and self._fits(size_bytes))
            self._serving += 1
            self._held_bytes += size_bytes
            self._turn.notify_all()

    def try_take(self, size_bytes: int) -> bool:
        """Take them now, unless they do not fit or others wait."""
        with self._turn:
            if self._serving != self._next_ticket or not self._fits(size_bytes):
                return False
            self._held_bytes += size_bytes
            return True

    def give_back(self, size_bytes: int) -> None:
        with self._turn:
            self._held_bytes -= size_bytes
            self._turn.notify_all()

    def _fits(self, size_bytes: int) -> bool:
        return self._held_bytes == 0 or self._held_bytes + size_bytes <= self._total_bytes
