"""S3 servers of our own, each a process on loopback with one bucket, gone when closed."""

from __future__ import annotations

import secrets
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from archiver.model import Secret
from archiver.stores.s3 import S3Settings
from archiver.stores.s3_questions import open_client

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_SCRIPT = Path(__file__).with_name("serve_s3.py")
_REGION = "us-east-1"
_STOP_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Stored:
    """One object, as a listing tells it. Equal ETags: the same bytes."""

    size_bytes: int
    etag: str


class S3Server:
    """One bucket on a server of its own; what we do there, the application would do."""

    def __init__(self, bucket: str, folder: Path) -> None:
        """Start it; `open` waits until it serves. `close` comes last, whatever happens."""
        self.bucket = bucket
        self.access_key_id = f"demo-{secrets.token_hex(4)}"
        self.secret_access_key = secrets.token_hex(20)
        self._folder = folder
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(_SCRIPT)],
                cwd=folder,
                env={"TMPDIR": str(folder)},  # nothing else: no setting of AWS' or moto's
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for us; it ends when we close it
                text=True,
            )

    def open(self) -> None:
        """Returns when the bucket is there."""
        self.client.create_bucket(Bucket=self.bucket)

    @cached_property
    def port(self) -> int:
        assert self._process.stdout is not None  # noqa: S101  # it is a pipe
        line = self._process.stdout.readline()
        if not line:
            message = f"the S3 server did not start:\n{self._log.read_text()}"
            raise RuntimeError(message)
        return int(line)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @cached_property
    def client(self) -> S3Client:
        return open_client(
            S3Settings(
                endpoint=self.endpoint,
                region=_REGION,
                access_key_id=self.access_key_id,
                secret_access_key=Secret(self.secret_access_key),
            )
        )

    def put(self, key: str, body: bytes) -> None:
        self.client.put_object(
            Bucket=self.bucket,
            Key=key,
            Body=body,
            ContentType="text/html; charset=utf-8",
            ContentEncoding="gzip",
        )

    def read(self, key: str) -> bytes:
        return self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()

    def delete(self, key: str) -> None:
        self.client.delete_object(Bucket=self.bucket, Key=key)

    def objects(self) -> dict[str, Stored]:
        """All that lies in the bucket, by key."""
        listing = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        return {
            found["Key"]: Stored(found["Size"], found["ETag"])
            for page in listing
            for found in page.get("Contents", ())
        }

    def close(self) -> None:
        """Returns when the server is gone; its objects were in memory alone."""
        self._process.terminate()
        try:
            self._process.communicate(timeout=_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
        if "client" in self.__dict__:
            self.client.close()

    @property
    def _log(self) -> Path:
        return self._folder / f"{self.bucket}.log"
