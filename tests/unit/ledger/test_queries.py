"""Every query has a name and a sentence, and is used by the module it lies beside."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import archiver.ledger
from archiver.ledger.queries import load

ROOM = Path(archiver.ledger.__file__).parent
FILES = sorted(path.name for path in ROOM.glob("*.sql"))


@pytest.mark.parametrize("file_name", FILES)
def test_every_query_begins_with_a_sentence_on_what_it_does(file_name: str) -> None:
    for name, query in load(file_name).items():
        lines = query.decode().splitlines()
        comment = [line for line in lines if line.startswith("-- ")]
        assert lines[0].startswith("-- "), name
        assert comment[-1].endswith("."), name


@pytest.mark.parametrize("file_name", FILES)
def test_every_query_is_used_and_every_used_query_is_there(file_name: str) -> None:
    users = [path.read_text() for path in ROOM.glob("*.py")]
    used = {
        name
        for text in users
        if f'load("{file_name}")' in text
        for name in re.findall(r'_SQL\["([a-z0-9_]+)"\]', text)
    }

    assert load(file_name).keys() == used


def test_no_column_is_left_to_chance() -> None:
    for file_name in FILES:
        text = re.sub(r"count\(\*\)|--.*", "", (ROOM / file_name).read_text())
        assert not re.search(r"\bselect \*|\.\*|, \*", text), file_name
