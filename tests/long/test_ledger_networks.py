"""The ledger behind a network that fails: every wait ends by itself, nothing is forgotten."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
import pytest

from archiver.errors import LedgerUnavailable
from archiver.ledger.health import find_pulse
from archiver.ledger.migrate import migrate
from archiver.ledger.postgres import LedgerSettings, PostgresLedger
from archiver.model import Answer, Secret
from archiver.ops.clock import SystemClock
from archiver.sources.sections import rolled_back
from tests.contract.ledger_contract import proof
from tests.fakes.clock import ManualClock
from tests.fakes.table_source import TableSource, page
from tests.harness.wire import How, Wire

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.demo.postgres import EmbeddedPostgres
    from tests.harness.postgres import Databases
    from tests.harness.wire import Turn

Undone = Callable[[psycopg.Connection[Any]], AbstractContextManager[object]]

T = TypeVar("T")

STATEMENT_SECONDS = 1.0
LATE = "no answer within 1.25 s"  # a quarter more than the server has
UNBOUNDED_SECONDS = 30.0  # what took so long on a busy machine was not ended by a bound of ours


@pytest.fixture
def url(databases: Databases) -> str:
    def fill(url: str) -> None:
        migrate(Secret(url), ManualClock())
        TableSource(url).close()

    return databases.like("ledger_with_pages", fill)


@pytest.fixture
def rows(url: str) -> Iterator[TableSource]:
    source = TableSource(url)
    yield source
    source.close()


@pytest.fixture
def wire(postgres: EmbeddedPostgres) -> Iterator[Wire]:
    """What no bound of ours has ended is ended here, with other words."""
    with Wire(postgres.port) as wire:
        end = threading.Timer(UNBOUNDED_SECONDS, wire.mend)
        end.start()
        yield wire
        end.cancel()
        end.join()


def through(wire: Wire, url: str) -> Secret:
    return Secret(re.sub(r":\d+/", f":{wire.port}/", url))


def savepoint(tx: psycopg.Connection[Any]) -> AbstractContextManager[object]:
    return tx.transaction(force_rollback=True)


def again(call: Callable[[], T]) -> T:
    """As a sweep asks: mending, the wire resets what was connected meanwhile."""
    for _ in range(10):
        with suppress(LedgerUnavailable):
            return call()
    return call()


def is_commit(turn: Turn) -> bool:
    return b"COMMIT\0" in turn.data  # and not READ COMMITTED


def pointing_ids(url: str) -> list[str]:
    with psycopg.connect(url) as hands:
        found = hands.execute("select id from pages where hot_path is not null").fetchall()
    return [id_ for (id_,) in found]


def new_ledger(url: Secret, **settings: object) -> PostgresLedger:
    changed = {
        "lease_seconds": 60.0,
        "connect_timeout_seconds": 2,
        "statement_timeout_seconds": STATEMENT_SECONDS,
        "release_grace_seconds": 0.0,
        **settings,
    }
    return PostgresLedger(LedgerSettings(url=url, **changed), SystemClock())  # type: ignore[arg-type]


@pytest.fixture
def ledger(url: str, wire: Wire) -> Iterator[PostgresLedger]:
    with new_ledger(through(wire, url)) as ledger:
        ledger.fleet.join()
        yield ledger
        wire.mend()


@pytest.mark.parametrize("how", [How.STALL, How.DEAF, How.SLOW, How.HALF_OPEN])
def test_an_answer_that_does_not_come_is_given_up(
    ledger: PostgresLedger, wire: Wire, how: How
) -> None:
    began_at = time.monotonic()
    wire.fail(how)

    with pytest.raises(LedgerUnavailable, match=LATE):
        ledger.fleet.workers()

    assert time.monotonic() - began_at < UNBOUNDED_SECONDS
    wire.mend()
    assert len(again(ledger.fleet.workers)) == 1


@pytest.mark.parametrize("how", How)
def test_a_network_that_fails_between_two_statements_commits_nothing(
    ledger: PostgresLedger, wire: Wire, url: str, rows: TableSource, how: How
) -> None:
    rows.plant(page("a"))
    claims = ledger.claims(rows)
    receipts = [proof(claim) for claim in claims.claim(9).claims]
    fired = wire.at(is_commit, lambda: wire.fail(how), is_drop=True)

    with pytest.raises(LedgerUnavailable):
        claims.record(receipts)

    assert fired.wait(UNBOUNDED_SECONDS)
    assert pointing_ids(url) == ["a"]
    wire.mend()
    assert again(lambda: claims.record(receipts)) == [Answer.ACCEPTED]
    assert pointing_ids(url) == []


@pytest.mark.parametrize("how", [How.CUT, How.DEAF, How.HALF_OPEN, How.REFUSED])
def test_a_commit_whose_reply_the_network_lost_is_settled_by_asking_again(
    ledger: PostgresLedger, wire: Wire, url: str, rows: TableSource, how: How
) -> None:
    rows.plant(page("a"))
    claims = ledger.claims(rows)
    receipts = [proof(claim) for claim in claims.claim(9).claims]
    fired = wire.at(is_commit, lambda: wire.fail(how), is_answered=True)

    with pytest.raises(LedgerUnavailable):
        claims.record(receipts)

    assert fired.wait(UNBOUNDED_SECONDS)
    assert pointing_ids(url) == []  # it took effect
    wire.mend()
    assert again(lambda: claims.record(receipts)) == [Answer.ACCEPTED]
    with psycopg.connect(url) as hands:
        assert hands.execute("select count(*) from archiver.receipt").fetchone() == (1,)


def test_a_claim_whose_reply_the_network_lost_is_had_again(
    ledger: PostgresLedger, wire: Wire, rows: TableSource
) -> None:
    rows.plant(page("a"))
    claims = ledger.claims(rows)
    fired = wire.at(is_commit, lambda: wire.fail(How.CUT), is_answered=True)
    with pytest.raises(LedgerUnavailable):
        claims.claim(9)

    assert fired.wait(UNBOUNDED_SECONDS)
    assert [it.candidate.id for it in again(lambda: claims.claim(9)).claims] == ["a"]


def test_connections_that_went_silent_together_cost_one_wait(
    ledger: PostgresLedger, wire: Wire
) -> None:
    """As behind a gateway that forgot them: else each of them would keep one beat waiting."""
    pool = ledger.fleet._database._pool
    idle = [pool.getconn() for _ in range(4)]
    for connection in idle:
        pool.putconn(connection)
    wire.fail(How.HALF_OPEN)

    with pytest.raises(LedgerUnavailable, match=LATE):
        ledger.fleet.workers()

    for _ in range(4):
        assert len(ledger.fleet.workers()) == 1


def test_a_peer_that_is_gone_without_a_word_is_noticed_by_the_kernel(
    url: str, wire: Wire
) -> None:
    """Long before the bound of a statement: nothing that is sent is acknowledged."""
    secret = Secret(f"{through(wire, url).reveal()}?tcp_user_timeout=500")
    with new_ledger(secret, statement_timeout_seconds=600.0) as ledger:
        ledger.fleet.join()
        wire.fail(How.HALF_OPEN)

        with pytest.raises(LedgerUnavailable) as told:
            ledger.fleet.workers()

        assert "no answer within" not in str(told.value)
        assert len(ledger.fleet.workers()) == 1


@pytest.mark.parametrize("how", [How.STALL, How.DEAF, How.SLOW, How.REFUSED])
def test_a_database_that_cannot_be_reached_is_said_to_be_so(
    url: str, wire: Wire, how: How
) -> None:
    wire.fail(how)
    began_at = time.monotonic()

    with pytest.raises(LedgerUnavailable), new_ledger(through(wire, url)):
        pass
    with pytest.raises(LedgerUnavailable):
        find_pulse(through(wire, url), "host", SystemClock())

    assert time.monotonic() - began_at < UNBOUNDED_SECONDS


def test_a_name_that_does_not_resolve_is_said(url: str) -> None:
    secret = Secret(re.sub(r"@[^/]+/", "@postgres.invalid/", url))
    with pytest.raises(LedgerUnavailable, match=r"postgres\.invalid"), new_ledger(secret):
        pass


def test_who_says_nothing_in_a_transaction_keeps_its_locks_from_nobody(
    url: str, rows: TableSource
) -> None:
    """Its machine is gone, say: TCP would tell the server after hours."""
    rows.plant(page("a"))
    gone = new_ledger(Secret(url), lease_seconds=1.0)
    with gone, new_ledger(Secret(url), statement_timeout_seconds=60.0) as other:
        gone.fleet.join()
        other.fleet.join()
        began_at = time.monotonic()
        with suppress(LedgerUnavailable), gone._database.transaction("claim") as tx:
            tx.execute(
                "select pg_advisory_xact_lock(hashtextextended('archiver ' || %s, 0))",
                [rows.name],
            )
            claimed = other.claims(rows).claim(9).claims

        assert [it.candidate.id for it in claimed] == ["a"]
        assert time.monotonic() - began_at < UNBOUNDED_SECONDS


@pytest.mark.parametrize("undone", [rolled_back, savepoint])
def test_a_transaction_whose_connection_is_lost_unseen_is_not_taken_for_committed(
    ledger: PostgresLedger, wire: Wire, undone: Undone
) -> None:
    """Psycopg passes over a rollback that fails, and over all that would follow."""
    with pytest.raises(LedgerUnavailable, match="before the transaction was committed"):
        _lose_unseen(ledger, wire, undone)


def _lose_unseen(ledger: PostgresLedger, wire: Wire, undone: Undone) -> None:
    with ledger._database.transaction("test") as tx, undone(tx):
        tx.execute("select 1")
        wire.fail(How.CUT)
