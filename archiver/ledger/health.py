"""The pulse of the workers of one host: one connection, one query, no pool.

For a probe that runs every half minute beside a worker, so it imports little.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from archiver.ledger.database import (
    BoundedConnection,
    Bounds,
    connection_parameters,
    fetch,
    set_up,
)
from archiver.ledger.queries import load
from archiver.ledger.translation import translated
from archiver.model import Pause, pause_of

if TYPE_CHECKING:
    from archiver.model import Secret
    from archiver.protocols import Clock

_SQL = load("health.sql")
_CONNECT_SECONDS = 4
_BOUNDS = Bounds(statement_seconds=4.0, idle_seconds=4.0)


@dataclass(frozen=True, slots=True)
class Pulse:
    """All instants by the database's clock."""

    asked_at: datetime
    pause: Pause
    last_at: datetime | None  # the end of a sweep, or the start of a worker; None: never
    progressed_at: datetime | None  # of the sweep that is under way; None: none is
    last_state: str | None  # of the last sweep that has ended


def find_pulse(url: Secret, host: str, clock: Clock) -> Pulse:
    """Ask the ledger.

    Raises:
        SettingsError, LedgerUnavailable, LedgerDenied, LedgerOutdated
    """
    parameters = connection_parameters(
        url, application_name="archiver health", connect_timeout_seconds=_CONNECT_SECONDS
    )
    with (
        translated("health"),
        BoundedConnection.connect(**parameters, prepare_threshold=None) as tx,
    ):
        tx.bound = clock, _BOUNDS.answer_seconds
        set_up(tx, _BOUNDS)
        (row,) = fetch(tx, _SQL["find_pulse"], {"host": host})
    return Pulse(
        asked_at=row["asked_at"].astimezone(UTC),
        pause=pause_of(row["pauses"]),
        last_at=row["last_at"] and row["last_at"].astimezone(UTC),
        progressed_at=row["progressed_at"] and row["progressed_at"].astimezone(UTC),
        last_state=row["last_state"],
    )
