"""A source file: what it may say, and what its author is told when it is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from archiver.errors import SettingsError
from archiver.sources.finding import read_source_file, shipped_source_file
from archiver.sources.sql_file import SqlFile

if TYPE_CHECKING:
    from pathlib import Path

SOUND = """\
-- Pictures of people. Note the size: small.
--
-- name: avatars
-- cold_key: avatars/{id}.png
-- shares_objects: no
-- retention_age: 30d
-- metadata: person={person_id}

-- candidates --
select id, created_at as due_at, 'avatars' as hot_bucket, path as hot_path, person_id
from avatars
where (created_at, id) > (:after_due_at, :after_id)
    and created_at < now() - :retention_age
order by created_at, id
limit :limit;

-- archived --
update avatars set cold_key = receipt.cold_key, path = null
from receipt where avatars.id = receipt.id and avatars.path = receipt.hot_path
returning avatars.id;
"""


def problems(text: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        SqlFile.parse(text, "avatars.sql")
    return list(caught.value.problems)


def problem(text: str) -> str:
    (only,) = problems(text)
    return only


def test_a_sound_file_is_read() -> None:
    file = SqlFile.parse(SOUND, "avatars.sql")
    assert "avatars" == file.name
    assert "avatars/7.png" == file.cold_key.key({"id": "7"})
    assert {"retention_age": "30d"} == file.overrides
    assert ["person"] == list(file.metadata)
    assert {"candidates": 9, "archived": 17} == {
        section.name: section.line for section in file.sections.values()
    }


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("-- retention_aeg: 30d", "avatars.sql:6: unknown key 'retention_aeg'; did you mean"),
        ("-- Retention age: 30d", "avatars.sql:6: unknown key 'Retention age'; did you mean"),
        ("-- retention-age: 30d", "unknown key 'retention-age'; did you mean retention_age?"),
        ("-- retention_age = 30d", "unknown key 'retention_age'; did you mean retention_age?"),
        ("-- colour: red", "unknown key 'colour'; known: bucket, cold_key"),
        ("-- name: twice", "avatars.sql:6: key name is there twice"),
        ("-- prefix:", "key prefix has no value"),
    ],
)
def test_a_mistyped_key_is_never_taken_for_prose(line: str, told: str) -> None:
    assert told in problem(SOUND.replace("-- retention_age: 30d", line))


def test_an_unknown_section_names_the_nearest() -> None:
    told = problem(SOUND + "\n-- housekeping --\nselect 1;\n")
    assert "avatars.sql:22: unknown section housekeping; did you mean housekeeping?" == told


def test_a_section_marker_inside_a_string_is_text() -> None:
    text = SOUND + "\n-- housekeeping --\nselect $$\n-- candidates --\n$$;\n"
    (statement,) = SqlFile.parse(text, "avatars.sql").sections["housekeeping"].statements
    assert "-- candidates --" in statement.text


def test_an_unknown_parameter_names_section_line_and_the_nearest() -> None:
    told = problem(SOUND.replace(":retention_age\n", ":retention_days\n"))
    assert told.startswith("avatars.sql:13: section candidates: unknown parameter")
    assert told.endswith(":retention_days; did you mean retention_age?")


@pytest.mark.parametrize("parameter", [":limit", ":everything"])
def test_a_parameter_belongs_to_its_section(parameter: str) -> None:
    told = problem(SOUND.replace("where avatars.id", f"where {parameter} and avatars.id"))
    assert "section archived: unknown parameter" in told


@pytest.mark.parametrize("parameter", ["limit", "after_due_at", "after_id"])
def test_candidates_that_ignore_the_page_are_refused(parameter: str) -> None:
    told = problem(SOUND.replace(f":{parameter}", "'1'"))
    assert f"section candidates: :{parameter} is not used" in told


def test_a_locate_that_ignores_the_id_is_refused() -> None:
    told = problem(SOUND + "\n-- locate --\nselect path as hot_path from avatars;\n")
    assert "section locate: :id is not used, so every row would be the one" in told


@pytest.mark.parametrize("parameter", ["limit", "after_id"])
def test_holdings_that_ignore_the_page_are_refused(parameter: str) -> None:
    holdings = """
-- holdings --
select id, cold_bucket, cold_key from avatars where id > :after_id order by id limit :limit;
"""
    assert "holdings" in SqlFile.parse(SOUND + holdings, "avatars.sql").sections
    told = problem(SOUND + holdings.replace(f":{parameter}", "'1'"))
    assert f"section holdings: :{parameter} is not used" in told


def test_archived_that_reads_no_receipt_is_refused() -> None:
    told = problem(SOUND.replace("receipt", "proof"))
    assert "avatars.sql:17: section archived: it does not read receipt" == told


def test_a_second_statement_is_refused_where_one_is_run() -> None:
    told = problem(SOUND + "\ndelete from avatars;\n")
    assert "avatars.sql:22: section archived: a second statement begins here" == told


def test_a_file_without_points_at_says_that_no_object_is_shared() -> None:
    assert "nor `-- shares_objects: no`" in problem(SOUND.replace("-- shares_objects: no", ""))
    assert "can only be `no`" in problem(SOUND.replace("objects: no", "objects: yes"))


def test_all_that_is_wrong_is_told_at_once() -> None:
    told = problems("-- nmae: x\nselect 1;\n-- archived --\n")
    assert 7 == len(told), told
    assert all(line.startswith("avatars.sql:") for line in told)


def test_an_unclosed_string_is_told_with_its_line() -> None:
    told = problems(SOUND.replace("'avatars' as", "'avatars as"))
    assert "avatars.sql:10: what ' opens is never closed" == told[0]


@pytest.mark.parametrize("name", ["Avatars", "a__b", "1a", "a-b", "a/b", "_a"])
def test_a_name_that_could_not_be_a_setting_is_refused(name: str) -> None:
    assert "is not lower-case" in problem(SOUND.replace("name: avatars", f"name: {name}"))


def test_a_file_that_is_not_there_is_a_problem_with_the_settings(
    tmp_path: Path,
) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        read_source_file(tmp_path / "none.sql")
    (tmp_path / "latin.sql").write_bytes(b"-- name: \xff")
    with pytest.raises(SettingsError, match="cannot be read"):
        read_source_file(tmp_path / "latin.sql")


def test_the_shipped_source_is_found_by_its_name() -> None:
    file = shipped_source_file("task_html")
    assert ("task_html", "task_html.sql") == (file.name, file.file_name)
    with pytest.raises(SettingsError, match="known: task_html"):
        shipped_source_file("task_htm")
