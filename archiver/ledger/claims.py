"""Exclusive rights to move: claimed here, under the source's lock; ended in `endings`."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from psycopg.types.json import Jsonb

from archiver.ledger import rows
from archiver.ledger.database import fetch
from archiver.ledger.queries import load
from archiver.ledger.translation import blaming
from archiver.model import BadRow, CandidateId, Claim, FencingToken, Outlook, Window
from archiver.protocols import PassesInTheWay

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from archiver.ledger.database import Connection, Database
    from archiver.ledger.endings import Endings
    from archiver.ledger.fleet import PostgresFleet
    from archiver.model import Answer, Candidate, FailAnswer, Failure, Offer, Position, Receipt
    from archiver.protocols import ArchiveSource

_SQL = load("claims.sql")

_ALONE_AT = 5  # deaths of workers, after which a claim is handed out alone; one more parks it
_PAGE_OFFERS = 500  # asked of a source at least: many may be parked, or claimed by others
_HOLDS = 20_000  # forgotten in one transaction
_PREVIEW_OFFERS = 5000  # each page of a preview prepares the source anew


@dataclass(slots=True)
class Seen:
    """The highest token number that has reached this process, for one source.

    What this worker claimed above it was claimed in a transaction whose reply got lost:
    nobody knows of it, so the next claim may have it. The lock keeps one thread's claim
    from taking what another's is just about to report.
    """

    lock: threading.Lock = field(default_factory=threading.Lock)
    number: int = 0

    def note(self, numbers: Sequence[int]) -> None:
        self.number = max(self.number, *numbers, 0)


@dataclass(slots=True)
class _Reading:
    """One claim's way through the order: where it is, and what it has got."""

    cursor: Position | None
    moving: set[CandidateId]  # when it began; no claim is added meanwhile but its own
    is_from_beginning: bool
    claims: list[Claim] = field(default_factory=list)
    parked_count: int = 0
    is_at_end: bool = False


class PostgresClaims:
    """The claims of one source. `begin` and `claim` belong to one thread, the rest to any."""

    def __init__(
        self,
        source: ArchiveSource,
        database: Database,
        fleet: PostgresFleet,
        endings: Endings,
        seen: Seen,
    ) -> None:
        self._source = source
        self._database = database
        self._fleet = fleet
        self._endings = endings
        self._seen = seen
        self._cursor: Position | None = None  # how far this sweep has read the order

    def begin(self) -> None:
        self._forget_ended_holds()
        with self._database.transaction("begin") as tx:
            self._prepare(tx)
        self._cursor = None

    def preview(self, limit: int | None) -> Iterator[Offer]:
        """As the protocol says; lazy, and between two pages no transaction is open."""
        after, left = None, limit
        while left is None or left > 0:
            page, in_the_way = self._preview_page(after)
            if not page:
                return
            after = page[-1].position
            offered = [offer for offer in page if in_the_way.get(offer.id, True)]
            yield from offered[:left]
            left = None if left is None else left - len(offered)

    def count_backlog(self) -> int:
        with self._database.rolled_back("count_backlog") as tx:
            self._prepare(tx)
            with blaming(self._source.name, "count_candidates"):
                return self._source.count_candidates(tx)

    def claim(self, limit: int) -> Window:
        with self._seen.lock:
            with self._database.transaction("claim") as tx:
                self._lock_source(tx)
                self._fleet.require_lease(tx)
                window, cursor = self._claim(tx, limit)
            # Only now: a transaction that failed has left no trace in the ledger either.
            self._cursor = cursor
            self._seen.note([claim.token.number for claim in window.claims])
        return window

    def give_back(self, claims: Sequence[Claim]) -> None:
        self._endings.give_back(claims)

    def record(self, receipts: Sequence[Receipt]) -> Sequence[Answer]:
        return self._endings.record(receipts)

    def fail(self, failures: Sequence[Failure]) -> Sequence[FailAnswer]:
        return self._endings.fail(failures)

    def outlook(self) -> Outlook:
        parameters = {"source": self._source.name, "worker_id": self._fleet.worker}
        with self._database.transaction("outlook") as tx:
            (row,) = fetch(tx, _SQL["count_in_motion"], parameters)
        return Outlook(
            waiting_count=row["waiting_count"],
            next_due_seconds=_not_negative(row["next_due_seconds"]),
            next_release_seconds=_not_negative(row["next_release_seconds"]),
            elsewhere_count=row["elsewhere_count"],
            elsewhere_lease_seconds=_not_negative(row["elsewhere_lease_seconds"]),
            parked_count=row["parked_count"],
            pending_release_count=row["pending_release_count"],
        )

    def housekeeping(self, *, everything: bool) -> Mapping[str, int]:
        with self._database.transaction("housekeeping") as tx:
            tx.execute(_SQL["lock_housekeeping"], {"source": self._source.name})
            with blaming(self._source.name, "housekeeping"):
                return self._source.housekeeping(tx, everything=everything)

    # --- claiming ----------------------------------------------------------------------------

    def _claim(self, tx: Connection, limit: int) -> tuple[Window, Position | None]:
        killers = fetch(
            tx,
            _SQL["park_worker_killers"],
            {"source": self._source.name, "last_crash": _ALONE_AT},
        )
        taken = self._take_over(tx, limit, is_alone=False)
        reading = self._read_on(tx, limit - len(taken), again=not taken)
        parked_count = len(killers) + reading.parked_count
        claims = (*taken, *reading.claims)
        if claims:
            return Window(claims, parked_count), reading.cursor
        # What keeps killing its workers comes last: all else is safe by then.
        if alone := self._take_over(tx, min(limit, 1), is_alone=True):
            return Window(tuple(alone), parked_count, must_run_alone=True), reading.cursor
        return Window((), parked_count, is_drained=reading.is_at_end), reading.cursor

    def _take_over(self, tx: Connection, limit: int, *, is_alone: bool) -> list[Claim]:
        taken = fetch(
            tx,
            _SQL["take_over"],
            {
                "source": self._source.name,
                "epoch": self._fleet.epoch,
                "worker_id": self._fleet.worker,
                "seen_number": self._seen.number,
                "alone_at": _ALONE_AT,
                "is_alone": is_alone,
                "limit": limit,
            },
        )
        claims = [rows.claim_from(self._source.name, row) for row in taken]
        return sorted(claims, key=lambda claim: claim.candidate.position.due_at)

    def _read_on(self, tx: Connection, limit: int, *, again: bool) -> _Reading:
        """Claim fresh rows from where this sweep is in the order.

        At its end with nothing got, and `again`, once more from the beginning: rows before
        the cursor may be free again, and only a whole pass proves that nothing is left.
        """
        reading = _Reading(
            self._cursor, self._moving(tx), is_from_beginning=self._cursor is None
        )
        while len(reading.claims) < limit and not reading.is_at_end:
            wanted_count = limit - len(reading.claims)
            page = self._find_candidates(tx, max(wanted_count, _PAGE_OFFERS), reading.cursor)
            if page:
                has_chosen = self._claim_of_page(tx, page, wanted_count, reading)
                if not has_chosen:
                    self._pass_in_the_way(tx, reading)
            elif again and not reading.claims and not reading.is_from_beginning:
                reading.cursor, reading.is_from_beginning = None, True
            else:
                reading.is_at_end = True
        return reading

    def _claim_of_page(
        self, tx: Connection, page: Sequence[Offer], wanted_count: int, reading: _Reading
    ) -> bool:
        """Claim and park what a page has to offer; False: it has nothing."""
        in_the_way = self._in_the_way(tx, page)
        chosen: list[Offer] = []
        for offer in page:
            is_wanted = offer.id not in in_the_way and offer.id not in reading.moving
            if is_wanted and not isinstance(offer, BadRow):
                if not wanted_count:
                    break
                wanted_count -= 1
            if is_wanted:
                chosen.append(offer)
            reading.cursor = offer.position
        self._insert(tx, chosen, reading)
        return bool(chosen)

    def _pass_in_the_way(self, tx: Connection, reading: _Reading) -> None:
        """A page was in the way as a whole: go on to the first row that is not."""
        source = self._source
        while isinstance(source, PassesInTheWay):
            with blaming(source.name, "find_candidates"):
                passed = source.pass_in_the_way(reading.cursor, tx)
            if passed is None:
                return
            reading.cursor = passed

    def _insert(self, tx: Connection, chosen: Sequence[Offer], reading: _Reading) -> None:
        if not chosen:
            return
        inserted = fetch(
            tx,
            _SQL["insert_claims"],
            {
                "source": self._source.name,
                "offers": Jsonb([rows.offer_to_json(offer) for offer in chosen]),
                "epoch": self._fleet.epoch,
                "worker_id": self._fleet.worker,
            },
        )
        numbers = {row["id"]: row["number"] for row in inserted}
        for offer in chosen:
            if offer.id not in numbers:
                continue
            if isinstance(offer, BadRow):
                reading.parked_count += 1
            else:
                reading.claims.append(self._claimed(offer, numbers[offer.id]))

    def _claimed(self, candidate: Candidate, number: int) -> Claim:
        token = FencingToken(self._fleet.epoch, self._fleet.worker, number)
        return Claim(self._source.name, candidate, token)

    # --- the source and its lock -------------------------------------------------------------

    def _preview_page(
        self, after: Position | None
    ) -> tuple[Sequence[Offer], Mapping[CandidateId, bool]]:
        with self._database.rolled_back("preview") as tx:
            self._prepare(tx)
            page = self._find_candidates(tx, _PREVIEW_OFFERS, after)
            return page, self._in_the_way(tx, page)

    def _forget_ended_holds(self) -> None:
        """As many transactions as it takes: a hold may have been laid on a million rows."""
        parameters = {"source": self._source.name, "limit": _HOLDS}
        forgotten_count = _HOLDS
        while forgotten_count >= _HOLDS:
            with self._database.transaction("begin") as tx:
                forgotten_count = tx.execute(_SQL["forget_ended_holds"], parameters).rowcount

    def _lock_source(self, tx: Connection) -> None:
        tx.execute(_SQL["lock_source"], {"source": self._source.name})

    def _prepare(self, tx: Connection) -> None:
        self._lock_source(tx)  # two preparations at once would meet in their rows
        with blaming(self._source.name, "prepare"):
            self._source.prepare(tx)

    def _find_candidates(
        self, tx: Connection, limit: int, after: Position | None
    ) -> Sequence[Offer]:
        with blaming(self._source.name, "find_candidates"):
            return self._source.find_candidates(limit, after, tx)

    def _moving(self, tx: Connection) -> set[CandidateId]:
        found = fetch(tx, _SQL["find_moving"], {"source": self._source.name})
        return {CandidateId(row["id"]) for row in found}

    def _in_the_way(self, tx: Connection, page: Sequence[Offer]) -> Mapping[CandidateId, bool]:
        """Ids of the page that have a claim; whether that one could be claimed now."""
        parameters = {
            "source": self._source.name,
            "offers": Jsonb([rows.offer_to_json(offer) for offer in page]),
        }
        found = fetch(tx, _SQL["find_in_the_way"], parameters)
        return {CandidateId(row["id"]): row["is_free"] for row in found}


def _not_negative(seconds: float | None) -> float | None:
    return None if seconds is None else max(0.0, seconds)
