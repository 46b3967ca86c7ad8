"""Which database's workers let go of hot copies: what `archiver ledger take-over` decides."""

from __future__ import annotations

from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from archiver.engine.stamping import Stamper, own_of
from archiver.errors import FatalError
from archiver.model import FoundStamp
from archiver.opening import NEVER_WRITES, find_capabilities, open_cold, pace_settings
from archiver.stores.pace import LimitedPace

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from archiver.config import Settings
    from archiver.engine.stamping import Found
    from archiver.ledger.postgres import PostgresLedger
    from archiver.model import Capabilities, LedgerIdentity, SourceName, Stamp, WorkerStatus
    from archiver.protocols import Clock

_POLL_SECONDS = 0.25
_LAST_EPOCH = 1_000_000_000  # that is believed; an integer of Postgres goes on to twice that


@dataclass(frozen=True, slots=True)
class Standing:
    """What the cold place of one source says, and what the ledger does."""

    source: SourceName
    where: str
    found: Sequence[Stamp | None]  # of the highest number; None: it cannot be read
    last: Stamp | None  # that the ledger knows to be there
    refusal: str | None  # why its workers may let go of nothing; None: they may


class Succession:
    """A survey of all sources first, then the decision. Nothing is deleted by either.

    Where workers release nothing (`ARCHIVE_RELEASE=off`) nothing is stamped: another database
    may go on releasing under the same prefix.
    """

    def __init__(
        self, ledger: PostgresLedger, settings_of: Mapping[SourceName, Settings], clock: Clock
    ) -> None:
        """Look at everything; nothing is written.

        Raises:
            StoreUnavailable, FatalError: A cold store could not be asked.
            LedgerDenied, LedgerUnavailable
        """
        self._ledger = ledger
        self._settings_of = settings_of
        self._clock = clock
        self.identity: LedgerIdentity = ledger.fleet.identity()
        self.live_workers: Sequence[WorkerStatus] = [
            worker for worker in ledger.fleet.workers() if worker.is_alive
        ]
        self._found: list[FoundStamp] = []
        releasing = [name for name, own in settings_of.items() if own.release]
        self.standings: Sequence[Standing] = [self._survey(name) for name in releasing]

    def take_over(self) -> int:
        """Make this database the ledger's home, under a new epoch; that epoch.

        Decided in one transaction of the ledger; then the cold places are stamped, so that
        any other database's workers are refused. Repeatable: where it was interrupted, the
        workers of this database put what is missing of the stamps themselves.

        Raises:
            ForeignStamp, ForkedLedger: Another database's worker stamped meanwhile.
            StoreUnavailable, FatalError: As by the survey.
        """
        fleet = self._ledger.fleet
        epoch = fleet.take_over(self._found)
        for found in self._found:
            stamps = self._ledger.stamps(found.source)
            with self._stamper(found.source, writes=True) as stamper:
                known = stamps.known(stamper.place)
                if known.intended is not None:  # else a worker has seen it there already
                    own_of(stamper.put(known.intended), known, known, stamper.where)
        return epoch

    def outlive_leases(self) -> None:
        """Wait until no worker from before may delete any more: one lease at most.

        Raises:
            LedgerUnavailable
        """
        while (seconds := self._ledger.fleet.fenced_lease_seconds()) > 0:
            self._clock.sleep(min(seconds, _POLL_SECONDS))

    def _survey(self, source: SourceName) -> Standing:
        stamps = self._ledger.stamps(source)
        with self._stamper(source, writes=False) as stamper:
            known = stamps.known(stamper.place)
            found = stamper.look(known.last)
            refusal = None
            try:
                own_of(found, known, stamps.known(stamper.place), stamper.where)
            except FatalError as error:
                refusal = str(error)
            self._found.append(_highest(source, stamper, found))
            return Standing(source, stamper.where, found.stamps, known.last, refusal)

    @contextmanager
    def _stamper(self, source: SourceName, *, writes: bool) -> Iterator[Stamper]:
        settings = self._settings_of[source]
        pace = LimitedPace("cold", pace_settings(settings), self._clock)
        seen: Capabilities = NEVER_WRITES
        if writes:
            seen, _ = find_capabilities(settings, self._ledger.fleet, pace)
        with closing(open_cold(settings, seen, pace)) as cold:
            yield Stamper(cold, source)


def _highest(source: SourceName, stamper: Stamper, found: Found) -> FoundStamp:
    # Whoever can write there could else say the last epoch there is: none would be above it.
    epochs = [it.epoch for it in found.stamps if it is not None and it.epoch <= _LAST_EPOCH]
    return FoundStamp(source, stamper.place, found.number, max(epochs, default=0))
