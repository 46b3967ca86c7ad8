"""How answers look: aligned tables and JSON on stdout, everything else on stderr."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from dataclasses import fields, is_dataclass
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rich.console import Console

_WIDE = 20_000  # columns: into a pipe or a file nothing is folded
_CELL_LENGTH = 1500  # characters; three of them may come from a row, each column two wide


def say(text: str) -> None:
    """A line for a person who reads the answer."""
    click.echo(clean(text))


def warn(text: str) -> None:
    """A line beside the answer; one that cannot be written changes nothing."""
    with suppress(OSError):
        click.echo(clean(text), err=True)


def clean(text: str) -> str:
    """The text without control characters, but for its line ends: a terminal obeys them."""
    return "".join(
        char if char.isprintable() or char == "\n" else ascii(char)[1:-1] for char in text
    )


def in_line(text: str) -> str:
    """The same in one line, whatever line ends an id or a path has."""
    return clean(text).replace("\n", "\\n")


def print_json(answer: object) -> None:
    click.echo(to_json(answer))


def to_json(answer: object) -> str:
    """One line of JSON; frozen nouns become objects, instants ISO text, enums their words."""
    return json.dumps(_plain(answer), ensure_ascii=True)


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, str, float)):
        return value
    if isinstance(value, Enum):
        return value.value if isinstance(value.value, str) else str(value)
    if isinstance(value, int):
        return value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if is_dataclass(value) and type(value).__str__ is object.__str__:
        return {item.name: _plain(getattr(value, item.name)) for item in fields(value)}
    return str(value)


def instant(at: datetime | None) -> str:
    return "never" if at is None else f"{at:%Y-%m-%d %H:%M:%S}Z"


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: str = ""
) -> None:
    """A table without lines. `right` names the columns of numbers, with spaces between.

    On a terminal long cells are folded; elsewhere each row is one line, its cells cut where
    they are too long for one: `--json` has all.
    """
    from rich.table import Table  # noqa: PLC0415  # 25 ms
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        justify: Any = "right" if column in right.split() else "left"
        table.add_column(column, justify=justify, overflow="fold", no_wrap=False)
    for row in rows:
        table.add_row(*(Text(_cell(text)) for text in row))
    drawing = console(sys.stdout)
    with drawing.capture() as drawn:  # rich itself would end the process on a closed pipe
        drawing.print(table)
    for line in drawn.get().splitlines():
        click.echo(line.rstrip())


def _cell(text: str) -> str:
    told = in_line(text)
    return told if len(told) <= _CELL_LENGTH else f"{told[:_CELL_LENGTH]}..."


def print_facts(facts: Mapping[str, str]) -> None:
    """Names and values, aligned; a line each, whatever line ends an id or a path has."""
    width = max(map(len, facts), default=0)
    for name, value in facts.items():
        say(f"  {name:<{width}}  {in_line(value)}")


def console(stream: Any) -> Console:
    """A console that has colours on a terminal only, and minds NO_COLOR."""
    from rich.console import Console  # noqa: PLC0415

    width = None if stream.isatty() else _WIDE
    return Console(file=stream, width=width, highlight=False, markup=False, emoji=False)
