"""Cold keys: distinct for distinct ids, and never out of their place."""

from __future__ import annotations

import posixpath
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.sources.template import (
    LIMIT_BYTES,
    KeyTemplate,
    Template,
    TemplateError,
    parse_metadata,
)

TASK_HTML = KeyTemplate.parse("jobs/{job_id}/tasks/{id}/page-content.html.gz")
IDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1)
AWKWARD = [
    "a/b",
    "..",
    ".",
    "...",
    "a/../b",
    "%2F",
    "%",
    "?x=1",
    "#",
    " ",
    "ü",
    "日本",
    "\n",
    "~",
]


def key(job_id: str, id_: str) -> str:
    return TASK_HTML.key({"job_id": job_id, "id": id_})


def test_a_uuid_stays_as_it_is() -> None:
    expected = "jobs/4f1c-ab/tasks/91_2.x/page-content.html.gz"
    assert expected == key("4f1c-ab", "91_2.x")


@pytest.mark.parametrize("id_", AWKWARD)
def test_h17_an_awkward_id_stays_one_segment(id_: str) -> None:
    made = key("j", id_)
    assert 5 == len(made.split("/"))
    assert made == posixpath.normpath(made)
    assert made.isascii()
    assert made.isprintable()
    assert not set(made) & set(" ?#\\")


def test_h17_awkward_ids_give_distinct_keys() -> None:
    keys = {key(job_id, id_) for job_id in AWKWARD for id_ in AWKWARD}
    assert len(AWKWARD) ** 2 == len(keys)


@given(IDS, IDS)
def test_h17_any_id_is_found_again_in_its_key(job_id: str, id_: str) -> None:
    try:
        made = key(job_id, id_)
    except TemplateError:
        return  # too long
    _, job_segment, _, id_segment, name = made.split("/")
    assert (job_id, id_) == (unquote(job_segment), unquote(id_segment))
    assert "page-content.html.gz" == name
    assert made == posixpath.normpath(made)


def test_a_key_longer_than_a_store_allows_is_refused() -> None:
    fixed = len(key("j", "i")) - 1
    assert LIMIT_BYTES == len(key("j", "x" * (LIMIT_BYTES - fixed)))
    with pytest.raises(TemplateError, match=f"{LIMIT_BYTES + 1} bytes"):
        key("j", "x" * (LIMIT_BYTES + 1 - fixed))
    with pytest.raises(TemplateError, match="bytes"):
        key("j", "ü" * 200)  # 400 bytes, escaped 1,200


@pytest.mark.parametrize(("value", "state"), [(None, "NULL"), ("", "empty")])
def test_a_key_is_never_made_of_nothing(value: str | None, state: str) -> None:
    with pytest.raises(TemplateError, match=f"job_id is {state}"):
        TASK_HTML.key({"job_id": value, "id": "1"})


@pytest.mark.parametrize(
    "text",
    [
        "avatars.png",
        "avatars/{}.png",
        "avatars/{id",
        "avatars/id}",
        "avatars/{Id}.png",
        "{a}{b}",
        "/avatars/{id}",
        "avatars//{id}",
        "avatars/../{id}",
        "./{id}",
        "{id}/",
        ".archiver/{id}",
        "ävatars/{id}",
    ],
)
def test_a_template_that_could_leave_its_place_is_refused(text: str) -> None:
    with pytest.raises(TemplateError):
        KeyTemplate.parse(text)


def test_metadata_is_a_list_of_names_and_templates() -> None:
    found = parse_metadata("task_id={id}, label=page {id} of {job_id}")
    assert ["task_id", "label"] == list(found)
    assert "page 1 of 7" == found["label"].fill({"id": "1", "job_id": "7"})


def test_metadata_over_a_null_is_left_out() -> None:
    assert None is Template.parse("{sha256}").fill({"sha256": None})


@pytest.mark.parametrize(
    "text", ["", "task_id", "a={id},", "a={id},a={id}", "a=1", "A={id}", "archiver-id={id}"]
)
def test_unsound_metadata_is_refused(text: str) -> None:
    with pytest.raises(TemplateError):
        parse_metadata(text)
