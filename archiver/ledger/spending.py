"""What all workers read of stores that charge for it, within a window that rolls."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING

from archiver.ledger.database import fetch
from archiver.ledger.queries import load
from archiver.model import Spent

if TYPE_CHECKING:
    from archiver.ledger.database import Database
    from archiver.model import EgressBudget

_SQL = load("spending.sql")
_ROW_SECONDS = 300.0  # a month is 8,640 rows; what was spent comes back so much later, at most


class PostgresSpending:
    """The rows of `spend`. Implements `protocols.Spending`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def reserve(self, wanted_bytes: int, budget: EgressBudget) -> int:
        asked = {"wanted_bytes": max(0, wanted_bytes), **_of_window(budget)}
        with self._database.transaction("reserve") as tx:
            tx.execute(_SQL["lock_spending"])
            (row,) = fetch(tx, _SQL["reserve"], asked)
            tx.execute(_SQL["forget_spending"])
        granted: int = row["bytes"]
        return granted

    def settle(self, unused_bytes: int) -> None:
        query = _SQL["give_back"] if unused_bytes > 0 else _SQL["owe"]
        asked = {"bytes": abs(unused_bytes), "row_seconds": _ROW_SECONDS}
        with self._database.transaction("settle") as tx:
            tx.execute(_SQL["lock_spending"])
            tx.execute(query, asked)

    def spent(self, budget: EgressBudget) -> Spent:
        with self._database.transaction("spent") as tx:
            (row,) = fetch(tx, _SQL["find_spent"], _of_window(budget))
        room_at = row["next_room_at"]
        return Spent(
            budget=budget,
            spent_bytes=row["spent_bytes"],
            next_room_at=None if room_at is None else room_at.astimezone(UTC),
        )


def _of_window(budget: EgressBudget) -> dict[str, float]:
    return {
        "limit_bytes": budget.limit_bytes,
        "window_seconds": budget.window_seconds,
        "row_seconds": _ROW_SECONDS,
    }
