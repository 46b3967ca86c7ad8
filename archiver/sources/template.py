"""Templates over a candidate's columns: cold keys, and metadata of cold objects."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from archiver.model import ColdKey

if TYPE_CHECKING:
    from collections.abc import Mapping


LIMIT_BYTES = 900  # S3 allows 1,024: room for a path prefix and for the digest in a taken key

_PLACEHOLDER = re.compile(r"\{([a-z_][a-z0-9_]*)\}")
_METADATA_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


class TemplateError(ValueError):
    """The template itself is wrong, or a row cannot fill it."""


@dataclass(frozen=True, slots=True)
class Template:
    """A text with `{column}` placeholders."""

    text: str

    @classmethod
    def parse(cls, text: str) -> Template:
        """Check the placeholders.

        Raises:
            TemplateError: No placeholder, a brace that belongs to none, or two with
                nothing between them (`{a}{b}` is the same for "x", "yz" and "xy", "z").
        """
        if problem := _problem_of(text):
            raise TemplateError(problem)
        return cls(text)

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(_PLACEHOLDER.findall(self.text))

    def fill(self, values: Mapping[str, str | None]) -> str | None:
        """The text with values as they are; None where one of them is NULL."""
        if any(values[name] is None for name in self.columns):
            return None
        return _PLACEHOLDER.sub(lambda match: values[match[1]] or "", self.text)


def _problem_of(text: str) -> str:
    literal = _PLACEHOLDER.sub("\0", text)
    if "\0" not in literal:
        return "there is no {column} in it"
    if "{" in literal or "}" in literal:
        return "a { or } belongs to no {column}"
    if "\0\0" in literal:
        return "two {column} need something between them, best a /"
    return ""


@dataclass(frozen=True, slots=True)
class KeyTemplate:
    """Where a candidate goes: different values give different keys, none leaves its place."""

    template: Template

    @classmethod
    def parse(cls, text: str) -> KeyTemplate:
        """Check that every key made from it will be a plain relative path.

        Raises:
            TemplateError: It is absolute, not ASCII, or has an empty, `.` or `..` segment.
        """
        if problem := problem_of_key(text):
            raise TemplateError(problem)
        return cls(Template.parse(text))

    @property
    def columns(self) -> tuple[str, ...]:
        return self.template.columns

    def key(self, values: Mapping[str, str | None]) -> ColdKey:
        """Fill it, each value escaped so that it stays one segment.

        Raises:
            TemplateError: A value is NULL or empty, or the key is too long for a store.
        """
        for name in self.columns:
            if not values[name]:
                problem = f"{name} is {'NULL' if values[name] is None else 'empty'}"
                raise TemplateError(problem)
        escaped = {name: _escape(values[name] or "") for name in self.columns}
        key = self.template.fill(escaped) or ""
        if len(key) > LIMIT_BYTES:
            problem = f"the key has {len(key)} bytes, {LIMIT_BYTES} are allowed"
            raise TemplateError(problem)
        return ColdKey(key)


def problem_of_key(text: str) -> str:
    """Why it could not be a key, or a template of keys; empty where it could."""
    if not text.isascii() or not text.isprintable():
        return "only printable ASCII may be written in it"
    if any(segment in {"", ".", "..", ".archiver"} for segment in text.split("/")):
        return "a segment is empty, `.`, `..` or `.archiver`"
    return ""


def _escape(value: str) -> str:
    if not value.strip("."):
        return value.replace(".", "%2E")  # `.` and `..` name directories on a file store
    return quote(value, safe="")


def parse_metadata(text: str) -> dict[str, Template]:
    """Read `task_id={id}, sha256={content_digest}`.

    Raises:
        TemplateError: An item is not name=template, or a name is repeated or reserved.
    """
    found: dict[str, Template] = {}
    for item in text.split(","):
        name, equals, template = (part.strip() for part in item.partition("="))
        if not equals or not _METADATA_NAME.fullmatch(name):
            problem = f"{item.strip()!r} is not name={{column}}"
            raise TemplateError(problem)
        if name in found or name.startswith("archiver-"):
            problem = f"the name {name} is taken"
            raise TemplateError(problem)
        found[name] = Template.parse(template)
    return found
