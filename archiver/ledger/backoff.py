"""How long a failed claim or release waits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_JITTER = 0.2  # 20 percent each way, so that what failed together is not tried together


@dataclass(frozen=True, slots=True)
class Backoff:
    """Doubles from `base_seconds` with each attempt, up to `max_seconds`."""

    base_seconds: float
    max_seconds: float
    random: Callable[[], float]  # uniform in [0, 1)

    def seconds(self, attempts_count: int, retry_after_seconds: float | None) -> float:
        """After so many failed attempts, at least one.

        Not less than the store asked for, unless that is more than `max_seconds`.
        """
        doublings = min(attempts_count - 1, 64)  # 2.0 ** 1024 would overflow
        wait = min(self.base_seconds * 2.0**doublings, self.max_seconds)
        jittered = wait * (1 - _JITTER + 2 * _JITTER * self.random())
        return max(jittered, min(retry_after_seconds or 0.0, self.max_seconds))
