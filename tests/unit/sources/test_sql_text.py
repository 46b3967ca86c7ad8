"""SQL as text: what is a parameter and what only looks like one."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.sources.sql_text import (
    Kind,
    SqlTextError,
    Statement,
    Token,
    statements,
    tokens,
)


def statement(text: str) -> Statement:
    (only,) = statements(list(tokens(text)))
    return only


def parameters(text: str) -> list[str]:
    return [name for name, _ in statement(text).parameters]


def psycopg_text(text: str, relation: str = "") -> str:
    return statement(text).for_psycopg(relation).decode()


def test_a_named_parameter_becomes_psycopgs() -> None:
    assert "select %(limit)s + %(limit)s" == psycopg_text("select :limit + :limit")


@pytest.mark.parametrize(
    "text",
    [
        "select 'at 10:limit'",
        "select 'it''s :limit'",
        r"select E'it\'s :limit'",
        r"select e'\\' || ' :limit'",
        "select $$ :limit ' $$",
        "select $body$ :limit $$ $body$",
        'select 1 as ":limit"',
        'select 1 as "a""b :limit"',
        "select 1 -- :limit",
        "select 1 /* :limit /* nested */ :limit */",
        "select now()::text",
        "select '1' :: text",
        "call f(a := 1)",
        "select x[1:2]",
    ],
)
def test_what_only_looks_like_a_parameter_is_left_alone(text: str) -> None:
    assert [] == parameters(text)
    assert text == psycopg_text(text)


def test_a_percent_sign_is_literal_wherever_it_stands() -> None:
    text = "select 7 % 2, '100%', $$%s$$ -- 5%\n/* %(x)s */"
    assert text == psycopg_text(text).replace("%%", "%")
    assert text.count("%") * 2 == psycopg_text(text).count("%")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("select\n'open", 2),
        ("select\n\nE'open\\'", 3),
        ('select "open', 1),
        ("select 1 /* /* */", 1),
        ("select\n$a$ $b$", 2),
        ("select\n$1", 2),
    ],
)
def test_what_is_never_closed_is_an_error_with_its_line(text: str, line: int) -> None:
    with pytest.raises(SqlTextError) as caught:
        list(tokens(text))
    assert line == caught.value.line


def test_statements_end_at_semicolons_that_are_not_in_a_string_or_comment() -> None:
    text = "select ';' ; -- ;\n select $$;$$ /* ; */ ; ; -- the end"
    found = [item.text for item in statements(list(tokens(text)))]
    assert ["select ';'", "-- ;\n select $$;$$ /* ; */"] == found


def test_a_relation_goes_in_front_of_a_statement() -> None:
    assert "with r as (x)\nselect 1" == psycopg_text("select 1", "r as (x)")


def test_a_relation_joins_the_statements_own_with() -> None:
    text = "-- why\nwith a as (select 1) select * from a"
    assert "with r as (x), a as (select 1) select * from a" == psycopg_text(text, "r as (x)")


def test_a_relation_joins_a_recursive_with() -> None:
    text = "WITH /* up */ RECURSIVE a as (select 1) select * from a"
    expected = "with recursive r as (x), a as (select 1) select * from a"
    assert expected == psycopg_text(text, "r as (x)")


NAMES = st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True)
ANY = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
PIECES = st.one_of(
    NAMES.map(lambda name: ("parameter", f":{name}")),
    ANY.map(lambda text: ("string", "'{}'".format(text.replace("'", "''")))),
    ANY.map(
        lambda text: ("string", "E'{}'".format(text.replace("\\", "\\\\").replace("'", "\\'")))
    ),
    ANY.filter(lambda text: "$" not in text).map(lambda text: ("string", f"$q$:a {text}$q$")),
    ANY.map(lambda text: ("name", '"{}"'.format(text.replace('"', '""')))),
    ANY.map(lambda text: ("comment", f"-- :a {text.replace(chr(10), ' ')}\n")),
    ANY.filter(lambda text: "*" not in text and "/" not in text).map(
        lambda text: ("comment", f"/* :a {text} */")
    ),
    st.sampled_from([("other", piece) for piece in ("::text", "%", "1.5", "(", ")", "select")]),
)


@given(st.lists(PIECES, max_size=12))
def test_only_parameters_are_found_between_any_strings_and_comments(
    pieces: list[tuple[str, str]],
) -> None:
    text = " ".join(["select", *(piece for _, piece in pieces)])
    expected = [piece[1:] for kind, piece in pieces if kind == "parameter"]
    assert expected == parameters(text)


@given(st.lists(PIECES, max_size=12))
def test_translated_sql_reads_back_as_it_was_written(pieces: list[tuple[str, str]]) -> None:
    text = " ".join(["select", *(piece for _, piece in pieces)])
    names = parameters(text)
    # what psycopg does with it: fill in the placeholders, halve the percent signs
    read_back = psycopg_text(text) % {name: f":{name}" for name in names}
    assert text.strip() == read_back


@given(st.text(max_size=60))
def test_tokens_joined_are_the_text_again(text: str) -> None:
    try:
        found = list(tokens(text))
    except SqlTextError:
        return
    assert text == "".join(token.text for token in found)


@given(st.text(alphabet="a1:'\"$-/*;\\ \nE", max_size=40))
def test_every_token_knows_its_line(text: str) -> None:
    found: list[Token] = []
    with suppress(SqlTextError):
        found.extend(tokens(text))
    line = 1
    for token in found:
        assert line == token.line
        line += token.text.count("\n")


def test_keywords_are_folded_as_postgres_folds_them() -> None:
    (token,) = tokens("SELECT")
    assert ("select", Kind.WORD) == (token.word, token.kind)
