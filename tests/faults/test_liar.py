"""A lying S3 server before the real engine: docs/guarantees.md, "A store that lies".

Here by obstore, at `signed` and `readback`, what needs no silence; all of it in tests/long.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from archiver.model import Evidence
from tests.fakes.s3_worlds import BUCKET as COLD
from tests.fakes.table_source import BUCKET as HOT
from tests.liar.bucket import Held
from tests.liar.judging import NOT_MET, judge, judge_cold
from tests.liar.page import promised_cold, promised_hot, promised_parts
from tests.liar.repertoire import COLD_FAULTS, HOT_FAULTS, PART_FAULTS
from tests.liar.scene import COLD_TARGET, Fault, Stage
from tests.liar.server import LyingS3

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.harness.figures import TellFigure

COLD_PROMISES, HOT_PROMISES = promised_cold(), promised_hot()
PART_PROMISES = promised_parts()


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with LyingS3(COLD, HOT) as server:
        stage = Stage(server)
        yield stage
        server.lies.forget()
        stage.close()


@pytest.mark.parametrize("evidence", [Evidence.SIGNED, Evidence.READBACK], ids=str)
@pytest.mark.parametrize(
    "fault", [it for it in COLD_FAULTS if not it.is_silent], ids=lambda it: it.name
)
def test_a_cold_store_that_lies_costs_no_byte(
    stage: Stage, fault: Fault, evidence: Evidence
) -> None:
    seen = stage.play_cold(fault, evidence, "obstore")

    judge_cold(seen, COLD_PROMISES[fault.name][evidence, "obstore"], fault, evidence)


@pytest.mark.parametrize("evidence", [Evidence.SIGNED, Evidence.READBACK], ids=str)
@pytest.mark.parametrize("fault", PART_FAULTS, ids=lambda it: it.name)
def test_a_cold_store_that_lies_about_parts_costs_no_byte(
    stage: Stage, fault: Fault, evidence: Evidence
) -> None:
    seen = stage.play_cold(fault, evidence, "obstore")

    judge_cold(seen, PART_PROMISES[fault.name][evidence, "obstore"], fault, evidence)


@pytest.mark.parametrize(
    "fault", [it for it in HOT_FAULTS if not it.is_silent], ids=lambda it: it.name
)
def test_a_hot_store_that_lies_costs_no_byte(stage: Stage, fault: Fault) -> None:
    judge(stage.play_hot(fault), HOT_PROMISES[fault.name], fault)


def test_a_store_that_stops_enforcing_creates_writes_over_the_older_copy(
    stage: Stage,
) -> None:
    """Nobody can tell by the answer; what is written over has lost its copy."""
    older = Held.of(b"an archived object of before", {})
    fault = next(it for it in COLD_FAULTS if it.name.endswith("since it was probed"))

    def tell(server: LyingS3) -> None:
        server.buckets.put(COLD, f"{COLD_TARGET}html.gz", older)
        fault.tell(server)

    seen = stage.play_cold(replace(fault, tell=tell), Evidence.READBACK, "obstore")

    assert seen.outcome == "archived, released"
    held = stage.server.buckets.held(COLD, f"{COLD_TARGET}html.gz")
    assert held is not None
    assert held.body != older.body


def test_a_store_that_enforces_creates_keeps_the_older_copy(stage: Stage) -> None:
    older = Held.of(b"an archived object of before", {})

    def tell(server: LyingS3) -> None:
        server.buckets.put(COLD, f"{COLD_TARGET}html.gz", older)

    seen = stage.play_cold(Fault(name="none", tell=tell), Evidence.SIGNED, "obstore")

    assert seen.outcome == "archived under another key, released"
    held = stage.server.buckets.held(COLD, f"{COLD_TARGET}html.gz")
    assert held is not None
    assert held.body == older.body


def test_the_tables_name_every_lie_and_every_lie_is_told(tell_figure: TellFigure) -> None:
    assert list(COLD_PROMISES) == [fault.name for fault in COLD_FAULTS]
    assert list(PART_PROMISES) == [fault.name for fault in PART_FAULTS]
    assert list(HOT_PROMISES) == [fault.name for fault in HOT_FAULTS]
    assert [name for name, it in COLD_PROMISES.items() if set(it.values()) == {NOT_MET}] == []
    assert NOT_MET not in HOT_PROMISES.values()
    of_cold = [*COLD_PROMISES.values(), *PART_PROMISES.values()]
    cells_count = sum(map(len, of_cold)) + len(HOT_PROMISES)
    tell_figure(
        "stores that lie",
        f"{len(COLD_FAULTS)} cold, {len(PART_FAULTS)} of parts, {len(HOT_FAULTS)} hot, "
        f"{cells_count} cells",
    )


def test_at_readback_nothing_is_lost_that_was_right_when_it_was_read() -> None:
    """And at the other levels nothing but what a store damages in spite of its word."""
    lost = {
        name: {level for (level, _client), told in cells.items() if told == "**lost**"}
        for name, cells in [*COLD_PROMISES.items(), *PART_PROMISES.items()]
    }
    proven = [fault.name for fault in (*COLD_FAULTS, *PART_FAULTS) if fault.at_record is None]
    assert [name for name in proven if Evidence.READBACK in lost[name]] == []
