"""Every request waits for its turn, by whichever client it is sent."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from archiver.model import ColdKey, Deleted, HotLocation, Secret
from archiver.stores.cold_boto3 import Boto3ColdStore
from archiver.stores.cold_s3 import S3ColdStore
from archiver.stores.hot_s3 import S3HotStore
from archiver.stores.pace import Pace, Reading
from archiver.stores.probe import probe_cold
from archiver.stores.providers import PROVIDERS
from archiver.stores.s3_questions import open_client
from archiver.stores.supabase import SupabaseHotStore
from archiver.stores.supabase_wire import SupabaseSettings
from tests.fakes.s3_worlds import BUCKET, ENFORCES_ALL, empty, settings_of
from tests.fakes.stores import anytime
from tests.harness.s3_front import Refusal, S3Front
from tests.standin.supabase import SERVICE_KEY, SupabaseStandIn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.model import HotIdentity
    from archiver.protocols import HotStore

LOCATIONS = [HotLocation(BUCKET, f"pages/{number:02}.html") for number in range(40)]


class CountingPace(Pace):
    """Nobody waits; what would have waited is counted."""

    def __init__(self) -> None:
        self.requests_count = 0
        self.sent_bytes = 0
        self.read_bytes = 0
        self.ahead_count = 0
        self.pauses: list[float] = []

    def wait(self, size_bytes: int = 0, *, ahead: bool = False) -> None:
        self.requests_count += 1
        self.ahead_count += ahead
        self.sent_bytes += size_bytes

    async def wait_async(self, *, ahead: bool = False) -> None:
        self.wait(ahead=ahead)

    @contextmanager
    def reading(self, what: str = "object") -> Iterator[Reading]:  # noqa: ARG002
        self.wait()
        reading = Reading()
        yield reading
        self.read_bytes += reading.size_bytes

    def book(self, size_bytes: int) -> None:
        self.read_bytes += size_bytes

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)


@pytest.fixture
def pace() -> CountingPace:
    return CountingPace()


@pytest.fixture
def front(moto_url: str) -> Iterator[S3Front]:
    client = open_client(settings_of(moto_url))
    empty(client, BUCKET)
    for location in LOCATIONS:
        client.put_object(Bucket=BUCKET, Key=location.path, Body=b"x" * 1_000)
    client.close()
    with S3Front(moto_url) as front:
        yield front


def test_every_request_to_a_hot_store_on_s3(front: S3Front, pace: CountingPace) -> None:
    store = S3HotStore(replace(settings_of(front.url), pace=pace))
    ask_everything(store)
    front.rule = lambda asked: (
        Refusal(501, "NotImplemented") if "delete" in asked.query else None
    )
    targets = [(at, identity) for at, identity in seen(store, LOCATIONS[20:]).items()]
    assert set(store.delete(targets, anytime).values()) == {Deleted.DELETED}
    store.close()

    assert pace.requests_count == front.meter.requests_count
    assert pace.ahead_count == 1 + 1 + 20  # in bulk, in bulk refused, and singly


def test_every_request_to_supabase(pace: CountingPace) -> None:
    with SupabaseStandIn() as standin, S3Front(standin.url) as front:
        for location in LOCATIONS:
            standin.plant(location.bucket, location.path, b"x" * 1_000)
        store = SupabaseHotStore(SupabaseSettings(front.url, Secret(SERVICE_KEY), pace=pace))
        ask_everything(store)
        standin.on("get", chunked=True)
        with store.open(LOCATIONS[20]) as found:
            found.read()
        standin.on("get", status=503, headers={"Retry-After": "3"})
        with pytest.raises(Exception, match="503"), store.open(LOCATIONS[20]):
            pass
        store.close()

        assert pace.requests_count == front.meter.requests_count
        assert pace.ahead_count == 1
        assert pace.pauses == [3]


def ask_everything(store: HotStore) -> None:
    with store.open(LOCATIONS[0]) as found:
        assert len(found.read()) == 1_000
    identity = seen(store, LOCATIONS[:1])[LOCATIONS[0]]
    assert len(store.read_range(LOCATIONS[0], identity, 100, 400)) == 300
    targets = list(seen(store, LOCATIONS[:20]).items())
    seen(store, LOCATIONS[:3])
    assert set(store.delete(targets, anytime).values()) == {Deleted.DELETED}
    assert store.identify([LOCATIONS[0]]) == {LOCATIONS[0]: None}
    store.probe(BUCKET)


def seen(store: HotStore, locations: list[HotLocation]) -> dict[HotLocation, HotIdentity]:
    return {at: it for at, it in store.identify(locations).items() if it is not None}


@pytest.mark.parametrize("store_class", [S3ColdStore, Boto3ColdStore])
def test_every_request_to_a_cold_store_on_s3_and_of_its_probe(
    front: S3Front, pace: CountingPace, store_class: type[S3ColdStore | Boto3ColdStore]
) -> None:
    settings = replace(settings_of(front.url), pace=pace)
    provider = PROVIDERS["minio"]
    probe_cold(settings, provider, BUCKET, "app/")
    store = store_class(settings, provider, BUCKET, "app/", ENFORCES_ALL)
    key = ColdKey("app/page")
    sent_bytes, read_bytes = pace.sent_bytes, pace.read_bytes
    store.create(key, b"y" * 500, metadata={}, content_type="text/html", content_encoding=None)
    store.readback(key)
    store.read(key)
    assert (pace.sent_bytes - sent_bytes, pace.read_bytes - read_bytes) == (500, 1_000)
    stat = store.stat_many([key])[key]
    assert stat is not None
    sent_bytes = pace.sent_bytes
    store.read_range(stat, 100, 400)
    upload = store.multipart.begin(
        key, part_bytes=5 << 20, metadata={}, content_type=None, content_encoding=None
    )
    store.multipart.put_part(upload, 1, b"z" * 700)
    assert pace.sent_bytes - sent_bytes == 300 + 700
    assert len(store.multipart.parts(upload)) == 1
    assert len(list(store.multipart.open_uploads(key))) == 1
    store.multipart.abort(upload)
    store.look(key)
    store.look(ColdKey("app/none"))
    store.stat_many([key])
    store.stat_many([ColdKey(at.path) for at in LOCATIONS])
    store.held_digest(key)
    list(store.list("pages/"))
    store.close()

    assert pace.requests_count == front.meter.requests_count


def test_a_listing_that_comes_in_chunks_counts_whole(
    front: S3Front, pace: CountingPace
) -> None:
    front.is_chunked = True
    settings = replace(settings_of(front.url), pace=pace)
    store = Boto3ColdStore(settings, PROVIDERS["minio"], BUCKET, "", ENFORCES_ALL)
    assert len(list(store.list("pages/"))) == len(LOCATIONS)
    store.close()

    assert pace.read_bytes == front.meter.bytes_count > 0


def test_a_pause_is_read_from_what_the_second_question_brings(
    front: S3Front, pace: CountingPace
) -> None:
    front.rule = lambda _: Refusal(503, "SlowDown", {"Retry-After": "4"})
    store = S3HotStore(replace(settings_of(front.url), pace=pace))
    with pytest.raises(Exception, match="SlowDown"), store.open(LOCATIONS[0]):
        pass
    store.close()

    assert pace.pauses == [4]
    assert pace.requests_count == front.meter.requests_count == 2
