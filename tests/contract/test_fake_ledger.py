"""The ledger in memory keeps the contract that the one in Postgres keeps."""

from __future__ import annotations

import pytest

from archiver.ledger.settings import LedgerSettings
from archiver.model import DatabaseHome, Secret
from tests.contract import ledger_contract as contract
from tests.contract.uploads_contract import EXPIRY_SECONDS, Ledger, UploadsContract
from tests.fakes.clock import ManualClock
from tests.fakes.ledger import FakeLedger, Tables
from tests.fakes.table_source import MemorySource


class FakeWorld:
    def __init__(self) -> None:
        self.rows = MemorySource()
        self._clock = ManualClock()
        self._tables = Tables()

    def worker(self) -> FakeLedger:
        settings = LedgerSettings(
            url=Secret(""),
            lease_seconds=contract.LEASE_SECONDS,
            retry_base_seconds=contract.RETRY_BASE_SECONDS,
            retry_max_seconds=contract.RETRY_MAX_SECONDS,
            max_attempts=contract.MAX_ATTEMPTS,
            release_grace_seconds=contract.GRACE_SECONDS,
            upload_expiry_seconds=EXPIRY_SECONDS,
        )
        ledger = FakeLedger(self._clock, settings=settings, tables=self._tables)
        ledger.fleet.join()
        return ledger

    def leave(self, worker: Ledger) -> None:
        assert isinstance(worker, FakeLedger)
        worker.fleet.leave()

    def raise_epoch(self) -> None:
        self._tables.epoch += 1

    def pass_time(self, seconds: float) -> None:
        self._clock.advance(seconds)

    def set_home(self, *, name: str, system: int | None = None) -> None:
        self._tables.home = DatabaseHome(name, system)


class TestFakeLedger(contract.LedgerContract):
    @pytest.fixture
    def world(self) -> FakeWorld:
        return FakeWorld()


class TestFakeUploads(UploadsContract):
    @pytest.fixture
    def world(self) -> FakeWorld:
        return FakeWorld()
