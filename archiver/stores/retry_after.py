"""How long a store asks us to wait, as HTTP says it."""

from __future__ import annotations

from email.utils import parsedate_to_datetime


def retry_after_seconds(said: str | None, date: str | None) -> float | None:
    """Seconds of a Retry-After, in either form; None: there is none, or it means nothing.

    Args:
        said: The header's text: whole seconds, or a date.
        date: The Date of the same answer. A date is counted from it, because then it does
            not matter whose clock is right; without one it means nothing.
    """
    if said is None:
        return None
    said = said.strip()
    if said.isascii() and said.isdigit():
        return float(said)
    if date is None:
        return None
    try:
        left = parsedate_to_datetime(said) - parsedate_to_datetime(date)
    except (TypeError, ValueError):  # no date; or one of the two without a zone
        return None
    return max(0.0, left.total_seconds())
