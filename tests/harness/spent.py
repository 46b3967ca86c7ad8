"""What one run of the real program costs: time, processor, memory."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.harness.command import Ran, environment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_LAUNCHER = Path(__file__).with_name("launcher.py")
_TIMEOUT_SECONDS = 600.0  # a bound, not an expectation


@dataclass(frozen=True, slots=True)
class Spent:
    """Of the process alone, servers not included."""

    wall_seconds: float
    cpu_seconds: float
    peak_bytes: int


def archiver_measured(settings: Mapping[str, str], *arguments: str) -> tuple[Ran, Spent]:
    """Run `python -m archiver` with these settings; what it said and what it spent."""
    return python_measured(settings, ["-m", "archiver", *arguments])


def python_measured(settings: Mapping[str, str], arguments: Sequence[str]) -> tuple[Ran, Spent]:
    with tempfile.NamedTemporaryFile(prefix="archiver-spent-") as report:
        done = subprocess.run(
            [sys.executable, "-I", _LAUNCHER, report.name, sys.executable, *arguments],
            env=environment(settings),
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
        spent = Spent(**json.loads(Path(report.name).read_text()))
    return Ran(done.returncode, done.stdout, done.stderr), spent
