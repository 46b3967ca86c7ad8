"""What passed by a server, and when: how much of it the fullest window holds."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field


@dataclass
class Meter:
    """Requests and the bytes of their bodies, both ways. One lock guards what passed."""

    _requests: list[tuple[float, int]] = field(default_factory=list)
    _bytes: list[tuple[float, int]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def request(self, size_bytes: int) -> None:
        with self._lock:
            self._requests.append((time.monotonic(), 1))
        self.bytes(size_bytes)

    def bytes(self, size_bytes: int) -> None:
        with self._lock:
            self._bytes.append((time.monotonic(), size_bytes))

    @property
    def requests_count(self) -> int:
        return len(self._requests)

    @property
    def bytes_count(self) -> int:
        return sum(size for _, size in self._bytes)

    @property
    def largest_bytes(self) -> int:
        """The most that one request or one answer brought."""
        return max(size for _, size in self._bytes)

    @property
    def request_times(self) -> list[float]:
        return [at for at, _ in self._requests]

    def most_requests(self, window_seconds: float) -> int:
        return _fullest(self._requests, window_seconds)

    def most_bytes(self, window_seconds: float) -> int:
        return _fullest(self._bytes, window_seconds)


def _fullest(passed: list[tuple[float, int]], window_seconds: float) -> int:
    """The most that any window holds; both its ends belong to it."""
    passed = sorted(passed)
    most = held = first = 0
    for at, amount in passed:
        held += amount
        while passed[first][0] < at - window_seconds:
            held -= passed[first][1]
            first += 1
        most = max(most, held)
    return most
