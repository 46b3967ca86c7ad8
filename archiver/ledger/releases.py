"""Exclusive rights to let go of hot copies: due, and with no row pointing at them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg.types.json import Jsonb

from archiver.ledger import rows
from archiver.ledger.database import fetch
from archiver.ledger.queries import load
from archiver.ledger.translation import blaming
from archiver.model import FencingToken, Outcome, Release, ReleaseEnd, WorkerId

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from archiver.ledger.backoff import Backoff
    from archiver.ledger.claims import Seen
    from archiver.ledger.database import Connection, Database, Row
    from archiver.ledger.fleet import PostgresFleet
    from archiver.ledger.undoing import Undoing
    from archiver.model import HotLocation, Recorded, ReleaseFailure, SourceName, Undone
    from archiver.protocols import ArchiveSource, Look

_SQL = load("releases.sql")


class PostgresReleases:
    """The releases of one source. Thread-safe."""

    def __init__(
        self,
        source: ArchiveSource,
        database: Database,
        fleet: PostgresFleet,
        backoff: Backoff,
        seen: Seen,
        undoing: Undoing,
        beside: Collection[ArchiveSource],
    ) -> None:
        self._source = source
        self._beside = beside  # whose rows may point at the same hot objects
        self._database = database
        self._fleet = fleet
        self._backoff = backoff
        self._seen = seen
        self._undoing = undoing

    def claim_release(self, limit: int) -> Sequence[Release]:
        while True:
            due, free = self._claim(limit)
            if free or not due:
                return free
            # All of these were pointed at; what is due behind them is still to come.

    def released(self, ends: Sequence[ReleaseEnd]) -> None:
        if not ends:
            return
        with self._database.transaction("released") as tx:
            self._end(tx, ends)

    def fail_release(self, failures: Sequence[ReleaseFailure]) -> None:
        if not failures:
            return
        listed = [
            {
                **_token_to_json(failure.release),
                "reason": rows.storable(failure.reason),
                "wait_seconds": self._wait_seconds(failure),
            }
            for failure in failures
        ]
        with self._database.transaction("fail_release") as tx:
            tx.execute(_SQL["fail_releases"], {"failures": Jsonb(listed)})

    def give_back_releases(self, releases: Sequence[Release]) -> None:
        if not releases:
            return
        listed = [_token_to_json(release) for release in releases]
        with self._database.transaction("give_back_releases") as tx:
            tx.execute(_SQL["give_back_releases"], {"releases": Jsonb(listed)})

    def undo(
        self, recorded: Sequence[Recorded], hold_seconds: float, look: Look
    ) -> Sequence[Undone]:
        return self._undoing.undo(recorded, hold_seconds, look)

    def _claim(self, limit: int) -> tuple[Sequence[Release], Sequence[Release]]:
        """What was due, and of that what no row points at; the rest has ended."""
        with self._seen.lock:
            with self._database.transaction("claim_release") as tx:
                tx.execute(_SQL["lock_out_undo"], {"source": self._source.name})
                self._fleet.require_lease(tx)
                due = self._claim_due(tx, limit)
                free = self._without_pointed_at(tx, due) if due else []
            self._seen.note([release.token.number for release in due])
        return due, free

    def _claim_due(self, tx: Connection, limit: int) -> list[Release]:
        claimed = fetch(
            tx,
            _SQL["claim_releases"],
            {
                "source": self._source.name,
                "epoch": self._fleet.epoch,
                "worker_id": self._fleet.worker,
                "seen_number": self._seen.number,
                "limit": limit,
            },
        )
        return [_release_from(row) for row in claimed]

    def _without_pointed_at(self, tx: Connection, due: Sequence[Release]) -> list[Release]:
        locations = {release.recorded.receipt.location for release in due}
        pointed_at: dict[HotLocation, SourceName] = {}
        for source in (*self._beside, self._source):
            with blaming(source.name, "points_at"):
                found = source.points_at(locations, tx)
            pointed_at |= dict.fromkeys(found, source.name)
        replaced = [
            ReleaseEnd(it, Outcome.REPLACED, self._who_points(pointed_at[location]))
            for it in due
            if (location := it.recorded.receipt.location) in pointed_at
        ]
        if replaced:
            self._end(tx, replaced)
        return [it for it in due if it.recorded.receipt.location not in pointed_at]

    def _who_points(self, source: SourceName) -> str:
        is_own = source == self._source.name
        return "a row points at it" if is_own else f"a row of source {source} points at it"

    def _end(self, tx: Connection, ends: Sequence[ReleaseEnd]) -> None:
        listed = [
            {
                **_token_to_json(end.release),
                "outcome": end.outcome.value,
                "detail": None if end.detail is None else rows.storable(end.detail),
            }
            for end in ends
        ]
        tx.execute(_SQL["end_releases"], {"ends": Jsonb(listed)})

    def _wait_seconds(self, failure: ReleaseFailure) -> float | None:
        """None: park. Waiting never parks: an outage is no fault of the objects it met."""
        attempts_count = failure.release.attempts_count + 1
        if failure.is_permanent:
            return None
        return self._backoff.seconds(attempts_count, failure.retry_after_seconds)


def _release_from(row: Row) -> Release:
    token = FencingToken(
        row["release_epoch"], WorkerId(row["release_worker_id"]), row["release_number"]
    )
    return Release(rows.recorded_from(row), token, row["attempts_count"])


def _token_to_json(release: Release) -> rows.Json:
    return {
        "receipt_id": release.recorded.receipt_id,
        **rows.token_to_json(release.token),
    }
