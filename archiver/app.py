"""The only place where the parts meet: settings in, a working archiver out."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from archiver.config import ColdFile, ColdS3, HotFile, HotS3, HotSupabase
from archiver.config.values import is_loopback
from archiver.engine.budget import BytesInFlight
from archiver.engine.evidence import demanded_evidence
from archiver.engine.lease import Heartbeat
from archiver.engine.move import Mover, Stores
from archiver.engine.pool import ThreadPool
from archiver.engine.release import Releaser
from archiver.engine.run import Run, SweepPlan
from archiver.engine.sweep import Sweep
from archiver.errors import FatalError, LedgerUnavailable, PermanentError, SettingsError
from archiver.events import BacklogCounted, SourceWarning, StoreProbed
from archiver.ledger.migrate import apply_statements
from archiver.ledger.migrate import migrate as migrate_ledger
from archiver.ledger.postgres import LedgerSettings, PostgresLedger
from archiver.model import ColdKey, HotLocation, Summary
from archiver.sources.sql_source import (
    SourceParameters,
    SqlSource,
    read_source_file,
    shipped_source_file,
)
from archiver.stores.cold_file import FileColdStore
from archiver.stores.cold_s3 import S3ColdStore
from archiver.stores.hot_file import FileHotStore
from archiver.stores.hot_s3 import S3HotStore
from archiver.stores.providers import PROBE_MARKER, PROVIDERS
from archiver.stores.s3 import S3Settings
from archiver.stores.supabase import SupabaseHotStore, SupabaseSettings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from archiver.config import Settings
    from archiver.engine.stop import Stop
    from archiver.model import Capabilities, Offer, Secret, SourceName
    from archiver.protocols import (
        ArchiveSource,
        Clock,
        ColdStore,
        Fleet,
        HotStore,
        Observer,
        Records,
    )

_DEFAULT_REGION = "us-east-1"  # what S3-compatible stores without regions sign with
_CLOSE_SECONDS = 1.0  # for threads that hang in a system call when all else has ended
_LEASE_WAIT_SECONDS = 1.0  # over one lease, before other workers' claims are left to them


@contextmanager
def open_archiver(settings: Settings, observer: Observer, clock: Clock) -> Iterator[Archiver]:
    """Connect to the ledger and prove the sources; no store is touched yet.

    Raises:
        FatalError: The ledger is outdated or denied, or a source cannot be trusted here.
        LedgerUnavailable: The database does not answer.
    """
    sources = [_load_source(name, settings) for name in settings.sources]
    with PostgresLedger(_ledger_settings(settings), clock) as ledger:
        ledger.check()
        yield Archiver(settings, ledger, sources, observer, clock)


def migrate(settings: Settings, clock: Clock) -> list[str]:
    """Bring the ledger's tables up to this version; the names of what was applied."""
    return migrate_ledger(_migrate_url(settings), clock)


def needs(settings: Settings, source: str) -> list[str]:
    """The statements a source needs in the application's database, safe on a live one."""
    return list(_load_source(source, settings).needs)


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
        self._clock = clock

    @property
    def records(self) -> Records:
        return self._ledger.records

    @property
    def fleet(self) -> Fleet:
        return self._ledger.fleet

    def preview(
        self, sources: Sequence[str] | None, limit: int | None
    ) -> Iterator[tuple[SourceName, Offer]]:
        """What would move now, oldest first; nothing is written anywhere."""
        for source in self._chosen(sources):
            self._check(source)
            for offer in self._ledger.claims(source).preview(limit):
                yield source.name, offer

    def count_backlog(self, sources: Sequence[str] | None) -> None:
        """Tell the observer how much there is to do; for a person who watches it shrink."""
        for source in self._chosen(sources):
            count = self._ledger.claims(source).count_backlog()
            self._observe(BacklogCounted(source.name, count))

    def once(self, sources: Sequence[str] | None, limit: int | None, stop: Stop) -> Summary:
        """Drain everything that is due, source after source, releasing beside.

        Raises:
            FatalError: Before any sweep began; later ones are in the summary.
            LedgerUnavailable: Likewise.
        """
        chosen = self._chosen(sources)
        for source in chosen:
            self._check(source)
        settings, total = self._settings, Summary()
        with ExitStack() as closing:
            heartbeat = Heartbeat(self._ledger.fleet, self._clock)
            closing.callback(_leave, self._ledger.fleet)
            pool = ThreadPool(threads_count=settings.concurrency, clock=self._clock)
            closing.callback(pool.close, timeout_seconds=_CLOSE_SECONDS)
            closing.callback(pool.every(heartbeat.interval_seconds, heartbeat.beat))
            workshop = _Workshop(
                settings, self._ledger.fleet, heartbeat, self._observe, self._clock
            )
            closing.callback(workshop.close)
            for source in chosen:
                if stop.reason is not None:
                    break
                left = None if limit is None else limit - total.archived
                run = Run(
                    source=source.name,
                    claims=self._ledger.claims(source),
                    releases=self._ledger.releases(source),
                    pool=pool,
                    heartbeat=heartbeat,
                    clock=self._clock,
                    observe=self._observe,
                    plan=_plan(settings, left),
                )
                total = total.plus(Sweep(run, workshop, stop)(everything=True))
        return total

    def _chosen(self, names: Sequence[str] | None) -> list[ArchiveSource]:
        unknown = sorted(set(names or ()) - set(self._sources))
        if unknown:
            known = ", ".join(self._sources)
            problem = f"--source {unknown[0]}: no such source; configured are {known}"
            raise SettingsError(problems=(problem,))
        return [s for name, s in self._sources.items() if not names or name in names]

    def _check(self, source: ArchiveSource) -> None:
        for warning in self._ledger.check_source(source):
            self._observe(SourceWarning(source.name, warning))


@dataclass
class _Workshop:
    """Opens the stores once a claim or a release has come back non-empty."""

    settings: Settings
    fleet: Fleet
    heartbeat: Heartbeat
    observe: Observer
    clock: Clock

    def stores(self) -> Stores:
        return self._stores

    def mover(self) -> Mover:
        return self._mover

    def releaser(self) -> Releaser:
        return self._releaser

    def close(self) -> None:
        for stores in (self.__dict__.get("_stores"), self.__dict__.get("_releasing")):
            if isinstance(stores, Stores):
                stores.hot.close()
                stores.cold.close()

    @cached_property
    def _stores(self) -> Stores:
        settings = self.settings
        capabilities, was_remembered = _capabilities(settings, self.fleet)
        evidence = demanded_evidence(settings.evidence, capabilities, settings.provider_name)
        self.observe(
            StoreProbed(
                provider=settings.provider_name,
                bucket=settings.bucket_name,
                enforces_signed_digest=capabilities.enforces_signed_digest,
                enforces_create=capabilities.enforces_create,
                returns_digest=capabilities.returns_digest,
                evidence=str(evidence),
                was_remembered=was_remembered,
            )
        )
        hot = _open_hot(settings, settings.timeout_seconds)
        cold = _open_cold(settings, capabilities)
        return Stores(hot, cold, evidence, _shared_bucket(hot, cold, settings))

    @cached_property
    def _mover(self) -> Mover:
        return Mover(self._stores, BytesInFlight(), self.heartbeat, self.fleet.ledger_id)

    @cached_property
    def _releaser(self) -> Releaser:
        # A hot store of its own: a delete must end while the lease lasts, a read need not.
        delete_seconds = min(self.settings.timeout_seconds, self.settings.lease_seconds / 2)
        hot = _open_hot(self.settings, delete_seconds)
        return Releaser(
            stores=replace(self._stores, hot=hot),
            heartbeat=self.heartbeat,
            clock=self.clock,
            grace_seconds=self.settings.release_grace_seconds,
            delete_seconds=delete_seconds,
        )


def _leave(fleet: Fleet) -> None:
    """End the lease; where the database is gone it runs out by itself, and the counts stay."""
    with suppress(LedgerUnavailable):
        fleet.leave()


# --- settings, handed to each room ----------------------------------------------------------


def _plan(settings: Settings, limit: int | None) -> SweepPlan:
    limits = [it for it in (limit, settings.max_objects) if it is not None]
    return SweepPlan(
        concurrency=settings.concurrency,
        batch_size=settings.batch_size,
        release=settings.release,
        max_objects=min(limits) if limits else None,
        max_bytes=settings.max_bytes,
        max_failure_ratio=settings.max_failure_ratio,
        retry_wait_seconds=settings.once_wait_seconds,
        takeover_wait_seconds=settings.lease_seconds + _LEASE_WAIT_SECONDS,
        retry_base_seconds=settings.retry_base_seconds,
        drain_seconds=settings.drain_timeout_seconds,
    )


def _ledger_settings(settings: Settings) -> LedgerSettings:
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


def _load_source(name: str, settings: Settings) -> SqlSource:
    is_path = name.endswith(".sql")
    file = read_source_file(Path(name)) if is_path else shipped_source_file(name)
    if file.overrides:  # ignored, an object could move earlier than its author allows
        keys = ", ".join(sorted(file.overrides))
        problem = f"{name}: this version knows the settings of all sources alone, not {keys}"
        raise SettingsError(problems=(problem,))
    retention_age = timedelta(seconds=settings.retention_age_seconds)
    return SqlSource(file, SourceParameters(settings.retention_jobs, retention_age))


def _open_hot(settings: Settings, timeout_seconds: float) -> HotStore:
    match settings.hot:
        case None:
            raise _not_set("ARCHIVE_HOT")
        case HotFile(root):
            return FileHotStore(root)
        case HotS3() as hot:
            return S3HotStore(
                S3Settings(
                    endpoint=hot.endpoint,
                    region=hot.region or _DEFAULT_REGION,
                    access_key_id=hot.access_key_id,
                    secret_access_key=hot.secret_access_key,
                    allow_http=is_http_allowed(hot.endpoint, settings),
                    timeout_seconds=timeout_seconds,
                    max_connections=settings.concurrency,
                ),
                bucket=hot.bucket,
            )
        case HotSupabase() as hot:
            return SupabaseHotStore(
                SupabaseSettings(
                    url=hot.url,
                    service_role_key=hot.service_role_key,
                    publishable_key=hot.publishable_key,
                    timeout_seconds=timeout_seconds,
                    max_connections=settings.concurrency,
                )
            )


def _open_cold(settings: Settings, capabilities: Capabilities) -> ColdStore:
    match settings.cold:
        case None:
            raise _not_set("ARCHIVE_PROVIDER")
        case ColdFile() as cold:
            return FileColdStore(cold.root, cold.bucket, settings.path_prefix)
        case ColdS3() as cold:
            return S3ColdStore(
                _cold_s3_settings(cold, settings),
                PROVIDERS[cold.provider],
                cold.bucket,
                settings.path_prefix,
                capabilities,
            )


def _capabilities(settings: Settings, fleet: Fleet) -> tuple[Capabilities, bool]:
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

            s3, provider = _cold_s3_settings(cold, settings), PROVIDERS[cold.provider]
            name = probe_name(s3, provider, cold.bucket)
            remembered = fleet.recall(name)
            if remembered is not None:
                return remembered, True
            seen = probe_cold(s3, provider, cold.bucket, settings.path_prefix)
            fleet.remember(name, seen)
            return seen, False


def _shared_bucket(hot: HotStore, cold: ColdStore, settings: Settings) -> str | None:
    """The cold bucket, where the hot store sees what the probe left in it.

    One store may have two endpoints, so the settings alone cannot tell. A file store knows
    its place from its path, and Supabase is never a cold store.
    """
    if not (isinstance(settings.cold, ColdS3) and isinstance(settings.hot, HotS3)):
        return None
    bucket, marker = settings.cold.bucket, ColdKey(cold.path_prefix + PROBE_MARKER)
    location = HotLocation(bucket, marker)
    try:
        seen = hot.identify([location])[location]
    except (PermanentError, FatalError):
        return None  # what the hot credentials cannot read, they cannot move either
    left = cold.stat_many([marker])[marker]
    is_one = seen is not None and (left is None or seen.etag == left.etag)
    return bucket if is_one else None


def _cold_s3_settings(cold: ColdS3, settings: Settings) -> S3Settings:
    region = cold.region or PROVIDERS[cold.provider].region_for(cold.endpoint)
    return S3Settings(
        endpoint=cold.endpoint,
        region=region or _DEFAULT_REGION,
        access_key_id=cold.access_key_id,
        secret_access_key=cold.secret_access_key,
        allow_http=is_http_allowed(cold.endpoint, settings),
        timeout_seconds=settings.timeout_seconds,
        max_connections=settings.concurrency,
    )


def is_http_allowed(endpoint: str | None, settings: Settings) -> bool:
    """Plain http is spoken on loopback, and elsewhere where the settings say so."""
    host = urlsplit(endpoint).hostname if endpoint else None
    return settings.allow_http or (host is not None and is_loopback(host))


def _not_set(name: str) -> SettingsError:
    return SettingsError(problems=(f"{name} is not set",))
