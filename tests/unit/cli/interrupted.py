"""A process of its own: `archiver --once`, whose sweep waits until it is asked to stop.

It says ``sweeping``, then, once it was asked, ``draining``; a drain it is told to do for
ever (`--drain-for-ever`) ends only with the process.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from archiver.cli.backstage import Backstage
from archiver.cli.main import run
from archiver.model import Summary
from tests.unit.cli.fake_app import FakeApp

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from archiver.engine.stop import Stop


class _Waiting(FakeApp):
    def once(self, sources: Sequence[str] | None, limit: int | None, stop: Stop) -> Summary:
        del sources, limit
        with _woken_by_signals() as wake_up:
            _say("sweeping")
            while stop.reason is None:
                os.read(wake_up, 1)
            _say("draining")
            while "--drain-for-ever" in sys.argv:
                os.read(wake_up, 1)
                _say("still draining")
        return Summary(state="stopped", stopped="signal", archived=1)


@contextmanager
def _woken_by_signals() -> Iterator[int]:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing)
    yield reading
    signal.set_wakeup_fd(-1)


def _say(word: str) -> None:
    sys.stderr.write(f"{word}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(run(["--once", "--json"], Backstage(import_app=_Waiting)))
