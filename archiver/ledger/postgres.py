"""One ledger, wired: what the engine and the operator drive, over one pool of connections."""

from __future__ import annotations

import random as random_module
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Self

from archiver.ledger import schema
from archiver.ledger.adoptions import PostgresAdoptions
from archiver.ledger.backoff import Backoff
from archiver.ledger.claims import PostgresClaims, Seen
from archiver.ledger.database import Database
from archiver.ledger.endings import Endings
from archiver.ledger.fleet import PostgresFleet
from archiver.ledger.records import PostgresRecords
from archiver.ledger.releases import PostgresReleases
from archiver.ledger.settings import LedgerSettings
from archiver.ledger.spending import PostgresSpending
from archiver.ledger.stamps import PostgresStamps
from archiver.ledger.translation import blaming
from archiver.ledger.undoing import Undoing
from archiver.ledger.uploads import PostgresUploads

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from types import TracebackType

    from archiver.model import CandidateId, Located, SourceName
    from archiver.protocols import ArchiveSource, Clock

__all__ = ["LedgerSettings", "PostgresLedger"]


class PostgresLedger:
    """The ledger in schema `archiver`. Parts come ready; `open` before the first is used."""

    def __init__(
        self,
        settings: LedgerSettings,
        clock: Clock,
        *,
        random: Callable[[], float] = random_module.random,
    ) -> None:
        """Read the settings; nothing is connected yet.

        Raises:
            SettingsError: The URL is not one.
        """
        self._settings = settings
        self._database = Database(settings, clock)
        self._backoff = Backoff(settings.retry_base_seconds, settings.retry_max_seconds, random)
        self._seen_claims: defaultdict[SourceName, Seen] = defaultdict(Seen)
        self._seen_releases: defaultdict[SourceName, Seen] = defaultdict(Seen)
        self.fleet = PostgresFleet(self._database, clock, lease_seconds=settings.lease_seconds)
        self.records = PostgresRecords(self._database)
        self.spending = PostgresSpending(self._database)
        self.uploads = PostgresUploads(
            self._database, self.fleet, expiry_seconds=settings.upload_expiry_seconds
        )

    def open(self) -> None:
        """Connect.

        Raises:
            LedgerDenied, LedgerUnavailable: Now, rather than at the first question.
        """
        self._database.open()

    def close(self) -> None:
        self._database.close()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def claims(
        self, source: ArchiveSource, *, release_grace_seconds: float | None = None
    ) -> PostgresClaims:
        """The claims of one source; one at a time in use by this process.

        Hot copies stay for the source's own grace, where it has one.
        """
        settings = self._settings
        if release_grace_seconds is not None:
            settings = replace(settings, release_grace_seconds=release_grace_seconds)
        endings = Endings(source, self._database, settings, self._backoff)
        seen = self._seen_claims[source.name]
        return PostgresClaims(source, self._database, self.fleet, endings, seen)

    def releases(
        self, source: ArchiveSource, *, beside: Collection[ArchiveSource] = ()
    ) -> PostgresReleases:
        """The releases of one source; none of what a row of `beside` points at, too."""
        seen = self._seen_releases[source.name]
        undoing = Undoing(source, self._database, self._settings)
        return PostgresReleases(
            source, self._database, self.fleet, self._backoff, seen, undoing, beside
        )

    def stamps(self, source: SourceName) -> PostgresStamps:
        return PostgresStamps(source, self._database, self.fleet)

    def adoptions(self, source: ArchiveSource) -> PostgresAdoptions:
        return PostgresAdoptions(source, self._database, self.fleet)

    def check(self) -> None:
        """Prove that the ledger's tables serve this release.

        Raises:
            LedgerOutdated, LedgerDenied, LedgerUnavailable
        """
        with self._database.transaction("check") as tx:
            schema.require(tx)

    def check_source(self, source: ArchiveSource) -> Sequence[str]:
        """Let a source prove itself in a transaction that is rolled back; its warnings.

        Raises:
            SourceRefused, LedgerDenied, LedgerUnavailable
        """
        with self._database.rolled_back("check_source") as tx:
            return source.check(tx)

    def locate(self, source: ArchiveSource, id_: CandidateId) -> Located:
        """Where a row says that its object is now.

        Raises:
            RowMissing, BadPointer, SourceRefused, LedgerDenied, LedgerUnavailable
        """
        with self._database.transaction("locate") as tx, blaming(source.name, "locate"):
            return source.locate(id_, tx)
