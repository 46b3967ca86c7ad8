"""Large objects behind rows, a real S3 store on each side; what lies where is hashed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.harness import command
from tests.harness.spent import archiver_measured

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    from tests.harness.command import Ran
    from tests.harness.hover import Hover, Page
    from tests.harness.sides import S3Side
    from tests.harness.spent import Spent

MIB = 1 << 20
_PIECE_BYTES = 16 * MIB
_SIXTEEN_MIB = bytes(range(256)) * (_PIECE_BYTES // 256)


@dataclass
class LargeWorld:
    """Rows whose objects are large, an S3 store on each side."""

    url: str
    hover: Hover
    hot: S3Side
    cold: S3Side
    digests: dict[str, str] = field(default_factory=dict)  # by task id
    sizes: dict[str, int] = field(default_factory=dict)

    def plant(self, size_bytes: int, *, is_promised: bool = True) -> Page:
        """A due row with an object of that size; no two objects are alike."""
        job = self.hover.job(self.hover.domain())
        page = self.hover.page(job, html_storage_bucket=self.hot.bucket)
        sha256 = hashlib.sha256()
        self._put(page.path, size_bytes, page.task_id, sha256)
        self.hover.update(
            "tasks",
            page.task_id,
            html_content_encoding=None,
            html_content_type="application/octet-stream",
            html_size_bytes=None,
            html_compressed_size_bytes=size_bytes if is_promised else None,
            html_sha256=sha256.hexdigest() if is_promised else None,
        )
        self.digests[page.task_id] = sha256.hexdigest()
        self.sizes[page.task_id] = size_bytes
        return page

    @property
    def settings(self) -> dict[str, str]:
        return {
            **self.hot.hot_settings,
            **self.cold.cold_settings,
            "ARCHIVE_DATABASE_URL": self.url,
            "ARCHIVE_RELEASE_GRACE": "0s",
            "ARCHIVE_RETENTION_JOBS": "0",
        }

    def once(self, **settings: str) -> Ran:
        return command.archiver(self.settings | settings, "--once", "--json")

    def start_once(self, **settings: str) -> subprocess.Popen[str]:
        return command.start(self.settings | settings, "--once", "--json")

    def once_measured(self, **settings: str) -> tuple[Ran, Spent]:
        return archiver_measured(self.settings | settings, "--once", "--json")

    def assert_done(self) -> None:
        """Each object is cold and whole, its hot copy is gone, nothing is left open."""
        rows = self.hover.connection.execute(
            "select id, html_archive_key, html_storage_path from tasks"
        ).fetchall()
        assert {id_: path for id_, _, path in rows} == dict.fromkeys(self.digests)
        for id_, key, _ in rows:
            assert self._digest(key) == self.digests[id_]
        assert self.hot.names() == set()
        assert self.open_uploads() == []
        for table in ("claim", "release", "upload", "upload_part"):
            left = self.hover.connection.execute(f"select * from archiver.{table}".encode())
            assert left.fetchall() == []

    def open_uploads(self) -> list[str]:
        """Keys of uploads that the cold store keeps parts of."""
        told = self.cold.client.list_multipart_uploads(Bucket=self.cold.bucket)
        return [upload["Key"] for upload in told.get("Uploads", ())]

    def parts_sent(self) -> int:
        """Part uploads that the cold store answered well, by its own log."""
        return sum(
            it.operation == "s3_UploadPart" and it.status == 200
            for it in self.cold.server.requests(self.cold.bucket)
        )

    def _put(self, path: str, size_bytes: int, name: str, sha256: hashlib._Hash) -> None:
        client, bucket = self.hot.client, self.hot.bucket
        if size_bytes <= _PIECE_BYTES:
            body = b"".join(_pieces(size_bytes, name))
            sha256.update(body)
            client.put_object(Bucket=bucket, Key=path, Body=body)
            return
        begun = client.create_multipart_upload(Bucket=bucket, Key=path)["UploadId"]
        parts = []
        for number, piece in enumerate(_pieces(size_bytes, name), start=1):
            sha256.update(piece)
            put = client.upload_part(
                Bucket=bucket, Key=path, UploadId=begun, PartNumber=number, Body=piece
            )
            parts.append({"PartNumber": number, "ETag": put["ETag"]})
        client.complete_multipart_upload(
            Bucket=bucket,
            Key=path,
            UploadId=begun,
            MultipartUpload={"Parts": parts},  # type: ignore[typeddict-item]
        )

    def _digest(self, key: str) -> str:
        body = self.cold.client.get_object(Bucket=self.cold.bucket, Key=key)["Body"]
        sha256 = hashlib.sha256()
        for piece in body.iter_chunks(4 * MIB):
            sha256.update(piece)
        return sha256.hexdigest()


def _pieces(size_bytes: int, name: str) -> Iterator[bytes]:
    """Bytes of no two pieces and no two names are equal."""
    for start in range(0, size_bytes, _PIECE_BYTES):
        head = f"{name} {start}\n".encode()
        yield (head + _SIXTEEN_MIB)[: min(_PIECE_BYTES, size_bytes - start)]
