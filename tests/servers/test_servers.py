"""The servers of the harness are what the other tests in this folder believe they are."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import psycopg
import pytest
from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from tests.harness.pgbouncer import Pooler
    from tests.harness.versitygw import S3Server

EMPTY_SHA256 = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="  # of no bytes


def test_the_s3_server_refuses_bytes_that_do_not_match_their_digest(
    s3_server: S3Server, s3_bucket: str
) -> None:
    with contextlib.closing(s3_server.client()) as client:
        with pytest.raises(ClientError, match="BadDigest"):
            client.put_object(
                Bucket=s3_bucket, Key="k", Body=b"bytes", ChecksumSHA256=EMPTY_SHA256
            )

        assert client.list_objects_v2(Bucket=s3_bucket)["KeyCount"] == 0


def test_the_s3_server_refuses_a_second_create(s3_server: S3Server, s3_bucket: str) -> None:
    with contextlib.closing(s3_server.client()) as client:
        client.put_object(Bucket=s3_bucket, Key="k", Body=b"first", IfNoneMatch="*")
        with pytest.raises(ClientError, match="PreconditionFailed"):
            client.put_object(Bucket=s3_bucket, Key="k", Body=b"second", IfNoneMatch="*")

        assert client.get_object(Bucket=s3_bucket, Key="k")["Body"].read() == b"first"


def test_buckets_are_fresh(s3_server: S3Server, s3_bucket: str) -> None:
    assert s3_server.new_bucket() != s3_bucket


def test_the_pooler_shares_two_connections_between_all_clients(
    pooler: Pooler, postgres_url: str
) -> None:
    with contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(psycopg.connect(pooler.url(postgres_url), autocommit=True))
            for _ in range(5)
        ]
        backends = {
            client.execute("select pg_backend_pid()", prepare=False).fetchone()
            for client in clients
        }

    assert len(backends) <= 2


def test_clients_of_the_pooler_meet_on_one_session(pooler: Pooler, postgres_url: str) -> None:
    """What leans on a session is caught: a lock of the session outlives its client."""
    url = pooler.url(postgres_url)
    with psycopg.connect(url, autocommit=True) as client:
        client.execute("select pg_advisory_lock(1)")

    with psycopg.connect(postgres_url) as direct:
        locks = direct.execute("select 1 from pg_locks where locktype = 'advisory'").fetchall()
    assert locks == [(1,)]
