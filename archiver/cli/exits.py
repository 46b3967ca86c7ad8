"""Exit codes, and the one table from errors to them."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from archiver.errors import (
    ArchiverError,
    BadLifetime,
    FileUnusable,
    Mismatch,
    PermanentError,
    SettingsError,
)

if TYPE_CHECKING:
    from archiver.model import Summary, Takeover


class ExitCode(enum.IntEnum):
    """What a script may rely on."""

    DONE = 0  # all due work is done, or a limit was reached
    UNFINISHED = 1  # something became waiting or parked in this run, or was not found
    SETTINGS = 2  # settings or usage
    FATAL = 3  # nothing, or not everything, could be done: the message says why
    INTERRUPTED = 130  # by a signal, after a drain


# The first that fits. A transient error that comes up this far is one that outlasted all
# patience, so it is as fatal to the run as one that was born so.
_ERRORS: tuple[tuple[type[ArchiverError], ExitCode], ...] = (
    (SettingsError, ExitCode.SETTINGS),
    (ArchiverError, ExitCode.FATAL),
)


def of_error(error: ArchiverError) -> ExitCode:
    return next(code for kind, code in _ERRORS if isinstance(error, kind))


def of_transfer(error: ArchiverError) -> ExitCode:
    """Of a push or a pull: what is wrong with this one object is no outage."""
    if isinstance(error, (FileUnusable, BadLifetime)):
        return ExitCode.SETTINGS
    if isinstance(error, (PermanentError, Mismatch)):
        return ExitCode.UNFINISHED
    return of_error(error)


def of_summary(summary: Summary) -> ExitCode:
    if summary.state == "fatal":
        return ExitCode.FATAL
    if summary.stopped == "signal":
        return ExitCode.INTERRUPTED
    if summary.stopped == "failures" or not summary.is_clean:
        return ExitCode.UNFINISHED
    return ExitCode.DONE


def of_takeover(takeover: Takeover) -> ExitCode:
    if takeover.state == "fatal":
        return ExitCode.FATAL
    if takeover.stopped == "signal":
        return ExitCode.INTERRUPTED
    if takeover.stopped == "failures" or not takeover.is_complete:
        return ExitCode.UNFINISHED
    return ExitCode.DONE
