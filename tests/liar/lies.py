"""Lies that a test declares and the server tells. One that was never told fails the test.

server.lies.on("PutObject", "app/jobs/7", keep=lambda held: held.rotten(flipped))
server.lies.on("GetObject", answer=lambda asked: error(403, "AccessDenied"), times=None)
server.lies.on("PutObject", ignores=("if-none-match",))
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.liar.bucket import Held
    from tests.liar.wire import Asked, Reply

ANY = "*"


@dataclass(kw_only=True)
class Lie:
    """What one operation does instead. See `Lies.on` for the fields."""

    operation: str
    key: str | None
    times: int | None
    skip: int = 0
    answer: Callable[[Asked], Reply] | None = None
    keep: Callable[[Held], Held | None] | None = None
    retell: Callable[[Reply], Reply] | None = None
    then: Callable[[Asked], object] | None = None
    ignores: Sequence[str] = ()
    told_count: int = 0

    def is_about(self, asked: Asked) -> bool:
        if self.operation not in {ANY, asked.operation}:
            return False
        return self.key is None or asked.key.startswith(self.key)

    @property
    def is_spent(self) -> bool:
        return self.times is not None and self.told_count >= self.times

    def __str__(self) -> str:
        wanted = "at least once" if self.times is None else f"{self.times} times"
        return f"{self.operation} of {self.key or 'anything'}: {wanted}, told {self.told_count}"


@dataclass
class Lies:
    """The lies of one server, first declared first, and a count of what it was asked."""

    _lies: list[Lie] = field(default_factory=list)
    _ended: list[Lie] = field(default_factory=list)
    asked: Counter[str] = field(default_factory=Counter)  # by operation
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def on(
        self,
        operation: str,
        key: str | None = None,
        *,
        times: int | None = 1,
        skip: int = 0,
        answer: Callable[[Asked], Reply] | None = None,
        keep: Callable[[Held], Held | None] | None = None,
        retell: Callable[[Reply], Reply] | None = None,
        then: Callable[[Asked], object] | None = None,
        ignores: Sequence[str] = (),
    ) -> Lie:
        """Declare a lie about an operation, on keys that begin so, or (None) on any.

        Args:
            operation: As S3 names it, or `ANY`.
            key: The beginning of keys; those of a bulk call are not looked at.
            times: How often it is told; the test fails if it is told less. None: always, and
                at least once.
            skip: So many requests are answered honestly first.
            answer: What is answered instead; nothing else happens.
            keep: What comes to lie there of what is put; None: nothing.
            retell: What is answered in place of the honest answer, once that is done.
            then: Called once it is done, before it is answered.
            ignores: Headers that are not looked at, in lower case.
        """
        lie = Lie(
            operation=operation,
            key=key,
            times=times,
            skip=skip,
            answer=answer,
            keep=keep,
            retell=retell,
            then=then,
            ignores=ignores,
        )
        with self._lock:
            self._lies.append(lie)
        return lie

    def begin(self, asked: Asked) -> Lie:
        """Count a request and choose the lie that is told of it; an empty one if none is."""
        with self._lock:
            self.asked[asked.operation] += 1
            for lie in self._lies:
                if lie.is_spent or not lie.is_about(asked):
                    continue
                if lie.skip:
                    lie.skip -= 1
                    continue
                lie.told_count += 1
                return lie
        return _TRUTH

    def end(self) -> None:
        """The truth from now on. What was declared must have been told by the end."""
        with self._lock:
            self._ended += self._lies
            self._lies.clear()

    def forget(self) -> None:
        """Begin anew, with the truth."""
        with self._lock:
            self._lies.clear()
            self._ended.clear()
            self.asked.clear()

    def untold(self) -> list[Lie]:
        """What was told less often than it was declared."""
        with self._lock:
            every = [*self._ended, *self._lies]
        return [lie for lie in every if lie.told_count < (lie.times or 1)]

    def verify_all_told(self) -> None:
        """Fail the test over a lie that was told less often than it was declared."""
        idle = self.untold()
        assert not idle, "declared lies that were not told: " + "; ".join(map(str, idle))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:  # a failing test has its own reason already
            self.verify_all_told()


_TRUTH = Lie(operation="", key=None, times=None)
