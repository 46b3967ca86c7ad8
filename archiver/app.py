"""Where the parts meet: settings in, a working archiver out."""

from __future__ import annotations

from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from archiver.engine.adopting import Adopting, AdoptPlan, Prover, Reading, survey
from archiver.engine.budget import BytesInFlight
from archiver.engine.lease import Heartbeat
from archiver.engine.pool import ThreadPool
from archiver.engine.undo import UNDO_GROUP, undo
from archiver.engine.width import FIRST_WIDTH
from archiver.errors import LedgerUnavailable, SettingsError, SourceRefused
from archiver.events import BacklogCounted
from archiver.ledger.migrate import apply_statements
from archiver.ledger.migrate import migrate as migrate_ledger
from archiver.ledger.postgres import LedgerSettings, PostgresLedger
from archiver.model import Summary
from archiver.opening import (
    NEVER_WRITES,
    in_a_second,
    ledger_settings,
    migrate_url_of,
    open_cold,
    open_hot,
    open_source,
    pace_settings,
)
from archiver.shift import Parts, Shift, sweep_plan
from archiver.sources.finding import find_source
from archiver.sources.sql_file import SqlFile
from archiver.stores.pace import LimitedPace
from archiver.succession import Succession

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from archiver.config import Settings
    from archiver.engine.stop import Stop
    from archiver.model import Entry, LedgerIdentity, Offer, SourceName, Spent, Takeover, Undone
    from archiver.protocols import ArchiveSource, Clock, Fleet, Observer, Records

_UNDO_PATIENCE_SECONDS = 5.0  # with a pause that the hot store asks for


@contextmanager
def open_archiver(settings: Settings, observer: Observer, clock: Clock) -> Iterator[Archiver]:
    """Connect to the ledger and prove the sources; no store is touched yet.

    Raises:
        FatalError: The ledger is outdated or denied, or a source cannot be trusted here.
        LedgerUnavailable: The database does not answer.
    """
    sources = [open_source(chosen) for chosen in settings.of_sources]
    with PostgresLedger(ledger_settings(settings), clock) as ledger:
        ledger.check()
        yield Archiver(settings, ledger, sources, observer, clock)


def migrate(settings: Settings, clock: Clock) -> list[str]:
    """Bring the ledger's tables up to this version; the names of what was applied."""
    return migrate_ledger(migrate_url_of(settings), clock)


@contextmanager
def open_succession(settings: Settings, clock: Clock) -> Iterator[Succession]:
    """Connect with the role that migrates, and survey all sources' cold stores.

    Raises:
        SettingsError: That role's database is not the one that workers use.
        StoreUnavailable, FatalError: A store or the ledger could not be asked.
        LedgerUnavailable
    """
    with PostgresLedger(LedgerSettings(url=migrate_url_of(settings)), clock) as ledger:
        ledger.check()
        if settings.database_url is not None:
            with PostgresLedger(ledger_settings(settings), clock) as workers:
                _require_one_database(ledger.fleet.identity(), workers.fleet.identity())
        settings_of = {it.name: it.settings for it in settings.of_sources}
        yield Succession(ledger, settings_of, clock)


def _require_one_database(migrated: LedgerIdentity, worked: LedgerIdentity) -> None:
    is_other = migrated.found_in.is_other_than(worked.found_in)
    if is_other or migrated.ledger_id != worked.ledger_id:
        problem = (
            f"ARCHIVE_MIGRATE_URL leads to database {migrated.found_in}, "
            f"ARCHIVE_DATABASE_URL to {worked.found_in}; both must name the same one"
        )
        raise SettingsError(problems=(problem,))


def needs(settings: Settings, source: str) -> list[str]:
    """The statements a source needs in the application's database, safe on a live one."""
    named = [it.definition for it in settings.of_sources if it.name == source]
    definition = named[0] if named else find_source(source)
    return list(definition.needs) if isinstance(definition, SqlFile) else []


def apply_needs(settings: Settings, source: str, clock: Clock) -> None:
    """Apply them, one process at a time."""
    apply_statements(migrate_url_of(settings), needs(settings, source), clock)


class Archiver:
    """An open ledger and its sources, ready to sweep and to be asked."""

    def __init__(
        self,
        settings: Settings,
        ledger: PostgresLedger,
        sources: Sequence[ArchiveSource],
        observer: Observer,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._sources = {source.name: source for source in sources}
        self._observe = observer
        self._parts = Parts(
            ledger=ledger,
            sources=self._sources,
            settings_of={it.name: it.settings for it in settings.of_sources},
            observe=observer,
            clock=clock,
            concurrency=settings.concurrency,
        )

    @property
    def records(self) -> Records:
        return self._ledger.records

    @property
    def fleet(self) -> Fleet:
        return self._ledger.fleet

    def spent(self) -> Spent | None:
        """What all workers spent of the egress budget; None: there is none."""
        budget = self._settings.egress_budget
        return None if budget is None else self._ledger.spending.spent(budget)

    def preview(
        self, sources: Sequence[str] | None, limit: int | None
    ) -> Iterator[tuple[SourceName, Offer]]:
        """What would move now, oldest first; nothing is written anywhere."""
        for source in self._chosen(sources):
            self._parts.check(source)
            for offer in self._ledger.claims(source).preview(limit):
                yield source.name, offer

    def count_backlog(self, sources: Sequence[str] | None) -> None:
        """Tell the observer how much there is to do; for a person who watches it shrink."""
        for source in self._chosen(sources):
            with suppress(SourceRefused):  # its sweep says so, and stops no other
                count = self._ledger.claims(source).count_backlog()
                self._observe(BacklogCounted(source.name, count))

    @property
    def source_names(self) -> Sequence[SourceName]:
        """In the order in which they are swept."""
        return list(self._sources)

    def once(self, sources: Sequence[str] | None, limit: int | None, stop: Stop) -> Summary:
        """Drain everything that is due, source after source, releasing beside.

        A source that fails stops no other: its failure is in the summary.

        Raises:
            LedgerUnavailable, LedgerDenied: No lease could be had.
        """
        chosen, total = self._chosen(sources), Summary()
        if self._settings.max_duration_seconds is not None:
            stop = stop.within(self._settings.max_duration_seconds, self._parts.clock)
        with closing(self.begin_shift()) as shift:
            for source in chosen:
                if stop.reason is not None:
                    total = total.plus(Summary(state="stopped", stopped=stop.reason))
                    break
                if shift.has_work_left:  # by a sweep that lost its ledger
                    break
                left = None if limit is None else limit - total.archived
                plan = sweep_plan(self._settings, left)
                total = total.plus(shift.drain(source.name, plan, stop))
        return total

    def survey(self, source: str, limit: int | None, stop: Stop, *, unproven: bool) -> Takeover:
        """What `adopt` would do; nothing is written, and no store is asked.

        Raises:
            FatalError: The source is not one, cannot be trusted, or does not tell.
            LedgerUnavailable
        """
        return survey(self._reading(source, limit, unproven=unproven), stop)

    def adopt(self, source: str, limit: int | None, stop: Stop, *, unproven: bool) -> Takeover:
        """Give receipts to the rows of a source that another worker archived.

        Cold objects are read, or with `unproven` only asked for; nothing is put or deleted.

        Raises:
            FatalError: As by `survey`; or no lease could be had.
            LedgerUnavailable
        """
        reading = self._reading(source, limit, unproven=unproven)
        settings = self._parts.settings_of[reading.source]
        if settings.max_duration_seconds is not None:
            stop = stop.within(settings.max_duration_seconds, self._parts.clock)
        with ExitStack() as held:
            heartbeat = Heartbeat(self._ledger.fleet, self._parts.clock)
            held.callback(self._leave)
            # So nothing needs to be probed: keys that may only read will do.
            pace = LimitedPace(
                "cold",
                pace_settings(settings),
                self._parts.clock,
                is_stopping=lambda: stop.reason is not None,
            )
            cold = open_cold(settings, NEVER_WRITES, pace)
            held.callback(cold.close)
            pool = ThreadPool(width=reading.plan.concurrency, clock=self._parts.clock)
            held.callback(pool.every(heartbeat.interval_seconds, heartbeat.beat))
            held.callback(pool.close)
            prover = Prover(reading.source, cold, BytesInFlight())
            return Adopting(reading, prover, pool, heartbeat, stop)()

    def _leave(self) -> None:
        """Threads that hang only read: the lease ends, whatever they do."""
        with suppress(LedgerUnavailable):
            self._ledger.fleet.leave()

    def _reading(self, source: str, limit: int | None, *, unproven: bool) -> Reading:
        (chosen,) = self._chosen([source])
        self._parts.check(chosen)
        settings = self._parts.settings_of[chosen.name]
        plan = AdoptPlan(
            bucket=settings.bucket_name,
            concurrency=settings.concurrency or FIRST_WIDTH,
            unproven=unproven,
            limit=limit,
            drain_seconds=settings.drain_timeout_seconds,
        )
        adoptions = self._ledger.adoptions(chosen)
        return Reading(chosen.name, adoptions, self._parts.clock, self._observe, plan)

    def begin_shift(self) -> Shift:
        """Join the fleet; whoever begins a shift closes it.

        Raises:
            LedgerUnavailable, LedgerDenied: No lease could be had.
        """
        return Shift(self._parts, self._settings)

    def require_restorable(self, source: SourceName) -> None:
        """Prove that this source is set and can point its rows back.

        Raises:
            SettingsError, SourceRefused
        """
        (chosen,) = self._chosen([source])
        if not chosen.can_restore:
            problem = "it cannot point rows at their hot copies again"
            fix = "Write the section `restored`, or the method on_restored of a plugin."
            raise SourceRefused(source=source, problem=problem, fix=fix)

    def undo(
        self, source: SourceName, entries: Iterable[Entry], hold_seconds: float
    ) -> Iterator[Undone]:
        """Point rows of one source back at their hot copies; an answer each, lazily.

        Raises:
            SourceRefused: The source cannot.
            TransientError, FatalError: The hot store or the ledger could not be asked. What
                was answered is done.
        """
        (chosen,) = self._chosen([source])
        own = self._parts.settings_of[source]
        # A worker that would claim releases waits for each look, and is not patient for ever.
        patient = replace(pace_settings(own), patience_seconds=_UNDO_PATIENCE_SECONDS)
        pace = LimitedPace("hot", patient, self._parts.clock)
        hot = open_hot(own, min(own.timeout_seconds, own.lease_seconds / 2), pace)
        size = in_a_second(UNDO_GROUP, own.requests_per_second)
        try:
            releases = self._ledger.releases(chosen)
            yield from undo(entries, hot, releases, hold_seconds=hold_seconds, group_size=size)
        finally:
            hot.close()

    def _chosen(self, names: Sequence[str] | None) -> list[ArchiveSource]:
        unknown = sorted(set(names or ()) - set(self._sources))
        if unknown:
            known = ", ".join(self._sources)
            problem = f"--source {unknown[0]}: no such source; configured are {known}"
            raise SettingsError(problems=(problem,))
        return [s for name, s in self._sources.items() if not names or name in names]
