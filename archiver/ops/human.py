"""Numbers as people read them: rounded, with separators and units."""

from __future__ import annotations

_BYTE_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB")


def count_text(count: int) -> str:
    return f"{count:,}"


def bytes_text(count: float) -> str:
    """``17 B``, ``1.5 MiB``, ``212 GiB``: three digits or so."""
    if count < 1024:  # noqa: PLR2004  # the first unit has no fraction
        return f"{count:.0f} B"
    for unit in _BYTE_UNITS:
        count /= 1024
        if count < 999.5 or unit == _BYTE_UNITS[-1]:  # noqa: PLR2004  # what rounds to 1,000
            break
    return f"{count:,.0f} {unit}" if count >= 99.95 else f"{count:.1f} {unit}"  # noqa: PLR2004


def seconds_text(seconds: float) -> str:
    """``0.4 s``, ``12 s``, ``3 min 5 s``, ``2 h 14 min``, ``3 d 2 h``."""
    if seconds < 9.95:  # noqa: PLR2004  # below, tenths tell something
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for unit_seconds, unit, smaller_seconds, smaller in (
        (86_400, "d", 3_600, "h"),
        (3_600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= unit_seconds:
            rest = whole % unit_seconds // smaller_seconds
            return f"{whole // unit_seconds} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{whole} s"
