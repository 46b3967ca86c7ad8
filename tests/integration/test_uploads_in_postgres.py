"""What only a record of uploads in Postgres can get wrong: replies, locks, plans, roles."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from archiver.errors import LedgerUnavailable, UploadBusy
from archiver.ledger.migrate import migrate
from archiver.ledger.queries import load
from archiver.model import Capabilities, Secret, UploadCounts
from tests.contract.uploads_contract import PLACE, part, plan
from tests.fakes.clock import ManualClock
from tests.integration.test_ledger_in_postgres import lost_replies, new_ledger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

    from archiver.demo.postgres import EmbeddedPostgres
    from archiver.ledger.postgres import PostgresLedger
    from archiver.model import Upload
    from tests.harness.postgres import Databases

SEEN = Capabilities(
    enforces_signed_digest=True,
    enforces_create=True,
    returns_digest=False,
    enforces_signed_parts=True,
    keeps_refused_parts=True,
)
PILE = """
insert into archiver.worker (epoch, lease_until, host, pid, version)
select 1, now() + n * interval '1 minute', 'host', n, '1' from generate_series(1, 5) n;
insert into archiver.upload (provider, cold_bucket, cold_key, origin, size_bytes, part_bytes,
    source, id, is_current, epoch, worker_id, number, expires_at)
select 'r2', 'cold', 'jobs/' || n, 'origin', 1, 1, 'files', 'id-' || n, n % 100 > 0,
       1, 1 + n % 5, n, now() + n * interval '1 second'
from generate_series(1, 20000) n;
insert into archiver.upload_part (upload_no, number, size_bytes, digest, etag)
select upload_no, n, 1, sha256('x'), 'e' from archiver.upload, generate_series(1, 5) n;
analyze;
"""
MINE: dict[str, object] = {"upload_no": 7, "epoch": 1, "worker_id": 3, "number": 7}
PLAN = {
    "provider": "r2",
    "cold_bucket": "cold",
    "cold_key": "jobs/7",
    "origin": "newer",
    "size_bytes": 1,
    "part_bytes": 1,
    "source": "files",
    "id": "id-8",
    "worker_id": 3,
    "expiry_seconds": 60.0,
}
HOT: dict[str, dict[str, object]] = {
    "set_aside": PLAN,
    "take": PLAN,
    "list_parts": {"upload_nos": [7, 8]},
    "begin": {**MINE, "upload_id": "id"},
    "save_part": {
        **MINE,
        "upload_id": "id",
        "part_number": 1,
        "size_bytes": 1,
        "digest": bytes(32),
        "etag": "e",
        "expiry_seconds": 60.0,
    },
    "find_mine": MINE,
    "forget": MINE,
    "give_back": MINE,
}


@pytest.fixture
def url(databases: Databases) -> str:
    return databases.like("ledger_alone", _migrated)


@pytest.fixture
def ledger(url: str) -> Iterator[PostgresLedger]:
    with new_ledger(url) as ledger:
        ledger.fleet.join()
        yield ledger


@pytest.fixture
def heir(url: str) -> Iterator[PostgresLedger]:
    """Another worker of the same fleet."""
    with new_ledger(url) as ledger:
        ledger.fleet.join()
        yield ledger


@pytest.fixture
def hands(url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def upload(ledger: PostgresLedger) -> Upload:
    return ledger.uploads.begun(ledger.uploads.take(plan()).upload, "id-1")


# --- replies that got lost -------------------------------------------------------------------


def test_lost_replies_are_settled_by_asking_again(ledger: PostgresLedger) -> None:
    uploads = ledger.uploads
    with lost_replies(ledger):
        _unheard(lambda: uploads.take(plan()))
    upload = uploads.take(plan()).upload
    with lost_replies(ledger):
        _unheard(lambda: uploads.begun(upload, "id-1"))
    begun = uploads.begun(upload, "id-1")
    with lost_replies(ledger):
        _unheard(lambda: uploads.save_part(begun, part(1)))
    uploads.save_part(begun, part(1))
    assert uploads.take(plan()).upload.parts == (part(1),)
    last = uploads.take(plan()).upload
    with lost_replies(ledger):
        _unheard(lambda: uploads.forget(last))
    uploads.forget(last)

    assert uploads.uploads() == []


def test_what_a_lost_reply_gave_to_be_aborted_is_given_again(
    ledger: PostgresLedger, hands: psycopg.Connection
) -> None:
    """Else it were ours until this worker ends, and nobody would know."""
    upload = ledger.uploads.take(plan()).upload
    ledger.uploads.give_back(upload)
    hands.execute("update archiver.upload set expires_at = now()")
    with lost_replies(ledger):
        _unheard(lambda: ledger.uploads.expired(PLACE, 9))

    assert [it.number for it in ledger.uploads.expired(PLACE, 9)] == [upload.number]
    assert ledger.uploads.expired(PLACE, 9) == []


def test_what_a_lost_reply_set_aside_is_told_again(ledger: PostgresLedger) -> None:
    old = ledger.uploads.take(plan()).upload
    with lost_replies(ledger):
        _unheard(lambda: ledger.uploads.take(plan(origin="newer")))

    assert [it.number for it in ledger.uploads.take(plan(origin="newer")).stale] == [old.number]


# --- locks -----------------------------------------------------------------------------------


def test_a_take_over_waits_for_a_part_that_is_being_saved(
    ledger: PostgresLedger, heir: PostgresLedger, hands: psycopg.Connection, upload: Upload
) -> None:
    """Its owner may lose the lease between the statement and its commit."""
    with ledger._database.transaction("late") as tx, ThreadPoolExecutor(1) as thread:
        tx.execute(load("uploads.sql")["save_part"], {**_of(upload), **_saved(7)})
        _end_lease(hands, upload)
        taking = thread.submit(heir.uploads.take, plan())
        _wait_for_a_lock(hands, taking)
        tx.execute("commit")
        tx.execute("begin")
        taken = taking.result(30)

    assert [it.number for it in taken.upload.parts] == [7]


def test_a_part_that_waits_for_a_take_over_is_not_saved(
    ledger: PostgresLedger, heir: PostgresLedger, hands: psycopg.Connection, upload: Upload
) -> None:
    """The token is compared with the row as it is when the lock is free, not as it was."""
    with hands.transaction(), ThreadPoolExecutor(1) as thread:
        hands.execute(
            "update archiver.upload set worker_id = %s, number = number + 1",
            [heir.fleet.worker],
        )
        saving = thread.submit(ledger.uploads.save_part, upload, part(1))
        with psycopg.connect(hands.info.dsn, password=hands.info.password) as onlooker:
            onlooker.autocommit = True
            _wait_for_a_lock(onlooker, saving)
        hands.execute("commit")
        hands.execute("begin")
        with pytest.raises(UploadBusy):
            saving.result(30)

    assert ledger.uploads.uploads()[0].parts == ()


def test_expiring_does_not_wait_for_what_somebody_is_taking(
    heir: PostgresLedger, hands: psycopg.Connection, upload: Upload
) -> None:
    _end_lease(hands, upload)
    hands.execute("update archiver.upload set expires_at = now()")
    with hands.transaction():
        hands.execute("select from archiver.upload for update")

        assert heir.uploads.expired(PLACE, 9) == []


# --- what stays ------------------------------------------------------------------------------


def test_an_acknowledged_part_survives_a_crash_of_a_lazy_database(
    postgres_server: EmbeddedPostgres,
) -> None:
    """Its own default are commits that do not wait for the disk, which is written to late."""
    url = postgres_server.url()
    _migrated(url)
    with psycopg.connect(url, autocommit=True) as hands:
        hands.execute("alter system set wal_writer_delay = '10s'")
        hands.execute("alter system set synchronous_commit = off")
        hands.execute("checkpoint")
    postgres_server.stop()
    postgres_server.start()
    with new_ledger(url) as ledger:
        ledger.fleet.join()
        upload = ledger.uploads.begun(ledger.uploads.take(plan()).upload, "id-1")
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(lambda n: ledger.uploads.save_part(upload, part(n)), range(1, 9)))
        postgres_server.stop("immediate")
    postgres_server.start()

    with new_ledger(url) as ledger:
        [found] = ledger.uploads.uploads()
    assert (found.upload_id, found.parts) == ("id-1", tuple(part(n) for n in range(1, 9)))


# --- what an operator asks -------------------------------------------------------------------


def test_an_operator_counts_uploads(ledger: PostgresLedger, hands: psycopg.Connection) -> None:
    assert ledger.records.count_uploads() == UploadCounts(0, 0)
    for name in "abc":
        ledger.uploads.take(plan(name))
    hands.execute("update archiver.upload set expires_at = now() where cold_key = 'b'")

    assert ledger.records.count_uploads() == UploadCounts(open_count=3, expired_count=1)


def test_a_probe_of_an_earlier_release_counts_as_none(
    ledger: PostgresLedger, hands: psycopg.Connection
) -> None:
    """It says nothing of parts, and "no" would be believed for days."""
    hands.execute(
        "insert into archiver.probe (name, enforces_signed_digest, enforces_create, "
        "returns_digest, etag_is_md5, probed_at) values ('r2', true, true, true, true, now())"
    )
    assert ledger.fleet.recall("r2") is None

    ledger.fleet.remember("r2", SEEN)

    assert ledger.fleet.recall("r2") == SEEN


@pytest.mark.parametrize("name", HOT)
def test_a_hot_query_scans_no_table_that_grows(databases: Databases, name: str) -> None:
    def fill(url: str) -> None:
        _migrated(url)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(PILE.encode())

    with psycopg.connect(databases.like("uploads_pile", fill)) as pile:
        query = b"explain " + load("uploads.sql")[name]
        plan = "\n".join(row[0] for row in pile.execute(query, HOT[name]).fetchall())

    assert "Seq Scan on upload" not in plan, plan


# --- helpers ---------------------------------------------------------------------------------


def _migrated(url: str) -> None:
    migrate(Secret(url), ManualClock())


def _of(upload: Upload) -> dict[str, object]:
    token = upload.token
    which = {"upload_no": upload.number, "epoch": token.epoch, "worker_id": token.worker}
    return {**which, "number": token.number, "upload_id": upload.upload_id}


def _saved(number: int) -> dict[str, object]:
    saved = part(number)
    told = {"part_number": number, "size_bytes": saved.size_bytes, "etag": saved.etag}
    return {**told, "digest": saved.digest.raw, "expiry_seconds": 60.0}


def _end_lease(hands: psycopg.Connection, upload: Upload) -> None:
    hands.execute(
        "update archiver.worker set lease_until = now() where worker_id = %s",
        [upload.token.worker],
    )


def _wait_for_a_lock(hands: psycopg.Connection, waiting: Future[Any]) -> None:
    deadline = time.monotonic() + 30
    query = "select count(*) from pg_locks where not granted"
    while hands.execute(query).fetchone() == (0,):
        assert not waiting.done(), "it did not wait"
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _unheard(call: Callable[[], object]) -> None:
    with pytest.raises(LedgerUnavailable):
        call()
