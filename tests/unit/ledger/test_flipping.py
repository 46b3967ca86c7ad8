"""A group is halved until the row that is meant stands alone; patience has a bound."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from archiver.ledger.flipping import BUSY_TRIES, RowBusy, RowRefused, halving

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def run(
    items: Sequence[int], error_of: Callable[[int], Exception | None]
) -> tuple[dict[int, str], list[int]]:
    """Each item's answer, and the sizes of the groups that were attempted."""
    sizes: list[int] = []

    def attempt(group: Sequence[int]) -> dict[int, str]:
        sizes.append(len(group))
        for item in group:
            if (error := error_of(item)) is not None:
                raise error
        return dict.fromkeys(group, "fine")

    def alone(item: int, why: RowBusy | RowRefused) -> dict[int, str]:
        return {item: "busy" if isinstance(why, RowBusy) else str(why)}

    answers: dict[int, str] = {}
    for told in halving(items, attempt, alone):
        assert not answers.keys() & told.keys()
        answers |= told
    return answers, sizes


def test_a_group_without_trouble_is_attempted_once() -> None:
    assert run(range(100), lambda _: None) == (dict.fromkeys(range(100), "fine"), [100])
    assert run([], lambda _: None) == ({}, [])


@pytest.mark.parametrize("culprit", range(9))
def test_the_one_that_is_meant_is_found_wherever_it_stands(culprit: int) -> None:
    answers, _ = run(range(9), lambda item: RowRefused("no") if item == culprit else None)

    assert answers == {item: "no" if item == culprit else "fine" for item in range(9)}


def test_all_that_raise_are_found_however_many() -> None:
    answers, _ = run(range(500), lambda item: RowRefused("no") if item % 3 else None)

    assert answers == {item: "no" if item % 3 else "fine" for item in range(500)}


def test_where_all_are_held_the_waits_are_bounded() -> None:
    answers, sizes = run(range(500), lambda _: RowBusy())

    assert answers == dict.fromkeys(range(500), "busy")
    assert len(sizes) == BUSY_TRIES


@pytest.mark.parametrize("held", [range(250), range(250, 500)], ids=["first", "last"])
def test_held_rows_at_one_end_leave_the_other_end_its_turn(held: range) -> None:
    answers, _ = run(range(500), lambda item: RowBusy() if item in held else None)

    assert answers == {item: "busy" if item in held else "fine" for item in range(500)}
