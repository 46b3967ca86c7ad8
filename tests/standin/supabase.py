"""A stand-in for Supabase Storage over HTTP, which answers as the real server does.

What it imitates, because it bites: errors are HTTP 400 with the real status in the body; a
missing object, a hidden one and (on the shorter routes) a refused key look alike; a HEAD is
refused without a body; a bulk delete answers 200 with only what it deleted; a bulk delete
and a listing of a missing bucket answer nothing and no error; uploads drop Content-Encoding;
the Last-Modified of a GET is not that of `info`; the time zone of `info` is the database's;
a signed URL comes back unescaped, and holds for the path as `decodeURI` left it; an upload
URL lasts as long as the server says; a copy onto itself with new metadata is what changes a
type; a body that does not come whole is no object.

    python -m tests.standin.supabase --port 0 --root DIR

`--root` keeps the objects as files (`DIR/bucket/name`), else they live in memory.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import hmac
import itertools
import json
import re
import socket
import threading
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qs, quote, unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

SERVICE_KEY = "service-role-key-of-the-stand-in"
PUBLISHABLE_KEY = "publishable-key-of-the-stand-in"

_RANGE = re.compile("bytes=([0-9]+)-([0-9]+)")
_PAGE_LIMIT = 1_000
_VALID_NAME = frozenset(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_/!.*'() &$=@;:+,?-"
)


@dataclass(frozen=True)
class Stored:
    """One row of storage.objects with its bytes, in memory or in a file."""

    name: str
    id: str
    version: str
    etag: str  # with its quotes
    size: int
    content_type: str
    created_at: datetime
    updated_at: datetime
    body: bytes | Path
    cache_control: str = "no-cache"
    user_metadata: dict[str, Any] | None = None

    def read(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else self.body.read_bytes()


@dataclass(kw_only=True)
class Fault:
    """What to do with the next requests of one kind. A kind is a key of `requests`.

    Args:
        times: How often; None is always. One that never fired fails `verify_all_fired`.
        status: Answer with this status and `body` (bytes as they are, else as JSON).
        headers: Of that answer.
        delay_seconds: Wait before going on as usual.
        cut_after_bytes: Promise the whole body, send so much, close the connection.
        reset: Close the connection without an answer; `after_effect`, once it took place.
        hang: Do not answer until the server closes.
        chunked: Send the body without a Content-Length.
        content_encoding: Keep such a header on the answer.
        etag: Say this one (None: as it is).
        ignores_range: Send the whole object, whatever part of it was asked for.
        content_range: Say this one (None: as it is).
        run: Called before anything else.
    """

    kind: str
    name: str | None = None  # of an object; None: of any
    times: int | None = 1
    status: int | None = None
    body: object = b""
    headers: dict[str, str] = field(default_factory=dict)
    delay_seconds: float = 0
    cut_after_bytes: int | None = None
    reset: bool = False
    after_effect: bool = False
    hang: bool = False
    chunked: bool = False
    content_encoding: str | None = None
    etag: str | None = None
    ignores_range: bool = False
    content_range: str | None = None
    run: Callable[[], object] | None = None
    fired_count: int = 0


@dataclass(frozen=True)
class Refusal(Exception):  # what the server says, not what went wrong here
    """An error as the server renders it."""

    status: int
    code: str
    error: str
    message: str
    http_status: int = 400

    def render(self, *, with_code: bool) -> dict[str, str]:
        told = {"statusCode": str(self.status), "error": self.error, "message": self.message}
        return {**told, "code": self.code} if with_code else told


NO_OBJECT = Refusal(404, "NoSuchKey", "not_found", "Object not found")
NO_BUCKET = Refusal(404, "NoSuchBucket", "Bucket not found", "Bucket not found")
DENIED = Refusal(403, "AccessDenied", "Unauthorized", "new row violates row-level security")
BAD_TOKEN = Refusal(403, "AccessDenied", "Unauthorized", "Invalid Compact JWS")
DUPLICATE = Refusal(409, "KeyAlreadyExists", "Duplicate", "The resource already exists")
TOO_LARGE = Refusal(
    413, "EntityTooLarge", "Payload too large", "The object exceeded the maximum allowed size"
)
TOO_MANY = Refusal(400, "InvalidRequest", "InvalidRequest", "limited to 1000 objects")


class SupabaseStandIn:
    """The server and its objects. One lock guards both; bodies are sent outside of it."""

    def __init__(self, root: Path | None = None, port: int = 0) -> None:
        self.service_key = SERVICE_KEY
        self.publishable_key = PUBLISHABLE_KEY
        self.requests: Counter[str] = Counter()  # by kind: get head info list_v2 delete ...
        self.sends_codes = True  # False: as servers before `code`
        self.has_list_v2 = True
        self.has_strict_names = False  # True: only the ASCII names of the real server
        self.upload_url_seconds = 7_200  # the hosted service's
        self.size_limit_bytes: int | None = None  # of an upload
        self.hidden: set[tuple[str, str]] = set()  # a policy: not selected, not deleted
        self.undeletable: set[tuple[str, str]] = set()  # a policy: seen, but not deleted
        self._root = root
        self._buckets: dict[str, dict[str, Stored]] = {}
        self._faults: list[Fault] = []
        self._numbers = itertools.count(1)
        self.served_bytes = 0  # of objects; under the lock
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._server = _Server(("127.0.0.1", port), _handler(self))
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            kwargs={"poll_interval": 0.05},
            name="supabase-stand-in",
            daemon=True,
        )

    @property
    def url(self) -> str:
        """The project's URL; /storage/v1 is below it."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def start(self) -> Self:
        self._thread.start()
        return self

    def close(self) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.close_connections()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- faults -------------------------------------------------------------------------

    def on(self, kind: str, name: str | None = None, **what: Any) -> Fault:
        """Declare a fault; the fields are those of `Fault`."""
        fault = Fault(kind=kind, name=name, **what)
        with self._lock:
            self._faults.append(fault)
        return fault

    def verify_all_fired(self) -> None:
        with self._lock:
            idle = [f for f in self._faults if f.fired_count < (f.times or 1)]
        assert not idle, f"declared faults that did not fire: {idle}"

    def take_fault(self, kind: str, name: str | None) -> Fault | None:
        with self._lock:
            self.requests[kind] += 1
            for fault in self._faults:
                is_spent = fault.times is not None and fault.fired_count >= fault.times
                if not is_spent and fault.kind in {kind, "any"} and fault.name in {None, name}:
                    fault.fired_count += 1
                    return fault
        return None

    def token(self, **claims: object) -> str:
        """The right to do one thing with one object until `exp`: a JWT."""
        header, told = (
            base64.urlsafe_b64encode(json.dumps(it).encode()).decode().rstrip("=")
            for it in ({"alg": "HS256", "typ": "JWT"}, claims)
        )
        signed = f"{header}.{told}".encode()
        digest = hmac.new(self.service_key.encode(), signed, "sha256").digest()
        return f"{header}.{told}.{base64.urlsafe_b64encode(digest).decode().rstrip('=')}"

    def wait_for_close(self) -> None:
        self._closing.wait()

    # --- the hands of the application -----------------------------------------------------

    def create_bucket(self, bucket: str) -> None:
        with self._lock:
            self._buckets.setdefault(bucket, {})

    def plant(
        self, bucket: str, name: str, body: bytes, content_type: str = "text/html"
    ) -> Stored:
        """Put an object there, over what was there; the bucket is made where it is not."""
        with self._lock:
            rows = self._buckets.setdefault(bucket, {})
            rows[name] = self._row(bucket, name, body, content_type, rows.get(name))
            return rows[name]

    def peek(self, bucket: str, name: str) -> bytes | None:
        with self._lock:
            row = self._buckets.get(bucket, {}).get(name)
        return None if row is None else row.read()

    def names(self, bucket: str) -> list[str]:
        with self._lock:
            return sorted(self._buckets.get(bucket, {}))

    def _row(
        self, bucket: str, name: str, body: bytes, content_type: str, old: Stored | None
    ) -> Stored:
        number = next(self._numbers)
        now = datetime.now(UTC)
        return Stored(
            name=name,
            id=old.id if old else f"00000000-0000-4000-8000-{number:012x}",
            version=f"10000000-0000-4000-8000-{number:012x}",
            etag=f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"',
            size=len(body),
            content_type=content_type,
            created_at=old.created_at if old else now,
            updated_at=now,
            body=body if self._root is None else _kept(self._root / bucket / name, body),
        )

    # --- what the routes ask ----------------------------------------------------------------

    def note_served(self, size_bytes: int) -> None:
        with self._lock:
            self.served_bytes += size_bytes

    def find(self, bucket: str, name: str) -> Stored:
        self._check_name(name)
        with self._lock:
            if bucket not in self._buckets:
                raise NO_BUCKET
            row = self._buckets[bucket].get(name)
        if row is None or (bucket, name) in self.hidden:
            raise NO_OBJECT
        return row

    def check_bucket(self, bucket: str) -> None:
        with self._lock:
            if bucket not in self._buckets:
                raise NO_BUCKET

    def upload(
        self,
        bucket: str,
        name: str,
        body: bytes,
        content_type: str,
        *,
        is_upsert: bool,
        cache_control: str = "no-cache",
        user_metadata: dict[str, Any] | None = None,
    ) -> Stored:
        self._check_name(name)
        self.check_bucket(bucket)
        if self.size_limit_bytes is not None and len(body) > self.size_limit_bytes:
            raise TOO_LARGE
        with self._lock:
            rows = self._buckets[bucket]
            if name in rows and not is_upsert:
                raise DUPLICATE
            row = self._row(bucket, name, body, content_type, rows.get(name))
            rows[name] = replace(row, cache_control=cache_control, user_metadata=user_metadata)
            return rows[name]

    def delete(self, bucket: str, names: Iterable[str]) -> list[Stored]:
        """Only what was deleted; a missing bucket has nothing to delete."""
        gone = []
        with self._lock:
            rows = self._buckets.get(bucket, {})
            for name in names:
                if (bucket, name) in self.hidden | self.undeletable or name not in rows:
                    continue
                row = rows.pop(name)
                if isinstance(row.body, Path):
                    row.body.unlink(missing_ok=True)
                gone.append(row)
        return gone

    def listing(
        self, bucket: str, prefix: str, after: str, limit: int
    ) -> tuple[list[Stored], bool]:
        with self._lock:
            rows = self._buckets.get(bucket, {})
            names = sorted(
                (
                    name
                    for name in rows
                    if name.startswith(prefix)
                    and name > after
                    and (bucket, name) not in self.hidden
                ),
                key=lambda name: name.encode(),
            )
            return [rows[name] for name in names[:limit]], len(names) > limit

    def _check_name(self, name: str) -> None:
        if self.has_strict_names and not (name and _VALID_NAME.issuperset(name)):
            raise Refusal(400, "InvalidKey", "InvalidKey", f"Invalid key: {name}")


def _kept(path: Path, body: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)
    return path


class _Server(ThreadingHTTPServer):
    """Knows its open connections, so that closing does not wait for idle clients."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, *args: Any) -> None:
        self._open: set[socket.socket] = set()
        super().__init__(*args)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def close_connections(self) -> None:
        for connection in tuple(self._open):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # its thread was faster

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away in the middle are part of the tests."""


@dataclass(frozen=True)
class _Route:
    kind: str
    bucket: str = ""
    name: str = ""


def _handler(world: SupabaseStandIn) -> type[BaseHTTPRequestHandler]:
    class Bound(_Handler):
        standin = world

    return Bound


class _Handler(BaseHTTPRequestHandler):
    standin: SupabaseStandIn
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16

    def do_GET(self) -> None:
        self._serve()

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET  # the base's names

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def _serve(self) -> None:
        taken = self._take()
        if taken is None:  # the client went away in the middle: there is no such request
            self.close_connection = True
            return
        self._taken = taken
        route = _route(self.command, urlsplit(self.path).path)
        fault = self.standin.take_fault(route.kind, route.name or None)
        if fault is not None and self._obeys(fault):
            return
        try:
            self._answer(route, fault)
        except Refusal as refusal:
            if self.command == "HEAD":
                self._send(refusal.http_status, b"", {})
            else:
                told = refusal.render(with_code=self.standin.sends_codes)
                self._send_json(refusal.http_status, told)

    def _take(self) -> bytes | None:
        """The body of a request; None: it did not come whole."""
        if self.headers.get("Transfer-Encoding") == "chunked":
            pieces: list[bytes] = []
            while True:
                line = self.rfile.readline()
                size_bytes = int(line, 16) if line.strip() else -1
                piece = self.rfile.read(size_bytes + 2) if size_bytes >= 0 else b""
                if len(piece) != size_bytes + 2:
                    return None
                if not size_bytes:
                    return b"".join(pieces)
                pieces.append(piece[:-2])
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        return body if len(body) == length else None

    def _obeys(self, fault: Fault) -> bool:
        """Do what a fault says; False where the request then goes its usual way."""
        if fault.run is not None:
            fault.run()
        if fault.hang:
            self.standin.wait_for_close()
        if fault.hang or (fault.reset and not fault.after_effect):
            self.close_connection = True
            return True
        if fault.delay_seconds:
            time.sleep(fault.delay_seconds)
        if fault.status is None:
            return False
        body = fault.body
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        kind = "text/html" if isinstance(body, bytes) else "application/json"
        self._send(fault.status, raw, {"Content-Type": kind, **fault.headers})
        return True

    def _answer(self, route: _Route, fault: Fault | None) -> None:
        self._check_token(route)
        match route.kind:
            case "get" | "get_short":
                self._send_object(self.standin.find(route.bucket, route.name), fault)
            case "head":
                row = self.standin.find(route.bucket, route.name)
                self._send(200, row.read(), _object_headers(row, fault))
            case "info" | "info_short":
                self._reply(fault, _info(self.standin.find(route.bucket, route.name), route))
            case "list_v2":
                self._reply(fault, self._list_v2(route))
            case "list":
                self._reply(fault, self._list(route))
            case "sign":
                self.standin.find(route.bucket, route.name)
                self._reply(fault, {"signedURL": self._signed()})
            case "get_signed":
                self._check_signature(route, "download")
                self._send_object(self.standin.find(route.bucket, route.name), fault)
            case "sign_upload":
                self._reply(fault, self._upload_signed(route))
            case "upload_signed":
                claims = self._check_signature(route, "upload")
                told = self._upload(route, is_upsert=bool(claims.get("upsert")))
                self._reply(fault, {"Key": told["Key"]})
            case "copy":
                self._reply(fault, self._copy())
            case "upload":
                self._reply(fault, self._upload(route))
            case "bulk_delete":
                self._reply(fault, self._bulk_delete(route))
            case "delete":
                self.standin.find(route.bucket, route.name)
                if not self.standin.delete(route.bucket, [route.name]):
                    raise DENIED
                self._reply(fault, {"message": "Successfully deleted"})
            case "bucket":
                self.standin.check_bucket(route.bucket)
                self._reply(fault, {"id": route.bucket, "name": route.bucket, "public": False})
            case "create_bucket":
                name = str(self._body().get("name", ""))
                self.standin.create_bucket(name)
                self._reply(fault, {"name": name})
            case _:
                message = f"Route {self.command}:{self.path} not found"
                raise Refusal(404, "InvalidRequest", "Not Found", message, http_status=404)

    def _check_token(self, route: _Route) -> None:
        if route.kind in {"get_signed", "upload_signed"}:
            return  # anybody with the URL
        if self.headers.get("apikey") not in {
            self.standin.service_key,
            self.standin.publishable_key,
        }:  # the gateway in front of the server
            raise Refusal(401, "", "", "Invalid authentication credentials", http_status=401)
        if self.headers.get("Authorization") != f"Bearer {self.standin.service_key}":
            # The shorter routes also serve public buckets, so there it is nobody who asks.
            raise NO_BUCKET if route.kind.endswith("_short") else BAD_TOKEN

    # --- routes -------------------------------------------------------------------------

    def _list_v2(self, route: _Route) -> dict[str, object]:
        if not self.standin.has_list_v2:
            message = f"Route POST:{self.path} not found"
            raise Refusal(404, "InvalidRequest", "Not Found", message, http_status=404)
        body = self._body()
        after = base64.b64decode(body["cursor"]).decode() if body.get("cursor") else ""
        limit = min(int(body.get("limit") or _PAGE_LIMIT), _PAGE_LIMIT)
        rows, has_next = self.standin.listing(
            route.bucket, str(body.get("prefix") or ""), after, limit
        )
        page: dict[str, object] = {
            "hasNext": has_next,
            "folders": [],
            "objects": [_listed(row, row.name) for row in rows],
        }
        if has_next:
            page["nextCursor"] = base64.b64encode(rows[-1].name.encode()).decode()
            page["nextCursorKey"] = rows[-1].name
        return page

    def _list(self, route: _Route) -> list[dict[str, object]]:
        """One folder, names relative to it; folders have no id."""
        body = self._body()
        folder = str(body.get("prefix") or "").rstrip("/")
        folder = f"{folder}/" if folder else ""
        rows, _ = self.standin.listing(route.bucket, folder, "", 10**9)
        found: dict[str, dict[str, object]] = {}
        for row in rows:
            name, slash, _ = row.name.removeprefix(folder).partition("/")
            found.setdefault(name, {"name": name, "id": None} if slash else _listed(row, name))
        start = int(body.get("offset") or 0)
        return list(found.values())[start : start + int(body.get("limit") or 100)]

    def _signed(self) -> str:
        lifetime_seconds = self._body().get("expiresIn")
        if not isinstance(lifetime_seconds, int) or lifetime_seconds < 1:
            raise Refusal(400, "InvalidRequest", "Error", "body/expiresIn must be >= 1")
        url = _decode_uri(urlsplit(self.path).path.partition("/object/sign/")[2])
        ends_at = int(time.time()) + lifetime_seconds
        token = self.standin.token(url=url, exp=ends_at, scope="download")
        return f"/object/sign/{url}?token={token}"

    def _upload_signed(self, route: _Route) -> dict[str, str]:
        self.standin.check_bucket(route.bucket)
        url = f"{route.bucket}/{route.name}"
        token = self.standin.token(
            url=url,
            exp=int(time.time()) + self.standin.upload_url_seconds,
            upsert=self.headers.get("x-upsert") == "true",
            scope="upload",
        )
        return {"url": f"/object/upload/sign/{url}?token={token}", "token": token}

    def _check_signature(self, route: _Route, scope: str) -> dict[str, Any]:
        token = parse_qs(urlsplit(self.path).query).get("token", [""])[0]
        try:
            claims = token.split(".")[1]
            told = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
            url, ends_at = str(told["url"]), int(told["exp"])
        except (ValueError, LookupError, TypeError):
            raise Refusal(400, "InvalidJWT", "InvalidJWT", "Invalid Compact JWS") from None
        if token != self.standin.token(**told):
            raise Refusal(400, "InvalidJWT", "InvalidJWT", "signature verification failed")
        if ends_at <= time.time():
            raise Refusal(400, "InvalidJWT", "InvalidJWT", '"exp" claim timestamp check failed')
        if url != f"{route.bucket}/{route.name}" or told.get("scope") != scope:
            message = "The url do not match the signature"
            raise Refusal(400, "InvalidSignature", "InvalidSignature", message)
        return dict(told)

    def _copy(self) -> dict[str, str]:
        body = self._body()
        bucket, name = str(body["bucketId"]), str(body["destinationKey"])
        row = self.standin.find(bucket, str(body["sourceKey"]))
        content_type, cache_control = row.content_type, row.cache_control
        user_metadata = row.user_metadata
        if body.get("copyMetadata") is False:  # what is not named stays
            said = body.get("metadata") or {}
            content_type = str(said.get("mimetype", content_type))
            cache_control = str(said.get("cacheControl", cache_control))
            user_metadata = self._user_metadata()
        copied = self.standin.upload(
            str(body.get("destinationBucket") or bucket),
            name,
            row.read(),
            content_type,
            is_upsert=self.headers.get("x-upsert") == "true",
            cache_control=cache_control,
            user_metadata=user_metadata,
        )
        return {"Id": copied.id, "Key": f"{bucket}/{name}"}

    def _user_metadata(self) -> dict[str, Any] | None:
        said = self.headers.get("x-metadata")
        try:
            return None if said is None else dict(json.loads(base64.b64decode(said)))
        except ValueError:  # it is passed over
            return None

    def _upload(self, route: _Route, *, is_upsert: bool | None = None) -> dict[str, str]:
        if is_upsert is None:
            is_upsert = self.command == "PUT" or self.headers.get("x-upsert") == "true"
        row = self.standin.upload(
            route.bucket,
            route.name,
            self._taken,  # and its Content-Encoding is dropped
            self.headers.get("Content-Type") or "application/octet-stream",
            is_upsert=is_upsert,
            cache_control=self.headers.get("Cache-Control") or "no-cache",
            user_metadata=self._user_metadata(),
        )
        return {"Id": row.id, "Key": f"{route.bucket}/{route.name}"}

    def _bulk_delete(self, route: _Route) -> list[dict[str, object]]:
        names = self._body().get("prefixes")
        if not isinstance(names, list) or not names:
            raise Refusal(400, "InvalidRequest", "Bad Request", "body/prefixes is required")
        if len(names) > _PAGE_LIMIT:
            raise TOO_MANY
        return [_listed(row, row.name) for row in self.standin.delete(route.bucket, names)]

    # --- answers ------------------------------------------------------------------------

    def _body(self) -> dict[str, Any]:
        told = json.loads(self._taken or b"{}")
        return told if isinstance(told, dict) else {}

    def _reply(self, fault: Fault | None, told: object) -> None:
        if fault is not None and fault.reset:
            self.close_connection = True
        elif fault is not None and fault.cut_after_bytes is not None:
            self._send_cut(json.dumps(told).encode(), {}, fault.cut_after_bytes)
        else:
            self._send_json(200, told)

    def _disposition(self) -> dict[str, str]:
        asked = parse_qs(urlsplit(self.path).query, keep_blank_values=True).get("download")
        if asked is None:
            return {}
        name = quote(asked[0], safe="!*'()")  # as encodeURIComponent
        named = f" filename={name}; filename*=UTF-8''{name}" if name else ""
        return {"Content-Disposition": f"attachment;{named}"}

    def _send_object(self, row: Stored, fault: Fault | None) -> None:
        headers = {**_object_headers(row, fault), **self._disposition()}
        body, status = row.read(), 200
        wanted = _RANGE.fullmatch(self.headers.get("Range", ""))
        if wanted is not None and not (fault is not None and fault.ignores_range):
            start, stop = int(wanted[1]), min(int(wanted[2]) + 1, len(body))
            if start >= len(body):  # the store beneath says 416, which it does not pass on
                raise Refusal(500, "", "Internal", "Internal Server Error", http_status=500)
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(body)}"
            body, status = body[start:stop], 206
        if fault is not None and fault.content_range is not None:
            headers["Content-Range"] = fault.content_range
        self.standin.note_served(len(body))
        if fault is not None and fault.cut_after_bytes is not None:
            cut = fault.cut_after_bytes
            self._send_cut(body, headers, cut, status=status, is_chunked=fault.chunked)
        elif fault is not None and fault.chunked:
            self._send_chunked(body, headers)
        else:
            self._send(status, body, headers)

    def _send_json(self, status: int, told: object) -> None:
        self._send(status, json.dumps(told).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self._send_head(status, {**headers, "Content-Length": str(len(body))})
        if self.command != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()

    def _send_cut(
        self,
        body: bytes,
        headers: dict[str, str],
        length: int,
        *,
        status: int = 200,
        is_chunked: bool = False,
    ) -> None:
        how = (
            {"Transfer-Encoding": "chunked"}
            if is_chunked
            else {"Content-Length": str(len(body))}
        )
        self._send_head(status, {**headers, **how})
        sent = body[:length]
        if is_chunked and sent:  # an empty piece would be the end of the body
            sent = b"%x\r\n%b\r\n" % (len(sent), sent)
        self.wfile.write(sent)
        self.wfile.flush()
        self.close_connection = True

    def _send_chunked(self, body: bytes, headers: dict[str, str]) -> None:
        self._send_head(200, {**headers, "Transfer-Encoding": "chunked"})
        for start in range(0, len(body), 50_000):
            piece = body[start : start + 50_000]
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()

    def _send_head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


def _route(method: str, path: str) -> _Route:
    """Which question this is. Names are everything after the bucket, decoded once."""
    base = "/storage/v1/"
    if not path.startswith(base):
        return _Route("unknown")
    head, *rest = path.removeprefix(base).split("/")
    if head == "bucket":
        if method == "POST":
            return _Route("create_bucket")
        return _Route("bucket", unquote("/".join(rest)))
    if head != "object" or not rest:
        return _Route("unknown")
    kind, rest = _kind(method, rest)
    bucket, *names = rest or [""]
    name = unquote("/".join(names))
    if kind in {"list", "list_v2"}:
        return _Route(kind, unquote(bucket))
    if kind == "delete" and not name:
        kind = "bulk_delete"
    return _Route(kind if name or kind == "bulk_delete" else "unknown", unquote(bucket), name)


def _decode_uri(text: str) -> str:
    """JavaScript's: escapes of characters that mean something in a URL stay."""
    kept = re.sub("%(3B|2F|3F|3A|40|26|3D|2B|24|2C|23)", r"%25\1", text, flags=re.IGNORECASE)
    return unquote(kept)


def _kind(method: str, rest: list[str]) -> tuple[str, list[str]]:
    match method, rest:
        case "POST", ["upload", "sign", *names]:
            return "sign_upload", names
        case "PUT", ["upload", "sign", *names]:
            return "upload_signed", names
        case "POST", ["copy"]:
            return "copy", ["", "the body"]  # says which
        case "POST", ["sign", *names]:
            return "sign", names
        case "GET", ["sign", *names]:
            return "get_signed", names
        case "GET", ["info", "authenticated", *names]:
            return "info", names
        case "GET", ["info", *names]:
            return "info_short", names
        case "GET", ["authenticated", *names]:
            return "get", names
        case "GET", names:
            return "get_short", names
        case "HEAD", ["authenticated", *names] | [*names]:
            return "head", names
        case "POST", ["list", *names]:
            return "list", names
        case "POST", ["list-v2", *names]:
            return "list_v2", names
        case (("POST" | "PUT"), names):
            return "upload", names
        case "DELETE", names:
            return "delete", names
        case _:
            return "unknown", rest


def _object_headers(row: Stored, fault: Fault | None) -> dict[str, str]:
    # The object's own time: the store beneath had it a moment before the row was written.
    modified = (row.updated_at - timedelta(seconds=2)).replace(microsecond=0)
    headers = {
        # The real server disarms pages.
        "Content-Type": "text/plain" if "text/html" in row.content_type else row.content_type,
        "ETag": row.etag,
        "Last-Modified": format_datetime(modified, usegmt=True),
        "Cache-Control": row.cache_control,
        "Accept-Ranges": "bytes",
    }
    if fault is not None and fault.content_encoding is not None:
        headers["Content-Encoding"] = fault.content_encoding
    if fault is not None and fault.etag is not None:
        headers["ETag"] = fault.etag
    return headers


def _info(row: Stored, route: _Route) -> dict[str, object]:
    return {
        "id": row.id,
        "name": row.name,
        "version": row.version,
        "bucket_id": route.bucket,
        "size": row.size,
        "content_type": row.content_type,
        "cache_control": row.cache_control,
        "etag": row.etag,
        "metadata": row.user_metadata,
        "last_modified": row.updated_at.isoformat().replace("+00:00", "Z"),
        "created_at": row.created_at.isoformat().replace("+00:00", "Z"),
    }


def _listed(row: Stored, name: str) -> dict[str, object]:
    return {
        "id": row.id,
        "name": name,
        "metadata": {
            "eTag": row.etag,
            "size": row.size,
            "mimetype": row.content_type,
            "cacheControl": row.cache_control,
            "lastModified": row.updated_at.isoformat().replace("+00:00", "Z"),
            "contentLength": row.size,
            "httpStatusCode": 200,
        },
        "updated_at": row.updated_at.isoformat().replace("+00:00", "Z"),
        "created_at": row.created_at.isoformat().replace("+00:00", "Z"),
        "last_accessed_at": None,
    }


def _load(standin: SupabaseStandIn, root: Path) -> None:
    """Serve what lies below the root already."""
    for directory in sorted(path for path in root.iterdir() if path.is_dir()):
        standin.create_bucket(directory.name)
        for path in sorted(p for p in directory.rglob("*") if p.is_file()):
            standin.plant(directory.name, str(path.relative_to(directory)), path.read_bytes())


def main() -> None:
    parser = argparse.ArgumentParser(description="A stand-in for Supabase Storage.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--root", type=Path, help="keep the objects as files below it")
    parser.add_argument("--bucket", action="append", default=[], help="make it at start")
    asked = parser.parse_args()
    with SupabaseStandIn(asked.root, asked.port) as standin:
        if asked.root is not None:
            asked.root.mkdir(parents=True, exist_ok=True)
            _load(standin, asked.root)
        for bucket in asked.bucket:
            standin.create_bucket(bucket)
        print(standin.url, flush=True)  # noqa: T201  # for whoever started it
        threading.Event().wait()


if __name__ == "__main__":
    main()
