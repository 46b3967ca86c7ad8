"""Runs mutants: each in a copy of the tree of its own, against the tests that must see it.

The copy, not the tree, is what the tests import: that is checked before each run. A mutant is
caught when one of its tests fails. All else is a failure: a test that passes, one that was red
before the mutation, a text that is not there exactly once, code that cannot be imported.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tests.mutants.catalogue import Mutant

TREE = Path(__file__).resolve().parents[2]

_COPIED = ("archiver", "tests", "migrations", "deploy", "pyproject.toml", "README.md", "docs")
_AT_ONCE = 2
_BOUND_SECONDS = 300.0  # for the tests of one mutant; they take some seconds
_BASELINE_BOUND_SECONDS = 900.0  # for the tests of all of them
_END_SECONDS = 30.0
_RED = re.compile(r"^(?:FAILED|ERROR) (tests/\S.*?)(?: - |$)", re.MULTILINE)
_TESTS_FAILED = 1  # of pytest: all else is no verdict of a test


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one mutant."""

    mutant: Mutant
    caught_by: str = ""  # the test that failed first
    trouble: str = ""  # why it does not count as caught
    seconds: float = 0.0


class NotApplicable(Exception):
    """The tree does not hold the text of a mutant exactly once."""


def run_mutants(mutants: Sequence[Mutant]) -> Iterator[Verdict]:
    """A verdict for each, in their order; first all their tests must pass unmutated."""
    named = sorted({test for mutant in mutants for test in mutant.caught_by})
    with _copy() as tree:
        told = _run_tests(tree, named, _BASELINE_BOUND_SECONDS, stop_at_first=False)
    if told.trouble or told.red:
        why = told.trouble or f"red without a mutation: {', '.join(told.red)}"
        yield from (Verdict(mutant, trouble=why) for mutant in mutants)
        return
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        yield from threads.map(_run, mutants)


def apply(mutant: Mutant, tree: Path) -> None:
    """Change the files of a tree.

    Raises:
        NotApplicable: Nothing was changed.
    """
    changed: dict[Path, str] = {}
    for edit in mutant.edits:
        path = tree / edit.file
        text = changed.get(path) or (path.read_text() if path.is_file() else "")
        if (count := text.count(edit.old)) != 1:
            message = f"{edit.file}: the text to replace is there {count} times"
            raise NotApplicable(message)
        changed[path] = text.replace(edit.old, edit.new)
    for path, text in changed.items():
        path.write_text(text)


def _run(mutant: Mutant) -> Verdict:
    began_at = time.monotonic()
    with _copy() as tree:
        try:
            apply(mutant, tree)
        except NotApplicable as exc:
            return Verdict(mutant, trouble=str(exc))
        told = _run_tests(tree, mutant.caught_by, _BOUND_SECONDS, stop_at_first=True)
    seconds = time.monotonic() - began_at
    if told.trouble:
        return Verdict(mutant, trouble=told.trouble, seconds=seconds)
    if not told.red:
        return Verdict(mutant, trouble="it survives", seconds=seconds)
    return Verdict(mutant, caught_by=told.red[0], seconds=seconds)


@dataclass(frozen=True, slots=True)
class _Told:
    red: tuple[str, ...] = ()
    trouble: str = ""


def _run_tests(
    tree: Path, tests: Iterable[str], bound_seconds: float, *, stop_at_first: bool
) -> _Told:
    # An editable install of the tree must not shadow its copy.
    environ = {**os.environ, "PYTHONPATH": str(tree)}
    found = _python(tree, environ, 60.0, "-c", "import archiver; print(archiver.__file__)")
    if not Path(found.stdout.strip()).is_relative_to(tree):
        return _Told(trouble=f"it cannot be imported: {_last_line(found.stderr)}")
    stopping = ["-x"] if stop_at_first else []
    pytest = ["-m", "pytest", "-q", "--no-header", "--tb=no"]
    try:
        ran = _python(tree, environ, bound_seconds, *pytest, *stopping, *tests)
    except subprocess.TimeoutExpired:
        return _Told(trouble=f"no verdict within {bound_seconds:.0f} s")
    red = tuple(_RED.findall(ran.stdout))
    if ran.returncode not in (0, _TESTS_FAILED) or bool(red) != bool(ran.returncode):
        why = _last_line(ran.stderr or ran.stdout)
        return _Told(trouble=f"pytest ended with {ran.returncode}: {why}")
    return _Told(red)


def _python(
    tree: Path, environ: dict[str, str], bound_seconds: float, *arguments: str
) -> subprocess.CompletedProcess[str]:
    with subprocess.Popen(
        [sys.executable, *arguments],
        cwd=tree,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        try:
            out, err = child.communicate(timeout=bound_seconds)
        except subprocess.TimeoutExpired:
            _end(child)
            raise
    return subprocess.CompletedProcess(child.args, child.returncode, out, err)


def _end(child: subprocess.Popen[str]) -> None:
    """Ask it first: the servers that it started end with it."""
    child.terminate()
    try:
        child.communicate(timeout=_END_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2]


@contextmanager
def _copy() -> Iterator[Path]:
    """A tree to mutate; what was compiled comes along, so that only the mutant is anew."""
    with tempfile.TemporaryDirectory(prefix="archiver-mutant-") as directory:
        tree = Path(directory).resolve()
        for name in _COPIED:
            source = TREE / name
            copy = shutil.copytree if source.is_dir() else shutil.copy2
            copy(source, tree / name)
        yield tree
