"""Hot queries reach their rows by an index, whatever has piled up in the tables."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from archiver.ledger.migrate import migrate
from archiver.ledger.queries import load
from archiver.model import Secret
from archiver.sources.finding import shipped_source_file
from archiver.sources.sections import Sections
from tests.fakes.clock import ManualClock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.harness.hover import Hover
    from tests.harness.postgres import Databases

_PILE = """
insert into archiver.worker (epoch, lease_until, host, pid, version)
select 1, now() + n * interval '1 minute', 'host', n, '1' from generate_series(1, 5) n;

insert into archiver.claim (source, id, state, due_at, hot_bucket, hot_path, cold_key, epoch,
    worker_id, number, reason, parked_at, next_attempt_at)
select 'pages', 'id-' || n, case when n <= 500 then 'claimed' when n <= 20000 then 'waiting'
           else 'parked' end, now(), 'b', 'p' || n, 'k' || n, 1, 1 + n % 5, n, 'missing',
       case when n > 20000 then now() end, now() + n * interval '1 second'
from generate_series(1, 60000) n;

insert into archiver.place (provider, cold_bucket, prefix, hot_bucket)
values ('r2', 'c', '', 'b');
insert into archiver.receipt
    (source, id, epoch, worker_id, number, place_id, cold_key, size_bytes, digest, evidence,
     archived_at)
select 'pages', 'id-' || n, 1, 1, n, 1, 'k' || n, 1, sha256(n::text::bytea), 1,
       timestamptz '2030-01-01Z' + n * interval '1 second'
from generate_series(1, 60000) n;
insert into archiver.release (receipt_id, source, due_at)
select receipt_id, source, now() + receipt_id * interval '1 second' from archiver.receipt;
insert into archiver.outcome (receipt_id, source, outcome)
select receipt_id, source, 'released' from archiver.receipt;
analyze;
"""

_TOKENS = Jsonb([{"id": f"id-{n}", "epoch": 1, "worker_id": 1, "number": n} for n in range(50)])
_ME: dict[str, Any] = {"source": "pages", "epoch": 1, "worker_id": 1, "seen_number": 10**6}
_RECEIPTS: dict[str, Any] = {"receipt_ids": list(range(1, 51))}
_PAGE: dict[str, Any] = {
    "since": "2030-01-01T16:00Z",  # of 60,000 receipts the last 2,400
    "until": "infinity",
    "after_at": "1970-01-01Z",
    "after_id": 0,
    "limit": 1000,
}
_ADOPTIONS = Jsonb(
    [
        {"id": f"id-{n}", "provider": "r2", "cold_bucket": "c", "cold_key": f"k{n}"}
        for n in range(50)
    ]
)
_ADOPT: dict[str, Any] = {
    "source": "pages",
    "adoptions": _ADOPTIONS,
    "unproven": False,
    "epoch": 1,
    "worker_id": 1,
    "read_at": datetime(2026, 1, 1, tzinfo=UTC),
    "margin_seconds": 300.0,
}
_HOT: dict[tuple[str, str], dict[str, Any]] = {
    ("claims.sql", "forget_ended_holds"): {"source": "pages", "limit": 100},
    ("claims.sql", "park_worker_killers"): {"source": "pages", "last_crash": 5},
    ("claims.sql", "take_over"): {**_ME, "alone_at": 5, "is_alone": False, "limit": 100},
    ("claims.sql", "find_moving"): {"source": "pages"},
    ("claims.sql", "find_in_the_way"): {"source": "pages", "offers": _TOKENS},
    ("claims.sql", "lock_mine"): {"source": "pages", "tokens": _TOKENS},
    ("claims.sql", "find_fates"): {"source": "pages", "tokens": _TOKENS},
    ("claims.sql", "give_back"): {"source": "pages", "tokens": _TOKENS},
    ("claims.sql", "fail_claims"): {"source": "pages", "failures": _TOKENS},
    ("claims.sql", "delete_claims"): {
        "source": "pages",
        "numbers": list(range(50)),
        "ids": [f"id-{n}" for n in range(50)],
    },
    ("releases.sql", "claim_releases"): {**_ME, "limit": 100},
    ("releases.sql", "end_releases"): {"ends": _TOKENS},
    ("releases.sql", "fail_releases"): {"failures": _TOKENS},
    ("releases.sql", "give_back_releases"): {"releases": _TOKENS},
    ("fleet.sql", "forget_workers"): {"days": 7},
    ("fleet.sql", "list_workers"): {},
    ("records.sql", "find_receipts"): {"id": "id-7", "source": None},
    ("records.sql", "list_entries"): {**_PAGE, "source": None},
    ("records.sql", "list_newest_entries"): {**_PAGE, "source": "pages", "worker_id": None},
    ("records.sql", "list_newest_entries_of"): {"ids": ["id-7"], "source": None},
    ("undo.sql", "lock_pending"): _RECEIPTS,
    ("undo.sql", "find_in_motion"): {"source": "pages", "ids": ["id-7", "id-8"]},
    ("undo.sql", "find_endings"): _RECEIPTS,
    ("undo.sql", "end_undone"): _RECEIPTS,
    ("undo.sql", "hold"): {**_RECEIPTS, "hold_seconds": 60},
    ("records.sql", "list_adoptions"): {**_PAGE, "source": None},
    ("adoptions.sql", "find_known"): {**_ADOPT, "holdings": _ADOPTIONS},
    ("adoptions.sql", "insert_adoptions"): _ADOPT,
    ("adoptions.sql", "find_adopted"): _ADOPT,
}


@pytest.fixture
def pile(databases: Databases) -> Iterator[psycopg.Connection]:
    """Tens of thousands of parked claims, receipts and pending releases; few in motion."""

    def fill(url: str) -> None:
        migrate(Secret(url), ManualClock())
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(_PILE.encode())

    with psycopg.connect(databases.like("ledger_pile", fill)) as connection:
        yield connection


@pytest.mark.parametrize("query", _HOT, ids=lambda it: it[1])
def test_a_hot_query_scans_no_table_that_grows(
    pile: psycopg.Connection, query: tuple[str, str]
) -> None:
    file_name, name = query
    explained = pile.execute(b"explain " + load(file_name)[name], _HOT[query]).fetchall()

    plan = "\n".join(row[0] for row in explained)

    for table in ("claim", "receipt", "release", "outcome"):
        assert f"Seq Scan on {table} " not in plan, plan


def test_what_is_still_to_be_proven_is_found_in_its_order(pile: psycopg.Connection) -> None:
    """An audit begins with it, and a status counts it."""
    pile.execute(
        "update archiver.receipt set evidence = 0, digest = null where receipt_id % 1000 = 0"
    )
    pile.execute("analyze archiver.receipt")
    query = (
        "explain select receipt_id from archiver.unproven where source = 'pages' "
        "order by receipt_id limit 100"
    )

    plan = "\n".join(row[0] for row in pile.execute(query).fetchall())

    assert "Seq Scan on receipt" not in plan, plan
    assert "receipt_unproven" in plan, plan
    assert "Sort" not in plan, plan


def test_a_page_of_holdings_reads_on_where_the_last_one_ended(hover: Hover) -> None:
    """No page sorts or scans what a million archived rows have left behind."""
    hover.many(jobs=400, pages_per_job=300)
    hover.connection.execute(
        "update tasks set html_archived_at = now(), html_archive_bucket = 'c', "
        "html_archive_key = html_storage_path, html_storage_path = null"
    )
    hover.connection.execute("vacuum analyze tasks")
    sections = Sections(shipped_source_file("task_html"), {})
    (statement,) = sections.statements("holdings")

    explained = hover.connection.execute(
        statement.for_psycopg(explain="explain (analyze, costs off, timing off)"),
        {"limit": 2000, "after_id": "7"},
    ).fetchall()
    plan = "\n".join(row[0] for row in explained)

    assert "Index Scan using tasks_pkey" in plan, plan
    assert "Sort" not in plan, plan
    assert "rows=2000" in plan, plan
    assert "Rows Removed by Filter" not in plan, plan


def test_releases_in_hand_and_set_aside_are_found_among_all_that_are_pending(
    pile: psycopg.Connection,
) -> None:
    query = b"explain " + load("claims.sql")["count_in_motion"]
    explained = pile.execute(query, {"source": "pages", "worker_id": 1}).fetchall()

    plan = "\n".join(row[0] for row in explained)

    assert {"release_in_hand", "release_parked"} <= set(plan.split()), plan


def test_retries_that_are_not_due_are_not_even_looked_at(pile: psycopg.Connection) -> None:
    query = ("claims.sql", "take_over")
    explained = pile.execute(b"explain " + load(query[0])[query[1]], _HOT[query]).fetchall()

    conditions = [row[0] for row in explained if "Index Cond" in row[0]]

    assert any("next_attempt_at <= statement_timestamp()" in it for it in conditions)
