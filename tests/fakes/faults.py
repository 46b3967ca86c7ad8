"""Faults that a test declares and a fake store obeys. One that never fired fails the test.

store.faults.on("open", location, raise_=unavailable("hot", "open"), times=2)
store.faults.on("create", key, keep=truncated)           # 200, and half the bytes
store.faults.on("create", key, lose_reply=unavailable("cold", "create"))
store.faults.on("read", raise_=denied("read"), times=None)  # any key, always
store.faults.on("open", location, run=lambda: store.plant(location, b"newer"))
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from archiver.errors import ObjectDenied, StoreThrottled, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from archiver.model import Deleted

    Raised = BaseException | Callable[[], BaseException]


def truncated(body: bytes) -> bytes:
    """The first half."""
    return body[: len(body) // 2]


def flipped(body: bytes) -> bytes:
    """The same length, one bit of the middle byte turned."""
    middle = len(body) // 2
    return body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]


def zeroed(body: bytes) -> bytes:
    """The same length, all zero."""
    return bytes(len(body))


def unavailable(store: str, operation: str, code: str = "scripted") -> StoreUnavailable:
    return StoreUnavailable(store=store, operation=operation, code=code)


def throttled(store: str, operation: str) -> StoreThrottled:
    return StoreThrottled(store=store, operation=operation, code="SlowDown")


def denied(operation: str, store: str = "cold", where: str = "") -> ObjectDenied:
    return ObjectDenied(store=store, operation=operation, where=where, code="scripted")


@dataclass(kw_only=True)
class Fault:
    """What one operation on one subject does instead. See `Faults.on` for the fields."""

    operation: str
    subject: Hashable | None
    times: int | None
    raise_: Raised | None = None
    lose_reply: Raised | None = None
    keep: Callable[[bytes], bytes] | None = None
    forget: bool = False
    etag: str | None = None
    answer: Deleted | None = None
    run: Callable[[], object] | None = None
    fired_count: int = 0

    @property
    def is_spent(self) -> bool:
        return self.times is not None and self.fired_count >= self.times

    def __str__(self) -> str:
        wanted = "at least once" if self.times is None else f"{self.times} times"
        subject = "anything" if self.subject is None else self.subject
        return f"{self.operation} of {subject}: {wanted}, fired {self.fired_count}"


@dataclass
class Faults:
    """The faults of one fake store, first declared first, and a count of its calls.

    One lock guards the list, the firing and the counts; effects happen outside of it.
    """

    _faults: list[Fault] = field(default_factory=list)
    calls: Counter[str] = field(default_factory=Counter)  # by operation
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def on(
        self,
        operation: str,
        subject: Hashable | None = None,
        *,
        times: int | None = 1,
        raise_: Raised | None = None,
        lose_reply: Raised | None = None,
        keep: Callable[[bytes], bytes] | None = None,
        forget: bool = False,
        etag: str | None = None,
        answer: Deleted | None = None,
        run: Callable[[], object] | None = None,
    ) -> Fault:
        """Declare a fault for an operation, on one location or key, or (None) on any.

        Args:
            operation: Hot: open read read_range identify delete probe. Cold: create stat look
                held_digest readback read read_range list; in parts: begin put_part parts
                complete abort open_uploads. In bulk calls, each subject counts.
            subject: A `HotLocation`, a `ColdKey`, a bucket (probe), a prefix (listings).
            times: How often it fires; the test fails if it fires less. None: always, and
                at least once.
            raise_: An exception, or what makes one, instead of the effect.
            lose_reply: An exception after the effect took place.
            keep: What is kept of created bytes or of a part, or comes out of a read.
            forget: What answers well and keeps nothing (create, begin, put_part, complete), or
                does nothing (abort); a listing that leaves out all.
            etag: The answer names this one instead.
            answer: What a delete answers, doing nothing.
            run: Called first: an overwrite in between, a wait for another thread.
        """
        fault = Fault(
            operation=operation,
            subject=subject,
            times=times,
            raise_=raise_,
            lose_reply=lose_reply,
            keep=keep,
            forget=forget,
            etag=etag,
            answer=answer,
            run=run,
        )
        with self._lock:
            self._faults.append(fault)
        return fault

    def begin(self, operation: str, subject: Hashable) -> Fault:
        """Count a call and fire what is declared for it; a fault without effect if nothing.

        For the fakes. `run` and `raise_` happen here, the rest is the fake's to do.
        """
        fault = self._take(operation, subject)
        if fault.run is not None:
            fault.run()
        if fault.raise_ is not None:
            raise _made(fault.raise_)
        return fault

    def _take(self, operation: str, subject: Hashable) -> Fault:
        with self._lock:
            self.calls[operation] += 1
            for fault in self._faults:
                if fault.operation != operation or fault.is_spent:
                    continue
                if fault.subject is None or fault.subject == subject:
                    fault.fired_count += 1
                    return fault
        return _NO_FAULT

    def verify_all_fired(self) -> None:
        """Fail the test over a declared fault that did not fire as often as declared."""
        with self._lock:
            idle = [fault for fault in self._faults if _is_idle(fault)]
        assert not idle, "declared faults that did not fire: " + "; ".join(map(str, idle))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:  # a failing test has its own reason already
            self.verify_all_fired()


def reply_lost(fault: Fault) -> None:
    """Raise, now that the effect has taken place. For the fakes."""
    if fault.lose_reply is not None:
        raise _made(fault.lose_reply)


_NO_FAULT = Fault(operation="", subject=None, times=None)


def _made(raised: Raised) -> BaseException:
    return raised if isinstance(raised, BaseException) else raised()


def _is_idle(fault: Fault) -> bool:
    return fault.fired_count < (1 if fault.times is None else fault.times)
