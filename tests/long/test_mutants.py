"""A few mutants in every run, others with every commit: all of them by `make mutants`."""

from __future__ import annotations

import os
import random
import subprocess
from typing import TYPE_CHECKING

from tests.mutants.catalogue import MUTANTS
from tests.mutants.running import TREE, run_mutants

if TYPE_CHECKING:
    from tests.harness.figures import TellFigure

_DRAWN = 3


def test_a_few_mutants_are_caught(tell_figure: TellFigure) -> None:
    """Drawn by `ARCHIVER_MUTANTS_SEED`, else by the commit."""
    seed = os.environ.get("ARCHIVER_MUTANTS_SEED") or _commit()
    drawn = random.Random(seed).sample(MUTANTS, _DRAWN)  # noqa: S311  # a choice, no secret

    verdicts = list(run_mutants(drawn))

    names = ", ".join(mutant.name for mutant in drawn)
    tell_figure("mutants", f"{_DRAWN} of {len(MUTANTS)} drawn by seed {seed}: {names}")
    assert {} == {it.mutant.name: it.trouble for it in verdicts if it.trouble}


def _commit() -> str:
    found = subprocess.run(
        ["git", "rev-parse", "HEAD"],  # noqa: S607  # whatever git there is
        cwd=TREE,
        capture_output=True,
        text=True,
        check=False,
    )
    return found.stdout.strip() or "no commit"
