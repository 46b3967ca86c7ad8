"""What rows, objects and people may say, and what it must not do: on fakes, quickly.

The same on real parts is in tests/long: test_hostile_rows.py, test_bombs.py.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from archiver.engine.verify import verify
from archiver.errors import ColdMismatch, ObjectMissing, UnreadableContent
from archiver.events import ObjectParked
from archiver.ledger.rows import storable
from archiver.model import ClaimState, ColdStat, HotLocation
from archiver.ops.logs import LogObserver
from tests.fakes.clock import ManualClock
from tests.fakes.table_source import page
from tests.unit.engine.test_move import Bench, claim
from tests.unit.engine.world import World, at, ids

if TYPE_CHECKING:
    from collections.abc import Sequence

    from archiver.model import ColdKey

HOSTILE = "x\n2026-01-01T00:00:00Z error   forged\r\x1b[2J\x9b31m\u2028\u202e\x85\ud800"


# --- rows -------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_a_row_that_names_a_missing_bucket_parks_alone_beside_others(seed: int) -> None:
    """Else one row at the head would stop every sweep of its source."""
    world = World(seed=seed)
    world.plant(*ids(9, start=1))
    world.rows.plant(replace(page("000"), hot_bucket="no such bucket"))

    summary = world.sweep(batch_size=3)

    assert (summary.state, summary.archived, summary.parked) == ("done", 9, 1)
    assert world.claim_states() == {"000": ClaimState.PARKED}
    assert "no such bucket" in str(world.reasons()["000"])
    assert [] == [it for it in world.troubles() if "000" not in it]


def test_where_no_bucket_is_there_it_is_the_settings_and_nothing_is_parked() -> None:
    world = World()
    for id_ in ids(3):
        world.rows.plant(replace(page(id_), hot_bucket=f"no such bucket {id_}"))

    assert world.sweep().state == "fatal"

    assert {} == world.claim_states()


# --- proofs -----------------------------------------------------------------------------


def test_a_shorter_copy_is_seen_though_its_store_tells_no_etag() -> None:
    bench = Bench()
    sent = replace(bench.mover.move(claim()), etag=None)

    class Shortened:
        def stat_many(self, keys: Sequence[ColdKey]) -> dict[ColdKey, ColdStat]:
            return {key: ColdStat(key, sent.size_bytes - 1, None) for key in keys}

    stores = replace(bench.stores, cold=Shortened())  # type: ignore[arg-type]  # all it asks
    verified = verify([sent], stores)

    ((_, error),) = verified.failed
    assert isinstance(error, ColdMismatch)


# --- what is told -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        ObjectMissing(store="hot", where=HOSTILE),
        UnreadableContent(where=HOSTILE, expected="gzip", seen=HOSTILE),
    ],
)
def test_an_error_is_one_line_whatever_is_in_its_facts(error: Exception) -> None:
    assert str(error).isprintable()
    assert storable(str(error)) == str(error)


def test_a_reason_is_one_line_that_postgres_keeps_and_not_a_page() -> None:
    told = storable(f"\0{HOSTILE}" + "x" * 10_000)

    assert told.isprintable()
    assert len(told) < 2000


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_hostile_row_is_told_in_one_line(log_format: str) -> None:
    written: list[str] = []
    log = LogObserver(
        written.append,
        log_format=log_format,  # type: ignore[arg-type]  # parametrized
        level="debug",
        clock=ManualClock(),
    )
    one = claim()
    hostile = replace(
        one.candidate,
        id=HOSTILE,  # type: ignore[arg-type]  # what a row holds
        location=HotLocation(HOSTILE, HOSTILE),
        group_id=HOSTILE,
    )

    log(ObjectParked(replace(one, candidate=hostile), HOSTILE))

    (line,) = written
    assert line.removesuffix("\n").isprintable()


# --- the application, in any order ------------------------------------------------------

IDS = st.sampled_from(ids(4))
CONTENT = st.binary(max_size=4)


class Application(RuleBasedStateMachine):
    """It plants, captures again, deletes and undoes, while workers sweep and die."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(seed=1)
        self.planted: set[str] = set()
        self.captured_count = 0

    @rule(id_=IDS, content=CONTENT)
    def capture(self, id_: str, content: bytes) -> None:
        """A page is planted, or captured again over what was there."""
        self.captured_count += 1
        content += b"%d" % self.captured_count  # the same bytes twice are one version
        if id_ in self.planted:
            self.world.capture_again(id_, content)
        else:
            self.world.plant(id_, content=content)
            self.planted.add(id_)

    @precondition(lambda self: self.planted)
    @rule(data=st.data())
    def delete_row(self, data: st.DataObject) -> None:
        id_ = data.draw(st.sampled_from(sorted(self.planted)))
        self.planted.discard(id_)
        self.world.rows.remove(id_)
        self.world.forget(id_)

    @rule(release=st.booleans(), seed=st.integers(0, 5))
    def sweep(self, *, release: bool, seed: int) -> None:
        worker = self.world.worker(seed)
        assert worker.sweep(release=release).state == "done"
        worker.leave()

    @rule(
        call=st.sampled_from(
            ["cold.create", "claims.record", "releases.released", "hot.delete"]
        ),
        is_after=st.booleans(),
    )
    def sweep_and_die(self, call: str, *, is_after: bool) -> None:
        worker = self.world.worker()
        when = "after" if is_after else "before"
        worker.script.on(call, **{when: _die})  # type: ignore[arg-type]  # one of the two
        try:
            worker.sweep()
        except _Killed:
            worker.stop_beating()
            self.world.outlive_leases()
        else:
            worker.leave()

    @rule()
    def undo(self) -> None:
        worker = self.world.worker()
        worker.undo(hold_seconds=1.0)
        worker.leave()
        self.world.clock.stepped()
        self.world.clock.advance(2.0)

    @rule()
    def retry(self) -> None:
        self.world._ledger.records.retry(None, None)

    @invariant()
    def nothing_is_lost(self) -> None:
        assert [] == self.world.troubles()

    def teardown(self) -> None:
        """Left alone, a sweep brings everything home."""
        self.world.clock.advance(7200.0)
        assert self.world.sweep().state == "done"
        assert [] == self.world.troubles()
        assert not {at(id_) for id_ in self.planted} & self.world.hot.objects.keys()


class _Killed(BaseException):
    """As by kill -9: nobody catches it."""


def _die() -> None:
    raise _Killed


TestApplication = Application.TestCase
TestApplication.settings = settings(
    derandomize=True, max_examples=40, stateful_step_count=12, deadline=None
)
