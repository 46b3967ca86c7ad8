"""Races that need no further server: a row that raises in its group, one object of two sources.

And the rows that are parked at the head of the order: passed, and never overlooked.
"""

from __future__ import annotations

import math
import random
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from archiver.ledger.postgres import LedgerSettings, PostgresLedger
from archiver.model import Answer, Secret
from archiver.ops.clock import SystemClock
from archiver.sources import sql_source
from archiver.sources.finding import read_source_file, shipped_source_file
from archiver.sources.sql_source import SourceParameters, SqlSource
from archiver.testing import receipt_for
from tests.harness.hover import BUCKET

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

    from archiver.model import CandidateId, Offer, Position, Receipt
    from tests.harness.hover import Hover, Page
    from tests.harness.scene import Scene

GROUP = 1000


class CountingSource(SqlSource):
    """Counts what it is asked."""

    def __init__(self) -> None:
        parameters = SourceParameters(retention_jobs=0, retention_age=timedelta(0))
        super().__init__(shipped_source_file("task_html"), parameters)
        self.flips_count = 0
        self.offered_count = 0

    def on_archived(self, receipts: Sequence[Receipt], tx: Any) -> Collection[CandidateId]:
        self.flips_count += 1
        return super().on_archived(receipts, tx)

    def find_candidates(self, limit: int, after: Position | None, tx: Any) -> Sequence[Offer]:
        offers = super().find_candidates(limit, after, tx)
        self.offered_count += len(offers)
        return offers


@pytest.fixture
def ledger(hover_url: str) -> Iterator[PostgresLedger]:
    with PostgresLedger(LedgerSettings(url=Secret(hover_url)), SystemClock()) as ledger:
        ledger.fleet.join()
        yield ledger


# --- a row that raises ----------------------------------------------------------------------


@pytest.mark.parametrize("refused_count", [1, 3])
def test_a_row_that_raises_in_a_group_of_a_thousand_is_refused_alone(
    hover: Hover, ledger: PostgresLedger, refused_count: int
) -> None:
    """Found by halving: each costs two flips for each time that a thousand can be halved."""
    hover.many(jobs=1, pages_per_job=GROUP)
    source = CountingSource()
    claims = ledger.claims(source)
    claims.begin()
    claimed = claims.claim(GROUP).claims
    refused = {it.candidate.id for it in random.Random(7).sample(claimed, refused_count)}  # noqa: S311
    hover.connection.execute(
        f"""
        create function refuse() returns trigger language plpgsql as $$
        begin raise exception 'the application says no'; end $$;
        create trigger refuse before update on tasks for each row
        when (old.id = any('{{{",".join(sorted(refused))}}}')) execute function refuse();
        """
    )

    answers = claims.record(
        [receipt_for(it.candidate, source, token=it.token) for it in claimed]
    )

    assert {
        claim.candidate.id
        for claim, answer in zip(claimed, answers, strict=True)
        if answer is Answer.REFUSED
    } == refused
    assert answers.count(Answer.ACCEPTED) == GROUP - refused_count
    assert source.flips_count <= 1 + 2 * refused_count * math.ceil(math.log2(GROUP))
    found = hover.connection.execute("select count(*) from archiver.receipt").fetchone()
    assert found == (GROUP - refused_count,)
    parked = hover.connection.execute(
        "select id, reason from archiver.claim where state = 'parked'"
    ).fetchall()
    assert {id_: "says no" in reason for id_, reason in parked} == dict.fromkeys(refused, True)


# --- one object, two sources ----------------------------------------------------------------

_MIRROR = """
-- name: mirror
-- cold_key: mirror/{id}

-- candidates --
select id, due_at, bucket as hot_bucket, path as hot_path
from mirror
where path is not null and due_at <= now() and (due_at, id) > (:after_due_at, :after_id)
order by due_at, id
limit :limit;

-- archived --
update mirror set cold_key = receipt.cold_key, bucket = null, path = null
from receipt
where mirror.id = receipt.id
    and mirror.bucket = receipt.hot_bucket and mirror.path = receipt.hot_path
returning mirror.id;

-- points_at --
select location.hot_bucket, location.hot_path
from location
join mirror on mirror.bucket = location.hot_bucket and mirror.path = location.hot_path;
"""


@pytest.fixture
def mirrored(scene: Scene, tmp_path: Path) -> Page:
    """A page of which a second source has a row, too; that one is not due yet."""
    file = tmp_path / "mirror.sql"
    file.write_text(_MIRROR.lstrip())
    scene.settings["ARCHIVE_SOURCES"] = f"task_html,{file}"
    scene.hover.connection.execute(
        'create table mirror (id text collate "C" primary key, due_at timestamptz, '
        "bucket text, path text, cold_key text)"
    )
    page = scene.due_page()
    scene.hover.connection.execute(
        "insert into mirror values ('m', now() + interval '1 day', %s, %s)", [BUCKET, page.path]
    )
    return page


def test_g8_an_object_that_a_row_of_another_source_names_stays(
    scene: Scene, mirrored: Page
) -> None:
    ran = scene.once()

    assert (ran.exit_code, ran.summary["archived"], ran.summary["released"]) == (0, 1, 0)
    assert scene.hot_body(mirrored) == mirrored.body
    told = scene.hover.connection.execute("select detail from archiver.outcome").fetchall()
    assert told == [("a row of source mirror points at it",)]

    scene.hover.connection.execute("update mirror set due_at = now()")
    ran = scene.once()  # now it is nobody's any more

    assert (ran.summary["archived"], ran.summary["released"]) == (1, 1)
    assert scene.hot_body(mirrored) is None


# --- what is parked at the head -------------------------------------------------------------


@pytest.mark.parametrize("state", ["parked", "held", "waiting"])
def test_rows_parked_at_the_head_are_passed_by_the_database(
    hover: Hover, ledger: PostgresLedger, state: str
) -> None:
    """None of 30,000 is fetched but the first page, by which they are noticed."""
    hover.many(jobs=100, pages_per_job=300)
    set_aside_all(hover, state)
    hover.many(jobs=1, pages_per_job=600)
    hover.connection.execute(
        "update jobs set completed_at = now() where id = any(%s)", [fresh(hover)]
    )
    hover.connection.execute("vacuum analyze tasks, archiver.claim")
    source = CountingSource()
    claims = ledger.claims(source)
    claims.begin()

    windows = [claims.claim(500) for _ in range(3)]

    assert [len(it.claims) for it in windows] == [500, 100, 0]
    assert windows[-1].is_drained
    assert source.offered_count <= 3 * 1000


@pytest.mark.parametrize("seed", range(8))
def test_a_row_that_changed_among_the_parked_is_never_passed(
    hover: Hover, ledger: PostgresLedger, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the pages are, the claims are those of a ledger that fetches every row."""
    monkeypatch.setattr(sql_source, "_PASSED", 7)
    monkeypatch.setattr("archiver.ledger.claims._PAGE_OFFERS", 5)
    order = random.Random(seed)  # noqa: S311
    hover.many(jobs=12, pages_per_job=5)
    set_aside_all(hover, "parked")
    ids = sorted(id_ for (id_,) in hover.connection.execute("select id from tasks").fetchall())
    changed = {
        "html_sha256": order.sample(ids, 2),
        "html_storage_path": order.sample(ids, 2),
        "html_storage_bucket": order.sample(ids, 1),
    }
    for column, some in changed.items():
        hover.connection.execute(
            f"update tasks set {column} = repeat('ab', 32) where id = any(%s)", [some]
        )
    unparked = order.sample(ids, 2)
    hover.connection.execute("delete from archiver.claim where id = any(%s)", [unparked])
    claims = ledger.claims(CountingSource())
    claims.begin()

    seen: set[str] = set()
    while window := claims.claim(3).claims:
        seen |= {it.candidate.id for it in window}

    assert seen == {*unparked, *(id_ for some in changed.values() for id_ in some)}


_NUMBERED = """
-- name: numbered
-- cold_key: numbered/{id}
-- shares_objects: no

-- candidates --
select id::text as id, due_at, bucket as hot_bucket, path as hot_path
from numbered
where path is not null and (due_at, id::text) > (:after_due_at, :after_id)
order by due_at, id::text
limit :limit;

-- archived --
update numbered set cold_key = receipt.cold_key, bucket = null, path = null
from receipt
where numbered.id::text = receipt.id
    and numbered.bucket::text = receipt.hot_bucket and numbered.path::text = receipt.hot_path
returning numbered.id::text as id;
"""


def test_rows_whose_pointers_are_no_text_are_passed_as_well(
    hover: Hover, ledger: PostgresLedger, tmp_path: Path
) -> None:
    """A uuid or a number is a path, too."""
    hover.connection.execute(
        "create table numbered (id int primary key, due_at timestamptz default now(), "
        "bucket int default 7, path uuid default gen_random_uuid(), cold_key text);"
        "insert into numbered select generate_series(1, 3)"
    )
    file = tmp_path / "numbered.sql"
    file.write_text(_NUMBERED.lstrip())
    source = SqlSource(read_source_file(file), SourceParameters(0, timedelta(0)))
    claims = ledger.claims(source)
    claims.begin()

    windows = [claims.claim(2) for _ in range(3)]

    assert [len(it.claims) for it in windows] == [2, 1, 0]
    assert windows[-1].is_drained


def set_aside_all(hover: Hover, state: str) -> None:
    hover.connection.execute(
        """
        insert into archiver.claim (source, id, state, due_at, hot_bucket, hot_path, cold_key,
            epoch, worker_id, number, reason, parked_at, next_attempt_at)
        select 'task_html', t.id, %(state)s, j.completed_at, t.html_storage_bucket,
            t.html_storage_path, 'k', 1, 1, 1, 'missing',
            case when %(state)s = 'parked' then now() end,
            case when %(state)s <> 'parked' then now() + interval '1 day' end
        from tasks t join jobs j on j.id = t.job_id
        """,
        {"state": state},
    )


def fresh(hover: Hover) -> list[str]:
    """Jobs of which nothing is parked."""
    found = hover.connection.execute(
        "select distinct job_id from tasks where not exists "
        "(select from archiver.claim c where c.id = tasks.id)"
    ).fetchall()
    return [job for (job,) in found]
