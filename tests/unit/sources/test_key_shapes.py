"""Which keys a template can make: all that it makes, and no other."""

from __future__ import annotations

import itertools
import re
import time
from urllib.parse import unquote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from archiver.formats.keys import digest_keys, plain_keys, write_once_keys
from archiver.model import ColdKey, Digest
from archiver.sources.key_shapes import can_make
from archiver.sources.template import KeyTemplate, TemplateError, _escape

HTML = KeyTemplate.parse("jobs/{job_id}/tasks/{id}/page-content.html.gz")
TEMPLATES = [
    HTML,
    KeyTemplate.parse("avatars/{id}.png"),
    KeyTemplate.parse("{id}"),
    KeyTemplate.parse("a/{x}-{y}.{z}"),
    KeyTemplate.parse(".hidden/{id}"),
    KeyTemplate.parse("v{id}."),
]
DIGEST = Digest.of(b"x")

texts = st.text(min_size=1, max_size=20) | st.text("./%-2E~é", min_size=1, max_size=8)
templates = st.sampled_from(TEMPLATES)
digests = st.binary(min_size=1, max_size=4).map(Digest.of)


@given(template=templates, data=st.data(), digest=digests)
def test_what_a_template_makes_is_recognised_with_every_later_key(
    template: KeyTemplate, data: st.DataObject, digest: Digest
) -> None:
    values: dict[str, str | None] = {name: data.draw(texts) for name in template.columns}
    try:
        key = template.key(values)
    except (TemplateError, UnicodeEncodeError):  # too long, or no text at all
        assume(False)  # noqa: FBT003
        raise
    for made in write_once_keys(key, digest):
        assert can_make(template, made)
        assert key in set(plain_keys(made))


def _could_make(template: KeyTemplate, key: str) -> bool:
    """By trying every way to split it: too slow for a key of a stranger."""
    first, *others = re.split(r"\{[a-z_]+\}", template.template.text)
    if not key.startswith(first):
        return False
    splits: list[tuple[int, ...]] = [(len(first),)]
    for text in others:
        splits = [
            (*done, at + len(text))
            for done in splits
            for at in range(done[-1] + 1, len(key) + 1)
            if key.startswith(text, at)
        ]
    for ends in splits:
        if ends[-1] != len(key):
            continue
        values = [
            key[start : end - len(text)]
            for (start, end), text in zip(itertools.pairwise(ends), others, strict=True)
        ]
        if all(_escape(unquote(it, errors="surrogateescape")) == it for it in _whole(values)):
            return True
    return False


def _whole(values: list[str]) -> list[str]:
    """Those that are no text when unescaped are of no use to `_escape`."""
    return [value if _is_text(value) else "\0" for value in values]


def _is_text(value: str) -> bool:
    try:
        unquote(value, errors="strict")
    except UnicodeDecodeError:
        return False
    return True


@given(
    template=templates,
    key=st.text("jobs/tak1.-%2E~C3A9F0éav{}\n", max_size=24)
    | st.from_regex(r"\Ajobs/[%.a-f0-9]{1,6}/tasks/[%.A-F0-9]{1,6}/page-content\.html\.gz\Z")
    | st.from_regex(r"\Aa/[-.%E2]{1,5}-[-.%E2]{1,5}\.[-.%E2]{1,5}\Z"),
)
def test_what_no_row_could_make_is_not_recognised(template: KeyTemplate, key: str) -> None:
    assert can_make(template, key) == any(_could_make(template, it) for it in plain_keys(key))


@pytest.mark.parametrize(
    "key",
    [
        "jobs/1/tasks/2/page-content.html.gz",
        "jobs/%2E%2E/tasks/a%2Fb/page-content.html.gz",
        f"jobs/1/tasks/2/page-content.{DIGEST}.html.gz",
        f"jobs/1/tasks/2/page-content.{DIGEST}.9.html.gz",
    ],
)
def test_a_page_has_such_keys(key: str) -> None:
    assert can_make(HTML, key)


@pytest.mark.parametrize(
    "key",
    [
        "jobs/1/tasks/2/page-content.html",
        "jobs/1/tasks//page-content.html.gz",
        "jobs/1/2/tasks/2/page-content.html.gz",
        "jobs/../tasks/2/page-content.html.gz",  # a value of dots is escaped
        "jobs/%41/tasks/2/page-content.html.gz",  # an A is not
        "jobs/%c3%a9/tasks/2/page-content.html.gz",  # escapes are in capitals
        "jobs/%ED%A0%80/tasks/2/page-content.html.gz",  # half a surrogate pair
        "jobs/é/tasks/2/page-content.html.gz",
        f"jobs/1/tasks/2/page-content.{DIGEST}.10.html.gz",
        f"jobs/1/tasks/2/page-content.{str(DIGEST).upper()}.html.gz",
        "jobs/1/tasks/2/page-content.html.gz\n",
        f"jobs/{'1' * 900}/tasks/2/page-content.html.gz",
    ],
)
def test_no_page_has_such_keys(key: str) -> None:
    assert not can_make(HTML, key)


def test_a_number_may_be_the_extension_of_a_plain_key() -> None:
    key = ColdKey("v1.2")
    later = next(digest_keys(key, DIGEST))
    assert set(plain_keys(later)) == {later, "v1.2", "v1"}


def test_a_hostile_key_is_judged_in_time() -> None:
    template = KeyTemplate.parse("{a}-{b}-{c}-{d}-{e}/end")
    began_at = time.process_time()
    assert not can_make(template, "-" * 900)
    assert time.process_time() - began_at < 5  # by splits it would be years
