"""Workers that are killed, stopped, frozen, or lose their database: see `harness/soak.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.harness.soak import LEASE_SECONDS, Figures, Reach, Soak, Strike, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.harness.figures import TellFigure

CHAINS = 10  # of four rounds
SEED = 20_261_121


@pytest.fixture(scope="module")
def soak() -> Iterator[Soak]:
    with Soak.opened() as soak:
        yield soak


def test_workers_struck_at_random_moments_lose_double_and_leave_nothing(
    soak: Soak, tell_figure: TellFigure
) -> None:
    soak.figures = Figures()  # of this test, whatever this process ran before it
    for seed in range(SEED, SEED + CHAINS):
        soak.chain(seed)

    tell_figure("killed processes", str(soak.figures))
    assert soak.figures.rounds == 4 * CHAINS
    assert soak.figures.kills > soak.figures.rounds / 2


@pytest.mark.parametrize("strike", Strike)
def test_each_way_to_be_struck_is_survived(soak: Soak, strike: Strike) -> None:
    """In mid-move, whichever of them the seeds above drew."""
    with soak.begun(SEED) as chain:
        assert chain.strike(strike, "cold", 12, Reach.UNHEARD)
        chain.finish()


def test_a_frozen_worker_keeps_its_locks_from_nobody_for_longer_than_its_lease(
    soak: Soak,
) -> None:
    """It holds the lock of the source; its kernel acknowledges for it, so TCP ends nothing."""
    with soak.begun(SEED) as chain:
        chain.plant()
        frozen = chain.freeze_at(b"hashtextextended('archiver ' ||")
        other = chain.start()
        until(lambda: other.has_ended, "another worker does the work")

        assert (other.ended(), other.summary["archived"]) == (0, chain.planted_count)
        assert other.summary["seconds"] < 60 - LEASE_SECONDS  # of the statement that waited
        chain.thaw(frozen)
        chain.finish()
