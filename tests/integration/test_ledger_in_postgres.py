"""What only the ledger in Postgres can get wrong: connections, roles, statements, replies."""

from __future__ import annotations

import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql

from archiver.errors import (
    LeaseLost,
    LedgerDenied,
    LedgerOutdated,
    LedgerUnavailable,
    SettingsError,
    SourceRefused,
)
from archiver.ledger import schema
from archiver.ledger.migrate import migrate
from archiver.ledger.postgres import LedgerSettings, PostgresLedger
from archiver.ledger.queries import load
from archiver.model import (
    Answer,
    CandidateId,
    ColdPlace,
    Failure,
    Outcome,
    ReleaseEnd,
    Secret,
    SourceName,
)
from tests.contract.ledger_contract import proof
from tests.contract.uploads_contract import PLACE, part, plan
from tests.fakes.clock import ManualClock
from tests.fakes.table_source import TableSource, page

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    from archiver.demo.postgres import EmbeddedPostgres
    from archiver.model import (
        Offer,
        Position,
        Receipt,
        ReceiptId,
        Recorded,
        Release,
        UndoAnswer,
    )
    from tests.harness.postgres import Databases

PASSWORD = "correct-horse-battery"


def new_ledger(url: str, **settings: object) -> PostgresLedger:
    changed = {"release_grace_seconds": 0.0, "connect_timeout_seconds": 2, **settings}
    return PostgresLedger(
        LedgerSettings(url=Secret(url), **changed),  # type: ignore[arg-type]
        ManualClock(),
    )


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
def ledger(url: str) -> Iterator[PostgresLedger]:
    with new_ledger(url) as ledger:
        ledger.fleet.join()
        yield ledger


@pytest.fixture
def hands(url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


# --- connections -----------------------------------------------------------------------------


def test_a_wrong_password_is_said_at_once_and_not_shown(postgres: EmbeddedPostgres) -> None:
    url = postgres.url().replace(postgres.password, PASSWORD)

    with pytest.raises(LedgerDenied) as told, new_ledger(url, connect_timeout_seconds=60):
        pass

    assert "password authentication failed" in str(told.value)
    assert PASSWORD not in _all_that_is_said(told.value)


def test_an_unknown_database_is_denied(postgres: EmbeddedPostgres) -> None:
    with pytest.raises(LedgerDenied), new_ledger(postgres.url("nowhere")):
        pass


def test_a_database_that_does_not_answer_is_unavailable() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # and does not listen
        url = f"postgresql://me:{PASSWORD}@127.0.0.1:{bound.getsockname()[1]}/db"
        with pytest.raises(LedgerUnavailable) as told, new_ledger(url):
            pass

    assert PASSWORD not in _all_that_is_said(told.value)


@pytest.mark.parametrize("url", [f"postgresql://me:{PASSWORD}%zz@host/db", f"{PASSWORD} host"])
def test_a_url_that_cannot_be_read_is_not_quoted(url: str) -> None:
    with pytest.raises(SettingsError) as told:
        new_ledger(url)

    assert PASSWORD not in _all_that_is_said(told.value)


def test_a_password_that_was_changed_meanwhile_is_denied(
    url: str, hands: psycopg.Connection
) -> None:
    with _role(hands, "rotated") as name, new_ledger(_as_role(url, name)) as ledger:
        hands.execute(f"alter role {name} password 'another'")

        with pytest.raises(LedgerDenied):
            ledger.check()


def test_the_ledger_works_again_after_the_database_was_restarted(
    postgres_server: EmbeddedPostgres,
) -> None:
    url = postgres_server.url()
    migrate(Secret(url), ManualClock())
    with new_ledger(url) as ledger:
        ledger.fleet.join()
        postgres_server.stop("immediate")
        with pytest.raises(LedgerUnavailable):
            ledger.fleet.beat()
        with pytest.raises(LedgerUnavailable):
            ledger.fleet.beat()
        postgres_server.start()

        ledger.fleet.beat()


def test_what_was_committed_survives_a_crash_of_a_lazy_database(
    postgres_server: EmbeddedPostgres,
) -> None:
    """Its own default are commits that do not wait for the disk, which is written to late."""
    url = postgres_server.url()
    migrate(Secret(url), ManualClock())
    with psycopg.connect(url, autocommit=True) as hands:
        hands.execute("alter system set wal_writer_delay = '10s'")
        hands.execute("alter system set synchronous_commit = off")
        hands.execute("checkpoint")
    postgres_server.stop()
    postgres_server.start()
    with new_ledger(url) as ledger:
        worker = ledger.fleet.join().worker
        postgres_server.stop("immediate")
    postgres_server.start()

    with new_ledger(url) as ledger:
        assert [it.worker for it in ledger.fleet.workers()] == [worker]


def test_a_connection_that_the_server_ends_is_replaced(
    ledger: PostgresLedger, hands: psycopg.Connection
) -> None:
    hands.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity "
        "where application_name = 'archiver'"
    )

    with pytest.raises(LedgerUnavailable):
        ledger.fleet.beat()
    ledger.fleet.beat()


# --- the shape of the database ---------------------------------------------------------------


def test_a_database_without_the_ledger_is_outdated(postgres_url: str) -> None:
    with new_ledger(postgres_url) as ledger:
        with pytest.raises(LedgerOutdated, match=r"no tables.*archiver migrate"):
            ledger.check()
        with pytest.raises(LedgerOutdated):
            ledger.fleet.join()


def test_a_ledger_one_step_newer_serves_and_two_steps_do_not(
    ledger: PostgresLedger, hands: psycopg.Connection
) -> None:
    ledger.check()
    newest = schema.migrations()[-1].version
    add = "insert into archiver.schema_version (version, name) values (%s, 'x')"
    hands.execute(add, (newest + 1,))
    ledger.check()
    hands.execute(add, (newest + 2,))

    with pytest.raises(LedgerOutdated, match="too old"):
        ledger.check()


def test_the_worker_needs_no_right_to_change_receipts_or_outcomes(
    url: str, hands: psycopg.Connection, rows: TableSource
) -> None:
    rows.plant(page("a"), page("b"), page("bad", path=None))
    with _role(hands, "least") as name:
        hands.execute(f"""
            grant usage on schema archiver to {name};
            grant usage on sequence archiver.fencing_number to {name};
            grant select on all tables in schema archiver to {name};
            grant insert on archiver.place, archiver.receipt, archiver.outcome to {name};
            grant insert, update, delete
                on archiver.worker, archiver.probe, archiver.claim, archiver.release,
                   archiver.upload, archiver.upload_part to {name};
            grant select, update on pages to {name};
        """)
        with new_ledger(_as_role(url, name)) as ledger:
            ledger.check()
            _whole_life(ledger, rows)
            with pytest.raises(LedgerDenied):
                ledger.claims(rows).housekeeping(everything=True)


def _whole_life(ledger: PostgresLedger, rows: TableSource) -> None:
    ledger.fleet.join()
    claims, releases = ledger.claims(rows), ledger.releases(rows)
    claims.begin()
    one, two = claims.claim(9).claims
    claims.fail([Failure(two, "no", is_permanent=True)])
    assert claims.record([proof(one)]) == [Answer.ACCEPTED]
    ends = [ReleaseEnd(it, Outcome.RELEASED) for it in releases.claim_release(9)]
    releases.released(ends)
    assert len(ends) == ledger.records.counts()[0].released_count == 1
    assert ledger.records.retry(None, None) == 2
    _send_in_parts(ledger)
    ledger.fleet.beat()
    ledger.fleet.leave()


def _send_in_parts(ledger: PostgresLedger) -> None:
    uploads = ledger.uploads
    uploads.take(plan(origin="older"))
    taken = uploads.take(plan())
    uploads.forget(*taken.stale)
    upload = uploads.begun(taken.upload, "id-1")
    uploads.save_part(upload, part(1))
    uploads.require(upload)
    uploads.give_back(upload)
    assert uploads.expired(PLACE, 9) == []
    assert ledger.records.count_uploads().open_count == 1


# --- replies that got lost -------------------------------------------------------------------


def test_what_a_lost_reply_claimed_is_claimed_again(
    ledger: PostgresLedger, rows: TableSource
) -> None:
    """The transaction went through, but this process heard nothing of it."""
    rows.plant(page("a"), page("b"))
    claims = ledger.claims(rows)
    [known] = claims.claim(1).claims
    with lost_replies(ledger):
        with pytest.raises(LedgerUnavailable):
            claims.claim(9)
        with pytest.raises(LedgerUnavailable):
            claims.claim(9)

    [claim] = claims.claim(9).claims

    assert (known.candidate.id, claim.candidate.id, claim.crashes_count) == ("a", "b", 0)
    assert claims.claim(9).is_drained
    assert claims.record([proof(known), proof(claim)]) == [Answer.ACCEPTED] * 2


def test_what_a_lost_reply_claimed_to_release_is_claimed_again(
    ledger: PostgresLedger, rows: TableSource
) -> None:
    rows.plant(page("a"))
    claims, releases = ledger.claims(rows), ledger.releases(rows)
    claims.record([proof(claim) for claim in claims.claim(9).claims])
    with lost_replies(ledger), pytest.raises(LedgerUnavailable):
        releases.claim_release(9)

    assert len(releases.claim_release(9)) == 1
    assert releases.claim_release(9) == []


def test_a_lost_reply_to_record_is_settled_by_asking_again(
    ledger: PostgresLedger, rows: TableSource
) -> None:
    rows.plant(page("a"))
    claims = ledger.claims(rows)
    receipts = [proof(claim) for claim in claims.claim(9).claims]
    with lost_replies(ledger), pytest.raises(LedgerUnavailable):
        claims.record(receipts)

    assert claims.record(receipts) == [Answer.ACCEPTED]
    assert ledger.records.counts()[0].archived_count == 1


def test_only_the_flip_is_short_of_patience(
    ledger: PostgresLedger, rows: TableSource, hands: psycopg.Connection
) -> None:
    """The receipt may have to wait for another worker's, which began the same place."""
    hands.execute(
        """
        create table patience (lock_timeout text);
        create function note_patience() returns trigger language plpgsql as $$
        begin
            insert into patience values (current_setting('lock_timeout'));
            return null;
        end $$;
        create trigger note_patience before insert on archiver.place
        for each statement execute function note_patience()
        """
    )
    rows.plant(page("a"))
    claims = ledger.claims(rows)

    claims.record([proof(claim) for claim in claims.claim(9).claims])

    default = hands.execute("show lock_timeout").fetchall()
    assert hands.execute("select lock_timeout from patience").fetchall() == default


# --- fences ----------------------------------------------------------------------------------


def test_a_raised_epoch_disarms_every_worker(
    ledger: PostgresLedger, rows: TableSource, hands: psycopg.Connection
) -> None:
    rows.plant(page("a"), page("b"))
    claims, releases = ledger.claims(rows), ledger.releases(rows)
    first, second = (proof(claim) for claim in claims.claim(9).claims)
    claims.record([first])
    [release] = releases.claim_release(9)
    hands.execute("update archiver.fleet set epoch = epoch + 1")

    with pytest.raises(LeaseLost):
        claims.record([second])
    with pytest.raises(LeaseLost):
        ledger.fleet.beat()
    with pytest.raises(LeaseLost):
        claims.claim(1)
    releases.released([ReleaseEnd(release, Outcome.RELEASED)])

    assert rows.row("b").hot_path is not None
    [counts] = ledger.records.counts()
    assert (counts.released_count, counts.pending_release_count) == (0, 1)


def test_workers_that_left_are_forgotten_after_an_hour(
    ledger: PostgresLedger, hands: psycopg.Connection
) -> None:
    ledger.fleet.leave()
    ledger.fleet.join()
    count = "select count(*) from archiver.worker"
    assert hands.execute(count.encode()).fetchone() == (2,)
    hands.execute("update archiver.worker set left_at = left_at - interval '2 hours'")
    ledger.fleet.leave()
    ledger.fleet.join()

    assert hands.execute(count.encode()).fetchone() == (2,)


def test_dead_workers_are_forgotten_after_a_week_unless_they_hold_something(
    ledger: PostgresLedger, rows: TableSource, url: str, hands: psycopg.Connection
) -> None:
    rows.plant(page("a"))
    ledger.claims(rows).claim(9)
    with new_ledger(url) as idle:
        idle.fleet.join()
        hands.execute("update archiver.worker set lease_until = now() - interval '8 days'")
        newest = idle.fleet.join().worker

        listed = [(it.worker, it.claims_count) for it in idle.fleet.workers()]

    assert listed == [(newest, 0), (ledger.fleet.worker, 1)]


def test_only_one_worker_at_a_time_reads_the_order_of_a_source(
    url: str, rows: TableSource, hands: psycopg.Connection
) -> None:
    rows.plant(page("a"))
    with new_ledger(url, statement_timeout_seconds=0.2) as ledger:
        ledger.fleet.join()
        claims = ledger.claims(rows)
        with hands.transaction():
            hands.execute(load("claims.sql")["lock_source"], {"source": "pages"})
            with pytest.raises(LedgerUnavailable):
                claims.claim(1)
            with pytest.raises(LedgerUnavailable):
                claims.begin()
            claims.outlook()  # waits for nobody

        assert len(claims.claim(1).claims) == 1


def test_a_row_archived_while_the_order_is_read_is_not_claimed_again(
    ledger: PostgresLedger, rows: TableSource, url: str
) -> None:
    """The candidates are read before the other worker's commit, the claims after it."""
    rows.plant(page("a", minutes=1), page("b", minutes=2))
    [moving] = ledger.claims(rows).claim(1).claims

    class Overtaken(TableSource):
        def find_candidates(
            self, limit: int, after: Position | None, tx: psycopg.Connection[Any]
        ) -> Sequence[Offer]:
            found = super().find_candidates(limit, after, tx)
            ledger.claims(rows).record([proof(moving)])
            return found

    overtaken = Overtaken(url)
    with closing(overtaken), new_ledger(url) as other:
        other.fleet.join()
        window = other.claims(overtaken).claim(9)

    assert rows.row("a").hot_path is None
    assert [claim.candidate.id for claim in window.claims] == ["b"]


# --- statements ------------------------------------------------------------------------------


def test_recording_takes_as_many_statements_for_ten_rows_as_for_a_hundred(
    url: str, rows: TableSource, tmp_path: Path
) -> None:
    rows.plant(*(page(f"{number:03}") for number in range(110)))
    with new_ledger(url, max_connections=1) as ledger:
        ledger.fleet.join()
        claims = ledger.claims(rows)
        receipts = [proof(claim) for claim in claims.claim(110).claims]
        assert len(receipts) == 110

        few = _statements_count(ledger, tmp_path / "few", receipts[:10], rows)
        many = _statements_count(ledger, tmp_path / "many", receipts[10:], rows)

    assert few == many < 15


def test_failing_takes_as_many_statements_for_ten_claims_as_for_a_hundred(
    url: str, rows: TableSource, tmp_path: Path
) -> None:
    rows.plant(*(page(f"{number:03}") for number in range(110)))
    with new_ledger(url, max_connections=1) as ledger:
        ledger.fleet.join()
        claims = ledger.claims(rows)
        failures = [
            Failure(claim, "no", is_permanent=number % 2 == 0)
            for number, claim in enumerate(claims.claim(110).claims)
        ]
        with _traced(ledger, tmp_path / "few"):
            claims.fail(failures[:10])
        with _traced(ledger, tmp_path / "many"):
            claims.fail(failures[10:])

    assert _sent(tmp_path / "few") == _sent(tmp_path / "many") > 0


def test_what_many_receipts_have_in_common_is_kept_once(
    ledger: PostgresLedger, rows: TableSource, hands: psycopg.Connection
) -> None:
    rows.plant(page("a"), page("b"), page("c", path="legacy/c.gz"))
    claims = ledger.claims(rows)
    for claim in claims.claim(9).claims:
        claims.record([proof(claim)])

    places = hands.execute("select prefix, hot_bucket from archiver.place").fetchall()
    paths = hands.execute("select hot_path from archiver.receipt order by id").fetchall()

    assert places == [("prefix/", "pages")]
    assert paths == [(None,), (None,), ("legacy/c.gz",)]


def test_a_run_of_held_rows_does_not_use_up_the_patience_for_the_others(
    url: str, rows: TableSource
) -> None:
    rows.plant(*(page(f"{number:03}") for number in range(200)))
    with new_ledger(url, busy_wait_seconds=0.001) as ledger:
        ledger.fleet.join()
        claims = ledger.claims(rows)
        receipts = [proof(claim) for claim in claims.claim(200).claims]
        with rows.hold(*(f"{number:03}" for number in range(100))):
            answers = claims.record(receipts)

        assert answers == [Answer.BUSY] * 100 + [Answer.ACCEPTED] * 100
        assert len(rows.flip_sizes) < 100


# --- sources that fail -----------------------------------------------------------------------


def test_a_column_that_is_gone_is_the_sources_fault_and_parks_nothing(
    ledger: PostgresLedger, rows: TableSource, hands: psycopg.Connection
) -> None:
    rows.plant(page("a"), page("b"))
    claims = ledger.claims(rows)
    receipts = [proof(claim) for claim in claims.claim(9).claims]
    hands.execute("alter table pages rename column cold_key to archive_key")

    with pytest.raises(SourceRefused, match="cold_key"):
        claims.record(receipts)
    hands.execute("alter table pages rename column due_at to moment")
    with pytest.raises(SourceRefused, match="due_at"):
        claims.claim(9)

    assert ledger.records.parked(None, 9) == []


@pytest.mark.parametrize(
    "statement",
    [
        "select 'many'::integer",
        "select 1 / 0",
        "do $$ begin raise exception 'not on a Sunday'; end $$",
    ],
)
def test_a_row_that_housekeeping_cannot_take_is_the_sources_fault(
    url: str, ledger: PostgresLedger, statement: str
) -> None:
    class Untidy(TableSource):
        def housekeeping(self, tx: Any, *, everything: bool) -> dict[str, int]:
            del everything
            tx.execute(statement)
            return {}

    with closing(Untidy(url)) as untidy:
        claims = ledger.claims(untidy)
        with pytest.raises(SourceRefused, match="housekeeping: "):
            claims.housekeeping(everything=True)


def test_what_a_trigger_comes_upon_is_the_rows_affair(
    ledger: PostgresLedger, rows: TableSource, hands: psycopg.Connection
) -> None:
    hands.execute("""
        create or replace function refuse() returns trigger language plpgsql as $$
        begin
            if new.id = 'b' then insert into missing_table values (1); end if;
            return new;
        end $$
    """)
    rows.plant(page("a"), page("b"))
    claims = ledger.claims(rows)

    answers = claims.record([proof(claim) for claim in claims.claim(9).claims])

    assert answers == [Answer.ACCEPTED, Answer.REFUSED]
    [parked] = ledger.records.parked(None, 9)
    assert "missing_table" in parked.reason


def test_a_parked_reason_does_not_quote_the_row(
    ledger: PostgresLedger, rows: TableSource, hands: psycopg.Connection
) -> None:
    hands.execute("alter table pages add constraint short check (length(cold_key) < 3)")
    rows.plant(page("secret-of-the-row"))
    claims = ledger.claims(rows)
    claims.record([proof(claim) for claim in claims.claim(9).claims])

    [parked] = ledger.records.parked(None, 9)

    assert "violates check constraint" in parked.reason
    assert "secret-of-the-row" not in parked.reason


def test_a_reason_with_a_nul_byte_is_kept_without_it(
    ledger: PostgresLedger, rows: TableSource
) -> None:
    rows.plant(page("a"))
    claims = ledger.claims(rows)
    claims.fail([Failure(claims.claim(1).claims[0], "no\0pe", is_permanent=True)])

    [history] = ledger.records.history(CandidateId("a"), None)

    assert history.claim_reason == "nope"


# --- helpers ---------------------------------------------------------------------------------


def _all_that_is_said(error: BaseException) -> str:
    """The error and all errors that a traceback would show with it."""
    said = []
    shown: BaseException | None = error
    while shown is not None:
        said.append(f"{shown!r} {shown}")
        shown = shown.__cause__ or (None if shown.__suppress_context__ else shown.__context__)
    return "\n".join(said)


@contextmanager
def _role(hands: psycopg.Connection, name: str) -> Iterator[str]:
    """A role of the whole server, gone afterwards with all it was granted here."""
    hands.execute(f"create role {name} login password '{PASSWORD}'")
    try:
        yield name
    finally:
        hands.execute(f"drop owned by {name}")
        hands.execute(sql.SQL("drop role {}").format(sql.Identifier(name)))


def _as_role(url: str, name: str) -> str:
    return re.sub(r"//[^@]*@", f"//{name}:{PASSWORD}@", url)


@contextmanager
def lost_replies(ledger: PostgresLedger) -> Iterator[None]:
    """Every transaction commits, and then its connection is found to be dead."""
    transaction = ledger._database.transaction

    @contextmanager
    def deaf(operation: str, **options: float) -> Iterator[psycopg.Connection]:
        with transaction(operation, **options) as tx:
            yield tx
        raise LedgerUnavailable(operation=operation, message="the reply got lost")

    ledger._database.transaction = deaf  # type: ignore[assignment,method-assign]
    try:
        yield
    finally:
        ledger._database.transaction = transaction  # type: ignore[method-assign]


def _statements_count(
    ledger: PostgresLedger, trace: Path, receipts: Sequence[Receipt], rows: TableSource
) -> int:
    with _traced(ledger, trace):
        answers = ledger.claims(rows).record(receipts)
    assert set(answers) == {Answer.ACCEPTED}
    return _sent(trace)


@contextmanager
def _traced(ledger: PostgresLedger, trace: Path) -> Iterator[None]:
    """Have libpq write down what it sends over the pool's only connection."""
    with trace.open("wb") as file:
        with ledger._database._pool.connection() as connection:
            connection.pgconn.trace(file.fileno())
        yield
        with ledger._database._pool.connection() as connection:
            connection.pgconn.untrace()


def _sent(trace: Path) -> int:
    """How many statements, by the simple and by the extended protocol."""
    return len(re.findall(rb"\tF\t\d+\t(?:Query|Execute)", trace.read_bytes()))


# --- which database it is --------------------------------------------------------------------


@pytest.mark.parametrize(
    "refusal",
    [
        "insufficient_privilege",
        "feature_not_supported",
        "object_not_in_prerequisite_state",
    ],
)
def test_a_server_that_does_not_tell_who_it_is_is_known_by_its_name_alone(
    url: str, hands: psycopg.Connection, refusal: str
) -> None:
    """As hosted ones refuse such functions."""
    hands.execute(
        f"""
        alter function pg_catalog.pg_control_system() rename to the_real_one;
        create function pg_catalog.pg_control_system(
            out pg_control_version integer, out catalog_version_no integer,
            out system_identifier bigint, out pg_control_last_modified timestamptz
        ) language plpgsql as $$
        begin raise {refusal} using message = 'not here'; end $$
        """
    )

    with new_ledger(url) as ledger:
        identity = ledger.fleet.identity()
        ledger.fleet.join()

    assert identity.found_in.system_identifier is None
    assert identity.home.system_identifier is not None
    assert identity.is_at_home


def test_a_stamp_of_the_future_does_not_keep_the_next_one_back(
    ledger: PostgresLedger, hands: psycopg.Connection
) -> None:
    """The clock was a year ahead, and was put right."""
    stamps, place = ledger.stamps(SourceName("pages")), ColdPlace("file", "cold", "")
    first = stamps.intend(place)
    assert first is not None
    stamps.confirm(place, first)
    assert stamps.intend(place) is None
    hands.execute("update archiver.stamp set confirmed_at = now() + interval '1 year'")

    second = stamps.intend(place)

    assert second is not None
    assert second.number == first.number + 1


def test_while_a_row_is_pointed_back_no_release_of_its_object_is_claimed(
    ledger: PostgresLedger, rows: TableSource, url: str, hands: psycopg.Connection
) -> None:
    """Another row's release would delete the very object: its lock alone is not in the way."""
    rows.plant(page("a"), page("twin", path="jobs/a.html.gz", minutes=1))
    claims = ledger.claims(rows)
    claims.record([proof(claim) for claim in claims.claim(9).claims])
    (entry,) = ledger.records.newest_entries_of([CandidateId("a")], None)
    with new_ledger(url) as other, ThreadPoolExecutor(1) as threads:
        other.fleet.join()
        claiming: list[Future[Sequence[Release]]] = []

        def look(_recorded: Sequence[Recorded]) -> dict[ReceiptId, UndoAnswer]:
            """Within the undo's transaction, another worker asks for what is due."""
            claiming.append(threads.submit(other.releases(rows).claim_release, 9))
            waits_until(lambda: claiming[0].done() or _waits_for_a_lock(hands))
            return {}

        ledger.releases(rows).undo([entry.recorded], 100.0, look)
        claimed = claiming[0].result(timeout=30)

    assert rows.row("a").hot_path == "jobs/a.html.gz"
    assert [] == claimed


def _waits_for_a_lock(hands: psycopg.Connection) -> bool:
    found = hands.execute(
        "select from pg_locks where locktype = 'advisory' and not granted"
    ).fetchall()
    return bool(found)


def waits_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)
