"""Every lie, by every client and at every level: docs/guarantees.md, "A store that lies"."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.fakes.s3_worlds import BUCKET as COLD
from tests.fakes.table_source import BUCKET as HOT
from tests.liar.judging import judge, judge_cold
from tests.liar.page import promised_cold, promised_hot, promised_parts
from tests.liar.repertoire import COLD_FAULTS, HOT_FAULTS, PART_FAULTS
from tests.liar.scene import CLIENTS, LEVELS, Stage
from tests.liar.server import LyingS3

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.model import Evidence
    from tests.liar.scene import Fault

COLD_PROMISES = {**promised_cold(), **promised_parts()}
HOT_PROMISES = promised_hot()


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with LyingS3(COLD, HOT) as server:
        stage = Stage(server)
        yield stage
        server.lies.forget()
        stage.close()


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("evidence", LEVELS, ids=str)
@pytest.mark.parametrize("fault", [*COLD_FAULTS, *PART_FAULTS], ids=lambda it: it.name)
def test_what_the_table_says_of_a_cold_store_happens(
    stage: Stage, fault: Fault, evidence: Evidence, client: str
) -> None:
    seen = stage.play_cold(fault, evidence, client)

    judge_cold(seen, COLD_PROMISES[fault.name][evidence, client], fault, evidence)


@pytest.mark.parametrize("fault", HOT_FAULTS, ids=lambda it: it.name)
def test_what_the_table_says_of_a_hot_store_happens(stage: Stage, fault: Fault) -> None:
    judge(stage.play_hot(fault), HOT_PROMISES[fault.name], fault)
