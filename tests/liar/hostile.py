"""Answers that no store gives that means well, by name. What asks is not told apart."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from typing import TYPE_CHECKING

from archiver.model import ColdKey, HotIdentity, HotLocation, Secret
from archiver.stores.providers import PROVIDERS
from archiver.stores.supabase import SupabaseHotStore
from archiver.stores.supabase_wire import SupabaseSettings
from tests.fakes.s3_worlds import BUCKET as COLD
from tests.fakes.s3_worlds import ENFORCES_ALL, PREFIX
from tests.fakes.stores import anytime
from tests.fakes.table_source import BUCKET as HOT
from tests.liar.scene import CLIENTS
from tests.liar.wire import Reply, error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from archiver.protocols import ColdStore, HotStore
    from archiver.stores.s3 import S3Settings

_FOUND = {"ETag": '"e"', "Last-Modified": "Sat, 21 Nov 2026 04:16:16 GMT"}
_XML = {"Content-Type": "application/xml"}
_JSON = {"Content-Type": "application/json"}
_ENDLESS = b"x" * 65_536
_LAUGHS = (  # 20 to the seventh, of 100 bytes
    '<!DOCTYPE x [<!ENTITY a "'
    + "ha" * 50
    + '">'
    + "".join(
        f'<!ENTITY {name} "{f"&{of};" * 20}">'
        for of, name in zip("abcdefg", "bcdefgh", strict=True)
    )
    + "]>"
)
_FILE = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>'


def _found(length: str | None = None, **headers: str) -> Reply:
    return Reply(200, _FOUND, b"bytes", length=length).with_headers(**headers)


def _said(status: int, body: str | bytes, headers: dict[str, str] = _XML) -> Reply:
    return Reply(status, headers, body.encode() if isinstance(body, str) else body)


def _entry(
    key: str = f"{PREFIX}k00", size: str = "5", at: str = "2026-11-21T00:00:00.000Z"
) -> str:
    told = f"<Key>{key}</Key><LastModified>{at}</LastModified><ETag>e</ETag><Size>{size}</Size>"
    return f"<Contents>{told}</Contents>"


def _listing(entries: str, more: str = "") -> Reply:
    return _said(200, f"<ListBucketResult>{entries}{more}</ListBucketResult>")


_MORE = "<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>"

ANSWERS = {
    "a negative length": _found("-1"),
    "a length of 25 digits": _found("9" * 25),
    "a length of 5,000 digits": _found("9" * 5_000),
    "a length of an exabyte": _found("1" + "0" * 18),
    "a length that is no number": _found("abc"),
    "no length": _found(""),
    "a header of a megabyte": _found(x_amz_meta_a="a" * (1 << 20)),
    "a header of 60 KB": _found(x_amz_meta_a="a" * 60_000),
    "3,000 entries of metadata": _found(**{f"x_amz_meta_{n}": "v" for n in range(3_000)}),
    "90 entries of metadata": _found(**{f"x_amz_meta_{n}": "v" for n in range(90)}),
    "escapes in metadata": _found(x_amz_meta_a="\x1b[31mred\x07\xff", x_amz_meta_b="a\r\n b"),
    "escapes in an ETag": _found(ETag='"\x1b[31m\xff"'),
    "an ETag of 50 KB": _found(ETag='"' + "e" * 50_000 + '"'),
    "a time that is none": _found(Last_Modified="yesterday \x1b[31m"),
    "a time in the year 999999": _found(Last_Modified="Sat, 21 Nov 999999 04:16:16 GMT"),
    "a time in the year 9999": _found(Last_Modified="Fri, 31 Dec 9999 23:59:59 GMT"),
    "a time in the year 1": _found(Last_Modified="Mon, 01 Jan 0001 00:00:00 GMT"),
    "no time": Reply(200, {"ETag": '"e"'}, b"bytes"),
    "gzip that is none": _found(Content_Encoding="gzip"),
    "a gzip bomb": Reply(
        200, {**_FOUND, "Content-Encoding": "gzip"}, gzip.compress(bytes(32 << 20))
    ),
    "a Retry-After of 400 digits": Reply(503, {"Retry-After": "9" * 400}),
    "a Retry-After of 8,000 years": Reply(
        503,
        {
            "Retry-After": "Fri, 31 Dec 9999 23:59:59 GMT",
            "Date": "Mon, 01 Jan 0001 00:00:00 GMT",
        },
    ),
    "a negative Retry-After": Reply(503, {"Retry-After": "-5"}),
    "status 99": Reply(99, _FOUND, b"bytes"),
    "status 999": Reply(999, _FOUND, b"bytes"),
    "status 304": Reply(304, _FOUND),
    "status 204": Reply(204, _FOUND),
    "a part": Reply(206, {**_FOUND, "Content-Range": "bytes 5-9/10"}, b"bytes"),
    "a redirect to itself": error(307, "TemporaryRedirect"),
    "an error that laughs": _said(403, f"{_LAUGHS}<Error><Code>&h;</Code></Error>"),
    "an error with a file": _said(403, f"{_FILE}<Error><Code>&a;</Code></Error>"),
    "an error with escapes": _said(
        403,
        "<Error><Code>A\x1b[31m\u202e</Code><Message>x\r\n2026 line\u2028</Message></Error>",
    ),
    "an error that is no UTF-8": _said(500, b"<Error><Code>\xff\xfe</Code></Error>"),
    "an error 200,000 deep": _said(500, "<a>" * 200_000),
    "an error with a code of 8 MB": _said(
        500, f"<Error><Code>{'C' * (8 << 20)}</Code></Error>"
    ),
    "an error without an end": Reply(500, {}, _ENDLESS, is_endless=True),
    "a body without an end": Reply(200, _FOUND, _ENDLESS, is_endless=True),
    "a body without an end, said to be short": Reply(
        200, _FOUND, _ENDLESS, length="5", is_endless=True
    ),
    "a page of a proxy": _said(200, "<html>welcome</html>", {"Content-Type": "text/html"}),
    "nothing": Reply(200),
    "a listing that laughs": _said(
        200, f"{_LAUGHS}<ListBucketResult>{_entry('&h;')}</ListBucketResult>"
    ),
    "a listing with a file": _said(
        200, f"{_FILE}<ListBucketResult>{_entry('&a;')}</ListBucketResult>"
    ),
    "a listing with a negative size": _listing(_entry(size="-1")),
    "a listing with a size that is none": _listing(_entry(size="x")),
    "a listing with a size of 5,000 digits": _listing(_entry(size="9" * 5_000)),
    "a listing without keys": _listing("<Contents><Size>5</Size></Contents>"),
    "a listing with a time that is none": _listing(_entry(at="never")),
    "a listing with a crooked key": _listing(_entry("../../etc/passwd")),
    "a listing with an empty key": _listing(_entry("")),
    "a listing of one key 1,000 times": _listing(_entry() * 1_000),
    "a listing that begins again": _listing(_entry(), _MORE),
    "a listing of empty pages": _listing("", _MORE),
    "JSON 100,000 deep": _said(200, "[" * 100_000, _JSON),
    "a JSON error 100,000 deep": _said(400, "[" * 100_000, _JSON),
    "a JSON status of 5,000 digits": _said(
        400, '{"statusCode": "' + "9" * 5_000 + '", "error": "x"}', _JSON
    ),
    "a JSON size of 5,000 digits": _said(
        200, '{"etag": "e", "size": "' + "9" * 5_000 + '"}', _JSON
    ),
    "a JSON number of 5,000 digits": _said(200, "9" * 5_000, _JSON),
    "a JSON listing that begins again": _said(
        200, '{"objects": [], "hasNext": true, "nextCursor": "t"}', _JSON
    ),
}

# What once was more than an error, and what our own bounds stand against.
MENDED = (
    "a length of 5,000 digits",
    "a length that is no number",
    "no length",
    "a time that is none",
    "a redirect to itself",
    "an error without an end",
    "a body without an end",
    "a body without an end, said to be short",
    "a listing with a size that is none",
    "a listing without keys",
    "a listing that begins again",
    "a JSON error 100,000 deep",
    "a JSON status of 5,000 digits",
    "a JSON size of 5,000 digits",
)


@dataclass(frozen=True, slots=True)
class Asker:
    """One store of ours, and every question it asks."""

    name: str
    questions: tuple[tuple[str, Callable[[], object]], ...]
    close: Callable[[], None]
    is_bounded: bool = True  # in bytes, whatever is answered; obstore's are so in time alone


def hot_asker(name: str, store: HotStore, *, is_bounded: bool) -> Asker:
    at = [HotLocation(HOT, f"{PREFIX}k{n:02}") for n in range(30)]

    def read() -> bytes:
        with store.open(at[0]) as found:
            return found.read()

    questions: tuple[tuple[str, Callable[[], object]], ...] = (
        ("read", read),
        ("identify", lambda: store.identify(at[:1])),
        ("identify many", lambda: store.identify(at)),
        ("delete", lambda: store.delete([(at[0], HotIdentity(5, etag='"e"'))], anytime)),
        ("probe", lambda: store.probe(HOT)),
    )
    return Asker(name, questions, store.close, is_bounded)


def cold_asker(name: str, settings: S3Settings) -> Asker:
    store: ColdStore = CLIENTS[name](settings, PROVIDERS["minio"], COLD, PREFIX, ENFORCES_ALL)
    keys = [ColdKey(f"{PREFIX}k{n:02}") for n in range(30)]

    def create() -> object:
        return store.create(
            keys[0], b"bytes", metadata={}, content_type=None, content_encoding=None
        )

    questions: tuple[tuple[str, Callable[[], object]], ...] = (
        ("create", create),
        ("stat", lambda: store.stat_many(keys[:1])),
        ("stat many", lambda: store.stat_many(keys)),
        ("look", lambda: store.look(keys[0])),
        ("held digest", lambda: store.held_digest(keys[0])),
        ("readback", lambda: store.readback(keys[0])),
        ("read", lambda: store.read(keys[0])),
        ("list", lambda: _most(store.list(PREFIX))),
    )
    return Asker(name, questions, store.close, is_bounded=name != "obstore")


def supabase_asker(url: str, timeout_seconds: float) -> Asker:
    store = SupabaseHotStore(
        SupabaseSettings(url, Secret("service-key"), timeout_seconds=timeout_seconds)
    )
    return hot_asker("supabase", store, is_bounded=True)


def _most(found: Iterator[object]) -> list[object]:
    """As many as anybody asks of a listing that may have no end."""
    return [item for _, item in zip(range(5_000), found, strict=False)]
