"""Ids that a shell, SQL or a terminal would obey, through every command that knows ids.

Real Postgres, the real command. An id hits its own row and no other, or the command says that
there is none; a person reads one printable line for each fact, a program the id as it is.
"""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.harness.command import run_here
from tests.harness.things import BUCKET, FILE, Thing

if TYPE_CHECKING:
    from tests.harness.command import Ran
    from tests.harness.things import Sandbox

IDS = [
    "'; drop table things; --",
    "' or '1'='1",
    '{"}',
    "$(touch escaped) `id`",
    "%",
    "_",
    "%s %(x)s :limit {0.__class__}",
    "--all",
    "-h",
    "*",
    " ",
    "a\nb",
    "a\r\x1b[2K\x1b]0;owned\x07",
    "\x9b31m\u202e\u2028\x85",
    '=1+1,"x"',
    "\\",
    "null",
    "[red]x[/red]",
]
NOBODYS = ["'; drop table claim; --", "%%", "__", "A\nb", "", "x" * 5000, "--source"]
NO_TEXT = "\udcff"  # how a byte of the command line comes that is not UTF-8
HARMLESS = "harmless"
SHOWN = "shown-"  # ids of rows that were archived; those of the others are parked


class Commands:
    """A directory of each kind, a table with hostile ids, and `archiver` over them."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        file = sandbox.root.parent / "things.sql"
        file.write_text(FILE.replace("things/{id}.html.gz", "things/{note}.html.gz"))
        self.settings = {
            "ARCHIVE_DATABASE_URL": sandbox.url,
            "ARCHIVE_SOURCES": str(file),
            "ARCHIVE_HOT": f"file://{sandbox.root}/hot",
            "ARCHIVE_PROVIDER": "file",
            "ARCHIVE_ENDPOINT": f"file://{sandbox.root}/cold",
            "ARCHIVE_BUCKET": BUCKET,
            "ARCHIVE_RELEASE_GRACE": "1h",
        }

    def run(self, *arguments: str) -> Ran:
        ran = run_here(self.settings, *arguments)
        assert "this is a bug" not in ran.stderr, ran.stderr
        for line in (ran.stdout + ran.stderr).split("\n"):
            assert line.isprintable(), arguments
        return ran

    def parked(self) -> set[str]:
        return {it["id"] for it in self.json("parked", "--limit", "1000")["parked"]}

    def json(self, command: str, *arguments: str) -> dict[str, Any]:
        return dict(json.loads(self.run(command, "--json", *arguments).stdout))


@pytest.fixture
def commands(sandbox: Sandbox) -> Commands:
    commands = Commands(sandbox)
    for number, id_ in enumerate([*IDS, HARMLESS]):
        archived = Thing(SHOWN + id_, BUCKET, f"page {number}", note=str(number))
        parked = Thing(id_, BUCKET, f"missing\x1b[31m\n{number}", note=f"parked {number}")
        sandbox.plant(archived, number)
        sandbox.plant(parked, number)
        sandbox.hot_file(parked).unlink()  # type: ignore[union-attr]  # it was planted
    swept = json.loads(commands.run("--once", "--json").stdout)
    assert (swept["archived"], swept["parked"]) == (len(IDS) + 1, len(IDS) + 1)
    return commands


def test_a_retry_makes_its_own_rows_candidates_again(commands: Commands) -> None:
    left = {*IDS, HARMLESS}
    for id_ in NOBODYS:
        assert commands.run("retry", "--", id_).exit_code == 1
        assert commands.parked() == left
    for id_ in IDS:
        assert commands.run("retry", "--", id_).exit_code == 0
        left.remove(id_)
        assert commands.parked() == left


def test_show_tells_of_one_row_a_line_for_each_fact(commands: Commands) -> None:
    lines = {
        kind: len(commands.run("show", "--", f"{kind}{HARMLESS}").stdout.splitlines())
        for kind in (SHOWN, "")
    }
    for id_ in NOBODYS:
        told = commands.run("show", "--", id_)
        assert (told.exit_code, told.stdout) == (1, "")
        assert len(told.stderr.splitlines()) == 1
        assert commands.json("show", "--", id_) == {"histories": []}
    for id_ in IDS:
        for kind, lines_count in lines.items():
            told = commands.run("show", "--", f"{kind}{id_}")
            assert (told.exit_code, len(told.stdout.splitlines())) == (0, lines_count)
        (history,) = commands.json("show", "--", f"{SHOWN}{id_}")["histories"]
        assert history["id"] == f"{SHOWN}{id_}"


def test_an_undo_points_its_own_rows_back(commands: Commands) -> None:
    cold = {f"{SHOWN}{id_}" for id_ in [*IDS, HARMLESS]}
    told = commands.run("undo", "--", *NOBODYS)
    assert told.exit_code == 1
    assert len(told.stdout.splitlines()) == 3 + len(NOBODYS)  # an answer, a blank, a head
    for id_ in IDS:
        assert commands.run("undo", "--", f"{SHOWN}{id_}").exit_code == 0
        cold.remove(f"{SHOWN}{id_}")
        rows = commands.sandbox.connection.execute(
            "select id from things where cold_key is not null"
        ).fetchall()
        assert {it for (it,) in rows} == cold


def test_what_lists_rows_tells_each_in_a_line(commands: Commands) -> None:
    """A program has the ids as they are: of JSON and of CSV."""
    told = commands.run("parked", "--limit", "1000").stdout.splitlines()
    assert len(told) == 1 + len(IDS) + 1
    lines = commands.run("ledger", "export", "--since", "1h").stdout.splitlines()
    expected = [f"{SHOWN}{id_}" for id_ in [*IDS, HARMLESS]]
    assert [json.loads(line)["id"] for line in lines] == expected
    output = commands.sandbox.root.parent / "export.csv"
    written = ("--format", "csv", "--output", str(output))
    commands.run("ledger", "export", "--since", "1h", *written)
    sheet = csv.DictReader(io.StringIO(output.read_bytes().decode(), newline=""))
    assert [row["id"] for row in sheet] == expected


@pytest.mark.parametrize("command", ["show", "retry", "undo"])
def test_what_is_no_text_is_refused(commands: Commands, command: str) -> None:
    told = commands.run(command, "--", NO_TEXT)
    assert (told.exit_code, told.stdout) == (2, "")
    assert "it is not Unicode" in told.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("show", "x"),
        ("retry", "--all"),
        ("undo", "x"),
        ("undo", "--since", "1h"),
        ("parked",),
        ("history",),
        ("ledger", "export", "--since", "1h"),
        ("adopt",),
        ("--once",),
        ("--once", "--dry-run"),
        ("migrate",),
    ],
)
def test_the_name_of_no_source_changes_nothing(
    commands: Commands, arguments: tuple[str, ...]
) -> None:
    before = commands.parked()
    for name in (*IDS, NO_TEXT):
        commands.run(*arguments, "--source", name)
    assert commands.parked() == before
    counted = commands.sandbox.connection.execute(
        "select count(*) from things where cold_key is not null"
    ).fetchone()
    assert counted == (len(IDS) + 1,)
