"""`stream_transfer` from memory to a sink, beside plain hashlib over the same bytes.

    python -m bench.transfer [--rounds 9] [--mib 512]

Both hash the same chunks, in turns, in one process; a round gives one ratio, and their median
is told: what else the machine does hits both. `BytesIO` copies what it gives, so its row is
of one copy more. Memory is that of a process that transfers, above one that does nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import time
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
    seconds: dict[str, list[float]] = {name: [] for name in rivals}
    for round_ in range(rounds):
        for name in list(rivals)[:: 1 if round_ % 2 == 0 else -1]:
            began = time.perf_counter()
            rivals[name]()
            seconds[name].append(time.perf_counter() - began)
    for name, spent in seconds.items():
        ratios = [a / b for a, b in zip(seconds["plain hashlib"], spent, strict=True)]
        rate = mib / median(spent)
        print(
            f"  {name:<16} {rate:6.0f} MiB/s  {median(ratios):.2f} of plain hashlib"
            f"  ({min(ratios):.2f} to {max(ratios):.2f} in {rounds} rounds)"
        )


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
