"""How fast one store is asked: requests and bytes a second, and the pauses it asks for.

Nobody waits with a request on the wire: its timeout runs there. What is sent is waited for
before; how much a read brings is known only with its answer, so it waits for what reads
usually bring, and the difference is booked when it is known.

First come, first served, so neither large objects nor small ones starve; only deletes go
ahead, and what sends and brings no object waits for requests alone.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from math import inf
from typing import TYPE_CHECKING, Literal

from archiver.errors import NotSent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from archiver.protocols import Clock

# In 5 s, a bucket lets through what it holds and what comes in meanwhile: 0.15 + 5 x 0.95 =
# 4.9 seconds' worth. So the limit holds in any window of 5 s, also where requests reach the
# store a tenth of a second later after they were let through than those before them.
_FILL = 0.95
_ROOM_SECONDS = 0.15
_ROUNDING = 1e-9
_LOOK_SECONDS = 0.1  # at most between two looks of one who waits
_SHORTEST_WAIT_SECONDS = 0.001
_SEEN_WEIGHT = 1 / 8  # of the latest read in what reads usually bring


@dataclass(slots=True)
class Reading:
    """A read under way. Who reads says how much it is, as soon as the answer does."""

    size_bytes: int = 0


class Pace:
    """Lets everything through at once; what keeps limits is a `LimitedPace`."""

    def wait(self, size_bytes: int = 0, *, ahead: bool = False) -> None:
        """Return when a request that sends so many bytes may be sent.

        `ahead` is for deletes: the less time since a look, the less may have changed.

        Raises:
            NotSent: The store asked for a long pause, or the sweep ends before its turn.
        """

    async def wait_async(self, *, ahead: bool = False) -> None:
        """As `wait`, beside other coroutines."""

    @contextmanager
    def reading(self, what: str = "object") -> Iterator[Reading]:  # noqa: ARG002
        """As `wait`, for a request whose answer brings bytes; `what` usually brings alike."""
        yield Reading()

    def book(self, size_bytes: int) -> None:
        """So many bytes came that nobody waited for: those who come next do."""

    def pause(self, seconds: float) -> None:
        """The store asks for a pause: nothing is sent to it before that is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PaceSettings:
    """The limits of one store, and how long it may make us wait."""

    requests_per_second: float | None = None
    bytes_per_second: float | None = None
    longest_pause_seconds: float = 3_600.0  # whatever the store asks for
    patience_seconds: float = 60.0  # a longer pause is told instead of waited out
    drain_seconds: float = 25.0  # how long a process that stops goes on


class LimitedPace(Pace):
    """One store's pace in this process. Safe to share between threads.

    Args:
        store: What errors call it.
        settings: Without limits it still keeps the pauses that the store asks for.
        clock: Waits are slept on it, but for those of coroutines.
        is_stopping: Whether the process was asked to stop.
        waits: Called again and again while somebody waits: nothing hangs that does.
        require: Called at the end of a wait: raises where what was waited for must not be
            begun any more.
    """

    def __init__(
        self,
        store: Literal["hot", "cold"],
        settings: PaceSettings,
        clock: Clock,
        *,
        is_stopping: Callable[[], bool] = lambda: False,
        waits: Callable[[], None] = lambda: None,
        require: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._settings = settings
        self._clock = clock
        self._is_stopping = is_stopping
        self._tell_wait = waits
        self._require = require
        now = clock.monotonic()
        self._requests = _Bucket.of(settings.requests_per_second, now)
        self._bytes = _Bucket.of(settings.bytes_per_second, now)
        self._usual_bytes: dict[str, float] = {}  # of what was read
        self._paused_until = now
        self._ends_at: float | None = None  # no wait may end later
        self._queue: deque[_Turn] = deque()
        self._lock = threading.Lock()  # over all that changes; held for arithmetic alone

    def wait(self, size_bytes: int = 0, *, ahead: bool = False) -> None:
        for seconds in self._waits(_Turn(size_bytes), ahead=ahead):
            self._clock.sleep(seconds)

    async def wait_async(self, *, ahead: bool = False) -> None:
        for seconds in self._waits(_Turn(), ahead=ahead):
            await asyncio.sleep(seconds)

    @contextmanager
    def reading(self, what: str = "object") -> Iterator[Reading]:
        turn, reading = _Turn(reads=what), Reading()
        for seconds in self._waits(turn):
            self._clock.sleep(seconds)
        try:
            yield reading
        finally:
            self._settle(turn, reading)

    def book(self, size_bytes: int) -> None:
        with self._lock:
            self._bytes.take(size_bytes)

    def pause(self, seconds: float) -> None:
        until = self._clock.monotonic() + min(seconds, self._settings.longest_pause_seconds)
        with self._lock:
            self._paused_until = max(self._paused_until, until)

    def hurry(self, seconds: float) -> None:
        """The sweep ends: who could not be let through within so long need not wait."""
        with self._lock:
            self._end_within(seconds)

    def relax(self) -> None:
        """The next sweep begins: waits may be as long as they are."""
        with self._lock:
            self._ends_at = None

    # --- one who waits ------------------------------------------------------------------

    def _waits(self, turn: _Turn, *, ahead: bool = False) -> Iterator[float]:
        """How long to sleep, again and again, until the turn has come."""
        has_waited = False
        with self._lock:
            if ahead:
                self._queue.appendleft(turn)
            else:
                self._queue.append(turn)
        try:
            while (seconds := self._look(turn)) > 0:
                has_waited = True
                self._tell_wait()
                yield min(seconds, _LOOK_SECONDS)
        finally:
            with self._lock:
                if not turn.has_come:  # asked under the lock: anybody may let it through
                    self._queue.remove(turn)
        if has_waited:
            self._require()

    def _look(self, turn: _Turn) -> float:
        """Let through whose turn has come; for how long this one still waits."""
        with self._lock:
            now = self._clock.monotonic()
            self._let_through(now)
            if turn.has_come:
                return 0.0
            seconds = self._seconds_until(turn, now)
            self._check_patience(now, seconds)
            return max(_SHORTEST_WAIT_SECONDS, seconds)

    def _let_through(self, now: float) -> None:
        self._requests.fill(now)
        self._bytes.fill(now)
        if now < self._paused_until:
            return
        while self._queue:
            turn = self._queue[0]
            size_bytes = self._size_of(turn)
            if self._requests.seconds_until(1) or self._bytes.seconds_until(size_bytes):
                return
            self._requests.take(1)
            self._bytes.take(size_bytes)
            turn.taken_bytes = size_bytes
            turn.has_come = True
            self._queue.popleft()

    def _seconds_until(self, turn: _Turn, now: float) -> float:
        before = list(takewhile(lambda other: other is not turn, self._queue))
        bytes_before = sum(map(self._size_of, before))
        return max(
            self._paused_until - now,
            self._requests.seconds_until(1, before=len(before)),
            self._bytes.seconds_until(self._size_of(turn), before=bytes_before),
        )

    def _check_patience(self, now: float, seconds: float) -> None:
        if self._is_stopping():
            self._end_within(self._settings.drain_seconds)
        if self._ends_at is not None and now + seconds > self._ends_at:
            raise NotSent(store=self._store, operation="wait", code="the sweep ends")
        pause_seconds = self._paused_until - now
        if pause_seconds > self._settings.patience_seconds:
            raise NotSent(
                store=self._store,
                operation="wait",
                code="the store asked for a pause",
                retry_after_seconds=round(pause_seconds, 3),
            )

    def _end_within(self, seconds: float) -> None:
        # Half of it: what is let through at last has to be asked and answered as well.
        ends_at = self._clock.monotonic() + seconds / 2
        self._ends_at = ends_at if self._ends_at is None else min(self._ends_at, ends_at)

    # --- how much a read brings -----------------------------------------------------------

    def _size_of(self, turn: _Turn) -> float:
        if turn.reads is None:
            return turn.size_bytes
        # Until the first answer a second's worth, so that few go before it.
        return self._usual_bytes.get(turn.reads, self._settings.bytes_per_second or 0.0)

    def _settle(self, turn: _Turn, reading: Reading) -> None:
        """Book what was read instead of what was expected."""
        with self._lock:
            self._bytes.take(reading.size_bytes - turn.taken_bytes)
            if turn.reads is not None and reading.size_bytes:
                usual = self._usual_bytes.get(turn.reads, reading.size_bytes)
                usual += _SEEN_WEIGHT * (reading.size_bytes - usual)
                self._usual_bytes[turn.reads] = usual


@dataclass(slots=True, eq=False)
class _Turn:
    size_bytes: int = 0
    reads: str | None = None  # takes what such a read usually brings
    has_come: bool = False
    taken_bytes: float = 0.0


@dataclass(slots=True)
class _Bucket:
    """What may be taken now. It fills by itself, and what is taken may leave a debt.

    In any time t no more is taken than `fill_per_second` x t and `room`, or instead of
    `room` the largest single amount, where that is more.
    """

    room: float
    fill_per_second: float
    level: float
    filled_at: float

    @classmethod
    def of(cls, per_second: float | None, now: float) -> _Bucket:
        """One that keeps this limit; None: one that is always full."""
        if per_second is None:
            return cls(inf, inf, inf, now)
        room = max(1.0, per_second * _ROOM_SECONDS)
        return cls(room, per_second * _FILL, room, now)

    def fill(self, now: float) -> None:
        if now > self.filled_at:
            came = (now - self.filled_at) * self.fill_per_second
            self.level = min(self.room, self.level + came)
            self.filled_at = now

    def seconds_until(self, amount: float, *, before: float = 0.0) -> float:
        """Until so much may be taken, when others take theirs before; 0: now."""
        if not amount:
            return 0.0
        missing = before + min(amount, self.room) - self.level
        return missing / self.fill_per_second if missing > _ROUNDING * self.room else 0.0

    def take(self, amount: float) -> None:
        """Take it, whatever is there; less than nothing is given back."""
        self.level -= amount
