"""What this ledger has stamped into the cold places of a source, and is about to."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING

from archiver.ledger.database import fetch
from archiver.ledger.queries import load
from archiver.model import SourceName, Stamp, Stamped

if TYPE_CHECKING:
    from archiver.ledger.database import Connection, Database, Row
    from archiver.ledger.fleet import PostgresFleet
    from archiver.model import ColdPlace, FoundStamp

_SQL = load("stamps.sql")
_FRESH_SECONDS = 86_400.0


class PostgresStamps:
    """The stamps of one source. Thread-safe."""

    def __init__(self, source: SourceName, database: Database, fleet: PostgresFleet) -> None:
        self._source = source
        self._database = database
        self._fleet = fleet

    def known(self, place: ColdPlace) -> Stamped:
        with self._database.transaction("known") as tx:
            known, _ = self._find(tx, place)
        return known

    def intend(self, place: ColdPlace) -> Stamp | None:
        with self._database.transaction("intend") as tx:
            tx.execute(_SQL["lock"], {"source": self._source})
            self._fleet.require_lease(tx)
            known, is_fresh = self._find(tx, place)
            if known.intended is not None or is_fresh:
                return known.intended
            number = 1 if known.last is None else known.last.number + 1
            next_one = {"number": number, "epoch": self._fleet.epoch}
            tx.execute(_SQL["intend"], {**_where(self._source, place), **next_one})
            return self._find(tx, place)[0].intended

    def confirm(self, place: ColdPlace, stamp: Stamp) -> None:
        with self._database.transaction("confirm") as tx:
            self._fleet.require_lease(tx)
            which = {"number": stamp.number, "nonce": stamp.nonce}
            tx.execute(_SQL["confirm"], {**_where(self._source, place), **which})

    def _find(self, tx: Connection, place: ColdPlace) -> tuple[Stamped, bool]:
        """What is known, and whether the last one is not a day old yet."""
        asked = {**_where(self._source, place), "fresh_seconds": _FRESH_SECONDS}
        rows = fetch(tx, _SQL["find_stamps"], asked)
        told = [row for row in rows if row["number"] is not None]
        last = next((row for row in told if row["is_confirmed"]), None)
        intended = next((row for row in reversed(told) if not row["is_confirmed"]), None)
        known = Stamped(
            ledger_id=rows[0]["ledger_id"],
            last=None if last is None else self._stamp_from(last),
            intended=None if intended is None else self._stamp_from(intended),
            overrules=intended is not None and intended["overrules"],
        )
        return known, last is not None and last["is_fresh"]

    def _stamp_from(self, row: Row) -> Stamp:
        return Stamp(
            ledger_id=row["ledger_id"],
            source=self._source,
            number=row["number"],
            epoch=row["epoch"],
            nonce=row["nonce"],
            stamped_at=row["stamped_at"].astimezone(UTC),
            database_name=row["database_name"],
        )


def overrule(tx: Connection, found: FoundStamp, epoch: int) -> None:
    """Record a stamp that settles what lies in its place; it is still to be put there."""
    told = {"number": found.number, "epoch": epoch}
    tx.execute(_SQL["overrule"], {**_where(found.source, found.place), **told})


def _where(source: SourceName, place: ColdPlace) -> dict[str, object]:
    return {
        "source": source,
        "provider": place.provider,
        "cold_bucket": place.bucket,
        "prefix": place.prefix,
    }
