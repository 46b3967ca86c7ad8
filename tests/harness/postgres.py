"""Postgres for tests: one server per test process, a fresh database per test."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import psycopg
import pytest

from archiver.demo.postgres import EmbeddedPostgres

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Databases:
    """Hands out fresh databases of one server, empty or like a template."""

    def __init__(self, server: EmbeddedPostgres) -> None:
        self.server = server
        self._numbers = itertools.count(1)
        self._templates: set[str] = set()
        self._handed_out: list[str] = []

    def empty(self) -> str:
        """The URL of a new, empty database."""
        return self._new(template="template1")

    def like(self, template: str, fill: Callable[[str], None]) -> str:
        """The URL of a new copy of a template.

        `fill` makes the template: it gets a URL, once per server and template name, and
        leaves no connection open.
        """
        if template not in self._templates:
            fill(self.server.create_database(template))
            self._templates.add(template)
        url = self._new(template=template)
        _make_home(url)
        return url

    def drop_all(self) -> None:
        while self._handed_out:
            self.drop_newest()

    def drop_newest(self) -> None:
        """Before the test is over: for one that asks for many."""
        self.server.drop_database(self._handed_out.pop())

    def _new(self, *, template: str) -> str:
        name = f"test_{next(self._numbers)}"
        url = self.server.create_database(name, template=template)
        self._handed_out.append(name)
        return url


def _make_home(url: str) -> None:
    """A ledger notices that it was copied; this one is to take itself for the original."""
    with psycopg.connect(url, autocommit=True) as connection:
        found = connection.execute("select to_regclass('archiver.fleet')").fetchone()
        if found != (None,):
            connection.execute("update archiver.fleet set database_name = current_database()")


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """The server of this test process. Do not stop it: `postgres_server` is for that."""
    with EmbeddedPostgres() as server:
        yield server


@pytest.fixture(scope="session")
def _databases(postgres: EmbeddedPostgres) -> Databases:
    return Databases(postgres)


@pytest.fixture
def databases(_databases: Databases) -> Iterator[Databases]:
    """Fresh databases for this test, dropped after it whoever is still connected."""
    yield _databases
    _databases.drop_all()


@pytest.fixture
def postgres_url(databases: Databases) -> str:
    """A fresh, empty database for this test."""
    return databases.empty()


@pytest.fixture
def postgres_server() -> Iterator[EmbeddedPostgres]:
    """A running server for this test alone: `stop("immediate")` it, `start()` it again."""
    with EmbeddedPostgres() as server:
        yield server
