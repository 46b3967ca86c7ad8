"""The ledger in a file keeps what the others keep, as far as it goes."""

from __future__ import annotations

import sqlite3
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import pytest

from archiver.ledger.sqlite.ledger import FILE_NAME, SqliteLedger, SqliteSettings
from tests.contract.uploads_contract import (
    EXPIRY_SECONDS,
    LEASE_SECONDS,
    Ledger,
    UploadsContract,
)
from tests.fakes.clock import ManualClock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class SqliteWorld:
    """Workers are ledgers with connections of their own to one file."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._clock = ManualClock()
        self._open = ExitStack()

    def worker(self) -> SqliteLedger:
        settings = SqliteSettings(
            state_dir=self._state_dir,
            lease_seconds=LEASE_SECONDS,
            upload_expiry_seconds=EXPIRY_SECONDS,
        )
        ledger = self._open.enter_context(SqliteLedger(settings, self._clock))
        ledger.fleet.join()
        return ledger

    def leave(self, worker: Ledger) -> None:
        assert isinstance(worker, SqliteLedger)
        worker.fleet.leave()

    def raise_epoch(self) -> None:
        with closing(sqlite3.connect(self._state_dir / FILE_NAME)) as hands, hands:
            hands.execute("update fleet set epoch = epoch + 1")

    def pass_time(self, seconds: float) -> None:
        self._clock.advance(seconds)

    def close(self) -> None:
        self._open.close()


class TestSqliteUploads(UploadsContract):
    @pytest.fixture
    def world(self, tmp_path: Path) -> Iterator[SqliteWorld]:
        world = SqliteWorld(tmp_path / "state")
        yield world
        world.close()
