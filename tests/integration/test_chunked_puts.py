"""Puts of bytes as they come, on stores and ledgers as they are."""

from __future__ import annotations

import textwrap
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from archiver.engine.streams import Streams
from archiver.errors import KeyTaken, PutNotFound
from archiver.ledger.sqlite.ledger import SqliteLedger, SqliteSettings
from archiver.model import ColdKey, Digest
from archiver.objects.chunked import ChunkedPuts
from archiver.ops.clock import SystemClock
from archiver.stores.cold_boto3 import Boto3ColdStore
from archiver.stores.cold_file import FileColdStore
from archiver.stores.cold_s3 import S3ColdStore
from tests.fakes.s3_worlds import BUCKET, ENFORCES_CREATE, cold_world, settings_of
from tests.harness.spent import python_measured

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from archiver.protocols import ColdStore

KEY = "app/uploads/film.bin"
PART_BYTES = 5 << 20  # the least that S3 takes
BODY = bytes(range(251)) * 50_000  # 12.5 MB: three parts
WAIT_SECONDS = 120.0


@pytest.fixture(params=["directory", "obstore", "boto3"])
def cold(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ColdStore]:
    if request.param == "directory":
        store: ColdStore = FileColdStore(tmp_path / "cold", BUCKET, "app/")
        (tmp_path / "cold" / BUCKET).mkdir(parents=True)
    else:
        kind = S3ColdStore if request.param == "obstore" else Boto3ColdStore
        url = request.getfixturevalue("moto_url")
        store = cold_world(settings_of(url), ENFORCES_CREATE, kind).store
    yield store
    store.close()


@pytest.fixture
def process(cold: ColdStore, tmp_path: Path) -> Iterator[Callable[[], ChunkedPuts]]:
    """Makes one more process, with the ledger of this machine."""
    with ExitStack() as closing:

        def begin() -> ChunkedPuts:
            settings = SqliteSettings(state_dir=tmp_path / "state")
            ledger = closing.enter_context(SqliteLedger(settings, SystemClock()))
            streams = Streams(part_bytes=PART_BYTES)
            closing.callback(streams.crew.close)
            return closing.enter_context(ChunkedPuts(cold, ledger, streams=streams))

        yield begin


def test_an_object_of_three_parts(cold: ColdStore, process: Callable[[], ChunkedPuts]) -> None:
    puts = process()
    pieces = (BODY[at : at + 70_001] for at in range(0, len(BODY), 70_001))

    put = puts.put_with_progress(
        KEY, len(BODY), pieces, digest=Digest.of(BODY), content_type="video/mp4"
    )

    told = list(put.statuses())
    assert [it.code for it in told] == ["progress"] * 3 + ["ok"]
    assert cold.read(ColdKey(KEY)) == BODY
    assert list(cold.multipart.open_uploads(KEY)) == []
    assert puts.incompletes() == []
    with pytest.raises(KeyTaken):
        puts.put_with_progress(KEY, 1)


def test_another_process_goes_on_where_one_was_closed(
    cold: ColdStore, process: Callable[[], ChunkedPuts]
) -> None:
    first = process()
    put = first.put_with_progress(KEY, len(BODY), digest=Digest.of(BODY))
    put.write(BODY[: PART_BYTES + 17])
    assert next(put.statuses()).sent_bytes == PART_BYTES
    first.close()

    with process().resume_put(KEY) as resumed:
        assert resumed.start_bytes == PART_BYTES
        resumed.write(BODY[resumed.start_bytes :])

    assert resumed.result(WAIT_SECONDS).digest == Digest.of(BODY)
    assert cold.read(ColdKey(KEY)) == BODY
    assert list(cold.multipart.open_uploads(KEY)) == []


def test_what_is_aborted_leaves_nothing(
    cold: ColdStore, process: Callable[[], ChunkedPuts]
) -> None:
    puts = process()
    put = puts.put_with_progress(KEY, None)
    put.write(BODY)
    puts.abort(KEY)

    assert list(put.statuses())[-1].code == "error"
    assert list(cold.multipart.open_uploads(KEY)) == []
    assert cold.stat_many([ColdKey(KEY)])[ColdKey(KEY)] is None
    with pytest.raises(PutNotFound):
        puts.resume_put(KEY)


def test_an_empty_object(cold: ColdStore, process: Callable[[], ChunkedPuts]) -> None:
    process().put_with_progress(KEY, None, []).result(WAIT_SECONDS)

    assert cold.read(ColdKey(KEY)) == b""


GIB_IN_PIECES = textwrap.dedent(
    """
    import sys
    from pathlib import Path

    from archiver.ledger.sqlite.ledger import SqliteLedger, SqliteSettings
    from archiver.objects.chunked import ChunkedPuts
    from archiver.ops.clock import SystemClock
    from archiver.stores.cold_file import FileColdStore

    at = Path(sys.argv[1])
    (at / "cold" / "b").mkdir(parents=True)
    cold = FileColdStore(at / "cold", "b", "")
    pieces = (bytes(1 << 16) for _ in range(1 << 14))
    ledger = SqliteLedger(SqliteSettings(state_dir=at / "state"), SystemClock())
    with ledger, ChunkedPuts(cold, ledger) as puts:
        print(puts.put_with_progress("zeros", 1 << 30, pieces).result().size_bytes)
    """
)


def test_a_gib_costs_the_parts_in_flight(tmp_path: Path) -> None:
    ran, spent = python_measured({}, ["-c", GIB_IN_PIECES, str(tmp_path)])

    assert ran.stdout == f"{1 << 30}\n", ran.stderr
    assert spent.peak_bytes <= 150 * 10**6
