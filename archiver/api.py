"""The library: everything an application may import, from one place.

    from archiver.api import Settings, Stop, SystemClock, open_archiver

docs/library.md and docs/reading.md have examples, and say what is stable.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from archiver import errors, events
from archiver.app import Archiver, migrate, open_archiver
from archiver.by_hand import sweep_by_hand
from archiver.config import Settings
from archiver.engine.landing_file import LandingFile
from archiver.engine.run import SweepPlan
from archiver.engine.stop import Stop
from archiver.engine.streams import Streams
from archiver.engine.transfer import TransferResult, stream_transfer
from archiver.formats.checkpoint import Checkpoint
from archiver.formats.parts import DATACENTER, EDGE, TACTICAL, Profile, custom_profile
from archiver.ledger.migrate import migrate as migrate_ledger
from archiver.ledger.postgres import LedgerSettings, PostgresLedger
from archiver.ledger.sqlite.ledger import SqliteLedger, SqliteSettings
from archiver.model import (
    Digest,
    Disposition,
    EgressBudget,
    Evidence,
    ListedObject,
    ObjectHead,
    Secret,
    SignedUrl,
    StoredObject,
    Summary,
)
from archiver.objects.chunked import ChunkedPuts, IncompletePut
from archiver.objects.guard import KeyGuard, SourceKeys
from archiver.objects.opening import open_object_service
from archiver.objects.putting import Put, PutStatus, StoredPut
from archiver.objects.service import FoundDigest, ObjectService
from archiver.ops.clock import SystemClock
from archiver.protocols import PartTarget
from archiver.reading import Archive, ArchivedObject, ArchivedUrl, open_archive
from archiver.sources.plugins import PluginSource
from archiver.sources.sql_source import SourceParameters, SqlSource
from archiver.sources.template import KeyTemplate
from archiver.stores.cold_file import FileColdStore
from archiver.stores.cold_s3 import S3ColdStore
from archiver.stores.hot_file import FileHotStore
from archiver.stores.hot_s3 import S3HotStore
from archiver.stores.objects_file import FileObjectStore
from archiver.stores.objects_supabase import SupabaseObjectStore
from archiver.stores.probe import probe_cold
from archiver.stores.providers import PROVIDERS
from archiver.stores.s3 import S3Settings
from archiver.stores.supabase import SupabaseHotStore
from archiver.stores.supabase_wire import SupabaseSettings

if TYPE_CHECKING:
    from archiver.stores.objects_s3 import S3ObjectStore

__all__ = [
    "DATACENTER",
    "EDGE",
    "PROVIDERS",
    "TACTICAL",
    "Archive",
    "ArchivedObject",
    "ArchivedUrl",
    "Archiver",
    "Checkpoint",
    "ChunkedPuts",
    "Digest",
    "Disposition",
    "EgressBudget",
    "Evidence",
    "FileColdStore",
    "FileHotStore",
    "FileObjectStore",
    "FoundDigest",
    "IncompletePut",
    "KeyGuard",
    "KeyTemplate",
    "LandingFile",
    "LedgerSettings",
    "ListedObject",
    "ObjectHead",
    "ObjectService",
    "PartTarget",
    "PluginSource",
    "PostgresLedger",
    "Profile",
    "Put",
    "PutStatus",
    "S3ColdStore",
    "S3HotStore",
    "S3ObjectStore",
    "S3Settings",
    "Secret",
    "Settings",
    "SignedUrl",
    "SourceKeys",
    "SourceParameters",
    "SqlSource",
    "SqliteLedger",
    "SqliteSettings",
    "Stop",
    "StoredObject",
    "StoredPut",
    "Streams",
    "Summary",
    "SupabaseHotStore",
    "SupabaseObjectStore",
    "SupabaseSettings",
    "SweepPlan",
    "SystemClock",
    "TransferResult",
    "custom_profile",
    "errors",
    "events",
    "migrate",
    "migrate_ledger",
    "open_archive",
    "open_archiver",
    "open_object_service",
    "probe_cold",
    "stream_transfer",
    "sweep_by_hand",
]


def __getattr__(name: str) -> object:
    """What needs boto3 comes when it is first asked for: importing it takes as long again."""
    if name == "S3ObjectStore":
        from archiver.stores.objects_s3 import S3ObjectStore  # noqa: PLC0415

        return S3ObjectStore
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)
