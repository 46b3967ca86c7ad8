"""A wish to stop, made by a signal, an owner or the clock; a sweep reads it between steps."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from archiver.model import Stopped
    from archiver.protocols import Clock


class Stop:
    """Thread-safe; the first reason stays."""

    def __init__(self) -> None:
        # Guards the reason. Reentrant: a signal may come while another one is being handled.
        self._lock = threading.RLock()
        self._reason: Stopped | None = None

    def request(self, reason: Stopped) -> None:
        with self._lock:
            self._reason = self._reason or reason

    @property
    def reason(self) -> Stopped | None:
        return self._reason

    def within(self, seconds: float, clock: Clock) -> Stop:
        """A wish of its own, made by this one or by `duration` after so many seconds."""
        return _StopWithin(self, clock.monotonic() + seconds, clock)


class _StopWithin(Stop):
    """Follows a wider wish until its own time is over."""

    def __init__(self, wider: Stop, deadline: float, clock: Clock) -> None:
        super().__init__()
        self._wider = wider
        self._deadline = deadline
        self._clock = clock

    @property
    def reason(self) -> Stopped | None:
        if super().reason is None:
            if self._wider.reason is not None:
                self.request(self._wider.reason)
            elif self._clock.monotonic() >= self._deadline:
                self.request("duration")
        return super().reason
