from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.formats.ids import LIMIT_BYTES, problem_of_id, short_id


@pytest.mark.parametrize(
    "id_", ["x" * 5000, "\u00fc" * 600, "\U0001f5c4" * 300, "nul\0", "\ud800"]
)
def test_an_id_that_cannot_be_kept_has_a_short_one_that_can(id_: str) -> None:
    assert problem_of_id(id_)
    assert problem_of_id(short_id(id_)) == ""
    assert short_id(id_) != short_id(id_ + "x")


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_any_other_id_is_kept_as_it_is(id_: str) -> None:
    assert (problem_of_id(id_) == "") == (len(id_.encode()) <= LIMIT_BYTES)


@given(st.text(st.characters(), min_size=1))
def test_a_short_id_can_always_be_kept_and_read(id_: str) -> None:
    assert problem_of_id(short_id(id_)) == ""
    assert short_id(id_).isprintable()
