"""Kinds of option: read by the parsers of the settings, and refused in the same words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from click import Context, Parameter

    from archiver.model import Digest


class _Duration(click.ParamType[float]):
    """Seconds, of a text such as 2h30m."""

    name = "duration"

    def __init__(self, *, at_least_seconds: float) -> None:
        self._at_least_seconds = at_least_seconds

    def convert(self, value: str, param: Parameter | None, ctx: Context | None) -> float:
        from archiver.config import values  # noqa: PLC0415  # not for --help

        kind = values.duration(at_least_seconds=self._at_least_seconds)
        try:
            return kind.parse(value)
        except ValueError:
            self.fail(f"'{value}'; it must be {kind.accepts}", param, ctx)


class _Text(click.ParamType[str]):
    """An id, or the name of a source: whatever Postgres can keep."""

    name = "text"

    def convert(self, value: str, param: Parameter | None, ctx: Context | None) -> str:
        from archiver.formats.ids import problem_of_text  # noqa: PLC0415  # not for --help

        if problem := problem_of_text(value):  # bytes of the command line that are not UTF-8
            self.fail(f"{value!a}: {problem}, so nothing has that name", param, ctx)
        return value


class _Key(_Text):
    """What an object is called below `objects/`, or whole."""

    name = "key"

    def convert(self, value: str, param: Parameter | None, ctx: Context | None) -> str:
        key = super().convert(value, param, ctx)
        if not key.isprintable() or {"", ".", ".."} & set(key.split("/")):
            steps = "steps with / between them, none of them empty, . or .., all printable"
            self.fail(f"{key!a}; a key is {steps}", param, ctx)
        return key


class _KeyOrUrl(_Key):
    """A URL is a secret, perhaps: nothing of it is told where it is wrong."""

    name = "key or URL"

    def convert(self, value: str, param: Parameter | None, ctx: Context | None) -> str:
        if value.startswith(("http://", "https://")):
            return value
        return super().convert(value, param, ctx)


class _Digest(click.ParamType["Digest"]):
    """A SHA-256 in hex."""

    name = "sha256"

    def convert(self, value: Any, param: Parameter | None, ctx: Context | None) -> Digest:
        from archiver.model import Digest  # noqa: PLC0415  # not for --help

        try:
            return Digest.parse(value)
        except ValueError:
            self.fail(f"{value!a}; it must be 64 hex digits", param, ctx)


class _OfSetting(click.ParamType[str]):
    """A value of a setting, in whose place it is read."""

    name = "text"

    def __init__(self, setting: str) -> None:
        self.setting = setting

    def convert(self, value: str, param: Parameter | None, ctx: Context | None) -> str:
        from archiver.config import kind_of  # noqa: PLC0415  # not for --help

        kind = kind_of(self.setting)
        try:
            kind.parse(value)
        except ValueError:
            self.fail(f"{value!a}; it must be {kind.accepts}", param, ctx)
        return value


PROFILE = _OfSetting("ARCHIVE_PROFILE")
PART_SIZE = _OfSetting("ARCHIVE_PART_SIZE")
BANDWIDTH = _OfSetting("ARCHIVE_BANDWIDTH")
DIGEST = _Digest()
KEY = _Key()
KEY_OR_URL = _KeyOrUrl()
TEXT = _Text()
DURATION = _Duration(at_least_seconds=0.001)
DURATION_OR_NONE = _Duration(at_least_seconds=0.0)


def moment(option: str, text: str, now: datetime) -> datetime:
    """An instant: a duration before `now`, a date, or a date and time with its zone.

    Raises:
        click.BadParameter: It is none of these. Without its zone a time is nobody's.
    """
    from archiver.config.values import parse_duration  # noqa: PLC0415

    try:
        return now - timedelta(seconds=parse_duration(text))
    except (ValueError, OverflowError):
        pass  # no duration: then it is one of the next
    try:
        at = datetime.fromisoformat(text)
        is_date = at.tzinfo is None and len(text) == len("2026-01-31")
        if is_date or at.tzinfo is not None:
            return at.replace(tzinfo=UTC) if is_date else at.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    message = (
        f"'{text}'; it must be 2h or 7d (so long ago), 2026-01-31 (midnight UTC), or a time "
        "with its zone such as 2026-01-31T12:00Z"
    )
    raise click.BadParameter(message, param_hint=option)
