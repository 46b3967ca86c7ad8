"""A process that keeps record of one upload in a state directory until it is killed.

    python -m tests.harness.part_saver STATE_DIR KEY THREADS [MOST_FILE_BYTES]

Says a line for each thing that was acknowledged: `took`, `busy`, the number of a part, `full`
or `unavailable`; `took` comes once it owns the upload, with how many parts that has.
"""

from __future__ import annotations

import itertools
import resource
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, TYPE_CHECKING

from archiver.errors import LedgerFull, LedgerUnavailable, UploadBusy
from archiver.ledger.sqlite.ledger import SqliteLedger, SqliteSettings
from archiver.ops.clock import SystemClock
from tests.contract.uploads_contract import part, plan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from archiver.model import Part, Upload

PROJECT = Path(__file__).parents[2]


def numbered(number: int) -> Part:
    """A part that can be told from all others."""
    return part(number, str(number).encode())


def main() -> None:
    state_dir, key, threads_count, *most_file_bytes = sys.argv[1:]
    for most in map(int, most_file_bytes):
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    with SqliteLedger(SqliteSettings(state_dir=Path(state_dir)), SystemClock()) as ledger:
        ledger.fleet.join()
        try:
            upload = ledger.uploads.take(plan(key)).upload
        except UploadBusy:
            say("busy")
        else:
            upload = ledger.uploads.begun(upload, "id-1")
            say(f"took {len(upload.parts)}")
            in_threads(int(threads_count), lambda numbers: save(ledger, upload, numbers))
        sys.stdin.read()  # until whoever waits has seen enough


def in_threads(count: int, work: Callable[[Iterator[int]], None]) -> None:
    numbers = itertools.count(1)
    threads = [threading.Thread(target=work, args=(numbers,)) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def save(ledger: SqliteLedger, upload: Upload, numbers: Iterator[int]) -> None:
    known = {it.number for it in upload.parts}
    for number in numbers:
        if number not in known:
            try:
                ledger.uploads.save_part(upload, numbered(number))
            except LedgerFull:
                say("full")
                return
            except LedgerUnavailable:
                say("unavailable")
                return
            say(str(number))


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")  # one write: lines of threads do not mix
    sys.stdout.flush()


class PartSaver:
    """Such a process, as a test has it."""

    def __init__(
        self,
        state_dir: Path,
        key: str = "jobs/a.bin",
        *,
        threads: int = 4,
        most_file_bytes: int | None = None,
    ) -> None:
        command = [sys.executable, "-m", "tests.harness.part_saver", str(state_dir), key]
        limit = [] if most_file_bytes is None else [str(most_file_bytes)]
        self._process = subprocess.Popen(
            [*command, str(threads), *limit],
            cwd=PROJECT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def _out(self) -> IO[str]:
        assert self._process.stdout is not None
        return self._process.stdout

    def line(self) -> str:
        """The next thing it says."""
        return self._out.readline().rstrip("\n")

    def kill(self) -> list[str]:
        """`kill -9`, wherever it is; what it had said and nobody had read."""
        self._process.kill()
        rest = self._out.read()
        self._process.wait()
        for pipe in (self._out, self._process.stdin):
            assert pipe is not None
            pipe.close()
        whole = rest[: rest.rfind("\n") + 1]
        return whole.splitlines()


if __name__ == "__main__":
    main()
