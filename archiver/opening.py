"""What settings name, opened: sources and stores, with the limits they are asked within."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from archiver.config import ColdFile, ColdS3, HotFile, HotS3, HotSupabase
from archiver.config.values import is_loopback
from archiver.engine.egress import Allowance, Egress
from archiver.engine.width import MAX_WIDTH
from archiver.errors import (
    BucketMissing,
    FatalError,
    KeyTaken,
    PermanentError,
    SettingsError,
    UnusableName,
)
from archiver.ledger.postgres import LedgerSettings
from archiver.ledger.sqlite.ledger import SqliteLedger, SqliteSettings
from archiver.model import Capabilities, ColdKey, HotLocation
from archiver.sources.plugins import PluginSettings, load_plugin
from archiver.sources.sql_file import SqlFile
from archiver.sources.sql_source import SourceParameters, SqlSource
from archiver.stores.cold_file import FileColdStore
from archiver.stores.cold_s3 import S3ColdStore
from archiver.stores.hot_file import FileHotStore
from archiver.stores.hot_s3 import S3HotStore
from archiver.stores.objects_file import FileObjectStore
from archiver.stores.pace import Pace, PaceSettings
from archiver.stores.providers import FROZEN_CLASSES, PLACE_MARKER, PROVIDERS
from archiver.stores.s3 import S3Settings
from archiver.stores.supabase import SupabaseHotStore
from archiver.stores.supabase_wire import SupabaseSettings

if TYPE_CHECKING:
    from archiver.config import Cold, Hot, Settings, SourceSettings
    from archiver.model import Secret
    from archiver.protocols import (
        ArchiveSource,
        Clock,
        ColdStore,
        Fleet,
        HotStore,
        ObjectStore,
    )
    from archiver.stores.cold_boto3 import Boto3ColdStore
    from archiver.stores.providers import S3Client

_DEFAULT_REGION = "us-east-1"  # what S3-compatible stores without regions sign with
NEVER_WRITES = Capabilities(  # of a cold store that is only read: nothing is tried out
    enforces_signed_digest=False, enforces_create=False, returns_digest=False
)


def ledger_settings(settings: Settings) -> LedgerSettings:
    if settings.database_url is None:
        raise _not_set("ARCHIVE_DATABASE_URL")
    return LedgerSettings(
        url=settings.database_url,
        lease_seconds=settings.lease_seconds,
        # A beat must fail soon enough for another one.
        connect_timeout_seconds=round(min(10.0, max(2.0, settings.lease_seconds / 4))),
        statement_timeout_seconds=settings.statement_timeout_seconds,
        retry_base_seconds=settings.retry_base_seconds,
        retry_max_seconds=settings.retry_max_seconds,
        max_attempts=settings.max_attempts,
        release_grace_seconds=settings.release_grace_seconds,
        upload_expiry_seconds=settings.upload_expiry_seconds,
    )


def state_ledger(settings: Settings, clock: Clock) -> SqliteLedger:
    """The ledger of this machine, for what needs no database; not open yet.

    Raises:
        SettingsError: Nothing says where it is.
    """
    if settings.state_dir is None:
        raise _not_set("ARCHIVE_STATE_DIR")
    return SqliteLedger(
        SqliteSettings(
            state_dir=settings.state_dir,
            lease_seconds=settings.lease_seconds,
            upload_expiry_seconds=settings.upload_expiry_seconds,
        ),
        clock,
    )


def migrate_url_of(settings: Settings) -> Secret:
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
            s3 = _hot_s3_settings(hot, settings, timeout_seconds, pace)
            return S3HotStore(s3, bucket=hot.bucket)
        case HotSupabase() as hot:
            return SupabaseHotStore(_supabase_settings(hot, settings, timeout_seconds, pace))


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


def open_cold_objects(settings: Settings, pace: Pace) -> ObjectStore:
    """The cold bucket, for objects of the user's own."""
    # Both here and below: botocore, which a sweep may do without.
    from archiver.stores.objects_s3 import S3ObjectStore  # noqa: PLC0415

    match settings.cold:
        case None:
            raise _not_set("ARCHIVE_PROVIDER")
        case ColdFile() as cold:
            return FileObjectStore(cold.root, cold.bucket, settings.path_prefix, pace)
        case ColdS3() as cold:
            return S3ObjectStore(
                _cold_s3_settings(cold, settings, pace),
                PROVIDERS[cold.provider],
                cold.bucket,
                settings.path_prefix,
            )


def open_hot_objects(settings: Settings, bucket: str, pace: Pace) -> ObjectStore:
    """A bucket of the hot store, likewise."""
    from archiver.stores.objects_s3 import S3ObjectStore  # noqa: PLC0415
    from archiver.stores.objects_supabase import SupabaseObjectStore  # noqa: PLC0415

    timeout_seconds = settings.timeout_seconds
    match settings.hot:
        case None:
            raise _not_set("ARCHIVE_HOT")
        case HotFile(root):
            return FileObjectStore(root, bucket, pace=pace)
        case HotS3() as hot:
            s3 = _hot_s3_settings(hot, settings, timeout_seconds, pace)
            return S3ObjectStore(s3, PROVIDERS["other"], bucket, store="hot")
        case HotSupabase() as hot:
            supabase = _supabase_settings(hot, settings, timeout_seconds, pace)
            return SupabaseObjectStore(supabase, bucket)


def _cold_class(client: S3Client) -> type[S3ColdStore | Boto3ColdStore]:
    if client == "obstore":
        return S3ColdStore
    # boto3, whose import takes longer than a sweep with nothing to do
    from archiver.stores.cold_boto3 import Boto3ColdStore  # noqa: PLC0415

    return Boto3ColdStore


def find_capabilities(
    settings: Settings, fleet: Fleet, pace: Pace
) -> tuple[Capabilities, bool]:
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


def try_capabilities(settings: Settings, pace: Pace) -> Capabilities:
    """What the cold store enforces, tried out: where nothing remembers it."""
    match settings.cold:
        case None:
            raise _not_set("ARCHIVE_PROVIDER")
        case ColdFile() as cold:
            return FileColdStore(cold.root, cold.bucket, settings.path_prefix).capabilities
        case ColdS3() as cold:
            # botocore, whose import takes longer than `archiver --help`
            from archiver.stores.probe import probe_cold  # noqa: PLC0415

            s3, provider = _cold_s3_settings(cold, settings, pace), PROVIDERS[cold.provider]
            return probe_cold(s3, provider, cold.bucket, settings.path_prefix)


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


def egress(provider: str, *, is_limited: bool, hot_is_directory: bool) -> Egress:
    """Whose reads a budget counts. Where a hot store is billed is not ours to know."""
    known = PROVIDERS.get(provider)
    return Egress(
        Allowance(),
        hot_counts=is_limited and not hot_is_directory,
        cold_counts=is_limited and not (known is not None and known.has_free_egress),
    )


def pace_settings(settings: Settings) -> PaceSettings:
    return PaceSettings(
        requests_per_second=settings.requests_per_second,
        bytes_per_second=settings.bandwidth,
        longest_pause_seconds=settings.retry_max_seconds,
        patience_seconds=settings.once_wait_seconds,
        drain_seconds=settings.drain_timeout_seconds,
    )


def account_of(store: Hot | Cold | None) -> tuple[str | None, ...]:
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


def is_one_store(one: Hot | None, other: Hot | None) -> bool:
    """Whether equal buckets and paths are equal objects there, whoever asks for them."""
    match one, other:
        case HotS3(), HotS3():
            return one.endpoint == other.endpoint
        case HotSupabase(), HotSupabase():
            return one.url == other.url
        case _:
            return one == other


def is_frozen(cold: Cold | None) -> bool:
    """Whether what is put there can be read only after a restore."""
    return isinstance(cold, ColdS3) and cold.storage_class in FROZEN_CLASSES


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


def _hot_s3_settings(
    hot: HotS3, settings: Settings, timeout_seconds: float, pace: Pace
) -> S3Settings:
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
    return _through_proxy(s3, settings)


def _supabase_settings(
    hot: HotSupabase, settings: Settings, timeout_seconds: float, pace: Pace
) -> SupabaseSettings:
    return SupabaseSettings(
        url=hot.url,
        service_role_key=hot.service_role_key,
        publishable_key=hot.publishable_key,
        timeout_seconds=timeout_seconds,
        max_connections=settings.concurrency or MAX_WIDTH,
        ca_bundle=settings.ca_bundle,
        proxy_url=settings.proxy_for(hot.url),
        pace=pace,
    )


def _through_proxy(s3: S3Settings, settings: Settings) -> S3Settings:
    if settings.https_proxy is None:
        return s3
    proxy_url = settings.proxy_for(s3.endpoint_url)
    return replace(s3, proxy_url=proxy_url, proxy_for=settings.proxy_for)


def is_http_allowed(endpoint: str | None, settings: Settings) -> bool:
    """Plain http is spoken on loopback, and elsewhere where the settings say so."""
    host = urlsplit(endpoint).hostname if endpoint else None
    return settings.allow_http or (host is not None and is_loopback(host))


def in_a_second(most_count: int, requests_per_second: float | None) -> int:
    """As many objects as are looked at in a second, and no more than that many."""
    if requests_per_second is None:
        return most_count
    return max(1, min(most_count, int(requests_per_second)))


def _not_set(name: str) -> SettingsError:
    return SettingsError(problems=(f"{name} is not set",))
