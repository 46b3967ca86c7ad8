"""The orders of `tests/faults/test_interleavings.py`, explored further."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from archiver.model import Evidence
from tests.fakes.stores import ENFORCES_ALL
from tests.harness.rivals import (
    ENFORCES_NO_CREATE,
    MOVES,
    Bounds,
    Setting,
    explore,
)

if TYPE_CHECKING:
    from tests.harness.figures import TellFigure

MOVING = Setting(plan=MOVES)
RELEASING = Setting(begins_archived=True, begins_vouched=True)
WHOLE = Setting(bounds=Bounds(1, 1), begins_vouched=True)
IN_PARTS = Setting(bounds=Bounds(0, 1), plan=MOVES, part_bytes=11)
KEEPS_NO_REFUSED = replace(ENFORCES_ALL, keeps_refused_parts=False)
STAMPING = Setting(bounds=Bounds(1, 1, {"sleeps": 1}), begins_archived=True)


@pytest.mark.parametrize(
    ("told", "setting"),
    [
        ("whole sweeps", WHOLE),
        ("whole sweeps, read back", replace(WHOLE, evidence=Evidence.READBACK)),
        ("releases, first stamps", STAMPING),
        ("moves, two events", replace(MOVING, bounds=Bounds(0, 2))),
        ("moves, preempted more", replace(MOVING, bounds=Bounds(2, 1))),
        ("releases, preempted more", replace(RELEASING, bounds=Bounds(2, 1))),
        ("parts, unconditional complete", replace(IN_PARTS, capabilities=KEEPS_NO_REFUSED)),
        ("parts, digest keys", replace(IN_PARTS, capabilities=ENFORCES_NO_CREATE)),
        ("parts, preempted, asleep", replace(IN_PARTS, bounds=Bounds(1, 1, {"sleeps": 1}))),
        ("parts, preempted, dying", replace(IN_PARTS, bounds=Bounds(1, 1, {"dies": 1}))),
        ("parts, preempted, captured", replace(IN_PARTS, bounds=Bounds(1, 1, {"puts": 1}))),
    ],
)
def test_no_promise_is_broken_in_any_longer_order(
    told: str, setting: Setting, tell_figure: TellFigure
) -> None:
    explored = explore(setting)

    tell_figure(f"interleavings, {told}, {setting.bounds}", str(explored))
    assert explored.windows_count == 0


def test_merging_equal_states_loses_no_end() -> None:
    """Each world that the workers can leave behind is found with merging, too."""
    setting = replace(MOVING, bounds=Bounds(2, 1, {"dies": 1, "deletes": 1}))

    everything = explore(setting, merges_states=False)
    merged = explore(setting)

    assert merged.ends == everything.ends
    assert merged.schedules_count < everything.schedules_count
