"""Reads settings out of a mapping and keeps every problem, so that all are told at once."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote

from archiver.config.table import SETTINGS, Setting
from archiver.errors import SettingsError
from archiver.model import Secret

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

T = TypeVar("T")

SOURCE_PREFIX = "ARCHIVE_SOURCE__"  # before NAME__KEY: what a source sets for itself

_MASK = repr(Secret(""))
_LONGEST_SHOWN = 120
_LONGEST_FILE_BYTES = 64 * 1024
_PASSWORD = re.compile(r"//[^/@]*?:([^@]+)@")


@dataclass(frozen=True, slots=True)
class Seen:
    """One setting as it was found: its text, masked where it is secret, and whence."""

    setting: Setting[Any]
    shown: str | None  # None: unset, and no default
    origin: str  # "default", "environment NAME" or "file PATH"


@dataclass(frozen=True, slots=True)
class Found:
    """The text of a setting, and where it stands."""

    text: str
    name: str
    origin: str


class Reader:
    """One reading of the settings. A wrong value reads as its default, and `finish` raises."""

    def __init__(
        self, environ: Mapping[str, str], overrides: Mapping[str, Found] | None = None
    ) -> None:
        """Read from `environ`; `overrides`, by the names of settings, go before it."""
        self._environ = environ
        self._overrides = overrides or {}
        self.problems: list[str] = []
        self._wrong: set[str] = set()
        self.seen: dict[str, Seen] = {}
        self.secrets: list[Secret] = []

    def override(self, overrides: Mapping[str, Found]) -> None:
        """From now on these, by the names of settings, go before the environment."""
        self._overrides = overrides

    def adopt(self, problems: Iterable[str], source: str) -> None:
        """Take over what was wrong for one source alone."""
        known = set(self.problems)
        new = [problem for problem in problems if problem not in known]
        self.problems += [f"source {source}: {problem}" for problem in new]

    def finish(self) -> None:
        """Raise all that was wrong, unknown names too.

        Raises:
            SettingsError: Anything was.
        """
        problems = self.problems + _unknown_names(self._environ)
        if problems:
            raise SettingsError(problems=tuple(problems))

    def plain(self, name: str) -> str:
        """A variable that is none of ours; empty where it is not set."""
        return self._environ.get(name, "")

    def value(self, setting: Setting[T]) -> T:
        """The value of a setting that has a default."""
        found = self.find(setting)
        if found is not None or setting.default is None:
            return found  # type: ignore[return-value]  # None only where the kind parses to it
        return setting.kind.parse(setting.default)

    def find(self, setting: Setting[T]) -> T | None:
        """The value that is set; None where there is none, or a wrong one."""
        found = self._look_up(setting)
        self._note(setting, found)
        if found is None or not self.parses(setting, found):
            return None
        return setting.kind.parse(found.text)

    def parses(self, setting: Setting[Any], found: Found) -> bool:
        """Whether it is a value of this setting; if not, that is a problem."""
        try:
            setting.kind.parse(found.text)
        except ValueError:
            shown = _shown(setting, found.text)
            self.complain(
                setting, f"{found.name} is {shown}; it must be {setting.kind.accepts}"
            )
            return False
        return True

    def required(self, setting: Setting[T], why: str) -> T | None:
        """As `find`; a setting that is missing is a problem."""
        value = self.find(setting)
        if value is None and setting.name not in self._wrong:
            names = " or ".join(setting.names)
            self.complain(
                setting, f"{names} is not set; {why} needs it: {setting.kind.accepts}"
            )
        return value

    def complain(self, setting: Setting[Any], problem: str) -> None:
        if problem not in self.problems:
            self.problems.append(problem)
        self._wrong.add(setting.name)

    def complain_of(self, problem: str) -> None:
        """Keep a problem that is not about a setting of ours."""
        self.problems.append(problem)

    def is_in_environment(self, name: str) -> bool:
        """Whether a variable that is no setting of ours is there."""
        return bool(self._environ.get(name))

    def is_wrong(self, setting: Setting[Any]) -> bool:
        return setting.name in self._wrong

    def is_set(self, setting: Setting[Any]) -> bool:
        return setting.name in self._overrides or any(
            self._environ.get(f"{name}{suffix}")
            for name in setting.names
            for suffix in ("", "_FILE")
        )

    def _look_up(self, setting: Setting[Any]) -> Found | None:
        if setting.name in self._overrides:
            return self._overrides[setting.name]
        for name in setting.names:
            text = self._environ.get(name, "")
            path = self._environ.get(f"{name}_FILE", "") if setting.has_file else ""
            if text and path:
                self.complain(setting, f"{name} and {name}_FILE are both set; keep one of them")
                return None
            if text:
                return Found(text.strip(), name, f"environment {name}")
            if path:
                return self._read_file(setting, f"{name}_FILE", path)
        return None

    def _read_file(self, setting: Setting[Any], name: str, path: str) -> Found | None:
        shown = _quoted(path)
        try:
            content = Path(path).read_bytes()[: _LONGEST_FILE_BYTES + 1]
            text = content.decode().strip()
        except OSError as error:
            reason = (error.strerror or type(error).__name__).lower()
            self.complain(setting, f"{name} is {shown}, which cannot be read: {reason}")
        except ValueError:  # a zero byte in the path, or bytes that are no text
            self.complain(setting, f"{name} is {shown}, which cannot be read as text")
        else:
            if text and len(content) <= _LONGEST_FILE_BYTES:
                return Found(text, name, f"file {path}")
            size = "empty" if not text else "too large to be a secret"
            self.complain(setting, f"{name} is {shown}, a file that is {size}")
        return None

    def _note(self, setting: Setting[Any], found: Found | None) -> None:
        if found is None:
            self.seen[setting.name] = Seen(setting, setting.default, "default")
            return
        if setting.is_secret:
            self.secrets += [Secret(part) for part in _secret_parts(found.text)]
        shown = _MASK if setting.is_secret else found.text
        self.seen[setting.name] = Seen(setting, shown, found.origin)


def _secret_parts(text: str) -> list[str]:
    """The secret, and the password in it where it is a URL: either may turn up alone."""
    passwords = _PASSWORD.findall(text)
    return [text, *passwords, *map(unquote, passwords)]


def _shown(setting: Setting[Any], text: str) -> str:
    # Somebody who pastes https://key:secret@host has put a secret where none belongs.
    is_secret = setting.is_secret or "@" in text or "?" in text
    return _MASK if is_secret else _quoted(text)


def _quoted(text: str) -> str:
    cut = text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"
    return ascii(cut) if not cut.isprintable() else f"'{cut}'"


def _unknown_names(environ: Mapping[str, str]) -> list[str]:
    known = _known_names()
    return [
        f"{_quoted(name)[1:-1]} is not a setting{_nearest(name, known)}"
        for name in sorted(environ)
        if name.startswith("ARCHIVE_")
        and name not in known
        # those of sources are known where the sources are
        and not name.startswith(SOURCE_PREFIX)
    ]


def _known_names() -> list[str]:
    return [
        f"{name}{suffix}"
        for setting in SETTINGS
        for name in setting.names
        for suffix in (("", "_FILE") if setting.has_file else ("",))
    ]


def _nearest(name: str, known: list[str]) -> str:
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean {nearest[0]}?" if nearest else "; `archiver check` lists them all"
