"""The real command, as a process with the demo's settings and nothing else around it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from archiver.errors import FatalError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_STOP_SECONDS = 30.0  # over the command's own time to drain


@dataclass(frozen=True, slots=True)
class Ran:
    """How a run ended, and what it answered."""

    exit_code: int
    stdout: str

    @property
    def summary(self) -> Mapping[str, Any]:
        """The JSON object on stdout; empty where there is none."""
        try:
            return dict(json.loads(self.stdout))
        except ValueError:
            return {}


@dataclass(kw_only=True, eq=False)
class CommandFailed(FatalError):
    """A command of the demo failed."""

    command: str
    exit_code: int
    hint: ClassVar[str] = "What it said is above."


def archiver(
    environment: Mapping[str, str], *arguments: str, tell: Callable[[str], object] | None
) -> Ran:
    """Run `python -m archiver`; its log is told line by line.

    Without `tell` it has our own stderr: on a terminal it draws its progress bar there.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "archiver", *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=None if tell is None else subprocess.PIPE,
        text=True,
    )
    try:
        if tell is not None and process.stderr is not None:
            for line in process.stderr:  # to its end; the answer is short enough to wait
                tell(line.rstrip("\n"))
        stdout, _ = process.communicate()
    except BaseException:
        _end(process)
        raise
    return Ran(process.returncode, stdout)


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()  # it finishes what is in flight
    try:
        process.communicate(timeout=_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
