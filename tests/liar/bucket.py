"""S3 as it should be: buckets in memory that check what they are sent. No lies, no HTTP.

Everything the probe, the engine and both S3 clients ask for. Signatures are not verified:
a request must bear one, and its body must be what it signed.
"""

from __future__ import annotations

import base64
import hashlib
import re
import threading
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import TYPE_CHECKING
from urllib.parse import quote
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

from tests.liar.uploads import Uploads
from tests.liar.wire import Reply, error, xml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tests.liar.wire import Asked

_KEPT = {"cache-control", "content-disposition", "content-encoding", "content-language"}
_UNSIGNED = "UNSIGNED-PAYLOAD"
_PAGE_KEYS = 1_000
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


@dataclass(frozen=True, slots=True)
class Held:
    """One object: its bytes, and what is told of them. An honest store tells the truth."""

    body: bytes = field(repr=False)
    size_bytes: int
    etag: str
    sha256: str  # base64
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    modified_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    is_readable: bool = True  # else HEAD and LIST tell of it, and a GET says it is not there

    @classmethod
    def of(cls, body: bytes, headers: Mapping[str, str]) -> Held:
        etag = hashlib.md5(body, usedforsecurity=False).hexdigest()
        sha256 = base64.b64encode(hashlib.sha256(body).digest()).decode()
        return cls(body, len(body), f'"{etag}"', sha256, headers)

    def damaged(self, damage: Callable[[bytes], bytes]) -> Held:
        """Other bytes, and the truth about them."""
        return Held.of(damage(self.body), self.headers)

    def rotten(self, damage: Callable[[bytes], bytes]) -> Held:
        """Other bytes, and all that was told of the right ones: only a read shows it."""
        return replace(self, body=damage(self.body))


class Buckets:
    """One account. One lock guards the objects."""

    def __init__(self) -> None:
        self.uploads = Uploads()
        self._buckets: dict[str, dict[str, Held]] = {}
        self._lock = threading.Lock()

    # --- the hands of a test --------------------------------------------------------------

    def make(self, *buckets: str) -> None:
        with self._lock:
            for bucket in buckets:
                self._buckets.setdefault(bucket, {})

    def put(self, bucket: str, key: str, held: Held) -> None:
        with self._lock:
            self._buckets[bucket][key] = held

    def held(self, bucket: str, key: str) -> Held | None:
        with self._lock:
            return self._buckets.get(bucket, {}).get(key)

    def remove(self, bucket: str, key: str) -> None:
        with self._lock:
            self._buckets.get(bucket, {}).pop(key, None)

    def change(self, bucket: str, key: str, change: Callable[[Held], Held]) -> None:
        """Behind everybody's back."""
        with self._lock:
            self._buckets[bucket][key] = change(self._buckets[bucket][key])

    def empty(self) -> None:
        self.uploads.empty()
        with self._lock:
            for objects in self._buckets.values():
                objects.clear()

    def objects(self, bucket: str) -> dict[str, Held]:
        with self._lock:
            return dict(self._buckets.get(bucket, {}))

    # --- requests -------------------------------------------------------------------------

    def answer(self, asked: Asked, keep: Callable[[Held], Held | None]) -> Reply:
        """What S3 answers. `keep` is what comes to lie there of what is put; None: nothing."""
        if "authorization" not in asked.headers and "X-Amz-Signature" not in asked.query:
            return error(403, "AccessDenied")
        if asked.operation == "CreateBucket":
            return self._create_bucket(asked)
        with self._lock:
            if asked.bucket not in self._buckets:
                return error(404, "NoSuchBucket")
        match asked.operation:
            case "HeadBucket":
                return Reply()
            case "GetBucketLocation":
                return xml("<LocationConstraint>us-east-1</LocationConstraint>")
            case "ListObjectsV2":
                return self._list(asked)
            case "DeleteObjects":
                return self._delete_many(asked)
            case "PutObject":
                return self._put(asked, keep)
            case "GetObject" | "HeadObject":
                return self._get(asked)
            case "DeleteObject":
                self.remove(asked.bucket, asked.key)
                return Reply(204)
            case "CreateMultipartUpload":
                return self.uploads.begin(asked, _headers_of(asked))
            case "UploadPart":
                return refusal_of_body(asked) or self.uploads.put_part(
                    asked, Held.of(asked.body, {}), keep
                )
            case "ListParts":
                return self.uploads.list_parts(asked)
            case "ListMultipartUploads":
                return self.uploads.list_uploads(asked)
            case "CompleteMultipartUpload":
                return self.uploads.complete(asked, lambda it: self._appear(asked, it, keep))
            case "AbortMultipartUpload":
                return self.uploads.abort(asked)
            case _:
                return error(501, "NotImplemented")

    def _create_bucket(self, asked: Asked) -> Reply:
        with self._lock:
            if asked.bucket in self._buckets:
                return error(409, "BucketAlreadyOwnedByYou")
            self._buckets[asked.bucket] = {}
        return Reply()

    def _put(self, asked: Asked, keep: Callable[[Held], Held | None]) -> Reply:
        refusal = refusal_of_body(asked)
        if refusal is not None:
            return refusal
        whole = Held.of(asked.body, _headers_of(asked))
        told = [whole.etag]

        def tell_of(held: Held) -> Held | None:
            kept = keep(held)
            told.append(held.etag if kept is None else kept.etag)
            return kept

        if not self._appear(asked, whole, tell_of):
            return error(412, "PreconditionFailed")
        return Reply(headers={"ETag": told[-1]})

    def _appear(self, asked: Asked, held: Held, keep: Callable[[Held], Held | None]) -> bool:
        """Whether an object was made; else its key is taken."""
        kept = keep(held)
        with self._lock:
            objects = self._buckets[asked.bucket]
            if asked.headers.get("if-none-match") == "*" and asked.key in objects:
                return False
            if kept is not None:
                objects[asked.key] = kept
        return True

    def _get(self, asked: Asked) -> Reply:
        held = self.held(asked.bucket, asked.key)
        if held is None or not (held.is_readable or asked.operation == "HeadObject"):
            return error(404, "NoSuchKey")
        if asked.headers.get("if-match", held.etag) not in {held.etag, "*"}:
            return error(412, "PreconditionFailed")
        told = {
            "Accept-Ranges": "bytes",
            "ETag": held.etag,
            "Last-Modified": format_datetime(held.modified_at, usegmt=True),
            **held.headers,
        }
        if asked.headers.get("x-amz-checksum-mode") == "ENABLED":
            told["x-amz-checksum-sha256"] = held.sha256
        if asked.operation == "HeadObject":
            return Reply(200, told, b"", length=str(held.size_bytes))
        wanted = _RANGE.fullmatch(asked.headers.get("range", ""))
        if wanted is None:
            return Reply(200, told, held.body)
        start = int(wanted[1])
        if start >= len(held.body):
            return error(416, "InvalidRange")
        end = min(int(wanted[2] or len(held.body)), len(held.body) - 1)
        told["Content-Range"] = f"bytes {start}-{end}/{len(held.body)}"
        return Reply(206, told, held.body[start : end + 1])

    def _list(self, asked: Asked) -> Reply:
        query = asked.query
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        after = query.get("continuation-token") or query.get("start-after", "")
        most = min(int(query.get("max-keys", _PAGE_KEYS)), _PAGE_KEYS)
        named = self._entries(asked.bucket, prefix, delimiter)
        entries = [it for it in named if it[0].encode() > after.encode()]
        page, is_cut = entries[:most], len(entries) > most
        write = quote if query.get("encoding-type") == "url" else escape
        told = [f"<Name>{asked.bucket}</Name><Prefix>{write(prefix)}</Prefix>"]
        told.append(f"<KeyCount>{len(page)}</KeyCount><MaxKeys>{most}</MaxKeys>")
        if "encoding-type" in query:
            told.append("<EncodingType>url</EncodingType>")
        told.append(f"<IsTruncated>{str(is_cut).lower()}</IsTruncated>")
        if is_cut:
            token = escape(page[-1][0])
            told.append(f"<NextContinuationToken>{token}</NextContinuationToken>")
        for name, held in page:
            if held is None:
                told.append(f"<CommonPrefixes><Prefix>{write(name)}</Prefix></CommonPrefixes>")
            else:
                told.append(_entry(write(name), held))
        return xml(f"<ListBucketResult>{''.join(told)}</ListBucketResult>")

    def _entries(
        self, bucket: str, prefix: str, delimiter: str
    ) -> Iterator[tuple[str, Held | None]]:
        """Keys below a prefix in order; None stands for a common prefix."""
        told: set[str] = set()
        for key, held in sorted(self.objects(bucket).items(), key=lambda it: it[0].encode()):
            if not key.startswith(prefix):
                continue
            head, found, _ = key[len(prefix) :].partition(delimiter or "\0")
            if not (delimiter and found):
                yield key, held
            elif (shared := prefix + head + delimiter) not in told:
                told.add(shared)
                yield shared, None

    def _delete_many(self, asked: Asked) -> Reply:
        refusal = refusal_of_body(asked)
        if refusal is not None:
            return refusal
        wanted = ET.fromstring(asked.body)  # noqa: S314  # our own clients wrote it
        keys = [it.text or "" for it in wanted.iter() if it.tag.rpartition("}")[2] == "Key"]
        for key in keys:
            self.remove(asked.bucket, key)
        told = "".join(f"<Deleted><Key>{escape(key)}</Key></Deleted>" for key in keys)
        return xml(f"<DeleteResult>{told}</DeleteResult>")


def _headers_of(asked: Asked) -> dict[str, str]:
    """What is told of an object besides its bytes."""
    told = {
        name: said
        for name, said in asked.headers.items()
        if name in _KEPT or name.startswith("x-amz-meta-")
    }
    kind = asked.headers.get("content-type", "binary/octet-stream")
    return {**told, "content-type": kind}


def refusal_of_body(asked: Asked) -> Reply | None:
    """The refusal of a body that is not what its headers say; None: it is."""
    digest = hashlib.sha256(asked.body)
    signed = asked.headers.get("x-amz-content-sha256", _UNSIGNED)
    if signed not in {_UNSIGNED, digest.hexdigest()}:
        return error(400, "XAmzContentSHA256Mismatch")
    said = asked.headers.get("x-amz-checksum-sha256")
    if said is not None and said != base64.b64encode(digest.digest()).decode():
        return error(400, "BadDigest")
    md5 = hashlib.md5(asked.body, usedforsecurity=False).digest()
    if asked.headers.get("content-md5") not in {None, base64.b64encode(md5).decode()}:
        return error(400, "BadDigest")
    return None


def _entry(name: str, held: Held) -> str:
    at = held.modified_at.strftime("%Y-%m-%dT%H:%M:%S.000Z")
    return (
        f"<Contents><Key>{name}</Key><LastModified>{at}</LastModified>"
        f"<ETag>{escape(held.etag)}</ETag><Size>{held.size_bytes}</Size>"
        "<StorageClass>STANDARD</StorageClass></Contents>"
    )
