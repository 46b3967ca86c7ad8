"""Supabase Storage: the contract against the stand-in, and every answer that misleads."""

from __future__ import annotations

import gzip
import socket
import threading
import tracemalloc
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import urllib3

from archiver.errors import (
    BucketMissing,
    ObjectChanged,
    ObjectDenied,
    ObjectMissing,
    SettingsError,
    StoreDenied,
    StoreThrottled,
    StoreUnavailable,
    UnusableName,
)
from archiver.model import Deleted, HotIdentity, HotLocation, Secret
from archiver.stores.supabase import SupabaseHotStore
from archiver.stores.supabase_wire import SupabaseSettings
from tests.contract.hot_store_contract import HotStoreContract, identity_of, read
from tests.contract.url_signer_contract import UrlSignerContract
from tests.fakes.stores import anytime
from tests.harness.wire import How, Wire
from tests.standin.supabase import (
    BAD_TOKEN,
    DENIED,
    NO_BUCKET,
    NO_OBJECT,
    Refusal,
    SupabaseStandIn,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

BUCKET = "hot-pages"
AT = HotLocation(BUCKET, "jobs/1/page.html.gz")
ANY = HotIdentity(1, etag="any")


@dataclass
class SupabaseWorld:
    store: SupabaseHotStore
    standin: SupabaseStandIn

    def plant(
        self, location: HotLocation, body: bytes, content_type: str = "text/html"
    ) -> None:
        self.standin.plant(location.bucket, location.path, body, content_type)

    def peek(self, location: HotLocation) -> bytes | None:
        return self.standin.peek(location.bucket, location.path)


@pytest.fixture
def world() -> Iterator[SupabaseWorld]:
    with SupabaseStandIn() as standin:
        standin.create_bucket(BUCKET)
        store = SupabaseHotStore(settings(standin))
        yield SupabaseWorld(store, standin)
        store.close()
        standin.verify_all_fired()


@pytest.fixture
def old_world(world: SupabaseWorld) -> SupabaseWorld:
    """A server before `code` and before list-v2."""
    world.standin.sends_codes = False
    world.standin.has_list_v2 = False
    return world


class TestSupabaseHotStore(HotStoreContract):
    @pytest.fixture
    def world(self, world: SupabaseWorld) -> SupabaseWorld:
        return world


class TestSignedUrls(UrlSignerContract):
    @pytest.fixture
    def world(self, world: SupabaseWorld) -> SupabaseWorld:
        return world

    @pytest.mark.parametrize("path", ["what?.html", "hash#1.html"])
    def test_a_name_that_the_server_cannot_sign_is_refused(
        self, world: SupabaseWorld, path: str
    ) -> None:
        world.plant(self.at(path), b"<html>")
        with pytest.raises(UnusableName, match="signs no URL"):
            world.store.signed_url(self.at(path), 60)
        assert world.standin.requests["sign"] == 0

    def test_a_missing_object_is_not_signed(self, world: SupabaseWorld) -> None:
        with pytest.raises(ObjectMissing):
            world.store.signed_url(self.at("nowhere.html"), 60)

    def test_an_answer_without_a_token_is_no_url(self, world: SupabaseWorld) -> None:
        world.standin.on("sign", status=200, body={"signedURL": "/object/sign/a/b"})
        with pytest.raises(StoreUnavailable, match="not a signed URL"):
            world.store.signed_url(self.at("page.html"), 60)


class TestSupabaseHotStoreOnAnOldServer(HotStoreContract):
    many_count = 60  # each is asked for on its own

    @pytest.fixture
    def world(self, old_world: SupabaseWorld) -> SupabaseWorld:
        return old_world


# --- who asks ---------------------------------------------------------------------------
def test_both_keys_are_sent_where_they_belong(world: SupabaseWorld) -> None:
    world.plant(AT, b"x")
    store = SupabaseHotStore(
        settings(world.standin, publishable_key=Secret(world.standin.publishable_key))
    )

    assert read(store, AT) == b"x"


def test_a_refused_service_key_is_no_missing_bucket(world: SupabaseWorld) -> None:
    """Without the control of a probe it may pass for one object's; never for absence."""
    world.plant(AT, b"x")
    store = SupabaseHotStore(
        settings(
            world.standin,
            service_role_key=Secret("wrong"),
            publishable_key=Secret(world.standin.publishable_key),
        )
    )

    with pytest.raises(ObjectDenied):
        read(store, AT)
    with pytest.raises(ObjectDenied):
        store.identify([AT])
    with pytest.raises(StoreDenied):
        store.probe(BUCKET)
    with pytest.raises(StoreDenied):
        store.delete([(AT, ANY)], anytime)
    assert world.peek(AT) == b"x"


def test_a_key_the_gateway_does_not_know_is_denied(world: SupabaseWorld) -> None:
    store = SupabaseHotStore(settings(world.standin, service_role_key=Secret("wrong")))

    for ask in (
        lambda: read(store, AT),
        lambda: store.identify([AT]),
        lambda: store.probe(BUCKET),
    ):
        with pytest.raises(StoreDenied):
            ask()


def test_a_key_with_a_line_break_is_refused_without_being_shown(world: SupabaseWorld) -> None:
    with pytest.raises(SettingsError) as caught:
        SupabaseHotStore(settings(world.standin, service_role_key=Secret("sec\nret")))

    assert "sec" not in str(caught.value)


def test_no_error_shows_a_key(world: SupabaseWorld) -> None:
    world.standin.on("get", reset=True)

    with pytest.raises(StoreUnavailable) as caught:
        read(world.store, AT)

    shown = f"{caught.value} {caught.value!r} {caught.value.__cause__!r}"
    assert world.standin.service_key not in shown
    assert world.standin.service_key not in repr(settings(world.standin))


# --- reading ----------------------------------------------------------------------------
def test_stored_bytes_are_read_though_the_server_names_an_encoding(
    world: SupabaseWorld,
) -> None:
    packed = gzip.compress(b"<p>hello</p>" * 50)
    world.plant(AT, packed)
    world.standin.on("get", content_encoding="gzip")

    assert read(world.store, AT) == packed


@pytest.mark.parametrize("cut", [0, 1, 99_999])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_cut_body_is_never_delivered(
    world: SupabaseWorld, cut: int, *, chunked: bool
) -> None:
    world.plant(AT, b"x" * 100_000)
    if chunked:  # the size is asked for, then the body again
        world.standin.on("get", chunked=True)
    world.standin.on("get", cut_after_bytes=cut, chunked=chunked)

    with pytest.raises(StoreUnavailable) as caught:
        read(world.store, AT)

    assert caught.value.code in {"cut", "connection"}
    assert read(world.store, AT) == b"x" * 100_000


def test_a_body_without_a_length_is_measured_by_info(world: SupabaseWorld) -> None:
    world.plant(AT, b"x" * 100_000)
    world.standin.on("get", chunked=True, times=2)

    with world.store.open(AT) as opened:
        assert opened.identity == world.store.identify([AT])[AT]
        assert opened.read() == b"x" * 100_000


def test_a_body_that_is_not_as_long_as_info_said_is_not_delivered(
    world: SupabaseWorld,
) -> None:
    world.plant(AT, b"as info says")
    world.standin.on("get", chunked=True)
    world.standin.on("get", chunked=True, run=lambda: world.plant(AT, b"longer than info says"))

    with pytest.raises(StoreUnavailable) as caught:
        read(world.store, AT)

    assert caught.value.code == "cut"


def test_a_weakened_etag_is_the_same_etag(world: SupabaseWorld) -> None:
    world.plant(AT, b"x")
    strong = identity_of(world.store, AT)
    world.standin.on("get", etag=f'W/"{strong.etag}"')

    assert identity_of(world.store, AT) == strong


# --- ranges -----------------------------------------------------------------------------


def test_a_whole_object_in_the_place_of_a_range_is_not_read(world: SupabaseWorld) -> None:
    world.plant(AT, bytes(64 << 20))
    identity = identity_of(world.store, AT)
    world.standin.on("get", ignores_range=True, times=2)
    with pytest.raises(StoreUnavailable, match="another range"):
        world.store.read_range(AT, identity, 100, 200)

    tracemalloc.start()
    try:
        with pytest.raises(StoreUnavailable):
            world.store.read_range(AT, identity, 100, 200)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak_bytes < 80 << 20  # the stand-in's, which is in this process, and no second one


@pytest.mark.parametrize("content_range", ["", "bytes 1-2/10", "bytes */10", "2-5/10"])
def test_another_range_is_not_delivered(world: SupabaseWorld, content_range: str) -> None:
    world.plant(AT, b"0123456789")
    identity = identity_of(world.store, AT)
    world.standin.on("get", content_range=content_range)

    with pytest.raises(StoreUnavailable, match="another range"):
        world.store.read_range(AT, identity, 2, 6)


@pytest.mark.parametrize("cut", [0, 1, 49_999])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_cut_range_is_never_delivered(
    world: SupabaseWorld, cut: int, *, chunked: bool
) -> None:
    world.plant(AT, b"x" * 100_000)
    identity = identity_of(world.store, AT)
    world.standin.on("get", cut_after_bytes=cut, chunked=chunked)

    with pytest.raises(StoreUnavailable) as caught:
        world.store.read_range(AT, identity, 10, 50_010)

    assert caught.value.code in {"cut", "connection"}
    assert world.store.read_range(AT, identity, 10, 50_010) == b"x" * 50_000


@pytest.mark.parametrize("what", [{"etag": ""}, {"content_range": "bytes 2-5/*"}])
def test_a_range_that_does_not_say_of_what_is_identified_by_info(
    world: SupabaseWorld, what: dict[str, str]
) -> None:
    world.plant(AT, b"0123456789")
    identity = identity_of(world.store, AT)
    world.standin.on("get", times=2, **what)

    assert world.store.read_range(AT, identity, 2, 6) == b"2345"
    world.plant(AT, b"abcdefghij")
    with pytest.raises(ObjectChanged):
        world.store.read_range(AT, identity, 2, 6)


def test_a_fault_of_the_server_is_not_taken_for_another_object(world: SupabaseWorld) -> None:
    """A range behind the end of what lies there now and a fault sound alike."""
    world.plant(AT, b"0123456789")
    identity = identity_of(world.store, AT)
    world.standin.on("get", status=500, body={"statusCode": "500", "error": "Internal"})

    with pytest.raises(StoreUnavailable, match="http 500"):
        world.store.read_range(AT, identity, 2, 6)


# --- what refusals mean -----------------------------------------------------------------
Kind = type[Exception]


def old(refusal: Refusal) -> object:
    return refusal.render(with_code=False)


def new(refusal: Refusal) -> object:
    return refusal.render(with_code=True)


REFUSALS: list[tuple[int, object, Kind]] = [
    (400, new(NO_OBJECT), ObjectMissing),
    (400, old(NO_OBJECT), ObjectMissing),
    (404, new(NO_OBJECT), ObjectMissing),
    (
        400,
        {"statusCode": 404, "error": "Not found", "message": "The resource was not found"},
        ObjectMissing,
    ),
    (400, new(NO_BUCKET), BucketMissing),
    (400, old(NO_BUCKET), BucketMissing),
    (404, {"error": "not_found", "message": "Bucket not found"}, BucketMissing),
    (400, new(DENIED), ObjectDenied),
    (400, old(DENIED), ObjectDenied),
    (403, {"message": "Forbidden"}, ObjectDenied),
    (400, new(BAD_TOKEN), ObjectDenied),
    (400, {"statusCode": "400", "code": "InvalidJWT", "error": "InvalidJWT"}, StoreDenied),
    (400, {"statusCode": "400", "error": "invalid_jwt", "message": "jwt expired"}, StoreDenied),
    (400, {"statusCode": "403", "code": "SignatureDoesNotMatch"}, StoreDenied),
    (400, {"statusCode": "401", "error": "Unauthorized", "message": "no"}, StoreDenied),
    (401, {"message": "Invalid API key"}, StoreDenied),
    (400, {"statusCode": "400", "code": "InvalidKey", "message": "Invalid key"}, UnusableName),
    # What proves nothing.
    (404, b"<html>404 Not Found: object not found</html>", StoreUnavailable),
    (400, b"", StoreUnavailable),
    (401, b"<html>log in</html>", StoreUnavailable),
    (403, b"<html>blocked</html>", StoreUnavailable),
    (404, b'"not_found"', StoreUnavailable),
    (404, [], StoreUnavailable),
    (404, {}, StoreUnavailable),
    (
        404,
        {"statusCode": "404", "error": "Not Found", "message": "Route not found"},
        StoreUnavailable,
    ),
    (404, {"message": "no Route matched with those values"}, StoreUnavailable),
    (404, {"statusCode": "404", "message": "Object not found"}, StoreUnavailable),
    (
        400,
        {"statusCode": "404", "code": "NoSuchUpload", "message": "Object not found"},
        StoreUnavailable,
    ),
    (400, {"statusCode": "423", "code": "ResourceLocked"}, StoreUnavailable),
    (429, {"statusCode": "429", "code": "SlowDown"}, StoreThrottled),
    (400, {"statusCode": "503", "code": "DatabaseReadOnly"}, StoreUnavailable),
    (
        500,
        {"statusCode": "500", "code": "InternalError", "message": "not found"},
        StoreUnavailable,
    ),
    (544, {"statusCode": "544", "code": "DatabaseTimeout"}, StoreThrottled),
    (502, b"<html>bad gateway</html>", StoreUnavailable),
    (503, b"", StoreThrottled),
    (504, b"", StoreUnavailable),
    (302, b"", StoreUnavailable),
    (204, b"", StoreUnavailable),
    (206, b"x", StoreUnavailable),
]


@pytest.mark.parametrize(("status", "body", "kind"), REFUSALS, ids=str)
def test_a_refused_read_is_what_its_body_says(
    world: SupabaseWorld, status: int, body: object, kind: Kind
) -> None:
    world.plant(AT, b"x")
    world.standin.on("get", status=status, body=body, headers={"Location": "/elsewhere"})

    with pytest.raises(kind) as caught:
        read(world.store, AT)

    assert type(caught.value) is kind
    assert read(world.store, AT) == b"x"  # and the connection is as good as before


@pytest.mark.parametrize(("status", "body", "kind"), REFUSALS, ids=str)
def test_identify_takes_only_a_typed_answer_for_absence(
    world: SupabaseWorld, status: int, body: object, kind: Kind
) -> None:
    world.standin.on("info", status=status, body=body)

    if kind is ObjectMissing:
        assert world.store.identify([AT]) == {AT: None}
    else:
        with pytest.raises(kind):
            world.store.identify([AT])


@pytest.mark.parametrize(("status", "body", "kind"), REFUSALS, ids=str)
def test_a_refused_delete_is_never_a_success(
    world: SupabaseWorld, status: int, body: object, kind: Kind
) -> None:
    world.plant(AT, b"x")
    world.standin.on("bulk_delete", status=status, body=body)

    with pytest.raises((StoreUnavailable, StoreDenied, BucketMissing)):
        world.store.delete([(AT, ANY)], anytime)

    assert kind is not None
    assert world.peek(AT) == b"x"


def test_a_pause_that_was_asked_for_is_passed_on(world: SupabaseWorld) -> None:
    world.standin.on("get", status=429, body={"code": "SlowDown"}, headers={"Retry-After": "7"})
    world.standin.on("get", status=503, headers={"Retry-After": "soon"})

    for code, seconds in (("SlowDown", 7), ("http 503", None)):
        with pytest.raises(StoreUnavailable) as caught:
            read(world.store, AT)
        assert (caught.value.code, caught.value.retry_after_seconds) == (code, seconds)


def test_a_name_the_server_cannot_hold_is_unusable(world: SupabaseWorld) -> None:
    world.standin.has_strict_names = True

    with pytest.raises(UnusableName):
        read(world.store, HotLocation(BUCKET, "ünïcödé"))


# --- the network ------------------------------------------------------------------------
def test_a_server_that_is_not_there_is_unavailable() -> None:
    with socket.socket() as taken:  # bound, and never listening
        taken.bind(("127.0.0.1", 0))
        store = SupabaseHotStore(
            SupabaseSettings(f"http://127.0.0.1:{taken.getsockname()[1]}", Secret("key"))
        )
        with pytest.raises(StoreUnavailable) as caught:
            store.probe(BUCKET)

    assert caught.value.code == "connection"


@pytest.mark.parametrize("is_body", [False, True])
def test_an_answer_that_trickles_in_is_a_timeout(world: SupabaseWorld, is_body: bool) -> None:  # noqa: FBT001
    """Each byte breaks the silence: only a bound of the whole answer ends it."""
    world.plant(AT, bytes(30_000_000))  # more than lies in buffers on the way
    with Wire(int(world.standin.url.rpartition(":")[2])) as wire:
        url = f"http://127.0.0.1:{wire.port}"
        store = SupabaseHotStore(settings(world.standin, url=url, timeout_seconds=1.0))
        if not is_body:
            wire.fail(How.SLOW)

        with pytest.raises(StoreUnavailable) as caught:
            read_slowly(store, wire)

        store.close()
        assert (caught.value.code, wire.turns_count) == ("timeout", 1)


def test_a_silent_server_is_a_timeout(world: SupabaseWorld) -> None:
    world.standin.on("get", hang=True)
    store = SupabaseHotStore(settings(world.standin, timeout_seconds=0.2))

    with pytest.raises(StoreUnavailable) as caught:
        read(store, AT)

    assert caught.value.code == "timeout"


def test_a_reset_connection_is_unavailable(world: SupabaseWorld) -> None:
    world.plant(AT, b"x")
    world.standin.on("get", reset=True)

    with pytest.raises(StoreUnavailable):
        read(world.store, AT)
    assert read(world.store, AT) == b"x"


def test_a_delete_whose_answer_is_lost_can_be_asked_again(world: SupabaseWorld) -> None:
    world.plant(AT, b"x")
    world.standin.on("bulk_delete", reset=True, after_effect=True)

    with pytest.raises(StoreUnavailable):
        world.store.delete([(AT, ANY)], anytime)

    assert world.peek(AT) is None
    assert world.store.delete([(AT, ANY)], anytime) == {AT: Deleted.ABSENT}


@pytest.mark.parametrize("answer", [b"<html>", {"message": "done"}, [None]])
def test_a_delete_that_answers_strangely_is_no_success(
    world: SupabaseWorld, answer: object
) -> None:
    world.plant(AT, b"x")
    world.standin.on("bulk_delete", status=200, body=answer)

    if answer == [None]:  # a list, and our name is not on it: it is asked for
        assert world.store.delete([(AT, ANY)], anytime) == {AT: Deleted.DENIED}
    else:
        with pytest.raises(StoreUnavailable):
            world.store.delete([(AT, ANY)], anytime)


def test_unread_objects_do_not_use_up_the_connections(world: SupabaseWorld) -> None:
    world.plant(AT, b"x" * 5_000_000)
    store = SupabaseHotStore(settings(world.standin, max_connections=1, timeout_seconds=5))

    for _ in range(3):
        with store.open(AT):
            pass
        world.standin.on("get", status=400, body=new(NO_OBJECT))
        with pytest.raises(ObjectMissing):
            read(store, AT)
    world.standin.on("get", chunked=True, times=2)
    assert len(read(store, AT)) == 5_000_000


# --- policies, in bulk ------------------------------------------------------------------
def test_an_object_that_may_not_be_deleted_is_denied(world: SupabaseWorld) -> None:
    other = HotLocation(BUCKET, "other")
    for location in (AT, other):
        world.plant(location, b"x")
    world.standin.undeletable.add((BUCKET, AT.path))

    answers = world.store.delete([(AT, ANY), (other, ANY)], anytime)

    assert answers == {AT: Deleted.DENIED, other: Deleted.DELETED}


def test_an_object_that_may_not_be_seen_either_is_denied(world: SupabaseWorld) -> None:
    world.plant(AT, b"x")
    world.standin.undeletable.add((BUCKET, AT.path))
    world.standin.on("info", status=400, body=new(DENIED))

    assert world.store.delete([(AT, ANY)], anytime) == {AT: Deleted.DENIED}


@pytest.mark.parametrize(
    "objects",
    [[None], ["dir/000"], [{"name": ["dir/000"]}], [{"name": "dir/000"}], [{}]],
    ids=str,
)
def test_a_strange_listing_proves_nothing(world: SupabaseWorld, objects: object) -> None:
    locations = plant_many(world, (f"dir/{n:03}" for n in range(25)))
    world.standin.on("list_v2", status=200, body={"objects": objects})

    assert None not in world.store.identify(locations).values()


def test_a_delete_in_a_missing_bucket_says_so(world: SupabaseWorld) -> None:
    """The server itself answers 200 and an empty list."""
    with pytest.raises(BucketMissing):
        world.store.delete([(HotLocation("no-such-bucket", "page"), ANY)], anytime)


def test_what_a_listing_leaves_out_is_asked_for(world: SupabaseWorld) -> None:
    locations = plant_many(world, (f"dir/{n:03}" for n in range(100)))
    world.standin.on("list_v2", status=200, body={"objects": [], "hasNext": False})

    assert None not in world.store.identify(locations).values()
    assert world.standin.requests["info"] == 100


def test_one_directory_is_identified_by_listing_it(world: SupabaseWorld) -> None:
    locations = plant_many(world, (f"dir/{n:04}" for n in range(1_500)))

    seen = world.store.identify(locations)

    assert None not in seen.values()
    assert (world.standin.requests["list_v2"], world.standin.requests["info"]) == (2, 0)


def test_a_crowded_bucket_is_not_listed_for_a_few_objects(world: SupabaseWorld) -> None:
    plant_many(world, (f"crowd/{n:05}" for n in range(9_000)))
    locations = plant_many(world, (f"{name}/page" for name in ("a", "z")))
    locations += plant_many(world, (f"jobs/7/{n:03}" for n in range(200)))

    seen = world.store.identify(locations)

    assert None not in seen.values()
    assert world.standin.requests["list_v2"] <= 3
    assert world.standin.requests["info"] <= 2


def test_deletes_go_a_thousand_to_a_call(world: SupabaseWorld) -> None:
    locations = plant_many(world, (f"dir/{n:04}" for n in range(2_001)))

    world.store.delete([(location, ANY) for location in locations], anytime)

    assert world.standin.names(BUCKET) == []
    assert (world.standin.requests["bulk_delete"], world.standin.requests["info"]) == (3, 0)


@pytest.mark.parametrize("kind", ["list_v2", "info"])
def test_an_identify_that_fails_midway_answers_nothing(world: SupabaseWorld, kind: str) -> None:
    locations = plant_many(world, (f"dir/{n:03}" for n in range(30)))
    locations.append(HotLocation(BUCKET, "dir/absent"))
    world.standin.on(kind, status=503)

    with pytest.raises(StoreUnavailable):
        world.store.identify(locations)


# --- the stand-in itself ----------------------------------------------------------------
def test_the_stand_in_behaves_as_documented(world: SupabaseWorld, tmp_path: Path) -> None:
    http = urllib3.PoolManager(retries=False)
    key = world.standin.service_key
    headers = {"apikey": key, "Authorization": f"Bearer {key}"}
    base = f"{world.standin.url}/storage/v1"

    def ask(method: str, path: str, **more: object) -> urllib3.BaseHTTPResponse:
        extra = more.pop("headers", {})
        assert isinstance(extra, dict)
        send: Callable[..., urllib3.BaseHTTPResponse] = http.request
        return send(method, base + path, headers=headers | extra, **more)

    packed = gzip.compress(b"x")
    up = {"Content-Type": "text/html", "Content-Encoding": "gzip"}
    path = f"/object/{BUCKET}/d/p"
    assert ask("POST", path, body=packed, headers=up).status == 200
    assert ask("POST", path, body=b"y").json()["statusCode"] == "409"
    answer = ask("GET", path)
    assert (answer.data, answer.headers.get("Content-Encoding")) == (packed, None)
    assert ask("HEAD", path).headers["ETag"] == answer.headers["ETag"]
    assert (ask("HEAD", f"/object/{BUCKET}/none").status) == 400
    missing = ask("GET", f"/object/{BUCKET}/none")
    assert (missing.status, missing.json()["statusCode"]) == (400, "404")
    listed = ask("POST", f"/object/list/{BUCKET}", json={"prefix": "d"}).json()
    assert [item["name"] for item in listed] == ["p"]
    assert ask("POST", "/bucket", json={"name": "fresh"}).status == 200
    assert ask("GET", "/bucket/fresh").status == 200
    assert ask("DELETE", path).status == 200
    assert ask("DELETE", path).json()["code"] == "NoSuchKey"
    http.clear()

    before = set(threading.enumerate())
    with SupabaseStandIn(tmp_path) as on_disk:
        on_disk.plant(BUCKET, "d/p", b"on disk")
        assert (tmp_path / BUCKET / "d" / "p").read_bytes() == b"on disk"
    started = set(threading.enumerate()) - before
    assert not any(thread.name == "supabase-stand-in" for thread in started)


# --- helpers ----------------------------------------------------------------------------
def read_slowly(store: SupabaseHotStore, wire: Wire) -> None:
    with store.open(AT) as opened:
        wire.fail(How.SLOW)
        opened.read()


def settings(standin: SupabaseStandIn, **more: object) -> SupabaseSettings:
    chosen = {"service_role_key": Secret(standin.service_key), "timeout_seconds": 20.0, **more}
    make: Callable[..., SupabaseSettings] = SupabaseSettings
    return make(**{"url": standin.url, **chosen})


def plant_many(world: SupabaseWorld, paths: Iterator[str]) -> list[HotLocation]:
    locations = [HotLocation(BUCKET, path) for path in paths]
    for location in locations:
        world.plant(location, location.path.encode())
    return locations
