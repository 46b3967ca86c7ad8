"""The real program as a process of its own, as a container would run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_TIMEOUT_SECONDS = 300.0  # a bound, not an expectation


@dataclass(frozen=True, slots=True)
class Ran:
    """What a run said, and how it ended."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def summary(self) -> dict[str, Any]:
        """The JSON object of `--json`, alone on stdout."""
        return dict(json.loads(self.stdout))


def archiver(settings: Mapping[str, str], *arguments: str) -> Ran:
    """Run `python -m archiver` with these settings and nothing else of the environment."""
    done = subprocess.run(
        [sys.executable, "-m", "archiver", *arguments],
        env=environment(settings),
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_SECONDS,
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def start(settings: Mapping[str, str], *arguments: str) -> subprocess.Popen[str]:
    """The same, left running; whoever starts it ends it."""
    return subprocess.Popen(
        [sys.executable, "-m", "archiver", *arguments],
        env=environment(settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    kept = ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "PYTHONDONTWRITEBYTECODE")
    return {name: os.environ[name] for name in kept if name in os.environ} | dict(settings)
