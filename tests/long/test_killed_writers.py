"""A process that keeps the record of an upload in a file is killed, again and again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.integration.test_ledger_in_sqlite import kill_savers

if TYPE_CHECKING:
    from pathlib import Path

ROUNDS = 40


def test_what_was_acknowledged_is_there_however_often_it_is_killed(tmp_path: Path) -> None:
    kill_savers(tmp_path, ROUNDS)
