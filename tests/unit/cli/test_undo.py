"""What `undo` and `ledger export` ask of the app, and how they answer."""

from __future__ import annotations

import csv
import io
import json
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from archiver.cli.exits import ExitCode
from archiver.cli.export import FIELDS
from archiver.model import SourceName
from tests.unit.cli.fake_app import AT, SOURCE, FakeApp, run_command
from tests.unit.config.environments import RIGHT

if TYPE_CHECKING:
    from tests.unit.cli.fake_app import Ended


def ended(arguments: str, app: FakeApp | None = None) -> Ended:
    return run_command(arguments, RIGHT, app or FakeApp())


def test_ids_are_undone_and_those_left_have_a_reason() -> None:
    app = FakeApp()

    told = ended("undo t1 =t,2 nowhere --hold 2h", app)

    assert told.code == ExitCode.UNFINISHED
    assert app.asked == [(SOURCE, ["t1", "=t,2"], 7200.0)]
    first, second, *table = told.out.splitlines()
    assert first == "1 undone: the rows point at their hot copies again."
    assert second == "No sweep takes them for 2 h; `archiver retry ID` ends a hold."
    assert [line.split()[0] for line in table if line] == ["source", "nowhere", "task_html"]
    assert "the hot copy is deleted: the object is cold alone: was gone already" in told.out


def test_where_nothing_could_be_undone_nothing_is_said_to_be() -> None:
    told = ended("undo nowhere")

    assert told.code == ExitCode.UNFINISHED
    assert told.out.splitlines()[0] == "Nothing undone."


def test_programs_get_counts_and_the_rows_that_were_left() -> None:
    told = json.loads(ended("undo --since 1h --json").out)

    assert told["answers"] == {"released": 1, "undone": 1}
    assert [row["id"] for row in told["not_undone"]] == ["t1"]
    assert ended("undo =t,2").code == ExitCode.DONE


@pytest.mark.parametrize(
    ("since", "is_meant"),
    [
        ("0s", True),
        ("2026-01-02", True),
        ("2026-01-03", False),
        ("2026-01-02T03:04:05Z", True),
        ("2026-01-02T05:04:06+02:00", False),
    ],
)
def test_a_time_is_a_duration_ago_a_date_or_has_its_zone(since: str, is_meant: bool) -> None:  # noqa: FBT001
    app = FakeApp()

    ended(f"undo --since {since}", app)

    assert app.asked == [(SOURCE, ["t1", "=t,2"] if is_meant else [], 7 * 86400.0)]


def test_a_sweep_is_undone_of_its_source() -> None:
    """Sweep 7 ended at once; 8 is under way."""
    app = FakeApp()

    ended("undo --sweep 7", app)
    ended("undo --sweep 8", app)

    week_seconds = 7 * 86400.0
    assert app.asked == [(SOURCE, [], week_seconds), (SOURCE, ["t1", "=t,2"], week_seconds)]
    assert ended("undo --sweep 7 --source other").code == ExitCode.SETTINGS


def test_nothing_is_undone_where_one_source_cannot() -> None:
    app = FakeApp(source_names=(SOURCE, SourceName("other")))

    told = ended("undo --since 1h", app)

    assert (told.code, app.asked) == (ExitCode.FATAL, [])
    assert "other" in told.err


def test_a_dry_run_asks_for_nothing() -> None:
    app = FakeApp()

    told = ended("undo --since 1h --dry-run --json", app)

    assert json.loads(told.out)["sources"] == {SOURCE: {"archived": 2, "pending": 1}}
    assert (told.code, app.asked) == (ExitCode.DONE, [])


def test_each_receipt_is_a_line_with_the_same_names() -> None:
    first, second = map(json.loads, ended("ledger export --since 1h").out.splitlines())

    assert tuple(first) == tuple(second) == FIELDS
    assert (first["outcome"], first["outcome_detail"]) == ("released", "was gone already")
    assert (first["hot_etag"], second["hot_etag"]) == (None, "hot")
    assert first["archived_at"] == first["outcome_at"] == "2026-01-02T03:04:05.000000Z"
    assert (second["is_release_pending"], second["outcome"]) == (True, None)


def test_a_sheet_is_what_rfc_4180_says() -> None:
    out = ended("ledger export --since 1h --format csv").out

    assert out.count("\r\n") == out.count("\n") == 3
    header, first, second = csv.reader(io.StringIO(out, newline=""))
    assert tuple(header) == FIELDS
    told = dict(zip(FIELDS, second, strict=True))
    assert (told["id"], told["is_release_pending"], told["outcome"]) == ("=t,2", "true", "")
    assert first[FIELDS.index("outcome")] == "released"


def test_an_export_ends_before_its_end() -> None:
    until = f"{AT + timedelta(seconds=1):%Y-%m-%dT%H:%M:%SZ}"

    assert len(ended(f"ledger export --since 1h --until {until}").out.splitlines()) == 2
    assert ended("ledger export --since 1h --until 0s").out == ""
    assert ended("ledger export --since 1h --source other").out == ""
