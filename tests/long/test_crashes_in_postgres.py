"""A sweep on Postgres is stopped at every point there is, for every kind of source.

Rows, ledger and engine are real; what is enumerated is whatever a sweep without trouble does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from archiver.model import Evidence
from tests.harness.crash_sources import Avatars, Invoices, Pages
from tests.harness.crash_world import eventful
from tests.harness.crashes import (
    cuts_of_a_sweep,
    of_every_kind,
    troubles_of_cut,
    troubles_of_death,
    witness_a_sweep,
)

if TYPE_CHECKING:
    from tests.harness.crash_sources import Rowed
    from tests.harness.crash_world import MakeCrashWorld
    from tests.harness.figures import TellFigure

SOURCES = [Pages(), Avatars(), Invoices()]


@pytest.mark.parametrize("rowed", SOURCES, ids=lambda it: it.name)
@pytest.mark.parametrize(("seed", "evidence"), [(0, Evidence.SIGNED), (1, Evidence.READBACK)])
def test_no_byte_is_lost_wherever_a_sweep_on_postgres_dies(
    rowed: Rowed,
    seed: int,
    evidence: Evidence,
    make_crash_world: MakeCrashWorld,
    tell_figure: TellFigure,
) -> None:
    world = make_crash_world(rowed, seed, evidence)
    witness = witness_a_sweep(world, eventful(world))
    wrong = [it for death in witness.deaths for it in troubles_of_death(world, death)]
    tell_figure(
        f"crashes in Postgres, {rowed.name}, {evidence}, seed {seed}",
        f"{witness.points_count} points, {len(witness.deaths)} states",
    )
    assert [] == wrong
    assert witness.points_count > 500
    assert len(witness.deaths) > 30


@pytest.mark.parametrize("rowed", SOURCES, ids=lambda it: it.name)
def test_a_sweep_survives_a_connection_lost_at_any_statement(
    rowed: Rowed, make_crash_world: MakeCrashWorld, tell_figure: TellFigure
) -> None:
    world = make_crash_world(rowed, 0)
    base = eventful(world)
    points = of_every_kind(cuts_of_a_sweep(world, base))
    wrong = [it for point in points for it in troubles_of_cut(world, base, point)]
    tell_figure(f"connections lost, {rowed.name}", f"{len(points)} points")
    assert [] == wrong
    assert len(points) > 100
