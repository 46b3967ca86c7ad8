"""Every question of every store, answered by one hostile answer."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from archiver.errors import ArchiverError
from archiver.stores.hot_s3 import S3HotStore
from tests.fakes.s3_worlds import BUCKET as COLD
from tests.fakes.s3_worlds import settings_of
from tests.fakes.table_source import BUCKET as HOT
from tests.liar.hostile import ANSWERS, cold_asker, hot_asker, supabase_asker
from tests.liar.lies import ANY
from tests.liar.server import LyingS3

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.liar.hostile import Asker

_TIMEOUT_SECONDS = 5.0
_TOLD_LIMIT = 2_000  # characters of an error, its hint and a key included
_SENT_LIMIT_BYTES = (
    128 << 20
)  # of one question's answers: a few of 16 MiB, and what is buffered


@contextmanager
def asked_by(server: LyingS3) -> Iterator[dict[str, Asker]]:
    settings = replace(settings_of(server.url), timeout_seconds=_TIMEOUT_SECONDS)
    askers = [
        hot_asker("hot", S3HotStore(settings), is_bounded=False),
        cold_asker("obstore", settings),
        cold_asker("boto3", settings),
        supabase_asker(server.url, _TIMEOUT_SECONDS),
    ]
    yield {asker.name: asker for asker in askers}
    server.lies.forget()
    for asker in askers:
        asker.close()


@contextmanager
def running() -> Iterator[tuple[LyingS3, dict[str, Asker]]]:
    with LyingS3(COLD, HOT) as server, asked_by(server) as askers:
        yield server, askers


def ask_all(server: LyingS3, asker: Asker, answer: str) -> None:
    """Ask everything; whatever is made of the answer, it is no more than an error of ours."""
    for what, ask in asker.questions:
        server.lies.forget()
        lie = server.lies.on(ANY, times=None, answer=lambda _: ANSWERS[answer])
        before_bytes = server.sent_bytes
        try:
            ask()
        except ArchiverError as error:
            told = str(error)
            assert len(told) < _TOLD_LIMIT, what
        assert lie.told_count > 0, what
        if asker.is_bounded:
            assert server.sent_bytes - before_bytes < _SENT_LIMIT_BYTES, what
