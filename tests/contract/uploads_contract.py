"""What every record of uploads must do: the lines of `protocols.Uploads` as claims.

A test module subclasses `UploadsContract` and gives the fixture `world`: workers of one
fleet, and a way to let time pass.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from functools import partial
from threading import Barrier
from typing import TYPE_CHECKING, Protocol

import pytest

from archiver.errors import LeaseLost, UploadBusy
from archiver.model import (
    CandidateId,
    ColdKey,
    ColdLocation,
    ColdPlace,
    Digest,
    Part,
    SourceName,
    UploadPlan,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from archiver.model import Upload
    from archiver.protocols import Uploads

LEASE_SECONDS = 60.0
EXPIRY_SECONDS = 7200.0
PART_BYTES = 8 << 20
PLACE = ColdPlace("r2", "cold", "")
A_SECOND = timedelta(seconds=1)  # what a real database may take between two questions
A_MINUTE = timedelta(minutes=1)


class Ledger(Protocol):
    """One worker's view of the ledger under test; the worker has joined."""

    @property
    def uploads(self) -> Uploads: ...


class UploadsWorld(Protocol):
    """Workers and time. The numbers above are the settings of every worker."""

    def worker(self) -> Ledger:
        """A new worker of the fleet; it has joined."""

    def leave(self, worker: Ledger) -> None:
        """This worker ends in good order."""

    def pass_time(self, seconds: float) -> None:
        """For leases and expiries; nobody beats meanwhile."""

    def raise_epoch(self) -> None:
        """No worker from before may do anything any more."""


def plan(key: str = "jobs/a.bin", **changes: object) -> UploadPlan:
    made = UploadPlan(
        location=ColdLocation("r2", "cold", ColdKey(key)),
        origin="hot/jobs/a.bin etag-1",
        size_bytes=5 * PART_BYTES,
        part_bytes=PART_BYTES,
        source=SourceName("files"),
        id=CandidateId(key),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def part(number: int, body: bytes = b"", etag: str | None = None) -> Part:
    return Part(number, PART_BYTES, Digest.of(body), etag or f'"etag-{number}"')


def numbers(upload: Upload) -> list[int]:
    return [it.number for it in upload.parts]


def outcomes_of(*calls: Callable[[], object]) -> list[object]:
    """What calls that begin at once return or raise, each in a thread of its own."""
    gate = Barrier(len(calls))

    def one(call: Callable[[], object]) -> object:
        gate.wait(30)
        try:
            return call()
        except (UploadBusy, LeaseLost) as exc:
            return exc

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(one, calls))


class UploadsContract:
    @pytest.fixture
    def world(self) -> UploadsWorld:
        raise NotImplementedError

    @pytest.fixture
    def one(self, world: UploadsWorld) -> Uploads:
        return world.worker().uploads

    @pytest.fixture
    def other(self, world: UploadsWorld) -> Uploads:
        return world.worker().uploads

    # --- taking ------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        "asked",
        [
            plan(),
            plan(size_bytes=None, source=None, id=None),
            plan("ключ/ü %;'\"\\\n", origin="a\tb" * 300),
            plan(size_bytes=5 << 40, part_bytes=5 << 30),
        ],
        ids=["of a row", "pushed", "of odd names", "large"],
    )
    def test_a_plan_that_nobody_has_begun_is_a_new_upload(
        self, one: Uploads, asked: UploadPlan
    ) -> None:
        taken = one.take(asked)

        assert (taken.stale, taken.upload.plan) == ((), asked)
        assert (taken.upload.upload_id, taken.upload.parts) == (None, ())
        lasts = taken.upload.expires_at - taken.upload.begun_at
        assert abs(lasts - timedelta(seconds=EXPIRY_SECONDS)) < A_SECOND
        assert one.uploads() == [taken.upload]

    def test_an_upload_is_on_record_before_it_is_begun(
        self, one: Uploads, other: Uploads
    ) -> None:
        taken = one.take(plan())

        assert other.uploads() == [taken.upload]

    def test_the_same_worker_takes_it_again_under_a_higher_token(self, one: Uploads) -> None:
        first = one.take(plan()).upload
        begun = one.begun(first, "id-1")
        one.save_part(begun, part(2))

        again = one.take(plan())

        assert (again.upload.number, again.stale) == (first.number, ())
        assert (again.upload.upload_id, again.upload.parts) == ("id-1", (part(2),))
        assert again.upload.token.number > first.token.number
        with pytest.raises(UploadBusy):  # what the earlier call began is not ours any more
            one.save_part(begun, part(3))

    def test_a_live_workers_upload_is_busy(self, one: Uploads, other: Uploads) -> None:
        upload = one.begun(one.take(plan()).upload, "id-1")

        for asked in (plan(), plan(origin="newer"), plan(size_bytes=1), plan(part_bytes=1)):
            with pytest.raises(UploadBusy, match=r"jobs/a\.bin"):
                other.take(asked)

        one.save_part(upload, part(1))
        assert len(one.uploads()) == 1

    def test_of_workers_that_take_one_plan_at_once_one_owns_it(
        self, world: UploadsWorld
    ) -> None:
        workers = [world.worker().uploads for _ in range(4)]

        for turn in range(5):
            asked = plan(f"jobs/{turn}.bin")
            took = outcomes_of(*(partial(it.take, asked) for it in workers))
            assert sum(isinstance(it, UploadBusy) for it in took) == 3
        assert len(workers[0].uploads()) == 5

    def test_threads_of_one_worker_that_take_one_plan_share_one_upload(
        self, one: Uploads
    ) -> None:
        took = outcomes_of(*(lambda: one.take(plan()).upload for _ in range(4)))

        assert len({it.number for it in took}) == 1  # type: ignore[attr-defined]
        assert len({it.token for it in took}) == 4  # type: ignore[attr-defined]

    def test_uploads_of_other_locations_are_other_uploads(
        self, one: Uploads, other: Uploads
    ) -> None:
        place = plan().location
        elsewhere = [
            plan(location=replace(place, provider="s3"), source=None, id=None),
            plan(location=replace(place, bucket="colder"), source=None, id=None),
            plan("jobs/b.bin"),
        ]

        taken = [one.take(plan()), *map(other.take, elsewhere)]

        assert [it.stale for it in taken] == [()] * 4
        assert len(one.uploads()) == 4

    # --- parts -------------------------------------------------------------------------------

    def test_parts_come_back_in_order_with_their_gaps(self, one: Uploads) -> None:
        upload = one.begun(one.take(plan()).upload, "id-1")
        saved = [part(n, str(n).encode()) for n in (11, 2, 9, 10_000, 3)]
        for it in saved:
            one.save_part(upload, it)

        again = one.take(plan()).upload

        assert again.parts == tuple(sorted(saved, key=lambda it: it.number))
        assert one.uploads()[0].parts == again.parts

    def test_a_part_saved_again_stays_and_another_replaces_it(self, one: Uploads) -> None:
        upload = one.begun(one.take(plan()).upload, "id-1")
        one.save_part(upload, part(1))
        one.save_part(upload, part(1))
        one.save_part(upload, part(2))
        newer = replace(part(1, b"sent again", "etag-9"), size_bytes=0)

        one.save_part(upload, newer)

        assert one.take(plan()).upload.parts == (newer, part(2))

    def test_threads_save_the_parts_of_one_upload_at_once(self, one: Uploads) -> None:
        upload = one.begun(one.take(plan()).upload, "id-1")
        elsewhere = one.begun(one.take(plan("jobs/b.bin")).upload, "id-2")

        with ThreadPoolExecutor(8) as threads:
            for saving in (upload, elsewhere):
                for number in range(1, 41):
                    threads.submit(one.save_part, saving, part(number)).add_done_callback(
                        lambda it: it.result()
                    )

        assert [numbers(it) for it in one.uploads()] == [list(range(1, 41))] * 2

    def test_an_upload_of_thousands_of_parts_is_taken_whole(self, one: Uploads) -> None:
        upload = one.begun(one.take(plan()).upload, "id-1")
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(lambda n: one.save_part(upload, part(n)), range(1, 2001)))

        assert numbers(one.take(plan()).upload) == list(range(1, 2001))
        one.forget(one.take(plan()).upload)
        assert one.uploads() == []

    def test_a_part_puts_the_expiry_off(self, world: UploadsWorld) -> None:
        uploads = world.worker().uploads
        upload = uploads.begun(uploads.take(plan()).upload, "id-1")
        world.pass_time(LEASE_SECONDS / 2)

        uploads.save_part(upload, part(1))

        [put_off] = uploads.uploads()
        lasts = put_off.expires_at - put_off.begun_at
        wanted = timedelta(seconds=EXPIRY_SECONDS + LEASE_SECONDS / 2)
        assert abs(lasts - wanted) < A_SECOND

    # --- its id in the store -----------------------------------------------------------------

    def test_the_id_is_recorded_and_recorded_again(self, one: Uploads, other: Uploads) -> None:
        upload = one.take(plan()).upload

        begun = one.begun(upload, "id-1")

        assert begun == replace(upload, upload_id="id-1")
        one.save_part(begun, part(1))
        assert one.begun(replace(begun, parts=(part(1),)), "id-1").parts == (part(1),)
        assert [(it.upload_id, it.parts) for it in other.uploads()] == [("id-1", (part(1),))]

    def test_parts_of_another_id_are_dropped_and_not_saved(self, one: Uploads) -> None:
        first = one.begun(one.take(plan()).upload, "id-1")
        one.save_part(first, part(1))
        held = one.take(plan()).upload

        anew = one.begun(held, "id-2")

        assert (anew.upload_id, anew.parts) == ("id-2", ())
        assert one.uploads()[0].parts == ()
        with pytest.raises(UploadBusy):  # sent to the one that was begun before
            one.save_part(held, part(2))
        one.save_part(anew, part(2))
        assert numbers(one.uploads()[0]) == [2]

    # --- who owns it -------------------------------------------------------------------------

    def test_a_dead_workers_upload_is_taken_with_its_parts(self, world: UploadsWorld) -> None:
        dead = world.worker().uploads
        upload = dead.begun(dead.take(plan()).upload, "id-1")
        dead.save_part(upload, part(3))
        dead.save_part(upload, part(1))
        world.pass_time(LEASE_SECONDS + 1)
        heir = world.worker().uploads

        taken = heir.take(plan())

        assert (taken.upload.number, taken.upload.upload_id) == (upload.number, "id-1")
        assert taken.upload.parts == (part(1), part(3))
        heir.save_part(taken.upload, part(2))
        assert numbers(heir.take(plan()).upload) == [1, 2, 3]

    @pytest.mark.parametrize("is_taken", [True, False], ids=["taken over", "not taken over"])
    def test_a_worker_past_its_lease_writes_nothing(
        self, world: UploadsWorld, *, is_taken: bool
    ) -> None:
        late = world.worker().uploads
        upload = late.begun(late.take(plan()).upload, "id-1")
        late.save_part(upload, part(1))
        world.pass_time(LEASE_SECONDS + 1)
        if is_taken:
            world.worker().uploads.take(plan())
        before = late.uploads()

        for write in writes(late, upload):
            with pytest.raises(LeaseLost):
                write()
        late.give_back(upload)

        assert late.uploads() == before

    def test_a_raised_epoch_takes_it_away(self, world: UploadsWorld) -> None:
        fenced = world.worker().uploads
        upload = fenced.begun(fenced.take(plan()).upload, "id-1")
        fenced.save_part(upload, part(1))

        world.raise_epoch()

        for write in writes(fenced, upload):
            with pytest.raises(LeaseLost):
                write()
        taken = world.worker().uploads.take(plan()).upload
        assert (taken.number, taken.parts) == (upload.number, (part(1),))
        assert taken.token.epoch > upload.token.epoch

    def test_a_worker_that_left_leaves_its_uploads_to_others(self, world: UploadsWorld) -> None:
        gone = world.worker()
        upload = gone.uploads.take(plan()).upload
        world.leave(gone)

        taken = world.worker().uploads.take(plan()).upload

        assert taken.number == upload.number

    def test_what_is_given_back_is_anybodys_at_once(self, one: Uploads, other: Uploads) -> None:
        upload = one.begun(one.take(plan()).upload, "id-1")
        one.save_part(upload, part(1))

        one.give_back(upload)
        one.give_back(upload)

        taken = other.take(plan()).upload
        assert (taken.number, taken.parts) == (upload.number, (part(1),))
        one.give_back(upload)
        one.forget(upload)
        other.require(taken)
        with pytest.raises(UploadBusy):
            one.take(plan())

    def test_what_is_given_back_is_not_ours(self, one: Uploads) -> None:
        upload = one.take(plan()).upload
        one.give_back(upload)

        for write in writes(one, upload)[:-1]:
            with pytest.raises(UploadBusy):
                write()
        one.forget(upload)
        assert [it.number for it in one.uploads()] == [upload.number]

    def test_require_answers_whether_it_is_ours(self, world: UploadsWorld) -> None:
        uploads = world.worker().uploads
        upload = uploads.take(plan()).upload
        uploads.require(upload)
        uploads.require(upload)

        world.pass_time(LEASE_SECONDS + 1)

        with pytest.raises(LeaseLost):
            uploads.require(upload)

    # --- the end -----------------------------------------------------------------------------

    def test_what_is_forgotten_is_gone_with_its_parts(
        self, one: Uploads, other: Uploads
    ) -> None:
        upload = one.begun(one.take(plan()).upload, "id-1")
        one.save_part(upload, part(1))

        one.forget(upload)
        one.forget(upload)

        assert other.uploads() == []
        anew = other.take(plan())
        assert (anew.upload.upload_id, anew.upload.parts, anew.stale) == (None, (), ())
        assert anew.upload.number != upload.number

    def test_an_upload_forgotten_under_its_owners_feet_is_busy(self, one: Uploads) -> None:
        """Two threads of one worker: the token is the later one's, and it is done."""
        upload = one.begun(one.take(plan()).upload, "id-1")
        one.forget(one.take(plan()).upload)

        for write in writes(one, upload)[:-1]:
            with pytest.raises(UploadBusy):
                write()
        assert one.uploads() == []

    def test_parts_saved_while_it_is_taken_away_are_seen_or_refused(
        self, world: UploadsWorld
    ) -> None:
        """Whatever the order: a part that was saved is known to who owns it now."""
        uploads = world.worker().uploads
        for turn in range(10):
            asked = plan(f"jobs/{turn}.bin")
            upload = uploads.begun(uploads.take(asked).upload, "id-1")
            saved, taken = outcomes_of(
                partial(uploads.save_part, upload, part(1)), partial(uploads.take, asked)
            )
            was_saved = not isinstance(saved, UploadBusy)
            assert numbers(taken.upload) == [1] * was_saved  # type: ignore[attr-defined]

    # --- what a plan makes useless -----------------------------------------------------------

    @pytest.mark.parametrize(
        "change",
        [{"origin": "etag-2"}, {"size_bytes": 9}, {"size_bytes": None}, {"part_bytes": 9}],
        ids=lambda it: f"{it}",
    )
    def test_another_object_at_the_location_makes_the_upload_stale(
        self, one: Uploads, change: dict[str, object]
    ) -> None:
        old = one.begun(one.take(plan()).upload, "id-1")
        one.save_part(old, part(1))

        asked = replace(plan(), **change)  # type: ignore[arg-type]

        taken = one.take(asked)

        [stale] = taken.stale
        assert (stale.number, stale.plan, stale.upload_id) == (old.number, old.plan, "id-1")
        assert stale.parts == (part(1),)
        assert (taken.upload.plan, taken.upload.parts) == (asked, ())
        assert taken.upload.number != old.number
        with pytest.raises(UploadBusy):
            one.save_part(old, part(2))
        one.require(stale)
        one.forget(stale)
        one.require(taken.upload)
        assert [it.number for it in one.uploads()] == [taken.upload.number]

    def test_unknown_sizes_are_equal(self, one: Uploads) -> None:
        first = one.take(plan(size_bytes=None)).upload

        again = one.take(plan(size_bytes=None))

        assert (again.upload.number, again.stale) == (first.number, ())

    def test_a_row_at_another_location_makes_its_upload_stale(self, one: Uploads) -> None:
        id_ = CandidateId("7")
        old = one.take(plan("jobs/old.bin", id=id_)).upload
        neighbours = [
            one.take(plan("jobs/b.bin")),
            one.take(plan("jobs/c.bin", id=id_, source=SourceName("other"))),
            one.take(plan("jobs/d.bin", id=None, source=None)),
        ]

        taken = one.take(plan("jobs/new.bin", id=id_))

        assert [it.number for it in taken.stale] == [old.number]
        for it in neighbours:
            one.require(it.upload)

    def test_what_is_pushed_makes_only_its_own_location_stale(self, one: Uploads) -> None:
        pushed = [one.take(plan(f"objects/{n}", source=None, id=None)).upload for n in range(3)]

        taken = one.take(plan("objects/3", source=None, id=None))

        assert taken.stale == ()
        for upload in pushed:
            one.require(upload)

    def test_another_row_with_the_same_bytes_goes_on_with_the_upload(
        self, one: Uploads
    ) -> None:
        first = one.begun(one.take(plan()).upload, "id-1")
        one.save_part(first, part(1))

        again = one.take(plan(id=CandidateId("another")))

        assert (again.upload.number, again.upload.parts) == (first.number, (part(1),))
        assert (again.upload.plan.id, again.stale) == ("another", ())

    def test_what_is_stale_stays_stale_until_it_is_forgotten(self, world: UploadsWorld) -> None:
        dead = world.worker().uploads
        first = dead.begun(dead.take(plan()).upload, "id-1")
        dead.save_part(first, part(1))
        dead.take(plan(origin="etag-2"))
        world.pass_time(LEASE_SECONDS + 1)
        heir = world.worker().uploads

        back = heir.take(plan())

        assert back.upload.parts == ()
        stale = sorted((it.plan.origin, it.upload_id) for it in back.stale)
        assert stale == [("etag-2", None), (plan().origin, "id-1")]
        for it in back.stale:
            heir.forget(it)
        assert heir.take(plan()).stale == ()

    def test_only_what_lies_in_that_place_is_given(self, world: UploadsWorld) -> None:
        dead = world.worker().uploads
        for key in ("app/a.bin", "app/b.bin", "apps.bin"):
            dead.take(plan(key, source=None, id=None))
        world.pass_time(EXPIRY_SECONDS + LEASE_SECONDS)
        heir = world.worker().uploads

        assert heir.expired(replace(PLACE, bucket="other"), 9) == []
        assert heir.expired(replace(PLACE, provider="b2"), 9) == []
        found = heir.expired(replace(PLACE, prefix="app/"), 9)
        assert [it.plan.location.key for it in found] == ["app/a.bin", "app/b.bin"]

    def test_what_is_stale_expires_at_once(self, world: UploadsWorld) -> None:
        dead = world.worker().uploads
        dead.take(plan())
        [stale] = dead.take(plan(origin="etag-2")).stale
        world.pass_time(LEASE_SECONDS + 1)

        expired = world.worker().uploads.expired(PLACE, 9)

        assert [it.number for it in expired] == [stale.number]

    def test_what_another_live_worker_owns_is_left_to_it(
        self, one: Uploads, other: Uploads
    ) -> None:
        id_ = CandidateId("7")
        theirs = one.take(plan("jobs/old.bin", id=id_)).upload
        aside = one.take(plan("jobs/new.bin", source=None, id=None)).upload
        [set_aside] = one.take(plan("jobs/new.bin", origin="2", source=None, id=None)).stale
        assert set_aside.number == aside.number
        current = one.uploads()[-1]
        one.give_back(one.take(current.plan).upload)

        taken = other.take(plan("jobs/new.bin", id=id_))

        assert [it.number for it in taken.stale] == [current.number]
        one.require(theirs)

    def test_a_busy_location_leaves_everything_as_it_was(
        self, one: Uploads, other: Uploads
    ) -> None:
        id_ = CandidateId("7")
        one.take(plan("jobs/busy.bin"))
        mine = other.take(plan("jobs/mine.bin", id=id_)).upload

        with pytest.raises(UploadBusy):
            other.take(plan("jobs/busy.bin", id=id_))

        other.require(mine)

    # --- expiry ------------------------------------------------------------------------------

    def test_expired_uploads_are_owned_the_longest_past_first(
        self, world: UploadsWorld
    ) -> None:
        dead = world.worker().uploads
        taken = {name: dead.take(plan(name)).upload for name in "abcd"}
        begun = dead.begun(taken["b"], "id-b")
        world.pass_time(10)
        dead.save_part(begun, part(4))
        world.pass_time(10)
        dead.take(plan("a"))
        world.pass_time(EXPIRY_SECONDS + 1)
        heir = world.worker().uploads
        listed = {it.number: it for it in heir.uploads()}

        first, second = heir.expired(PLACE, 2), heir.expired(PLACE, 9)

        assert [it.plan.location.key for it in [*first, *second]] == ["c", "d", "b", "a"]
        assert second[0].parts == (part(4),)
        assert [it.upload_id for it in [*first, *second]] == [None, None, "id-b", None]
        for it in [*first, *second]:
            assert it.expires_at == listed[it.number].expires_at
            heir.require(it)
            heir.forget(it)
        assert heir.uploads() == []

    def test_nothing_expires_before_its_time_or_in_a_live_workers_hands(
        self, world: UploadsWorld
    ) -> None:
        dead = world.worker().uploads
        dead.take(plan("early"))
        world.pass_time(EXPIRY_SECONDS - 2 * A_MINUTE.total_seconds())
        alive = world.worker().uploads
        taken = alive.take(plan("owned"))
        assert world.worker().uploads.expired(PLACE, 9) == []
        world.pass_time(LEASE_SECONDS - 1)

        assert alive.expired(PLACE, 9) == []
        alive.require(taken.upload)

    def test_what_expired_while_its_owner_lives_is_its_owners(
        self, world: UploadsWorld
    ) -> None:
        """A part that takes longer than the expiry keeps its upload."""
        uploads = world.worker().uploads
        uploads.take(plan())
        [stale] = uploads.take(plan(origin="etag-2")).stale
        other = world.worker().uploads

        assert (uploads.expired(PLACE, 9), other.expired(PLACE, 9)) == ([], [])
        uploads.require(stale)

    def test_an_expired_upload_given_back_expires_again(self, world: UploadsWorld) -> None:
        world.worker().uploads.take(plan())
        world.pass_time(EXPIRY_SECONDS + 1)
        uploads = world.worker().uploads

        [expired] = uploads.expired(PLACE, 9)
        assert uploads.expired(PLACE, 9) == []
        uploads.give_back(expired)
        [again] = uploads.expired(PLACE, 9)

        assert again.number == expired.number

    def test_an_expired_upload_can_be_resumed_and_lasts_again(
        self, world: UploadsWorld
    ) -> None:
        dead = world.worker().uploads
        upload = dead.begun(dead.take(plan()).upload, "id-1")
        dead.save_part(upload, part(1))
        world.pass_time(EXPIRY_SECONDS + 1)
        heir = world.worker().uploads

        taken = heir.take(plan()).upload

        assert (taken.upload_id, taken.parts) == ("id-1", (part(1),))
        heir.give_back(taken)
        assert heir.expired(PLACE, 9) == []

    def test_of_workers_that_ask_at_once_each_upload_expires_for_one(
        self, world: UploadsWorld
    ) -> None:
        dead = world.worker().uploads
        for turn in range(20):
            dead.take(plan(f"jobs/{turn}.bin"))
        world.pass_time(EXPIRY_SECONDS + 1)
        workers = [world.worker().uploads for _ in range(3)]

        shares = outcomes_of(*(partial(it.expired, PLACE, 20) for it in workers))
        shares += [it.expired(PLACE, 20) for it in workers]

        got = [upload.number for share in shares for upload in share]  # type: ignore[attr-defined]
        assert len(got) == len(set(got)) == 20

    def test_expired_needs_a_lease(self, world: UploadsWorld) -> None:
        late = world.worker().uploads
        late.take(plan())
        world.pass_time(EXPIRY_SECONDS + 1)

        with pytest.raises(LeaseLost):
            late.expired(PLACE, 9)

    # --- listing -----------------------------------------------------------------------------

    def test_all_are_listed_the_oldest_first_and_need_no_lease(
        self, world: UploadsWorld
    ) -> None:
        worker = world.worker().uploads
        for name in "bca":
            worker.take(plan(name))
            world.pass_time(1)
        worker.begun(worker.take(plan("c")).upload, "id-c")
        worker.take(plan("a", origin="etag-2"))
        world.pass_time(EXPIRY_SECONDS + 1)

        listed = worker.uploads()

        keys = [(it.plan.location.key, it.plan.origin) for it in listed]
        first = plan().origin
        assert keys == [("b", first), ("c", first), ("a", first), ("a", "etag-2")]
        assert [it.upload_id for it in listed] == [None, "id-c", None, None]

    def test_nothing_can_be_done_with_what_is_listed_and_nobodys(self, one: Uploads) -> None:
        one.give_back(one.take(plan()).upload)
        [listed] = one.uploads()

        with pytest.raises(UploadBusy):
            one.require(listed)
        one.forget(listed)

        assert one.uploads() == [listed]


def writes(uploads: Uploads, upload: Upload) -> Sequence[Callable[[], object]]:
    """Each call that is refused when the upload is not ours; `forget` is the last."""
    return [
        lambda: uploads.begun(upload, "id-late"),
        lambda: uploads.save_part(upload, part(9)),
        lambda: uploads.require(upload),
        lambda: uploads.forget(upload),
    ]
