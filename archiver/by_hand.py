"""One sweep of parts that were made by hand: no settings, no environment.

What `app` does for every source of the settings, for one source, one hot and one cold store
of the caller's own. Every check of a sweep is on, the one-place guard included.
"""

from __future__ import annotations

from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from archiver.engine.copies import Stores
from archiver.engine.evidence import demanded_evidence
from archiver.engine.lease import Heartbeat
from archiver.engine.move import Mover
from archiver.engine.parts import PartSender
from archiver.engine.pool import ThreadPool
from archiver.engine.release import Releaser
from archiver.engine.run import Run, SweepPlan
from archiver.engine.stop import Stop
from archiver.engine.streams import Streams
from archiver.engine.sweep import Sweep
from archiver.engine.width import FixedWidth
from archiver.errors import LedgerUnavailable
from archiver.events import SourceWarning
from archiver.model import ColdKey, ColdPlace
from archiver.opening import egress, shared_bucket
from archiver.stores.hot_file import FileHotStore

if TYPE_CHECKING:
    from archiver.engine.egress import Egress
    from archiver.ledger.postgres import PostgresLedger
    from archiver.model import Evidence, Summary
    from archiver.protocols import ArchiveSource, Clock, ColdStore, HotStore, Observer


def sweep_by_hand(
    source: ArchiveSource,
    *,
    ledger: PostgresLedger,
    hot: HotStore,
    cold: ColdStore,
    observer: Observer,
    clock: Clock,
    stop: Stop | None = None,
    threads_count: int = 16,
    plan: SweepPlan | None = None,
    evidence: Evidence | None = None,
) -> Summary:
    """Drain one source from one store into the other. The stores stay open.

    Args:
        source: Proven in the ledger's database before anything is claimed.
        ledger: Open, and of this version.
        hot: Its requests end within half a lease: a delete must fit into what is left.
        cold: With the capabilities that a probe found.
        observer: Told of everything, from any thread.
        clock: The machine's, mostly.
        stop: Asked between steps; what is in flight is brought home first.
        threads_count: How many objects are moved at once.
        plan: The other numbers; None: 500 rows a claim, and the engine's own.
        evidence: The least proof of a copy; None: the cheapest that this store gives.

    Raises:
        SourceRefused: The source cannot be trusted with this database.
        LedgerUnavailable, LedgerDenied: No lease could be had. Any later failure is in
            the summary.
    """
    for warning in ledger.check_source(source):
        observer(SourceWarning(source.name, warning))
    plan = plan or SweepPlan(batch_size=500)
    counted = egress(
        cold.location(ColdKey("")).provider,
        is_limited=plan.egress_budget is not None,
        hot_is_directory=isinstance(hot, FileHotStore),
    )
    with ExitStack() as closing:
        heartbeat = Heartbeat(ledger.fleet, clock)
        pool = ThreadPool(width=threads_count, clock=clock)
        closing.callback(_leave, ledger, pool)
        closing.callback(pool.every(heartbeat.interval_seconds, heartbeat.beat))
        closing.callback(pool.close)
        run = Run(
            source=source.name,
            claims=ledger.claims(source),
            releases=ledger.releases(source),
            spending=ledger.spending,
            stamps=ledger.stamps(source.name),
            uploads=ledger.uploads,
            place=_place_of(cold),
            pool=pool,
            heartbeat=heartbeat,
            clock=clock,
            observe=observer,
            plan=plan,
            width=FixedWidth(threads_count),
            asked=stop or Stop(),
            egress=counted,
        )
        streams = Streams(progressed=heartbeat.progressed)
        closing.callback(streams.crew.close)
        workshop = _Workshop(
            hot, cold, evidence, counted, ledger, heartbeat, clock, observer, streams
        )
        return Sweep(run, workshop)(everything=True)


@dataclass
class _Workshop:
    """Has the stores open, and looks at them once something was claimed."""

    hot: HotStore
    cold: ColdStore
    evidence: Evidence | None
    egress: Egress
    ledger: PostgresLedger
    heartbeat: Heartbeat
    clock: Clock
    observe: Observer
    streams: Streams

    def stores(self) -> Stores:
        return self._stores

    def mover(self) -> Mover:
        return self._mover

    def releaser(self) -> Releaser:
        return Releaser(
            stores=self._stores,
            heartbeat=self.heartbeat,
            clock=self.clock,
            delete_seconds=self.heartbeat.lease.lease_seconds / 2,
        )

    def hurry(self, seconds: float) -> None:
        """Stores that were opened by hand let nobody wait."""

    @cached_property
    def _stores(self) -> Stores:
        here = self.cold.location(ColdKey(""))
        evidence = demanded_evidence(self.evidence, self.cold.capabilities, here.provider)
        shared = shared_bucket(self.hot, self.cold, here.bucket)
        return Stores(self.hot, self.cold, evidence, shared, self.egress, self.streams)

    @cached_property
    def _mover(self) -> Mover:
        ledger = self.ledger
        sender = PartSender(self.cold, ledger.uploads, self.heartbeat, self.clock, self.observe)
        return Mover(self._stores, self.heartbeat, ledger.fleet.ledger_id, sender)


def _place_of(cold: ColdStore) -> ColdPlace:
    at = cold.location(ColdKey(""))
    return ColdPlace(at.provider, at.bucket, cold.path_prefix)


def _leave(ledger: PostgresLedger, pool: ThreadPool) -> None:
    """End the lease, unless a thread still hangs: then it runs out, as a dead worker's."""
    if not pool.under_way_count:
        with suppress(LedgerUnavailable):
            ledger.fleet.leave()
