"""Ctrl-C and SIGTERM, delivered where the demo can end without leaving anything behind."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Both signals wait, until a block is entered that they may interrupt.

    So they cut no start and no clean-up in two, where a server could be left running.
    """

    def __init__(self) -> None:
        self._came = False
        self._may_interrupt = False

    @property
    def came(self) -> bool:
        return self._came

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Takes the signals of this process; gives them back."""
        before = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """Here the first signal raises a KeyboardInterrupt, also one that came before."""
        try:
            self._may_interrupt = True
            if self._came:
                raise KeyboardInterrupt
            yield
        finally:
            self._may_interrupt = False

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._came = True
        if self._may_interrupt:
            self._may_interrupt = False  # once: the way out must not be interrupted
            raise KeyboardInterrupt
