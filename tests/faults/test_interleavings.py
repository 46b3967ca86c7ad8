"""Two workers, the application, the clock and the network, in every order up to a bound.

What is explored, and what must hold after each step: `tests/harness/rivals.py`. Each mutant
takes one guard away, and the search has to find an order in which that does harm.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from archiver.engine import large_move, recording
from archiver.engine.copies import Copies
from archiver.engine.lease import Heartbeat
from archiver.engine.parts import PartSender, Sending
from archiver.engine.release import Releaser
from archiver.engine.verify import Verified, _receipt
from archiver.model import ClaimState, Evidence, OpenUpload
from tests.fakes.ledger import FakeClaims, FakeReleases, FakeUploads
from tests.fakes.stores import ENFORCES_ALL, FakeColdStore
from tests.fakes.table_source import MemorySource
from tests.harness.rivals import (
    ENFORCES_NO_CREATE,
    MOVES,
    SAME,
    Bounds,
    Setting,
    Violation,
    explore,
    replay,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from archiver.model import ColdKey, ColdStat, Part, Release, Sent, Upload
    from tests.harness.figures import TellFigure

Mutate = Callable[[pytest.MonkeyPatch], None]

ONE = Bounds(preemptions=1, events=1)
MOVING = Setting(bounds=ONE, plan=MOVES)
RELEASING = Setting(bounds=ONE, begins_archived=True, begins_vouched=True)
POINTING_BACK = Bounds(preemptions=1, events=1, kinds={"points back": 1})
CAPTURED = Bounds(preemptions=1, events=1, kinds={"puts": 1})
OVERWRITTEN = Bounds(preemptions=1, events=1, kinds={"puts": 1, "net": 1})
SHARING = Setting(
    bounds=Bounds(1, 0), shares_an_object=True, begins_vouched=True, grace_seconds=0.25
)


# An object of two parts.
IN_PARTS = Setting(bounds=Bounds(0, 1), plan=MOVES, part_bytes=11)
KEEPS_NO_REFUSED = replace(ENFORCES_ALL, keeps_refused_parts=False)


def only(*kinds: str, preemptions: int = 1) -> Bounds:
    return Bounds(preemptions, len(kinds), dict.fromkeys(kinds, 1))


@pytest.mark.parametrize(
    ("told", "setting"),
    [
        ("moves", MOVING),
        (
            "moves, digest keys",
            replace(MOVING, bounds=OVERWRITTEN, capabilities=ENFORCES_NO_CREATE),
        ),
        ("releases", RELEASING),
        ("releases, pointed back", replace(RELEASING, bounds=POINTING_BACK)),
        ("an object of two rows, and a grace", SHARING),
        ("parts", IN_PARTS),
    ],
)
def test_no_promise_is_broken_in_any_order(
    told: str, setting: Setting, tell_figure: TellFigure
) -> None:
    explored = explore(setting)

    tell_figure(f"interleavings, {told}, {setting.bounds}", str(explored))
    assert explored.windows_count == 0
    assert explored.states_count > 100


def test_without_conditional_deletes_only_the_documented_window_loses(
    tell_figure: TellFigure,
) -> None:
    """An object overwritten after the last look, and before its delete took effect."""
    setting = replace(RELEASING, bounds=OVERWRITTEN, deletes_by_identity=False)

    explored = explore(setting)

    tell_figure(f"interleavings, releases without a condition, {setting.bounds}", str(explored))
    assert explored.windows_count > 0  # else the model would not show what the page says


def test_the_same_bytes_captured_again_are_recovered(
    tell_figure: TellFigure,
) -> None:
    """Where a store tells no versions, the row may dangle until the next sweep."""
    setting = replace(RELEASING, bounds=CAPTURED, captures=SAME, tells_versions=False)

    explored = explore(setting)

    tell_figure(f"interleavings, the same bytes again, {setting.bounds}", str(explored))
    assert explored.excused_count > 0  # it did dangle


def test_without_digests_a_page_captured_again_stays_in_hot(tell_figure: TellFigure) -> None:
    """Its row may say where the version before is: nobody could tell them apart."""
    setting = replace(MOVING, bounds=CAPTURED, promises_digests=False)

    explored = explore(setting)

    tell_figure(f"interleavings, no digests, {setting.bounds}", str(explored))
    assert explored.excused_count > 0


def test_no_create_is_begun_past_the_lease_though_the_first_key_was_taken() -> None:
    """Found by the search: between two keys a worker did not look at its lease."""
    archived = ["A"] * 8
    key_is_taken = ["B"] * 4
    schedule = [*archived, "application puts", "application points", *key_is_taken, "B sleeps"]

    story = replay(MOVING, schedule)

    assert "cold.create jobs/1.html.gz (KeyTaken)" in story
    assert "B its sweep is over: fatal This worker's lease ran out" in story


# --- guards taken away ----------------------------------------------------------------------


def put_unconditionally(patch: pytest.MonkeyPatch) -> None:
    """The store says that it enforces a create, and writes over what is there."""
    create = FakeColdStore.create

    def put(self: FakeColdStore, key: ColdKey, body: bytes, **named: Any) -> ColdStat:
        self.lose(key)
        return create(self, key, body, **named)

    patch.setattr(FakeColdStore, "create", put)


def believe_a_taken_key(patch: pytest.MonkeyPatch) -> None:
    """What lies at a key is taken for a copy, unread."""
    patch.setattr(Copies, "copy_at", lambda _self, found, *_: found.stat)


def drop_the_fence(patch: pytest.MonkeyPatch) -> None:
    """The ledger compares neither token nor lease with what a claim says now."""
    record = FakeClaims.record

    def held(self: FakeClaims, id_: Any, _token: object) -> Any:
        row = self._tables.claims.get((self._source.name, id_))
        return row if row is not None and row.state is ClaimState.CLAIMED else None

    def unfenced(self: FakeClaims, receipts: Any) -> Any:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(self._fleet, "is_alive", lambda _worker: True)
            return record(self, receipts)

    patch.setattr(FakeClaims, "_held", held)
    patch.setattr(FakeClaims, "record", unfenced)


def never_look_at_the_lease(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Heartbeat, "require", lambda _self, _seconds=0.0: None)


def ask_no_row_who_points(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(MemorySource, "points_at", lambda _self, _locations, _tx: set())


def delete_without_a_look(patch: pytest.MonkeyPatch) -> None:
    """Whatever lies there now is let go of."""

    def trust(self: Releaser, releases: Sequence[Release], _done: object) -> Any:
        return list(releases), self.clock.monotonic()

    patch.setattr(Releaser, "_still_the_same", trust)


def mint_before_the_proof(patch: pytest.MonkeyPatch) -> None:
    """What a store acknowledged has a receipt."""

    def believe(window: Sequence[Sent], _stores: object) -> Verified:
        return Verified([(sent, _receipt(sent, Evidence.SIGNED)) for sent in window])

    patch.setattr(recording, "verify", believe)


def flip_whatever_the_row_says(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(MemorySource, "_matches", lambda self, receipt: receipt.id in self._rows)


def leave_no_grace(patch: pytest.MonkeyPatch) -> None:
    keep = FakeClaims._keep

    def at_once(self: FakeClaims, receipt: Any) -> None:
        self._grace_seconds = 0.0
        keep(self, receipt)

    patch.setattr(FakeClaims, "_keep", at_once)


def hand_out_releases_twice(patch: pytest.MonkeyPatch) -> None:
    def due(self: FakeReleases) -> Any:
        now = self._ledger.clock.monotonic()
        return [row for row in self._tables.releases.values() if row.due_at <= now]

    patch.setattr(FakeReleases, "_due", due)


def complete_without_asking(patch: pytest.MonkeyPatch) -> None:
    """Neither the lease nor the record is looked at."""
    patch.setattr(Heartbeat, "require", lambda _self, _seconds=0.0: None)
    patch.setattr(FakeUploads, "require", lambda _self, _upload: None)


def abort_without_asking(patch: pytest.MonkeyPatch) -> None:
    def abandon(self: PartSender, upload: Upload, _reason: str) -> None:
        if upload.upload_id is not None:
            self.cold.multipart.abort(OpenUpload(upload.plan.location.key, upload.upload_id))
        self.uploads.forget(upload)

    patch.setattr(PartSender, "abandon", abandon)


def name_all_versions_alike(patch: pytest.MonkeyPatch) -> None:
    """Neither the key nor the record of an upload says which bytes."""
    patch.setattr(large_move, "origin_of", lambda location, _identity: location.path)


def believe_resumed_parts(patch: pytest.MonkeyPatch) -> None:
    """The same, and a part that was sent before is not compared with what is read now."""
    name_all_versions_alike(patch)
    put = Sending.put

    def believe(self: Sending, number: int, body: bytes) -> Part:
        return self.acknowledged.get(number) or put(self, number, body)

    patch.setattr(Sending, "put", believe)


def leave_what_was_begun(patch: pytest.MonkeyPatch) -> None:
    """What a lost answer, or a lost record, has left is not looked for."""
    patch.setattr(PartSender, "_abort_lost", lambda _self, _upload: None)


CAPTURING = Setting(bounds=only("puts"), plan=MOVES)
MUTANTS: list[tuple[Mutate, Setting, str]] = [
    (put_unconditionally, CAPTURING, "G9: jobs/1.html.gz holds other bytes"),
    (believe_a_taken_key, CAPTURING, "points at something else in cold"),
    (drop_the_fence, Setting(bounds=only("sleeps"), plan=MOVES), "recorded 1 past its lease"),
    (
        never_look_at_the_lease,
        Setting(bounds=only("sleeps", preemptions=0), plan=MOVES),
        "cold.create jobs/1.html.gz of A was begun past its lease",
    ),
    (
        never_look_at_the_lease,
        replace(RELEASING, bounds=only("sleeps", preemptions=0)),
        "hot.delete pages/jobs/1.html.gz of A was begun past its lease",
    ),
    (
        ask_no_row_who_points,
        SHARING,
        "points at nothing in hot",
    ),
    (
        ask_no_row_who_points,
        replace(RELEASING, bounds=POINTING_BACK),
        "points at nothing in hot",
    ),
    (
        delete_without_a_look,
        replace(RELEASING, bounds=only("puts"), deletes_by_identity=False),
        "was deleted without a receipt for its bytes",
    ),
    (
        mint_before_the_proof,
        Setting(bounds=only("net"), plan=MOVES),
        "points at something else in cold",
    ),
    (flip_whatever_the_row_says, CAPTURING, "points at something else in cold"),
    (leave_no_grace, SHARING, "deleted within the grace"),
    (hand_out_releases_twice, replace(RELEASING, bounds=only()), "which is another's"),
    (
        complete_without_asking,
        replace(IN_PARTS, bounds=only("sleeps", preemptions=0)),
        "of A was begun past its lease",
    ),
    (
        abort_without_asking,
        replace(IN_PARTS, bounds=only("puts", "sleeps", preemptions=0)),
        "of A was begun past its lease",
    ),
    (
        believe_resumed_parts,
        replace(
            IN_PARTS,
            bounds=only("puts", "dies", preemptions=0),
            promises_digests=False,
        ),
        "the note beside jobs/1.",
    ),
    (
        leave_what_was_begun,
        replace(IN_PARTS, bounds=only("dies", preemptions=0)),
        "is open at",
    ),
]


@pytest.mark.parametrize(
    ("mutate", "setting", "harm"), MUTANTS, ids=[f"{it[0].__name__}-{it[2]}" for it in MUTANTS]
)
def test_a_guard_that_is_taken_away_is_missed(
    mutate: Mutate, setting: Setting, harm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutate(monkeypatch)

    with pytest.raises(Violation) as found:
        explore(setting)

    assert harm in str(found.value)
    with pytest.raises(Violation) as again:  # by its schedule alone
        replay(setting, found.value.schedule)
    assert again.value.problems == found.value.problems
