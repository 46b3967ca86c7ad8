"""Every order in which choices can be made, depth first, by running a world anew for each.

A world is nothing but what follows from its choices. So it is never copied: each run makes
the choices of the one before up to the last that had an alternative, takes that, and goes on
by default. A run ends early where the state it comes to was explored before.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence


class Cut(BaseException):
    """All that can follow from here is known."""


@dataclass(frozen=True)
class Fork:
    """A choice that was not met before."""

    options: Sequence[str]
    state: Hashable  # all that decides what can follow, but for the cost
    cost: int  # what was spent of a bounded good: the state is explored again where less was


class Choices(Protocol):
    """What a world asks at each of its choices."""

    @property
    def schedule(self) -> Sequence[str]:
        """The choices made in this run."""

    @property
    def is_known(self) -> bool:
        """Whether the next choice was made by an earlier run: nothing new is to be seen."""

    def choose(self, here: Hashable, fork: Callable[[], Fork]) -> str:
        """One of the options of a fork; the first is the default.

        Args:
            here: Where everybody is: a function of the choices before, else it is an error.
            fork: Asked only where nobody was before.

        Raises:
            Cut: The state was explored before, at no higher cost.
        """

    def offer(self, options: Sequence[str]) -> None:
        """Alternatives to the choice made last, which only its outcome showed to be some."""


@dataclass
class _Level:
    here: Hashable
    taken: str
    untried: list[str]


@dataclass
class Search:
    """Runs a world until every schedule within its bounds was seen."""

    merges_states: bool = True
    schedules_count: int = 0
    steps_count: int = 0  # taken anew, not to get to where a run before had been
    _levels: list[_Level] = field(default_factory=list)
    _depth: int = 0
    _seen: dict[Hashable, int] = field(default_factory=dict)  # the least cost it was reached at

    @property
    def states_count(self) -> int:
        return len(self._seen)

    def run(self, world: Callable[[Choices], None]) -> None:
        """Whatever the world raises, but for `Cut`, ends the search."""
        while True:
            self._depth = 0
            self.schedules_count += 1
            with suppress(Cut):
                world(self)
            if not self._take_the_next():
                return

    @property
    def schedule(self) -> list[str]:
        return [level.taken for level in self._levels[: self._depth]]

    @property
    def is_known(self) -> bool:
        return self._depth < len(self._levels)

    def choose(self, here: Hashable, fork: Callable[[], Fork]) -> str:
        if self.is_known:
            level = self._levels[self._depth]
            assert level.here == here, "the world is not a function of its choices"
        else:
            new = fork()
            is_seen = self._seen.get(new.state, new.cost + 1) <= new.cost
            if is_seen and self.merges_states:
                raise Cut
            self._seen[new.state] = new.cost
            level = _Level(here, new.options[0], [*new.options[:0:-1]])
            self._levels.append(level)
            self.steps_count += 1
        self._depth += 1
        return level.taken

    def offer(self, options: Sequence[str]) -> None:
        self._levels[self._depth - 1].untried.extend(options)

    def _take_the_next(self) -> bool:
        while self._levels and not self._levels[-1].untried:
            self._levels.pop()
        if not self._levels:
            return False
        self._levels[-1].taken = self._levels[-1].untried.pop()
        self.steps_count += 1
        return True


@dataclass
class Replay:
    """One schedule that is known; beyond its end, the default."""

    known: Sequence[str]
    is_known: bool = False
    schedule: list[str] = field(default_factory=list)

    def choose(self, here: Hashable, fork: Callable[[], Fork]) -> str:  # noqa: ARG002  # asked of a search
        at = len(self.schedule)
        self.schedule.append(self.known[at] if at < len(self.known) else fork().options[0])
        return self.schedule[-1]

    def offer(self, options: Sequence[str]) -> None:
        """All was chosen before."""
