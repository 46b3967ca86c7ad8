from __future__ import annotations

from pathlib import Path

from archiver.cli.main import cli
from archiver.config import readme_table

README = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")


def test_the_readmes_table_is_the_table_of_settings() -> None:
    assert readme_table().strip() in README


def test_every_command_is_in_the_readme() -> None:
    assert [name for name in cli.commands if f"archiver {name}" not in README] == []
