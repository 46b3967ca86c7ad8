"""The sources that are chosen, and which settings each has of its own.

The header of a source file overrides the settings of the process, and the environment,
`ARCHIVE_SOURCE__<NAME>__<KEY>`, overrides the file.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from archiver.config import table
from archiver.config.reader import SOURCE_PREFIX, Found, Seen
from archiver.errors import SettingsError
from archiver.model import SourceName
from archiver.sources.finding import find_source
from archiver.sources.sql_file import SqlFile

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from importlib.metadata import EntryPoint

    from archiver.config.reader import Reader
    from archiver.config.table import Setting

_SETTINGS: Mapping[str, Setting[Any]] = {
    "hot": table.HOT,
    "bucket": table.BUCKET,
    "prefix": table.PATH_PREFIX,
    "storage_class": table.STORAGE_CLASS,
    "evidence": table.EVIDENCE,
    "release_grace": table.RELEASE_GRACE,
    "retention_age": table.RETENTION_AGE,
}
_BY_NAME = {setting.name: setting for setting in _SETTINGS.values()}
_OF_STORES = (table.HOT.name, table.BUCKET.name)


@dataclass(frozen=True, slots=True)
class Chosen:
    """One source of ARCHIVE_SOURCES, and what it sets for itself."""

    name: SourceName
    definition: SqlFile | EntryPoint
    overrides: Mapping[str, Found]  # by the name of the setting
    is_right: bool  # every one of them could be read


def choose_sources(
    reader: Reader, environ: Mapping[str, str], *, is_enabled: bool
) -> Sequence[Chosen]:
    """Find and read every source; all that is wrong with them goes to the reader."""
    definitions = _definitions(reader)
    of_environment = _of_environment(reader, environ, tuple(definitions))
    chosen = []
    for name, definition in definitions.items():
        found = {**_of_file(definition), **of_environment.get(name, {})}
        right = {
            setting_name: override
            for setting_name, override in found.items()
            if reader.parses(_BY_NAME[setting_name], override)
        }
        _note(reader, name, right)
        # Where nothing is archived at all, it does not matter where to.
        overrides = {
            setting_name: override
            for setting_name, override in right.items()
            if is_enabled or setting_name not in _OF_STORES
        }
        chosen.append(Chosen(name, definition, overrides, is_right=len(right) == len(found)))
    return chosen


def common_overrides(chosen: Sequence[Chosen]) -> Mapping[str, Found]:
    """What every source sets for itself: then no setting of the process need say it.

    The first one's value stands for the process, which uses it for no source.
    """
    if not chosen:
        return {}
    first, *others = chosen
    return {
        name: found
        for name, found in first.overrides.items()
        if all(name in other.overrides for other in others)
    }


def is_hot_s3_used(chosen: Sequence[Chosen], environ: Mapping[str, str]) -> bool:
    """Whether any source reads from S3, so that ARCHIVE_HOT_* belong to something."""
    own = (source.overrides.get(table.HOT.name) for source in chosen)
    texts = [found.text for found in own if found] + [environ.get(table.HOT.name, "")]
    return any(text.strip().startswith("s3://") for text in texts)


def _definitions(reader: Reader) -> dict[SourceName, SqlFile | EntryPoint]:
    definitions: dict[SourceName, SqlFile | EntryPoint] = {}
    for entry in reader.value(table.SOURCES):
        try:
            definition = find_source(entry)
        except SettingsError as error:
            for problem in error.problems:
                reader.complain(table.SOURCES, problem)
            continue
        name = SourceName(definition.name)
        if name in definitions:
            problem = f"{entry}: another source of ARCHIVE_SOURCES has the name {name} too"
            reader.complain(table.SOURCES, problem)
            continue
        definitions[name] = definition
    return definitions


def _of_file(definition: SqlFile | EntryPoint) -> Mapping[str, Found]:
    if not isinstance(definition, SqlFile):
        return {}
    found = {}
    for key, text in definition.overrides.items():
        place = f"{definition.file_name}:{definition.override_lines[key]}"
        found[_SETTINGS[key].name] = Found(text, f"{place}: {key}", f"file {place}")
    return found


def _of_environment(
    reader: Reader, environ: Mapping[str, str], names: Sequence[SourceName]
) -> Mapping[SourceName, Mapping[str, Found]]:
    by_upper = {name.upper(): name for name in names}
    found: dict[SourceName, dict[str, Found]] = {}
    for variable, upper, key in _variables(environ):
        if upper not in by_upper:
            known = ", ".join(names) or "none"
            problem = f"{variable} is for no source of ARCHIVE_SOURCES, which are: {known}"
            reader.complain(table.SOURCES, problem)
        elif key.lower() not in _SETTINGS or key != key.upper():
            problem = f"{variable} is not a setting{_nearest(key)}"
            reader.complain(table.SOURCES, problem)
        elif text := environ[variable].strip():
            setting = _SETTINGS[key.lower()]
            override = Found(text, variable, f"environment {variable}")
            found.setdefault(by_upper[upper], {})[setting.name] = override
    return found


def _variables(environ: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    for variable in sorted(environ):
        if variable.startswith(SOURCE_PREFIX):
            upper, _, key = variable.removeprefix(SOURCE_PREFIX).partition("__")
            yield variable, upper, key


def _note(reader: Reader, name: SourceName, overrides: Mapping[str, Found]) -> None:
    for key, setting in _SETTINGS.items():
        if found := overrides.get(setting.name):
            variable = f"{SOURCE_PREFIX}{name.upper()}__{key.upper()}"
            reader.seen[variable] = Seen(setting, found.text, found.origin)


def _nearest(key: str) -> str:
    keys = [known.upper() for known in _SETTINGS]
    nearest = difflib.get_close_matches(key.upper(), keys, n=1, cutoff=0.6)
    return f"; did you mean …__{nearest[0]}?" if nearest else f"; known: {', '.join(keys)}"
