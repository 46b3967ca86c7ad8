"""The user's own objects in Supabase: the contract on the stand-in, and what it cannot do."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from archiver.errors import (
    ArchiverError,
    BadLifetime,
    BucketMissing,
    NotOffered,
    ObjectChanged,
    ObjectDenied,
    ObjectMissing,
    StoreDenied,
    StoreThrottled,
    StoreUnavailable,
    UnusableName,
)
from archiver.model import Disposition, Secret
from archiver.objects.service import ObjectService
from archiver.stores.objects_supabase import SupabaseObjectStore
from archiver.stores.supabase_wire import SupabaseSettings
from tests.contract.object_store_contract import Collected, ObjectStoreContract
from tests.standin.supabase import DENIED, DUPLICATE, NO_BUCKET, Refusal, SupabaseStandIn

if TYPE_CHECKING:
    from collections.abc import Iterator

BUCKET = "objects"


@dataclass
class SupabaseObjectWorld:
    objects: ObjectService
    standin: SupabaseStandIn

    def peek(self, key: str) -> bytes | None:
        return self.standin.peek(BUCKET, key)

    def plant(self, key: str, body: bytes) -> None:
        self.standin.plant(BUCKET, key, body)

    def left_behind(self) -> list[str]:
        return []


def settings_of(standin: SupabaseStandIn) -> SupabaseSettings:
    return SupabaseSettings(
        url=standin.url,
        service_role_key=Secret(standin.service_key),
        publishable_key=Secret(standin.publishable_key),
        timeout_seconds=20,
    )


@pytest.fixture
def world() -> Iterator[SupabaseObjectWorld]:
    with SupabaseStandIn() as standin:
        standin.create_bucket(BUCKET)
        with ObjectService(SupabaseObjectStore(settings_of(standin), BUCKET)) as objects:
            yield SupabaseObjectWorld(objects, standin)
        standin.verify_all_fired()


class TestOnSupabase(ObjectStoreContract):
    keeps_encoding: ClassVar = False
    tells_type_in_listings: ClassVar = True

    @pytest.fixture
    def world(self, world: SupabaseObjectWorld) -> SupabaseObjectWorld:
        return world

    def test_only_its_own_alphabet_makes_names(self, world: SupabaseObjectWorld) -> None:
        world.standin.has_strict_names = True
        with pytest.raises(UnusableName):
            world.objects.put("ünïcödé", b"x")


# --- answers ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "error"),
    [
        (DENIED, ObjectDenied),
        (NO_BUCKET, BucketMissing),
        (Refusal(500, "InternalError", "Internal", "oops"), StoreUnavailable),
        (Refusal(429, "SlowDown", "SlowDown", "too many"), StoreThrottled),
    ],
)
def test_m14_what_is_not_known_is_neither_there_nor_absent(
    world: SupabaseObjectWorld, told: Refusal, error: type[ArchiverError]
) -> None:
    world.standin.on(
        "any", times=None, status=told.http_status, body=told.render(with_code=True)
    )
    service = world.objects
    for ask in (service.exists, service.head, service.get, service.md5):
        with pytest.raises(error):
            ask("page.html")
    with pytest.raises(error):
        service.put("page.html", b"x")
    with pytest.raises(Exception, match=r".") as raised:
        service.delete("page.html")
    assert isinstance(raised.value, (error, StoreDenied))


@pytest.mark.parametrize(
    "answer",
    [
        {"status": 200, "body": b"<html>"},
        {"status": 200, "body": {"Key": "objects/another"}},
        {"status": 200, "body": {"Key": "objects/page.html"}},  # and no object
        {"reset": True, "after_effect": False},
    ],
)
def test_m16_nothing_is_put_until_the_store_says_so(
    world: SupabaseObjectWorld, answer: dict[str, Any]
) -> None:
    world.standin.on("upload", **answer)
    with pytest.raises((StoreUnavailable, ObjectMissing)):
        world.objects.put("page.html", b"bytes")


def test_m16_another_object_of_that_size_confirms_nothing(world: SupabaseObjectWorld) -> None:
    world.plant("page.html", b"other")
    world.standin.on("upload", status=200, body={"Key": "objects/another"})
    with pytest.raises(StoreUnavailable, match="not confirmed"):
        world.objects.put("page.html", b"bytes")


def test_a_bucket_that_is_not_there_lists_nothing_but_says_so(
    world: SupabaseObjectWorld,
) -> None:
    with ObjectService(SupabaseObjectStore(settings_of(world.standin), "none")) as objects:
        with pytest.raises(BucketMissing):
            list(objects.list())
        with pytest.raises(BucketMissing):
            objects.delete("page.html")
        with pytest.raises(BucketMissing):
            objects.put("page.html", b"x")


def test_what_is_refused_is_not_deleted(world: SupabaseObjectWorld) -> None:
    world.plant("page.html", b"x")
    world.standin.undeletable.add((BUCKET, "page.html"))
    with pytest.raises(ObjectDenied):
        world.objects.delete("page.html")


def test_a_range_is_of_the_object_that_was_seen_first(world: SupabaseObjectWorld) -> None:
    world.plant("page.html", b"0123456789")
    world.standin.on("get", etag='"another"')
    with pytest.raises(ObjectChanged):
        world.objects.download("page.html", Collected(10))
    world.standin.on("get", ignores_range=True)
    with pytest.raises(StoreUnavailable, match="another range"):
        world.objects.get_range("page.html", 0, 5)
    world.standin.on("get", cut_after_bytes=3)
    with pytest.raises(StoreUnavailable, match="cut"):
        world.objects.get("page.html")


def test_an_upload_url_never_outlives_the_wish(world: SupabaseObjectWorld) -> None:
    world.standin.upload_url_seconds = 7_200
    with pytest.raises(BadLifetime, match="server alone decides"):
        world.objects.signed_put("page.html", timedelta(hours=1))

    signed = world.objects.signed_put("page.html", timedelta(days=1))

    left = signed.expires_at - datetime.now(UTC)
    assert timedelta(hours=1, minutes=58) < left <= timedelta(hours=2)  # as it says


def test_what_its_urls_cannot_say_is_refused(world: SupabaseObjectWorld) -> None:
    for said in (
        {"content_type": "text/css"},
        {"disposition": Disposition("inline", "page.html")},
    ):
        with pytest.raises(NotOffered):
            world.objects.signed_get("k", timedelta(hours=1), **said)


def test_what_it_would_take_for_something_else_is_refused(world: SupabaseObjectWorld) -> None:
    with pytest.raises(NotOffered, match="form"):
        world.objects.put("k", b"x", content_type="multipart/form-data; boundary=x")
    world.standin.size_limit_bytes = 3
    with pytest.raises(NotOffered, match="so large"):
        world.objects.put("k", b"four")
    world.standin.has_list_v2 = False
    with pytest.raises(NotOffered, match="older"):
        list(world.objects.list())
    assert world.peek("k") is None


def test_a_server_that_keeps_the_type_is_no_success(world: SupabaseObjectWorld) -> None:
    world.objects.put("k", b"x", content_type="text/plain")
    world.standin.on("copy", status=200, body={"Key": f"{BUCKET}/k"})
    with pytest.raises(NotOffered, match="text/plain"):
        world.objects.set_content_type("k", "text/css")
    told = DUPLICATE.render(with_code=True)
    world.standin.on("copy", status=400, body=told)
    with pytest.raises(NotOffered, match="onto itself"):
        world.objects.set_content_type("k", "text/css")


def test_a_listing_without_an_end_ends(world: SupabaseObjectWorld) -> None:
    page = {"objects": [], "hasNext": True, "nextCursor": "x"}
    world.standin.on("list_v2", times=None, status=200, body=page)
    with pytest.raises(StoreUnavailable, match="endless"):
        list(world.objects.list())


def test_no_secret_is_in_an_error(world: SupabaseObjectWorld) -> None:
    body = {"statusCode": "500", "error": "x", "message": f"got {world.standin.service_key}"}
    world.standin.on("get", status=400, body=body)
    with pytest.raises(StoreUnavailable) as raised:
        world.objects.get("k")
    assert world.standin.service_key not in str(raised.value)
