"""Events as log lines, text or JSON: always one line an event, whatever is in its facts."""

from __future__ import annotations

import json
import logging
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

import structlog

from archiver.ops.facts import facts

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

    from archiver.events import Event, Level
    from archiver.protocols import Clock

    EventDict = MutableMapping[str, Any]
    Processor = Callable[[Any, str, EventDict], str]

Format = Literal["text", "json"]

_NEEDS_QUOTES = re.compile(r"[^\x21\x23-\x3c\x3e-\x5b\x5d-\x7e]|^$")  # also " = and backslash
_LEVELS: dict[Level, int] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


class LogObserver:
    """Writes a line for each event at or above a level. Any thread may call it."""

    def __init__(
        self,
        write: Callable[[str], object],
        *,
        log_format: Format,
        level: Level,
        clock: Clock,
        mask: Callable[[str], str] = str,
    ) -> None:
        """`write` gets whole lines with their newline, from any thread.

        `mask` covers what must not be shown, in each fact before it is escaped.
        """
        self._mask = mask
        self._clock = clock
        render: Processor = _as_text if log_format == "text" else _as_json
        self._log = structlog.wrap_logger(
            _Lines(write),
            processors=[render],
            wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        )

    def __call__(self, event: Event) -> None:
        at = self._clock.now().isoformat(timespec="milliseconds").replace("+00:00", "Z")
        log = getattr(self._log, event.LEVEL)
        told = {
            name: self._mask(fact) if isinstance(fact, str) else fact
            for name, fact in facts(event).items()
        }
        log(event.NAME, level=event.LEVEL, at=at, facts=told)


class _Lines:
    """The logger below structlog. A closed pipe must not stop a sweep: the line is lost."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write

    def msg(self, line: str) -> None:
        with suppress(OSError, ValueError):
            self._write(f"{line}\n")

    debug = info = warning = error = msg


def _as_json(_logger: object, _method: str, line: EventDict) -> str:
    head = {"timestamp": line["at"], "level": line["level"], "event": line["event"]}
    # The head is last, so that no fact can take its names; ASCII, so that no reader of
    # lines sees an end of line within one.
    merged = {**dict.fromkeys(head), **line["facts"], **head}
    return json.dumps(merged, ensure_ascii=True)


def _as_text(_logger: object, _method: str, line: EventDict) -> str:
    told = "".join(
        f" {_quoted(name)}={_quoted(value)}" for name, value in line["facts"].items()
    )
    return f"{line['at']} {line['level']:<7} {line['event']}{told}"


def _quoted(value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if isinstance(value, float):
        text = f"{value:.3f}"
    return f'"{escaped(text)}"' if _NEEDS_QUOTES.search(text) else text


def escaped(text: str) -> str:
    """The text in one line: quotes, backslashes and what does not print are escaped."""
    return "".join(
        f"\\{char}" if char in '"\\' else char if char.isprintable() else _escape(char)
        for char in text
    )


def _escape(char: str) -> str:
    return ascii(char)[1:-1]
