"""Receipts for what was archived without this ledger: found by its source, kept by id."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING

from psycopg.types.json import Jsonb

from archiver.ledger import rows
from archiver.ledger.database import fetch
from archiver.ledger.queries import load
from archiver.ledger.translation import blaming
from archiver.model import CandidateId, Holdings

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

    from archiver.ledger.database import Connection, Database
    from archiver.ledger.fleet import PostgresFleet
    from archiver.model import Adoption, Holding
    from archiver.protocols import ArchiveSource

_SQL = load("adoptions.sql")

# A receipt bears the time its transaction began; it may be seen only so much later.
_MARGIN_SECONDS = 300.0


class PostgresAdoptions:
    """The adoptions of one source. Thread-safe."""

    def __init__(self, source: ArchiveSource, database: Database, fleet: PostgresFleet) -> None:
        self._source = source
        self._database = database
        self._fleet = fleet

    def holdings(self, limit: int, after: CandidateId | None, *, unproven: bool) -> Holdings:
        with self._database.transaction("holdings") as tx:
            (clock,) = fetch(tx, _SQL["find_time"], {})
            with blaming(self._source.name, "holdings"):
                page = self._source.holdings(limit, after, tx)
            known = self._known(tx, page, unproven=unproven) if page else set()
        return Holdings(
            to_adopt=tuple(it for it in page if it.id not in known),
            known_count=len(known),
            last=page[-1].id if page else None,
            read_at=clock["now"].astimezone(UTC),
        )

    def adopt(
        self, adoptions: Sequence[Adoption], read_at: datetime
    ) -> Collection[CandidateId]:
        if not adoptions:
            return set()
        parameters = {
            "source": self._source.name,
            "adoptions": Jsonb([rows.adoption_to_json(it) for it in adoptions]),
            "epoch": self._fleet.epoch,
            "worker_id": self._fleet.worker,
            "read_at": read_at,
            "margin_seconds": _MARGIN_SECONDS,
        }
        with self._database.transaction("adopt") as tx:
            tx.execute(_SQL["lock_adoptions"], parameters)
            self._fleet.require_lease(tx)
            tx.execute(_SQL["add_cold_places"], parameters)
            tx.execute(_SQL["insert_adoptions"], parameters)
            adopted = fetch(tx, _SQL["find_adopted"], parameters)
        return {CandidateId(row["id"]) for row in adopted}

    def _known(
        self, tx: Connection, page: Sequence[Holding], *, unproven: bool
    ) -> set[CandidateId]:
        listed = [
            {"id": it.id, "cold_bucket": it.cold_bucket, "cold_key": it.cold_key} for it in page
        ]
        parameters = {
            "source": self._source.name,
            "holdings": Jsonb(listed),
            "unproven": unproven,
        }
        return {CandidateId(row["id"]) for row in fetch(tx, _SQL["find_known"], parameters)}
