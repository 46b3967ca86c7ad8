"""The command as a process: exit codes, signals, pipes, and how soon it is there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pytest

from tests.unit.config.environments import RIGHT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_ROOT = Path(__file__).parents[3]
_TIMEOUT_SECONDS = 60  # of a hung process; nothing is measured


def _environ(settings: Mapping[str, str]) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(_ROOT), **settings}


def _archiver(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "archiver", *arguments],
        env=_environ(settings),
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_SECONDS,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "settings", "code", "told"),
    [
        (["--version"], {}, 0, ""),
        (["check"], {}, 0, ""),
        ([], {"ARCHIVE_BUCKET": "cold"}, 2, "ARCHIVE_PROVIDER is not"),
        (["health"], {}, 0, ""),
        (["--once"], {}, 2, "archiving is disabled"),
        (["--once"], {"ARCHIVE_BUCKET": "cold"}, 2, "ARCHIVE_PROVIDER is not"),
        (["--once"], RIGHT | {"ARCHIVE_RETENTION_JOB": "1"}, 2, "ARCHIVE_RETENTION_JOBS?"),
    ],
)
def test_the_process_ends_with_its_exit_code(
    arguments: list[str], settings: dict[str, str], code: int, told: str
) -> None:
    ended = _archiver(*arguments, **settings)
    assert ended.returncode == code
    assert told in ended.stderr
    assert "Traceback" not in ended.stderr


def test_no_colour_code_goes_into_a_pipe() -> None:
    ended = _archiver("check", **RIGHT)
    assert "\x1b" not in ended.stdout + ended.stderr


def test_a_terminal_that_does_not_know_a_letter_gets_an_answer() -> None:
    settings = RIGHT | {"ARCHIVE_PATH_PREFIX": "\u0416", "PYTHONIOENCODING": "latin-1"}
    ended = _archiver("check", **settings)
    assert ended.returncode == 0
    assert "\\u0416" in ended.stdout


def test_help_imports_neither_stores_nor_database() -> None:
    heavy = ("boto3", "obstore", "psycopg", "rich", "structlog", "pydantic", "urllib3")
    script = (
        "import sys; from archiver.cli.main import run; from archiver.cli.backstage import *; "
        f"run(['--help'], Backstage()); print([m for m in {heavy} if m in sys.modules])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script],
        env=_environ({}),
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_SECONDS,
        check=True,
    )
    assert ended.stdout.splitlines()[-1] == "[]"


def test_a_reader_that_has_had_enough_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with subprocess.Popen(
        [sys.executable, "-m", "archiver", "check"],
        env=_environ(RIGHT),
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        os.close(writing)
        _, told = process.communicate(timeout=_TIMEOUT_SECONDS)
    assert (process.returncode, told) == (0, "")


# --- signals ----------------------------------------------------------------------------


@contextmanager
def _sweeping(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    """A process in the middle of its sweep, and its stderr."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.unit.cli.interrupted", *arguments],
        cwd=_ROOT,
        env=_environ(RIGHT),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "sweeping\n"
        try:
            yield process, process.stderr
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_ends_with_130(number: signal.Signals) -> None:
    with _sweeping() as (process, _):
        process.send_signal(number)
        out, err = process.communicate(timeout=_TIMEOUT_SECONDS)

    assert process.returncode == 130
    assert json.loads(out)["stopped"] == "signal"
    assert "draining" in err


def test_a_second_interrupt_quits_at_once() -> None:
    with _sweeping("--drain-for-ever") as (process, told):
        process.send_signal(signal.SIGINT)
        assert told.readline() == "draining\n"
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=_TIMEOUT_SECONDS)

    assert process.returncode == 130
    assert out == ""


def test_a_term_after_an_interrupt_goes_on_draining() -> None:
    with _sweeping("--drain-for-ever") as (process, told):
        process.send_signal(signal.SIGINT)
        assert told.readline() == "draining\n"
        for _ in range(3):
            process.send_signal(signal.SIGTERM)
            assert told.readline() == "still draining\n"
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=_TIMEOUT_SECONDS)

    assert process.returncode == 130
