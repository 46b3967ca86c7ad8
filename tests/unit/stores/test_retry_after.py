"""Both forms of a Retry-After."""

from __future__ import annotations

import pytest

from archiver.stores.retry_after import retry_after_seconds

DATE = "Wed, 21 Oct 2026 07:28:00 GMT"


@pytest.mark.parametrize(
    ("said", "date", "seconds"),
    [
        ("7", DATE, 7.0),
        (" 120 ", None, 120.0),
        ("Wed, 21 Oct 2026 07:29:30 GMT", DATE, 90.0),
        ("Wed, 21 Oct 2026 07:27:00 GMT", DATE, 0.0),  # it is over already
        ("Wed, 21 Oct 2026 07:29:30 GMT", None, None),  # by whose clock?
        ("Wed, 21 Oct 2026 07:29:30 GMT", "now", None),
        ("Wed, 21 Oct 2026 07:29:30 -0000", DATE, None),  # no zone beside one
        ("soon", DATE, None),
        ("-3", DATE, None),
        ("1.5", DATE, None),
        ("٣", DATE, None),
        ("", DATE, None),
        (None, DATE, None),
    ],
)
def test_a_pause_is_read_as_it_is_said(
    said: str | None, date: str | None, seconds: float | None
) -> None:
    assert retry_after_seconds(said, date) == seconds
