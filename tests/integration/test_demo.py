"""`archiver demo` as a newcomer meets it: a process, its output, and what it leaves behind."""

from __future__ import annotations

import io
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from archiver.demo.show import run
from archiver.ops.clock import SystemClock
from tests.harness.command import archiver, environment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.demo.world import World

_TIMEOUT_SECONDS = 300.0  # a bound, not an expectation

# Of an archiver that really works here: the demo must not meet it.
FOREIGN = {
    "ARCHIVE_BUCKET": "production",
    "ARCHIVE_PROVIDER": "s3",
    "ARCHIVE_PATH_PREFIX": "production",
    "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/production",
    "SUPABASE_URL": "https://production.supabase.co",
    "AWS_PROFILE": "no-such-profile",
}


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A folder for all that is temporary; Postgres' own user may pass through it."""
    folder = Path(tempfile.mkdtemp(prefix="archiver-test-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


@contextmanager
def demo(scratch: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "archiver", "demo", *arguments],
        env=environment({**FOREIGN, "TMPDIR": str(scratch)}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=_TIMEOUT_SECONDS)


def read_until(process: subprocess.Popen[str], text: str) -> str:
    """What it said up to and with the line that has this text."""
    assert process.stdout is not None
    told = ""
    for line in process.stdout:
        told += line
        if text in line:
            return told
    pytest.fail(f"it ended without {text!r}:\n{told}")


def leftovers(scratch: Path) -> list[str]:
    """Files of it, and processes that work in its folders."""
    processes = [path for path in Path("/proc").iterdir() if _works_in(path, scratch)]
    return [str(path) for path in (*scratch.iterdir(), *processes)]


def _works_in(process: Path, folder: Path) -> bool:
    try:
        return (process / "cwd").readlink().is_relative_to(folder)
    except OSError:  # no process, gone, or not ours
        return False


def test_the_demo_shows_a_sweep_proves_it_and_leaves_nothing(scratch: Path) -> None:
    with demo(scratch) as process:
        told, _ = process.communicate(timeout=_TIMEOUT_SECONDS)

    assert process.returncode == 0, told
    assert "the digests are equal" in told
    assert "FAIL" not in told
    digests = [line.split()[-1] for line in told.splitlines() if line.startswith(_DIGESTS)]
    assert len(digests) == 2
    assert digests[0] == digests[1]
    assert '"archived": 120' in told
    assert "production" not in told
    assert "\x1b" not in told  # no colours into a pipe
    assert [] == leftovers(scratch)


_DIGESTS = ("  hot, before", "  cold, now")


def test_kept_it_can_be_looked_at_until_it_is_ended(scratch: Path) -> None:
    with demo(scratch, "--keep") as process:
        told = read_until(process, "Ctrl-C ends it")
        (source,) = (line for line in told.splitlines() if line.startswith("  . "))
        file = Path(source.removeprefix("  . "))
        settings = dict(
            shlex.split(line)[1].split("=", 1) for line in file.read_text().splitlines()
        )
        (shown,) = (line for line in told.splitlines() if " show " in line)
        status = archiver(settings, "status")
        history = archiver(settings, "show", shown.split()[-1])
        mode = stat.S_IMODE(file.stat().st_mode)
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=_TIMEOUT_SECONDS)

    assert process.returncode == 0, rest
    assert mode == 0o600
    assert status.exit_code == 0
    assert "120" in status.stdout
    assert history.exit_code == 0
    assert "readback" in history.stdout
    secrets = {value for name, value in settings.items() if "SECRET" in name}
    secrets |= {settings["ARCHIVE_DATABASE_URL"]}
    assert len(secrets) == 3
    assert [] == [secret for secret in secrets if secret in told + rest]
    assert [] == leftovers(scratch)


@pytest.mark.parametrize("line", ["archiver demo", "--once"])
def test_ended_in_the_middle_it_leaves_nothing(scratch: Path, line: str) -> None:
    with demo(scratch) as process:
        read_until(process, line)
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=_TIMEOUT_SECONDS)

    assert process.returncode == 130, rest
    assert "Interrupted; nothing is left of it." in rest
    assert [] == leftovers(scratch)


def test_the_demo_fails_when_a_cold_copy_is_damaged() -> None:
    def damage(world: World) -> None:
        key = max(world.cold.objects(), key=lambda key: "page-content" in key)
        world.cold.put(key, b"something else")

    told = io.StringIO()
    exit_code = run(keep=False, clock=SystemClock(), stream=told, meddle=damage)

    assert exit_code == 1
    assert "FAIL  120 cold objects, read back, are the bytes that were hot" in told.getvalue()
