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

    An object larger than `object_limit_bytes` is refused: it takes the streaming path,
    which this version does not have.
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
        with self._turn:
            ticket = self._next_ticket
            self._next_ticket += 1
            # Tickets keep a large object from waiting behind an endless row of small ones.
            self._turn.wait_for(
                lambda: (
                    ticket == self._serving
                    and self._held_bytes + size_bytes <= self._total_bytes
                )
            )
            self._serving += 1
            self._held_bytes += size_bytes
            self._turn.notify_all()
        try:
            yield
        finally:
            with self._turn:
                self._held_bytes -= size_bytes
                self._turn.notify_all()
