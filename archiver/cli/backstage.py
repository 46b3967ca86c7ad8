"""What stands behind the commands: the environment, the clock, and the app when needed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import click

from archiver.errors import SettingsError
from archiver.ops.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from archiver.config import Settings
    from archiver.engine.stop import Stop
    from archiver.model import (
        Entry,
        LedgerIdentity,
        Offer,
        SourceName,
        Spent,
        Summary,
        Takeover,
        Undone,
        WorkerStatus,
    )
    from archiver.protocols import Clock, Fleet, Observer, Records
    from archiver.succession import Standing
    from archiver.worker import OpenShift


class OpenArchiver(Protocol):
    """What the commands ask of an `app.Archiver`."""

    @property
    def records(self) -> Records: ...

    @property
    def fleet(self) -> Fleet: ...

    @property
    def source_names(self) -> Sequence[SourceName]: ...

    def begin_shift(self) -> OpenShift: ...

    def require_restorable(self, source: SourceName, /) -> None: ...

    def undo(
        self, source: SourceName, entries: Iterable[Entry], hold_seconds: float, /
    ) -> Iterator[Undone]: ...

    def spent(self) -> Spent | None: ...

    def count_backlog(self, sources: Sequence[str] | None, /) -> None: ...

    def once(
        self, sources: Sequence[str] | None, limit: int | None, stop: Stop, /
    ) -> Summary: ...

    def preview(
        self, sources: Sequence[str] | None, limit: int | None, /
    ) -> Iterator[tuple[SourceName, Offer]]: ...

    def adopt(
        self, source: str, limit: int | None, stop: Stop, /, *, unproven: bool
    ) -> Takeover: ...

    def survey(
        self, source: str, limit: int | None, stop: Stop, /, *, unproven: bool
    ) -> Takeover: ...


class OpenSuccession(Protocol):
    """What `archiver ledger take-over` asks of a `succession.Succession`."""

    @property
    def identity(self) -> LedgerIdentity: ...

    @property
    def live_workers(self) -> Sequence[WorkerStatus]: ...

    @property
    def standings(self) -> Sequence[Standing]: ...

    def take_over(self) -> int: ...

    def outlive_leases(self) -> None: ...


class App(Protocol):
    """What the commands ask of the module `archiver.app`."""

    def open_archiver(
        self, settings: Settings, observer: Observer, clock: Clock, /
    ) -> AbstractContextManager[OpenArchiver]: ...

    def migrate(self, settings: Settings, clock: Clock, /) -> list[str]: ...

    def open_succession(
        self, settings: Settings, clock: Clock, /
    ) -> AbstractContextManager[OpenSuccession]: ...

    def needs(self, settings: Settings, source: str, /) -> list[str]: ...

    def apply_needs(self, settings: Settings, source: str, clock: Clock, /) -> None: ...


def _import_app() -> App:
    from archiver import app  # noqa: PLC0415  # boto3 and psycopg: not for --help

    return app


def _read_settings() -> Settings:
    from archiver.config import Settings  # noqa: PLC0415  # not for --help

    return Settings.from_environment()


@dataclass
class Backstage:
    """One for each run of the command; a test brings its own app and clock."""

    clock: Clock = field(default_factory=SystemClock)
    import_app: Callable[[], App] = _import_app
    settings: Settings | None = None  # once they were read

    def read_settings(self) -> Settings:
        """The settings of this process.

        Raises:
            SettingsError
        """
        self.settings = _read_settings()
        return self.settings

    def read_enabled_settings(self) -> Settings:
        """Settings that say where to archive to.

        Raises:
            SettingsError: There are none, or they are wrong.
        """
        settings = self.read_settings()
        if settings.is_disabled:
            problem = (
                "archiving is disabled: neither ARCHIVE_PROVIDER nor ARCHIVE_BUCKET is set; "
                "set both to enable it"
            )
            raise SettingsError(problems=(problem,))
        return settings

    def read_settings_of_objects(
        self, instead: Mapping[str, str], *, needs_store: bool = True
    ) -> Settings:
        """Settings that say where the cold store is; `instead` are flags, by their settings.

        Raises:
            SettingsError: They do not say it, or they are wrong.
        """
        from archiver.config import Settings  # noqa: PLC0415  # not for --help

        self.settings = Settings.of_objects(instead)
        if needs_store and self.settings.is_disabled:
            problem = (
                "no store is configured: neither ARCHIVE_PROVIDER nor ARCHIVE_BUCKET is set; "
                "set both, and the endpoint and keys that the provider needs"
            )
            raise SettingsError(problems=(problem,))
        return self.settings

    def read_settings_with_database(self) -> Settings:
        """Settings that say where the ledger is; archiving itself may be disabled.

        Raises:
            SettingsError: They do not say it, or they are wrong.
        """
        settings = self.read_settings()
        if settings.database_url is None:
            problem = "ARCHIVE_DATABASE_URL or DATABASE_URL is not set; the ledger is there"
            raise SettingsError(problems=(problem,))
        return settings

    def read_settings_to_migrate(self) -> Settings:
        """Settings that say which database to migrate.

        Raises:
            SettingsError: They do not say it, or they are wrong.
        """
        settings = self.read_settings()
        if settings.migrate_url is None and settings.database_url is None:
            problem = (
                "none of ARCHIVE_MIGRATE_URL, ARCHIVE_DATABASE_URL and DATABASE_URL is set; "
                "the ledger is there"
            )
            raise SettingsError(problems=(problem,))
        return settings

    def masked(self, text: str) -> str:
        """The text without the secrets of the settings, as far as they were read."""
        return text if self.settings is None else self.settings.masked(text)


pass_backstage = click.make_pass_decorator(Backstage, ensure=True)
