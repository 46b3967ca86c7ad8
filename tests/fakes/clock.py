"""A clock that moves only when it is told to, or slept on."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta


class ManualClock:
    """Both clocks advance together. One lock guards the time passed and the sleeps."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._start = start
        self._passed_seconds = 0.0
        self._sleeps: list[float] = []
        self._lock = threading.Lock()

    def now(self) -> datetime:
        with self._lock:
            return self._start + timedelta(seconds=self._passed_seconds)

    def monotonic(self) -> float:
        with self._lock:
            return self._passed_seconds

    def sleep(self, seconds: float) -> None:
        """Return at once; that much time has passed."""
        with self._lock:
            self._sleeps.append(seconds)
        self.advance(max(0.0, seconds))

    def advance(self, seconds: float) -> None:
        with self._lock:
            self._passed_seconds += seconds

    @property
    def sleeps(self) -> list[float]:
        """How long each sleep was asked to be, in order."""
        with self._lock:
            return list(self._sleeps)
