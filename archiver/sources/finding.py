"""Where sources are: files that come with archiver, paths of files, plugins by their names.

Opens no database and imports no plugin: settings are read with it.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from archiver.errors import SettingsError
from archiver.sources.sql_file import SqlFile

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

PLUGIN_GROUP = "archiver.sources"


def find_source(name: str) -> SqlFile | EntryPoint:
    """What one name of ARCHIVE_SOURCES stands for; a plugin is found, not imported.

    Raises:
        SettingsError: It stands for nothing, for several, or for a file that is no source.
    """
    if name.endswith(".sql"):
        return read_source_file(Path(name))
    if name in _shipped():
        return shipped_source_file(name)
    return _plugin(name)


def read_source_file(text_or_path: str | Path) -> SqlFile:
    """Parse a file, or SQL that is at hand as text.

    Raises:
        SettingsError: It cannot be read or is no source; all its problems.
    """
    if isinstance(text_or_path, str):
        return SqlFile.parse(text_or_path, file_name="text")
    try:
        text = text_or_path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        problem = f"{text_or_path}: the source file cannot be read: {exc}"
        raise SettingsError(problems=(problem,)) from exc
    return SqlFile.parse(text, file_name=str(text_or_path))


def shipped_source_file(name: str) -> SqlFile:
    """A source file that comes with archiver, by its name: `task_html`.

    Raises:
        SettingsError: None has this name.
    """
    if name not in _shipped():
        raise _no_source(name, ())
    return _read_shipped(name)


@cache
def _shipped() -> frozenset[str]:
    names = (entry.name for entry in resources.files(__package__).iterdir())
    return frozenset(Path(name).stem for name in names if name.endswith(".sql"))


@cache
def _read_shipped(name: str) -> SqlFile:
    file_name = f"{name}.sql"
    text = resources.files(__package__).joinpath(file_name).read_text(encoding="utf-8")
    return SqlFile.parse(text, file_name=file_name)


def _plugin(name: str) -> EntryPoint:
    # Reads the metadata of all installed packages: most runs name no plugin.
    from importlib.metadata import entry_points  # noqa: PLC0415

    found = entry_points(group=PLUGIN_GROUP)
    named = list(dict.fromkeys(found.select(name=name)))
    if not named:
        raise _no_source(name, found.names)
    if len(named) > 1:
        values = ", ".join(sorted(entry.value for entry in named))
        problem = f"the source {name!r} is there {len(named)} times: {values}"
        raise SettingsError(problems=(problem,))
    return named[0]


def _no_source(
    name: str, plugins: frozenset[str] | set[str] | tuple[str, ...]
) -> SettingsError:
    known = ", ".join(sorted({*_shipped(), *plugins}))
    problem = (
        f"there is no source {name!r} (ARCHIVE_SOURCES, --source); "
        f"known: {known}, or the path of a .sql file"
    )
    return SettingsError(problems=(problem,))
