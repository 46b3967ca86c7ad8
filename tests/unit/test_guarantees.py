"""docs/guarantees.md names tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "guarantees.md"
NAMED = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


def names_in(path: Path) -> set[str]:
    nodes = ast.walk(ast.parse(path.read_text()))
    return {it.name for it in nodes if isinstance(it, ast.FunctionDef | ast.ClassDef)}


@pytest.mark.parametrize("path", sorted({path for path, _ in NAMED.findall(PAGE.read_text())}))
def test_every_test_that_the_page_names_exists(path: str) -> None:
    assert (ROOT / path).is_file()
    named = {name for in_, name in NAMED.findall(PAGE.read_text()) if in_ == path and name}
    assert named <= names_in(ROOT / path)
