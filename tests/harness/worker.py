"""`python -m archiver` as a container runs it: a process, its log, and signals by its pid."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.harness.command import environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

_BOUND_SECONDS = 60.0  # for what happens within a second or two, on a machine that is busy


@dataclass
class WorkerProcess:
    """A worker that runs. Nothing is measured; waiting is bounded."""

    process: subprocess.Popen[bytes]
    log: Path
    lines: list[dict[str, Any]] = field(default_factory=list)
    _read_bytes: int = 0

    def told(self, event: str) -> list[dict[str, Any]]:
        """Its log lines of that event so far."""
        with self.log.open("rb") as log:
            log.seek(self._read_bytes)
            for line in log:
                if not line.endswith(b"\n"):
                    break  # still being written
                self._read_bytes += len(line)
                self.lines.append(json.loads(line))
        return [line for line in self.lines if line["event"].startswith(event)]

    def until(self, has_come: Callable[[], object]) -> None:
        deadline = time.monotonic() + _BOUND_SECONDS
        while not has_come():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)

    def until_told(self, event: str, count: int = 1) -> list[dict[str, Any]]:
        self.until(lambda: len(self.told(event)) >= count)
        return self.told(event)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ended(self) -> int:
        """Its exit code, once it has one."""
        return self.process.wait(_BOUND_SECONDS)

    def stop(self) -> int:
        self.signal(signal.SIGTERM)
        return self.ended()


@contextmanager
def running_worker(
    settings: Mapping[str, str], folder: Path, **changes: str
) -> Iterator[WorkerProcess]:
    """A worker that sweeps every second, unless told; killed by its pid, whatever happens."""
    log = folder / "worker.log"
    ours = {"ARCHIVE_LOG_FORMAT": "json", "ARCHIVE_LOG_LEVEL": "debug"}
    chosen = {"ARCHIVE_INTERVAL": "1s", **ours, **settings, **changes}
    if "ARCHIVE_SCHEDULE" in chosen:
        del chosen["ARCHIVE_INTERVAL"]
    with log.open("ab") as written:
        process = subprocess.Popen(
            [sys.executable, "-m", "archiver"],
            env=environment(chosen),
            stdout=subprocess.DEVNULL,
            stderr=written,
        )
    try:
        yield WorkerProcess(process, log)
    finally:
        process.kill()
        process.wait()
