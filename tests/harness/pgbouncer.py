"""Debian's pgbouncer in transaction mode before the tests' Postgres, as Supabase has one."""

from __future__ import annotations

import os
import pwd
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from archiver.demo.postgres import SUPERUSER, UNPRIVILEGED, EmbeddedPostgres
from tests.harness.server_process import ServerProcess, free_port, program

if TYPE_CHECKING:
    from collections.abc import Iterator

# Two server connections for everybody: clients do meet on them, so whatever leans on a
# session (SET, LISTEN, session locks, named prepared statements) shows itself.
_SETTINGS = """
[databases]
* = host=127.0.0.1 port={postgres_port}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = plain
auth_file = {folder}/users
pool_mode = transaction
default_pool_size = 2
max_client_conn = 200
log_connections = 0
log_disconnections = 0
"""


class Pooler:
    """Gives the way through pgbouncer to any database of the server behind it."""

    def __init__(self, port: int) -> None:
        self.port = port

    def url(self, direct_url: str) -> str:
        """The same database and user as a direct URL, through the pooler."""
        direct = urlsplit(direct_url)
        assert direct.port is not None
        user_at_host = direct.netloc.removesuffix(str(direct.port))
        return direct._replace(netloc=f"{user_at_host}{self.port}").geturl()


@pytest.fixture(scope="session")
def pooler(postgres: EmbeddedPostgres) -> Iterator[Pooler]:
    """One pgbouncer per test process; only the superuser can log in."""
    binary = program("pgbouncer", Path("/usr/sbin"))
    folder = Path(tempfile.mkdtemp(prefix="archiver-pgbouncer-"))
    try:
        port = free_port()
        settings = folder / "pgbouncer.ini"
        settings.write_text(
            _SETTINGS.format(port=port, postgres_port=postgres.port, folder=folder)
        )
        (folder / "users").write_text(f'"{SUPERUSER}" "{postgres.password}"\n')
        command = [binary, settings]
        with ServerProcess(command, port=port, folder=folder, user=_user(folder)):
            yield Pooler(port)
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def pooled_url(pooler: Pooler, postgres_url: str) -> str:
    """The database of `postgres_url`, through the pooler."""
    return pooler.url(postgres_url)


def _user(folder: Path) -> str | None:
    """Who runs pgbouncer, which refuses to run as root; the folder is made readable."""
    if os.geteuid() != 0:
        return None
    owner = pwd.getpwnam(UNPRIVILEGED)
    os.chown(folder, owner.pw_uid, owner.pw_gid)
    return UNPRIVILEGED
