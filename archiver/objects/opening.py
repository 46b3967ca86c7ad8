"""The object service that settings describe, with the keys of all their sources guarded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from archiver.config import HotS3
from archiver.errors import SettingsError
from archiver.objects.guard import KeyGuard, SourceKeys
from archiver.objects.service import ObjectService
from archiver.opening import open_cold_objects, open_hot_objects, pace_settings
from archiver.ops.clock import SystemClock
from archiver.sources.sql_file import SqlFile
from archiver.stores.deadlines import require_time
from archiver.stores.pace import LimitedPace

if TYPE_CHECKING:
    from archiver.config import Settings, SourceSettings
    from archiver.protocols import Clock


def open_object_service(
    settings: Settings,
    *,
    store: Literal["cold", "hot"] = "cold",
    bucket: str | None = None,
    timeout_seconds: float | None = None,
    concurrency: int | None = None,
    clock: Clock | None = None,
) -> ObjectService:
    """The user's own objects in the cold bucket, or in one of the hot store.

    Nothing is asked of a store yet. Close it, or use it as a context manager.

    Args:
        settings: Where the store is, as whom and how fast it is asked.
        store: Which one.
        bucket: Of the hot store, where its settings name none.
        timeout_seconds: As by `ObjectService`; `ARCHIVE_TIMEOUT` ends a request that
            hears nothing in any case.
        concurrency: As by `ObjectService`.
        clock: The machine's.

    Raises:
        SettingsError: The settings name no such store, or no bucket of it.
    """
    clock = clock or SystemClock()
    pace = LimitedPace(store, pace_settings(settings), clock, waits=require_time)
    if store == "cold":
        name, opened = settings.bucket_name, open_cold_objects(settings, pace)
    else:
        name = _hot_bucket(settings, bucket)
        opened = open_hot_objects(settings, name, pace)
    return ObjectService(
        opened,
        guard_of(settings, name),
        timeout_seconds=timeout_seconds,
        concurrency=concurrency,
        clock=clock,
    )


def guard_of(settings: Settings, bucket: str) -> KeyGuard:
    """What refuses the keys of all sources that lie in a bucket."""
    return KeyGuard(tuple(_keys_of(it) for it in settings.of_sources if _is_at(it, bucket)))


def _hot_bucket(settings: Settings, bucket: str | None) -> str:
    named = settings.hot.bucket if isinstance(settings.hot, HotS3) else None
    if bucket is None and named is None:
        raise SettingsError(problems=("name the bucket of the hot store: bucket=...",))
    return bucket or named or ""


def _is_at(source: SourceSettings, bucket: str) -> bool:
    """By the bucket's name alone: one store may have many endpoints."""
    return source.settings.bucket_name == bucket


def _keys_of(source: SourceSettings) -> SourceKeys:
    definition = source.definition
    template = definition.cold_key if isinstance(definition, SqlFile) else None
    return SourceKeys(str(source.name), source.settings.path_prefix, template)
