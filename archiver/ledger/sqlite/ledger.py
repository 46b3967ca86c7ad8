"""The ledger in a file, wired: what needs a durable record and has no database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from archiver.ledger.sqlite.file import LedgerFile
from archiver.ledger.sqlite.fleet import SqliteFleet
from archiver.ledger.sqlite.uploads import SqliteUploads

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from archiver.protocols import Clock

FILE_NAME = "ledger.sqlite"


@dataclass(frozen=True, slots=True, kw_only=True)
class SqliteSettings:
    """The directory of one machine, and how patient to be with it."""

    state_dir: Path
    lease_seconds: float = 60.0
    upload_expiry_seconds: float = 86_400.0
    busy_seconds: float = 10.0  # for another process's transaction; they take milliseconds


class SqliteLedger:
    """The ledger in the state directory. Parts come ready; `open` before the first is used."""

    def __init__(self, settings: SqliteSettings, clock: Clock) -> None:
        path = settings.state_dir / FILE_NAME
        self._file = LedgerFile(path, clock, busy_seconds=settings.busy_seconds)
        self.fleet = SqliteFleet(self._file, clock, lease_seconds=settings.lease_seconds)
        self.uploads = SqliteUploads(
            self._file, self.fleet, clock, expiry_seconds=settings.upload_expiry_seconds
        )

    def open(self) -> None:
        """Open the file, which is made where there is none.

        Raises:
            StateDirUnusable, LedgerFileUnusable, LedgerFileNewer, LedgerFileUnavailable
        """
        self._file.open()

    def close(self) -> None:
        """Close the file. Who has not left is dead, to those who ask."""
        self.fleet.end_life_sign()
        self._file.close()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
