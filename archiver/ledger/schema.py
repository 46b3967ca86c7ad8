"""The numbered files of `migrations`, and whether the database has what they make."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from archiver.errors import LedgerOutdated
from archiver.ledger.database import fetch
from archiver.ledger.queries import load

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from archiver.ledger.database import Connection

_SQL = load("schema.sql")
_FILE_NAME = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")
_HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: its number is the version it brings the ledger to."""

    version: int
    file_name: str
    text: bytes

    @property
    def sha256(self) -> bytes:
        return hashlib.sha256(self.text).digest()


def migrations() -> Sequence[Migration]:
    """All files of this release, in their order."""
    return [
        Migration(int(match[1]), path.name, path.read_bytes())
        for path in sorted(_folder().iterdir())
        if (match := _FILE_NAME.fullmatch(path.name))
    ]


def applied(tx: Connection) -> Mapping[int, bytes | None]:
    """The versions this database has, with the SHA-256 of the file where it is known."""
    (has_schema,) = fetch(tx, _SQL["has_schema_version"], {})
    if not has_schema["is_there"]:
        return {}
    return {row["version"]: row["sha256"] for row in fetch(tx, _SQL["list_versions"], {})}


def require(tx: Connection) -> None:
    """Prove that the ledger's tables serve this release.

    A ledger one step newer does: two releases may run beside each other while one replaces
    the other.

    Raises:
        LedgerOutdated
    """
    needed, found = migrations()[-1].version, max(applied(tx), default=0)
    if found < needed:
        told = f"version {found}" if found else "no tables"
        raise LedgerOutdated(found=told, needed=f"version {needed}")
    if found > needed + 1:
        newest = f"at most version {needed + 1}; this archiver is too old for it"
        raise LedgerOutdated(found=f"version {found}", needed=newest)


def _folder() -> Path:
    """Beside this module where archiver is installed; at the top of a checkout."""
    packaged = _HERE / "migrations"
    return packaged if packaged.is_dir() else _HERE.parents[1] / "migrations"
