"""A file of any name in a header: RFC 6266, and what old clients make of it."""

from __future__ import annotations

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.formats.disposition import disposition_header
from archiver.formats.headers import problem_of_header
from archiver.model import Disposition


@pytest.mark.parametrize(
    ("disposition", "said"),
    [
        (Disposition(), "attachment"),
        (Disposition("inline"), "inline"),
        (Disposition("inline", ""), "inline"),
        (Disposition("inline", "page.html"), 'inline; filename="page.html"'),
        (Disposition(filename="a b.html"), 'attachment; filename="a b.html"'),
        (
            Disposition(filename='a"b.html'),
            "attachment; filename=\"a_b.html\"; filename*=UTF-8''a%22b.html",
        ),
        (
            Disposition(filename="né.html"),
            "attachment; filename=\"n_.html\"; filename*=UTF-8''n%C3%A9.html",
        ),
    ],
)
def test_such_a_name_is_said_so(disposition: Disposition, said: str) -> None:
    assert disposition_header(disposition) == said


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40))
def test_any_name_comes_back_and_ends_no_header(name: str) -> None:
    said = disposition_header(Disposition(filename=name))

    assert problem_of_header(said[:200].strip()) == ""
    plain, _, exact = said.removeprefix('attachment; filename="').partition('"')
    assert (unquote(exact.removeprefix("; filename*=UTF-8''")) or plain) == name


def test_half_a_character_is_no_reason_to_fail() -> None:
    assert disposition_header(Disposition(filename="a\ud800"))
