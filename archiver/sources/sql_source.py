"""A source whose whole definition is one `.sql` file: `ArchiveSource` over its sections."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archiver.errors import SettingsError
from archiver.model import CandidateId, HotLocation
from archiver.sources import sql_check
from archiver.sources.offers import offer
from archiver.sources.sections import Sections, location_values, page_values, receipt_values
from archiver.sources.sql_file import SqlFile

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import timedelta

    import psycopg

    from archiver.errors import SourceRefused
    from archiver.model import Offer, Position, Receipt, SourceName

    Tx = psycopg.Connection[Any]


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
        parameters looks there first (`read_source_file`).

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
        return tuple(statement.text for statement in self._sections.statements("needs"))

    @property
    def can_restore(self) -> bool:
        return "restored" in self._sections

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


def read_source_file(text_or_path: str | Path) -> SqlFile:
    """Parse a file, or SQL that is at hand as text.

    Raises:
        SettingsError: It cannot be read or is no source; all its problems.
    """
    if isinstance(text_or_path, str):
        return SqlFile.parse(text_or_path, file_name="text")
    try:
        text = text_or_path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        problem = f"{text_or_path}: the source file cannot be read: {exc}"
        raise SettingsError(problems=(problem,)) from exc
    return SqlFile.parse(text, file_name=str(text_or_path))


def shipped_source_file(name: str) -> SqlFile:
    """A source file that comes with archiver, by its name: `task_html`.

    Raises:
        SettingsError: None has this name.
    """
    shipped = {
        Path(entry.name).stem: entry
        for entry in resources.files(__package__).iterdir()
        if entry.name.endswith(".sql")
    }
    if name not in shipped:
        known = ", ".join(sorted(shipped))
        problem = (
            f"there is no source {name!r} (ARCHIVE_SOURCES, --source); "
            f"known: {known}, or the path of a .sql file"
        )
        raise SettingsError(problems=(problem,))
    entry = shipped[name]
    return SqlFile.parse(entry.read_text(encoding="utf-8"), file_name=entry.name)
