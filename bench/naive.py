"""The same job as most people write it: a boto3 pool, and a row at a time.

    python -m bench.naive settings.json

For each row: GET, PUT, HEAD, UPDATE, DELETE. It checks the size alone, and a crash in the
middle is somebody's weekend.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import psycopg
from botocore.config import Config
from psycopg_pool import ConnectionPool

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_DUE = """
    select task.id, task.html_storage_path
    from tasks as task
    join (
        select id, row_number() over (partition by domain_id order by completed_at desc)
        from jobs where status = 'completed'
    ) as job (id, place) on job.id = task.job_id
    where job.place > 3 and task.html_storage_path is not null
    order by task.id
"""
_FLIP = """
    update tasks set html_archive_provider = 'other', html_archive_bucket = %s,
        html_archive_key = %s, html_archived_at = now(),
        html_storage_bucket = null, html_storage_path = null
    where id = %s
"""


def main() -> None:
    settings: dict[str, str] = json.loads(Path(sys.argv[1]).read_text())
    threads_count = int(settings["ARCHIVE_CONCURRENCY"])
    hot, hot_bucket = _client(settings, "ARCHIVE_HOT_", threads_count), _hot_bucket(settings)
    cold, cold_bucket = _client(settings, "ARCHIVE_", threads_count), settings["ARCHIVE_BUCKET"]
    database_url = settings["ARCHIVE_DATABASE_URL"]
    with psycopg.connect(database_url) as connection:
        due = connection.execute(_DUE).fetchall()

    def move(row: tuple[Any, ...]) -> None:
        task_id, path = row
        found = hot.get_object(Bucket=hot_bucket, Key=path)
        body = found["Body"].read()
        cold.put_object(
            Bucket=cold_bucket, Key=path, Body=body, ContentType=found["ContentType"]
        )
        if cold.head_object(Bucket=cold_bucket, Key=path)["ContentLength"] != len(body):
            raise ValueError(path)  # it arrived with another size
        with connections.connection() as connection:
            connection.execute(_FLIP, [cold_bucket, path, task_id])
        hot.delete_object(Bucket=hot_bucket, Key=path)

    with (
        ConnectionPool(database_url, min_size=threads_count) as connections,
        ThreadPoolExecutor(threads_count) as pool,
    ):
        for _ in pool.map(move, due):
            pass
    print(json.dumps({"archived": len(due)}))  # for whoever measures it


def _client(settings: dict[str, str], prefix: str, threads_count: int) -> S3Client:
    return boto3.client(
        "s3",
        endpoint_url=settings[f"{prefix}ENDPOINT"],
        region_name=settings[f"{prefix}REGION"],
        aws_access_key_id=settings[f"{prefix}ACCESS_KEY_ID"],
        aws_secret_access_key=settings[f"{prefix}SECRET_ACCESS_KEY"],
        config=Config(max_pool_connections=threads_count, s3={"addressing_style": "path"}),
    )


def _hot_bucket(settings: dict[str, str]) -> str:
    return settings["ARCHIVE_HOT"].removeprefix("s3://")


if __name__ == "__main__":
    main()
