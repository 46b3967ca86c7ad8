"""Pushes and the record of uploads, opened from settings."""

from __future__ import annotations

from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from archiver.engine.evidence import demanded_evidence
from archiver.engine.lease import Heartbeat
from archiver.engine.parts import PartSender
from archiver.engine.pool import ThreadPool
from archiver.engine.streams import Streams
from archiver.errors import LedgerUnavailable
from archiver.ledger.postgres import PostgresLedger
from archiver.model import ColdKey
from archiver.objects.guard import OBJECTS
from archiver.objects.opening import guard_of
from archiver.objects.pulling import Puller
from archiver.objects.pushing import Pusher
from archiver.opening import (
    NEVER_WRITES,
    find_capabilities,
    is_frozen,
    ledger_settings,
    open_cold,
    pace_settings,
    state_ledger,
    try_capabilities,
)
from archiver.stores.pace import LimitedPace

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from archiver.config import Settings
    from archiver.engine.stop import Stop
    from archiver.model import Capabilities, Upload, WorkerId
    from archiver.objects.pushing import Course
    from archiver.protocols import Clock, ColdStore, Leases, Observer, Uploads
    from archiver.stores.pace import Pace

_LEASE_WAIT_SECONDS = 1.0  # over one lease, before another worker's upload is left to it


def key_of(settings: Settings, name: str) -> ColdKey:
    """The whole key of what is pushed under a name.

    Raises:
        ReservedKey: A source makes such keys.
    """
    key = whole_key(settings, name)
    where = f"{settings.provider_name}:{settings.bucket_name}/{key}"
    guard_of(settings, settings.bucket_name).require_free(key, where)
    return key


def whole_key(settings: Settings, name: str) -> ColdKey:
    """The same, of what is only read."""
    return ColdKey(f"{settings.path_prefix}{OBJECTS}{name}")


@dataclass(frozen=True, slots=True)
class Record:
    """Where uploads are recorded: in the database, or in a file of this machine."""

    leases: Leases
    uploads: Uploads
    live_workers: Callable[[], Collection[WorkerId]]
    capabilities: Callable[[Pace], Capabilities]  # of the cold store

    def here(self, settings: Settings) -> list[Upload]:
        """The uploads to the cold place of the settings, oldest first."""
        place = (settings.provider_name, settings.bucket_name)
        return [
            it
            for it in self.uploads.uploads()
            if (it.plan.location.provider, it.plan.location.bucket) == place
            and it.plan.location.key.startswith(settings.path_prefix)
        ]


@contextmanager
def open_record(settings: Settings, clock: Clock) -> Iterator[Record]:
    """Connect to the database; without one, open the file in the state directory.

    Raises:
        LedgerUnavailable, LedgerDenied, LedgerOutdated
        StateDirUnusable, LedgerFileUnusable, LedgerFileNewer
    """
    if settings.database_url is None:
        with state_ledger(settings, clock) as file:
            yield Record(
                file.fleet,
                file.uploads,
                file.fleet.live,
                lambda pace: try_capabilities(settings, pace),
            )
        return
    with PostgresLedger(ledger_settings(settings), clock) as ledger:
        ledger.check()
        fleet = ledger.fleet
        yield Record(
            fleet,
            ledger.uploads,
            lambda: {it.worker for it in fleet.workers() if it.is_alive},
            lambda pace: find_capabilities(settings, fleet, pace)[0],
        )


@contextmanager
def open_pusher(
    settings: Settings,
    observer: Observer,
    clock: Clock,
    stop: Stop,
    tell: Callable[[Course], object],
) -> Iterator[Pusher]:
    """Join the ledger's workers, and open the cold store.

    Raises:
        As by `open_record`; and StoreUnavailable, StoreDenied, BucketMissing,
        EvidenceUnavailable
    """
    with ExitStack() as opened:
        record = opened.enter_context(open_record(settings, clock))
        heartbeat = Heartbeat(record.leases, clock)
        opened.callback(_leave, record.leases)
        pool = ThreadPool(width=0, clock=clock)  # for the heartbeat alone
        opened.callback(pool.close)
        opened.callback(pool.every(heartbeat.interval_seconds, heartbeat.beat))
        pace = LimitedPace(
            "cold",
            pace_settings(settings),
            clock,
            is_stopping=lambda: stop.reason is not None,
            waits=heartbeat.progressed,
            require=heartbeat.require,
        )
        capabilities = record.capabilities(pace)
        cold = open_cold(settings, capabilities, pace)
        opened.callback(cold.close)
        streams = Streams(part_bytes=settings.part_bytes)
        opened.callback(streams.crew.close)
        sender = PartSender(
            cold,
            record.uploads,
            heartbeat,
            clock,
            observer,
            is_stopping=lambda: stop.reason is not None,
        )
        yield Pusher(
            cold,
            sender,
            streams,
            demanded_evidence(
                settings.evidence,
                capabilities,
                settings.provider_name,
                can_read_back=not is_frozen(settings.cold),
            ),
            patience_seconds=settings.lease_seconds + _LEASE_WAIT_SECONDS,
            tell=tell,
        )


@contextmanager
def open_to_read(settings: Settings, clock: Clock, stop: Stop) -> Iterator[ColdStore]:
    """Open the cold store, to read alone; no ledger is asked."""
    pace = LimitedPace(
        "cold", pace_settings(settings), clock, is_stopping=lambda: stop.reason is not None
    )
    with closing(open_cold(settings, NEVER_WRITES, pace)) as cold:
        yield cold


@contextmanager
def open_puller(
    settings: Settings, clock: Clock, stop: Stop, tell: Callable[[Course], object]
) -> Iterator[Puller]:
    streams = Streams(part_bytes=settings.part_bytes)
    with closing(streams.crew):
        yield Puller(streams, settings.profile, clock, stop, tell)


def _leave(leases: Leases) -> None:
    """What hangs in a thread is one request; whoever waited for it has given it up."""
    with suppress(LedgerUnavailable):
        leases.leave()
