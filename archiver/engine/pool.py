"""Where the engine's threads are born. Work goes out to them; its results come home.

All state of a sweep belongs to the thread that calls `turn`: work runs anywhere, but what
follows from it runs there. So the sweep needs no locks, and a pool of a test can run one
piece at a time, in any order.

A `SideThread` is for what may hang and must not: foreign code, waited for so long; what runs
`aside` nobody waits for.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar

from archiver.errors import ArchiverError

if TYPE_CHECKING:
    from collections.abc import Callable

    from archiver.protocols import Clock

T = TypeVar("T")

_CLOSE_SECONDS = 1.0  # for threads that hang in a system call when all else has ended


class Pool(Protocol):
    """Runs work beside its owner. One owner; only `every` outlives a sweep."""

    @property
    def width(self) -> int:
        """How many pieces of work run at once, at most. Narrowed, what runs goes on."""

    @width.setter
    def width(self, width: int) -> None: ...

    def submit(
        self,
        work: Callable[[], T],
        then: Callable[[T], None],
        failed: Callable[[ArchiverError], None],
        *,
        ahead: bool = False,
    ) -> None:
        """Queue work; `then` or `failed` is called by a later `turn`, on its thread.

        `ahead` puts it before work that is not yet begun: proving and releasing what was
        sent comes before sending more.
        """

    @property
    def under_way_count(self) -> int:
        """Work submitted whose result was not yet handed over."""

    def turn(self, timeout_seconds: float) -> bool:
        """Hand over one result, waiting for it; False when none came in time.

        What the work raises that is not an `ArchiverError` is a bug and is raised here.
        """

    def every(self, seconds: float, work: Callable[[], None]) -> Callable[[], None]:
        """Do something again and again beside the rest; the answer ends that."""


@dataclass(slots=True)
class _Work:
    run: Callable[[], Any]
    then: Callable[[Any], None]
    failed: Callable[[ArchiverError], None]
    result: Any = None
    error: BaseException | None = None


class ThreadPool:
    """Threads are born as the width grows, and live as long as the pool: they cost little idle.

    `close` waits for work under way up to a bound; a thread hung in a system call is left
    behind as a daemon, and says nothing more.
    """

    def __init__(self, *, width: int, clock: Clock) -> None:
        self._clock = clock
        self._changed = threading.Condition()  # guards these four
        self._queued: deque[_Work] = deque()
        self._width = 0
        self._running_count = 0
        self._is_closed = False
        self._done: queue.SimpleQueue[_Work] = queue.SimpleQueue()
        self._under_way_count = 0  # touched by the owner's thread alone
        self._threads: list[threading.Thread] = []
        self.width = width

    @property
    def width(self) -> int:
        return self._width

    @width.setter
    def width(self, width: int) -> None:
        for number in range(len(self._threads) + 1, width + 1):
            thread = threading.Thread(
                target=self._serve, name=f"archiver-pool-{number}", daemon=True
            )
            thread.start()  # where it cannot, there is none to be waited for
            self._threads.append(thread)
        with self._changed:
            self._width = width
            self._changed.notify_all()

    def submit(
        self,
        work: Callable[[], T],
        then: Callable[[T], None],
        failed: Callable[[ArchiverError], None],
        *,
        ahead: bool = False,
    ) -> None:
        item = _Work(work, then, failed)
        self._under_way_count += 1
        with self._changed:
            if ahead:
                self._queued.appendleft(item)
            else:
                self._queued.append(item)
            self._changed.notify()

    @property
    def under_way_count(self) -> int:
        return self._under_way_count

    def turn(self, timeout_seconds: float) -> bool:
        try:
            work = self._done.get(timeout=max(0.0, timeout_seconds))
        except queue.Empty:
            return False
        self._under_way_count -= 1
        hand_over(work.then, work.failed, work.result, work.error)
        return True

    def every(self, seconds: float, work: Callable[[], None]) -> Callable[[], None]:
        return every(seconds, work, name="archiver-heartbeat")

    def close(self, *, timeout_seconds: float = _CLOSE_SECONDS) -> None:
        with self._changed:
            self._is_closed = True
            self._queued.clear()
            self._changed.notify_all()
        deadline = self._clock.monotonic() + timeout_seconds
        for thread in self._threads:
            thread.join(timeout=max(0.0, deadline - self._clock.monotonic()))

    def _serve(self) -> None:
        while (work := self._next()) is not None:
            try:
                work.result = work.run()
            except BaseException as exc:  # noqa: BLE001  # handed to the owner, whatever it is
                work.error = exc
            with self._changed:
                self._running_count -= 1  # whoever ends looks for the next: nobody need wake
            self._done.put(work)

    def _next(self) -> _Work | None:
        with self._changed:
            self._changed.wait_for(lambda: self._may_begin or self._is_closed)
            if not self._queued:
                return None
            self._running_count += 1
            return self._queued.popleft()

    @property
    def _may_begin(self) -> bool:
        return bool(self._queued) and self._running_count < self._width


class Crew(Protocol):
    """Runs pieces of one work beside it: the parts of an object. Thread-safe."""

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Queue it behind all that was queued before."""

    def close(self) -> None: ...


class ThreadCrew:
    """Threads are born while there is more to do than they can, up to a width.

    Like those of the pool they are daemons: one that hangs in a system call is left behind.
    """

    def __init__(self, *, width: int) -> None:
        self._width = width
        self._changed = threading.Condition()  # guards these four
        self._queued: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._idle_count = 0
        self._is_closed = False
        self._threads: list[threading.Thread] = []

    def submit(self, work: Callable[[], T]) -> Future[T]:
        future: Future[T] = Future()
        with self._changed:
            if self._is_closed:  # there is nobody left to do it
                future.cancel()
                return future
            if self._idle_count <= len(self._queued) and len(self._threads) < self._width:
                name = f"archiver-parts-{len(self._threads) + 1}"
                thread = threading.Thread(target=self._serve, name=name, daemon=True)
                thread.start()  # where it cannot, there is nothing to be waited for
                self._threads.append(thread)
            self._queued.append((work, future))
            self._changed.notify()
        return future

    def close(self) -> None:
        """Begin nothing more; what runs goes on, and what waits is cancelled."""
        with self._changed:
            self._is_closed = True
            while self._queued:
                self._queued.popleft()[1].cancel()
            self._changed.notify_all()

    def _serve(self) -> None:
        while (item := self._next()) is not None:
            work, future = item
            if not future.set_running_or_notify_cancel():
                continue
            try:
                result = work()
            except BaseException as exc:  # noqa: BLE001  # handed over, whatever it is
                future.set_exception(exc)
            else:
                future.set_result(result)
                del result
            del work, future, item  # a part's bytes are not kept while this thread waits

    def _next(self) -> tuple[Callable[[], Any], Future[Any]] | None:
        with self._changed:
            self._idle_count += 1
            self._changed.wait_for(lambda: self._queued or self._is_closed)
            self._idle_count -= 1
            return self._queued.popleft() if self._queued else None


def every(seconds: float, work: Callable[[], None], *, name: str) -> Callable[[], None]:
    """Do something again and again on a thread of its own; the answer ends that."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(seconds):
            work()

    thread = threading.Thread(target=beat, name=name, daemon=True)
    thread.start()

    def end() -> None:
        ended.set()
        thread.join(timeout=seconds)

    return end


def aside(work: Callable[[], object], *, name: str) -> None:
    """Do something once on a thread of its own, and do not wait: foreign code may hang."""
    threading.Thread(target=work, name=name, daemon=True).start()


def hand_over(
    then: Callable[[Any], None],
    failed: Callable[[ArchiverError], None],
    result: object,
    error: BaseException | None,
) -> None:
    """Call what follows from one piece of work; the one place that tells error from bug."""
    if error is None:
        then(result)
    elif isinstance(error, ArchiverError):
        failed(error)
    else:
        raise error


class NotInTime(Exception):
    """A side thread did not get on in time; it is left behind."""


class SideThread:
    """One thread that runs errands for its owner, one after the other.

    One that hangs is left behind as a daemon: nothing ends a thread that is in a system call.
    """

    def __init__(self, name: str) -> None:
        self._errands: queue.SimpleQueue[Errand[Any] | None] = queue.SimpleQueue()
        self._last: Errand[Any] | None = None
        self._thread = threading.Thread(
            target=self._serve, name=f"archiver-{name}", daemon=True
        )
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Wait for an errand under way, a second at most; then leave it behind."""
        self._errands.put(None)
        is_hung = self._last is not None and self._last.is_abandoned
        self._thread.join(timeout=0.0 if is_hung else _CLOSE_SECONDS)

    def begin(self, work: Callable[[Callable[[], None]], T]) -> Errand[T]:
        """Begin what comes next. `work` is given a function to call whenever it got on."""
        self._last = errand = Errand(work)
        self._errands.put(errand)
        return errand

    def _serve(self) -> None:
        while (errand := self._errands.get()) is not None:
            errand.run()


class Errand(Generic[T]):
    """Something a side thread does, and its owner waits for."""

    def __init__(self, work: Callable[[Callable[[], None]], T]) -> None:
        self._work = work
        self._told: queue.SimpleQueue[bool] = queue.SimpleQueue()  # True: it has ended
        self._is_sign_due = True  # no more than one sign waits to be seen
        self.is_abandoned = False
        self._result: T | None = None
        self._error: BaseException | None = None

    def run(self) -> None:
        """On the side thread, once."""
        work = self._work
        del self._work  # whoever keeps the errand keeps nothing of what it worked on
        try:
            self._result = work(self._got_on)
        except BaseException as exc:  # noqa: BLE001  # handed to the owner, whatever it is
            self._error = exc
        self._told.put(True)  # noqa: FBT003  # a queue's put has no names

    def wait(self, timeout_seconds: float) -> T:
        """The result, for as long as no more than so many seconds pass without a sign.

        Raises:
            NotInTime: It hangs. Should it wake up, it ends at its next sign.
        """
        timeout_seconds = min(timeout_seconds, threading.TIMEOUT_MAX)
        try:
            while not self._told.get(timeout=timeout_seconds):
                self._is_sign_due = True
        except queue.Empty:
            self.is_abandoned = True
            raise NotInTime from None
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value]  # it has ended, and without an error

    def _got_on(self) -> None:
        if self.is_abandoned:
            raise NotInTime
        if self._is_sign_due:
            self._is_sign_due = False
            self._told.put(False)  # noqa: FBT003
