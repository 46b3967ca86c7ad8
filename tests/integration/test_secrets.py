"""No secret is told: by no command, however it ends, and whatever a store answers.

Every secret setting holds a sentinel of its own. The real program runs as a process, and all
that it says, leaves in the ledger and shows to the machine is searched for each of them.
"""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

import pytest
from psycopg import sql

from tests.fakes.scripted_http import Answer, ScriptedHttp
from tests.harness.command import Ran, archiver, environment, start
from tests.standin.supabase import SERVICE_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tests.fakes.scripted_http import Request
    from tests.harness.scene import Scene

SENTINELS = {
    "ARCHIVE_SECRET_ACCESS_KEY": "sentinel+cold/secret=",
    "SUPABASE_SERVICE_ROLE_KEY": SERVICE_KEY,
}
UNKNOWN_HERE = {  # the servers for tests would refuse them
    "ARCHIVE_SESSION_TOKEN": "sentinel&cold<token>",
    "SUPABASE_PUBLISHABLE_KEY": "sentinel-publishable",
}
DATABASE_WORD = "sentinel-database-word"
MIGRATE_WORD = "sentinel-migrate-word"
PING_WORD = "sentinel-ping-word"
PROXY_WORD = "sentinel-proxy-word"
HOT_SENTINELS = {
    "ARCHIVE_HOT_SECRET_ACCESS_KEY": "sentinel-hot-secret",
    "ARCHIVE_HOT_SESSION_TOKEN": "sentinel-hot-token",
}
DOWN = "http://127.0.0.1:1"
BOUND_SECONDS = 60.0

FORMATS = pytest.mark.parametrize("log_format", ["text", "json"])


@dataclass
class Secretive:
    """A scene whose settings are full of sentinels."""

    scene: Scene
    settings: dict[str, str]
    sentinels: set[str] = field(default_factory=set)

    def run(self, *arguments: str, **changes: str) -> Ran:
        """Run the program; what it says is searched before anything else is asserted."""
        ran = archiver(self.settings | changes, *arguments)
        assert self.found_in(ran.stdout + ran.stderr) == []
        return ran

    def found_in(self, text: str) -> list[str]:
        return sorted(word for word in self.sentinels if word in text)

    def assert_ledger_is_clean(self) -> None:
        rows = self.scene.hover.connection.execute(
            "select to_jsonb(claim)::text from archiver.claim as claim union all "
            "select to_jsonb(release)::text from archiver.release as release union all "
            "select to_jsonb(sweep)::text from archiver.sweep as sweep union all "
            "select to_jsonb(probe)::text from archiver.probe as probe"
        ).fetchall()
        assert self.found_in(str(rows)) == []


@pytest.fixture
def secretive(s3_scene: Scene) -> Secretive:
    own = {
        "ARCHIVE_DATABASE_URL": as_role(s3_scene, "reticent_worker", DATABASE_WORD),
        "ARCHIVE_MIGRATE_URL": as_role(s3_scene, "reticent_owner", MIGRATE_WORD),
        "HTTPS_PROXY": f"http://me:{PROXY_WORD}@127.0.0.1:1",
        "ARCHIVE_PING_URL": f"{DOWN}/{PING_WORD}",
        "ARCHIVE_LOG_LEVEL": "debug",
        "ARCHIVE_ONCE_WAIT": "1s",
        "ARCHIVE_TIMEOUT": "5s",
        **SENTINELS,
    }
    words = {
        DATABASE_WORD,
        MIGRATE_WORD,
        PROXY_WORD,
        *SENTINELS.values(),
        *UNKNOWN_HERE.values(),
    }
    return Secretive(s3_scene, s3_scene.settings | own, words)


def as_role(scene: Scene, role: str, word: str) -> str:
    """The URL of the same database for a role with that password."""
    scene.hover.connection.execute(
        sql.SQL("drop role if exists {0}; create role {0} superuser login password {1}").format(
            sql.Identifier(role), sql.Literal(word)
        )
    )
    parts = urlsplit(scene.database_url)
    _, _, place = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{role}:{word}@{place}"))


# --- when all goes well -------------------------------------------------------------------


@FORMATS
def test_no_command_tells_a_secret(secretive: Secretive, log_format: str) -> None:
    page = secretive.scene.due_page()
    for arguments in (
        ["check"],
        ["check", "--json"],
        ["migrate"],
        ["--once", "--dry-run", "--json"],
        ["--once"],
        ["--once", "--json"],
        ["status"],
        ["status", "--json"],
        ["history", "--json"],
        ["show", page.task_id],
    ):
        ran = secretive.run(*arguments, ARCHIVE_LOG_FORMAT=log_format)
        assert ran.exit_code == 0, (arguments, ran.stderr)

    assert secretive.scene.is_archived(page)
    secretive.assert_ledger_is_clean()
    assert secretive.run("check", **UNKNOWN_HERE).exit_code == 0


# --- when it does not ---------------------------------------------------------------------


def echo(status: int, shape: str) -> ScriptedHttp:
    """A store that refuses everything, and says what it was sent."""

    def answer(requests: Sequence[Request]) -> Answer:
        headers = requests[-1].headers
        said = " ".join(f"{name}: {value}" for name, value in headers.items())
        token = headers.get("x-amz-security-token") or headers.get("authorization", "")
        if shape == "json":
            told = {"statusCode": str(status), "error": said, "message": said}
            return Answer(status, json.dumps(told).encode())
        if shape == "json code":
            return Answer(status, json.dumps({"code": token, "message": "x"}).encode())
        if shape == "xml":
            return Answer(status, xml("Odd", said))
        if shape == "xml code":
            return Answer(status, xml(token, f"{'x' * 290}{token}"))
        return Answer(status, said.encode())

    return ScriptedHttp(answer)


def xml(code: str, message: str) -> bytes:
    escaped = [text.replace("&", "&amp;").replace("<", "&lt;") for text in (code, message)]
    return "<Error><Code>{}</Code><Message>{}</Message></Error>".format(*escaped).encode()


@pytest.mark.parametrize("client", ["obstore", "boto3"])
@pytest.mark.parametrize(
    ("status", "shape"), [(403, "xml"), (400, "xml code"), (500, "plain"), (200, "plain")]
)
def test_a_cold_store_that_echoes_what_it_was_sent_makes_nobody_tell(
    secretive: Secretive, client: str, status: int, shape: str
) -> None:
    secretive.scene.due_page()
    assert secretive.run("--once").exit_code == 0  # so the store is known
    secretive.scene.due_page()
    with echo(status, shape) as store:
        told = {"ARCHIVE_ENDPOINT": store.url, "ARCHIVE_S3_CLIENT": client, **UNKNOWN_HERE}
        ran = secretive.run("--once", "--json", **told)
        assert store.requests
    assert ran.exit_code != 0
    secretive.assert_ledger_is_clean()


@pytest.mark.parametrize(
    ("status", "shape"), [(400, "json"), (403, "json code"), (500, "plain"), (200, "json")]
)
def test_a_hot_store_that_echoes_what_it_was_sent_makes_nobody_tell(
    secretive: Secretive, status: int, shape: str
) -> None:
    secretive.scene.due_page()
    with echo(status, shape) as store:
        told = {"SUPABASE_URL": store.url, **UNKNOWN_HERE}
        ran = secretive.run("--once", "--json", **told)
        assert store.requests
    assert ran.exit_code != 0
    secretive.assert_ledger_is_clean()
    for command in (["parked", "--json"], ["status"]):
        secretive.run(*command)


def test_a_hot_bucket_that_echoes_what_it_was_sent_makes_nobody_tell(
    secretive: Secretive,
) -> None:
    secretive.scene.due_page()
    secretive.sentinels |= set(HOT_SENTINELS.values())
    with echo(403, "xml code") as store:
        ran = secretive.run(
            "--once",
            "--json",
            ARCHIVE_HOT="s3://",
            ARCHIVE_HOT_ENDPOINT=store.url,
            ARCHIVE_HOT_ACCESS_KEY_ID="key-id",
            **HOT_SENTINELS,
        )
        assert store.requests
    assert ran.exit_code != 0
    secretive.assert_ledger_is_clean()


@FORMATS
@pytest.mark.parametrize(
    "changes",
    [
        {"ARCHIVE_ENDPOINT": DOWN},
        {"SUPABASE_URL": DOWN},
        {"ARCHIVE_DATABASE_URL": f"postgresql://me:{DATABASE_WORD}@127.0.0.1:1/app"},
        {"ARCHIVE_ENDPOINT": "https://127.0.0.1:1"},  # through the proxy, which is down
        {"ARCHIVE_ENDPOINT": "https://127.0.0.1:1", "ARCHIVE_S3_CLIENT": "boto3"},
        {"SUPABASE_URL": "https://127.0.0.1:1"},
        {"ARCHIVE_LEASE": "soon"},
    ],
    ids=str,
)
def test_what_is_down_or_wrong_is_told_without_secrets(
    secretive: Secretive, changes: Mapping[str, str], log_format: str
) -> None:
    secretive.scene.due_page()

    ran = secretive.run(
        "--once", "--json", **UNKNOWN_HERE, **changes, ARCHIVE_LOG_FORMAT=log_format
    )

    assert ran.exit_code != 0
    secretive.assert_ledger_is_clean()


BUG = """
import threading


class Source:
    name = "leaky"

    def __init__(self, settings):
        word = settings.database_url.reveal()
        bug(word)


def bug(word):
    password = word
    thread = threading.Thread(target=fail, args=(password,))
    thread.start()
    thread.join()
    fail(password)


def fail(password):
    raise RuntimeError(f"cannot connect with {password}")
"""


def test_a_bug_of_a_plugin_with_a_secret_in_its_hands_is_told_masked(
    secretive: Secretive, tmp_path: Path
) -> None:
    plugin = tmp_path / "leaky-1.dist-info"
    plugin.mkdir()
    (plugin / "METADATA").write_text("Metadata-Version: 2.1\nName: leaky\nVersion: 1\n")
    (plugin / "entry_points.txt").write_text("[archiver.sources]\nleaky = leaky:Source\n")
    (tmp_path / "leaky.py").write_text(BUG)

    ran = secretive.run("--once", ARCHIVE_SOURCES="leaky", PYTHONPATH=str(tmp_path))

    assert ran.exit_code == 2
    assert ran.stderr.count("RuntimeError: cannot connect with <SECRET>") == 2


# --- what the machine sees ----------------------------------------------------------------


@pytest.fixture
def running(secretive: Secretive) -> Iterator[subprocess.Popen[str]]:
    """A sweep that waits for its store, until the test has looked at it."""
    secretive.scene.due_page()
    with ScriptedHttp(Answer(never_comes=True)) as store:
        settings = secretive.settings | {"SUPABASE_URL": store.url, "ARCHIVE_TIMEOUT": "60s"}
        process = start(settings, "--once")
        try:
            while not store.requests and process.poll() is None:
                try:
                    process.wait(0.05)
                except subprocess.TimeoutExpired:
                    continue
            yield process
        finally:
            process.kill()
            process.communicate(timeout=BOUND_SECONDS)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_process_list_and_a_core_hold_no_secret(
    secretive: Secretive, running: subprocess.Popen[str]
) -> None:
    assert running.poll() is None
    tasks = Path(f"/proc/{running.pid}/task")
    children = [
        pid for task in tasks.iterdir() for pid in (task / "children").read_text().split()
    ]
    for pid in (str(running.pid), *children):
        line = Path(f"/proc/{pid}/cmdline").read_bytes().decode()
        assert secretive.found_in(line) == []
    limits = Path(f"/proc/{running.pid}/limits").read_text().splitlines()
    (core,) = [line.split() for line in limits if line.startswith("Max core file size")]
    assert core[4:6] == ["0", "0"]


@pytest.mark.skipif(sys.platform != "linux", reason="a flag of Linux")
def test_a_process_of_ours_cannot_be_dumped() -> None:
    script = (
        "import ctypes; from archiver.cli.discretion import leave_no_core; leave_no_core(); "
        "print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"  # PR_GET_DUMPABLE
    )
    assert ctypes.CDLL(None).prctl(3, 0, 0, 0, 0) == 1  # it is we who changed it
    told = subprocess.run(
        [sys.executable, "-c", script],
        env=environment({}),
        capture_output=True,
        text=True,
        timeout=BOUND_SECONDS,
        check=True,
    )
    assert told.stdout == "0\n"
