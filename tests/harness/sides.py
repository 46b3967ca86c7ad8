"""Both ends of the main job in tests: real stores, and hands that need none of our code."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from contextlib import contextmanager
from typing import TYPE_CHECKING

import obstore
from botocore.exceptions import ClientError
from obstore.store import S3Store

from tests.harness.hover import BUCKET
from tests.standin.supabase import SERVICE_KEY

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from mypy_boto3_s3 import S3Client

    from archiver.model import HotLocation
    from tests.harness.versitygw import S3Server
    from tests.standin.supabase import SupabaseStandIn

OUR_OWN = ".archiver/"  # keys below it are no objects of the application's


class Side(ABC):
    """One store as the application sees it."""

    bucket: str
    provider = ""  # as the rows call it, of a cold side

    @property
    @abstractmethod
    def hot_settings(self) -> Mapping[str, str]: ...

    @property
    @abstractmethod
    def cold_settings(self) -> Mapping[str, str]: ...

    @abstractmethod
    def plant(self, location: HotLocation, body: bytes) -> None: ...

    def plant_as_old(self, location: HotLocation, body: bytes) -> None:
        """Overwrite an object, keeping its time where a store lets one set it."""
        self.plant(location, body)

    @abstractmethod
    def read(self, name: str) -> bytes | None:
        """The bytes of one object; None: there is no such object."""

    @abstractmethod
    def names(self) -> set[str]:
        """All objects but the few the program keeps for itself."""


class SupabaseSide(Side):
    def __init__(self, standin: SupabaseStandIn) -> None:
        self.bucket = BUCKET
        self.standin = standin
        standin.create_bucket(BUCKET)

    @property
    def hot_settings(self) -> Mapping[str, str]:
        return {"SUPABASE_URL": self.standin.url, "SUPABASE_SERVICE_ROLE_KEY": SERVICE_KEY}

    @property
    def cold_settings(self) -> Mapping[str, str]:
        raise NotImplementedError("Supabase Storage is never a cold store")

    def plant(self, location: HotLocation, body: bytes) -> None:
        self.standin.plant(location.bucket, location.path, body)

    def read(self, name: str) -> bytes | None:
        return self.standin.peek(self.bucket, name)

    def names(self) -> set[str]:
        return set(self.standin.names(self.bucket))


class S3Side(Side):
    """A fresh bucket. Planted by obstore, because that is fast; read by plain boto3."""

    provider = "other"

    def __init__(self, server: S3Server, cold_client: str = "obstore") -> None:
        self.server = server
        self.cold_client = cold_client
        self.bucket = server.new_bucket()
        self.client: S3Client = server.client()
        self._planter = S3Store(
            self.bucket,
            endpoint=server.endpoint,
            region=server.region,
            access_key_id=server.access_key_id,
            secret_access_key=server.secret_access_key,
            virtual_hosted_style_request=False,
            client_options={"allow_http": True},
        )

    @property
    def hot_settings(self) -> Mapping[str, str]:
        return {
            "ARCHIVE_HOT": f"s3://{self.bucket}",
            "ARCHIVE_HOT_ENDPOINT": self.server.endpoint,
            "ARCHIVE_HOT_REGION": self.server.region,
            "ARCHIVE_HOT_ACCESS_KEY_ID": self.server.access_key_id,
            "ARCHIVE_HOT_SECRET_ACCESS_KEY": self.server.secret_access_key,
        }

    @property
    def cold_settings(self) -> Mapping[str, str]:
        return {
            "ARCHIVE_PROVIDER": self.provider,
            "ARCHIVE_BUCKET": self.bucket,
            "ARCHIVE_ENDPOINT": self.server.endpoint,
            "ARCHIVE_REGION": self.server.region,
            "ARCHIVE_ACCESS_KEY_ID": self.server.access_key_id,
            "ARCHIVE_SECRET_ACCESS_KEY": self.server.secret_access_key,
            "ARCHIVE_S3_CLIENT": self.cold_client,
        }

    def plant(self, location: HotLocation, body: bytes) -> None:
        assert location.bucket == self.bucket
        obstore.put(self._planter, location.path, body, use_multipart=False)

    def read(self, name: str) -> bytes | None:
        try:
            return self.client.get_object(Bucket=self.bucket, Key=name)["Body"].read()
        except ClientError as exc:
            if exc.response["Error"]["Code"] == "NoSuchKey":
                return None
            raise

    def names(self) -> set[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        return set(
            _not_ours(item["Key"] for page in pages for item in page.get("Contents", ()))
        )


@contextmanager
def s3_side(server: S3Server, cold_client: str = "obstore") -> Iterator[S3Side]:
    side = S3Side(server, cold_client)
    try:
        yield side
    finally:
        side.client.close()


class FileSide(Side):
    provider = "file"

    def __init__(self, root: Path) -> None:
        self.bucket = "pages"
        self._root = root
        self._bucket = root / self.bucket
        self._bucket.mkdir(parents=True)

    @property
    def hot_settings(self) -> Mapping[str, str]:
        return {"ARCHIVE_HOT": self._root.as_uri()}

    @property
    def cold_settings(self) -> Mapping[str, str]:
        return {
            "ARCHIVE_PROVIDER": self.provider,
            "ARCHIVE_BUCKET": self.bucket,
            "ARCHIVE_ENDPOINT": self._root.as_uri(),
        }

    def plant(self, location: HotLocation, body: bytes) -> None:
        path = self._root / location.bucket / location.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)

    def plant_as_old(self, location: HotLocation, body: bytes) -> None:
        path = self._root / location.bucket / location.path
        status = path.stat() if path.exists() else None
        self.plant(location, body)
        if status is not None:
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    def read(self, name: str) -> bytes | None:
        try:
            return (self._bucket / name).read_bytes()
        except FileNotFoundError:
            return None

    def names(self) -> set[str]:
        files = (path for path in self._bucket.rglob("*") if path.is_file())
        return set(_not_ours(path.relative_to(self._bucket).as_posix() for path in files))


def _not_ours(names: Iterable[str]) -> Iterator[str]:
    return (name for name in names if not name.startswith(OUR_OWN))
