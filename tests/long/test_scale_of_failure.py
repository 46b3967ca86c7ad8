"""When much fails, the rest goes on as if it had not: counted, not timed.

Rows and ledger are real, the stores are fakes that count what they are asked.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from archiver.engine.copies import Stores
from archiver.engine.egress import FREE
from archiver.model import Evidence, HotLocation
from tests.fakes.stores import FakeColdStore, FakeHotStore
from tests.harness.hover import BUCKET
from tests.harness.racing import RacingWorld
from tests.harness.sides import FileSide

if TYPE_CHECKING:
    from contextlib import ExitStack
    from pathlib import Path

    from archiver.ledger.postgres import PostgresLedger
    from archiver.model import Summary
    from tests.harness.figures import TellFigure
    from tests.harness.hover import Hover

HALF = 10_000
GROUPS = {"verify_group": 64, "record_group": 500, "release_slice": 100, "batch_size": 500}


class CountedWorld(RacingWorld):
    """Its stores are fakes."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.fake_hot = FakeHotStore(BUCKET)
        self.fake_cold = FakeColdStore()

    def open_stores(self, ledger: PostgresLedger, closing: ExitStack) -> Stores:
        del ledger, closing
        return Stores(self.fake_hot, self.fake_cold, Evidence.SIGNED, None, FREE)

    def plant_half(self, *, are_there: bool) -> None:
        """Older than all others so far; with no object there is nothing to be done."""
        self.hover.many(jobs=100, pages_per_job=HALF // 100)
        if are_there:
            for path, name in self.ask(
                "select html_storage_path, id from tasks where html_storage_path is not null"
            ):
                self.fake_hot.plant(HotLocation(BUCKET, path), name.encode())

    def counted_sweep(self, **plan: object) -> tuple[Summary, Counter[str]]:
        """One sweep, and how often each call crossed a contract."""
        racer = self.racer()
        summary = racer.sweep(**GROUPS, **plan)
        racer.leave()
        return summary, Counter(racer.script.calls)


@pytest.fixture
def counted(hover: Hover, hover_url: str, tmp_path: Path) -> CountedWorld:
    sides = FileSide(tmp_path / "hot"), FileSide(tmp_path / "cold")
    environ = {
        **sides[0].hot_settings,
        **sides[1].cold_settings,
        "ARCHIVE_DATABASE_URL": hover_url,
        "ARCHIVE_RELEASE_GRACE": "0s",
        "ARCHIVE_RETENTION_JOBS": "0",
        "ARCHIVE_LEASE": "1h",  # nobody beats
    }
    return CountedWorld(hover, *sides, environ)


def test_half_of_20_000_failing_for_good_does_not_slow_the_other_half(
    counted: CountedWorld, tell_figure: TellFigure
) -> None:
    """The bad half is the oldest, and what it costs is its own."""
    counted.plant_half(are_there=True)
    counted.plant_half(are_there=False)

    summary, calls = counted.counted_sweep()

    assert (summary.state, summary.stopped, summary.error) == ("done", None, None)
    assert (summary.archived, summary.released, summary.parked) == (HALF, HALF, HALF)
    of_ledger = sum(
        count for name, count in calls.items() if name.startswith(("claims", "rel"))
    )
    tell_figure(
        "20,000 candidates, half of them fail",
        f"{of_ledger} calls of the ledger, {calls['hot.open']} reads begun",
    )
    assert calls["hot.open"] == 2 * HALF  # each once
    assert calls["open.read"] == HALF
    assert calls["cold.create"] == HALF + 1  # and the stamp, before the first release
    assert calls["hot.probe"] == 1
    assert calls["claims.claim"] <= 2 * HALF / GROUPS["batch_size"] + 10
    assert calls["claims.record"] <= 2 * HALF / GROUPS["record_group"]
    assert calls["claims.fail"] <= HALF / 200 + 50  # full groups of 200, or one a second

    again, calls = counted.counted_sweep()

    assert (again.archived, again.parked) == (0, 0)
    assert "hot.open" not in calls  # what is parked is asked of nobody


def test_a_failure_ratio_stops_a_sweep_before_much_is_parked(counted: CountedWorld) -> None:
    counted.plant_half(are_there=False)

    summary, calls = counted.counted_sweep(max_failure_ratio=0.25)

    assert (summary.state, summary.stopped) == ("stopped", "failures")
    assert summary.parked <= 1000
    assert calls["hot.open"] <= 1500
    assert [] == counted.ask("select id from archiver.claim where state <> 'parked'")
