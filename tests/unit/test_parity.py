"""docs/parity.md names things that can be imported, and tests that exist."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

from tests.unit.test_guarantees import NAMED, ROOT, names_in

PAGE = (ROOT / "docs" / "parity.md").read_text()
OURS = re.compile(r"`(archiver(?:\.\w+)*):([\w.]+)`")
ROW = re.compile(r"^\| (?!theirs|---)(.+?) \| (.+?) \| (.+?) \|$", re.MULTILINE)


@pytest.mark.parametrize(("module", "name"), sorted(set(OURS.findall(PAGE))))
def test_every_name_of_ours_can_be_imported(module: str, name: str) -> None:
    found = import_module(module)
    for part in name.split("."):
        found = getattr(found, part)


def test_every_row_says_what_shows_it() -> None:
    rows = ROW.findall(PAGE)

    assert len(rows) > 20
    assert [theirs for theirs, _, test in rows if not NAMED.search(test)] == []


@pytest.mark.parametrize("path", sorted({path for path, _ in NAMED.findall(PAGE)}))
def test_every_test_that_the_page_names_exists(path: str) -> None:
    assert Path(ROOT / path).is_file()
    named = {name for in_, name in NAMED.findall(PAGE) if in_ == path and name}
    assert named <= names_in(ROOT / path)


@pytest.mark.parametrize(("letter", "count"), [("h", 24), ("m", 24), ("p", 13)])
def test_every_numbered_defect_has_its_test(letter: str, count: int) -> None:
    pattern = re.compile(rf"def test_{letter}(\d\d)_")
    texts = (path.read_text() for path in (ROOT / "tests").rglob("*.py"))
    seen = {int(number) for text in texts for number in pattern.findall(text)}

    assert set(range(1, count + 1)) <= seen
