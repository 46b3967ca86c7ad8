"""A real S3 server (versitygw): it checks signatures, digests and conditions as AWS does."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import pytest
from botocore.config import Config

from tests.harness.server_process import ServerProcess, free_port, program

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_s3 import S3Client

    from tests.harness.authority import Authority

_PROJECT = Path(__file__).parents[2]
_MEMORY = Path("/dev/shm")  # noqa: S108 - not a file in it, but the fastest disk there is


@dataclass(frozen=True, slots=True)
class S3Server:
    """How to reach it, and buckets on it."""

    endpoint: str
    region: str = "us-east-1"
    access_key_id: str = "archiver-test"
    secret_access_key: str = "archiver-test-secret"
    access_log: Path = Path(os.devnull)
    bucket_names: str = "bucket"  # how they begin
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def client(self) -> S3Client:
        """Plain boto3, to plant and to look behind the back of what is tested."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=self.region,
            aws_access_key_id=self.access_key_id,
            aws_secret_access_key=self.secret_access_key,
            config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
        )

    def new_bucket(self) -> str:
        """The name of a new, empty bucket."""
        name = f"{self.bucket_names}-{next(self._numbers)}"
        client = self.client()
        try:
            client.create_bucket(Bucket=name)
        finally:
            client.close()
        return name

    def requests(self, *buckets: str) -> list[S3Request]:
        """Everything that was asked of these buckets, in the order of the answers."""
        seen = map(_request, self.access_log.read_text().splitlines())
        return [it for it in seen if it is not None and it.bucket in buckets]


@dataclass(frozen=True, slots=True)
class S3Request:
    """One line of the server's own log."""

    operation: str  # s3_PutObject
    bucket: str
    key: str  # "-" where there is none
    status: int
    client: str  # the User-Agent


def _request(line: str) -> S3Request | None:
    """The fields before the key hold no spaces, and neither do the keys of a sweep."""
    fields = line.split(" ", 17)
    if len(fields) < 18 or not fields[10].isdigit():
        return None  # the log says when it starts; a key with spaces is no sweep's
    return S3Request(fields[7], fields[1], fields[8], int(fields[10]), fields[17])


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """One server per test process."""
    with running_s3_server() as server:
        yield server


@contextmanager
def running_s3_server(authority: Authority | None = None) -> Iterator[S3Server]:
    """A server, its objects in memory where the system allows that; https by an authority."""
    binary = program("versitygw", _PROJECT / ".cache" / "bin", *_go_folders())
    with _folder_with_attributes() as folder:
        objects = folder / "objects"
        objects.mkdir()
        port = free_port()
        log = folder / "access.log"
        scheme = "https" if authority else "http"
        server = S3Server(f"{scheme}://127.0.0.1:{port}", access_log=log)
        command: list[str | Path] = [
            binary,
            f"--access={server.access_key_id}",
            f"--secret={server.secret_access_key}",
            f"--port=127.0.0.1:{port}",
            f"--region={server.region}",
            f"--access-log={log}",
            "--keep-alive",  # as real stores do; its own default is a connection per request
            "--quiet",
            *(
                [f"--cert={authority.certificate}", f"--key={authority.key}"]
                if authority
                else []
            ),
            "posix",
            objects,
        ]
        with ServerProcess(command, port=port, folder=folder):
            yield server


@pytest.fixture
def s3_bucket(s3_server: S3Server) -> str:
    """A fresh, empty bucket for this test."""
    return s3_server.new_bucket()


def _go_folders() -> Iterator[Path]:
    """Where `go install` puts programs."""
    if "GOPATH" in os.environ:
        yield Path(os.environ["GOPATH"], "bin")
    yield Path.home() / "go" / "bin"


@contextmanager
def _folder_with_attributes() -> Iterator[Path]:
    """A temporary folder; the server keeps an object's metadata in extended attributes."""
    parent = _MEMORY if _keeps_attributes(_MEMORY) else None
    folder = Path(tempfile.mkdtemp(prefix="archiver-s3-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def _keeps_attributes(folder: Path) -> bool:
    try:
        with tempfile.NamedTemporaryFile(dir=folder) as probe:
            os.setxattr(probe.name, "user.archiver", b"1")
    except OSError:
        return False
    return True
