"""A call's own limit: it covers the transfer, ends it, and leaves nothing that goes on."""

from __future__ import annotations

import io
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from archiver.errors import StoreUnavailable, TransferTimeout
from archiver.model import Secret
from archiver.objects.sending import PART_BYTES
from archiver.objects.service import ObjectService
from archiver.stores.objects_file import FileObjectStore
from archiver.stores.objects_s3 import S3ObjectStore
from archiver.stores.objects_supabase import SupabaseObjectStore
from archiver.stores.providers import PROVIDERS
from archiver.stores.s3_questions import open_client
from archiver.stores.supabase_wire import SupabaseSettings
from tests.fakes.s3_worlds import BUCKET, ENFORCES_CREATE, empty, peek, settings_of
from tests.harness.wire import How, Wire
from tests.standin.supabase import SupabaseStandIn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LARGE = bytes(2 * PART_BYTES + 5)
LIMIT_SECONDS = 0.5
PATIENCE_SECONDS = 15.0  # a bound, not an expectation: the stores' own timeout is twice that


@dataclass
class FarWorld:
    objects: ObjectService
    wire: Wire
    peek: Callable[[str], bytes | None]
    left_behind: Callable[[], object]


@pytest.fixture(params=["s3", "supabase"])
def world(request: pytest.FixtureRequest, moto_url: str) -> Iterator[FarWorld]:
    opened = _s3(moto_url) if request.param == "s3" else _supabase()
    with opened as world:
        world.objects.put("there", LARGE)
        world.wire.forget()
        yield world
        world.wire.mend()


@contextmanager
def _s3(moto_url: str) -> Iterator[FarWorld]:
    client = open_client(settings_of(moto_url))
    empty(client, BUCKET)
    # Of others, whose first answer was lost: nobody knows their ids.
    for upload in client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", []):
        client.abort_multipart_upload(
            Bucket=BUCKET, Key=upload["Key"], UploadId=upload["UploadId"]
        )
    with Wire(urlsplit(moto_url).port or 0) as wire:
        settings = settings_of(f"http://127.0.0.1:{wire.port}")
        store = S3ObjectStore(settings, PROVIDERS["minio"], BUCKET, "", ENFORCES_CREATE)
        with ObjectService(store) as objects:
            yield FarWorld(
                objects,
                wire,
                lambda key: peek(client, BUCKET, key),
                lambda: client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", []),
            )
    client.close()


@contextmanager
def _supabase() -> Iterator[FarWorld]:
    with SupabaseStandIn() as standin, Wire(urlsplit(standin.url).port or 0) as wire:
        standin.create_bucket(BUCKET)
        settings = SupabaseSettings(
            url=f"http://127.0.0.1:{wire.port}",
            service_role_key=Secret(standin.service_key),
            timeout_seconds=30,
        )
        with ObjectService(SupabaseObjectStore(settings, BUCKET)) as objects:
            yield FarWorld(objects, wire, lambda key: standin.peek(BUCKET, key), list)


def calls(objects: ObjectService, tmp_path: Path) -> dict[str, Callable[[], object]]:
    (tmp_path / "large").write_bytes(LARGE)
    return {
        "head": lambda: objects.head("there"),
        "get": lambda: objects.get("there"),
        "get_range": lambda: objects.get_range("there", 5, 10),
        "stream": lambda: objects.stream("there", io.BytesIO()),
        "download": lambda: objects.download("there", tmp_path / "file"),
        "list": lambda: list(objects.list()),
        "put": lambda: objects.put("new", b"x" * 100_000),
        "put in parts": lambda: objects.put("new", io.BytesIO(LARGE)),
        "upload": lambda: objects.upload("new", tmp_path / "large"),
        "delete": lambda: objects.delete("there"),
    }


NAMES = (
    "head",
    "get",
    "get_range",
    "stream",
    "download",
    "list",
    "put",
    "put in parts",
    "upload",
    "delete",
)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("how", [How.STALL, How.DEAF, How.SLOW], ids=str)
def test_m20_a_timeout_ends_the_transfer(
    world: FarWorld, tmp_path: Path, name: str, how: How
) -> None:
    call = calls(world.objects.limited(timeout_seconds=LIMIT_SECONDS), tmp_path)[name]
    world.wire.fail(how)
    began_at = time.monotonic()

    with pytest.raises(TransferTimeout, match=r"timeout_seconds=0\.5") as raised:
        call()

    assert time.monotonic() - began_at < PATIENCE_SECONDS
    assert raised.value.hint
    assert [] == transfer_threads()
    asked_count = world.wire.turns_count
    time.sleep(0.05)
    assert world.wire.turns_count == asked_count
    assert not (tmp_path / "file").exists()
    world.wire.mend()
    if how is How.STALL:  # else it may have arrived, and nobody heard of it in time
        assert world.peek("new") is None
        assert world.peek("there") == LARGE


def test_m20_a_timed_out_upload_leaves_no_parts(moto_url: str, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(LARGE)
    with _s3(moto_url) as world:
        short = world.objects.limited(timeout_seconds=1, concurrency=1)
        world.wire.at(
            lambda turn: b"partNumber=2" in turn.data, lambda: time.sleep(2), is_answered=True
        )

        with pytest.raises(TransferTimeout):
            short.upload("new", tmp_path / "large")

        assert [] == world.left_behind()
        assert world.peek("new") is None


@pytest.mark.parametrize("none", [0, None])
def test_m15_no_limit_is_none(world: FarWorld, none: int | None) -> None:
    objects = world.objects.limited(timeout_seconds=none, concurrency=none)
    world.wire.at(lambda turn: turn.number == 1, lambda: time.sleep(0.3))

    objects.put("new", LARGE)

    assert world.peek("new") == LARGE


def test_m15_the_limit_covers_the_callers_own_pace(world: FarWorld) -> None:
    """A writer or reader that takes its time is in the limit as well."""

    class Slow(io.BytesIO):
        def write(self, data: bytes, /) -> int:  # type: ignore[override]
            time.sleep(0.4)
            return len(data)

        def read(self, size: int | None = -1, /) -> bytes:
            time.sleep(0.4)
            return super().read(min(size or 0, 100_000))

    objects = world.objects.limited(timeout_seconds=LIMIT_SECONDS)
    with pytest.raises(TransferTimeout):
        objects.stream("there", Slow())
    with pytest.raises(TransferTimeout):
        objects.put("new", Slow(LARGE))
    assert world.peek("new") is None
    assert not world.left_behind()


def test_a_failed_part_ends_the_others(world: FarWorld, tmp_path: Path) -> None:
    world.wire.at(lambda turn: turn.number == 2, lambda: world.wire.fail(How.REFUSED))

    with pytest.raises(StoreUnavailable):
        world.objects.download("there", tmp_path / "file")

    assert [] == transfer_threads()
    assert [] == [it.name for it in tmp_path.iterdir()]


def test_a_limit_below_zero_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bucket").mkdir()
    service = ObjectService(FileObjectStore(tmp_path, "bucket"))
    for wrong in ({"timeout_seconds": -1.0}, {"concurrency": -1}):
        with pytest.raises(ValueError, match="below 0"):
            service.limited(**wrong)


def transfer_threads() -> list[str]:
    return [it.name for it in threading.enumerate() if it.name.startswith("archiver-pool")]
