"""Worlds for the contract suites on a server that speaks S3, and hands around our stores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from archiver.model import Capabilities, ColdKey, HotLocation, Secret
from archiver.stores.cold_boto3 import Boto3ColdStore
from archiver.stores.cold_s3 import S3ColdStore
from archiver.stores.hot_s3 import S3HotStore
from archiver.stores.providers import PROVIDERS
from archiver.stores.s3 import S3Settings
from archiver.stores.s3_questions import open_client

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

AnyColdStore = S3ColdStore | Boto3ColdStore

BUCKET = "cold-bucket"
PREFIX = "app/"
ENFORCES_ALL = Capabilities(
    enforces_signed_digest=True,
    enforces_create=True,
    returns_digest=True,
    etag_is_md5=True,
    enforces_signed_parts=True,
    keeps_refused_parts=True,
)
ENFORCES_CREATE = Capabilities(
    enforces_signed_digest=False, enforces_create=True, returns_digest=False
)
ENFORCES_NOTHING = Capabilities(
    enforces_signed_digest=False, enforces_create=False, returns_digest=False
)


def settings_of(
    endpoint: str, access_key_id: str = "key-id", secret: str = "secret-key"
) -> S3Settings:
    return S3Settings(
        endpoint=endpoint,
        region="us-east-1",
        access_key_id=access_key_id,
        secret_access_key=Secret(secret),
        allow_http=True,
        timeout_seconds=30,
    )


@dataclass
class S3HotWorld:
    """`client` is the application that fills the bucket."""

    store: S3HotStore
    client: S3Client

    def plant(
        self, location: HotLocation, body: bytes, content_type: str = "text/html"
    ) -> None:
        self.client.put_object(
            Bucket=location.bucket, Key=location.path, Body=body, ContentType=content_type
        )

    def peek(self, location: HotLocation) -> bytes | None:
        return peek(self.client, location.bucket, location.path)


@dataclass
class S3ColdWorld:
    store: AnyColdStore
    client: S3Client

    def peek(self, key: ColdKey) -> bytes | None:
        return peek(self.client, BUCKET, key)

    def damage(self, key: ColdKey, body: bytes) -> None:
        self.client.put_object(Bucket=BUCKET, Key=key, Body=body)


def hot_world(settings: S3Settings, bucket: str) -> S3HotWorld:
    client = open_client(settings)
    empty(client, bucket)
    return S3HotWorld(S3HotStore(settings), client)


def cold_world(
    settings: S3Settings,
    capabilities: Capabilities,
    kind: type[AnyColdStore] = S3ColdStore,
) -> S3ColdWorld:
    client = open_client(settings)
    empty(client, BUCKET)
    store = kind(settings, PROVIDERS["minio"], BUCKET, PREFIX, capabilities)
    return S3ColdWorld(store, client)


def empty(client: S3Client, bucket: str) -> None:
    """The bucket is there, and nothing is in it or on its way there."""
    try:
        client.create_bucket(Bucket=bucket)
    except ClientError as exc:
        if exc.response["Error"]["Code"] not in {
            "BucketAlreadyExists",
            "BucketAlreadyOwnedByYou",
        }:
            raise
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        keys = [{"Key": item["Key"]} for item in page.get("Contents", ())]
        if keys:
            client.delete_objects(Bucket=bucket, Delete={"Objects": keys})  # type: ignore[typeddict-item]
    for under_way in client.list_multipart_uploads(Bucket=bucket).get("Uploads", ()):
        client.abort_multipart_upload(
            Bucket=bucket, Key=under_way["Key"], UploadId=under_way["UploadId"]
        )


def peek(client: S3Client, bucket: str, key: str) -> bytes | None:
    try:
        return client.get_object(Bucket=bucket, Key=key)["Body"].read()
    except ClientError as exc:
        if exc.response["Error"]["Code"] == "NoSuchKey":
            return None
        raise
