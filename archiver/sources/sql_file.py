"""The format of a source file: a header, then named sections of SQL.

    -- name: avatars
    -- cold_key: avatars/{id}.png
    -- shares_objects: no

    -- candidates --
    select ...

Knows no database. All that is wrong with a file is reported at once, with its lines.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from archiver.errors import SettingsError
from archiver.model import SourceName
from archiver.sources.sql_text import Kind, SqlTextError, Statement, Token, statements, tokens
from archiver.sources.template import KeyTemplate, Template, TemplateError, parse_metadata

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

OVERRIDES = (
    "hot",
    "bucket",
    "prefix",
    "storage_class",
    "evidence",
    "release_grace",
    "retention_age",
)
_KEYS = ("name", "cold_key", "shares_objects", "metadata", *OVERRIDES)

_EVERYWHERE = frozenset({"retention_jobs", "retention_age"})
_PAGE = frozenset({"limit", "after_due_at", "after_id"})
_PAGE_BY_ID = frozenset({"limit", "after_id"})
_NOTHING: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class _Rule:
    """What a section may be."""

    parameters: frozenset[str] = _EVERYWHERE
    needed_parameters: frozenset[str] = _NOTHING
    why_needed: str = ""
    may_have_many_statements: bool = False
    relation: str = ""  # must be read by the section


_RULES = {
    "prepare": _Rule(may_have_many_statements=True),
    "candidates": _Rule(
        _EVERYWHERE | _PAGE,
        needed_parameters=_PAGE,
        why_needed="so the same rows would be offered for ever",
    ),
    "archived": _Rule(relation="receipt"),
    "restored": _Rule(relation="receipt"),
    "points_at": _Rule(relation="location"),
    "locate": _Rule(
        frozenset({"id"}),
        needed_parameters=frozenset({"id"}),
        why_needed="so every row would be the one that is asked for",
    ),
    "holdings": _Rule(
        _EVERYWHERE | _PAGE_BY_ID,
        needed_parameters=_PAGE_BY_ID,
        why_needed="so the same rows would be told for ever",
    ),
    "housekeeping": _Rule(_EVERYWHERE | {"everything"}, may_have_many_statements=True),
    "needs": _Rule(_NOTHING, may_have_many_statements=True),
}

_NAME = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)*")
_SECTION = re.compile(r"--\s*([A-Za-z_-]+)\s*--\s*")
# A word before a colon or an equals sign, and two that look like a key, are meant as a
# setting: a mistyped retention_age must not pass as prose.
_SETTING = re.compile(r"--\s*([A-Za-z_-]+(?: [A-Za-z_-]+)?)\s*([:=])\s*(.*?)\s*")
_SINGLE_KEY = re.compile(r"[a-z_-]+")


@dataclass(frozen=True, slots=True)
class Section:
    """One named piece of SQL."""

    name: str
    line: int
    statements: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class SqlFile:
    """A source file that was read and found sound."""

    file_name: str
    name: SourceName
    cold_key: KeyTemplate
    sections: Mapping[str, Section]
    metadata: Mapping[str, Template] = field(default_factory=dict)
    overrides: Mapping[str, str] = field(default_factory=dict)  # of the global settings
    override_lines: Mapping[str, int] = field(default_factory=dict)

    @property
    def needs(self) -> tuple[str, ...]:
        """What `archiver migrate --source` runs: in turn, outside a transaction."""
        section = self.sections.get("needs")
        return tuple(statement.text for statement in section.statements) if section else ()

    @classmethod
    def parse(cls, text: str, file_name: str) -> SqlFile:
        """Read the text of a source file.

        Raises:
            SettingsError: With every problem found, as `file:line: section: problem`.
        """
        return _Reading(file_name).read(text)


class _Reading:
    """One pass over a file; problems are collected, not raised."""

    def __init__(self, file_name: str) -> None:
        self._file_name = file_name
        self._problems: list[str] = []

    def read(self, text: str) -> SqlFile:
        header, bodies = self._cut(text)
        settings = self._settings(header)
        sections = {
            name: self._section(name, line, body) for name, (line, body) in bodies.items()
        }
        self._demand(settings, sections)
        cold_key = self._cold_key(settings)
        metadata = self._metadata(settings)
        if self._problems or cold_key is None:
            raise SettingsError(problems=tuple(self._problems))
        return SqlFile(
            file_name=self._file_name,
            name=SourceName(settings["name"][1]),
            cold_key=cold_key,
            sections=sections,
            metadata=metadata,
            overrides={key: settings[key][1] for key in OVERRIDES if key in settings},
            override_lines={key: settings[key][0] for key in OVERRIDES if key in settings},
        )

    # --- cutting ------------------------------------------------------------------------

    def _cut(self, text: str) -> tuple[list[Token], dict[str, tuple[int, list[Token]]]]:
        """The tokens before the first section, and those of each section with its line."""
        header: list[Token] = []
        bodies: dict[str, tuple[int, list[Token]]] = {}
        body = header
        for token in self._tokens(text):
            marker = _section_marker(token)
            if marker is None:
                body.append(token)
                continue
            body = []  # of a section that is not known, the text is read and forgotten
            if marker not in _RULES:
                self._problem(token.line, f"unknown section {marker}{_nearest(marker, _RULES)}")
            elif marker in bodies:
                self._problem(token.line, f"section {marker} is there twice")
            else:
                bodies[marker] = (token.line, body)
        return header, bodies

    def _tokens(self, text: str) -> Iterator[Token]:
        try:
            yield from tokens(text)
        except SqlTextError as exc:
            self._problem(exc.line, exc.problem)

    # --- header -------------------------------------------------------------------------

    def _settings(self, header: Sequence[Token]) -> dict[str, tuple[int, str]]:
        """Line and value of each key."""
        found: dict[str, tuple[int, str]] = {}
        for token in header:
            if token.is_significant:
                self._problem(token.line, "SQL before the first section")
                return found
            setting = _SETTING.fullmatch(token.text.rstrip())
            if token.kind is not Kind.LINE_COMMENT or setting is None:
                continue
            key, sign, value = setting.groups()
            if not _SINGLE_KEY.fullmatch(key) and not _near(key, _KEYS):
                continue  # prose
            if key not in _KEYS or sign != ":":
                self._problem(token.line, f"unknown key {key!r}{_nearest(key, _KEYS)}")
            elif key in found:
                self._problem(token.line, f"key {key} is there twice")
            elif not value:
                self._problem(token.line, f"key {key} has no value")
            else:
                found[key] = (token.line, value)
        return found

    def _demand(
        self, settings: Mapping[str, tuple[int, str]], sections: Collection[str]
    ) -> None:
        for key in ("name", "cold_key"):
            if key not in settings:
                self._problem(1, f"there is no `-- {key}: ...` line")
        line, name = settings.get("name", (1, "unnamed"))
        if not is_source_name(name):
            self._problem(line, f"name {name!r} is not lower-case letters, digits, single _")
        for section in ("candidates", "archived"):
            if section not in sections:
                self._problem(1, f"there is no `-- {section} --` section")
        line, shares = settings.get("shares_objects", (1, ""))
        if shares not in {"", "no"}:
            self._problem(line, "shares_objects: can only be `no`; else write points_at")
        elif not shares and "points_at" not in sections:
            self._problem(1, "there is no `-- points_at --`, nor `-- shares_objects: no`")

    def _cold_key(self, settings: Mapping[str, tuple[int, str]]) -> KeyTemplate | None:
        line, text = settings.get("cold_key", (1, ""))
        if not text:
            return None
        try:
            return KeyTemplate.parse(text)
        except TemplateError as exc:
            self._problem(line, f"cold_key: {exc}")
            return None

    def _metadata(self, settings: Mapping[str, tuple[int, str]]) -> dict[str, Template]:
        line, text = settings.get("metadata", (1, ""))
        try:
            return parse_metadata(text) if text else {}
        except TemplateError as exc:
            self._problem(line, f"metadata: {exc}")
            return {}

    # --- sections -----------------------------------------------------------------------

    def _section(self, name: str, line: int, body: Sequence[Token]) -> Section:
        rule = _RULES[name]
        section = Section(name, line, tuple(statements(body)))
        if not section.statements:
            self._problem(line, "there is no SQL in it", section=name)
        elif len(section.statements) > 1 and not rule.may_have_many_statements:
            second = section.statements[1]
            self._problem(second.line, "a second statement begins here", section=name)
        elif rule.relation and not _reads(section, rule.relation):
            self._problem(line, f"it does not read {rule.relation}", section=name)
        self._check_parameters(section, rule)
        return section

    def _check_parameters(self, section: Section, rule: _Rule) -> None:
        used: set[str] = set()
        for statement in section.statements:
            for parameter, line in statement.parameters:
                used.add(parameter)
                if parameter not in rule.parameters:
                    near = _nearest(parameter, rule.parameters)
                    problem = f"unknown parameter :{parameter}{near}"
                    self._problem(line, problem, section=section.name)
        for missing in sorted(rule.needed_parameters - used):
            problem = f":{missing} is not used, {rule.why_needed}"
            self._problem(section.line, problem, section=section.name)

    def _problem(self, line: int, problem: str, *, section: str = "") -> None:
        where = f"section {section}: " if section else ""
        self._problems.append(f"{self._file_name}:{line}: {where}{problem}")


def is_source_name(name: str) -> bool:
    """Lower-case letters, digits, single underscores: it can be part of a setting's name."""
    return _NAME.fullmatch(name) is not None


def _section_marker(token: Token) -> str | None:
    if token.kind is not Kind.LINE_COMMENT:
        return None
    marker = _SECTION.fullmatch(token.text)
    return marker[1] if marker else None


def _reads(section: Section, relation: str) -> bool:
    return any(
        token.word == relation for item in section.statements for token in item.significant
    )


def _nearest(name: str, known: Collection[str]) -> str:
    near = _near(name, known)
    return f"; did you mean {near[0]}?" if near else f"; known: {', '.join(sorted(known))}"


def _near(name: str, known: Collection[str]) -> list[str]:
    folded = name.lower().replace(" ", "_").replace("-", "_")
    return difflib.get_close_matches(folded, known, n=1)
