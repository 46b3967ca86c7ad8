"""The search that the interleavings are explored with: it leaves nothing out."""

from __future__ import annotations

from itertools import combinations

import pytest

from tests.harness.search import Choices, Fork, Replay, Search


def two_lines(choices: Choices, *, length: int = 3) -> str:
    """Two that write a line each, letter by letter; the result is what stands there."""
    left, text = {"A": length, "B": length}, ""
    while any(left.values()):
        options = [name for name, count in left.items() if count]
        name = choices.choose(text, lambda: Fork(options, text, 0))  # noqa: B023  # called here
        left[name] -= 1
        text += name
    return text


def test_every_order_is_run_once() -> None:
    search, seen = Search(), []
    search.run(lambda choices: seen.append(two_lines(choices)))

    assert len(list(combinations(range(6), 3))) == len(seen) == len(set(seen))
    assert search.schedules_count == len(seen)


def test_a_state_is_left_where_it_was_explored_at_no_higher_cost() -> None:
    """The length alone is the state here, so one order is enough."""

    def world(choices: Choices) -> None:
        for step in range(3):
            choices.choose(step, lambda: Fork("AB", step, 0))  # noqa: B023  # called here

    search = Search()
    search.run(world)
    assert (search.states_count, search.schedules_count) == (3, 4)

    everything = Search(merges_states=False)
    everything.run(world)
    assert everything.schedules_count == 8


def test_an_alternative_that_only_the_outcome_shows_is_tried() -> None:
    seen = []

    def world(choices: Choices) -> None:
        first = choices.choose("", lambda: Fork(["good"], "", 0))
        if first == "good" and not choices.is_known:
            choices.offer(["late"])
        seen.append(first)

    Search().run(world)
    assert seen == ["good", "late"]


def test_a_world_that_is_no_function_of_its_choices_is_noticed() -> None:
    runs: list[int] = []

    def world(choices: Choices) -> None:
        runs.append(1)
        choices.choose(len(runs), lambda: Fork("AB", "", 0))

    with pytest.raises(AssertionError, match="not a function of its choices"):
        Search().run(world)


def test_a_schedule_is_run_again() -> None:
    assert two_lines(Replay("BAB")) == "BABAAB"
