"""What each command answers, to people and to programs, and its exit code."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archiver.cli.exits import ExitCode, of_summary
from archiver.errors import (
    ArchiverError,
    BucketMissing,
    LedgerOutdated,
    LedgerUnavailable,
    SettingsError,
)
from archiver.events import CandidatesClaimed, HoldingRefused, SourceWarning
from archiver.model import (
    Adoption,
    BadRow,
    CandidateId,
    ColdKey,
    ColdLocation,
    DatabaseHome,
    Digest,
    EgressBudget,
    Evidence,
    Holding,
    LedgerIdentity,
    NotAdopted,
    Pause,
    ReceiptId,
    RecordedAdoption,
    Spent,
    Stopped,
    Summary,
    Takeover,
    UploadCounts,
)
from tests.unit.cli.fake_app import (
    AT,
    CANDIDATE,
    HISTORY,
    SOURCE,
    Ended,
    FakeApp,
    FakeRecords,
    run_command,
)
from tests.unit.config.environments import RIGHT

if TYPE_CHECKING:
    from pathlib import Path

_COMMANDS = (
    "--once",
    "--once --dry-run",
    "status",
    "parked",
    "retry --all",
    "show t1",
    "pause",
    "history",
    "adopt --source task_html",
)


def _run(arguments: str, app: FakeApp | None = None, **changes: str) -> Ended:
    return run_command(arguments, RIGHT | changes, FakeApp() if app is None else app)


# --- exit codes -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("summary", "code"),
    [
        (Summary(), 0),
        (Summary(archived=5, released=5), 0),
        (Summary(state="stopped", stopped="limit"), 0),
        (Summary(elsewhere=3, pending_release=4, superseded=1), 0),
        (Summary(waiting=1), 1),
        (Summary(parked=1), 1),
        (Summary(state="stopped", stopped="limit", parked=1), 1),
        (Summary(state="stopped", stopped="failures"), 1),
        (Summary(state="fatal", error="the bucket is gone"), 3),
        (Summary(state="stopped", stopped="signal"), 130),
        (Summary(state="stopped", stopped="signal", waiting=2), 130),
    ],
)
def test_the_exit_code_follows_from_the_summary(summary: Summary, code: int) -> None:
    assert of_summary(summary) == code
    assert _run("--once", FakeApp(summary)).code == code
    assert _run("--once --json", FakeApp(summary)).code == code


@pytest.mark.parametrize("command", _COMMANDS)
@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SettingsError(problems=("no such source",)), ExitCode.SETTINGS),
        (BucketMissing(store="cold", bucket="cold"), ExitCode.FATAL),
        (LedgerOutdated(found="none", needed="0001"), ExitCode.FATAL),
        (LedgerUnavailable(operation="connect", message="refused"), ExitCode.FATAL),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_is_one_message_with_its_hint_and_no_traceback(
    command: str, error: ArchiverError, code: ExitCode
) -> None:
    ended = _run(command, FakeApp(error=error))

    assert ended.code == code
    assert ended.out == ""
    assert ended.err == f"archiver: {error}\n"
    assert error.hint in ended.err


def test_the_error_of_a_sweep_is_told_without_secrets() -> None:
    secret = RIGHT["ARCHIVE_SECRET_ACCESS_KEY"]
    failed = Summary(state="fatal", error=f"the plugin said {secret}")
    for command in ("--once", "--once --json"):
        ended = _run(command, FakeApp(failed))

        assert ended.code == 3
        assert "the plugin said <SECRET>" in ended.err + ended.out
        assert secret not in ended.err + ended.out


def test_a_bug_is_told_whole_but_without_secrets() -> None:
    secret = RIGHT["ARCHIVE_SECRET_ACCESS_KEY"]
    ended = _run("--once --json", FakeApp(error=RuntimeError(f"signing with {secret}")))

    assert ended.code == ExitCode.FATAL
    assert "Traceback" in ended.err
    assert "RuntimeError: signing with <SECRET>" in ended.err
    assert secret not in ended.err + ended.out
    assert json.loads(ended.out)["error"] == "RuntimeError"


@pytest.mark.parametrize("command", _COMMANDS)
def test_a_foreign_message_cannot_steer_the_terminal(command: str) -> None:
    error = LedgerUnavailable(operation="connect", message="\x1b[2J\x07gone\r")
    assert "\\x1b[2J\\x07gone\\r" in _run(command, FakeApp(error=error)).err


# --- usage ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("--json", "go with --once"),
        ("--dry-run", "go with --once"),
        ("--source x", "go with --once"),
        ("--once status", "go after its name"),
        ("--json status", "go after its name"),
        ("--max-duration 2h", "go with --once"),
        ("--once --max-duration soon", "'soon'; it must be a duration such as 90s, 1m"),
        ("--once --max-duration 60", "'60'; it must be a duration such as 90s, 1m"),
        ("--once --max-duration 0s", "'0s'; it must be a duration such as 90s, 1m"),
        ("--once --limit 0", "not in the range"),
        ("--once --limit many", "not a valid integer"),
        ("--twice", "No such option"),
        ("restore", "No such command"),
        ("retry", "--all"),
        ("retry t1 --all", "--all"),
        ("migrate --print", "--print goes with --source"),
        ("show", "Missing argument"),
    ],
)
def test_wrong_usage_is_told_and_exits_2(arguments: str, told: str) -> None:
    ended = _run(arguments)
    assert ended.code == ExitCode.SETTINGS
    assert told in ended.err
    assert ended.out == ""


@pytest.mark.parametrize("arguments", ["--help", "-h", "--version", "status --help"])
def test_help_needs_no_settings(arguments: str) -> None:
    ended = run_command(arguments, {"ARCHIVE_PROVIDER": "wrong"}, FakeApp())
    assert (ended.code, ended.err) == (0, "")
    assert "archiver" in ended.out


# --- settings ---------------------------------------------------------------------------


@pytest.mark.parametrize("command", [*_COMMANDS, "", "health", "check", "migrate"])
def test_wrong_settings_are_told_all_at_once_and_exit_2(command: str, tmp_path: Path) -> None:
    ended = _run(
        command,
        ARCHIVE_PROVIDER="r3",
        ARCHIVE_TIMEOUT="30",
        ARCHIVE_LEASE="soon",
        ARCHIVE_RETENTION_JOB="1",
        ARCHIVE_SECRET_ACCESS_KEY_FILE="/x",
        SUPABASE_PUBLISHABLE_KEY_FILE=str(tmp_path / "none"),
    )
    assert ended.code == ExitCode.SETTINGS
    names = ["PROVIDER", "TIMEOUT", "LEASE", "RETENTION_JOB", "SECRET_ACCESS_KEY_FILE"]
    assert [] == [name for name in names if f"ARCHIVE_{name} " not in ended.err]
    assert "SUPABASE_PUBLISHABLE_KEY_FILE" in ended.err
    assert RIGHT["ARCHIVE_SECRET_ACCESS_KEY"] not in ended.err


@pytest.mark.parametrize("command", ["--once", "--once --dry-run"])
def test_disabled_settings_end_once_with_2_and_a_word(command: str) -> None:
    ended = run_command(command, {}, FakeApp())
    assert ended.code == ExitCode.SETTINGS
    assert "archiving is disabled" in ended.err


@pytest.mark.parametrize("absent", ["ARCHIVE_PROVIDER", "ARCHIVE_BUCKET"])
def test_half_of_provider_and_bucket_ends_with_2(absent: str) -> None:
    environ = {name: value for name, value in RIGHT.items() if name != absent}
    ended = run_command("--once", environ, FakeApp())
    assert ended.code == ExitCode.SETTINGS
    assert f"{absent} is not; set both" in ended.err


@pytest.mark.parametrize(
    "command",
    ["status", "history", "parked", "retry --all", "show t1", "pause", "resume", "migrate"],
)
def test_the_ledgers_commands_need_a_database(command: str) -> None:
    ended = run_command(command, {}, FakeApp())
    assert ended.code == ExitCode.SETTINGS
    assert "DATABASE_URL" in ended.err


def test_check_shows_values_and_their_origins(tmp_path: Path) -> None:
    file = tmp_path / "publishable"
    file.write_text("publishable-value")
    ended = _run("check", SUPABASE_PUBLISHABLE_KEY_FILE=str(file), ARCHIVE_LEASE="2m")

    rows = {row.split()[0]: row.split()[1:] for row in ended.out.splitlines() if row}
    assert ended.code == 0
    assert rows["ARCHIVE_LEASE"] == ["2m", "environment", "ARCHIVE_LEASE"]
    assert rows["ARCHIVE_PROFILE"] == ["tactical", "default"]
    assert rows["SUPABASE_PUBLISHABLE_KEY"] == ["<SECRET>", "file", str(file)]


def test_check_says_that_archiving_is_disabled() -> None:
    assert "disabled" in run_command("check", {}, FakeApp()).out
    assert json.loads(run_command("check --json", {}, FakeApp()).out)["is_disabled"] is True


@settings(deadline=None)  # reading 50 settings takes long on a busy machine
@given(
    st.sampled_from(["ARCHIVE_SECRET_ACCESS_KEY", "SUPABASE_SERVICE_ROLE_KEY"]),
    st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1),
    st.sampled_from(["check", "check --json"]),
)
def test_what_check_shows_does_not_depend_on_a_secret(
    name: str, secret: str, command: str
) -> None:
    one, other = (
        run_command(command, RIGHT | {name: value}, FakeApp()) for value in (secret, "another")
    )
    assert one == other


# --- --once -----------------------------------------------------------------------------

_BUSY = Summary(
    archived=12_345,
    released=12_000,
    recovered=1,
    replaced=2,
    parked=3,
    moved_bytes=5 * 1024**3,
    seconds=185,
)


def test_once_tells_a_person_what_it_did() -> None:
    assert _run("--once", FakeApp(_BUSY)).out.splitlines() == [
        "Done in 3 min 5 s.",
        "  archived   12,345  5.0 GiB sent",
        "  recovered       1  of these: hot was missing, cold was proven",
        "  released   12,000  hot copies deleted",
        "  replaced        2  hot copies changed since, so they stay",
        "  parked          3  in this run; `archiver parked` says why",
    ]


def test_once_says_when_nothing_was_due() -> None:
    assert _run("--once").out == "Nothing was due (0.0 s).\n"


@pytest.mark.parametrize(
    "stopped", ["limit", "budget", "duration", "window", "failures", "signal"]
)
def test_once_says_why_it_stopped(stopped: Stopped) -> None:
    out = _run("--once", FakeApp(Summary(state="stopped", stopped=stopped))).out
    assert out.startswith("Stopped after 0.0 s: ")


def test_a_fatal_summary_says_why_on_stderr() -> None:
    ended = _run("--once", FakeApp(Summary(state="fatal", error="The lease ran out")))
    assert "archiver: The lease ran out" in ended.err
    assert ended.out == "Failed after 0.0 s.\n"


def test_once_json_is_one_object_and_nothing_else() -> None:
    app = FakeApp(_BUSY, events=[CandidatesClaimed(SOURCE, 16, 0)])
    ended = _run("--once --json", app)

    told = json.loads(ended.out)
    assert (told["state"], told["stopped"], told["archived"]) == ("done", None, 12_345)
    assert set(told) >= {
        *("state", "stopped", "archived", "released", "recovered", "replaced", "waiting"),
        *("parked", "superseded", "elsewhere", "moved_bytes", "seconds"),
    }
    assert ended.out.count("\n") == 1
    assert "archiving candidates" in ended.err


@pytest.mark.parametrize(
    "app",
    [
        FakeApp(error=BucketMissing(store="cold", bucket="cold")),
        FakeApp(error=ZeroDivisionError()),
        FakeApp(Summary(state="fatal", error="x")),
    ],
)
def test_once_json_is_one_object_however_it_ends(app: FakeApp) -> None:
    ended = _run("--once --json", app)
    assert json.loads(ended.out)["state"] == "fatal"
    assert json.loads(ended.out)["error"]
    assert ended.code == ExitCode.FATAL


def test_sources_and_limit_are_handed_on() -> None:
    app = FakeApp()
    _run("--once --source a --source b --limit 7", app)
    _run("--once", app)
    assert app.asked == [(("a", "b"), 7, None), (None, None, None)]


def test_the_time_of_a_run_is_handed_on_as_a_wish_to_stop() -> None:
    app = FakeApp(lasts_seconds=5400)
    _run("--once --max-duration 1h30m", app)
    _run("--once --max-duration 1h31m", app)
    assert [reason for *_, reason in app.asked] == ["duration", None]


@pytest.mark.parametrize(("level", "is_told"), [("info", True), ("warning", False)])
def test_the_log_follows_its_settings(level: str, is_told: bool) -> None:  # noqa: FBT001
    app = FakeApp(events=[CandidatesClaimed(SOURCE, 16, 0)])
    ended = _run("--once", app, ARCHIVE_LOG_LEVEL=level, ARCHIVE_LOG_FORMAT="json")
    lines = [json.loads(line)["event"] for line in ended.err.splitlines()]
    assert lines == (["archiving candidates"] if is_told else [])


_OFFERS = (
    (SOURCE, CANDIDATE),
    (
        SOURCE,
        BadRow(CandidateId("t2"), datetime(2026, 1, 1, tzinfo=UTC), "bad pointer", None, "x"),
    ),
)


def test_a_dry_run_shows_what_would_move_and_be_parked() -> None:
    app = FakeApp(offers=_OFFERS)
    ended = _run("--once --dry-run --limit 5", app)

    assert ended.code == 0
    assert ended.out.splitlines() == [
        "task_html  t1  pages/jobs/j1/t1.gz -> cold/t1.gz  (2.0 KiB)",
        "task_html  t2  would be parked: bad pointer",
    ]
    assert "Would move 1 objects (2.0 KiB)." in ended.err
    assert "Nothing was written." in ended.err
    assert app.asked == [(None, 5)]


@pytest.mark.parametrize("offers", [_OFFERS, ()])
def test_a_dry_run_as_json_is_one_object(offers: tuple[object, ...]) -> None:
    told = json.loads(
        _run("--once --dry-run --json", FakeApp(offers=_OFFERS[: len(offers)])).out
    )
    assert [offer["id"] for offer in told["offers"]] == ["t1", "t2"][: len(offers)]
    assert told["counts"]["candidates"] == len(offers) // 2


# --- the ledger's commands --------------------------------------------------------------


def test_status_shows_counts_and_workers() -> None:
    out = _run("status").out
    assert "ledger 7f3a" in out
    assert "12,345" in out
    assert "1.0 GiB" in out
    assert "2026-01-02 03:04:05Z" in out
    assert "alive" in out


def test_status_as_json_gives_numbers() -> None:
    told = json.loads(_run("status --json").out)
    assert told["ledger_id"] == "7f3a"
    assert told["sources"][0]["archived_count"] == 12_345
    assert told["workers"][0]["is_alive"] is True


def test_status_says_that_the_database_is_a_copy() -> None:
    app = FakeApp()
    home, found_in = DatabaseHome("app", 7), DatabaseHome("copy", 8)
    app.fleet.found = LedgerIdentity("7f3a", 4, home, found_in)
    out = _run("status", app).out
    assert "ledger 7f3a, epoch 4" in out
    assert "found in database copy (system 8), at home in app (system 7)" in out
    assert "archiver ledger take-over" in out
    told = json.loads(_run("status --json", app).out)
    assert (told["epoch"], told["is_at_home"]) == (4, False)
    assert (told["home"], told["found_in"]) == ("app (system 7)", "copy (system 8)")


def test_a_take_over_shows_what_was_found_before_it_decides() -> None:
    app = FakeApp()
    ended = _run("ledger take-over --yes", app)
    assert (ended.code, app.asked) == (0, ["take over", "outlive leases"])
    for told in (
        "at home in app (system 7)",
        "found in copy (system 8)",
        "stamp 3 of ledger 7f3a, database app, epoch 2, 2026-01-02 03:04:05 UTC",
        "a stamp that cannot be read",
        "task_html: not known to this ledger",
        "Taken over under epoch 3",
    ):
        assert told in ended.out


def test_a_take_over_as_json_is_one_object() -> None:
    told = json.loads(_run("ledger take-over --yes --json").out)
    assert (told["epoch_before"], told["epoch"]) == (1, 3)
    assert (told["home_before"], told["home"]) == ("app (system 7)", "copy (system 8)")
    assert told["sources"][0]["refusal"] == "not known to this ledger"
    assert told["sources"][0]["found"][0].startswith("stamp 3 of ledger 7f3a")


@pytest.mark.parametrize("options", ["", " --json"])
def test_nobody_is_taken_over_unasked(options: str) -> None:
    app = FakeApp()
    ended = _run(f"ledger take-over{options}", app)
    assert (ended.code, app.asked, ended.out) == (2, [], "")
    assert "--yes" in ended.err


def test_status_tells_what_each_worker_moves() -> None:
    assert "task_html:3" in _run("status").out
    (worker,) = json.loads(_run("status --json").out)["workers"]
    assert worker["moving"] == {"task_html": 3}


def test_status_tells_what_is_spent_of_the_egress_budget() -> None:
    budget = EgressBudget(200 * 1024**3, 30 * 86400.0)
    app = FakeApp(egress=Spent(budget, 150 * 1024**3, AT))

    line = _run("status", app).out.splitlines()[1]
    told = json.loads(_run("status --json", app).out)["egress"]

    assert line == (
        "egress: 150 GiB spent of 200 GiB in 30 d, 50.0 GiB left; "
        "the oldest of it leaves the window at 2026-01-02 03:04:05Z"
    )
    assert told == {
        "limit_bytes": 200 * 1024**3,
        "window_seconds": 30 * 86400.0,
        "spent_bytes": 150 * 1024**3,
        "left_bytes": 50 * 1024**3,
        "next_room_at": "2026-01-02T03:04:05+00:00",
    }
    nothing = _run("status", FakeApp(egress=Spent(budget, 0, None))).out.splitlines()[1]
    assert nothing == "egress: 0 B spent of 200 GiB in 30 d, 200 GiB left"
    assert json.loads(_run("status --json").out)["egress"] is None


def test_status_tells_of_uploads_in_parts_where_there_are_any() -> None:
    app = FakeApp()
    assert "uploads" not in _run("status", app).out
    app.records.upload_counts = UploadCounts(open_count=1200, expired_count=3)

    line = _run("status", app).out.splitlines()[1]
    told = json.loads(_run("status --json", app).out)["uploads"]

    assert line == "uploads in parts: 1,200 under way, 3 of them past their expiry"
    assert told == {"open_count": 1200, "expired_count": 3}


@pytest.mark.parametrize(
    ("command", "asked"),
    [("pause", Pause.ALL), ("pause --releases", Pause.RELEASES), ("resume", Pause.NOTHING)],
)
def test_a_pause_is_asked_of_the_fleet_and_status_tells(command: str, asked: Pause) -> None:
    app = FakeApp()
    app.fleet.asked = Pause.ALL if asked is Pause.NOTHING else Pause.NOTHING

    assert _run(command, app).code == 0

    assert app.fleet.asked is asked
    assert ("paused: " in _run("status", app).out) == (asked is not Pause.NOTHING)
    assert json.loads(_run("status --json", app).out)["paused"] == asked.value


def test_history_tells_the_last_sweeps_and_how_they_ended() -> None:
    lines = _run("history").out.splitlines()
    assert "under way, or its worker died" in lines[1]
    assert lines[2].split()[:4] == ["task_html", "7", "2", "12"]
    assert lines[2].endswith("done")
    assert len(_run("history --limit 1").out.splitlines()) == 2
    assert _run("history --source avatars").out == "No sweep is known.\n"
    told = json.loads(_run("history --json").out)["sweeps"]
    assert [sweep["sweep_id"] for sweep in told] == [8, 7]
    assert told[1]["summary"]["archived"] == 12


def test_warnings_of_a_source_go_to_stderr() -> None:
    ended = _run("status --json", FakeApp(events=[SourceWarning(SOURCE, "no index")]))
    assert ended.err == "warning: source warning: source=task_html message=no index\n"
    json.loads(ended.out)


def test_parked_rows_are_told_with_their_reason_and_the_way_out() -> None:
    ended = _run("parked")
    assert "too large" in ended.out
    assert "t\\x1b[2J9" in ended.out
    assert "archiver retry" in ended.err


def test_parked_as_json_gives_ids_as_they_are() -> None:
    (row,) = json.loads(_run("parked --json").out)["parked"]
    assert (row["id"], row["reason"], row["location"]) == ("t\x1b[2J9", "too large", None)


def test_parked_says_that_nothing_is() -> None:
    assert _run("parked", FakeApp(records=FakeRecords(()))).out == "Nothing is parked.\n"
    assert _run("parked --source avatars").out == "Nothing is parked.\n"


def test_retry_says_how_many_and_misses_none_silently() -> None:
    assert _run("retry --all").out == "1 parked rows are candidates again.\n"
    assert _run("retry --all").code == 0
    missed = _run("retry t7 t8 t8")
    assert missed.out == "0 of 2 ids were parked or held and are candidates again.\n"
    assert missed.code == ExitCode.UNFINISHED


def test_show_tells_the_claim_and_the_receipts() -> None:
    out = _run("show t1").out
    assert "in motion     waiting" in out
    assert "r2:cold/p/cold/t1.gz" in out
    assert "released 2026-01-02 03:04:05Z" in out
    (history,) = json.loads(_run("show t1 --json").out)["histories"]
    assert history["receipts"][0]["evidence"] == "signed"
    assert history["receipts"][0]["outcome"] == "released"


def test_show_of_an_unknown_id_exits_1() -> None:
    ended = _run("show t404")
    assert ended.code == ExitCode.UNFINISHED
    assert "knows nothing of t404" in ended.err


# --- migrate ----------------------------------------------------------------------------


def test_migrate_tells_what_was_applied() -> None:
    assert _run("migrate").out == "The ledger is up to date.\n"
    assert _run("migrate", FakeApp(applied=["0001_ledger"])).out == "applied 0001_ledger\n"
    told = json.loads(_run("migrate --json", FakeApp(applied=["0001_ledger"])).out)
    assert told == {"applied": ["0001_ledger"]}


def test_migrate_prints_what_a_source_needs_and_applies_nothing() -> None:
    app = FakeApp()
    ended = run_command("migrate --source task_html --print", {}, app)
    assert ended.out == "create index if not exists task_html_archiver on tasks (id);\n"
    assert app.asked == []


def test_migrate_applies_what_a_source_needs() -> None:
    app = FakeApp()
    assert _run("migrate --source task_html", app).code == 0
    assert app.asked == ["needs of task_html"]


# --- adopt ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("takeover", "code"),
    [
        (Takeover(), 0),
        (Takeover(adopted=5, skipped=2, known=9, changed=1), 0),
        (Takeover(state="stopped", stopped="limit", adopted=5), 0),
        (Takeover(missing=1), 1),
        (Takeover(damaged=1), 1),
        (Takeover(unreadable=1), 1),
        (Takeover(unreachable=1), 1),
        (Takeover(elsewhere={"older": 1}), 1),
        (Takeover(state="stopped", stopped="failures", error="down"), 1),
        (Takeover(state="fatal", error="the bucket is gone"), 3),
        (Takeover(state="stopped", stopped="signal", missing=1), 130),
    ],
)
def test_the_exit_code_follows_from_what_was_adopted(takeover: Takeover, code: int) -> None:
    app = FakeApp(takeover=takeover)

    assert _run("adopt --source task_html", app).code == code
    assert _run("adopt --source task_html --json", app).code == code


def test_adopt_hands_on_what_was_asked() -> None:
    app = FakeApp()
    _run("adopt --source task_html", app)
    _run("adopt --source task_html --unproven --limit 7 --dry-run", app)

    assert app.asked == [
        ("adopt", "task_html", None, False),
        ("survey", "task_html", 7, True),
    ]


def test_rows_that_were_not_adopted_are_listed_with_their_reason() -> None:
    refusals = [
        HoldingRefused(
            SOURCE,
            Holding(CandidateId(f"t{number}\x1b[2J"), "cold", ColdKey(f"k/{number}")),
            NotAdopted.DAMAGED,
            "not these bytes",
        )
        for number in range(3)
    ]
    takeover = Takeover(adopted=12, adopted_bytes=2048, damaged=3, elsewhere={"older": 2})
    app = FakeApp(takeover=takeover, refusals=refusals)

    told = _run("adopt --source task_html", app)
    assert "t2\\x1b[2J" in told.out
    assert "not these bytes" in told.out
    assert "12  2.0 KiB" in told.out
    assert "2 rows are in the bucket older" in told.err

    answer = json.loads(_run("adopt --source task_html --json", app).out)
    assert [row["id"] for row in answer["not_adopted"]] == [it.holding.id for it in refusals]
    assert answer["not_adopted"][0]["why"] == "damaged"
    assert (answer["source"], answer["adopted"], answer["state"]) == (SOURCE, 12, "done")
    assert answer["elsewhere"] == {"older": 2}


def test_the_answer_of_a_failed_adopt_is_still_one_object_without_secrets() -> None:
    secret = RIGHT["ARCHIVE_SECRET_ACCESS_KEY"]
    error = LedgerUnavailable(operation="connect", message=f"no {secret}")
    ended = _run("adopt --source task_html --json", FakeApp(error=error))

    assert ended.code == 3
    answer = json.loads(ended.out)
    assert (answer["state"], answer["not_adopted"]) == ("fatal", [])
    assert secret not in ended.out + ended.err


def test_status_and_show_tell_what_was_adopted() -> None:
    adoption = Adoption(
        source=SOURCE,
        id=CandidateId("t7"),
        cold=ColdLocation("r2", "cold", ColdKey("k/t7.gz")),
        size_bytes=2048,
        digest=None,
        content_digest=Digest.of(b"page"),
        etag=None,
        evidence=Evidence.UNPROVEN,
    )
    history = replace(
        HISTORY,
        id=CandidateId("t7"),
        claim_state=None,
        receipts=(),
        adopted=(RecordedAdoption(ReceiptId(4), adoption, AT),),
    )
    app = FakeApp(records=FakeRecords((), (12, 3), (history,)))

    status = _run("status", app).out
    assert "12 of task_html were archived by another worker and adopted." in status
    assert "3 of task_html are unproven" in status
    assert "adopt" not in _run("status").out

    shown = _run("show t7", app).out
    assert "receipt 4, adopted" in shown
    assert "digest          not known" in shown
    assert "as the row promises" in shown
    assert "hot copy        not known: another worker archived it" in shown
    [told] = json.loads(_run("show t7 --json", app).out)["histories"]
    assert told["receipts"] == []
    assert told["adopted"][0]["digest"] is None
    assert told["adopted"][0]["cold_key"] == "k/t7.gz"

    exported = _run("ledger export --since 7d", app).out
    [line] = [json.loads(it) for it in exported.splitlines() if "t7" in it]
    assert (line["receipt_id"], line["evidence"], line["sha256"]) == (4, "unproven", None)
    assert (line["hot_bucket"], line["is_release_pending"]) == (None, False)
    assert "t7" in _run("ledger export --since 7d --format csv", app).out
