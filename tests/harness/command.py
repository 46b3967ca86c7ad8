"""The real program: as a process of its own, as a container would run it, or in this one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from click.testing import CliRunner

from archiver.cli.backstage import Backstage
from archiver.cli.main import run
from archiver.ops.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Mapping

    from archiver.protocols import Clock

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


def run_here(
    settings: Mapping[str, str | None], *arguments: str, clock: Clock | None = None
) -> Ran:
    """Run the command in this process, on the real app; None unsets a setting."""
    others = {name: None for name in os.environ if _is_setting(name)}
    backstage = Backstage(clock=clock or SystemClock())
    with CliRunner().isolation(env={**others, **settings}) as (out, err, _both):
        code = run(list(arguments), backstage)
        return Ran(code, out.getvalue().decode(), err.getvalue().decode())


def _is_setting(name: str) -> bool:
    return name.startswith(("ARCHIVE_", "SUPABASE_", "DATABASE_URL"))


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    kept = ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "PYTHONDONTWRITEBYTECODE")
    return {name: os.environ[name] for name in kept if name in os.environ} | dict(settings)
