"""A source whose whole definition is one `.sql` file: `ArchiveSource` over its sections."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import psycopg

from archiver.errors import RowMissing
from archiver.model import CandidateId, HotLocation
from archiver.sources import sql_check
from archiver.sources.finding import read_source_file
from archiver.sources.holding import holding, problem_of_page
from archiver.sources.locating import located
from archiver.sources.offers import offer, position
from archiver.sources.sections import (
    Sections,
    location_values,
    page_by_id_values,
    page_values,
    receipt_values,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import timedelta
    from pathlib import Path

    from archiver.errors import SourceRefused
    from archiver.model import Holding, Located, Offer, Position, Receipt, SourceName
    from archiver.sources.sql_file import SqlFile

    Tx = psycopg.Connection[Any]


_PASSED = 10_000  # rows that are in the way, in one statement
_ALL = 2**31 - 1  # rows; no limit, for a section that wants one


@dataclass(frozen=True, slots=True)
class SourceParameters:
    """What every section may name: `:retention_jobs` and `:retention_age`."""

    retention_jobs: int
    retention_age: timedelta


class SqlSource:
    """A source made of named sections of SQL."""

    def __init__(self, file: SqlFile, parameters: SourceParameters) -> None:
        self.file = file
        self._sections = Sections(
            file,
            {
                "retention_jobs": parameters.retention_jobs,
                "retention_age": parameters.retention_age,
            },
        )

    @classmethod
    def load(cls, text_or_path: str | Path, *, parameters: SourceParameters) -> SqlSource:
        """Make a source of a file, or of SQL that is at hand as text.

        A `retention_age` of the file's own is in `file.overrides`; whoever makes the
        parameters looks there first.

        Raises:
            SettingsError: The file cannot be read or is no source; all its problems.
        """
        return cls(read_source_file(text_or_path), parameters)

    @property
    def name(self) -> SourceName:
        return self.file.name

    @property
    def needs(self) -> tuple[str, ...]:
        """What `archiver migrate --source` runs: in turn, outside a transaction."""
        return self.file.needs

    @property
    def looks_for_pointers(self) -> bool:
        return "points_at" in self._sections

    @property
    def can_restore(self) -> bool:
        return "restored" in self._sections

    @property
    def tells_holdings(self) -> bool:
        return "holdings" in self._sections

    def check(self, tx: Tx) -> Sequence[str]:
        warnings = sql_check.check_sections(self._sections, tx)
        return [*warnings, *sql_check.prove(self, tx)]

    def prepare(self, tx: Tx) -> None:
        self._sections.run(tx, "prepare", {})

    def find_candidates(self, limit: int, after: Position | None, tx: Tx) -> Sequence[Offer]:
        rows = self._sections.rows(tx, "candidates", page_values(limit, after))
        offers = [offer(self.file, row) for row in rows]
        if any(one.due_at > next_one.due_at for one, next_one in pairwise(offers)):
            problem = "rows are not in order of (due_at, id)"
            raise self._sections.refused(section="candidates", problem=problem)
        return offers

    def pass_in_the_way(self, after: Position | None, tx: Tx) -> Position | None:
        row = self._sections.pass_in_the_way(tx, page_values(_PASSED, after))
        return None if row is None else position(self.file, row)

    def count_candidates(self, tx: Tx) -> int:
        return self._sections.count(tx, "candidates", page_values(_ALL, None))

    def on_archived(self, receipts: Sequence[Receipt], tx: Tx) -> Collection[CandidateId]:
        return self._flip(tx, "archived", receipts)

    def on_restored(self, receipts: Sequence[Receipt], tx: Tx) -> Collection[CandidateId]:
        """The mirror: point the rows hot again that still hold that cold key.

        Raises:
            SourceRefused: The file has no section `restored`.
        """
        if not self.can_restore:
            problem = "the file has no such section"
            raise self._sections.refused(section="restored", problem=problem)
        return self._flip(tx, "restored", receipts)

    def points_at(self, locations: Collection[HotLocation], tx: Tx) -> Collection[HotLocation]:
        """Which of these does a row point at? None where the file says that none is shared."""
        if not locations or "points_at" not in self._sections:
            return set()
        rows = self._sections.rows(tx, "points_at", location_values(list(locations)))
        return {HotLocation(str(row["hot_bucket"]), str(row["hot_path"])) for row in rows}

    def locate(self, id_: CandidateId, tx: Tx) -> Located:
        if "locate" not in self._sections:
            raise self._sections.refused("locate", "the file has no such section", "Write it.")
        try:
            rows = self._sections.rows(tx, "locate", {"id": id_})
        except psycopg.DataError as exc:  # no id can read like that, say where they are UUIDs
            raise RowMissing(source=self.name, id=id_) from exc
        if not rows:
            raise RowMissing(source=self.name, id=id_)
        if len(rows) > 1:
            problem = f"it returns {len(rows)} rows for {id_!r}"
            raise self._sections.refused("locate", problem)
        return located(self.name, id_, rows[0])

    def holdings(self, limit: int, after: CandidateId | None, tx: Tx) -> Sequence[Holding]:
        if not self.tells_holdings:
            problem = "the file has no such section"
            raise self._sections.refused("holdings", problem, "Write it.")
        rows = self._sections.rows(tx, "holdings", page_by_id_values(limit, after))
        try:
            page = [holding(row) for row in rows]
        except TypeError as exc:
            raise self._sections.refused("holdings", str(exc)) from exc
        if problem := problem_of_page(page, limit, after):
            raise self._sections.refused("holdings", problem, "Order by id, after :after_id.")
        return page

    def housekeeping(self, tx: Tx, *, everything: bool) -> Mapping[str, int]:
        """Every whole number that the section's statements return, by its column."""
        rows = self._sections.run(tx, "housekeeping", {"everything": everything})
        return {
            name: value for row in rows for name, value in row.items() if isinstance(value, int)
        }

    def refused(self, section: str, problem: str, fix: str) -> SourceRefused:
        """An error that says which section of which file."""
        return self._sections.refused(section, problem, fix)

    def _flip(
        self, tx: Tx, section: str, receipts: Sequence[Receipt]
    ) -> Collection[CandidateId]:
        if not receipts:
            return set()
        rows = self._sections.rows(tx, section, receipt_values(receipts))
        return {CandidateId(str(row["id"])) for row in rows}
