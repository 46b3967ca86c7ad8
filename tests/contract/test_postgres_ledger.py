"""The ledger in Postgres, directly and through a pooler in transaction mode."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import psycopg
import pytest

from archiver.ledger.migrate import migrate
from archiver.ledger.postgres import LedgerSettings, PostgresLedger
from archiver.model import Secret
from tests.contract import ledger_contract as contract
from tests.contract.uploads_contract import EXPIRY_SECONDS, Ledger, UploadsContract
from tests.fakes.clock import ManualClock
from tests.fakes.table_source import TableSource

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.harness.pgbouncer import Pooler
    from tests.harness.postgres import Databases

_PASS_TIME = """
update archiver.worker set lease_until = lease_until - make_interval(secs => %(seconds)s);
update archiver.claim
set next_attempt_at = next_attempt_at - make_interval(secs => %(seconds)s);
update archiver.release set due_at = due_at - make_interval(secs => %(seconds)s);
update archiver.spend set began_at = began_at - make_interval(secs => %(seconds)s);
update archiver.stamp set confirmed_at = confirmed_at - make_interval(secs => %(seconds)s);
update archiver.upload
set begun_at = begun_at - make_interval(secs => %(seconds)s),
    expires_at = expires_at - make_interval(secs => %(seconds)s);
update archiver.probe set probed_at = probed_at - make_interval(secs => %(seconds)s);
"""


class PostgresWorld:
    """Workers are ledgers with pools of their own; time passes by setting all clocks back."""

    def __init__(self, url: str, *, direct_url: str) -> None:
        self._url = url
        self._open = ExitStack()
        self.rows = TableSource(direct_url)
        self._open.callback(self.rows.close)
        self._hands = self._open.enter_context(psycopg.connect(direct_url, autocommit=True))

    def worker(self) -> PostgresLedger:
        settings = LedgerSettings(
            url=Secret(self._url),
            lease_seconds=contract.LEASE_SECONDS,
            retry_base_seconds=contract.RETRY_BASE_SECONDS,
            retry_max_seconds=contract.RETRY_MAX_SECONDS,
            max_attempts=contract.MAX_ATTEMPTS,
            release_grace_seconds=contract.GRACE_SECONDS,
            upload_expiry_seconds=EXPIRY_SECONDS,
            busy_wait_seconds=0.02,
            lone_busy_wait_seconds=0.02,
            max_connections=2,
        )
        ledger = PostgresLedger(settings, ManualClock(), random=lambda: 0.5)
        self._open.enter_context(ledger)
        ledger.fleet.join()
        return ledger

    def leave(self, worker: Ledger) -> None:
        assert isinstance(worker, PostgresLedger)
        worker.fleet.leave()

    def raise_epoch(self) -> None:
        self._hands.execute("update archiver.fleet set epoch = epoch + 1")

    def pass_time(self, seconds: float) -> None:
        with psycopg.ClientCursor(self._hands) as cursor:
            cursor.execute(_PASS_TIME, {"seconds": seconds})

    def set_home(self, *, name: str, system: int | None = None) -> None:
        self._hands.execute(
            "update archiver.fleet set database_name = %s, system_identifier = %s",
            [name, system],
        )

    def close(self) -> None:
        self._open.close()


@pytest.fixture
def ledger_url(databases: Databases) -> str:
    def fill(url: str) -> None:
        migrate(Secret(url), ManualClock())
        TableSource(url).close()

    return databases.like("ledger_with_pages", fill)


class TestPostgresLedger(contract.LedgerContract):
    @pytest.fixture
    def world(self, ledger_url: str) -> Iterator[PostgresWorld]:
        world = PostgresWorld(ledger_url, direct_url=ledger_url)
        yield world
        world.close()


class TestPostgresLedgerThroughPooler(contract.LedgerContract):
    @pytest.fixture
    def world(self, ledger_url: str, pooler: Pooler) -> Iterator[PostgresWorld]:
        world = PostgresWorld(pooler.url(ledger_url), direct_url=ledger_url)
        yield world
        world.close()


class TestPostgresUploads(UploadsContract):
    @pytest.fixture
    def world(self, ledger_url: str) -> Iterator[PostgresWorld]:
        world = PostgresWorld(ledger_url, direct_url=ledger_url)
        yield world
        world.close()


class TestPostgresUploadsThroughPooler(UploadsContract):
    @pytest.fixture
    def world(self, ledger_url: str, pooler: Pooler) -> Iterator[PostgresWorld]:
        world = PostgresWorld(pooler.url(ledger_url), direct_url=ledger_url)
        yield world
        world.close()
