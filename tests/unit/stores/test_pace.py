"""A store's pace: what any window holds, whose turn is next, and who need not wait."""

from __future__ import annotations

import asyncio
import itertools
import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.errors import LeaseLost, NotSent
from archiver.stores.pace import LimitedPace, Pace, PaceSettings
from tests.fakes.clock import ManualClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

WINDOW_SECONDS = 5.0
BOUND_SECONDS = 30.0  # for what never happens when the tests pass


class GateClock(ManualClock):
    """A clock on which sleepers sleep until the test moves it on, in threads of their own."""

    def __init__(self) -> None:
        super().__init__()
        self._moved = threading.Condition()
        self._sleeping_count = 0

    def sleep(self, seconds: float) -> None:
        with self._moved:
            until = self.monotonic() + seconds
            self._sleeping_count += 1
            self._moved.notify_all()
            assert self._moved.wait_for(lambda: self.monotonic() >= until, BOUND_SECONDS)
            self._sleeping_count -= 1

    def wait_for_sleepers(self, count: int) -> None:
        with self._moved:
            assert self._moved.wait_for(lambda: self._sleeping_count == count, BOUND_SECONDS)

    def move(self, seconds: float) -> None:
        with self._moved:
            self.advance(seconds)
            self._moved.notify_all()


class Waiters:
    """Threads that wait for their turn; `served` is their order."""

    def __init__(self, clock: GateClock) -> None:
        self._clock = clock
        self._threads: list[threading.Thread] = []
        self.served: list[str] = []
        self.errors: list[NotSent] = []

    def begin(self, name: str, wait: Callable[[], None]) -> None:
        """Begin to wait; on return the thread sleeps."""

        def run() -> None:
            try:
                wait()
            except NotSent as error:
                self.errors.append(error)
            else:
                self.served.append(name)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        self._threads.append(thread)
        self._clock.wait_for_sleepers(len(self._threads))

    def join(self, step_seconds: float) -> None:
        """Move the clock until nobody waits."""
        while any(thread.is_alive() for thread in self._threads):
            self._clock.move(step_seconds)
            for thread in self._threads:
                thread.join(0.01)


def pace_of(clock: ManualClock, **settings: float) -> LimitedPace:
    return LimitedPace("cold", PaceSettings(**settings), clock)


def fullest(passed: Iterable[tuple[float, float]]) -> float:
    """The most that any window of 5 s holds; both its ends belong to it."""
    seen = list(passed)
    return max(
        sum(amount for at, amount in seen[start:] if at <= begin + WINDOW_SECONDS)
        for start, (begin, _) in enumerate(seen)
    )


# --- what a window holds ------------------------------------------------------------------

ARRIVALS = st.lists(
    st.tuples(st.just(0.0) | st.floats(0, 12), st.integers(0, 1_000_000)),
    min_size=1,
    max_size=120,
)


# Bursts of one after another, and how long after the burst before.
BURSTS = st.lists(st.tuples(st.floats(0, 12), st.integers(1, 300)), min_size=1, max_size=6)


def requests_of(bursts: list[tuple[float, int]], rate: float) -> Iterator[tuple[float, float]]:
    clock = ManualClock()
    pace = pace_of(clock, requests_per_second=rate)
    for gap_seconds, count in bursts:
        clock.advance(gap_seconds)
        for _ in range(count):
            pace.wait()
            yield clock.monotonic(), 1.0


@given(bursts=BURSTS, rate=st.floats(4, 40))
def test_no_window_of_five_seconds_holds_more_requests_than_the_limit(
    bursts: list[tuple[float, int]], rate: float
) -> None:
    limit = 4.75 * rate + max(1, 0.15 * rate)
    assert fullest(requests_of(bursts, rate)) <= limit + 1e-6 <= 5 * rate + 1e-5


@given(bursts=BURSTS, rate=st.floats(0.5, 4))
def test_a_low_limit_is_exceeded_by_less_than_one_request(
    bursts: list[tuple[float, int]], rate: float
) -> None:
    assert fullest(requests_of(bursts, rate)) < 5 * rate + 1 + 1e-6


def test_who_always_waits_gets_nearly_all_of_the_limit() -> None:
    assert fullest(requests_of([(0, 1_000)], 40)) >= 0.97 * 5 * 40


@given(arrivals=ARRIVALS, rate=st.integers(200_000, 2_000_000))
def test_no_window_of_five_seconds_holds_more_bytes_than_the_limit_and_one_object(
    arrivals: list[tuple[float, int]], rate: int
) -> None:
    clock = ManualClock()
    pace = pace_of(clock, bytes_per_second=rate)
    passed: list[tuple[float, float]] = []
    for gap_seconds, size_bytes in arrivals:
        clock.advance(gap_seconds)
        pace.wait(size_bytes)
        passed.append((clock.monotonic(), size_bytes))
    largest = max(size for _, size in arrivals)
    assert fullest(passed) <= 4.75 * rate + max(largest, 0.15 * rate) + 1e-3


@given(arrivals=ARRIVALS, rate=st.integers(200_000, 2_000_000))
def test_what_a_read_brings_is_booked_when_it_is_known(
    arrivals: list[tuple[float, int]], rate: int
) -> None:
    """One at a time, the next waits for all that was read more than expected."""
    clock = ManualClock()
    pace = pace_of(clock, bytes_per_second=rate)
    passed: list[tuple[float, float]] = []
    for gap_seconds, size_bytes in arrivals:
        clock.advance(gap_seconds)
        with pace.reading() as reading:
            reading.size_bytes = size_bytes
        passed.append((clock.monotonic(), size_bytes))
    assert fullest(passed) <= 5 * rate + 2 * max(size for _, size in arrivals) + 1e-3


def test_both_limits_hold_beside_each_other() -> None:
    clock = ManualClock()
    pace = pace_of(clock, requests_per_second=100, bytes_per_second=1_000_000)
    for _ in range(1_000):
        pace.wait(1_000)
    assert clock.monotonic() == pytest.approx((1_000 - 15) / 95, rel=0.01)
    for _ in range(100):
        pace.wait(100_000)
    assert clock.monotonic() == pytest.approx(10.26 + 10_000_000 / 950_000, rel=0.1)


def test_without_limits_nobody_waits() -> None:
    clock = ManualClock()
    for pace in (Pace(), pace_of(clock)):
        for _ in range(1_000):
            pace.wait(1 << 30)
            with pace.reading() as reading:
                reading.size_bytes = 1 << 30
            pace.book(1 << 30)
    assert clock.sleeps == []


# --- whose turn is next ---------------------------------------------------------------------


def test_a_large_object_is_not_passed_by_small_ones_nor_the_other_way_round() -> None:
    clock = GateClock()
    pace, waiters = pace_of(clock, bytes_per_second=1_000), Waiters(clock)
    pace.wait(1_000)  # a debt, so that all that come now wait
    sizes = {"a": 10, "large": 5_000, "b": 10, "c": 2_000, "d": 10}
    for name, size_bytes in sizes.items():
        waiters.begin(name, lambda size=size_bytes: pace.wait(size))  # type: ignore[misc]

    waiters.join(step_seconds=0.2)

    assert waiters.served == list(sizes)


def test_a_delete_goes_ahead_of_what_waits() -> None:
    clock = GateClock()
    pace, waiters = pace_of(clock, requests_per_second=1), Waiters(clock)
    pace.wait()
    for name in "ab":
        waiters.begin(name, pace.wait)
    waiters.begin("delete", lambda: pace.wait(ahead=True))

    waiters.join(step_seconds=0.2)

    assert waiters.served == ["delete", "a", "b"]


def test_what_brings_no_object_does_not_wait_for_bytes() -> None:
    clock = ManualClock()
    pace = pace_of(clock, requests_per_second=1_000, bytes_per_second=1_000)
    pace.wait(1_000_000)
    pace.wait()
    assert clock.monotonic() == 0
    pace.wait(1)
    assert clock.monotonic() == pytest.approx(1_000_000 / 950, rel=0.01)


def test_until_the_first_answer_reads_go_one_by_one() -> None:
    """Nobody knows how much they bring; then all that wait go by what the first brought."""
    clock = GateClock()
    pace, waiters = pace_of(clock, bytes_per_second=10_000), Waiters(clock)

    def read() -> None:
        with pace.reading() as reading:
            reading.size_bytes = 100

    with pace.reading() as reading:
        for name in "abc":
            waiters.begin(name, read)
        reading.size_bytes = 100

    clock.move(0.1)
    waiters.join(step_seconds=0.0)

    assert sorted(waiters.served) == ["a", "b", "c"]


def test_coroutines_wait_beside_each_other() -> None:
    clock = ManualClock()
    pace = pace_of(clock, requests_per_second=1)

    async def ask() -> None:
        turns = [asyncio.create_task(pace.wait_async()) for _ in range(5)]
        while not all(turn.done() for turn in turns):
            clock.advance(0.5)
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(ask(), BOUND_SECONDS))
    assert clock.monotonic() >= 4


def test_many_threads_are_all_served_and_never_faster_than_the_limit() -> None:
    clock = ManualClock()  # each sleep moves it on at once, so threads race as fast as they can
    pace = pace_of(clock, requests_per_second=50, bytes_per_second=10_000)
    count = itertools.count()

    def work() -> None:
        while next(count) < 2_000:
            pace.wait(100)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(BOUND_SECONDS)
        assert not thread.is_alive()

    assert clock.monotonic() >= (2_000 - 50 * 0.15) / (50 * 0.95) - 1e-6


# --- pauses the store asks for ----------------------------------------------------------------


def test_nothing_is_sent_before_a_pause_is_over() -> None:
    clock = ManualClock()
    pace, other = pace_of(clock), pace_of(clock)
    pace.pause(2)
    other.wait()
    assert clock.monotonic() == 0
    pace.wait()
    assert clock.monotonic() == pytest.approx(2, abs=0.01)
    pace.wait()
    assert clock.monotonic() == pytest.approx(2, abs=0.01)


def test_a_shorter_pause_does_not_shorten_a_longer_one() -> None:
    clock = ManualClock()
    pace = pace_of(clock)
    pace.pause(9)
    pace.pause(2)
    pace.wait()
    assert clock.monotonic() == pytest.approx(9, abs=0.01)


def test_a_pause_stops_those_who_wait_already() -> None:
    clock = GateClock()
    pace, waiters = pace_of(clock, requests_per_second=1), Waiters(clock)
    pace.wait()
    waiters.begin("a", pace.wait)
    pace.pause(50)
    for _ in range(49):
        clock.move(1)
        clock.wait_for_sleepers(1)
    assert waiters.served == []
    waiters.join(step_seconds=1)
    assert waiters.served == ["a"]


def test_a_pause_longer_than_our_patience_is_told_at_once() -> None:
    clock = ManualClock()
    pace = pace_of(clock, patience_seconds=60)
    pace.pause(61)
    with pytest.raises(NotSent) as caught:
        pace.wait()
    assert (caught.value.store, caught.value.retry_after_seconds) == ("cold", 61)
    assert clock.sleeps == []
    clock.advance(1)
    pace.wait()


def test_no_store_pauses_us_for_longer_than_the_longest_retry() -> None:
    clock = ManualClock()
    pace = pace_of(clock, longest_pause_seconds=30)
    pace.pause(10**9)
    pace.wait()
    assert clock.monotonic() == pytest.approx(30, abs=0.01)


def test_who_waits_says_so_again_and_again_and_who_does_not_is_silent() -> None:
    clock, told_at = ManualClock(), list[float]()
    settings = PaceSettings(requests_per_second=0.1)
    pace = LimitedPace("hot", settings, clock, waits=lambda: told_at.append(clock.monotonic()))
    pace.wait()
    assert told_at == []
    pace.wait()
    assert clock.monotonic() > 10
    assert all(after - at <= 0.11 for at, after in itertools.pairwise(told_at))
    assert clock.monotonic() - told_at[-1] <= 0.11


# --- who need not wait ------------------------------------------------------------------------


def in_debt(clock: ManualClock, seconds: float, **words: Callable[[], object]) -> LimitedPace:
    """A pace at which who comes now waits for so long."""
    settings = PaceSettings(bytes_per_second=1_000, drain_seconds=10)
    pace = LimitedPace("hot", settings, clock, **words)  # type: ignore[arg-type]
    pace.wait(int(seconds * 950))
    return pace


def test_a_process_that_stops_waits_only_for_what_it_can_still_finish() -> None:
    """It has ten seconds: half of them to wait, and half to ask and be answered."""
    in_debt(ManualClock(), 4, is_stopping=lambda: True).wait(1)
    for debt_seconds in (6, 3_600):
        clock = ManualClock()
        pace = in_debt(clock, debt_seconds, is_stopping=lambda: True)
        with pytest.raises(NotSent, match="the sweep ends") as caught:
            pace.wait(1)
        assert caught.value.retry_after_seconds is None
        assert clock.sleeps == []


def test_a_stop_is_seen_by_those_who_wait_already() -> None:
    clock, wishes = GateClock(), [False]
    pace, waiters = in_debt(clock, 3_600, is_stopping=lambda: wishes[-1]), Waiters(clock)
    waiters.begin("a", lambda: pace.wait(1))
    wishes.append(True)
    clock.move(0.2)
    waiters.join(step_seconds=0.0)
    assert [error.store for error in waiters.errors] == ["hot"]


def test_a_sweep_that_ends_hurries_and_the_next_one_has_time() -> None:
    clock = ManualClock()
    pace = in_debt(clock, 100)
    pace.hurry(10)
    with pytest.raises(NotSent):
        pace.wait(1)
    pace.relax()
    pace.wait(1)
    assert clock.monotonic() == pytest.approx(100, rel=0.01)


def test_whoever_gives_up_holds_nobody_back() -> None:
    clock = GateClock()
    pace, waiters = in_debt(clock, 100), Waiters(clock)
    waiters.begin("a", lambda: pace.wait(1))
    pace.hurry(2)
    waiters.join(step_seconds=0.2)
    assert waiters.errors
    pace.wait()  # behind the one who left, it would never come


def test_whoever_gives_up_as_its_turn_comes_gives_up_all_the_same() -> None:
    """Another thread lets it through between its last look and its leaving the queue."""
    clock = ManualClock()
    pace = in_debt(clock, 100)
    pace.hurry(2)
    pace._lock = _Overtaken(pace, clock, at=3)  # type: ignore[assignment]
    with pytest.raises(NotSent):
        pace.wait(1)
    pace.relax()
    pace.wait()  # nobody is left before it


class _Overtaken:
    """A lock that another thread takes just before one of those who ask for it."""

    def __init__(self, pace: LimitedPace, clock: ManualClock, *, at: int) -> None:
        self._pace, self._clock, self._lock = pace, clock, pace._lock
        self._left_count = at

    def __enter__(self) -> None:
        self._left_count -= 1
        if self._left_count == 0:
            self._clock.advance(1_000)
            with self._lock:
                self._pace._let_through(self._clock.monotonic())
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def test_what_was_waited_for_is_not_begun_where_the_lease_is_lost() -> None:
    def require() -> Iterator[None]:
        raise LeaseLost(worker=1)

    clock = ManualClock()
    pace = in_debt(clock, 10, require=require)  # nobody waited yet, so nobody asked
    with pytest.raises(LeaseLost):
        pace.wait(1)
