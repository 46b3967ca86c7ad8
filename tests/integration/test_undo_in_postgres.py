"""Undo beside releases, on two connections: who waits for whom, and what a cut leaves."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from archiver.errors import LedgerUnavailable
from archiver.ledger.migrate import migrate
from archiver.ledger.postgres import LedgerSettings, PostgresLedger
from archiver.model import CandidateId, Outcome, Secret, UndoAnswer
from tests.contract.ledger_contract import proof
from tests.fakes.clock import ManualClock
from tests.fakes.table_source import TableSource, page

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from archiver.model import HotLocation, ReceiptId, Recorded, Release
    from tests.harness.postgres import Databases

PATIENCE_SECONDS = 30.0
CUT = "select pg_terminate_backend(pid) from pg_stat_activity where state like 'idle in%'"
WAITING = "select count(*) from pg_locks where locktype = 'advisory' and not granted"


class _Twins(TableSource):
    """Two rows that share an object; `points_at` may be held up by a test."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.is_asked = threading.Event()
        self.may_answer = threading.Event()
        self.may_answer.set()

    def points_at(
        self, locations: Collection[HotLocation], tx: psycopg.Connection[Any]
    ) -> Collection[HotLocation]:
        self.is_asked.set()
        assert self.may_answer.wait(PATIENCE_SECONDS)
        return super().points_at(locations, tx)


class _World:
    """Rows `a` and `twin` of one object, archived; `a`'s release is not due, `twin`'s is."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.rows = _Twins(url)
        self.rows.plant(page("a"), page("twin", path="jobs/a.html.gz", minutes=1))
        with self.ledger() as ledger:
            claims = ledger.claims(self.rows)
            claims.record([proof(claim) for claim in claims.claim(9).claims])
        self.execute(
            "update archiver.release set due_at = now() + interval '1 hour' where receipt_id ="
            " (select receipt_id from archiver.receipt where id = 'a')"
        )

    def ledger(self) -> PostgresLedger:
        settings = LedgerSettings(
            url=Secret(self.url), release_grace_seconds=0.0, connect_timeout_seconds=5
        )
        ledger = PostgresLedger(settings, ManualClock())
        ledger.open()
        ledger.fleet.join()
        return ledger

    def execute(self, query: str) -> list[Any]:
        with psycopg.connect(self.url, autocommit=True) as hands:
            cursor = hands.execute(query.encode())
            return cursor.fetchall() if cursor.description else []

    def wait_until_somebody_waits(self) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        with psycopg.connect(self.url, autocommit=True) as watching:
            while watching.execute(WAITING.encode()).fetchone() == (0,):
                assert time.monotonic() < deadline, "nobody waits for a lock"


@pytest.fixture
def world(databases: Databases) -> Iterator[_World]:
    def fill(url: str) -> None:
        migrate(Secret(url), ManualClock())
        TableSource(url).close()

    world = _World(databases.like("ledger_with_pages", fill))
    yield world
    world.rows.close()


def undo(world: _World, ledger: PostgresLedger, look: Any = lambda _: {}) -> UndoAnswer:
    [entry] = ledger.records.newest_entries_of([CandidateId("a")], None)
    [told] = ledger.releases(world.rows).undo([entry.recorded], 60.0, look)
    return told.answer


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read", "serializable"])
def test_a_release_that_would_begin_during_an_undo_waits_and_sees_what_it_did(
    world: _World, isolation: str
) -> None:
    """Else it would delete the object that a row has just been pointed at again."""
    world.execute(
        "do $$ begin execute format('alter database %I set default_transaction_isolation"
        f" = %L', current_database(), '{isolation}'); end $$"
    )
    with (
        world.ledger() as undoing,
        world.ledger() as releasing,
        ThreadPoolExecutor(1) as beside,
    ):
        claimed: list[Any] = []

        def look(_: Sequence[Recorded]) -> Mapping[ReceiptId, UndoAnswer]:
            claimed.append(beside.submit(releasing.releases(world.rows).claim_release, 9))
            world.wait_until_somebody_waits()
            return {}

        assert undo(world, undoing, look) is UndoAnswer.UNDONE
        released: Sequence[Release] = claimed[0].result(PATIENCE_SECONDS)

        assert released == []
        [history] = undoing.records.history(CandidateId("twin"), None)
        assert [outcome for _, outcome, _ in history.receipts] == [Outcome.REPLACED]


def test_an_undo_waits_for_a_release_that_is_just_beginning_and_leaves_its_object(
    world: _World,
) -> None:
    with (
        world.ledger() as undoing,
        world.ledger() as releasing,
        ThreadPoolExecutor(2) as beside,
    ):
        world.rows.may_answer.clear()
        claiming = beside.submit(releasing.releases(world.rows).claim_release, 9)
        assert world.rows.is_asked.wait(PATIENCE_SECONDS)
        told = beside.submit(undo, world, undoing)
        world.wait_until_somebody_waits()
        world.rows.may_answer.set()

        assert [it.recorded.receipt.id for it in claiming.result(PATIENCE_SECONDS)] == ["twin"]
        assert told.result(PATIENCE_SECONDS) is UndoAnswer.RELEASING
        assert world.rows.row("a").hot_path is None


def test_a_connection_that_is_cut_in_an_undo_leaves_nothing_of_it(world: _World) -> None:
    with world.ledger() as ledger:

        def look(_: Sequence[Recorded]) -> Mapping[ReceiptId, UndoAnswer]:
            world.execute(CUT)
            return {}

        with pytest.raises(LedgerUnavailable):
            undo(world, ledger, look)

        assert world.rows.row("a").hot_path is None
        assert ledger.records.counts()[0].held_count == 0
        assert undo(world, ledger) is UndoAnswer.UNDONE


def test_an_undo_that_finds_the_row_taken_leaves_its_release_where_it_was(
    world: _World,
) -> None:
    with world.ledger() as ledger, world.rows.hold("a"):
        assert undo(world, ledger) is UndoAnswer.BUSY

    assert world.execute("select count(*) from archiver.release") == [(2,)]
