"""Stopping a process at every point there is: before and after each call, statement and COMMIT.

A process that is killed leaves what is committed and what the stores hold at that instant, and
runs nothing more, no `finally` either. So the states are taken while one process works to
which nothing happens, by other hands, at every point; each is a death there. Points between
which nothing durable happened leave one and the same state, which is tried once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from tests.unit.engine.world import Script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from archiver.model import Summary
    from tests.harness.crash_world import CrashWorld, State

T = TypeVar("T")

# The database's clock goes on by itself: where a machine was busy for seconds, a sweep may have
# made other calls than before, and is made again.
_TRIES = 5


@dataclass
class Death:
    """What was left at these points, which stand in a row."""

    state: State
    points: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"death {self.points[0]} and at {len(self.points) - 1} points more"


class Witness(Script):
    """Takes down what a death would leave, before and after every call."""

    def __init__(self, world: CrashWorld) -> None:
        super().__init__()
        self.deaths: list[Death] = []
        self._world = world

    @property
    def points_count(self) -> int:
        return sum(len(death.points) for death in self.deaths)

    def around(self, name: str, call: Callable[[], T]) -> T:
        number = len(self.calls)
        self.calls.append(name)
        self._note(f"before {name} #{number}")
        try:
            return call()
        finally:
            self._note(f"after {name} #{number}")

    def _note(self, point: str) -> None:
        state = self._world.state()
        if not self.deaths or state != self.deaths[-1].state:
            self.deaths.append(Death(state))
        self.deaths[-1].points.append(point)


@dataclass(frozen=True)
class Point:
    """Before or after the call of this number."""

    number: int
    is_after: bool
    call: str

    def __str__(self) -> str:
        return f"{'after' if self.is_after else 'before'} {self.call} #{self.number}"


def cuts_of(calls: list[str]) -> Iterator[Point]:
    """Where a connection may be lost: before each statement, before and after each COMMIT.

    After a statement is before the next one, or before the COMMIT.
    """
    for number, call in enumerate(calls):
        if call.startswith("sql."):
            yield Point(number, is_after=False, call=call)
        if call == "sql.commit":
            yield Point(number, is_after=True, call=call)


def of_every_kind(points: Sequence[Point]) -> list[Point]:
    """Every lost reply of a COMMIT; of each kind of statement the first and the last one."""
    ends: dict[str, list[Point]] = {}
    for point in points:
        if not point.is_after:
            ends.setdefault(point.call, []).append(point)
    chosen = {point for alike in ends.values() for point in (alike[0], alike[-1])}
    return [point for point in points if point.is_after or point in chosen]


class Struck(Script):
    """Does one thing at one point, if the call there is that of the point."""

    def __init__(self, point: Point, what: Callable[[], object]) -> None:
        super().__init__()
        self.has_hit = False
        self._point = point
        self._what = what

    def around(self, name: str, call: Callable[[], T]) -> T:
        number = len(self.calls)
        self.calls.append(name)
        if self._point == Point(number, is_after=False, call=name):
            self._do()
        try:
            return call()
        finally:
            if self._point == Point(number, is_after=True, call=name):
                self._do()

    def _do(self) -> None:
        self.has_hit = True
        self._what()


def witness_a_sweep(world: CrashWorld, base: State) -> Witness:
    """A process that joins, sweeps once and leaves, and to which nothing happens."""
    world.put_back(base)
    world.declare_trouble("f1", "a1")
    witness = Witness(world)
    worker, fleet = world.worker(witness), world.newest_ledger.fleet
    world.tap.script = witness
    number = fleet.sweep_began(world.rows.name)
    summary = world.sweep(worker)
    world.tap.script = witness
    fleet.sweep_ended(number, summary)
    worker.leave()
    world.tap.script = None
    assert [] == world.leftovers()
    world.hot.faults.verify_all_fired()
    return witness


def cuts_of_a_sweep(world: CrashWorld, base: State) -> list[Point]:
    world.put_back(base)
    world.declare_trouble("f1", "a1")
    worker = world.worker()
    world.sweep(worker)
    worker.leave()
    return list(cuts_of(worker.script.calls))


def troubles_of_death(world: CrashWorld, death: Death) -> list[str]:
    """What is wrong with that state, and with what the next process makes of it."""
    world.put_back(death.state)
    wrong = [f"{death}: {it}" for it in world.troubles()]
    world.finish()
    return wrong + [f"{death}, then a sweep: {it}" for it in world.leftovers()]


def troubles_of_cut(world: CrashWorld, base: State, point: Point) -> list[str]:
    """What is wrong after a sweep that loses its connection there: it gets to its end."""
    tries = (_swept_with_a_cut(world, base, point) for _ in range(_TRIES))
    summary = next((it for it in tries if it is not None), None)
    assert summary is not None, f"no sweep came to {point}"
    wrong = [] if summary.error is None else [f"{point}: {summary.error}"]
    wrong += [f"{point}: {it}" for it in world.leftovers()]
    if not wrong:  # else that says more than a fault which could not fire any more
        world.hot.faults.verify_all_fired()
    return wrong


def _swept_with_a_cut(world: CrashWorld, base: State, point: Point) -> Summary | None:
    """None: it did not come to that point."""
    world.put_back(base)
    world.declare_trouble("f1", "a1")
    worker = world.worker()
    worker.script = struck = Struck(point, world.tap.cut)
    summary = world.sweep(worker)
    worker.leave()
    return summary if struck.has_hit else None
