"""The only place where the parts meet: settings in, a working archiver out."""

from __future__ import annotations

from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from archiver.config import ColdFile, ColdS3, HotFile, HotS3, HotSupabase
from archiver.config.values import is_loopback
from archiver.engine.adopting import Adopting, AdoptPlan, Prover, Reading, survey
from archiver.engine.budget import BytesInFlight
from archiver.engine.egress import Allowance, Egress
from archiver.engine.evidence import demanded_evidence
from archiver.engine.lease import Heartbeat
from archiver.engine.move import Mover, Stores
from archiver.engine.pool import ThreadPool
from archiver.engine.release import Releaser
from archiver.engine.run import RELEASE_SLICE, Run, SweepPlan
from archiver.engine.sweep import Sweep
from archiver.engine.undo import UNDO_GROUP, undo
from archiver.engine.width import FIRST_WIDTH, MAX_WIDTH, AutoWidth, FixedWidth
from archiver.errors import (
    BucketMissing,
    FatalError,
    KeyTaken,
    LedgerUnavailable,
    PermanentError,
    SettingsError,
    SourceRefused,
    UnusableName,
)
from archiver.events import BacklogCounted, SourceWarning, StoreProbed, SweepFailed
from archiver.ledger.migrate import apply_statements
from archiver.ledger.migrate import migrate as migrate_ledger
from archiver.ledger.postgres import LedgerSettings, PostgresLedger
from archiver.model import Capabilities, ColdKey, HotLocation, Summary
from archiver.sources.finding import find_source
from archiver.sources.plugins import PluginSettings, load_plugin
from archiver.sources.sql_file import SqlFile
from archiver.sources.sql_source import SourceParameters, SqlSource
from archiver.stores.cold_file import FileColdStore
from archiver.stores.cold_s3 import S3ColdStore
from archiver.stores.hot_file import FileHotStore
from archiver.stores.hot_s3 import S3HotStore
from archiver.stores.pace import LimitedPace, Pace, PaceSettings
from archiver.stores.providers import FROZEN_CLASSES, PLACE_MARKER, PROVIDERS
from archiver.stores.s3 import S3Settings
from archiver.stores.supabase import SupabaseHotStore, SupabaseSettings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from archiver.config import Cold, Hot, Settings, SourceSettings
    from archiver.engine.stop import Stop
    from archiver.engine.width import Width
    from archiver.model import (
        Entry,
        Evidence,
        Offer,
        Secret,
        SourceName,
        Spent,
        Takeover,
        Undone,
    )
    from archiver.protocols import (
        ArchiveSource,
        Clock,
        ColdStore,
        Fleet,
        HotStore,
        Observer,
        Records,
    )
    from archiver.stores.cold_boto3 import Boto3ColdStore
    from archiver.stores.providers import S3Client

_DEFAULT_REGION = "us-east-1"  # what S3-compatible stores without regions sign with
_CLOSE_SECONDS = 1.0  # for threads that hang in a system call when all else has ended
_SHIFT_SECONDS = 86_400.0
_UNDO_PATIENCE_SECONDS = 5.0  # with a pause that the hot store asks for
_SWEEPS_SHARE_OF_A_DRAIN = 0.8  # the rest is for giving back what did not come home
_LEASE_WAIT_SECONDS = 1.0  # over one lease, before other workers' claims are left to them

NEVER_WRITES = Capabilities(  # of a cold store that is only read: nothing is tried out
    enforces_signed_digest=False, enforces_create=False, returns_digest=False
)


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
    return migrate_ledger(_migrate_url(settings), clock)


def needs(settings: Settings, source: str) -> list[str]:
    """The statements a source needs in the application's database, safe on a live one."""
    named = [it.definition for it in settings.of_sources if it.name == source]
    definition = named[0] if named else find_source(source)
    return list(definition.needs) if isinstance(definition, SqlFile) else []


def apply_needs(settings: Settings, source: str, clock: Clock) -> None:
    """Apply them, one process at a time."""
    apply_statements(_migrate_url(settings), needs(settings, source), clock)


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
        self._parts = _Parts(
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
                plan = _plan(self._settings, left)
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
                _pace_settings(settings),
                self._parts.clock,
                is_stopping=lambda: stop.reason is not None,
            )
            cold = open_cold(settings, NEVER_WRITES, pace)
            held.callback(cold.close)
            pool = ThreadPool(width=reading.plan.concurrency, clock=self._parts.clock)
            held.callback(pool.every(heartbeat.interval_seconds, heartbeat.beat))
            held.callback(pool.close, timeout_seconds=_CLOSE_SECONDS)
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
        patient = replace(_pace_settings(own), patience_seconds=_UNDO_PATIENCE_SECONDS)
        pace = LimitedPace("hot", patient, self._parts.clock)
        hot = open_hot(own, min(own.timeout_seconds, own.lease_seconds / 2), pace)
        size = _in_a_second(UNDO_GROUP, own.requests_per_second)
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


@dataclass(frozen=True, slots=True)
class _Parts:
    """What the shifts of one process have in common."""

    ledger: PostgresLedger
    sources: Mapping[SourceName, ArchiveSource]
    settings_of: Mapping[SourceName, Settings]
    observe: Observer
    clock: Clock
    concurrency: int | None  # None: each source finds its own
    housekept: set[SourceName] = field(default_factory=set)  # all rows were looked at, once
    widths: dict[SourceName, Width] = field(default_factory=dict)  # one sweep's to the next
    egresses: dict[SourceName, Egress] = field(default_factory=dict)  # likewise

    def width_of(self, source: SourceName) -> Width:
        if source not in self.widths:
            fixed = self.concurrency
            self.widths[source] = AutoWidth() if fixed is None else FixedWidth(fixed)
        return self.widths[source]

    def egress_of(self, source: SourceName) -> Egress:
        if source not in self.egresses:
            self.egresses[source] = _egress(self.settings_of[source])
        return self.egresses[source]

    def check(self, source: ArchiveSource) -> None:
        for warning in self.ledger.check_source(source):
            self.observe(SourceWarning(source.name, warning))


class Shift:
    """A worker at work: its lease, its threads and its open stores, over one sweep or many.

    It belongs to the thread that sweeps; `heartbeat` may be read by others. A lease that is
    lost and work that hangs end it: the next shift begins with new ones.
    """

    def __init__(self, parts: _Parts, settings: Settings) -> None:
        self._parts = parts
        self._plan = _plan(settings, None)
        self._trusted: set[SourceName] = set()
        self._began_at = parts.clock.monotonic()
        fleet = parts.ledger.fleet
        with ExitStack() as opened:
            self.heartbeat = Heartbeat(fleet, parts.clock)
            opened.callback(self._leave)
            # Undone in the opposite order: the threads end first, under a lease still kept.
            self._shelf = _Shelf(fleet, self.heartbeat, parts.clock)
            opened.callback(self._shelf.close)
            self._pool = ThreadPool(width=1, clock=parts.clock)  # each sweep sets its own
            beating = self._pool.every(self.heartbeat.interval_seconds, self.heartbeat.beat)
            opened.callback(beating)
            opened.callback(self._pool.close, timeout_seconds=_CLOSE_SECONDS)
            self._closing = opened.pop_all()

    @property
    def has_work_left(self) -> bool:
        """Work of an ended sweep hangs in the threads, or its result was not fetched."""
        return self._pool.under_way_count > 0

    @property
    def is_over(self) -> bool:
        """No further sweep should begin in it.

        After a day for no other reason than that what was learned of the stores is asked
        again then: what a probe saw, and which credentials they are.
        """
        is_old = self._parts.clock.monotonic() > self._began_at + _SHIFT_SECONDS
        return is_old or self.has_work_left or not self.heartbeat.has_lease

    def sweep(self, source: SourceName, stop: Stop) -> Summary:
        """One sweep of the worker's: it waits for nothing, since the next one looks again."""
        plan = replace(
            self._plan,
            retry_wait_seconds=0.0,
            takeover_wait_seconds=0.0,
            drain_seconds=self._plan.drain_seconds * _SWEEPS_SHARE_OF_A_DRAIN,
        )
        return self.drain(source, plan, stop)

    def drain(self, source: SourceName, plan: SweepPlan, stop: Stop) -> Summary:
        """Sweep one source, and note it in the ledger; every failure is in the summary."""
        if (refused := self._refused(source)) is not None:
            return refused
        parts = self._parts
        offering, own = parts.sources[source], parts.settings_of[source]
        run = Run(
            source=source,
            claims=parts.ledger.claims(
                offering, release_grace_seconds=own.release_grace_seconds
            ),
            releases=parts.ledger.releases(offering),
            spending=parts.ledger.spending,
            pool=self._pool,
            heartbeat=self.heartbeat,
            clock=parts.clock,
            observe=parts.observe,
            plan=plan,
            width=parts.width_of(source),
            asked=stop,
            egress=parts.egress_of(source),
        )
        self._shelf.begin_sweep(stop)
        workshop = _Workshop(
            source, own, self._shelf, self.heartbeat, run.egress, parts.observe, parts.clock
        )
        summary = self._recorded(source, Sweep(run, workshop))
        if summary.state == "fatal":
            self._trusted.discard(source)  # it is proven again: it may be what has changed
        else:
            parts.housekept.add(source)
        return summary

    def close(self) -> None:
        self._closing.close()

    def _refused(self, source: SourceName) -> Summary | None:
        """The summary of a source that cannot be trusted now; None: it can."""
        if source in self._trusted:
            return None
        try:
            self._parts.check(self._parts.sources[source])
        except (FatalError, LedgerUnavailable) as error:
            self._parts.observe(SweepFailed(source, str(error)))
            return Summary(state="fatal", error=str(error))
        self._trusted.add(source)
        return None

    def _recorded(self, source: SourceName, sweep: Sweep) -> Summary:
        """Run a sweep and note it; one that the database cannot be told of ran all the same."""
        fleet, sweep_id = self._parts.ledger.fleet, None
        with suppress(LedgerUnavailable):
            sweep_id = fleet.sweep_began(source)
        summary = sweep(everything=source not in self._parts.housekept)
        if sweep_id is not None:
            with suppress(LedgerUnavailable):
                fleet.sweep_ended(sweep_id, summary)
        return summary

    def _leave(self) -> None:
        """End the lease; where the database is gone it runs out by itself, and counts stay.

        A thread that hangs may still finish its put or its delete: then the lease must run
        out, as that of a dead worker does, before another one begins the same.
        """
        if not self.has_work_left:
            with suppress(LedgerUnavailable):
                self._parts.ledger.fleet.leave()


class _Shelf:
    """The open stores of a process: one of each, however many sources use it.

    So are their paces: one of each account, for all its buckets.
    """

    def __init__(self, fleet: Fleet, heartbeat: Heartbeat, clock: Clock) -> None:
        self.fleet = fleet
        self.in_flight = BytesInFlight()
        self._heartbeat = heartbeat
        self._clock = clock
        self._stop: Stop | None = None  # of the sweep under way
        self._paces: dict[tuple[str | None, ...], LimitedPace] = {}
        self._hot: dict[tuple[Hot | None, float], HotStore] = {}
        self._cold: dict[tuple[Cold | None, str], ColdStore] = {}
        self._seen: dict[tuple[Cold | None, str], tuple[Capabilities, bool]] = {}
        self.told: set[SourceName] = set()  # whose observer knows what was seen

    def hot(self, settings: Settings, timeout_seconds: float) -> HotStore:
        key = (settings.hot, timeout_seconds)
        if key not in self._hot:
            pace = self._pace("hot", settings)
            self._hot[key] = open_hot(settings, timeout_seconds, pace)
        return self._hot[key]

    def cold(self, settings: Settings) -> ColdStore:
        key = (settings.cold, settings.path_prefix)
        if key not in self._cold:
            capabilities, _ = self.capabilities(settings)
            pace = self._pace("cold", settings)
            self._cold[key] = open_cold(settings, capabilities, pace)
        return self._cold[key]

    def capabilities(self, settings: Settings) -> tuple[Capabilities, bool]:
        """What the cold store enforces, and whether that was remembered instead of tried."""
        key = (settings.cold, settings.path_prefix)
        if key not in self._seen:
            pace = self._pace("cold", settings)
            self._seen[key] = _capabilities(settings, self.fleet, pace)
        return self._seen[key]

    def hurry(self, seconds: float) -> None:
        """Let nobody wait for a turn that comes later than that."""
        for pace in self._paces.values():
            pace.hurry(seconds)

    def begin_sweep(self, stop: Stop) -> None:
        """Let whoever waits have time again, until this stop."""
        self._stop = stop
        for pace in self._paces.values():
            pace.relax()

    def _pace(self, store: Literal["hot", "cold"], settings: Settings) -> LimitedPace:
        account = (store, *_account(settings.hot if store == "hot" else settings.cold))
        if account not in self._paces:
            self._paces[account] = LimitedPace(
                store,
                _pace_settings(settings),
                self._clock,
                is_stopping=lambda: self._stop is not None and self._stop.reason is not None,
                waits=self._heartbeat.progressed,
                require=self._heartbeat.require,
            )
        return self._paces[account]

    def close(self) -> None:
        for hot in self._hot.values():
            hot.close()
        for cold in self._cold.values():
            cold.close()


@dataclass
class _Workshop:
    """Opens the stores of one source once a claim or a release has come back non-empty."""

    source: SourceName
    settings: Settings
    shelf: _Shelf
    heartbeat: Heartbeat
    egress: Egress
    observe: Observer
    clock: Clock

    def stores(self) -> Stores:
        return self._stores

    def mover(self) -> Mover:
        return self._mover

    def releaser(self) -> Releaser:
        return self._releaser

    def hurry(self, seconds: float) -> None:
        self.shelf.hurry(seconds)

    @cached_property
    def _stores(self) -> Stores:
        settings = self.settings
        capabilities, was_remembered = self.shelf.capabilities(settings)
        evidence = demanded_evidence(
            settings.evidence,
            capabilities,
            settings.provider_name,
            can_read_back=not _is_frozen(settings.cold),
        )
        if self.source not in self.shelf.told:
            self.shelf.told.add(self.source)
            self._tell(capabilities, evidence, was_remembered=was_remembered)
        hot = self.shelf.hot(settings, settings.timeout_seconds)
        cold = self.shelf.cold(settings)
        shared = shared_bucket(hot, cold, settings.bucket_name)
        return Stores(hot, cold, evidence, shared, self.egress)

    def _tell(
        self, capabilities: Capabilities, evidence: Evidence, *, was_remembered: bool
    ) -> None:
        self.observe(
            StoreProbed(
                provider=self.settings.provider_name,
                bucket=self.settings.bucket_name,
                enforces_signed_digest=capabilities.enforces_signed_digest,
                enforces_create=capabilities.enforces_create,
                returns_digest=capabilities.returns_digest,
                evidence=str(evidence),
                was_remembered=was_remembered,
                etag_is_md5=capabilities.etag_is_md5,
            )
        )

    @cached_property
    def _mover(self) -> Mover:
        ledger_id = self.shelf.fleet.ledger_id
        return Mover(self._stores, self.shelf.in_flight, self.heartbeat, ledger_id)

    @cached_property
    def _releaser(self) -> Releaser:
        # A hot store of its own: a delete must end while the lease lasts, a read need not.
        delete_seconds = min(self.settings.timeout_seconds, self.settings.lease_seconds / 2)
        hot = self.shelf.hot(self.settings, delete_seconds)
        return Releaser(
            stores=replace(self._stores, hot=hot),
            heartbeat=self.heartbeat,
            clock=self.clock,
            delete_seconds=delete_seconds,
        )


# --- settings, handed to each room ----------------------------------------------------------


def _plan(settings: Settings, limit: int | None) -> SweepPlan:
    limits = [it for it in (limit, settings.max_objects) if it is not None]
    return SweepPlan(
        batch_size=settings.batch_size,
        release=settings.release,
        # No look may be old when its object is deleted.
        release_slice=_in_a_second(RELEASE_SLICE, settings.requests_per_second),
        max_objects=min(limits) if limits else None,
        max_bytes=settings.max_bytes,
        egress_budget=settings.egress_budget,
        max_failure_ratio=settings.max_failure_ratio,
        retry_wait_seconds=settings.once_wait_seconds,
        takeover_wait_seconds=settings.lease_seconds + _LEASE_WAIT_SECONDS,
        retry_base_seconds=settings.retry_base_seconds,
        drain_seconds=settings.drain_timeout_seconds,
    )


def _egress(settings: Settings) -> Egress:
    is_limited = settings.egress_budget is not None and settings.cold is not None
    is_directory = isinstance(settings.hot, HotFile)
    return egress(settings.provider_name, is_limited=is_limited, hot_is_directory=is_directory)


def egress(provider: str, *, is_limited: bool, hot_is_directory: bool) -> Egress:
    """Whose reads a budget counts. Where a hot store is billed is not ours to know."""
    known = PROVIDERS.get(provider)
    return Egress(
        Allowance(),
        hot_counts=is_limited and not hot_is_directory,
        cold_counts=is_limited and not (known is not None and known.has_free_egress),
    )


def _in_a_second(most_count: int, requests_per_second: float | None) -> int:
    """As many objects as are looked at in a second, and no more than that many."""
    if requests_per_second is None:
        return most_count
    return max(1, min(most_count, int(requests_per_second)))


def _pace_settings(settings: Settings) -> PaceSettings:
    return PaceSettings(
        requests_per_second=settings.requests_per_second,
        bytes_per_second=settings.bandwidth,
        longest_pause_seconds=settings.retry_max_seconds,
        patience_seconds=settings.once_wait_seconds,
        drain_seconds=settings.drain_timeout_seconds,
    )


def _account(store: Hot | Cold | None) -> tuple[str | None, ...]:
    """What has one limit: an account at an endpoint, a project, a directory."""
    match store:
        case HotS3() | ColdS3():
            return store.endpoint, store.region, store.access_key_id
        case HotSupabase():
            return (store.url,)
        case HotFile() | ColdFile():
            return (str(store.root),)
        case None:
            return ()


def ledger_settings(settings: Settings) -> LedgerSettings:
    if settings.database_url is None:
        raise _not_set("ARCHIVE_DATABASE_URL")
    return LedgerSettings(
        url=settings.database_url,
        lease_seconds=settings.lease_seconds,
        retry_base_seconds=settings.retry_base_seconds,
        retry_max_seconds=settings.retry_max_seconds,
        max_attempts=settings.max_attempts,
        release_grace_seconds=settings.release_grace_seconds,
    )


def _migrate_url(settings: Settings) -> Secret:
    url = settings.migrate_url or settings.database_url
    if url is None:
        raise _not_set("ARCHIVE_DATABASE_URL")
    return url


def open_source(chosen: SourceSettings) -> ArchiveSource:
    settings = chosen.settings
    retention_age = timedelta(seconds=settings.retention_age_seconds)
    if isinstance(chosen.definition, SqlFile):
        parameters = SourceParameters(settings.retention_jobs, retention_age)
        return SqlSource(chosen.definition, parameters)
    if settings.database_url is None:
        raise _not_set("ARCHIVE_DATABASE_URL")
    told = PluginSettings(settings.database_url, settings.retention_jobs, retention_age)
    return load_plugin(chosen.definition, told)


def open_hot(settings: Settings, timeout_seconds: float, pace: Pace) -> HotStore:
    match settings.hot:
        case None:
            raise _not_set("ARCHIVE_HOT")
        case HotFile(root):
            return FileHotStore(root, pace)
        case HotS3() as hot:
            s3 = S3Settings(
                endpoint=hot.endpoint,
                region=hot.region or _DEFAULT_REGION,
                access_key_id=hot.access_key_id,
                secret_access_key=hot.secret_access_key,
                session_token=hot.session_token,
                allow_http=is_http_allowed(hot.endpoint, settings),
                timeout_seconds=timeout_seconds,
                max_connections=settings.concurrency or MAX_WIDTH,
                ca_bundle=settings.ca_bundle,
                pace=pace,
            )
            s3 = _through_proxy(s3, settings)
            return S3HotStore(s3, bucket=hot.bucket)
        case HotSupabase() as hot:
            return SupabaseHotStore(
                SupabaseSettings(
                    url=hot.url,
                    service_role_key=hot.service_role_key,
                    publishable_key=hot.publishable_key,
                    timeout_seconds=timeout_seconds,
                    max_connections=settings.concurrency or MAX_WIDTH,
                    ca_bundle=settings.ca_bundle,
                    proxy_url=settings.proxy_for(hot.url),
                    pace=pace,
                )
            )


def open_cold(settings: Settings, capabilities: Capabilities, pace: Pace) -> ColdStore:
    match settings.cold:
        case None:
            raise _not_set("ARCHIVE_PROVIDER")
        case ColdFile() as cold:
            return FileColdStore(cold.root, cold.bucket, settings.path_prefix, pace)
        case ColdS3() as cold:
            return _cold_class(cold.client)(
                _cold_s3_settings(cold, settings, pace),
                PROVIDERS[cold.provider],
                cold.bucket,
                settings.path_prefix,
                capabilities,
            )


def _cold_class(client: S3Client) -> type[S3ColdStore | Boto3ColdStore]:
    if client == "obstore":
        return S3ColdStore
    # boto3, whose import takes longer than a sweep with nothing to do
    from archiver.stores.cold_boto3 import Boto3ColdStore  # noqa: PLC0415

    return Boto3ColdStore


def _capabilities(settings: Settings, fleet: Fleet, pace: Pace) -> tuple[Capabilities, bool]:
    """What the cold store enforces, and whether that was remembered instead of tried."""
    match settings.cold:
        case None:
            raise _not_set("ARCHIVE_PROVIDER")
        case ColdFile() as cold:
            return FileColdStore(
                cold.root, cold.bucket, settings.path_prefix
            ).capabilities, True
        case ColdS3() as cold:
            # botocore, whose import takes longer than a sweep with nothing to do
            from archiver.stores.probe import probe_cold, probe_name  # noqa: PLC0415

            s3, provider = _cold_s3_settings(cold, settings, pace), PROVIDERS[cold.provider]
            # With the prefix: what the probe left lies under it, and is asked for later.
            name = probe_name(s3, provider, cold.bucket, cold.client)
            name = f"{name} {settings.path_prefix}".rstrip()
            remembered = fleet.recall(name)
            if remembered is not None:
                return remembered, True
            seen = probe_cold(s3, provider, cold.bucket, settings.path_prefix)
            fleet.remember(name, seen)
            return seen, False


def shared_bucket(hot: HotStore, cold: ColdStore, bucket: str) -> str | None:
    """The cold bucket, unless the hot store is seen not to reach into it.

    One store may have two endpoints, a gateway a directory, and Supabase an S3 side, so the
    settings cannot tell. What is put into cold and then asked of hot can: only a plain
    "there is none" counts, and every doubt reads as one place.
    """
    marker = ColdKey(f"{cold.path_prefix}{PLACE_MARKER}")
    if cold.stat_many([marker])[marker] is None:
        with suppress(KeyTaken):  # by another worker, just now
            cold.create(
                marker, b"archiver\n", metadata={}, content_type=None, content_encoding=None
            )
    location = HotLocation(bucket, marker)
    try:
        seen = hot.identify([location])[location]
    except (BucketMissing, UnusableName):
        return None
    except (PermanentError, FatalError):
        return bucket
    return None if seen is None else bucket


def _cold_s3_settings(cold: ColdS3, settings: Settings, pace: Pace) -> S3Settings:
    region = cold.region or PROVIDERS[cold.provider].region_for(cold.endpoint)
    s3 = S3Settings(
        endpoint=cold.endpoint,
        region=region or _DEFAULT_REGION,
        access_key_id=cold.access_key_id,
        secret_access_key=cold.secret_access_key,
        session_token=cold.session_token,
        storage_class=cold.storage_class,
        sse=cold.sse,
        sse_kms_key_id=cold.sse_kms_key_id,
        allow_http=is_http_allowed(cold.endpoint, settings),
        timeout_seconds=settings.timeout_seconds,
        max_connections=settings.concurrency or MAX_WIDTH,
        ca_bundle=settings.ca_bundle,
        pace=pace,
    )
    return _through_proxy(s3, settings)


def _through_proxy(s3: S3Settings, settings: Settings) -> S3Settings:
    if settings.https_proxy is None:
        return s3
    proxy_url = settings.proxy_for(s3.endpoint_url)
    return replace(s3, proxy_url=proxy_url, proxy_for=settings.proxy_for)


def _is_frozen(cold: Cold | None) -> bool:
    """Whether what is put there can be read only after a restore."""
    return isinstance(cold, ColdS3) and cold.storage_class in FROZEN_CLASSES


def is_http_allowed(endpoint: str | None, settings: Settings) -> bool:
    """Plain http is spoken on loopback, and elsewhere where the settings say so."""
    host = urlsplit(endpoint).hostname if endpoint else None
    return settings.allow_http or (host is not None and is_loopback(host))


def _not_set(name: str) -> SettingsError:
    return SettingsError(problems=(f"{name} is not set",))
