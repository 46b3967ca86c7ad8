"""A source in Python, by somebody else: installed beside archiver, found by its entry point."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.harness.command import environment

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.harness.postgres import Databases

EXAMPLE = Path(__file__).parents[1] / "plugin_example"
TABLE = (
    'create table invoices (id text collate "C" primary key, due_at timestamptz not null, '
    "pdf text, cold_key text)"
)
_BOUND_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment of its own, with archiver and the plugin in it."""

    python: Path

    def run(self, settings: Mapping[str, str], *arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            [str(self.python), "-W", "error", *arguments],
            env=environment(settings),
            cwd=self.python.parent,
            capture_output=True,
            text=True,
            timeout=_BOUND_SECONDS,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def plugged(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Packages archiver needs come from where this test runs; the plugin is installed."""
    root = tmp_path_factory.mktemp("plugged")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(root)], check=True)
    site = sysconfig.get_path("purelib", "venv", {"base": str(root)})
    ours = sysconfig.get_path("purelib")
    Path(site, "archiver.pth").write_text(f"import site; site.addsitedir({ours!r})\n")
    copy = tmp_path_factory.mktemp("source")  # a build leaves nothing in the tree
    for name in ("pyproject.toml", "archiver_invoices.py"):
        (copy / name).write_bytes((EXAMPLE / name).read_bytes())
    offline = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    install = ["install", *offline, "--target", site, str(copy)]
    subprocess.run([sys.executable, "-m", "pip", *install], check=True)
    return Environment(root / "bin" / "python")


@pytest.fixture
def url(databases: Databases) -> str:
    made = databases.empty()
    with psycopg.connect(made, autocommit=True) as connection:
        connection.execute(TABLE)
    return made


def settings_of(url: str, tmp_path: Path, sources: str = "invoices") -> dict[str, str]:
    return {
        "ARCHIVE_DATABASE_URL": url,
        "ARCHIVE_SOURCES": sources,
        "ARCHIVE_HOT": (tmp_path / "hot").as_uri(),
        "ARCHIVE_PROVIDER": "file",
        "ARCHIVE_BUCKET": "cold",
        "ARCHIVE_ENDPOINT": (tmp_path / "cold").as_uri(),
        "ARCHIVE_RELEASE_GRACE": "0s",
    }


def plant(url: str, tmp_path: Path) -> None:
    (tmp_path / "cold" / "cold").mkdir(parents=True)
    (tmp_path / "hot" / "invoices").mkdir(parents=True)
    with psycopg.connect(url, autocommit=True) as connection:
        for id_ in "abc":
            (tmp_path / "hot" / "invoices" / f"{id_}.pdf").write_bytes(b"%PDF " + id_.encode())
            connection.execute(
                "insert into invoices values (%s, now() - interval '1 day', %s)",
                [id_, f"{id_}.pdf"],
            )


def test_the_example_is_as_short_as_we_say() -> None:
    files = [EXAMPLE / "archiver_invoices.py", EXAMPLE / "pyproject.toml"]
    assert sum(len(file.read_text().splitlines()) for file in files) < 40


def test_an_installed_plugin_keeps_the_contract(plugged: Environment, url: str) -> None:
    suite = str(EXAMPLE / "invoices_contract.py")
    options = ["-q", "-p", "no:cacheprovider", "--import-mode=importlib", "--noconftest"]
    code, told = plugged.run(
        {"INVOICES_URL": url},
        "-m",
        "pytest",
        "--rootdir",
        "/",
        *options,
        "-c",
        "/dev/null",
        suite,
    )
    assert code == 0, told
    assert " passed" in told, told
    assert not {"skipped", "warning"} & set(told.split()), told


def test_an_installed_plugin_is_swept(plugged: Environment, url: str, tmp_path: Path) -> None:
    plant(url, tmp_path)
    settings = settings_of(url, tmp_path)
    assert plugged.run(settings, "-m", "archiver", "migrate")[0] == 0

    code, told = plugged.run(settings, "-m", "archiver", "--once", "--json")

    assert code == 0, told
    with psycopg.connect(url) as connection:
        rows = connection.execute("select id, pdf, cold_key from invoices order by id")
        assert [(id_, None, f"invoices/{id_}.pdf") for id_ in "abc"] == rows.fetchall()
    cold = tmp_path / "cold" / "cold" / "invoices"
    assert {f"{id_}.pdf" for id_ in "abc"} <= {path.name for path in cold.iterdir()}
    assert [] == list((tmp_path / "hot" / "invoices").glob("*.pdf"))


def test_no_command_imports_what_only_tests_need() -> None:
    code = (
        "import sys, archiver.app, archiver.cli.main, archiver.sources.plugins\n"
        "print({'pytest', 'moto', 'archiver.testing'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"


def test_a_name_without_a_plugin_says_what_there_is(
    plugged: Environment, url: str, tmp_path: Path
) -> None:
    code, told = plugged.run(settings_of(url, tmp_path, "invoyces"), "-m", "archiver", "check")
    assert code == 2, told
    assert "there is no source 'invoyces'" in told
    assert "known: invoices, task_html, or the path of a .sql file" in told
