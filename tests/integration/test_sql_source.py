"""A source of an author's own: one file, any table."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from archiver.errors import RowMissing, SourceRefused
from archiver.model import BadRow, Candidate, CandidateId, HotLocation
from archiver.sources.sql_source import SourceParameters, SqlSource
from archiver.testing import LONG_AGO, SourceContract, receipt_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.harness.postgres import Databases

TABLE = """
    create table avatars (
        id text primary key,
        made_at timestamptz not null,
        bucket text,
        path text,
        sha256 text,
        content_sha256 text,
        size_bytes bigint,
        cold_key text
    )
"""
FILE = """\
-- name: avatars
-- cold_key: avatars/{id}.png
-- metadata: person={id}, sha256={digest}

-- candidates --
select id, made_at as due_at, bucket as hot_bucket, path as hot_path, sha256 as digest,
    content_sha256 as content_digest, size_bytes
from avatars
where (made_at, id) > (:after_due_at, :after_id) and cold_key is null
    and made_at < now() - :retention_age  -- at least 100% past it
order by made_at, id
limit :limit;

-- archived --
with held as (
    select avatars.id, receipt.cold_key
    from avatars join receipt using (id)
    where path = hot_path
        and lower(avatars.content_sha256) is not distinct from receipt.content_digest
    order by id for no key update of avatars
)
update avatars set cold_key = held.cold_key, path = null from held where held.id = avatars.id
returning avatars.id;

-- restored --
update avatars set path = receipt.hot_path, cold_key = null
from receipt
where avatars.id = receipt.id
    and avatars.cold_key = receipt.cold_key
    and path is null
returning avatars.id;

-- points_at --
select hot_bucket, hot_path from location
where exists (select from avatars where bucket = hot_bucket and path = hot_path);

-- holdings --
select id, 'cold' as cold_bucket, cold_key, content_sha256 as content_digest
from avatars
where cold_key is not null and id > :after_id
order by id
limit :limit;

-- needs --
create index if not exists avatars_due on avatars (made_at, id) where cold_key is null;
"""
PARAMETERS = SourceParameters(retention_jobs=3, retention_age=timedelta(days=1))
HEX = "ab" * 32


class Avatars:
    """The table above, and a source over it."""

    def __init__(self, url: str, text: str = FILE) -> None:
        self.url = url
        self.source = SqlSource.load(text, parameters=PARAMETERS)
        self.connection = psycopg.connect(url, autocommit=True)

    def plant(self, id_: str, due_at: datetime = LONG_AGO, **columns: object) -> None:
        row = {"bucket": "people", "path": f"{id_}.png"} | columns
        names = ", ".join(["id", "made_at", *row])
        marks = ", ".join(["%s"] * (len(row) + 2))
        insert = f"insert into avatars ({names}) values ({marks})"
        self.connection.execute(insert.encode(), [id_, due_at, *row.values()])

    def change(self, id_: str) -> None:
        self.connection.execute(
            "update avatars set path = coalesce(path, id) || '2' where id = %s", [id_]
        )

    def flipped_to(self, id_: str) -> str | None:
        found = self.connection.execute("select cold_key from avatars where id = %s", [id_])
        (cold_key,) = found.fetchone() or (None,)
        return str(cold_key) if cold_key else None


def create_avatars(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(TABLE)


@pytest.fixture
def avatars_url(databases: Databases) -> str:
    return databases.like("avatars", create_avatars)


@pytest.fixture
def world(avatars_url: str) -> Iterator[Avatars]:
    avatars = Avatars(avatars_url)
    yield avatars
    avatars.connection.close()


@pytest.fixture
def tx(avatars_url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(avatars_url) as connection:
        yield connection
        connection.rollback()


class TestAvatars(SourceContract):
    """Thirty lines of SQL keep the contract."""


def refusal(world: Avatars, tx: psycopg.Connection[Any], old: str, new: str) -> SourceRefused:
    """What the author is told after a change to the file."""
    assert old in FILE
    source = SqlSource.load(FILE.replace(old, new), parameters=PARAMETERS)
    with pytest.raises(SourceRefused) as caught:
        source.check(tx)
    tx.rollback()
    assert world.flipped_to("a") is None
    return caught.value


# --- rows -------------------------------------------------------------------------------


def test_a_row_becomes_a_candidate(world: Avatars, tx: psycopg.Connection[Any]) -> None:
    world.plant("a/b", sha256=HEX, size_bytes=7)
    (one,) = world.source.find_candidates(10, None, tx)
    assert isinstance(one, Candidate)
    assert HotLocation("people", "a/b.png") == one.location
    assert ("avatars/a%2Fb.png", HEX, 7) == (one.cold_key, str(one.digest), one.size_bytes)
    assert {"person": "a/b", "sha256": HEX} == dict(one.metadata)
    assert (None, None, None) == (one.content_digest, one.content_type, one.group_id)


def test_retention_age_counts_from_due_at(world: Avatars, tx: psycopg.Connection[Any]) -> None:
    world.plant("young", datetime.now(UTC) - timedelta(hours=23))
    world.plant("old", datetime.now(UTC) - timedelta(hours=25))
    assert ["old"] == [offer.id for offer in world.source.find_candidates(10, None, tx)]


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"bucket": None}, "bad pointer: hot_bucket is NULL"),
        ({"bucket": ""}, "bad pointer: hot_bucket is empty"),
        ({"path": None}, "bad pointer: hot_path is NULL"),
        ({"sha256": "d41d8cd9"}, "bad row: digest: not a SHA-256 in hex: 'd41d8cd9'"),
        ({"content_sha256": ""}, "bad row: content_digest: not a SHA-256 in hex: ''"),
        (
            {"sha256": f"sha256:{HEX}"},
            f"bad row: digest: not 64 lower-case hex digits alone: 'sha256:{HEX}'",
        ),
        ({"size_bytes": -1}, "bad row: size_bytes is -1"),
    ],
)
def test_a_row_that_cannot_be_a_candidate_is_offered_with_its_reason(
    world: Avatars, tx: psycopg.Connection[Any], columns: dict[str, object], reason: str
) -> None:
    world.plant("a", LONG_AGO, **columns)
    world.plant("b")
    bad, good = world.source.find_candidates(10, None, tx)
    assert isinstance(bad, BadRow)
    assert isinstance(good, Candidate)
    assert (reason, "a", LONG_AGO) == (bad.reason, bad.id, bad.due_at)


def test_h17_an_id_too_long_for_a_key_is_offered_with_its_reason(
    world: Avatars, tx: psycopg.Connection[Any]
) -> None:
    world.plant("x" * 1000)
    (bad,) = world.source.find_candidates(10, None, tx)
    assert isinstance(bad, BadRow)
    assert "bad row: no cold key: the key has 1012 bytes, 900 are allowed" == bad.reason


def test_h17_awkward_ids_are_flipped_by_their_own_receipts(
    world: Avatars, tx: psycopg.Connection[Any]
) -> None:
    ids = ["a/b", "..", "%", "a%2Fb", "?#", " ", "ü", "new\nline", "'; drop table avatars; --"]
    for id_ in ids:
        world.plant(id_)
    offers = world.source.find_candidates(100, None, tx)
    receipts = [receipt_for(one, world.source) for one in offers if isinstance(one, Candidate)]
    assert len(ids) == len({receipt.cold.key for receipt in receipts})
    assert set(ids) == set(world.source.on_archived(receipts, tx))


def test_an_endless_time_stops_the_source_and_names_it(
    world: Avatars, tx: psycopg.Connection[Any]
) -> None:
    world.connection.execute("insert into avatars (id, made_at) values ('a', '0044-03-15 BC')")
    with pytest.raises(SourceRefused, match="candidates: a value cannot be read"):
        world.source.find_candidates(10, None, tx)


def test_rows_out_of_order_stop_the_source(avatars_url: str) -> None:
    text = FILE.replace("order by made_at, id", "order by made_at desc, id")
    world = Avatars(avatars_url, text)
    world.plant("a")
    world.plant("b", LONG_AGO + timedelta(days=1))
    with (
        world.connection as connection,
        pytest.raises(SourceRefused, match=r"not in order of \(due_at, id\)"),
    ):
        world.source.find_candidates(10, None, connection)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("id > :after_id", "id >= :after_id", "the row 'b' again, which ends the page"),
        ("limit :limit;\n\n-- needs", "limit 2 * :limit;\n\n-- needs", "were asked for"),
        ("'cold' as cold_bucket", "true as cold_bucket", "cold_bucket is a bool, not text"),
    ],
)
def test_holdings_that_would_be_read_for_ever_stop_the_source(
    world: Avatars, tx: psycopg.Connection[Any], old: str, new: str, told: str
) -> None:
    for id_ in "abcde":
        world.plant(id_, path=None, cold_key=f"k/{id_}")
    assert old in FILE
    source = SqlSource.load(FILE.replace(old, new), parameters=PARAMETERS)
    with pytest.raises(SourceRefused, match=told):
        source.holdings(2, CandidateId("b"), tx)


def test_points_at_tells_only_what_rows_point_at(
    world: Avatars, tx: psycopg.Connection[Any]
) -> None:
    world.plant("a")
    here, gone = HotLocation("people", "a.png"), HotLocation("people", "b.png")
    assert {here} == set(world.source.points_at([here, gone], tx))


def test_what_the_application_raises_about_one_row_passes_through(
    world: Avatars, tx: psycopg.Connection[Any]
) -> None:
    world.connection.execute("""
        create function refuse() returns trigger language plpgsql as $$
        begin raise exception 'not this one' using errcode = 'insufficient_privilege'; end $$;
        create trigger refuse before update on avatars for each row execute function refuse();
    """)
    world.plant("a")
    (one,) = world.source.find_candidates(10, None, tx)
    assert isinstance(one, Candidate)
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="not this one"):
        world.source.on_archived([receipt_for(one, world.source)], tx)


def test_a_row_that_is_locked_is_left_to_the_ledger(
    world: Avatars, tx: psycopg.Connection[Any]
) -> None:
    world.plant("a")
    (one,) = world.source.find_candidates(10, None, tx)
    assert isinstance(one, Candidate)
    tx.execute("set local lock_timeout = '10ms'")
    with world.connection.transaction():
        world.connection.execute("select from avatars for update")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            world.source.on_archived([receipt_for(one, world.source)], tx)


# --- the check --------------------------------------------------------------------------


def test_a_missing_column_is_named_with_section_and_command(
    world: Avatars, tx: psycopg.Connection[Any]
) -> None:
    world.connection.execute("alter table avatars drop column content_sha256")
    with pytest.raises(SourceRefused) as caught:
        world.source.check(tx)
    told = str(caught.value)
    assert "section candidates" in told
    assert 'column "content_sha256" does not exist' in told
    assert "archiver migrate --source avatars" in told


def test_a_missing_table_is_named(world: Avatars, tx: psycopg.Connection[Any]) -> None:
    world.connection.execute("drop table avatars")
    with pytest.raises(SourceRefused, match='relation "avatars" does not exist'):
        world.source.check(tx)


def test_the_transaction_is_whole_after_a_refusal(
    world: Avatars, tx: psycopg.Connection[Any]
) -> None:
    world.connection.execute("drop table avatars")
    with pytest.raises(SourceRefused):
        world.source.check(tx)
    assert (1,) == tx.execute("select 1").fetchone()


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("select id, made", "select made", "it does not return id"),
        ("bucket as hot_bucket", "bucket", "it does not return hot_bucket"),
        ("avatars/{id}.png", "avatars/{owner}/{id}.png", "it does not return owner"),
        ("person={id}", "person={owner}", "it does not return owner"),
        ("select id, made", "select id, id, made", "it returns id twice"),
        ("select id, made", "select 1 as id, made", "id is int4"),
        ("made_at as due", "made_at at time zone 'utc' as due", "not timestamptz"),
        ("returning avatars.id", "returning avatars.path", "it does not return id"),
        ("select hot_bucket, hot_path", "select hot_path", "it does not return hot_bucket"),
        ("select id, 'cold'", "select id as key, 'cold'", "it does not return id"),
        ("select id, 'cold'", "select 7 as id, 'cold'", "holdings: id is int4"),
        ("'cold' as cold_bucket", "'cold'", "it does not return cold_bucket"),
        ("id > :after_id", "idd > :after_id", 'column "idd" does not exist'),
        ("order by id for", "order by idd for", 'column "idd" does not exist'),
        ("using (id)", "using (id", "syntax error"),
    ],
)
def test_a_mistake_in_the_file_is_told_at_start(
    world: Avatars, tx: psycopg.Connection[Any], old: str, new: str, told: str
) -> None:
    assert told in str(refusal(world, tx, old, new))


LOCATE = """
-- locate --
select bucket as hot_bucket, path as hot_path, null as digest, content_sha256 as content_digest,
    'cold' as cold_bucket, cold_key
from avatars where id = :id;
"""


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("path as hot_path,", "", "it does not return hot_path"),
        (
            "path as hot_path,",
            "path as hot_path, path as hot_path,",
            "it returns hot_path twice",
        ),
        ("content_sha256", "content_sha", 'column "content_sha" does not exist'),
    ],
)
def test_a_mistake_in_how_a_row_is_read_is_told_at_start(
    tx: psycopg.Connection[Any], old: str, new: str, told: str
) -> None:
    SqlSource.load(FILE + LOCATE, parameters=PARAMETERS).check(tx)
    mistaken = FILE + LOCATE.replace(old, new)
    with pytest.raises(SourceRefused, match=f"section locate: {told}"):
        SqlSource.load(mistaken, parameters=PARAMETERS).check(tx)


def test_a_row_is_located_by_its_own_id_alone(
    world: Avatars, tx: psycopg.Connection[Any]
) -> None:
    for id_ in "ab":
        world.plant(id_)
    sound, greedy, by_uuid = (
        SqlSource.load(FILE + LOCATE.replace("id = :id", where), parameters=PARAMETERS)
        for where in ("id = :id", "id >= :id", "id::uuid = :id::uuid")
    )
    assert sound.locate(CandidateId("b"), tx).hot == HotLocation("people", "b.png")
    with pytest.raises(SourceRefused, match="it returns 2 rows for 'a'"):
        greedy.locate(CandidateId("a"), tx)
    with pytest.raises(RowMissing, match="id=no-uuid"):
        by_uuid.locate(CandidateId("no-uuid"), tx)


@pytest.mark.parametrize(
    ("section", "written", "mistaken"),
    [
        ("candidates", "and made_at < now()", "and mad_at < now()"),
        ("candidates", "select id, made", "select idd, made"),
        ("archived", "where path = hot_path", "where pathh = hot_path"),
        ("archived", "with held as (", "with held as (\n    select nothing\n), more as ("),
        ("points_at", "select hot_bucket, hot_path from", "select hot_bucket, hot_pat from"),
        ("points_at", "select hot_bucket, hot_path", "select hot_bucket, hot_path, x"),
        ("points_at", "where exists", "where path is null and exists"),
    ],
)
def test_a_mistake_is_told_with_its_line_in_the_file(
    world: Avatars, tx: psycopg.Connection[Any], section: str, written: str, mistaken: str
) -> None:
    changed = FILE.replace(written, mistaken).splitlines()
    last = mistaken.splitlines()[1 if "\n" in mistaken else 0]
    (line,) = (number for number, text in enumerate(changed, 1) if last in text)
    told = str(refusal(world, tx, written, mistaken))
    assert f"text:{line}: section {section}: " in told, told


def test_a_missing_index_is_a_warning_until_it_is_made(
    world: Avatars, tx: psycopg.Connection[Any]
) -> None:
    (warning,) = world.source.check(tx)
    assert "index avatars_due is missing" in warning
    assert "archiver migrate --source avatars" in warning
    for statement in world.source.needs:
        world.connection.execute(statement.encode())
    assert [] == list(world.source.check(tx))


def test_a_flip_that_ignores_the_path_is_refused(
    world: Avatars, tx: psycopg.Connection[Any]
) -> None:
    world.plant("a")
    told = str(refusal(world, tx, "where path = hot_path", "where true"))
    assert "a receipt with another path was taken" in told


def test_a_flip_that_ignores_the_content_digest_is_refused(
    world: Avatars, tx: psycopg.Connection[Any]
) -> None:
    world.plant("a", content_sha256=HEX)
    comparison = "and lower(avatars.content_sha256) is not distinct from receipt.content_digest"
    told = str(refusal(world, tx, comparison, ""))
    assert "a receipt with another content digest was taken" in told


def test_a_flip_that_takes_nothing_is_refused(
    world: Avatars, tx: psycopg.Connection[Any]
) -> None:
    world.plant("a")
    told = str(refusal(world, tx, "where path = hot_path", "where path = hot_path and false"))
    assert "the right receipt for 'a' was not taken" in told


def test_a_flip_that_takes_a_neighbour_is_refused(
    world: Avatars, tx: psycopg.Connection[Any]
) -> None:
    world.plant("a")
    world.plant("b")
    told = str(refusal(world, tx, "where held.id = avatars.id", "where held.id <= avatars.id"))
    assert "one receipt flipped ['a', 'b']" in told


HOLDS_KEY = "and avatars.cold_key = receipt.cold_key"
POINTS_HOT = "section restored: a row that points at a hot object was pointed at another one"


@pytest.mark.parametrize(
    ("written", "mistaken", "problem"),
    [
        pytest.param(f"{HOLDS_KEY}\n    and path is null", "", POINTS_HOT, id="any row"),
        pytest.param(
            f"{HOLDS_KEY}\n    and path is null",
            "and (path is null or avatars.cold_key is null)",
            POINTS_HOT,
            id="rows that were never flipped",
        ),
        pytest.param(
            f"set path = receipt.hot_path, cold_key = null\nfrom receipt\n"
            f"where avatars.id = receipt.id\n    {HOLDS_KEY}\n    and path is null",
            f"set path = receipt.hot_path\nfrom receipt\n"
            f"where avatars.id = receipt.id\n    {HOLDS_KEY}",
            POINTS_HOT,
            id="rows captured again",
        ),
        pytest.param(
            HOLDS_KEY, "", "a receipt with another cold key was taken", id="another cold key"
        ),
        pytest.param(
            HOLDS_KEY,
            f"{HOLDS_KEY} and false",
            "the right receipt for 'a' gave back []",
            id="nothing",
        ),
        pytest.param(
            "set path = receipt.hot_path, cold_key",
            "set path = receipt.id, cold_key",
            "the row does not point at people/a.png again",
            id="another path",
        ),
    ],
)
def test_a_way_back_that_would_lose_a_pointer_is_refused(
    world: Avatars, tx: psycopg.Connection[Any], written: str, mistaken: str, problem: str
) -> None:
    world.plant("a")
    told = str(refusal(world, tx, written, mistaken))
    assert problem in told, told


def test_a_points_at_that_finds_nothing_is_refused(
    world: Avatars, tx: psycopg.Connection[Any]
) -> None:
    world.plant("a")
    told = str(refusal(world, tx, "where bucket = hot_bucket and", "where false and"))
    assert "points_at does not find people/a.png" in told


def test_a_row_the_application_holds_is_a_warning_not_a_proof(
    world: Avatars, tx: psycopg.Connection[Any]
) -> None:
    world.plant("a")
    with world.connection.transaction():
        world.connection.execute("select from avatars for update")
        warnings = world.source.check(tx)
    assert any("not proven at this start" in warning for warning in warnings)


def test_a_row_that_cannot_be_flipped_does_not_bar_the_others(
    world: Avatars, tx: psycopg.Connection[Any]
) -> None:
    world.plant("a")
    world.connection.execute("alter table avatars add check (id > 'a' or cold_key is null)")
    (warning,) = (w for w in world.source.check(tx) if "not proven" in w)
    assert "violates check constraint" in warning
    world.plant("b")
    assert not any("not proven" in warning for warning in world.source.check(tx))


# --- row-level security -----------------------------------------------------------------


@pytest.fixture
def worker(world: Avatars) -> Iterator[psycopg.Connection[Any]]:
    """A role that owns nothing, on a table with row-level security."""
    world.connection.execute("""
        do $$ begin
            if not exists (select from pg_roles where rolname = 'Archive worker') then
                create role "Archive worker" login;
            end if;
        end $$;
        grant select, update on avatars to "Archive worker";
        alter table avatars enable row level security;
    """)
    world.plant("a")
    with psycopg.connect(world.url) as connection:
        connection.execute('set role "Archive worker"')
        yield connection
        connection.rollback()


def test_rows_hidden_by_row_level_security_are_refused_and_the_fix_mends_it(
    world: Avatars, worker: psycopg.Connection[Any]
) -> None:
    with pytest.raises(SourceRefused) as caught:
        world.source.check(worker)
    assert "row-level security may hide rows of avatars" in str(caught.value)
    world.connection.execute(caught.value.fix.encode())
    world.source.check(worker)
    assert ["a"] == [offer.id for offer in world.source.find_candidates(9, None, worker)]


def test_a_policy_for_some_rows_is_not_enough(
    world: Avatars, worker: psycopg.Connection[Any]
) -> None:
    world.connection.execute("create policy mine on avatars for all using (id < 'm')")
    with pytest.raises(SourceRefused, match="row-level security"):
        world.source.check(worker)


def test_a_policy_to_read_all_is_not_enough_to_update(
    world: Avatars, worker: psycopg.Connection[Any]
) -> None:
    world.connection.execute("create policy readers on avatars for select using (true)")
    with pytest.raises(SourceRefused) as caught:
        world.source.check(worker)
    assert "for update" in caught.value.fix
    assert "for select" not in caught.value.fix


def test_a_restrictive_policy_is_refused_whatever_else_is_open(
    world: Avatars, worker: psycopg.Connection[Any]
) -> None:
    world.connection.execute("create policy everybody on avatars for all using (true)")
    world.connection.execute(
        "create policy recent on avatars as restrictive for all using (made_at > now())"
    )
    with pytest.raises(SourceRefused) as caught:
        world.source.check(worker)
    assert 'alter role "Archive worker" bypassrls' in caught.value.fix


def test_the_owner_is_not_bound_by_row_level_security(
    world: Avatars, tx: psycopg.Connection[Any]
) -> None:
    world.connection.execute("alter table avatars enable row level security")
    world.plant("a")
    world.source.check(tx)


def test_a_role_without_its_grants_is_told_so(
    world: Avatars, worker: psycopg.Connection[Any]
) -> None:
    world.connection.execute('revoke update on avatars from "Archive worker"')
    with pytest.raises(SourceRefused, match=r"permission denied.*Grant"):
        world.source.check(worker)
