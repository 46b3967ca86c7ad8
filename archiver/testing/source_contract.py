"""What every `ArchiveSource` promises, whoever wrote it.

A subclass gives the fixture `world`: the source, its database, and a way to plant rows.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

import psycopg
import pytest

from archiver.errors import RowMissing, SourceRefused
from archiver.model import (
    Candidate,
    CandidateId,
    ColdKey,
    ColdLocation,
    Digest,
    Evidence,
    FencingToken,
    HotIdentity,
    HotLocation,
    Receipt,
    WorkerId,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.model import Holding, Offer, Position
    from archiver.protocols import ArchiveSource

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


class SourceWorld(Protocol):
    """A source, the database its rows live in, and hands to plant rows with."""

    @property
    def source(self) -> ArchiveSource: ...

    @property
    def url(self) -> str: ...

    def plant(self, id_: str, due_at: datetime) -> None:
        """A row whose object may move, at a place in the order."""

    def change(self, id_: str) -> None:
        """The application points the row at another path; also one that was flipped."""

    def flipped_to(self, id_: str) -> str | None:
        """The cold key the row holds; None while it points hot."""


def receipt_for(candidate: Candidate, source: ArchiveSource, **changes: Any) -> Receipt:
    """The receipt that `verify` would mint for an unchanged candidate."""
    right = Receipt(
        source=source.name,
        id=candidate.id,
        token=FencingToken(epoch=1, worker=WorkerId(1), number=1),
        location=candidate.location,
        identity=HotIdentity(size_bytes=1, etag="e"),
        cold=ColdLocation("r2", "cold", candidate.cold_key),
        size_bytes=candidate.size_bytes or 1,
        digest=candidate.digest or Digest.of(b"x"),
        content_digest=candidate.content_digest,
        etag="e",
        evidence=Evidence.READBACK,
        group_id=candidate.group_id,
    )
    return replace(right, **changes)


class SourceContract:
    """Subclass it, and give it a `world`."""

    @pytest.fixture
    def tx(self, world: SourceWorld) -> Iterator[psycopg.Connection[Any]]:
        """An open transaction, rolled back at the end unless the test commits it."""
        with psycopg.connect(world.url) as connection:
            yield connection
            connection.rollback()

    def candidates(self, world: SourceWorld, tx: psycopg.Connection[Any]) -> list[Candidate]:
        world.source.prepare(tx)
        offers = world.source.find_candidates(100, None, tx)
        return [offer for offer in offers if isinstance(offer, Candidate)]

    def test_it_is_trusted_with_its_own_database(
        self, world: SourceWorld, tx: psycopg.Connection[Any]
    ) -> None:
        world.source.check(tx)  # nothing planted: nothing to prove it on
        world.plant("a", LONG_AGO)
        world.source.check(tx)
        assert world.flipped_to("a") is None

    def test_nothing_is_offered_where_nothing_is_due(
        self, world: SourceWorld, tx: psycopg.Connection[Any]
    ) -> None:
        world.source.prepare(tx)
        assert [] == list(world.source.find_candidates(10, None, tx))

    @pytest.mark.parametrize("limit", [1, 2, 3, 100])
    def test_pages_of_any_size_offer_each_row_once_and_in_order(
        self, world: SourceWorld, tx: psycopg.Connection[Any], limit: int
    ) -> None:
        planted = []
        for number, id_ in enumerate(["d", "b", "a", "e", "c", "f", "g"]):
            due_at = LONG_AGO + timedelta(hours=number // 3)  # ties: the id decides
            world.plant(id_, due_at)
            planted.append((due_at, id_))
        world.source.prepare(tx)
        offered: list[Offer] = []
        after: Position | None = None
        while page := world.source.find_candidates(limit, after, tx):
            assert len(page) <= limit
            offered += page
            after = page[-1].position
        assert sorted(planted) == [(offer.due_at, offer.id) for offer in offered]

    def test_what_is_counted_is_what_is_offered(
        self, world: SourceWorld, tx: psycopg.Connection[Any]
    ) -> None:
        for number in range(7):
            world.plant(f"row-{number}", LONG_AGO)
        world.source.prepare(tx)
        assert world.source.count_candidates(tx) == 7

    def test_only_the_receipts_row_is_flipped(
        self, world: SourceWorld, tx: psycopg.Connection[Any]
    ) -> None:
        world.plant("a", LONG_AGO)
        world.plant("b", LONG_AGO)
        first, second = self.candidates(world, tx)
        taken = world.source.on_archived([receipt_for(first, world.source)], tx)
        tx.commit()
        assert {first.id} == set(taken)
        assert first.cold_key == world.flipped_to(first.id)
        assert world.flipped_to(second.id) is None
        assert [second] == self.candidates(world, tx)

    def test_a_group_is_flipped_by_one_call_and_the_changed_row_left_out(
        self, world: SourceWorld, tx: psycopg.Connection[Any]
    ) -> None:
        for id_ in "abc":
            world.plant(id_, LONG_AGO)
        receipts = [receipt_for(one, world.source) for one in self.candidates(world, tx)]
        tx.commit()
        world.change("b")
        assert {"a", "c"} == set(world.source.on_archived(receipts, tx))

    def test_a_receipt_with_another_path_is_taken_by_nobody(
        self, world: SourceWorld, tx: psycopg.Connection[Any]
    ) -> None:
        world.plant("a", LONG_AGO)
        (one,) = self.candidates(world, tx)
        elsewhere = HotLocation(one.location.bucket, "elsewhere")
        wrong = receipt_for(one, world.source, location=elsewhere)
        assert [] == list(world.source.on_archived([wrong], tx))

    def test_a_receipt_for_a_row_that_is_gone_is_taken_by_nobody(
        self, world: SourceWorld, tx: psycopg.Connection[Any]
    ) -> None:
        world.plant("a", LONG_AGO)
        (one,) = self.candidates(world, tx)
        wrong = receipt_for(one, world.source, id=CandidateId("nobody"))
        assert [] == list(world.source.on_archived([wrong], tx))

    def test_the_second_call_takes_nothing(
        self, world: SourceWorld, tx: psycopg.Connection[Any]
    ) -> None:
        world.plant("a", LONG_AGO)
        (one,) = self.candidates(world, tx)
        right = receipt_for(one, world.source)
        assert ["a"] == list(world.source.on_archived([right], tx))
        assert [] == list(world.source.on_archived([right], tx))

    def test_a_flipped_row_goes_back_once_and_only_for_its_cold_key(
        self, world: SourceWorld, tx: psycopg.Connection[Any]
    ) -> None:
        if not world.source.can_restore:
            return  # its rows need not be pointed back
        one, right = self._flipped(world, tx)
        other_key = replace(right.cold, key=ColdKey(f"{right.cold.key}~"))
        assert [] == list(world.source.on_restored([replace(right, cold=other_key)], tx))
        assert ["a"] == list(world.source.on_restored([right], tx))
        assert [] == list(world.source.on_restored([right], tx))
        tx.commit()
        assert world.flipped_to("a") is None
        assert [one] == self.candidates(world, tx)

    def test_a_flipped_row_that_was_captured_again_keeps_its_new_pointer(
        self, world: SourceWorld, tx: psycopg.Connection[Any]
    ) -> None:
        if not world.source.can_restore:
            return
        _, right = self._flipped(world, tx)
        world.change("a")
        assert [] == list(world.source.on_restored([right], tx))

    def _flipped(
        self, world: SourceWorld, tx: psycopg.Connection[Any]
    ) -> tuple[Candidate, Receipt]:
        """A flipped row: as it was before, and its receipt."""
        world.plant("a", LONG_AGO)
        (one,) = self.candidates(world, tx)
        right = receipt_for(one, world.source)
        assert ["a"] == list(world.source.on_archived([right], tx))
        tx.commit()
        return one, right

    def test_a_row_is_located_hot_and_once_flipped_cold_or_that_is_refused(
        self, world: SourceWorld, tx: psycopg.Connection[Any]
    ) -> None:
        world.plant("a", LONG_AGO)
        (one,) = self.candidates(world, tx)
        try:
            before = world.source.locate(one.id, tx)
        except SourceRefused:
            return  # it need not say how its rows are read
        assert before.hot == one.location
        world.source.on_archived([receipt_for(one, world.source)], tx)
        after = world.source.locate(one.id, tx)
        assert after.hot is None
        assert after.cold is not None
        assert (after.cold.bucket, after.cold.key) == ("cold", one.cold_key)
        with pytest.raises(RowMissing):
            world.source.locate(CandidateId("nobody"), tx)

    def test_empty_groups_are_nothing_to_do(
        self, world: SourceWorld, tx: psycopg.Connection[Any]
    ) -> None:
        assert [] == list(world.source.on_archived([], tx))
        assert [] == list(world.source.points_at([], tx))

    @pytest.mark.parametrize("limit", [1, 2, 100])
    def test_what_is_archived_is_told_once_with_its_key(
        self, world: SourceWorld, tx: psycopg.Connection[Any], limit: int
    ) -> None:
        try:
            assert [] == list(world.source.holdings(limit, None, tx))
        except SourceRefused:
            return  # it need not tell them; `check` proves a section or method that is there
        for id_ in ["d", "b", "a", "e", "c"]:
            world.plant(id_, LONG_AGO)
        due = self.candidates(world, tx)
        moved = [it for it in due if it.id != "c"]
        world.source.on_archived([receipt_for(it, world.source) for it in moved], tx)
        tx.commit()
        told: list[Holding] = []
        after: CandidateId | None = None
        while page := world.source.holdings(limit, after, tx):
            told += page
            after = page[-1].id
        assert {it.id: it.cold_key for it in moved} == {it.id: it.cold_key for it in told}
        assert len(moved) == len(told)
        assert {"cold"} == {it.cold_bucket for it in told}
        assert {""} == {it.problem for it in told}

    def test_the_transaction_is_the_callers_to_end(
        self, world: SourceWorld, tx: psycopg.Connection[Any]
    ) -> None:
        world.plant("a", LONG_AGO)
        (one,) = self.candidates(world, tx)
        world.source.on_archived([receipt_for(one, world.source)], tx)
        world.source.housekeeping(tx, everything=True)
        tx.rollback()
        assert world.flipped_to("a") is None
        assert [one] == self.candidates(world, tx)
