"""`archiver --once` beside the obvious boto3 pool: the same backlog, servers and minute.

Of archiver twice: as it is, and with `ARCHIVE_S3_CLIENT=boto3`.

    python -m bench.main_job [--rounds 3] [--jobs 260]

Two versitygw servers, hot and cold, and Postgres share the machine with the client, so
objects/s say little about any other machine. The ratios do: of medians, taken in turns.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from archiver.demo.pages import pages
from archiver.demo.postgres import EmbeddedPostgres
from tests.harness.command import archiver
from tests.harness.hover import create_hover
from tests.harness.sides import s3_side
from tests.harness.spent import Spent, archiver_measured, python_measured
from tests.harness.versitygw import running_s3_server
from tests.harness.world import World, plant_world

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from archiver.demo.pages import Page
    from tests.harness.command import Ran
    from tests.harness.versitygw import S3Server

CONCURRENCY = 16
DOMAINS = 20
CACHE = Path(__file__).parents[1] / ".cache"


class JobNotDone(Exception):
    """Its figures would be of something else."""


@dataclass(frozen=True)
class Client:
    """Somebody who can do the job."""

    name: str
    run: Callable[[World], tuple[Ran, Spent]]


@dataclass(frozen=True)
class Figures:
    """Of one run."""

    objects_count: int
    spent: Spent

    @property
    def objects_per_second(self) -> float:
        return self.objects_count / self.spent.wall_seconds

    @property
    def cpu_ms_per_object(self) -> float:
        return 1000 * self.spent.cpu_seconds / self.objects_count


def main() -> None:
    parser = argparse.ArgumentParser(description="archiver beside a boto3 pool.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=260, help="of 10 pages; 60 jobs stay hot")
    asked = parser.parse_args()
    clients = (
        Client("boto3 pool", naive_once),
        Client("archiver --once", archiver_once),
        Client("  over boto3", archiver_over_boto3),
    )
    figures: dict[str, list[Figures]] = {client.name: [] for client in clients}
    real_pages = pages(CACHE)
    for round_ in range(asked.rounds):
        for client in clients if round_ % 2 == 0 else clients[::-1]:
            found = one_run(client, real_pages, asked.jobs)
            figures[client.name].append(found)
            print(f"round {round_ + 1}: {client.name:<16} {line_of([found])}", flush=True)
    print_table(figures)


def one_run(client: Client, real_pages: Sequence[Page], jobs: int) -> Figures:
    """A world of its own for each run: nobody finds warm what another left."""
    with ExitStack() as closing:
        postgres = closing.enter_context(EmbeddedPostgres())
        hot_server: S3Server = closing.enter_context(running_s3_server())
        cold_server: S3Server = closing.enter_context(running_s3_server())
        hot = closing.enter_context(s3_side(hot_server))
        cold = closing.enter_context(s3_side(cold_server))
        url = postgres.create_database("app")
        create_hover(url, with_ledger=False)
        world = plant_world(url, hot, cold, real_pages, domains=DOMAINS, jobs=jobs)
        for arguments in (("migrate",), ("migrate", "--source", "task_html")):
            archiver(world.settings, *arguments)
        ran, spent = client.run(world)
        if ran.exit_code != 0 or ran.summary["archived"] != len(world.due):
            raise JobNotDone(client.name, ran.stdout, ran.stderr)
        if world.astray_in_hot() or world.not_archived():
            raise JobNotDone(client.name)
        return Figures(len(world.due), spent)


def archiver_once(world: World) -> tuple[Ran, Spent]:
    return archiver_measured(settings_of(world), "--once", "--json")


def archiver_over_boto3(world: World) -> tuple[Ran, Spent]:
    chosen = {"ARCHIVE_S3_CLIENT": "boto3"}
    return archiver_measured(settings_of(world) | chosen, "--once", "--json")


def naive_once(world: World) -> tuple[Ran, Spent]:
    with tempfile.NamedTemporaryFile("w", suffix=".json") as settings:
        json.dump(settings_of(world), settings)
        settings.flush()
        return python_measured({}, ["-m", "bench.naive", settings.name])


def settings_of(world: World) -> dict[str, str]:
    return world.settings | {"ARCHIVE_CONCURRENCY": str(CONCURRENCY)}


def print_table(figures: dict[str, list[Figures]]) -> None:
    (slow, slow_runs), *others = figures.items()
    print(f"\nmedians of {len(slow_runs)} rounds, {slow_runs[0].objects_count} objects each")
    for name, runs in figures.items():
        print(f"  {name:<16} {line_of(runs)}")
    for name, runs in others:
        speed = _ratio(runs, slow_runs, "objects_per_second")
        thrift = _ratio(slow_runs, runs, "cpu_ms_per_object")
        print(f"  {name}: {speed:.1f}x the objects/s of the {slow}, 1/{thrift:.1f} of its CPU")


def line_of(runs: Sequence[Figures]) -> str:
    peak = median(run.spent.peak_bytes for run in runs) / 10**6
    return (
        f"{_median(runs, 'objects_per_second'):7.0f} objects/s "
        f"{_median(runs, 'cpu_ms_per_object'):6.2f} ms CPU/object {peak:5.0f} MB peak"
    )


def _ratio(runs: Sequence[Figures], others: Sequence[Figures], name: str) -> float:
    return _median(runs, name) / _median(others, name)


def _median(runs: Sequence[Figures], name: str) -> float:
    return float(median(getattr(run, name) for run in runs))


if __name__ == "__main__":
    main()
