"""A worker at work: a lease, threads and open stores, for one sweep or for years of them."""

from __future__ import annotations

from collections import defaultdict
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from archiver.config import HotFile
from archiver.engine.copies import Stores
from archiver.engine.evidence import demanded_evidence
from archiver.engine.lease import Heartbeat
from archiver.engine.move import Mover
from archiver.engine.parts import PartSender
from archiver.engine.pool import ThreadPool
from archiver.engine.release import Releaser
from archiver.engine.run import RELEASE_SLICE, Run, SweepPlan
from archiver.engine.stamping import Vouched
from archiver.engine.streams import Streams
from archiver.engine.sweep import Sweep
from archiver.engine.width import AutoWidth, FixedWidth
from archiver.errors import FatalError, LedgerUnavailable
from archiver.events import SourceWarning, StoreProbed, SweepFailed
from archiver.model import Capabilities, ColdPlace, Summary
from archiver.opening import (
    account_of,
    egress,
    find_capabilities,
    in_a_second,
    is_frozen,
    is_one_store,
    open_cold,
    open_hot,
    pace_settings,
    shared_bucket,
)
from archiver.stores.pace import LimitedPace

if TYPE_CHECKING:
    from collections.abc import Mapping

    from archiver.config import Cold, Hot, Settings
    from archiver.engine.egress import Egress
    from archiver.engine.stop import Stop
    from archiver.engine.width import Width
    from archiver.ledger.postgres import PostgresLedger
    from archiver.model import Evidence, SourceName
    from archiver.protocols import (
        ArchiveSource,
        Clock,
        ColdStore,
        Fleet,
        HotStore,
        Observer,
        Uploads,
    )

_SHIFT_SECONDS = 86_400.0
_SWEEPS_SHARE_OF_A_DRAIN = 0.8  # the rest is for giving back what did not come home
_LEASE_WAIT_SECONDS = 1.0  # over one lease, before other workers' claims are left to them


@dataclass(frozen=True, slots=True)
class Parts:
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

    def sharing_hot(self, source: SourceName) -> list[ArchiveSource]:
        """The other sources of the same hot store: their rows may name the same objects."""
        hot = self.settings_of[source].hot
        return [
            other
            for name, other in self.sources.items()
            if name != source and is_one_store(self.settings_of[name].hot, hot)
        ]

    def check(self, source: ArchiveSource) -> None:
        for warning in self.ledger.check_source(source):
            self.observe(SourceWarning(source.name, warning))


class Shift:
    """A worker at work: its lease, its threads and its open stores, over one sweep or many.

    It belongs to the thread that sweeps; `heartbeat` may be read by others. A lease that is
    lost and work that hangs end it: the next shift begins with new ones.
    """

    def __init__(self, parts: Parts, settings: Settings) -> None:
        self._parts = parts
        self._plan = sweep_plan(settings, None)
        self._trusted: set[SourceName] = set()
        self._vouched: defaultdict[SourceName, Vouched] = defaultdict(Vouched)
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
            opened.callback(self._pool.close)
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
            releases=parts.ledger.releases(offering, beside=parts.sharing_hot(source)),
            spending=parts.ledger.spending,
            stamps=parts.ledger.stamps(source),
            uploads=parts.ledger.uploads,
            place=ColdPlace(own.provider_name, own.bucket_name, own.path_prefix),
            pool=self._pool,
            heartbeat=self.heartbeat,
            clock=parts.clock,
            observe=parts.observe,
            plan=plan,
            width=parts.width_of(source),
            asked=stop,
            egress=parts.egress_of(source),
            vouched=self._vouched[source],
        )
        self._shelf.begin_sweep(stop)
        workshop = _Workshop(
            source,
            own,
            self._shelf,
            self.heartbeat,
            run.egress,
            parts.ledger.uploads,
            parts.observe,
            parts.clock,
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
        self.streams = Streams(progressed=heartbeat.progressed)
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
            self._seen[key] = find_capabilities(settings, self.fleet, pace)
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
        account = (store, *account_of(settings.hot if store == "hot" else settings.cold))
        if account not in self._paces:
            self._paces[account] = LimitedPace(
                store,
                pace_settings(settings),
                self._clock,
                is_stopping=lambda: self._stop is not None and self._stop.reason is not None,
                waits=self._heartbeat.progressed,
                require=self._heartbeat.require,
            )
        return self._paces[account]

    def close(self) -> None:
        self.streams.crew.close()
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
    uploads: Uploads
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
            can_read_back=not is_frozen(settings.cold),
        )
        if self.source not in self.shelf.told:
            self.shelf.told.add(self.source)
            self._tell(capabilities, evidence, was_remembered=was_remembered)
        hot = self.shelf.hot(settings, settings.timeout_seconds)
        cold = self.shelf.cold(settings)
        shared = shared_bucket(hot, cold, settings.bucket_name)
        # The threads and the memory are the process's, the size of parts each source's own.
        streams = replace(self.shelf.streams, part_bytes=settings.part_bytes)
        return Stores(hot, cold, evidence, shared, self.egress, streams)

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
        sender = PartSender(
            self._stores.cold, self.uploads, self.heartbeat, self.clock, self.observe
        )
        return Mover(self._stores, self.heartbeat, self.shelf.fleet.ledger_id, sender)

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


def sweep_plan(settings: Settings, limit: int | None) -> SweepPlan:
    limits = [it for it in (limit, settings.max_objects) if it is not None]
    return SweepPlan(
        batch_size=settings.batch_size,
        release=settings.release,
        # No look may be old when its object is deleted.
        release_slice=in_a_second(RELEASE_SLICE, settings.requests_per_second),
        max_objects=min(limits) if limits else None,
        max_bytes=settings.max_bytes,
        egress_budget=settings.egress_budget,
        max_failure_ratio=settings.max_failure_ratio,
        retry_wait_seconds=settings.once_wait_seconds,
        takeover_wait_seconds=settings.lease_seconds + _LEASE_WAIT_SECONDS,
        retry_base_seconds=settings.retry_base_seconds,
        drain_seconds=settings.drain_timeout_seconds,
        # A database that is silent for a lease has ended it, and with it the sweep.
        ledger_patience_seconds=settings.lease_seconds,
    )


def _egress(settings: Settings) -> Egress:
    is_limited = settings.egress_budget is not None and settings.cold is not None
    is_directory = isinstance(settings.hot, HotFile)
    return egress(settings.provider_name, is_limited=is_limited, hot_is_directory=is_directory)
