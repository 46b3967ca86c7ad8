"""The settings of one process, typed and checked against each other."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from archiver.config import table
from archiver.config.proxies import proxy_for
from archiver.config.reader import Reader
from archiver.config.sources import choose_sources, common_overrides, is_hot_s3_used
from archiver.config.stores import (
    check_apart,
    check_sources_apart,
    read_cold,
    read_hot,
    refuse_variables,
)
from archiver.ops.timetable import Timetable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from importlib.metadata import EntryPoint

    from archiver.config.proxies import NoProxy
    from archiver.config.reader import Seen
    from archiver.config.stores import Cold, Hot
    from archiver.events import Level
    from archiver.formats.parts import Profile
    from archiver.model import EgressBudget, Evidence, Secret, SourceName
    from archiver.sources.sql_file import SqlFile

_TIMEOUTS_PER_HANG = 5
_LEASES_PER_HANG = 2
_STATEMENTS_PER_HANG = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All that the environment says. `app` hands each room its part."""

    cold: Cold | None  # None: archiving is disabled
    hot: Hot | None  # None: disabled, and nothing says where objects are
    path_prefix: str  # empty, or ending in a slash
    sources: tuple[str, ...]
    retention_jobs: int
    retention_age_seconds: float

    database_url: Secret | None  # None: disabled
    migrate_url: Secret | None
    lease_seconds: float
    state_dir: Path | None  # None: unset, and there is no home directory
    upload_expiry_seconds: float
    statement_timeout_seconds: float

    evidence: Evidence | None  # None: what the store was seen to allow
    release: bool
    release_grace_seconds: float

    batch_size: int
    concurrency: int | None  # None: what is found to be best
    max_objects: int | None
    max_bytes: int | None
    max_duration_seconds: float | None
    egress_budget: EgressBudget | None
    max_failure_ratio: float | None
    bandwidth: int | None  # bytes a second, of each store
    requests_per_second: float | None  # likewise
    profile: Profile
    part_size: int | None  # None: the profile's
    timeout_seconds: float

    max_attempts: int
    retry_base_seconds: float
    retry_max_seconds: float

    timetable: Timetable
    hang_after_seconds: float
    ping_url: Secret | None

    once_wait_seconds: float
    drain_timeout_seconds: float
    allow_http: bool
    ca_bundle: Path | None  # None: what the system or the client trusts
    https_proxy: Secret | None
    no_proxy: NoProxy
    log_format: Literal["text", "json"]
    log_level: Level

    of_sources: tuple[SourceSettings, ...] = field(default=(), repr=False, compare=False)
    seen: Mapping[str, Seen] = field(repr=False, compare=False)
    _secrets: tuple[Secret, ...] = field(repr=False, compare=False)

    @classmethod
    def from_environment(cls) -> Self:
        """Read the environment of this process: the only place that does."""
        return cls.read(os.environ)

    @classmethod
    def of_objects(cls, instead: Mapping[str, str]) -> Self:
        """As `from_environment`, for commands that never sweep; `instead` goes before it.

        A database and a hot store need not be set.
        """
        return cls.read({**os.environ, **instead}, for_sweeps=False)

    @classmethod
    def read(cls, environ: Mapping[str, str], *, for_sweeps: bool = True) -> Self:
        """Read and check everything; only files that settings name are opened.

        An empty value counts as unset. What only a sweep needs may be missing where there
        will be none.

        Raises:
            SettingsError: With every problem there is, secrets masked.
        """
        reader = Reader(environ)
        is_enabled = reader.is_set(table.PROVIDER) or reader.is_set(table.BUCKET)
        chosen = choose_sources(reader, environ, is_enabled=is_enabled)
        reader.override(common_overrides(chosen))
        uses_hot_s3 = is_hot_s3_used(chosen, environ)
        is_swept = is_enabled and for_sweeps
        settings = cls._read(reader, uses_hot_s3=uses_hot_s3, is_swept=is_swept)
        of_sources = []
        for source in chosen:
            own = Reader(environ, source.overrides)
            if source.overrides and source.is_right:
                of_source = cls._read(own, uses_hot_s3=uses_hot_s3, is_swept=is_swept)
                reader.adopt(own.problems, source.name)
            else:
                of_source = settings
            of_sources.append(SourceSettings(source.name, source.definition, of_source))
        check_sources_apart(
            reader, {it.name: (it.settings.cold, it.settings.hot) for it in of_sources}
        )
        reader.finish()
        return replace(settings, of_sources=tuple(of_sources))

    @classmethod
    def _read(cls, reader: Reader, *, uses_hot_s3: bool, is_swept: bool) -> Self:
        """One reading: of the process, or with what a source overrides."""
        allow_http = reader.value(table.ALLOW_HTTP)
        cold = read_cold(reader, allow_http=allow_http)
        hot = read_hot(
            reader, allow_http=allow_http, is_needed=is_swept, uses_hot_s3=uses_hot_s3
        )
        check_apart(reader, cold, hot)
        refuse_variables(reader, cold, hot)
        settings = cls(
            cold=cold,
            hot=hot,
            path_prefix=reader.value(table.PATH_PREFIX),
            sources=reader.value(table.SOURCES),
            retention_jobs=reader.value(table.RETENTION_JOBS),
            retention_age_seconds=reader.value(table.RETENTION_AGE),
            database_url=(
                reader.required(table.DATABASE_URL, "archiving")
                if is_swept
                else reader.find(table.DATABASE_URL)
            ),
            migrate_url=reader.find(table.MIGRATE_URL),
            lease_seconds=reader.value(table.LEASE),
            state_dir=reader.find(table.STATE_DIR) or _default_state_dir(reader),
            upload_expiry_seconds=reader.value(table.UPLOAD_EXPIRY),
            statement_timeout_seconds=reader.value(table.STATEMENT_TIMEOUT),
            evidence=reader.value(table.EVIDENCE),
            release=reader.value(table.RELEASE),
            release_grace_seconds=reader.value(table.RELEASE_GRACE),
            batch_size=reader.value(table.BATCH_SIZE),
            concurrency=reader.value(table.CONCURRENCY),
            max_objects=reader.find(table.MAX_OBJECTS),
            max_bytes=reader.find(table.MAX_BYTES),
            max_duration_seconds=reader.find(table.MAX_DURATION),
            egress_budget=reader.value(table.EGRESS_BUDGET),
            max_failure_ratio=reader.value(table.MAX_FAILURE_RATIO),
            bandwidth=reader.find(table.BANDWIDTH),
            requests_per_second=reader.find(table.REQUESTS_PER_SECOND),
            profile=reader.value(table.PROFILE),
            part_size=reader.find(table.PART_SIZE),
            timeout_seconds=_timeout_seconds(reader),
            max_attempts=reader.value(table.MAX_ATTEMPTS),
            retry_base_seconds=reader.value(table.RETRY_BASE),
            retry_max_seconds=reader.value(table.RETRY_MAX),
            timetable=_read_timetable(reader),
            hang_after_seconds=_hang_after_seconds(reader),
            ping_url=reader.find(table.PING_URL),
            once_wait_seconds=reader.value(table.ONCE_WAIT),
            drain_timeout_seconds=reader.value(table.DRAIN_TIMEOUT),
            allow_http=allow_http,
            ca_bundle=reader.find(table.CA_BUNDLE),
            https_proxy=reader.find(table.HTTPS_PROXY),
            no_proxy=reader.value(table.NO_PROXY),
            log_format=reader.value(table.LOG_FORMAT),
            log_level=reader.value(table.LOG_LEVEL),
            seen=reader.seen,
            _secrets=tuple(reader.secrets),
        )
        _check_retries(reader, settings)
        return settings

    @property
    def is_disabled(self) -> bool:
        """Neither provider nor bucket is set: there is nothing to archive to."""
        return self.cold is None

    @property
    def part_bytes(self) -> int:
        """Objects above it go in parts, of at least that size."""
        return self.part_size or self.profile.read_bytes

    @property
    def provider_name(self) -> str:
        """Of the cold store; empty when disabled."""
        return self.cold.provider if self.cold else ""

    @property
    def bucket_name(self) -> str:
        """The cold bucket; empty when disabled."""
        return self.cold.bucket if self.cold else ""

    def proxy_for(self, url: str) -> Secret | None:
        """The proxy on the way to a store; None: it is reached directly."""
        return proxy_for(url, self.https_proxy, self.no_proxy)

    def masked(self, text: str) -> str:
        """The text, with every secret of these settings covered."""
        for secret in sorted(self._secrets, key=lambda secret: -len(secret.reveal())):
            text = text.replace(secret.reveal(), repr(secret))
        return text


@dataclass(frozen=True, slots=True)
class SourceSettings:
    """One source of ARCHIVE_SOURCES, and the settings under which it is swept."""

    name: SourceName
    definition: SqlFile | EntryPoint
    settings: Settings


def _read_timetable(reader: Reader) -> Timetable:
    if reader.is_set(table.INTERVAL) and reader.is_set(table.SCHEDULE):
        problem = "ARCHIVE_INTERVAL and ARCHIVE_SCHEDULE are both set; keep one of them"
        reader.complain(table.SCHEDULE, problem)
    timetable = Timetable(
        interval_seconds=reader.value(table.INTERVAL),
        crontab=reader.find(table.SCHEDULE),
        window=reader.find(table.WINDOW),
        zone=reader.value(table.TIME_ZONE),
    )
    if timetable.crontab and timetable.window and not timetable.can_fire:
        reader.complain(
            table.SCHEDULE,
            f"ARCHIVE_SCHEDULE is '{timetable.crontab}', which is never in ARCHIVE_WINDOW "
            f"('{timetable.window}')",
        )
    return timetable


def _timeout_seconds(reader: Reader) -> float:
    found = reader.find(table.TIMEOUT)
    return reader.value(table.PROFILE).timeout_seconds if found is None else found


def _default_state_dir(reader: Reader) -> Path | None:
    """Where the XDG Base Directory Specification wants it. It says to ignore relative paths."""
    state_home, home = reader.plain("XDG_STATE_HOME"), reader.plain("HOME")
    if state_home.startswith("/"):
        return Path(state_home) / "archiver"
    return Path(home) / ".local" / "state" / "archiver" if home.startswith("/") else None


def _hang_after_seconds(reader: Reader) -> float:
    """By default what no work that is alive takes: one move asks its stores a few times."""
    found = reader.find(table.HANG_AFTER)
    if found is not None:
        return found
    return max(
        _TIMEOUTS_PER_HANG * _timeout_seconds(reader),
        _LEASES_PER_HANG * reader.value(table.LEASE),
        _STATEMENTS_PER_HANG * reader.value(table.STATEMENT_TIMEOUT),
    )


def _check_retries(reader: Reader, settings: Settings) -> None:
    if settings.retry_max_seconds < settings.retry_base_seconds and not (
        reader.is_wrong(table.RETRY_BASE) or reader.is_wrong(table.RETRY_MAX)
    ):
        reader.complain(
            table.RETRY_MAX,
            f"ARCHIVE_RETRY_MAX is {settings.seen['ARCHIVE_RETRY_MAX'].shown}; it must not be "
            f"below ARCHIVE_RETRY_BASE ({settings.seen['ARCHIVE_RETRY_BASE'].shown})",
        )
