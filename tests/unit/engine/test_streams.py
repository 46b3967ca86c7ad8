"""Parts come home in order, several are under way, and memory stays within its bound."""

from __future__ import annotations

import hashlib
import threading
from concurrent.futures import CancelledError
from contextlib import closing
from typing import TYPE_CHECKING, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.engine.budget import BytesInFlight
from archiver.engine.pool import ThreadCrew
from archiver.engine.streams import Streams
from archiver.formats.parts import part_ranges
from tests.fakes.pool import InlineCrew

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

T = TypeVar("T")

BOUND_SECONDS = 20.0  # for what never happens while the tests pass


class Reads:
    """An object that is read in ranges; counts what is under way at once."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self._lock = threading.Lock()
        self._under_way_count = 0
        self.most_at_once = 0

    def read(self, start: int, stop: int) -> bytes:
        with self._lock:
            self._under_way_count += 1
            self.most_at_once = max(self.most_at_once, self._under_way_count)
        try:
            return self.body[start:stop]
        finally:
            with self._lock:
                self._under_way_count -= 1


@given(st.binary(max_size=200), st.integers(1, 70), st.integers(1, 5))
def test_the_digest_of_ranges_is_that_of_the_whole(
    body: bytes, part_bytes: int, at_once: int
) -> None:
    streams = Streams(crew=InlineCrew(), part_bytes=part_bytes, at_once=at_once)
    got: list[bytes | bytearray] = []

    seen = streams.digest(len(body), Reads(body).read, got.append)

    assert seen.raw == hashlib.sha256(body).digest()
    assert b"".join(got) == body


def test_parts_are_under_way_together_and_come_home_in_order() -> None:
    crew = ThreadCrew(width=8)
    streams = Streams(crew=crew, part_bytes=1, at_once=4)
    together = threading.Barrier(4, timeout=BOUND_SECONDS)  # nobody passes it alone

    def work(number: int) -> int:
        together.wait()
        return number

    with closing(streams.in_order(part_ranges(8, 1), lambda it: work(it.number))) as parts:
        assert list(parts) == [1, 2, 3, 4, 5, 6, 7, 8]
    crew.close()


@pytest.mark.parametrize("objects", [1, 2, 5])
def test_g6_no_object_waits_for_memory_while_it_holds_some(objects: int) -> None:
    """Room for three parts in all: any number of objects gets on, and none takes more."""
    budget, crew = BytesInFlight(total_bytes=30, object_limit_bytes=30), ThreadCrew(width=8)
    streams = Streams(budget=budget, crew=crew, part_bytes=10, at_once=4)
    body = bytes(range(200))
    held, most, lock = 0, 0, threading.Lock()
    digests: list[bytes] = []

    def read(start: int, stop: int) -> bytes:
        nonlocal held, most
        with lock:
            held += stop - start
            most = max(most, held)
        with lock:
            held -= stop - start
        return body[start:stop]

    def move() -> None:
        digests.append(streams.digest(len(body), read).raw)

    threads = [threading.Thread(target=move, daemon=True) for _ in range(objects)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(BOUND_SECONDS)
    crew.close()

    assert digests == [hashlib.sha256(body).digest()] * objects
    assert 0 < most <= 30


def test_a_part_larger_than_all_memory_goes_alone() -> None:
    budget = BytesInFlight(total_bytes=5, object_limit_bytes=5)
    streams = Streams(budget=budget, crew=InlineCrew(), part_bytes=10)

    assert streams.digest(30, Reads(bytes(30)).read).raw == hashlib.sha256(bytes(30)).digest()
    assert budget.try_take(5)


def test_the_first_error_ends_it_and_gives_all_memory_back() -> None:
    budget, crew = BytesInFlight(total_bytes=40, object_limit_bytes=40), ThreadCrew(width=4)
    streams = Streams(budget=budget, crew=crew, part_bytes=10)

    def read(start: int, stop: int) -> bytes:
        if start == 20:
            raise RuntimeError
        return bytes(stop - start)

    with pytest.raises(RuntimeError):
        streams.digest(200, read)

    assert budget.try_take(40)
    crew.close()


def test_who_stops_halfway_gives_all_memory_back() -> None:
    budget, crew = BytesInFlight(total_bytes=40, object_limit_bytes=40), ThreadCrew(width=4)
    streams = Streams(budget=budget, crew=crew, part_bytes=10)

    with closing(streams.in_order(part_ranges(200, 10), lambda it: it.number)) as parts:
        assert next(parts) == 1

    assert budget.try_take(40)
    crew.close()


def test_a_closed_crew_cancels_what_waits() -> None:
    crew, has_begun, may_end = ThreadCrew(width=1), threading.Event(), threading.Event()

    def hang() -> None:
        has_begun.set()
        assert may_end.wait(BOUND_SECONDS)

    first = crew.submit(hang)
    assert has_begun.wait(BOUND_SECONDS)
    second = crew.submit(lambda: None)
    crew.close()
    may_end.set()

    assert first.result(BOUND_SECONDS) is None
    assert second.cancelled()


def test_who_waits_for_a_crew_that_closes_ends_and_gives_all_memory_back() -> None:
    budget, crew = BytesInFlight(total_bytes=40, object_limit_bytes=40), ThreadCrew(width=1)
    streams = Streams(budget=budget, crew=crew, part_bytes=10)
    has_begun, may_end = threading.Event(), threading.Event()
    ended: list[type[BaseException]] = []

    def read(start: int, stop: int) -> bytes:
        has_begun.set()
        assert may_end.wait(BOUND_SECONDS)
        return bytes(stop - start)

    def move() -> None:
        try:
            streams.digest(200, read)
        except CancelledError as error:
            ended.append(type(error))

    mover = threading.Thread(target=move, daemon=True)
    mover.start()
    assert has_begun.wait(BOUND_SECONDS)
    crew.close()
    may_end.set()
    mover.join(BOUND_SECONDS)

    assert ended == [CancelledError]
    assert budget.try_take(40)
    assert crew.submit(lambda: None).cancelled()


def test_where_no_thread_can_be_born_all_memory_is_given_back() -> None:
    class Barren(InlineCrew):
        def submit(self, work: Callable[[], T]) -> Future[T]:  # noqa: ARG002  # it cannot
            message = "can't start new thread"
            raise RuntimeError(message)

    budget = BytesInFlight(total_bytes=40, object_limit_bytes=40)
    streams = Streams(budget=budget, crew=Barren(), part_bytes=10)

    with pytest.raises(RuntimeError):
        streams.digest(200, Reads(bytes(200)).read)

    assert budget.try_take(40)


def test_each_part_that_comes_home_is_progress() -> None:
    """Whoever watches must not take an object of hours for a hang."""
    told: list[int] = []
    streams = Streams(crew=InlineCrew(), part_bytes=10, progressed=lambda: told.append(1))

    streams.digest(200, Reads(bytes(200)).read)

    assert len(told) == 20
