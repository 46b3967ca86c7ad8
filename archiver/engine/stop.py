"""A wish to stop, made by a signal or an owner, read by the sweep between its steps."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from archiver.model import Stopped


class Stop:
    """Thread-safe; the first reason stays."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards the reason
        self._reason: Stopped | None = None

    def request(self, reason: Stopped) -> None:
        with self._lock:
            self._reason = self._reason or reason

    @property
    def reason(self) -> Stopped | None:
        return self._reason
