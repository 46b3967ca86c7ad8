"""What deploy/Dockerfile makes, without a container engine: its steps, and how it is run.

The wheel is built from a copy of what .dockerignore lets through, and installed with the
hashes of the lock into an empty environment elsewhere, which then nobody may write to. It
runs as another user (where the tests run as root), in a directory that is not writable, with
a home that does not exist and nowhere for temporary files.

Packages come from the index that pip is set up for; where it cannot be reached the tests are
skipped, and fail in CI.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
import zipfile
from dataclasses import dataclass
from importlib.metadata import requires
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import psycopg
import pytest
from packaging.requirements import Requirement

from archiver import __version__
from tests.harness.hover import BUCKET, Hover, create_hover

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.harness.hover import Page
    from tests.harness.postgres import Databases

PROJECT = Path(__file__).parents[2]
NOBODY = 65534
AS_NOBODY: dict[str, Any] = (
    {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
)
_INSTALL_SECONDS = 600.0  # bounds, not expectations
_RUN_SECONDS = 300.0


@dataclass
class Image:
    """What the image holds, and a place for what is mounted into its container."""

    root: Path
    wheel: Path

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": f"{self.root / 'opt' / 'bin'}:/usr/bin:/bin",
            "HOME": "/nonexistent",
            "TMPDIR": "/nonexistent",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONWARNINGS": "error",
        }

    def command(self, *arguments: str) -> list[str]:
        return [str(self.root / "opt" / "bin" / "archiver"), *arguments]

    def run(
        self, settings: Mapping[str, str], *arguments: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            env=self.environment | dict(settings),
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_RUN_SECONDS,
            check=False,
            **AS_NOBODY,
        )

    def volume(self, name: str) -> Path:
        """A directory that whoever runs in the image may write to."""
        made = self.root / "volumes" / name
        made.mkdir(parents=True, exist_ok=True)
        made.chmod(0o777)
        return made


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    # Not below pytest's own folder, which other users may not enter.
    root = Path(tempfile.mkdtemp(prefix="archiver-image-"))
    root.chmod(0o755)
    try:
        wheel = build_wheel(root)
        python = str(root / "opt" / "bin" / "python")
        subprocess.run([python_of_all(), "-m", "venv", root / "opt"], check=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--only-binary", ":all:"]
        install(*pip, "--require-hashes", "-r", PROJECT / "requirements-runtime.lock")
        install(*pip, "--no-deps", "--no-index", wheel)
        subprocess.run([python, "-m", "pip", "check"], check=True, stdout=subprocess.DEVNULL)
        make_writable(root / "opt", is_writable=False)
        yield Image(root, wheel)
    finally:
        make_writable(root / "opt", is_writable=True)
        shutil.rmtree(root)


def python_of_all() -> str:
    """A Python that another user may run as well: the one of the tests may be at home."""
    good = "import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))"
    for python in (sys.executable, "/usr/bin/python3"):
        try:
            subprocess.run([python, "-c", good], check=True, capture_output=True, **AS_NOBODY)
        except (OSError, subprocess.CalledProcessError):
            continue
        return python
    return skipped("there is no Python here that another user may run")


def skipped(reason: str) -> NoReturn:
    """At home; in CI it fails: there nobody would read that it was skipped."""
    (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)
    raise AssertionError


def build_wheel(root: Path) -> Path:
    """From a copy: a build leaves nothing in the tree, and takes nothing but what is let in."""
    tree = root / "src"
    tree.mkdir()
    for line in (PROJECT / ".dockerignore").read_text().splitlines():
        if line.startswith("!"):
            name = line.removeprefix("!")
            copy = shutil.copytree if (PROJECT / name).is_dir() else shutil.copy2
            copy(PROJECT / name, tree / name)
    offline = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    build = [sys.executable, "-m", "pip", "wheel", *offline, "--wheel-dir", root / "wheels"]
    subprocess.run([*map(str, build), str(tree)], check=True, timeout=_INSTALL_SECONDS)
    (wheel,) = (root / "wheels").iterdir()
    return wheel


def install(*arguments: object) -> None:
    """By pip or uv; without an index there is no test, but a wrong hash is a failure."""
    done = subprocess.run(
        [str(argument) for argument in arguments],
        capture_output=True,
        text=True,
        timeout=_INSTALL_SECONDS,
        check=False,
    )
    if done.returncode and re.search("NewConnectionError|dns error|ConnectError", done.stderr):
        skipped("no package index can be reached")
    assert done.returncode == 0, done.stderr


def make_writable(folder: Path, *, is_writable: bool) -> None:
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink() and path.exists():
            mode = stat.S_IMODE(path.stat().st_mode)
            path.chmod(mode | stat.S_IWUSR if is_writable else mode & ~0o222)


# --- its world ------------------------------------------------------------------------------


@dataclass
class Outside:
    """A database with the application's tables, and both stores as volumes."""

    image: Image
    url: str
    connection: psycopg.Connection[tuple[object, ...]]
    settings: dict[str, str]

    def due_page(self) -> Page:
        hover = Hover(self.connection)
        page = hover.page(hover.job(hover.domain()))
        path = self.image.volume("hot") / BUCKET / page.path
        path.parent.mkdir(parents=True)
        path.write_bytes(page.body)
        return page

    def archived(self, page: Page) -> bytes | None:
        path = self.image.volume("cold") / "archive" / page.cold_key
        return path.read_bytes() if path.is_file() else None


@pytest.fixture
def outside(image: Image, databases: Databases) -> Iterator[Outside]:
    url = databases.like(
        "hover_without_ledger", lambda url: create_hover(url, with_ledger=False)
    )
    image.volume("cold/archive")
    secret = image.root / "database_url"
    secret.write_text(url)
    secret.chmod(0o444)
    settings = {
        "ARCHIVE_DATABASE_URL_FILE": str(secret),
        "ARCHIVE_HOT": image.volume("hot").as_uri(),
        "ARCHIVE_PROVIDER": "file",
        "ARCHIVE_ENDPOINT": image.volume("cold").as_uri(),
        "ARCHIVE_BUCKET": "archive",
        "ARCHIVE_RETENTION_JOBS": "0",
        "ARCHIVE_RELEASE": "off",  # the hot files are root's
        "ARCHIVE_INTERVAL": "1s",
        "ARCHIVE_LOG_FORMAT": "json",
    }
    with psycopg.connect(url, autocommit=True) as connection:
        yield Outside(image, url, connection, settings)


def ok(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def events(lines: str) -> list[str]:
    return [json.loads(line)["event"] for line in lines.splitlines() if line.startswith("{")]


# --- what it holds --------------------------------------------------------------------------


def test_the_wheel_holds_what_the_tree_holds_and_the_migrations(image: Image) -> None:
    ours = PROJECT / "archiver"
    wanted = {
        str(path.relative_to(PROJECT))
        for path in ours.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    wanted |= {
        f"archiver/ledger/migrations/{path.name}" for path in (PROJECT / "migrations").iterdir()
    }
    with zipfile.ZipFile(image.wheel) as wheel:
        held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert held == wanted


def test_it_starts_where_nothing_can_be_written(image: Image) -> None:
    assert ok(image.run({}, "--version")) == f"archiver {__version__}\n"
    assert "ARCHIVE_" in ok(image.run({}, "--help"))
    for path in ("opt/bin", "opt/lib"):
        assert not stat.S_IMODE((image.root / path).stat().st_mode) & 0o222


# --- what it does ---------------------------------------------------------------------------


def test_it_checks_migrates_and_archives(image: Image, outside: Outside) -> None:
    assert "archive" in ok(image.run(outside.settings, "check"))
    ok(image.run(outside.settings, "migrate"))
    ok(image.run(outside.settings, "migrate", "--source", "task_html"))
    page = outside.due_page()

    told = ok(image.run(outside.settings, "--once", "--json"))

    assert json.loads(told)["archived"] == 1
    assert outside.archived(page) == page.body


@pytest.fixture
def worker(image: Image, outside: Outside) -> Iterator[subprocess.Popen[str]]:
    """The container's own command, running."""
    ok(image.run(outside.settings, "migrate"))
    log = (image.root / "log").open("w+")
    with log:
        process = subprocess.Popen(
            image.command(),
            env=image.environment | outside.settings,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            text=True,
            **AS_NOBODY,
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait(_RUN_SECONDS)


def wait_until_archived(outside: Outside, page: Page, worker: subprocess.Popen[str]) -> None:
    give_up_at = time.monotonic() + _RUN_SECONDS
    while outside.archived(page) is None:
        log = outside.image.root / "log"
        assert worker.poll() is None, log.read_text()
        assert time.monotonic() < give_up_at, log.read_text()
        time.sleep(0.1)


def test_the_worker_archives_is_healthy_and_stops_when_it_is_told(
    image: Image, outside: Outside, worker: subprocess.Popen[str]
) -> None:
    page = outside.due_page()
    wait_until_archived(outside, page, worker)
    assert outside.archived(page) == page.body
    give_up_at = time.monotonic() + _RUN_SECONDS
    while (told := image.run(outside.settings, "health")).returncode:
        assert time.monotonic() < give_up_at, told.stdout + told.stderr
        time.sleep(0.5)

    worker.send_signal(signal.SIGTERM)

    assert worker.wait(_RUN_SECONDS) == 0, (image.root / "log").read_text()


def test_as_process_1_it_still_stops_when_it_is_told(image: Image, outside: Outside) -> None:
    """The kernel drops every signal that process 1 has no handler for."""
    alone = ["unshare", "--fork", "--pid", "--kill-child", "--"]
    stripped = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    stripped += ["--no-new-privs", "--bounding-set=-all", "--"]
    if subprocess.run([*alone, *stripped, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine does not let us make a namespace of processes")
    ok(image.run(outside.settings, "migrate"))
    page = outside.due_page()
    with (image.root / "log").open("w+") as log:
        launcher = subprocess.Popen(
            [*alone, *stripped, *image.command()],
            env=image.environment | outside.settings,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            text=True,
        )
        try:
            wait_until_archived(outside, page, launcher)
            children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text()
            os.kill(int(children), signal.SIGTERM)
            assert launcher.wait(_RUN_SECONDS) == 0, (image.root / "log").read_text()
        finally:
            launcher.kill()
            launcher.wait(_RUN_SECONDS)


# --- the demo -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def demo(image: Image) -> Image:
    """With the extra `demo`, of the same lock: a server for each part. Behind all others."""
    lock = (PROJECT / "requirements.lock").read_text()
    runtime = (PROJECT / "requirements-runtime.lock").read_text()
    wanted = names_behind("archiver", {"demo"}) - pinned_names(runtime) - {"archiver"}
    blocks = re.split(r"^(?=[a-z0-9])", lock, flags=re.MULTILINE)
    subset = image.root / "demo.lock"
    subset.write_text("".join(it for it in blocks if it.partition("==")[0] in wanted))
    # By uv, which takes seconds: this is no part of the image.
    uv = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--only-binary", ":all:"]
    uv += ["--python", str(image.root / "opt" / "bin" / "python")]
    links = os.environ.get("PIP_FIND_LINKS", "").split()
    found = [word for link in links for word in ("--find-links", link)]
    make_writable(image.root / "opt", is_writable=True)
    install(*uv, *found, "--require-hashes", "--no-deps", "-r", subset)
    make_writable(image.root / "opt", is_writable=False)
    return image


def names_behind(name: str, extras: set[str]) -> set[str]:
    """A package and all it needs on this machine, by what is installed for the tests."""
    found: set[tuple[str, str]] = set()
    asked = [(name, extra) for extra in {"", *extras}]
    while asked:
        package, extra = asked.pop()
        if (package, extra) in found:
            continue
        found.add((package, extra))
        for text in requires(package) or ():
            needed = Requirement(text)
            if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                normal = re.sub(r"[-_.]+", "-", needed.name).lower()
                asked += [(normal, more) for more in {"", *needed.extras}]
    return {package for package, _ in found}


def pinned_names(lock: str) -> set[str]:
    return set(re.findall(r"^([a-z0-9-]+)==", lock, re.MULTILINE))


def test_the_demo_runs_from_the_wheel(demo: Image) -> None:
    where = str(demo.volume("tmp"))  # servers need a place for their files
    told = ok(demo.run({"TMPDIR": where}, "demo"))
    assert "200" in told
    assert list(Path(where).iterdir()) == []
