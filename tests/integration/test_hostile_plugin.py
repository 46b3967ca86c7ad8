"""What a plugin may return and Postgres cannot keep: a bad row, and the next one is archived.

Through the real claim: `PluginSource`, Postgres, the engine, two directories.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest

from archiver.sources.plugins import PluginCandidate, PluginSource
from tests.harness.things import BUCKET, Thing

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from archiver.model import Position, Receipt
    from tests.harness.things import Sandbox

GOOD = PluginCandidate(
    id="good", due_at=datetime(2025, 1, 1, tzinfo=UTC), hot_bucket=BUCKET, hot_path="good"
)
# No compression makes an entry of an index of it.
LONG = "".join(hashlib.sha256(bytes([n // 256, n % 256])).hexdigest() for n in range(2000))
CANNOT_BE_KEPT: dict[str, dict[str, Any]] = {
    **{
        f"{field} {what}": {field: text}
        for what, text in {"NUL": "a\0b", "surrogate": "a\ud800b", "byte": "a\udcffb"}.items()
        for field in (
            "id",
            "hot_bucket",
            "hot_path",
            "digest",
            "content_digest",
            "content_type",
            "content_encoding",
            "group_id",
        )
    },
    "metadata NUL": {"metadata": {"a": "b\0"}},
    "metadata surrogate": {"metadata": {"a\ud800": "b"}},
    **{
        f"size {size_bytes}": {"size_bytes": size_bytes}
        for size_bytes in (-1, 2**63, 2**64, 10**400, -(2**63) - 1)
    },
    "id long": {"id": LONG},
    "path long": {"hot_path": LONG},
    "bucket long": {"hot_bucket": LONG},
    "path none": {"hot_path": None},
    "bucket none": {"hot_bucket": None},
}


@dataclass
class Hostile:
    """Returns what it is given, in order; flips rows of `things`."""

    offered: Sequence[PluginCandidate]
    name: str = "things"

    def cold_key(self, candidate: PluginCandidate) -> str:
        return f"things/{candidate.id.encode(errors='surrogatepass').hex()[:100]}"

    def find_candidates(self, limit: int, after: Position | None) -> list[PluginCandidate]:
        places = [(one.due_at, one.id) for one in self.offered]
        begin = 0 if after is None else 1 + places.index((after.due_at, after.id))
        return list(self.offered)[begin : begin + limit]

    def on_archived(self, receipts: Sequence[Receipt], tx: Any) -> Collection[str]:
        taken = set()
        for receipt in receipts:
            found = tx.execute(
                "update things set cold_key = %s, hot_path = null "
                "where id = %s and hot_path = %s returning id",
                [receipt.cold.key, receipt.id, receipt.location.path],
            ).fetchall()
            taken |= {id_ for (id_,) in found}
        return taken


def test_what_postgres_cannot_keep_parks_alone(sandbox: Sandbox) -> None:
    sandbox.plant(Thing("good", BUCKET, "good", body=b"a page"))
    bad = [
        replace(GOOD, **{"id": f"{number:03} {what}", "due_at": _at(number), **fields})
        for number, (what, fields) in enumerate(CANNOT_BE_KEPT.items())
    ]
    for one in bad:
        if LONG in (one.hot_path, one.hot_bucket):  # kept, and nothing has that name
            sandbox.plant(Thing(one.id, one.hot_bucket, one.hot_path))
    good = replace(GOOD, due_at=_at(len(bad)))
    sandbox.source = PluginSource(Hostile([*bad, good]))

    summary = sandbox.sweep()

    assert (summary.state, summary.error) == ("done", None)
    assert (summary.archived, summary.parked) == (1, len(bad))
    assert sandbox.is_archived("good", b"a page")
    for reason in sandbox.reasons():
        assert reason.isprintable()
        assert len(reason) < 2000


@pytest.mark.parametrize(
    "due_at",
    [
        datetime.min.replace(tzinfo=UTC),
        datetime.max.replace(tzinfo=UTC),
        datetime.min.replace(tzinfo=timezone(timedelta(hours=14))),
        datetime.max.replace(tzinfo=timezone(timedelta(hours=-12))),
    ],
    ids=["first", "last", "before the first", "after the last"],
)
def test_the_ends_of_time_stop_nobody(sandbox: Sandbox, due_at: datetime) -> None:
    sandbox.plant(Thing("good", BUCKET, "good", body=b"a page"))
    sandbox.plant(Thing("end", BUCKET, "end", body=b"another page"))
    end = replace(GOOD, id="end", hot_path="end", due_at=due_at)
    offered = [end, GOOD] if due_at.year == 1 else [GOOD, end]
    sandbox.source = PluginSource(Hostile(offered))

    summary = sandbox.sweep()

    assert (summary.state, summary.error) == ("done", None)
    assert sandbox.is_archived("good", b"a page")
    assert summary.archived + summary.parked == 2
    assert sandbox.is_archived("end", b"another page") or "end" in sandbox.hot_files()


def _at(number: int) -> datetime:
    return GOOD.due_at + timedelta(minutes=number)
