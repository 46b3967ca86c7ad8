"""Where a whole cold key is cut into the prefix, kept once, and the receipt's own part."""

from __future__ import annotations

import pytest

from archiver.ledger.rows import _split_key


@pytest.mark.parametrize(
    ("key", "template_key", "parts"),
    [
        ("jobs/1/a.html.gz", "jobs/1/a.html.gz", ("", "jobs/1/a.html.gz")),
        ("pr-7/jobs/1/a.html.gz", "jobs/1/a.html.gz", ("pr-7/", "jobs/1/a.html.gz")),
        ("p/q/jobs/1/a.ff.html.gz", "jobs/1/a.html.gz", ("p/q/", "jobs/1/a.ff.html.gz")),
        ("p/a.gz", "a.gz", ("p/", "a.gz")),
        ("a.gz", "a.gz", ("", "a.gz")),
        ("jobs/1/jobs/1/a", "jobs/1/a", ("jobs/1/", "jobs/1/a")),
        ("elsewhere/a", "jobs/1/a", ("", "elsewhere/a")),
    ],
)
def test_the_prefix_is_what_stands_before_the_templates_folder(
    key: str, template_key: str, parts: tuple[str, str]
) -> None:
    assert _split_key(key, template_key) == parts
    assert "".join(parts) == key
