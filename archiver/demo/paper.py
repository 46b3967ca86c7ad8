"""How the demo looks: calm, aligned, colours on a terminal alone."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, TextIO

from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

WIDTH = 80  # columns that our own lines keep within


class Paper:
    """Writes line by line, so that the story is read while it happens."""

    def __init__(self, stream: TextIO) -> None:
        self._console = Console(file=stream, highlight=False, markup=False, emoji=False)

    @property
    def is_terminal(self) -> bool:
        return self._console.is_terminal

    @property
    def has_colours(self) -> bool:
        return self._console.is_terminal and not self._console.no_color

    def title(self, text: str) -> None:
        self._print(Text(text, "bold"))

    def heading(self, text: str, aside: str = "") -> None:
        self._print(Text(""))
        self._print(Text.assemble((text, "bold"), (f"  {aside}" if aside else "", "dim")))

    def line(self, text: str) -> None:
        self._print(Text(f"  {text}"))

    def aside(self, text: str) -> None:
        """Said by somebody else, or beside the point."""
        self._print(Text(f"  {text}", "dim"))

    def command(self, words: str) -> None:
        self._print(Text(""))
        self._print(Text.assemble(("$ ", "dim"), (words, "bold cyan")))

    def facts(self, facts: Mapping[str, str]) -> None:
        width = max(map(len, facts))
        for name, value in facts.items():
            self._print(Text.assemble("  ", (f"{name:<{width}}", "cyan"), f"  {value}"))

    def table(self, rows: Sequence[Sequence[str]]) -> None:
        """The first row is the head; every column but the first is of numbers."""
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for number, row in enumerate(rows):
            first, *others = (
                f"{cell:<{width}}" if index == 0 else f"{cell:>{width}}"
                for index, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            line = "  " + "   ".join([first, *others]).rstrip()
            self._print(Text(line, "dim" if number == 0 else ""))

    def answer(self, fields: Mapping[str, object]) -> None:
        """A JSON object, folded between its fields."""
        line = "{"
        for number, (name, value) in enumerate(fields.items(), start=1):
            end = "}" if number == len(fields) else ","
            field = f"{json.dumps(name)}: {json.dumps(value)}{end}"
            if len(line) + len(field) + 3 > WIDTH:
                self._print(Text(f"  {line}"))
                line = ""
            line += f"{' ' if line not in ('', '{') else ''}{field}"
        self._print(Text(f"  {line}"))

    def verdict(self, claim: str, problem: str) -> None:
        word, style = ("FAIL", "bold red") if problem else ("ok", "green")
        self._print(Text.assemble("  ", (f"{word:<4}", style), f"  {claim}"))
        if problem:
            self._print(Text(f"        {problem}", "red"))

    def steps(self, steps: Iterable[tuple[str, str]]) -> None:
        """Commands to copy, each below what it is for, where that is said."""
        for what, words in steps:
            if what:
                self._print(Text(f"  # {what}", "dim"))
            self._print(Text(f"  {words}", "cyan"))

    def _print(self, text: Text) -> None:
        self._console.print(text, soft_wrap=True)
