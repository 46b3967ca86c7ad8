"""Real workers whose way to one of their three servers fails, and comes back after them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.harness.soak import Soak
from tests.harness.wire import How

if TYPE_CHECKING:
    from collections.abc import Iterator

SEED = 20_261_121
SMALL = {
    "ARCHIVE_TIMEOUT": "2s",
    "ARCHIVE_STATEMENT_TIMEOUT": "1s",
    "ARCHIVE_ONCE_WAIT": "1s",
    "ARCHIVE_DRAIN_TIMEOUT": "2s",
    "ARCHIVE_S3_CLIENT": "obstore",
    "ARCHIVE_EVIDENCE": "readback",  # so that both stores are read
}
# Behind each of them the other servers answer: it is this one that the sweep waits for.
PLACES = [("supabase", "database"), ("supabase", "hot"), ("s3", "hot"), ("supabase", "cold")]
PASSING = {How.CUT, How.HALF_OPEN}  # new connections are served at once
MID_SWEEP = {"database": 40, "hot": 8, "cold": 14}


@pytest.fixture(scope="module")
def soak() -> Iterator[Soak]:
    with Soak.opened() as soak:
        yield soak


@pytest.mark.parametrize("how", How)
@pytest.mark.parametrize(("hot", "place"), PLACES)
def test_a_network_that_fails_in_mid_sweep_ends_it_in_time_and_the_next_one_recovers(
    soak: Soak, hot: str, place: str, how: How
) -> None:
    with soak.begun(SEED, hot=hot, **SMALL) as chain:
        code = chain.fail_network(place, how, MID_SWEEP[place])

        assert code != 0 or how in PASSING
        chain.finish()


@pytest.mark.parametrize("how", [How.STALL, How.REFUSED])
@pytest.mark.parametrize(("hot", "place"), PLACES)
def test_a_server_that_cannot_be_reached_from_the_start_is_said_so(
    soak: Soak, hot: str, place: str, how: How
) -> None:
    with soak.begun(SEED, hot=hot, **SMALL) as chain:
        assert chain.fail_network(place, how, 0) != 0
        chain.finish()


@pytest.mark.parametrize(
    ("setting", "address"),
    [
        ("ARCHIVE_DATABASE_URL", "postgresql://me:secret@nowhere.invalid/app"),
        ("SUPABASE_URL", "http://nowhere.invalid"),
        ("ARCHIVE_ENDPOINT", "http://nowhere.invalid"),
    ],
)
def test_a_name_that_does_not_resolve_is_said_so(
    soak: Soak, setting: str, address: str
) -> None:
    with soak.begun(SEED, hot="supabase", **SMALL) as chain:
        chain.plant()
        worker = chain.start(changes={"ARCHIVE_ALLOW_HTTP": "on", setting: address})

        code = worker.ended()

        assert code != 0
        chain.require_said_so(worker, code)
        assert "nowhere.invalid" in worker.words()
        chain.finish()


@pytest.mark.parametrize(("hot", "place"), PLACES)
def test_a_scheduled_worker_outlasts_it(soak: Soak, hot: str, place: str) -> None:
    with soak.begun(SEED, hot=hot, **SMALL) as chain:
        chain.outlast_network(place, How.STALL, MID_SWEEP[place])
        chain.finish()
