"""`stream_transfer` from memory to a sink, beside plain hashlib over the same bytes.

    python -m bench.transfer [--rounds 9] [--mib 512]

Both hash the same chunks, in turns, in one process. On a machine that does nothing else the
median of the rounds' ratios and the ratio of the best rounds agree; where they do not, believe
the best: what else runs takes time and gives none. `BytesIO` copies what it gives, so its row
is of one copy more. Memory is that of a process that transfers, above one that does nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import time
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from archiver.engine.transfer import stream_transfer
from archiver.formats.parts import MIB, TACTICAL
from tests.harness.spent import python_measured

if TYPE_CHECKING:
    from collections.abc import Callable

    from archiver.engine.bounded_streams import BinaryReader

MEASURED_MIB = 1024  # for its memory
CHUNK = bytes(TACTICAL.read_bytes)


class Memory:
    """So many bytes, a chunk again and again: reading it costs nothing."""

    def __init__(self, size_bytes: int) -> None:
        self._left_bytes = size_bytes

    def read(self, size_bytes: int, /) -> bytes:
        given = CHUNK[: min(size_bytes, self._left_bytes)]  # not copied where it is whole
        self._left_bytes -= len(given)
        return given


class Sink:
    def write(self, body: bytes | bytearray | memoryview, /) -> int:
        return len(body)


def main() -> None:
    parser = argparse.ArgumentParser(description="stream_transfer beside plain hashlib.")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--mib", type=int, default=512)
    parser.add_argument("--only-transfer", action="store_true", help="once, of so many MiB")
    asked = parser.parse_args()
    if asked.only_transfer:
        transfer(Memory(asked.mib * MIB))
        return
    compare(asked.rounds, asked.mib)
    tell_memory()


def compare(rounds: int, mib: int) -> None:
    body = bytes(mib * MIB)
    rivals: dict[str, Callable[[], object]] = {
        "plain hashlib": lambda: plain(mib),
        "stream_transfer": lambda: transfer(Memory(mib * MIB)),
        "  of a BytesIO": lambda: transfer(io.BytesIO(body)),
    }
    runs: dict[str, list[Run]] = {name: [] for name in rivals}
    for round_ in range(rounds):
        for name in list(rivals)[:: 1 if round_ % 2 == 0 else -1]:
            runs[name].append(measured(rivals[name]))
    plain_runs = runs["plain hashlib"]
    for name, found in runs.items():
        ratios = [a.seconds / b.seconds for a, b in zip(plain_runs, found, strict=True)]
        best = min(run.seconds for run in found)
        of_best = min(run.seconds for run in plain_runs) / best
        cpu = median(run.cpu_seconds for run in found) / (mib / 1024)
        print(
            f"  {name:<16} {mib / best:6.0f} MiB/s at best  {of_best:.2f} of plain hashlib, "
            f"{median(ratios):.2f} in the median ({min(ratios):.2f} to {max(ratios):.2f})  "
            f"{cpu:.2f} s CPU/GiB"
        )


@dataclass(frozen=True)
class Run:
    seconds: float
    cpu_seconds: float


def measured(run: Callable[[], object]) -> Run:
    began, cpu_began = time.perf_counter(), time.process_time()
    run()
    return Run(time.perf_counter() - began, time.process_time() - cpu_began)


def tell_memory() -> None:
    _, idle = python_measured({}, ["-c", "pass"])
    _, spent = python_measured(
        {}, ["-m", "bench.transfer", "--only-transfer", "--mib", str(MEASURED_MIB)]
    )
    above = (spent.peak_bytes - idle.peak_bytes) / 10**6
    print(f"  {MEASURED_MIB} MiB: {above:.0f} MB above an interpreter that does nothing")


def plain(mib: int) -> None:
    seen = hashlib.sha256()
    for _ in range(mib * MIB // len(CHUNK)):
        seen.update(CHUNK)


def transfer(source: BinaryReader) -> None:
    stream_transfer(source, Sink())


if __name__ == "__main__":
    main()
