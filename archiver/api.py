"""The library: everything an application may import, from one place.

    from archiver.api import Settings, SystemClock, open_archive

What is listed here, the nouns of `archiver.model`, the errors of `archiver.errors` and the
events of `archiver.events` change with a version that says so; everything else may change
with any. docs/library.md and docs/reading.md have examples.
"""

from __future__ import annotations

from archiver.app import Archiver, migrate, open_archiver
from archiver.config import Settings
from archiver.engine.stop import Stop
from archiver.model import Summary
from archiver.ops.clock import SystemClock
from archiver.reading import Archive, ArchivedObject, ArchivedUrl, open_archive

__all__ = [
    "Archive",
    "ArchivedObject",
    "ArchivedUrl",
    "Archiver",
    "Settings",
    "Stop",
    "Summary",
    "SystemClock",
    "migrate",
    "open_archive",
    "open_archiver",
]
