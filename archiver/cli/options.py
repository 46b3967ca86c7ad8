"""Kinds of option: read by the parsers of the settings, and refused in the same words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from click import Context, Parameter


class _Duration(click.ParamType[float]):
    """Seconds, of a text such as 2h30m."""

    name = "duration"

    def convert(self, value: str, param: Parameter | None, ctx: Context | None) -> float:
        from archiver.config import values  # noqa: PLC0415  # not for --help

        kind = values.duration(at_least_seconds=0.001)
        try:
            return kind.parse(value)
        except ValueError:
            self.fail(f"'{value}'; it must be {kind.accepts}", param, ctx)


DURATION = _Duration()
