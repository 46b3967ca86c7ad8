"""What a process says and leaves behind beside its own words: no secret may be in it."""

from __future__ import annotations

import ctypes
import resource
import sys
import threading
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING

from archiver.cli.paper import clean, warn

if TYPE_CHECKING:
    from archiver.cli.backstage import Backstage

_PR_SET_DUMPABLE = 4  # of Linux: <sys/prctl.h>


def keep_to_ourselves(backstage: Backstage) -> None:
    """For the rest of this process: no core dumps, and bugs of any thread are told masked."""
    threading.excepthook = lambda told: _tell_bug(backstage, told)
    leave_no_core()


def leave_no_core() -> None:
    """Memory holds every secret, so it is written nowhere when the process is killed by a bug.

    The limit keeps core files away, the flag also what a system pipes to a program of its
    own; with it, only root may look into this process by a debugger or `/proc`.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # no such call in this C library
            ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def _tell_bug(backstage: Backstage, told: threading.ExceptHookArgs) -> None:
    """As `cli.main` tells one: whole, but without secrets."""
    lines = traceback.format_exception(told.exc_type, told.exc_value, told.exc_traceback)
    warn(backstage.masked(clean("".join(lines))))
