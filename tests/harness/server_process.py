"""A child process that is started, awaited until it serves, and ended by its own pid."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

_START_SECONDS = 30.0
_STOP_SECONDS = 10.0
_BETWEEN_TRIES_SECONDS = 0.02


class ServerProcess:
    """A foreground server on a port of 127.0.0.1; its output is kept for error messages."""

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        port: int,
        folder: Path,
        user: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self._port = port
        self._log = folder / "output.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                env=dict(env or {}),
                user=user,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def __enter__(self) -> Self:
        """Returns when it takes connections."""
        try:
            self._wait_until_it_listens()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        return self._process.pid

    def stop(self) -> None:
        """Ask it to end, then insist; returns when it is gone. Repeatable."""
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _wait_until_it_listens(self) -> None:
        # No server says reliably when it serves: a connection that is taken does.
        pause = threading.Event()
        for _ in range(round(_START_SECONDS / _BETWEEN_TRIES_SECONDS)):
            if self._process.poll() is not None:
                break
            try:
                socket.create_connection(("127.0.0.1", self._port), timeout=1).close()
            except OSError:
                pause.wait(_BETWEEN_TRIES_SECONDS)
            else:
                return
        message = f"{self._process.args!r} does not serve:\n{self._log.read_text()}"
        raise RuntimeError(message)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def program(name: str, *folders: Path) -> Path:
    """Where a server's program is: on PATH, else in one of these folders.

    Where it is missing the test is skipped at home, and fails in CI: there nobody would
    read that it was skipped.
    """
    found = shutil.which(name) or shutil.which(name, path=os.pathsep.join(map(str, folders)))
    if found is not None:
        return Path(found)
    reason = f"{name} is not installed; .ci/run installs it"
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
