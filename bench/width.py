"""`ARCHIVE_CONCURRENCY=auto` beside every fixed width, at three lengths of the wire.

    python -m bench.width [--milliseconds 5,20,80] [--rounds 3] [--seconds 6]

S3 to S3: both stores are one versitygw behind a wire that delays each request, so a move takes
two of them. The ledger is real, nothing is released. All of it shares the machine, so the
objects/s say little about another one; the ratio does, of medians taken in turns: auto, once it
has settled, of the best. Neither pays for the probe of the cold store: a fixed width has a
short run before it is measured.
"""

from __future__ import annotations

import argparse
import gzip
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING

import psycopg

from archiver.app import apply_needs, open_archiver
from archiver.config import Settings
from archiver.demo.pages import Page
from archiver.demo.postgres import EmbeddedPostgres
from archiver.engine.stop import Stop
from archiver.events import BreakerOpened, WidthChanged
from archiver.ops.clock import SystemClock
from bench.delay import delayed
from tests.harness.backlog import plant_backlog
from tests.harness.hover import Hover, create_hover
from tests.harness.sides import s3_side
from tests.harness.versitygw import running_s3_server

if TYPE_CHECKING:
    from collections.abc import Sequence

    from archiver.app import Archiver
    from archiver.events import Event
    from archiver.model import HotLocation

SETTLED_SECONDS = 30.0  # after which auto is measured
PROBED_SECONDS = 3.0  # after which a fixed width is
OBJECTS_COUNT = 60_000
PLANTERS_COUNT = 16


def main() -> None:
    parser = argparse.ArgumentParser(description="auto beside fixed widths.")
    parser.add_argument("--milliseconds", type=_numbers, default=[5, 20, 80])
    parser.add_argument("--widths", type=_numbers, default=[4, 8, 16, 32, 64, 128, 256])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=12.0, help="of each run")
    parser.add_argument("--objects", type=int, default=OBJECTS_COUNT)
    parser.add_argument("--trace", action="store_true", help="show every change of the width")
    asked = parser.parse_args()
    with ExitStack() as closing:
        bench = Bench(closing, asked.objects)
        for milliseconds in asked.milliseconds:
            with delayed(bench.endpoint, milliseconds) as endpoint:
                found = bench.compare(endpoint, asked.widths, asked.rounds, asked.seconds)
            print(f"{milliseconds} ms a request\n{found.table}", flush=True)
            if asked.trace:
                print("\n".join(found.trace), flush=True)


def _numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",") if word]


class Bench:
    """One backlog, planted once; each run has its rows anew and a cold prefix of its own."""

    def __init__(self, closing: ExitStack, objects_count: int) -> None:
        self._postgres = closing.enter_context(EmbeddedPostgres())
        server = closing.enter_context(running_s3_server())
        self.endpoint = server.endpoint
        self._hot = closing.enter_context(s3_side(server))
        self._cold = closing.enter_context(s3_side(server))
        self._runs_count = 0
        self._template = self._plant(objects_count)

    def compare(
        self, endpoint: str, widths: Sequence[int], rounds: int, seconds: float
    ) -> Found:
        """Let auto settle; then, round after round, watch it and every fixed width."""
        found = Found({str(width): [] for width in (*widths, "auto")})
        observer = Watched()
        settings = Settings.read(self._settings(endpoint, "auto"))
        with open_archiver(settings, observer, SystemClock()) as auto:
            run(auto, observer, SETTLED_SECONDS)
            for _ in range(rounds):
                found.rates["auto"].append(run(auto, observer, seconds))
                for width in widths:
                    found.rates[str(width)].append(self._fixed(endpoint, width, seconds))
        found.trace = observer.trace
        return found

    def _fixed(self, endpoint: str, width: int, seconds: float) -> float:
        observer = Watched()
        settings = Settings.read(self._settings(endpoint, str(width)))
        with open_archiver(settings, observer, SystemClock()) as archiver:
            run(archiver, observer, PROBED_SECONDS)
            return run(archiver, observer, seconds)

    def _settings(self, endpoint: str, concurrency: str) -> dict[str, str]:
        self._runs_count += 1
        url = self._postgres.create_database(f"run{self._runs_count}", template=self._template)
        return {
            **self._hot.hot_settings,
            **self._cold.cold_settings,
            "ARCHIVE_ENDPOINT": endpoint,
            "ARCHIVE_HOT_ENDPOINT": endpoint,
            "ARCHIVE_DATABASE_URL": url,
            "ARCHIVE_PATH_PREFIX": f"run-{self._runs_count}",
            "ARCHIVE_RETENTION_JOBS": "0",
            "ARCHIVE_RELEASE": "off",
            "ARCHIVE_CONCURRENCY": concurrency,
        }

    def _plant(self, objects_count: int) -> str:
        """Objects into hot, and a database of their rows; its name."""
        name = "planted"
        url = self._postgres.create_database(name)
        create_hover(url)
        with (
            psycopg.connect(url, autocommit=True) as connection,
            ThreadPoolExecutor(PLANTERS_COUNT) as planters,
        ):

            def plant(location: HotLocation, body: bytes) -> None:
                planters.submit(self._hot.plant, location, body)

            plant_backlog(
                Hover(connection),
                plant,
                _small_pages(),
                domains=20,
                jobs=objects_count // 10,
                pages_count=objects_count,
                bucket=self._hot.bucket,
            )
        settings = Settings.read({"ARCHIVE_DATABASE_URL": url})
        apply_needs(settings, "task_html", SystemClock())
        return name


def run(archiver: Archiver, observer: Watched, seconds: float) -> float:
    """Sweep for so long, and finish what was begun: objects archived a second."""
    stop = Stop()
    ends = threading.Timer(seconds, stop.request, ["signal"])
    ends.start()
    observer.began_at = time.monotonic()
    summary = archiver.once(None, None, stop)
    ends.cancel()
    if summary.stopped != "signal" or summary.parked or summary.waiting:
        raise RuntimeError(summary)  # too few objects, or trouble: its figures say nothing
    return summary.archived / summary.seconds


@dataclass
class Found:
    """Objects a second by width, a figure a round; and how auto went its way."""

    rates: dict[str, list[float]]
    trace: list[str] = field(default_factory=list)

    @property
    def table(self) -> str:
        medians = {width: median(rates) for width, rates in self.rates.items()}
        fixed = {width: rate for width, rate in medians.items() if width != "auto"}
        best = max(fixed, key=lambda width: fixed[width])
        rows = [
            f"  {width:>5} {medians[width]:7.0f}/s   of {' '.join(f'{it:.0f}' for it in rates)}"
            for width, rates in self.rates.items()
        ]
        return "\n".join((*rows, f"  auto is {medians['auto'] / fixed[best]:.0%} of {best}"))


@dataclass
class Watched:
    """An observer: how wide, and when."""

    began_at: float = 0.0
    trace: list[str] = field(default_factory=list)

    def __call__(self, event: Event) -> None:
        at = time.monotonic() - self.began_at
        match event:
            case WidthChanged():
                change = f"{event.before_count:4} to {event.after_count:4}  {event.why}"
                self.trace.append(f"{at:9.2f} s {change}")
            case BreakerOpened():
                self.trace.append(f"{at:9.2f} s {event}")
            case _:
                pass


def _small_pages() -> list[Page]:
    """Of a few KB each: what is measured is how many, not how much."""
    noise = random.Random(0)  # noqa: S311  # bytes, no secrets
    bodies = [noise.randbytes(noise.randint(1_000, 4_000)).hex().encode() for _ in range(64)]
    return [Page(str(n), html, gzip.compress(html, mtime=0)) for n, html in enumerate(bodies)]


if __name__ == "__main__":
    main()
