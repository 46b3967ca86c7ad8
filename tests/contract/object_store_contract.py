"""What every store for a user's own objects must do, asked through the service.

A test module subclasses `ObjectStoreContract` and gives the fixture `world`: a service over an
empty bucket, and hands that reach around it.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar, Protocol
from urllib.parse import unquote

import pytest
import urllib3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from archiver.errors import (
    BadLifetime,
    KeyTaken,
    NotOffered,
    NoUrl,
    ObjectChanged,
    ObjectMissing,
    ObjectTooLarge,
    RangeOutside,
    ReservedKey,
    UnusableName,
    WrongLength,
)
from archiver.model import Disposition
from archiver.objects import bodies
from archiver.objects.sending import PART_BYTES
from tests.contract.url_signer_contract import get

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from archiver.model import ObjectHead, SignedUrl
    from archiver.objects.service import ObjectService

MIB = 1 << 20

AWKWARD_NAMES = (
    "with space/and  two",
    "percent%/100%",
    "percent%2Fencoded",
    "percent/encoded",
    "question?mark=1&x=2",
    "hash#fragment",
    "plus+sign",
    "plus sign",
    'quotes\'and"double"',
    "colon:at@equals=comma,",
    "ünïcödé/Übergröße",
    "日本語/📦",
    "trailing.dot.",
    "/".join(["long" * 50] * 4),
)


class ObjectWorld(Protocol):
    """A service, and hands that reach around it."""

    @property
    def objects(self) -> ObjectService: ...

    def peek(self, key: str) -> bytes | None:
        """The stored bytes; None: nothing is there."""

    def plant(self, key: str, body: bytes) -> None:
        """Put an object there by other hands, over what was there."""

    def left_behind(self) -> list[str]:
        """What no finished call leaves: open uploads, temporary files."""


class Collected:
    """A random-access writer in memory."""

    def __init__(self, size_bytes: int) -> None:
        self._lock = threading.Lock()
        self.body = bytearray(size_bytes)

    def write_at(self, offset: int, data: bytes, /) -> None:
        with self._lock:
            self.body[offset : offset + len(data)] = data


class Dribble(io.RawIOBase):
    """A reader that gives a few bytes a read, as sockets do."""

    def __init__(self, body: bytes, most_bytes: int = 100_003) -> None:
        self._rest = io.BytesIO(body)
        self._most_bytes = most_bytes

    def read(self, size: int = -1, /) -> bytes:
        return self._rest.read(min(size, self._most_bytes))


class ObjectStoreContract:
    """Subclass it, give the fixture `world`."""

    awkward_names: ClassVar[tuple[str, ...]] = AWKWARD_NAMES
    keeps_encoding: ClassVar[bool] = True
    signs: ClassVar[bool] = True
    tells_type_in_listings: ClassVar[bool] = False
    many_count: ClassVar[int] = 1_100  # more than a page
    large_bytes: ClassVar[int] = 2 * PART_BYTES + 12_345

    # --- what is there --------------------------------------------------------------------

    def test_what_was_put_is_there(self, world: ObjectWorld) -> None:
        stored = world.objects.put(
            "objects/a.txt", b"some bytes", content_type="text/css", metadata={"Owner": "me"}
        )

        head = head_of(world, "objects/a.txt")
        assert world.peek("objects/a.txt") == b"some bytes"
        assert world.objects.exists("objects/a.txt")
        assert world.objects.get("objects/a.txt") == b"some bytes"
        assert (stored.key, stored.size_bytes) == ("objects/a.txt", 10)
        assert stored.digest.raw == hashlib.sha256(b"some bytes").digest()
        assert stored.etag == head.etag
        assert head.etag
        assert (head.key, head.size_bytes, head.content_type) == (
            "objects/a.txt",
            10,
            "text/css",
        )
        assert head.metadata == {"owner": "me"}  # names in lower case
        assert head.modified_at is not None
        assert head.modified_at.utcoffset() == timedelta(0)

    def test_absence_is_an_answer(self, world: ObjectWorld) -> None:
        world.objects.put("dir/page", b"x")

        for key in ("nothing", "dir/pag", "dir/page2", "dir", "dir/page/below"):
            assert world.objects.head(key) is None
            assert not world.objects.exists(key)
            with pytest.raises(ObjectMissing):
                world.objects.get(key)
            with pytest.raises(ObjectMissing):
                world.objects.get_range(key, 0, 1)
            with pytest.raises(ObjectMissing):
                world.objects.download(key, Collected(0))
            with pytest.raises(ObjectMissing):
                world.objects.md5(key)
            with pytest.raises(ObjectMissing):
                world.objects.set_content_type(key, "text/css")

    def test_an_empty_object_is_an_object(self, world: ObjectWorld, tmp_path: Path) -> None:
        world.objects.put("empty", b"")

        assert head_of(world, "empty").size_bytes == 0
        assert world.objects.get("empty") == b""
        assert world.objects.get_range("empty", 0, 0) == b""
        world.objects.download("empty", tmp_path / "file")
        assert (tmp_path / "file").read_bytes() == b""
        assert world.objects.sha256("empty").raw == hashlib.sha256(b"").digest()

    def test_awkward_names_stay_apart(self, world: ObjectWorld) -> None:
        bodies = {f"awkward/{name}": name.encode() for name in self.awkward_names}
        for key, body in bodies.items():
            world.objects.put(key, body)

        assert {key: world.peek(key) for key in bodies} == bodies
        assert {key: world.objects.get(key) for key in bodies} == bodies
        assert {key: head_of(world, key).key for key in bodies} == {key: key for key in bodies}
        assert {it.key for it in world.objects.list("awkward/")} == set(bodies)
        for key in bodies:
            world.objects.delete(key)
        assert [] == list(world.objects.list("awkward/"))

    @pytest.mark.parametrize("key", ["", "/a", "a/", "a//b", "a/./b", "a/../b", "x" * 3_000])
    def test_names_that_would_be_others_are_refused(self, world: ObjectWorld, key: str) -> None:
        with pytest.raises(UnusableName):
            world.objects.put(key, b"x")
        with pytest.raises(UnusableName):
            world.objects.head(key)

    # --- put ------------------------------------------------------------------------------

    def test_a_put_replaces_what_was_there(self, world: ObjectWorld) -> None:
        world.objects.put("k", b"first", content_type="text/plain", metadata={"a": "1"})
        world.objects.put("k", b"the second", content_type="text/css", metadata={"b": "2"})

        assert world.objects.get("k") == b"the second"
        head = head_of(world, "k")
        assert (head.content_type, head.metadata) == ("text/css", {"b": "2"})

    def test_create_only_never_replaces(self, world: ObjectWorld, tmp_path: Path) -> None:
        world.objects.put("k", b"first", metadata={"a": "1"}, create_only=True)
        before = world.objects.head("k")
        file = tmp_path / "large"
        file.write_bytes(b"x" * self.large_bytes)

        for body in (b"first", b"other", Dribble(b"y" * self.large_bytes)):
            with pytest.raises(KeyTaken):
                world.objects.put("k", body, create_only=True)
        with pytest.raises(KeyTaken):
            world.objects.upload("k", file, create_only=True)

        assert world.peek("k") == b"first"
        assert world.objects.head("k") == before
        assert [] == world.left_behind()

    def test_what_cannot_stand_in_a_header_is_refused(self, world: ObjectWorld) -> None:
        for said in (
            {"content_type": "text/html\r\nX: y"},
            {"content_type": ""},
            {"content_encoding": "gzip\n"},
            {"metadata": {"name": "ünï"}},
            {"metadata": {"na me": "x"}},
            {"metadata": {"a": "1", "A": "2"}},
            {"metadata": {"a": "x" * 3_000}},
        ):
            with pytest.raises(ValueError, match=r"."):
                world.objects.put("k", b"x", **said)
        assert world.peek("k") is None

    def test_readers_of_any_size_of_reads_make_the_same_object(
        self, world: ObjectWorld
    ) -> None:
        for size_bytes in (1, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, self.large_bytes):
            body = bytes_of(size_bytes)
            stored = world.objects.put("k", Dribble(body), metadata={"a": "1"})

            assert stored.size_bytes == size_bytes
            assert stored.digest.raw == hashlib.sha256(body).digest()
            assert world.peek("k") == body
            head = head_of(world, "k")
            assert (head.etag, head.metadata) == (stored.etag, {"a": "1"})
        assert [] == world.left_behind()

    def test_a_body_of_another_length_puts_nothing(self, world: ObjectWorld) -> None:
        for body, size_bytes in (
            (b"short", 6),
            (b"too long", 3),
            (Dribble(bytes_of(self.large_bytes)), self.large_bytes + 1),
            (Dribble(bytes_of(self.large_bytes)), self.large_bytes - 1),
        ):
            with pytest.raises(WrongLength):
                world.objects.put("k", body, size_bytes=size_bytes)
        assert world.peek("k") is None
        assert [] == world.left_behind()

    def test_a_reader_that_fails_puts_nothing(self, world: ObjectWorld) -> None:
        class Failing(Dribble):
            def read(self, size: int = -1, /) -> bytes:
                if self._rest.tell() > PART_BYTES:
                    message = "the pipe broke"
                    raise OSError(message)
                return super().read(size)

        world.objects.put("k", b"before")
        with pytest.raises(OSError, match="the pipe broke"):
            world.objects.put("k", Failing(bytes_of(self.large_bytes)))
        assert world.peek("k") == b"before"
        assert [] == world.left_behind()

    def test_files_are_uploaded_whole(self, world: ObjectWorld, tmp_path: Path) -> None:
        file = tmp_path / "file"
        for size_bytes in (0, self.large_bytes, 3 * PART_BYTES):
            file.write_bytes(bytes_of(size_bytes))
            stored = world.objects.limited(concurrency=3).upload(
                "k", file, content_type="text/css", metadata={"a": "1"}
            )

            assert world.peek("k") == file.read_bytes()
            assert stored.digest.raw == hashlib.sha256(file.read_bytes()).digest()
            head = head_of(world, "k")
            assert (head.etag, head.content_type) == (stored.etag, "text/css")
            assert head.metadata == {"a": "1"}
        assert [] == world.left_behind()

    @pytest.mark.parametrize("how", ["ab", "r+b"])  # it grows, or has other bytes
    def test_a_file_that_is_written_meanwhile_is_not_put(
        self, world: ObjectWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
    ) -> None:
        file = tmp_path / "file"
        file.write_bytes(bytes_of(self.large_bytes))
        os.utime(file, (0, 0))

        def write() -> None:
            with file.open(how) as it:
                it.write(b"more")

        at_first_read(monkeypatch, write)
        with pytest.raises((ObjectChanged, WrongLength)):
            world.objects.upload("k", file)

        assert world.peek("k") is None
        assert [] == world.left_behind()

    # --- ranges ---------------------------------------------------------------------------

    def test_m12_a_range_stops_before_its_stop(self, world: ObjectWorld) -> None:
        world.objects.put("k", b"0123456789")

        assert world.objects.get_range("k", 0, 5) == b"01234"
        assert world.objects.get_range("k", 9, 10) == b"9"
        assert world.objects.get_range("k", 0, 10) == b"0123456789"
        assert world.objects.get_range("k", 3, 3) == b""
        assert world.objects.get_range("k", 10, 10) == b""

    def test_a_range_outside_the_object_is_said(self, world: ObjectWorld) -> None:
        world.objects.put("k", b"0123456789")
        world.objects.put("empty", b"")

        for start, stop in ((0, 11), (9, 11), (10, 11), (11, 11), (50, 60), (-1, 5), (5, 4)):
            with pytest.raises(RangeOutside) as raised:
                world.objects.get_range("k", start, stop)
            assert (raised.value.start, raised.value.stop) == (start, stop)
            assert raised.value.size_bytes == 10
        with pytest.raises(RangeOutside):
            world.objects.get_range("empty", 0, 1)

    def test_any_range_is_a_slice(self, world: ObjectWorld) -> None:
        body = bytes_of(1_000)
        world.objects.put("k", body)

        @settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
        @given(st.integers(0, 1_000), st.integers(0, 1_000))
        def is_a_slice(one: int, other: int) -> None:
            start, stop = sorted((one, other))
            assert world.objects.get_range("k", start, stop) == body[start:stop]

        is_a_slice()

    # --- whole objects ----------------------------------------------------------------------

    def test_an_object_is_streamed_and_downloaded_whole(
        self, world: ObjectWorld, tmp_path: Path
    ) -> None:
        body = bytes_of(self.large_bytes)
        world.objects.put("k", body, content_type="text/css")
        sink, random, file = io.BytesIO(), Collected(len(body)), tmp_path / "file"
        file.write_bytes(b"an older file")
        at_once = world.objects.limited(concurrency=3)

        heads = [
            world.objects.stream("k", sink),
            at_once.download("k", random),
            at_once.download("k", file),
        ]

        assert sink.getvalue() == random.body == file.read_bytes() == body
        assert [it.size_bytes for it in heads] == [len(body)] * 3
        assert [it.name for it in tmp_path.iterdir()] == ["file"]

    def test_what_is_too_large_for_memory_is_not_read(self, world: ObjectWorld) -> None:
        world.objects.put("k", b"0123456789")
        with pytest.raises(ObjectTooLarge):
            world.objects.get("k", limit_bytes=9)

    def test_a_download_is_of_one_object(self, world: ObjectWorld, tmp_path: Path) -> None:
        world.objects.put("k", bytes_of(self.large_bytes))
        file = tmp_path / "file"

        class Replacing(Collected):
            def write_at(self, offset: int, data: bytes, /) -> None:
                super().write_at(offset, data)
                world.plant("k", b"z" * ObjectStoreContract.large_bytes)

        with pytest.raises(ObjectChanged):
            world.objects.limited(concurrency=1).download("k", Replacing(self.large_bytes))
        assert not file.exists()

    def test_a_failed_download_leaves_the_older_file(
        self, world: ObjectWorld, tmp_path: Path
    ) -> None:
        (tmp_path / "file").write_bytes(b"an older file")
        with pytest.raises(ObjectMissing):
            world.objects.download("nothing", tmp_path / "file")
        assert [(it.name, it.read_bytes()) for it in tmp_path.iterdir()] == [
            ("file", b"an older file")
        ]

    def test_nothing_is_decoded(self, world: ObjectWorld, tmp_path: Path) -> None:
        packed = gzip.compress(b"<p>hello</p>" * 100)
        encoding = "gzip" if self.keeps_encoding else None
        world.objects.put("k", packed, content_type="text/css", content_encoding=encoding)

        assert world.objects.get("k") == packed
        assert world.objects.get_range("k", 0, 5) == packed[:5]
        world.objects.download("k", tmp_path / "file")
        assert (tmp_path / "file").read_bytes() == packed
        assert head_of(world, "k").content_encoding == encoding
        if not self.keeps_encoding:
            with pytest.raises(NotOffered):
                world.objects.put("other", packed, content_encoding="gzip")
            assert world.peek("other") is None

    # --- digests --------------------------------------------------------------------------

    def test_digests_are_those_of_the_bytes(self, world: ObjectWorld) -> None:
        for body in (b"some bytes", bytes_of(self.large_bytes)):
            world.objects.put("k", Dribble(body))

            md5, sha256 = world.objects.md5("k"), world.objects.sha256("k")

            assert md5.raw == hashlib.md5(body, usedforsecurity=False).digest()
            assert sha256.raw == hashlib.sha256(body).digest()
            assert {md5.told_by, sha256.told_by} <= {"store", "bytes"}

    # --- delete ---------------------------------------------------------------------------

    def test_deleting_what_is_not_there_succeeds(self, world: ObjectWorld) -> None:
        world.objects.put("dir/k", b"x")
        for _ in range(2):
            world.objects.delete("dir/k")
            world.objects.delete("dir/never")
            assert not world.objects.exists("dir/k")
        world.objects.put("dir/k", b"again")
        assert world.objects.get("dir/k") == b"again"

    # --- list -----------------------------------------------------------------------------

    def test_a_listing_has_every_key_of_its_prefix(self, world: ObjectWorld) -> None:
        for name in ("p/abc1", "p/abc/x", "p/abc/y/z", "p/ab", "p/b", "q/abc"):
            world.objects.put(name, name.encode(), content_type="text/css")

        listed = list(world.objects.list("p/abc"))

        assert [it.key for it in listed] == ["p/abc/x", "p/abc/y/z", "p/abc1"]
        assert [it.size_bytes for it in listed] == [7, 9, 6]
        assert all(it.etag == head_of(world, it.key).etag for it in listed)
        assert all(it.modified_at is not None for it in listed)
        type_ = "text/css" if self.tells_type_in_listings else None
        assert {it.content_type for it in listed} == {type_}
        assert [] == list(world.objects.list("nothing"))
        assert len(list(world.objects.list())) == 6

    def test_a_listing_is_lazy_and_of_any_length(self, world: ObjectWorld) -> None:
        keys = [f"many/{number:05}" for number in range(self.many_count)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda key: world.plant(key, b"x"), keys))

        listing = world.objects.list("many/")
        assert next(listing).key == keys[0]
        assert [it.key for it in listing] == keys[1:]
        assert list(listing) == []  # once done, always done

    # --- the type -------------------------------------------------------------------------

    def test_a_new_content_type_changes_nothing_else(self, world: ObjectWorld) -> None:
        for body in (b"some bytes", bytes_of(self.large_bytes)):
            world.objects.put(
                "ünï code+%.css",
                Dribble(body),
                content_type="text/plain",
                content_encoding="gzip" if self.keeps_encoding else None,
                metadata={"owner": "me", "b": "2"},
            )
            before = head_of(world, "ünï code+%.css")

            world.objects.set_content_type("ünï code+%.css", "text/css; charset=utf-8")

            head = head_of(world, "ünï code+%.css")
            assert head.content_type == "text/css; charset=utf-8"
            assert head.metadata == before.metadata == {"owner": "me", "b": "2"}
            assert head.content_encoding == before.content_encoding
            assert head.size_bytes == before.size_bytes
            assert world.peek("ünï code+%.css") == body

    # --- guards ---------------------------------------------------------------------------

    def test_archivers_own_keys_are_read_only(self, world: ObjectWorld, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"x")
        service = world.objects
        for key in (".archiver/place", "app/.archiver/stamps/task_html/1", ".archiver"):
            for refused in (
                lambda key=key: service.put(key, b"x"),
                lambda key=key: service.upload(key, tmp_path / "file"),
                lambda key=key: service.delete(key),
                lambda key=key: service.set_content_type(key, "text/css"),
                lambda key=key: service.signed_put(key, timedelta(hours=1)),
            ):
                with pytest.raises(ReservedKey):
                    refused()
            assert world.peek(key) is None

    # --- URLs -----------------------------------------------------------------------------

    def test_anybody_gets_the_bytes_with_a_signed_url(self, world: ObjectWorld) -> None:
        needs_urls(self)
        world.objects.put("dir/a b+c.css", b"some bytes", content_type="text/css")

        signed = world.objects.signed_get("dir/a b+c.css", timedelta(minutes=1))

        assert signed.method == "GET"
        assert get(signed.url) == (200, b"some bytes")
        assert signed.url not in repr(signed)

    @pytest.mark.parametrize(
        "name",
        [
            "page.html",
            "with space.css",
            'quo"te\\back.css',
            "new\r\nX-Evil: line",
            "ünïcödé 📦.css",
            "100%.css",
            "semi;colon=x.css",
            "a/b.css",
            "it's(1).css",
        ],
    )
    def test_m24_any_filename_reaches_the_browser(self, world: ObjectWorld, name: str) -> None:
        needs_urls(self)
        world.objects.put("k", b"some bytes")
        asked = Disposition("attachment", name)

        signed = world.objects.signed_get("k", timedelta(minutes=1), disposition=asked)

        answer = urllib3.request("GET", signed.url, retries=False, timeout=10)
        assert (answer.status, answer.data) == (200, b"some bytes")
        kind, filename = said_by(answer.headers["Content-Disposition"])
        assert (kind, filename) == ("attachment", name)
        assert "X-Evil" not in answer.headers
        assert asked == Disposition("attachment", name)  # as it was

    def test_m24_no_disposition_is_needed(self, world: ObjectWorld) -> None:
        needs_urls(self)
        world.objects.put("k", b"some bytes")
        for disposition, kind in (
            (None, None),
            (Disposition(), "attachment"),
        ):
            signed = world.objects.signed_get(
                "k", timedelta(minutes=1), disposition=disposition
            )
            answer = urllib3.request("GET", signed.url, retries=False, timeout=10)
            seen = answer.headers.get("Content-Disposition")
            assert answer.status == 200
            assert (seen or "").partition(";")[0] == (kind or "")

    def test_anybody_puts_the_object_with_a_signed_url(self, world: ObjectWorld) -> None:
        needs_urls(self)
        signed = world.objects.signed_put(
            "dir/a b+c.css", timedelta(hours=3), content_type="text/css"
        )

        answer = put_to(signed, b"some bytes")

        assert answer < 300
        assert signed.method == "PUT"
        assert world.peek("dir/a b+c.css") == b"some bytes"
        assert head_of(world, "dir/a b+c.css").content_type == "text/css"

    def test_a_signed_put_may_create_only(self, world: ObjectWorld) -> None:
        needs_urls(self)
        signed = world.objects.signed_put("k", timedelta(hours=3), create_only=True)

        assert put_to(signed, b"first") < 300
        assert put_to(signed, b"second") >= 400
        assert world.peek("k") == b"first"

    def test_a_lifetime_has_bounds(self, world: ObjectWorld) -> None:
        for lifetime in (
            timedelta(0),
            timedelta(seconds=-1),
            timedelta(milliseconds=999),
            timedelta(days=7, seconds=1),
        ):
            with pytest.raises(BadLifetime, match=r"604800|longest_seconds"):
                world.objects.signed_get("k", lifetime)
            with pytest.raises(BadLifetime):
                world.objects.signed_put("k", lifetime)

    def test_a_store_without_urls_says_so(self, world: ObjectWorld) -> None:
        if self.signs:
            pytest.skip("this store signs URLs")
        world.objects.put("k", b"x")
        with pytest.raises(NoUrl):
            world.objects.signed_get("k", timedelta(minutes=1), disposition=Disposition())
        with pytest.raises(NoUrl):
            world.objects.signed_put("k", timedelta(minutes=1))


def head_of(world: ObjectWorld, key: str) -> ObjectHead:
    head = world.objects.head(key)
    assert head is not None
    return head


def said_by(header: str) -> tuple[str, str]:
    """What a browser takes from a Content-Disposition: the exact name goes ahead."""
    kind, _, rest = header.partition(";")
    exact = re.search(r"filename\*=UTF-8''([!#$&+.^_`|~%0-9A-Za-z'()*-]+)$", rest)
    if exact is not None:
        return kind, unquote(exact[1], errors="strict")
    plain = re.fullmatch(r' filename="([^"\\]*)"', rest)
    assert plain is not None, header
    return kind, plain[1]


def put_to(signed: SignedUrl, body: bytes) -> int:
    """As anybody would: with no key, and the headers that the URL names."""
    return urllib3.request(
        "PUT", signed.url, body=body, headers=dict(signed.headers), retries=False, timeout=10
    ).status


def bytes_of(size_bytes: int) -> bytes:
    """Bytes of which no two parts are alike."""
    return b"".join(
        hashlib.sha256(number.to_bytes(4)).digest() for number in range(-(-size_bytes // 32))
    )[:size_bytes]


def needs_urls(contract: ObjectStoreContract) -> None:
    if not contract.signs:
        pytest.skip("this store has no URLs")


def at_first_read(monkeypatch: pytest.MonkeyPatch, do: Callable[[], None]) -> None:
    """Let something happen to a file when its first piece was read."""
    real = bodies._filled
    waiting = [do]

    def filled(reader: bodies.Reader, size_bytes: int) -> bytes:
        piece = real(reader, size_bytes)
        if waiting:
            waiting.pop()()
        return piece

    monkeypatch.setattr(bodies, "_filled", filled)
