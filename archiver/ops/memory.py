"""What a process asks of its C library, so that memory which was given back is free."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # of glibc: <malloc.h>
_LARGE_BYTES = 1 << 20
_ARENAS = 2


def give_back_large_blocks() -> None:
    """Let every block above 1 MiB be mapped and unmapped by itself, for this process.

    glibc would raise that bound with the first large block that is freed, and keep the parts
    of objects in the heaps of the threads they were read by: three times what is in flight.
    Nor needs each thread a heap of its own where one of them runs at a time.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library: it has no such call
            mallopt = ctypes.CDLL(None).mallopt
            mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
            mallopt(_M_ARENA_MAX, _ARENAS)
