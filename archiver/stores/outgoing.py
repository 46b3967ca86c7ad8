"""A body on its way out, told apart from the way it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Outgoing:
    """The pieces of a body as they are sent, and what they raised.

    Whoever sends them takes an error of theirs for one of the wire or of the disk.
    """

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = pieces
        self.sent_bytes = 0
        self.failure: Exception | None = None

    def __iter__(self) -> Iterator[bytes]:
        try:
            for piece in self._pieces:
                self.sent_bytes += len(piece)
                yield piece
        except Exception as exc:
            self.failure = exc
            raise
