"""A little source in two forms: rows in memory, and rows of one Postgres table.

Both hold the same rows, are planted with the same hands, and can be told to have a row that
another transaction holds or that raises when it is flipped.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.rows import dict_row

from archiver.errors import RowMissing
from archiver.model import (
    BadRow,
    Candidate,
    CandidateId,
    ColdKey,
    ColdPointer,
    Digest,
    Holding,
    HotLocation,
    Located,
    SourceName,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from archiver.model import Offer, Position, Receipt

BUCKET = "pages"
COLD_BUCKET = "cold"
START = datetime(2025, 6, 1, tzinfo=UTC)


class RowIsHeld(Exception):
    """Memory's form of a lock that is not available."""


class RowRaises(Exception):
    """Memory's form of a trigger that raises."""


@dataclass
class MemoryTransaction:
    """What a fake ledger gives as `tx`: changes say how they are undone."""

    undo: list[Callable[[], None]] = field(default_factory=list)

    def roll_back(self) -> None:
        while self.undo:
            self.undo.pop()()


@dataclass(frozen=True)
class PageRow:
    """One row of the application."""

    id: CandidateId
    due_at: datetime
    hot_bucket: str | None
    hot_path: str | None
    content_digest: Digest | None = None
    cold_key: str | None = None  # in the bucket `COLD_BUCKET`
    refusal: str | None = None  # flipping it raises this


def page(
    id_: str, *, minutes: int = 0, path: str | None = "", content: bytes | None = None
) -> PageRow:
    """A row whose hot path follows from its id; `path=None` makes a bad pointer."""
    return PageRow(
        id=CandidateId(id_),
        due_at=START + timedelta(minutes=minutes),
        hot_bucket=BUCKET,
        hot_path=f"jobs/{id_}.html.gz" if path == "" else path,
        content_digest=Digest.of(id_.encode() if content is None else content),
    )


def _offer(row: PageRow) -> Offer:
    if row.hot_bucket is None or row.hot_path is None:
        reason = "bad pointer: path without bucket, or bucket without path"
        return BadRow(row.id, row.due_at, reason, row.hot_bucket, row.hot_path)
    return Candidate(
        id=row.id,
        due_at=row.due_at,
        location=HotLocation(row.hot_bucket, row.hot_path),
        cold_key=ColdKey(f"jobs/{row.id}.html.gz"),
        content_digest=row.content_digest,
        content_type="text/html; charset=utf-8",
        content_encoding="gzip",
        group_id="job-1",
        metadata={"task_id": row.id},
    )


def _located(source: SourceName, id_: CandidateId, row: PageRow | None) -> Located:
    if row is None:
        raise RowMissing(source=source, id=id_)
    is_hot = row.hot_bucket is not None and row.hot_path is not None
    return Located(
        hot=HotLocation(row.hot_bucket or "", row.hot_path or "") if is_hot else None,
        cold=ColdPointer(None, "cold", ColdKey(row.cold_key)) if row.cold_key else None,
        content_digest=row.content_digest,
    )


def archived_page(id_: str, *, content: bytes | None = None) -> PageRow:
    """A row that another worker archived, under the key that its id gives."""
    row = page(id_, content=content)
    return replace(row, hot_bucket=None, hot_path=None, cold_key=f"jobs/{id_}.html.gz")


def _holding(row: PageRow) -> Holding:
    return Holding(
        id=row.id,
        cold_bucket=COLD_BUCKET,
        cold_key=ColdKey(row.cold_key or ""),
        content_digest=row.content_digest,
        group_id="job-1",
    )


class _Common:
    """What both forms have in common: the parts of a source that ask no rows."""

    name = SourceName("pages")
    can_restore = True

    def __init__(self) -> None:
        self.prepared_count = 0
        self.flip_sizes: list[int] = []  # of each call of on_archived

    def check(self, tx: Any) -> Sequence[str]:
        self.housekeeping(tx, everything=True)  # leaves a trace, unless it is rolled back
        return ["a warning"]

    def prepare(self, tx: Any) -> None:  # noqa: ARG002
        self.prepared_count += 1

    def count_candidates(self, tx: Any) -> int:
        return len(self.find_candidates(1_000_000, None, tx))

    def find_candidates(self, limit: int, after: Position | None, tx: Any) -> Sequence[Offer]:
        raise NotImplementedError

    def housekeeping(self, tx: Any, *, everything: bool) -> Mapping[str, int]:
        raise NotImplementedError


class MemorySource(_Common):
    """Rows in a dict. One lock guards them all."""

    def __init__(self) -> None:
        super().__init__()
        self._rows: dict[CandidateId, PageRow] = {}
        self._held: set[CandidateId] = set()
        self._lock = threading.RLock()
        self._kept_house_count = 0

    # --- the source --------------------------------------------------------------------------

    def find_candidates(
        self,
        limit: int,
        after: Position | None,
        tx: Any,  # noqa: ARG002
    ) -> Sequence[Offer]:
        with self._lock:
            rows = sorted(self._rows.values(), key=lambda row: (row.due_at, row.id))
        beyond = [
            row
            for row in rows
            if (row.hot_bucket is not None or row.hot_path is not None)
            and (after is None or (row.due_at, row.id) > (after.due_at, after.id))
        ]
        return [_offer(row) for row in beyond[:limit]]

    def on_archived(
        self, receipts: Sequence[Receipt], tx: MemoryTransaction
    ) -> Collection[CandidateId]:
        self.flip_sizes.append(len(receipts))
        with self._lock:
            matching = [receipt for receipt in receipts if self._matches(receipt)]
            if self._held & {receipt.id for receipt in matching}:
                raise RowIsHeld
            for receipt in matching:
                if refusal := self._rows[receipt.id].refusal:
                    raise RowRaises(refusal)
            for receipt in matching:
                self._flip(receipt, tx)
            return {receipt.id for receipt in matching}

    def on_restored(
        self, receipts: Sequence[Receipt], tx: MemoryTransaction
    ) -> Collection[CandidateId]:
        with self._lock:
            matching = [
                receipt
                for receipt in receipts
                if (row := self._rows.get(receipt.id)) is not None
                and (row.hot_path, row.cold_key) == (None, receipt.cold.key)
            ]
            if self._held & {receipt.id for receipt in matching}:
                raise RowIsHeld
            for receipt in matching:
                if refusal := self._rows[receipt.id].refusal:
                    raise RowRaises(refusal)
            for receipt in matching:
                before, location = self._rows[receipt.id], receipt.location
                self._rows[receipt.id] = replace(
                    before, hot_bucket=location.bucket, hot_path=location.path, cold_key=None
                )
                tx.undo.append(partial(self.plant, before))
            return {receipt.id for receipt in matching}

    def points_at(
        self,
        locations: Collection[HotLocation],
        tx: Any,  # noqa: ARG002
    ) -> Collection[HotLocation]:
        with self._lock:
            pointers = {(row.hot_bucket, row.hot_path) for row in self._rows.values()}
        return {it for it in locations if (it.bucket, it.path) in pointers}

    def holdings(
        self,
        limit: int,
        after: CandidateId | None,
        tx: Any,  # noqa: ARG002
    ) -> Sequence[Holding]:
        with self._lock:
            rows = sorted(self._rows.values(), key=lambda row: row.id)
        held = [row for row in rows if row.cold_key is not None and row.id > (after or "")]
        return [_holding(row) for row in held[:limit]]

    def housekeeping(self, tx: MemoryTransaction, *, everything: bool) -> Mapping[str, int]:
        before = self._kept_house_count
        self._kept_house_count += 1
        tx.undo.append(lambda: setattr(self, "_kept_house_count", before))
        return {"houses_kept": 2 * everything}  # then there is nothing left to do

    def locate(self, id_: CandidateId, tx: Any) -> Located:  # noqa: ARG002
        with self._lock:
            row = self._rows.get(id_)
        return _located(self.name, id_, row)

    def _matches(self, receipt: Receipt) -> bool:
        row = self._rows.get(receipt.id)
        return row is not None and (row.hot_bucket, row.hot_path, row.content_digest) == (
            receipt.location.bucket,
            receipt.location.path,
            receipt.content_digest,
        )

    def _flip(self, receipt: Receipt, tx: MemoryTransaction) -> None:
        before = self._rows[receipt.id]
        self._rows[receipt.id] = replace(
            before, hot_bucket=None, hot_path=None, cold_key=receipt.cold.key
        )
        tx.undo.append(lambda: self.plant(before))

    # --- the hands of the application --------------------------------------------------------

    def plant(self, *rows: PageRow) -> None:
        """Insert, or write over."""
        with self._lock:
            for row in rows:
                self._rows[row.id] = row

    def remove(self, id_: str) -> None:
        with self._lock:
            del self._rows[CandidateId(id_)]

    def row(self, id_: str) -> PageRow:
        with self._lock:
            return self._rows[CandidateId(id_)]

    @property
    def kept_house_count(self) -> int:
        return self._kept_house_count

    @contextmanager
    def hold(self, *ids: str) -> Iterator[None]:
        """Another transaction holds these rows meanwhile."""
        self._held |= {CandidateId(id_) for id_ in ids}
        try:
            yield
        finally:
            self._held -= {CandidateId(id_) for id_ in ids}


_TABLE = """
create table pages (
    id text collate "C" primary key, due_at timestamptz not null, hot_bucket text,
    hot_path text, content_digest text, cold_key text, refusal text
);
create table houses (kept_at timestamptz);
create function refuse() returns trigger language plpgsql as $$
begin
    if new.refusal is not null then
        raise exception using message = new.refusal, detail = 'row: ' || new.id;
    end if;
    return new;
end $$;
create trigger refuse before update on pages for each row execute function refuse();
"""
_COLUMNS = "id, due_at, hot_bucket, hot_path, content_digest, cold_key, refusal"


class TableSource(_Common):
    """The same in Postgres; its hands have a connection of their own."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url
        self._connection = psycopg.connect(url, autocommit=True)
        if self._connection.execute("select to_regclass('pages')").fetchone() == (None,):
            self._connection.execute(_TABLE)

    def close(self) -> None:
        self._connection.close()

    # --- the source --------------------------------------------------------------------------

    def find_candidates(
        self, limit: int, after: Position | None, tx: psycopg.Connection[Any]
    ) -> Sequence[Offer]:
        query = f"""
            select {_COLUMNS} from pages
            where (hot_bucket is not null or hot_path is not null)
              and (due_at, id) > (%s::timestamptz, %s)
            order by due_at, id limit %s"""
        position = (after.due_at, after.id) if after else ("-infinity", "")
        with tx.cursor(row_factory=dict_row) as cursor:
            found = cursor.execute(query.encode(), (*position, limit)).fetchall()
        return [_offer(_page_row(row)) for row in found]

    def on_archived(
        self, receipts: Sequence[Receipt], tx: psycopg.Connection[Any]
    ) -> Collection[CandidateId]:
        self.flip_sizes.append(len(receipts))
        query = """
            with sent as (
                select * from unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::text[])
                    as s (id, bucket, path, content_digest, cold_key)
            ),
            held as (
                select p.id, s.cold_key from pages p join sent s on s.id = p.id
                where p.hot_bucket = s.bucket and p.hot_path = s.path
                  and p.content_digest is not distinct from s.content_digest
                order by p.id for update of p
            )
            update pages p
            set hot_bucket = null, hot_path = null, cold_key = held.cold_key
            from held where held.id = p.id returning p.id"""
        columns = (
            [receipt.id for receipt in receipts],
            [receipt.location.bucket for receipt in receipts],
            [receipt.location.path for receipt in receipts],
            [_text(receipt.content_digest) for receipt in receipts],
            [receipt.cold.key for receipt in receipts],
        )
        return {CandidateId(row[0]) for row in tx.execute(query, columns).fetchall()}

    def on_restored(
        self, receipts: Sequence[Receipt], tx: psycopg.Connection[Any]
    ) -> Collection[CandidateId]:
        query = """
            with sent as (
                select * from unnest(%s::text[], %s::text[], %s::text[], %s::text[])
                    as s (id, bucket, path, cold_key)
            ),
            held as (
                select p.id, s.bucket, s.path from pages p join sent s on s.id = p.id
                where p.cold_key = s.cold_key and p.hot_path is null
                order by p.id for update of p
            )
            update pages p
            set hot_bucket = held.bucket, hot_path = held.path, cold_key = null
            from held where held.id = p.id returning p.id"""
        columns = (
            [receipt.id for receipt in receipts],
            [receipt.location.bucket for receipt in receipts],
            [receipt.location.path for receipt in receipts],
            [receipt.cold.key for receipt in receipts],
        )
        return {CandidateId(row[0]) for row in tx.execute(query, columns).fetchall()}

    def points_at(
        self, locations: Collection[HotLocation], tx: psycopg.Connection[Any]
    ) -> Collection[HotLocation]:
        asked = list(locations)
        query = """
            select p.hot_bucket, p.hot_path from pages p
            join unnest(%s::text[], %s::text[]) as l (bucket, path)
              on p.hot_bucket = l.bucket and p.hot_path = l.path"""
        columns = ([it.bucket for it in asked], [it.path for it in asked])
        return {HotLocation(*row) for row in tx.execute(query, columns).fetchall()}

    def locate(self, id_: CandidateId, tx: psycopg.Connection[Any]) -> Located:
        query = f"select {_COLUMNS} from pages where id = %s"
        with tx.cursor(row_factory=dict_row) as cursor:
            found = cursor.execute(query.encode(), (id_,)).fetchone()
        return _located(self.name, id_, _page_row(found) if found else None)

    def holdings(
        self, limit: int, after: CandidateId | None, tx: psycopg.Connection[Any]
    ) -> Sequence[Holding]:
        query = f"""
            select {_COLUMNS} from pages
            where cold_key is not null and id > %s order by id limit %s"""
        with tx.cursor(row_factory=dict_row) as cursor:
            found = cursor.execute(query.encode(), (after or "", limit)).fetchall()
        return [_holding(_page_row(row)) for row in found]

    def housekeeping(
        self, tx: psycopg.Connection[Any], *, everything: bool
    ) -> Mapping[str, int]:
        tx.execute("insert into houses values (now())")
        return {"houses_kept": 2 * everything}  # then there is nothing left to do

    # --- the hands of the application --------------------------------------------------------

    def plant(self, *rows: PageRow) -> None:
        """Insert, or write over."""
        query = f"insert into pages ({_COLUMNS}) values (%s, %s, %s, %s, %s, %s, %s)"
        with self._connection.transaction(), self._connection.cursor() as cursor:
            cursor.execute("delete from pages where id = any(%s)", ([row.id for row in rows],))
            cursor.executemany(
                query.encode(),
                [
                    (
                        row.id,
                        row.due_at,
                        row.hot_bucket,
                        row.hot_path,
                        _text(row.content_digest),
                        row.cold_key,
                        row.refusal,
                    )
                    for row in rows
                ],
            )

    def remove(self, id_: str) -> None:
        self._connection.execute("delete from pages where id = %s", (id_,))

    def row(self, id_: str) -> PageRow:
        query = f"select {_COLUMNS} from pages where id = %s"
        with self._connection.cursor(row_factory=dict_row) as cursor:
            found = cursor.execute(query.encode(), (id_,)).fetchone()
        assert found is not None
        return _page_row(found)

    @property
    def kept_house_count(self) -> int:
        counted = self._connection.execute("select count(*) from houses").fetchone()
        assert counted is not None
        return int(counted[0])

    @contextmanager
    def hold(self, *ids: str) -> Iterator[None]:
        """Another transaction holds these rows meanwhile."""
        query = "select from pages where id = any(%s) order by id for update"
        with psycopg.connect(self._url) as holder, holder.transaction():
            holder.execute(query, (list(ids),))
            yield


def _page_row(row: dict[str, Any]) -> PageRow:
    digest = row["content_digest"]
    return PageRow(
        **{**row, "id": CandidateId(row["id"]), "due_at": row["due_at"].astimezone(UTC)}
        | {"content_digest": Digest.parse(digest) if digest else None}
    )


def _text(digest: Digest | None) -> str | None:
    return None if digest is None else str(digest)
