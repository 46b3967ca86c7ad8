"""Every setting is documented, has a true example and default, and changes something."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from archiver.config import Settings, readme_table
from archiver.config.table import SETTINGS, Setting
from tests.unit.config.environments import HOT_S3, RIGHT

if TYPE_CHECKING:
    from pathlib import Path

_NEEDS = {  # what must stand beside an example for it to be right
    "ARCHIVE_ENDPOINT": {"ARCHIVE_PROVIDER": "minio"},
    **{name: HOT_S3 for name in HOT_S3 if name != "ARCHIVE_HOT"},
    "ARCHIVE_HOT_REGION": HOT_S3,
    "ARCHIVE_HOT_SESSION_TOKEN": HOT_S3,
    "ARCHIVE_SSE_KMS_KEY_ID": {"ARCHIVE_SSE": "aws:kms"},
}


@pytest.fixture(autouse=True)
def avatars_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file that the example of ARCHIVE_SOURCES names, where this test finds it."""
    text = (
        "-- name: avatars\n-- cold_key: {id}\n-- shares_objects: no\n"
        "-- candidates --\nselect :limit, :after_due_at, :after_id;\n"
        "-- archived --\nselect id from receipt;\n"
    )
    (tmp_path / "avatars.sql").write_text(text)
    monkeypatch.chdir(tmp_path)


def _name(setting: Setting[Any]) -> str:
    return setting.name


@pytest.mark.parametrize("setting", SETTINGS, ids=_name)
def test_each_setting_changes_a_field(setting: Setting[Any]) -> None:
    before = RIGHT | _NEEDS.get(setting.name, {})
    after = before | {setting.name: setting.example}

    assert Settings.read(after) != Settings.read(before)


@pytest.mark.parametrize("setting", SETTINGS, ids=_name)
def test_each_setting_is_seen_with_its_origin(setting: Setting[Any]) -> None:
    environ = RIGHT | _NEEDS.get(setting.name, {}) | {setting.name: setting.example}

    seen = Settings.read(environ).seen[setting.name]

    assert seen.origin == f"environment {setting.name}"
    assert seen.shown == ("<SECRET>" if setting.is_secret else setting.example)


@pytest.mark.parametrize("setting", SETTINGS, ids=_name)
def test_each_setting_is_documented_in_the_readme_table(setting: Setting[Any]) -> None:
    (row,) = (row for row in readme_table().splitlines() if f"| `{setting.name}`" in row)

    assert setting.doc in row
    assert setting.kind.accepts in row
    assert setting.default is None or not setting.default or f"`{setting.default}`" in row
    assert ("(`_FILE`)" in row) == setting.has_file


def test_the_readme_table_is_a_table() -> None:
    rows = readme_table().splitlines()

    assert len(rows) == 2 + len(SETTINGS)
    assert {row.count("|") for row in rows} == {5}


def test_every_secret_may_come_from_a_file() -> None:
    assert [] == [s.name for s in SETTINGS if s.is_secret and not s.has_file]


def test_no_name_stands_twice() -> None:
    names = [name for setting in SETTINGS for name in setting.names]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("setting", [s for s in SETTINGS if s.default is not None], ids=_name)
def test_each_default_is_accepted_where_it_is_written_out(setting: Setting[Any]) -> None:
    assert setting.default is not None
    written = Settings.read(RIGHT | {setting.name: setting.default})
    assert written == Settings.read(RIGHT)
