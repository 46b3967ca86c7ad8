"""Undo: rows point at their hot copies again, where those are still what was read.

The ledger lets no release begin while it asks `look`, so what is seen here stays; and it
counts a dead worker's release as free only when that worker's lease, and with it every delete
it may have sent, is over.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from archiver.model import UndoAnswer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from archiver.model import Entry, HotIdentity, ReceiptId, Recorded, Undone
    from archiver.protocols import HotStore, Releases

UNDO_GROUP = 200  # one transaction, during which no release is claimed: a second or two


def undo(
    entries: Iterable[Entry],
    hot: HotStore,
    releases: Releases,
    *,
    hold_seconds: float,
    group_size: int = UNDO_GROUP,
) -> Iterator[Undone]:
    """Undo the releases of these receipts, one of each id; an answer for each, lazily.

    A crash leaves whole groups done and the others as they were; again is safe.

    Raises:
        SourceRefused: The source cannot point rows back.
        TransientError, FatalError: The ledger or the hot store could not be asked.
    """

    def look(recorded: Sequence[Recorded]) -> Mapping[ReceiptId, UndoAnswer]:
        seen = hot.identify([one.receipt.location for one in recorded])
        return {
            one.receipt_id: answer
            for one in recorded
            if (answer := _amiss(one.receipt.identity, seen[one.receipt.location]))
        }

    remaining = iter(entries)
    while group := list(islice(remaining, group_size)):
        yield from releases.undo([entry.recorded for entry in group], hold_seconds, look)


def _amiss(read: HotIdentity | None, seen: HotIdentity | None) -> UndoAnswer | None:
    """Why a row must not point there; None: it may. What was recovered never had a hot copy."""
    if seen is None or read is None:
        return UndoAnswer.HOT_MISSING
    return None if seen == read else UndoAnswer.HOT_CHANGED
