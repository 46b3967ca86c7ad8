"""Runs the sections of a source file in a transaction of the caller's.

What Postgres says of a lock, a deadlock or a single row passes through: the ledger, whose
transaction it is, has an answer for each. "This SQL cannot run here" is `SourceRefused`.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from psycopg import errors as postgres_errors
from psycopg.rows import dict_row

from archiver.errors import SourceRefused

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import psycopg

    from archiver.model import CandidateId, HotLocation, Position, Receipt
    from archiver.sources.sql_file import SqlFile
    from archiver.sources.sql_text import Statement

    Tx = psycopg.Connection[Any]

Row = dict[str, object]
Values = dict[str, object]

_RECEIPT = """\
receipt (
    id, hot_bucket, hot_path, digest, content_digest,
    provider, cold_bucket, cold_key, size_bytes, archived_at
) as (
    select sent.*, now()
    from unnest(
        %(receipt_ids)s::text[], %(receipt_hot_buckets)s::text[],
        %(receipt_hot_paths)s::text[], %(receipt_digests)s::text[],
        %(receipt_content_digests)s::text[], %(receipt_providers)s::text[],
        %(receipt_cold_buckets)s::text[], %(receipt_cold_keys)s::text[],
        %(receipt_sizes_bytes)s::bigint[]
    ) as sent
)"""
_LOCATION = """\
location (hot_bucket, hot_path) as (
    select * from unnest(%(location_buckets)s::text[], %(location_paths)s::text[]) as asked
)"""
# What is in the way is what `find_in_the_way` of the ledger says. A digest in another form than
# the ledger's never equals it: such a row is not passed here. The rows of `offered` come in the
# order of the section, whatever its collation.
_PASS_IN_THE_WAY = b"""\
with offered as materialized (%(candidates)b
),
judged as (
    select offered.id, offered.due_at, row_number() over () as place, exists (
        select from archiver.claim c
        where c.source = %%(source)s
          and c.id = offered.id
          and (c.state <> 'parked'
               or (c.hot_bucket, c.hot_path, encode(c.digest, 'hex'),
                   encode(c.content_digest, 'hex'))
                  is not distinct from
                  (offered.hot_bucket::text, offered.hot_path::text,
                   to_jsonb(offered) ->> 'digest', to_jsonb(offered) ->> 'content_digest'))
    ) as is_in_the_way
    from offered
)
select id, due_at
from judged
where place < coalesce(
    (select min(place) from judged where not is_in_the_way), %%(limit)s + 1
)
order by place desc
limit 1"""
_SERVER_LINE = re.compile(r"^\S+ (\d+): ", re.MULTILINE)  # "LINE 3: ...", in any language
_PLANNABLE = {"select", "with", "insert", "update", "delete", "merge", "values"}
RELATIONS = {"archived": _RECEIPT, "restored": _RECEIPT, "points_at": _LOCATION}


class Sections:
    """The sections of one file, ready to run with the parameters of this process."""

    def __init__(self, file: SqlFile, parameters: Mapping[str, object]) -> None:
        self.file = file
        self._parameters = parameters

    def __contains__(self, section: str) -> bool:
        return section in self.file.sections

    def statements(self, section: str) -> tuple[Statement, ...]:
        """None for a section the file does not have."""
        found = self.file.sections.get(section)
        return found.statements if found else ()

    def rows(self, tx: Tx, section: str, values: Values) -> list[Row]:
        """Run a section of one statement; all rows of its answer."""
        (statement,) = self.statements(section)
        with self._executed(tx, section, statement, values) as cursor:
            return cursor.fetchall()

    def run(self, tx: Tx, section: str, values: Values) -> list[Row]:
        """Run all statements of a section in turn; the first row of each answer."""
        found = []
        for statement in self.statements(section):
            with self._executed(tx, section, statement, values) as cursor:
                row = cursor.fetchone() if cursor.description else None
                found += [row] if row else []
        return found

    def count(self, tx: Tx, section: str, values: Values) -> int:
        """How many rows a section of one statement answers; only the number is sent."""
        (statement,) = self.statements(section)
        text = b"select count(*) from (" + statement.for_psycopg() + b"\n) as answered"
        with self._translated(section, statement):
            parameters = {**self._parameters, **values}
            row = tx.execute(text, parameters, prepare=False).fetchone()
        return int(row[0]) if row else 0

    def pass_in_the_way(self, tx: Tx, values: Values) -> Row | None:
        """The last of the candidates at the head whose claims stand in their way."""
        (statement,) = self.statements("candidates")
        text = _PASS_IN_THE_WAY % {b"candidates": statement.for_psycopg()}
        parameters = {**self._parameters, **values, "source": self.file.name}
        with (
            self._translated("candidates", statement),
            tx.cursor(row_factory=dict_row) as cursor,
        ):
            return cursor.execute(text, parameters, prepare=False).fetchone()

    def columns(self, tx: Tx, section: str, values: Values) -> list[tuple[str, int]]:
        """Run a section of one statement; name and type of the columns of its answer."""
        (statement,) = self.statements(section)
        with self._executed(tx, section, statement, values) as cursor:
            return [(column.name, column.type_code) for column in cursor.description or ()]

    def can_be_planned(self, section: str, statement: Statement) -> bool:
        """Can `plan` be asked about it? `set`, `lock`, and whatever `needs` does, cannot."""
        return section != "needs" and statement.significant[0].word in _PLANNABLE

    def plan(self, tx: Tx, section: str, statement: Statement) -> None:
        """Let Postgres plan a statement, which proves its names and our right to run it."""
        values = page_values(1, None) | receipt_values(()) | location_values(())
        values |= {"everything": False, "id": ""}
        with self._executed(tx, section, statement, values, explain="explain"):
            pass

    def refused(
        self, section: str, problem: str, fix: str = "", *, line: int | None = None
    ) -> SourceRefused:
        """An error that says which line of which section of which file."""
        found = self.file.sections.get(section)
        line = found.line if line is None and found else line
        place = self.file.file_name if line is None else f"{self.file.file_name}:{line}"
        where = f"{place}: section {section}"
        return SourceRefused(source=self.file.name, problem=f"{where}: {problem}", fix=fix)

    @contextmanager
    def _executed(
        self, tx: Tx, section: str, statement: Statement, values: Values, *, explain: str = ""
    ) -> Iterator[psycopg.Cursor[Row]]:
        text = statement.for_psycopg(RELATIONS.get(section, ""), explain=explain)
        with self._translated(section, statement), tx.cursor(row_factory=dict_row) as cursor:
            # Not prepared: a plan for any limit and any number of receipts is a bad plan,
            # and a pooler between us and Postgres may not know prepared statements.
            cursor.execute(text, {**self._parameters, **values}, prepare=False)
            yield cursor

    @contextmanager
    def _translated(self, section: str, statement: Statement) -> Iterator[None]:
        """The one place where an error of Postgres becomes ours."""
        try:
            yield
        except postgres_errors.ProgrammingError as exc:
            problem = exc.diag.message_primary or str(exc)
            if exc.diag.context or "archiver." in problem:
                raise  # by a trigger: that row's affair; of the ledger's tables: the ledger's
            line = self._line(section, statement, exc)
            raise self.refused(section, problem, self._fix(exc), line=line) from exc
        except postgres_errors.DataError as exc:
            if section not in ("candidates", "holdings"):
                raise  # of one row; the ledger finds out which
            problem = f"a value cannot be read: {exc}"
            raise self.refused(section, problem, line=statement.line) from exc

    def _line(self, section: str, statement: Statement, exc: psycopg.Error) -> int:
        """The line of the file that Postgres means, or where the statement begins."""
        told = _SERVER_LINE.search(str(exc))
        if told is None:
            return statement.line
        return statement.file_line(int(told[1]), RELATIONS.get(section, ""))

    def _fix(self, exc: postgres_errors.ProgrammingError) -> str:
        match exc:
            case postgres_errors.InsufficientPrivilege():
                return "Grant this role what it lacks, as the owner of the table."
            case postgres_errors.UndefinedColumn() | postgres_errors.UndefinedTable():
                command = f"`archiver migrate --source {self.file.name}`"
                return f"Run {command}." if "needs" in self else "Correct the file."
            case _:
                return "Correct the file."


def page_values(limit: int, after: Position | None) -> Values:
    """The parameters of `candidates`."""
    return {
        "limit": limit,
        # The beginning is text: Postgres reads it as the type it is compared with, and
        # Python has no datetime that is before all others.
        "after_due_at": after.due_at if after else "-infinity",
        "after_id": after.id if after else "",
    }


def page_by_id_values(limit: int, after: CandidateId | None) -> Values:
    """The parameters of `holdings`; the empty text is before all others."""
    return {"limit": limit, "after_id": after or ""}


def receipt_values(receipts: Sequence[Receipt]) -> Values:
    """The columns of the relation `receipt`, but for the time."""
    return {
        "receipt_ids": [receipt.id for receipt in receipts],
        "receipt_hot_buckets": [receipt.location.bucket for receipt in receipts],
        "receipt_hot_paths": [receipt.location.path for receipt in receipts],
        "receipt_digests": [str(receipt.digest) for receipt in receipts],
        "receipt_content_digests": [
            str(receipt.content_digest) if receipt.content_digest else None
            for receipt in receipts
        ],
        "receipt_providers": [receipt.cold.provider for receipt in receipts],
        "receipt_cold_buckets": [receipt.cold.bucket for receipt in receipts],
        "receipt_cold_keys": [receipt.cold.key for receipt in receipts],
        "receipt_sizes_bytes": [receipt.size_bytes for receipt in receipts],
    }


def location_values(locations: Sequence[HotLocation]) -> Values:
    """The columns of the relation `location`."""
    return {
        "location_buckets": [location.bucket for location in locations],
        "location_paths": [location.path for location in locations],
    }


@contextmanager
def rolled_back(tx: Tx) -> Iterator[None]:
    """Whatever is done in here never was; the transaction around it goes on."""
    with tx.transaction(force_rollback=True):
        yield
