"""Names in SQL: enough of them to ask Postgres about the right tables and indexes."""

from __future__ import annotations

import pytest

from archiver.sources.sql_names import indexes, tables
from archiver.sources.sql_text import Statement, statements, tokens


def statement(text: str) -> Statement:
    (only,) = statements(list(tokens(text)))
    return only


def test_tables_are_found_wherever_they_stand() -> None:
    text = """
        with a as (select from one, app.two join "Three" on true for update of one)
        update only four set x = 1 from five using six
        insert into seven select 1 on conflict do update set x = 1 -- from eight
    """
    assert {"one", "app.two", '"Three"', "four", "five", "six", "seven"} <= {
        table.text for table in tables(statement(text))
    }
    assert "eight" not in {table.text for table in tables(statement(text))}


def test_an_update_is_told_from_a_lock() -> None:
    text = "update app.one set x = 2 from (select from two for no key update of two) as held"
    updated = {table.text for table in tables(statement(text)) if table.is_updated}
    assert {"app.one"} == updated


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("create index due on avatars (id)", ["due"]),
        ("create unique index concurrently if not exists due on only a.b (id)", ["a.due"]),
        ('create index "Due" on "App".avatars (id)', ['"App"."Due"']),
        ("create index on avatars (id)", []),
        ("alter table avatars add column due text", []),
    ],
)
def test_an_index_is_known_by_its_name_and_its_tables_schema(
    text: str, expected: list[str]
) -> None:
    assert expected == list(indexes(statement(text)))
