"""What an operator asks the ledger."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

from archiver.ledger import rows
from archiver.ledger.database import fetch
from archiver.ledger.queries import load
from archiver.model import (
    CandidateId,
    ClaimState,
    Entry,
    History,
    Outcome,
    ParkedRow,
    SourceCounts,
    SourceName,
    UploadCounts,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from archiver.ledger.database import Database, Row
    from archiver.model import RecordedAdoption, WorkerId

T = TypeVar("T")

_SQL = load("records.sql")

_PAGE_ENTRIES = 5000
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
_NO_END = "infinity"  # Python has no such datetime


class PostgresRecords:
    """Reads of the whole ledger, and `retry`. Thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def counts(self) -> Sequence[SourceCounts]:
        with self._database.transaction("counts") as tx:
            found = fetch(tx, _SQL["count_by_source"], {})
        return [
            SourceCounts(**{**row, "last_archived_at": _utc(row["last_archived_at"])})
            for row in found
        ]

    def count_uploads(self) -> UploadCounts:
        with self._database.transaction("count_uploads") as tx:
            (row,) = fetch(tx, _SQL["count_uploads"], {})
        return UploadCounts(**row)

    def parked(self, source: SourceName | None, limit: int) -> Sequence[ParkedRow]:
        parameters = {"source": source, "limit": limit}
        with self._database.transaction("parked") as tx:
            found = fetch(tx, _SQL["list_parked"], parameters)
        return [
            ParkedRow(
                source=SourceName(row["source"]),
                id=CandidateId(row["id"]),
                reason=row["reason"],
                location=rows.location_from(row),
                attempts_count=row["attempts_count"],
                parked_at=row["parked_at"].astimezone(UTC),
                is_release=row["is_release"],
            )
            for row in found
        ]

    def retry(self, source: SourceName | None, ids: Collection[CandidateId] | None) -> int:
        parameters = {"source": source, "ids": None if ids is None else list(ids)}
        with self._database.transaction("retry") as tx:
            forgotten = tx.execute(_SQL["forget_parked"], parameters)
            revived = tx.execute(_SQL["revive_parked_releases"], parameters)
        return forgotten.rowcount + revived.rowcount

    def history(self, id_: CandidateId, source: SourceName | None) -> Sequence[History]:
        parameters = {"id": id_, "source": source}
        with self._database.transaction("history") as tx:
            claims = {row["source"]: row for row in fetch(tx, _SQL["find_claims"], parameters)}
            receipts = fetch(tx, _SQL["find_receipts"], parameters)
        sources = sorted(claims.keys() | {row["source"] for row in receipts})
        return [
            _history(
                SourceName(name),
                id_,
                claims.get(name),
                [row for row in receipts if row["source"] == name],
            )
            for name in sources
        ]

    def entries(
        self, source: SourceName | None, since: datetime, until: datetime | None
    ) -> Iterator[Entry]:
        asked = {"source": source, "since": since, "until": until or _NO_END}
        return self._pages(_SQL["list_entries"], asked, _entry)

    def newest_entries(
        self,
        source: SourceName,
        since: datetime,
        until: datetime | None = None,
        worker: WorkerId | None = None,
    ) -> Iterator[Entry]:
        asked = {"source": source, "since": since, "until": until or _NO_END}
        return self._pages(_SQL["list_newest_entries"], {**asked, "worker_id": worker}, _entry)

    def newest_entries_of(
        self, ids: Collection[CandidateId], source: SourceName | None
    ) -> Sequence[Entry]:
        asked = {"ids": list(ids), "source": source}
        with self._database.transaction("newest_entries_of") as tx:
            return [_entry(row) for row in fetch(tx, _SQL["list_newest_entries_of"], asked)]

    def adoptions(
        self, source: SourceName | None, since: datetime, until: datetime | None
    ) -> Iterator[RecordedAdoption]:
        asked = {"source": source, "since": since, "until": until or _NO_END}
        return self._pages(_SQL["list_adoptions"], asked, rows.adoption_from)

    def _pages(
        self, query: bytes, asked: Mapping[str, object], made_of: Callable[[Row], T]
    ) -> Iterator[T]:
        """By keyset: a cursor would keep a snapshot, and with it every dead row, for hours."""
        after = {"after_at": _BEGINNING, "after_id": 0}
        while True:
            with self._database.transaction("entries") as tx:
                page = fetch(tx, query, {**asked, **after, "limit": _PAGE_ENTRIES})
            yield from map(made_of, page)
            if len(page) < _PAGE_ENTRIES:
                return
            after = {"after_at": page[-1]["archived_at"], "after_id": page[-1]["receipt_id"]}


def _entry(row: Row) -> Entry:
    return Entry(
        recorded=rows.recorded_from(row),
        is_pending=row["is_pending"],
        outcome=Outcome(row["outcome"]) if row["outcome"] else None,
        detail=row["detail"],
        ended_at=_utc(row["ended_at"]),
    )


def _history(
    source: SourceName, id_: CandidateId, claim: Row | None, receipts: Sequence[Row]
) -> History:
    return History(
        source=source,
        id=id_,
        claim_state=ClaimState(claim["state"]) if claim else None,
        claim_reason=claim["reason"] if claim else None,
        claim_location=rows.location_from(claim) if claim else None,
        attempts_count=claim["attempts_count"] if claim else 0,
        next_attempt_at=_utc(claim["next_attempt_at"]) if claim else None,
        receipts=tuple(
            (
                rows.recorded_from(row),
                Outcome(row["outcome"]) if row["outcome"] else None,
                _utc(row["ended_at"]),
            )
            for row in receipts
            if not rows.is_adopted(row)
        ),
        adopted=tuple(rows.adoption_from(row) for row in receipts if rows.is_adopted(row)),
    )


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.astimezone(UTC)
