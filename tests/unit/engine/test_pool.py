"""Threads follow the width: so many run at once, and not one more."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from archiver.engine.pool import NotInTime, SideThread, ThreadPool
from archiver.ops.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from archiver.errors import ArchiverError

BOUND_SECONDS = 20.0  # for what never happens while the tests pass


class Gate:
    """Work that runs until it is let go; counts how many run at once."""

    def __init__(self, pool: ThreadPool) -> None:
        self._pool = pool
        self._changed = threading.Condition()  # guards these three
        self._running_count = 0
        self._let_go_count = 0
        self.most_at_once = 0
        self.ended: list[str] = []  # in the order in which the owner was told

    def submit(self, name: str, *, ahead: bool = False) -> None:
        self._pool.submit(lambda: self._run(name), self.ended.append, _raise, ahead=ahead)

    def _run(self, name: str) -> str:
        with self._changed:
            self._running_count += 1
            self.most_at_once = max(self.most_at_once, self._running_count)
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: self._let_go_count > 0, BOUND_SECONDS)
            self._let_go_count -= 1
            self._running_count -= 1
        return name

    def wait_until_run(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self._running_count == count, BOUND_SECONDS)

    def let_go(self, count: int) -> None:
        with self._changed:
            self._let_go_count += count
            self._changed.notify_all()
        for _ in range(count):
            assert self._pool.turn(BOUND_SECONDS)


def _raise(error: ArchiverError) -> None:
    raise error


@contextmanager
def opened(width: int) -> Iterator[tuple[ThreadPool, Gate]]:
    pool = ThreadPool(width=width, clock=SystemClock())
    try:
        yield pool, Gate(pool)
    finally:
        pool.close(timeout_seconds=BOUND_SECONDS)


def test_so_many_run_at_once_though_more_are_queued() -> None:
    with opened(3) as (pool, gate):
        for number in range(12):
            gate.submit(str(number))

        gate.wait_until_run(3)
        gate.let_go(12)

        assert (gate.most_at_once, len(gate.ended), pool.under_way_count) == (3, 12, 0)


def test_a_wider_pool_begins_at_once_what_was_queued() -> None:
    with opened(1) as (pool, gate):
        for number in range(9):
            gate.submit(str(number))
        gate.wait_until_run(1)

        pool.width = 5

        gate.wait_until_run(5)
        gate.let_go(9)
        assert gate.most_at_once == 5


def test_a_narrowed_pool_finishes_what_runs_and_begins_fewer() -> None:
    with opened(6) as (pool, gate):
        for number in range(12):
            gate.submit(str(number))
        gate.wait_until_run(6)

        pool.width = 2
        gate.let_go(4)
        gate.wait_until_run(2)
        gate.most_at_once = 0
        gate.let_go(8)

        assert (gate.most_at_once, len(gate.ended)) == (2, 12)


def test_what_goes_ahead_is_begun_before_what_waits_and_counts_as_well() -> None:
    with opened(1) as (_, gate):
        gate.submit("first")
        gate.wait_until_run(1)
        gate.submit("second")
        gate.submit("ahead", ahead=True)

        gate.let_go(1)
        gate.let_go(1)
        gate.let_go(1)

        assert gate.ended == ["first", "ahead", "second"]
        assert gate.most_at_once == 1


def test_threads_of_a_wider_time_are_there_when_it_widens_again() -> None:
    with opened(4) as (pool, gate):
        names = {thread.name for thread in threading.enumerate()}
        pool.width = 1
        pool.width = 4
        for number in range(4):
            gate.submit(str(number))
        gate.wait_until_run(4)
        assert names == {thread.name for thread in threading.enumerate()}
        gate.let_go(4)


def test_a_side_thread_runs_one_errand_after_the_other() -> None:
    with SideThread("test") as side:
        order: list[int] = []
        errands = [side.begin(lambda _: order.append(len(order))) for _ in range(5)]
        for errand in errands:
            errand.wait(BOUND_SECONDS)

        assert order == [0, 1, 2, 3, 4]


def test_what_an_errand_raises_is_raised_for_its_owner() -> None:
    def fail(_: object) -> None:
        raise KeyError("k")

    with SideThread("test") as side:
        errand = side.begin(fail)
        with pytest.raises(KeyError):
            errand.wait(BOUND_SECONDS)
        assert side.begin(lambda _: 1).wait(BOUND_SECONDS) == 1


def test_an_errand_that_hangs_is_left_behind_and_ends_at_its_next_sign() -> None:
    go_on, ended = threading.Event(), threading.Event()

    def hang(got_on: Callable[[], None]) -> None:
        go_on.wait(BOUND_SECONDS)
        try:
            got_on()
        except NotInTime:
            ended.set()
            raise

    with SideThread("test") as side:
        with pytest.raises(NotInTime):
            side.begin(hang).wait(0.1)
        go_on.set()
        assert ended.wait(BOUND_SECONDS)


def test_signs_that_nobody_waits_for_are_kept_once() -> None:
    def busy(got_on: Callable[[], None]) -> None:
        for _ in range(1000):
            got_on()

    with SideThread("test") as side:
        errand = side.begin(busy)
        side.begin(lambda _: None).wait(BOUND_SECONDS)  # the one before has ended by then

        assert errand._told.qsize() == 2
        errand.wait(BOUND_SECONDS)
