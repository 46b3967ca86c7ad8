"""Whose workers let go of hot copies here: stamps in the cold store, beside the ledger's own.

A database that was restored or copied knows nothing of what the other one has archived and
let go of since. What both share is the cold store. So each ledger stamps it, daily while it
releases, and knows its stamps; before a delete it looks whether the last one there is its own.
`letting_go.py` drives this; here is what threads ask the store, and what the answers mean.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from archiver.errors import (
    ForeignStamp,
    ForkedLedger,
    KeyTaken,
    StampGone,
    StoreUnavailable,
)
from archiver.formats.stamps import (
    number_of,
    of_body,
    of_metadata,
    own_key,
    shared_key,
    stamps_directory,
    to_body,
    to_metadata,
)
from archiver.model import ColdKey, ColdPlace

if TYPE_CHECKING:
    from archiver.model import SourceName, Stamp, Stamped
    from archiver.protocols import ColdStore

# How long a look at the stamps is believed: what another database's worker deletes after a
# take-over, before it notices, is deleted within this. A look costs one LIST and one HEAD.
BELIEVED_SECONDS = 3600.0
_BODY_LIMIT_BYTES = 64 * 1024  # a stamp's has some hundreds


@dataclass(slots=True)
class Vouched:
    """Until when the cold place is believed to be this ledger's. Of the thread that sweeps."""

    until: float = 0.0  # on Clock.monotonic()


@dataclass(frozen=True, slots=True)
class Found:
    """The stamps of the highest number in a cold place; none, if there is no stamp."""

    number: int = 0
    stamps: tuple[Stamp | None, ...] = field(default=())  # None: one that cannot be read


@dataclass(frozen=True, slots=True)
class Stamper:
    """Looks at the stamps of one source in a cold store, and adds to them. For any thread."""

    cold: ColdStore
    source: SourceName

    @property
    def place(self) -> ColdPlace:
        here = self.cold.location(ColdKey(""))
        return ColdPlace(here.provider, here.bucket, self.cold.path_prefix)

    @property
    def where(self) -> str:
        return str(self.cold.location(ColdKey(self._directory)))

    def look(self, last: Stamp | None) -> Found:
        """Find the highest stamps. `last` is there, as far as the ledger knows.

        Raises:
            StoreUnavailable: Also where the listing leaves out what is there: a listing
                that fails midway can look like an empty one.
        """
        keys: dict[int, list[ColdKey]] = {}
        for stat in self.cold.list(self._directory):
            if (number := number_of(stat.key, self._directory)) is not None:
                keys.setdefault(number, []).append(stat.key)
        highest = max(keys, default=0)
        if last is not None and highest < last.number and self._is_there(last):
            raise _incomplete(self.where)
        return Found(highest, tuple(self._read(key) for key in keys.get(highest, ())))

    def put(self, stamp: Stamp) -> Found:
        """Add a stamp that the ledger has recorded, and look. Repeatable.

        Whether it is there, and whether alone, is for what was found to say: another one
        may have been first.
        """
        is_shared = self.cold.capabilities.enforces_create
        key = (shared_key if is_shared else own_key)(self.cold.path_prefix, stamp)
        with suppress(KeyTaken):
            self.cold.create(
                key,
                to_body(stamp),
                metadata=to_metadata(stamp),
                content_type="application/json",
                content_encoding=None,
            )
        found = self.look(stamp)
        if found.number < stamp.number:
            raise _incomplete(self.where)
        return found

    @property
    def _directory(self) -> str:
        return stamps_directory(self.cold.path_prefix, self.source)

    def _is_there(self, stamp: Stamp) -> bool:
        prefix = self.cold.path_prefix
        seen = self.cold.stat_many([shared_key(prefix, stamp), own_key(prefix, stamp)])
        return any(stat is not None for stat in seen.values())

    def _read(self, key: ColdKey) -> Stamp | None:
        """What a stamp says of itself, in its metadata or, where a copy lost that, its body."""
        found = self.cold.look(key)
        if found is None:
            raise _incomplete(self.where)
        told = of_metadata(found.metadata)
        if told is None and found.stat.size_bytes <= _BODY_LIMIT_BYTES:
            return of_body(self.cold.read(key))
        return told


def own_of(found: Found, before: Stamped, after: Stamped, where: str) -> Stamp | None:
    """This ledger's stamp among what was found, or None where there is none and need not be.

    `before` and `after` is what the ledger knew at either side of the look: other workers of
    it stamp too, and record what they are about to stamp.

    Raises:
        ForeignStamp, ForkedLedger, StampGone: Nothing may be let go of here.
    """
    for known in (before, after):
        if known.overrules and known.intended and found.number < known.intended.number:
            return None
    for stamp in found.stamps:
        if stamp is None:
            raise ForeignStamp(where=where, found="a stamp that cannot be read")
        if stamp.ledger_id != after.ledger_id:
            raise ForeignStamp(where=where, found=str(stamp))
    if before.last is not None and found.number < before.last.number:
        raise StampGone(where=where, expected=str(before.last))
    known_stamps = (before.last, before.intended, after.last, after.intended)
    own = next((it for it in known_stamps if it and it.number == found.number), None)
    for stamp in found.stamps:
        if stamp is not None and (own is None or stamp.nonce != own.nonce):
            expected = str(own or after.last or "none")
            raise ForkedLedger(where=where, found=str(stamp), expected=expected)
    return own


def _incomplete(where: str) -> StoreUnavailable:
    return StoreUnavailable(store="cold", operation="list", code="incomplete", where=where)
