"""A pool without threads: every turn runs one queued piece of work, in an order of the test's.

Under the manual clock nothing ever waits, so a test steps the whole engine, piece by piece.
"""

from __future__ import annotations

from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from archiver.engine.pool import hand_over

if TYPE_CHECKING:
    from collections.abc import Callable

    from archiver.errors import ArchiverError
    from archiver.protocols import Clock

T = TypeVar("T")


class SteppingPool:
    """Same contract as `ThreadPool`; `choose` picks which queued work runs next."""

    def __init__(self, clock: Clock, choose: Callable[[int], int] = lambda _count: 0) -> None:
        self._clock = clock
        self._choose = choose
        self._queued: list[tuple[Callable[[], Any], Callable[[Any], None], Any]] = []
        self.width = 0  # obeyed whatever it is: one piece runs at a time
        self._beats: list[tuple[float, Callable[[], None]]] = []

    def submit(
        self,
        work: Callable[[], T],
        then: Callable[[T], None],
        failed: Callable[[ArchiverError], None],
        *,
        ahead: bool = False,
    ) -> None:
        self._queued.insert(0 if ahead else len(self._queued), (work, then, failed))

    @property
    def under_way_count(self) -> int:
        return len(self._queued)

    def turn(self, timeout_seconds: float) -> bool:
        if not self._queued:
            self._clock.sleep(timeout_seconds)
            return False
        work, then, failed = self._queued.pop(self._choose(len(self._queued)))
        result, error = None, None
        try:
            result = work()
        except BaseException as exc:  # noqa: BLE001  # handed over, whatever it is
            error = exc
        hand_over(then, failed, result, error)
        return True

    def every(self, seconds: float, work: Callable[[], None]) -> Callable[[], None]:
        beat = (seconds, work)
        self._beats.append(beat)
        return lambda: self._beats.remove(beat)


class InlineCrew:
    """Same contract as `ThreadCrew`, without threads: work is done when it is submitted."""

    def submit(self, work: Callable[[], T]) -> Future[T]:
        future: Future[T] = Future()
        try:
            future.set_result(work())
        except Exception as exc:  # noqa: BLE001  # handed over; what kills a process kills it here
            future.set_exception(exc)
        return future

    def close(self) -> None:
        """There is nothing to end."""
