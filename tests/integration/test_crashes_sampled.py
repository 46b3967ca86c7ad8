"""Some points of the crash matrix in Postgres; all of them are tried in tests/long."""

from __future__ import annotations

import random
import re
from collections import Counter
from typing import TYPE_CHECKING

from tests.harness.crash_sources import Avatars, Pages
from tests.harness.crash_world import eventful
from tests.harness.crashes import (
    cuts_of_a_sweep,
    troubles_of_cut,
    troubles_of_death,
    witness_a_sweep,
)
from tests.unit.engine.world import Script

if TYPE_CHECKING:
    from archiver.demo.postgres import EmbeddedPostgres
    from tests.harness.crash_world import MakeCrashWorld
    from tests.harness.figures import TellFigure

SEED = 5
DEATHS = 6
CUTS = 4
_SENT = re.compile(r"\[(\d+)\] LOG:  (?:statement|execute \S+):\s+(\S+)")
_OF_TRANSACTIONS = {"BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE"}


def test_a_sweep_on_postgres_may_die_or_lose_its_connection_anywhere(
    make_crash_world: MakeCrashWorld, tell_figure: TellFigure
) -> None:
    world = make_crash_world(Pages(), SEED)
    base = eventful(world)
    witness = witness_a_sweep(world, base)
    drawn = random.Random(SEED)  # noqa: S311  # no secret
    wrong = []
    for death in drawn.sample(witness.deaths, DEATHS):
        wrong += troubles_of_death(world, death)
    for point in drawn.sample(cuts_of_a_sweep(world, base), CUTS):
        wrong += troubles_of_cut(world, base, point)
    tell_figure("crashes in Postgres, a sample", f"{DEATHS} states, {CUTS} connections lost")
    assert [] == wrong


def test_no_commit_and_no_statement_escapes_the_matrix(
    make_crash_world: MakeCrashWorld, postgres: EmbeddedPostgres
) -> None:
    """The server's own log tells what it was sent."""
    world = make_crash_world(Avatars(), 0)
    eventful(world)
    world.url += "&options=-c%20log_statement%3Dall"
    worker = world.worker()
    worker.script = script = Script()
    log = postgres._folder / "log"
    before = log.stat().st_size

    world.sweep(worker)

    told = log.read_bytes()[before:].decode()
    pids = {str(pid) for pid in world.tap.pids}
    sent = Counter(word.upper() for pid, word in _SENT.findall(told) if pid in pids)
    seen = Counter(call for call in script.calls if call.startswith("sql."))
    commits_count = seen.pop("sql.commit")
    assert sent["COMMIT"] == commits_count > 10
    statements = sum(count for word, count in sent.items() if word not in _OF_TRANSACTIONS)
    assert statements == seen.total() > 50
