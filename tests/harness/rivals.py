"""Two workers of the real engine in one world, one call at a time, in every order.

Each worker sweeps in a thread of its own, and one of them runs at a time: at every call that
crosses a contract it stops, and the choice is made who goes on, or what happens meanwhile.
A worker may sleep past its lease or die; the application may capture a page again, delete
its row, or point it back; a request may arrive late, twice, or not at all, or its answer be
lost. Which calls there are is not written down anywhere: what is called is a step, and what
changed something can arrive late.

Two states are one where the tables, the rows, the stores, the clock and the requests under
way are equal, and where each worker has seen the same answers to the same calls: an engine
that is a function of what it sees is then at the same line with the same variables.
"""

from __future__ import annotations

import hashlib
import inspect
import math
import threading
from collections import Counter
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields, replace
from datetime import timedelta
from functools import cache, partial
from itertools import count, repeat
from typing import TYPE_CHECKING, Any

from archiver.engine.streams import Streams
from archiver.errors import ArchiverError, LedgerUnavailable, StoreUnavailable
from archiver.model import ClaimState, Digest, Evidence, HotIdentity
from tests.fakes.multipart import FakeMultipart
from tests.fakes.pool import InlineCrew
from tests.fakes.stores import ENFORCES_ALL, FakeHotStore, anytime
from tests.fakes.table_source import BUCKET, page
from tests.harness.search import Fork, Replay, Search
from tests.unit.engine.world import (
    LEASE_SECONDS,
    Version,
    Worker,
    Workshop,
    World,
    _Between,
    at,
    body_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from archiver.engine.copies import Stores
    from archiver.engine.move import Mover
    from archiver.engine.run import Run
    from archiver.model import Capabilities, FencingToken, HotLocation, WorkerId
    from tests.harness.search import Choices

ENFORCES_NO_CREATE = replace(ENFORCES_ALL, enforces_create=False, keeps_refused_parts=False)
PAGE = "1"  # the one that is captured again, deleted, pointed back
AGAIN = b"2"  # what it holds then: as long as before
SAME = PAGE.encode()
SMALL = {
    "batch_size": 2,
    "concurrency": 1,
    "verify_group": 1,
    "record_group": 1,
    "release_group": 1,
    "release_slice": 1,
    "retry_wait_seconds": 1.0,
}
MOVES = {**SMALL, "release": False}
_LOOK_LASTS_SECONDS = LEASE_SECONDS / 2  # as long as one delete may take
# All that a contract has is a step, but for these: arithmetic, and what finds nothing to do
# in this world, where the source keeps no house and nobody undoes anything.
_NO_STEPS = {"location", "close", "begin", "housekeeping"}
_BEGINS: Mapping[type, set[str]] = {FakeMultipart: {"begin"}}  # there it is one
_SHORT_REST_SECONDS = 0.05  # is no step: what comes next is
_STORES = {"hot", "open", "cold", "multipart"}  # all else is the ledger's
_EVENTS = ("sleeps", "dies")  # that a worker meets with
_PATIENCE_SECONDS = 60.0  # nothing waits for so long, unless the engine hangs


@dataclass(frozen=True)
class Bounds:
    """How much may happen in one schedule."""

    preemptions: int = 2  # a worker that could go on has to wait for the other
    events: int = 2  # of all the kinds below together
    kinds: Mapping[str, int] = field(
        default_factory=lambda: {"sleeps": 1, "dies": 1, "puts": 1, "deletes": 1, "net": 1}
    )

    def __str__(self) -> str:
        return f"{self.preemptions} preemptions, {self.events} events"


@dataclass(frozen=True)
class Setting:
    """The world that is explored."""

    bounds: Bounds = Bounds()
    capabilities: Capabilities = ENFORCES_ALL
    deletes_by_identity: bool = True
    evidence: Evidence = Evidence.SIGNED
    grace_seconds: float = 0.0
    begins_archived: bool = False  # by another worker, before; the release is due
    begins_vouched: bool = False  # both have looked at the stamps
    shares_an_object: bool = False  # a second row names the same hot object
    captures: bytes = AGAIN
    tells_versions: bool = True  # else an object put again with the same bytes looks the same
    promises_digests: bool = True  # else a row says of its page where it is, and no more
    part_bytes: int | None = None  # the page goes in parts of that size; else in one piece
    plan: Mapping[str, Any] = field(default_factory=lambda: SMALL)


@dataclass(frozen=True)
class Explored:
    """What a search has seen."""

    states_count: int
    schedules_count: int
    steps_count: int
    windows_count: int  # schedules that ended in the loss that is documented
    excused_count: int  # troubles that are no broken promise
    ends: frozenset[str]  # digests of what the workers left behind, each time

    def __str__(self) -> str:
        told = f"{self.states_count} states in {self.schedules_count} schedules"
        return told + (f", {self.windows_count} in the window" if self.windows_count else "")


class Violation(AssertionError):
    """A promise was broken. Says by which steps, and how to see them again."""

    def __init__(self, problems: Sequence[str], schedule: Sequence[str], story: str) -> None:
        self.problems = problems
        self.schedule = schedule
        told = "\n".join(f"  {it}" for it in problems)
        super().__init__(f"\n{told}\nsteps:\n{story}\nagain by: {list(schedule)!r}")


def explore(setting: Setting, *, merges_states: bool = True) -> Explored:
    """Run every schedule within the bounds.

    Args:
        setting: The world, and the bounds.
        merges_states: Not to go on from a state that was explored before.

    Raises:
        Violation: One of them broke a promise; the first that was found.
    """
    search, known = Search(merges_states), _Known()

    def run(choices: Choices) -> None:
        Rivalry(setting, choices, known).run()

    search.run(run)
    return Explored(
        search.states_count,
        search.schedules_count,
        search.steps_count,
        known.windows_count,
        known.excused_count,
        frozenset(known.ends),
    )


def replay(setting: Setting, schedule: Sequence[str]) -> str:
    """Run one schedule; what happened, step by step.

    Raises:
        Violation: It breaks a promise.
    """
    rivalry = Rivalry(setting, Replay(schedule), _Known())
    rivalry.run()
    return rivalry.story


# --- one run ------------------------------------------------------------------------------


class _Over(BaseException):
    """The run has ended; nobody catches this."""


class _Postponed(BaseException):
    """The request was sent, and its sender gave up; it takes effect later."""


class _Window(BaseException):
    """The one loss happened that is documented as not prevented."""


@dataclass
class _Known:
    """What one run leaves to the next: of the choices that both make, by their number."""

    shared: dict[int, str] = field(default_factory=dict)  # the shared state before it
    seen: dict[int, str] = field(default_factory=dict)  # all that its worker knew after it
    ends: set[str] = field(default_factory=set)
    excused_count: int = 0
    windows_count: int = 0


@dataclass
class _Request:
    """A call whose effect may come when its sender has long given up."""

    sender: Rival
    room: str
    name: str
    args: Sequence[Any]
    effect: Callable[[], object]
    seen: str  # what the sender knew: tells one request from another
    was_in_lease: bool = True  # when it was sent
    has_looked: bool = False  # at all that it deletes, not long before

    def __str__(self) -> str:
        return f"{self.room}.{self.name} {_brief(self.args)}".rstrip()

    @property
    def state(self) -> tuple[object, ...]:
        return self.seen, self.name, self.was_in_lease, self.has_looked


class Rivalry:
    """One run of a world, by one schedule."""

    def __init__(self, setting: Setting, choices: Choices, known: _Known) -> None:
        self.setting = setting
        self.world = _world(setting)
        self.is_over = False
        self._choices = choices
        self._known = known
        self._choices_count = 0
        self._rivals = [Rival(name, self) for name in "AB"]
        self._last = ""  # who made the last step; it may go on for nothing
        self._variant = ""  # how that step fared
        self._preemptions_count = 0
        self._spent: Counter[str] = Counter()  # events, by kind
        self._has_to_point = False  # the application put a page; its row does not say so yet
        self._requests: list[_Request] = []  # under way, given up by their senders
        self._acting: _Request | None = None  # what the last step asked for
        self._before: _Around | None = None  # the world before the last step, where it is new
        self._told: list[tuple[object, ...]] = []
        self._end: BaseException | None = None
        self._has_ended = threading.Event()

    @property
    def story(self) -> str:
        lines = (" ".join(str(word) for word in step) for step in self._told)
        return "\n".join(f"  {number:3} {line}" for number, line in enumerate(lines, 1))

    def run(self) -> None:
        """Until nobody has anything left to do.

        Raises:
            Violation: A promise is broken.
            Cut: All that can follow is known.
        """
        try:
            self._hand_over(None)
            assert self._has_ended.wait(_PATIENCE_SECONDS), f"nobody goes on\n{self.story}"
        finally:
            self.is_over = True
            for rival in self._rivals:
                rival.end()
        if isinstance(self._end, _Window):
            self._known.windows_count += 1
        elif self._end is not None:
            raise self._end

    # --- who goes on --------------------------------------------------------------------------

    def arrive(self, rival: Rival, step: str, args: Sequence[Any] = ()) -> str:
        """In the thread of a worker before its next step: wait until it may make it.

        Returns how the step is to fare: well (""), or "late", "lost", "twice", "forgotten".
        """
        if rival.has_begun:
            rival.next_step = step
            self._hand_over(rival)
        rival.has_begun = True  # it was told to begin: with this
        self._told.append((rival.name, self._variant, step, _Brief(args)))
        return self._variant

    def ended(self, rival: Rival, bug: BaseException | None) -> None:
        """In the thread of a worker whose sweep is over."""
        rival.is_done = True
        self._told.append((rival.name, "its sweep is over:", rival.outcome))
        if bug is not None:
            self._finish(bug)
        else:
            self._hand_over(None)

    def _hand_over(self, rival: Rival | None) -> None:
        """Let others go on until it is this one's turn; None waits for no turn."""
        if not self.is_over:
            try:
                following = self._choose()
            except BaseException as end:  # noqa: BLE001  # whatever it is ends the run
                self._finish(end)
            else:
                if following is rival:
                    return
                following.go_on()
                if rival is not None:
                    rival.wait()
        if self.is_over and rival is not None:
            raise _Over

    def _finish(self, end: BaseException) -> None:
        self._end = None if isinstance(end, _Over) else end
        self.is_over = True
        self._has_ended.set()

    def _choose(self) -> Rival:
        """Let things happen until a worker is to go on."""
        while True:
            here = tuple(it.next_step for it in self._rivals if it.is_running)
            label = self._choices.choose(here, self._fork)
            self._choices_count += 1
            self._acting = None
            self._before = None if self._choices.is_known else self._look_around()
            who, _, what = label.partition(" ")
            rival = next((it for it in self._rivals if it.name == who), None)
            if who != self._last and self._can_go_on(self._last):
                self._preemptions_count += who in ("A", "B") and what not in _EVENTS
            if rival is None or what in _EVENTS:
                self._told.append((label,))
                self._happen(who, what, rival)
            else:
                self._spent["net"] += what != ""
                self._last, self._variant = who, what
                return rival

    def _fork(self) -> Fork:
        """Judge the step that led here, and say what may follow."""
        shared = self._shared_state()
        self._judge()
        self._offer_variants(shared)
        self._known.shared[self._choices_count] = shared
        return Fork(self._options(), self._state(shared), self._preemptions_count)

    def _can_go_on(self, name: str) -> bool:
        """Whether it has to wait for another, though it neither sleeps nor has ended."""
        if name == "application":
            return self._has_to_point
        return any(
            it.is_running and it.next_step != "sleeps" for it in self._rivals if it.name == name
        )

    def _options(self) -> list[str]:
        running = [it for it in self._rivals if it.is_running]
        names = [it.name for it in running]
        if not any(it.has_begun for it in self._rivals):
            names = names[:1]  # they are alike: who begins is A
        steps = {it: it for it in names}
        if self._has_to_point:
            steps["application"] = "application points"
        if self._can_go_on(self._last):
            is_bound = self._preemptions_count == self.setting.bounds.preemptions
            rest = [] if is_bound else [it for it in steps if it != self._last]
            steps = {it: steps[it] for it in (self._last, *rest)}
        options = list(steps.values()) or ["end"]
        if running and self._may("events"):
            options += self._events(running)
        return options + [f"network {number}" for number, _ in enumerate(self._requests, 1)]

    def _events(self, running: Sequence[Rival]) -> list[str]:
        events = [f"{it.name} {kind}" for it in running for kind in _EVENTS if self._may(kind)]
        if not self._spent["deletes"] and not self._has_to_point:
            is_open = {"points back": self._is_let_go}
            events += [
                f"application {kind}"
                for kind in ("puts", "points back", "deletes")
                if self._may(kind) and is_open.get(kind, True)
            ]
        return events

    def _may(self, kind: str) -> bool:
        bounds = self.setting.bounds
        if kind == "events":
            return self._spent.total() < bounds.events
        return self._spent[kind] < bounds.kinds.get(kind, 0)

    def _offer_variants(self, shared: str) -> None:
        """The last step changed something: its request might have fared otherwise."""
        acting = self._acting
        if acting is None or self._variant or acting.sender.name != self._last:
            return
        has_changed = self._known.shared[self._choices_count - 1] != shared
        if has_changed and self._may("net") and self._may("events"):
            kinds = ["late", "lost"]
            kinds += ["twice"] if acting.room in _STORES else []
            kinds += ["forgotten"] if acting.room in {"cold", "multipart"} else []
            self._choices.offer([f"{self._last} {kind}" for kind in kinds])

    # --- what happens beside them -------------------------------------------------------------

    def _happen(self, who: str, what: str, rival: Rival | None) -> None:
        if who == "end":
            self._conclude()
            raise _Over
        if who == "network":
            self._deliver(self._requests.pop(int(what) - 1))
            return
        self._spent[what] += what != "points"
        if rival is not None:
            self._last = ""
            if what == "dies":
                rival.is_dead = True
            else:
                self._outlast(rival)
            return
        self._last = who
        if what == "puts":
            self._has_to_point = True
            self._put(self.setting.captures)
        elif what == "points":
            self._has_to_point = False
            self._point_at(self.setting.captures)
        elif what == "deletes":
            self.world.rows.remove(PAGE)
        else:
            self._point_at(SAME)

    def _outlast(self, asleep: Rival) -> None:
        """The leases of one worker and of the dead run out; the others beat."""
        for _ in range(5):
            self.world.clock.advance(LEASE_SECONDS / 4 + 1)
            for rival in self._rivals:
                if rival is not asleep and rival.is_running:
                    rival.heartbeat.beat()

    def _put(self, content: bytes) -> None:
        """The first half of a capture: the object, over the one before."""
        body = body_of(content)
        self.world.hot.plant(at(PAGE), body)
        self.world._versions[at(PAGE)] = Version(PAGE, at(PAGE), body)

    def _point_at(self, content: bytes) -> None:
        """The row names the hot object, whatever it named before."""
        known = page(PAGE)
        row = replace(
            self.world.rows.row(PAGE),
            hot_bucket=known.hot_bucket,
            hot_path=known.hot_path,
            cold_key=None,
            content_digest=Digest.of(content) if self.setting.promises_digests else None,
        )
        self.world.rows.plant(row)

    @property
    def _is_let_go(self) -> bool:
        """The hot object is there as it was, and nobody is about to delete it."""
        is_held = any(it.token for it in self.world.tables.releases.values())
        is_there = self.world.hot.peek(at(PAGE)) == body_of(SAME)
        return is_there and not is_held and not self._requests

    def _deliver(self, request: _Request) -> None:
        self._told[-1] += (f"arrives: {request}, of {request.sender.name}",)
        self._acting = request
        try:
            request.effect()
        except ArchiverError as error:
            self._told[-1] += (f"({type(error).__name__})",)

    # --- the steps of a worker ----------------------------------------------------------------

    def cross(
        self,
        rival: Rival,
        room: str,
        name: str,
        call: Callable[..., Any],
        *args: Any,
        **named: Any,
    ) -> Any:
        """One call across a contract: a step, and one more after each question it asks back."""
        step = f"{room}.{name}"
        request = _Request(rival, room, name, args, partial(call, *args, **named), rival.seen)
        variants: list[str] = []

        def ask(question: Callable[..., Any]) -> Callable[..., Any]:
            def asked(*what: Any) -> Any:
                answer = question(*what)
                rival.decides(request)
                variants.append(self.arrive(rival, f"{step} is sent", args))
                self._acting = request
                if variants[-1] == "late":
                    raise _Postponed
                return answer

            return asked

        if any(inspect.isroutine(it) for it in args):  # it asks back when its turn has come
            allowed = [anytime if inspect.isroutine(it) else it for it in args]
            request.effect = partial(call, *allowed, **named)
            call = partial(call, *(ask(it) if inspect.isroutine(it) else it for it in args))
        else:
            call = partial(call, *args)
        rival.decides(request)
        variants.append(self.arrive(rival, step, args))
        self._acting = request
        try:
            answer = self._called(partial(call, **named), variants)
        except _Postponed:
            self._requests.append(request)
            self._knows(rival, step, "nothing")
            raise _gave_up(room, name) from None
        except ArchiverError as error:
            self._told[-1] += (f"({type(error).__name__})",)
            self._knows(rival, step, error)
            raise
        if variants[-1] == "twice":
            self._requests.append(request)
        if variants[-1] == "lost":
            self._knows(rival, step, "nothing")
            raise _gave_up(room, name)
        self._knows(rival, step, answer)
        rival.looked(room, answer)
        return answer

    def _called(self, call: Callable[[], Any], variants: Sequence[str]) -> Any:
        if variants == ["late"]:  # else the question it asks back postpones it
            raise _Postponed
        cold = self.world.cold
        before = dict(cold._objects)
        parts = {it.upload_id: cold.multipart.kept(it) for it in cold.multipart.uploads}
        answer = call()
        if variants == ["forgotten"]:
            cold._objects = before
            cold.multipart.restore(parts)
        return answer

    def _knows(self, rival: Rival, step: str, answer: object) -> None:
        if self._choices.is_known:
            rival.seen = self._known.seen[self._choices_count]
        else:
            rival.saw(step, answer)
            self._known.seen[self._choices_count] = rival.seen

    def sleep(self, rival: Rival, seconds: float) -> None:
        if seconds > _SHORT_REST_SECONDS:
            self.arrive(rival, "sleeps")
        clock = self.world.clock
        # In whole milliseconds: the same time, in whatever order two workers slept.
        clock._passed_seconds = round(clock.monotonic() + max(0.001, seconds), 3)
        if seconds > _SHORT_REST_SECONDS:
            self._knows(rival, "sleeps", seconds)

    # --- what must hold -----------------------------------------------------------------------

    def _judge(self) -> None:
        """Look at the last step, and at the world after it."""
        now, before = self._look_around(), self._before
        problems = self._troubles()
        problems += [
            f"G7: the cold copy of {it.receipt.id} is not what its receipt says"
            for it in self.world.tables.receipts
            if Digest.of(now.cold.get(it.receipt.cold.key, b"")) != it.receipt.digest
        ]
        if before is not None:
            problems += self._changed_cold(before, now)
            problems += self._fenced(before, now)
            problems += self._deleted(before, now)
        if problems:
            self._fail(problems)

    def _troubles(self) -> list[str]:
        """All that is wrong, but for what the page of guarantees does not promise."""
        excused: tuple[str, ...] = ()
        if self._spent["points back"]:
            excused = ("two receipts",)  # a candidate anew, and archived once more
        if not self.setting.promises_digests:  # a row cannot tell one version from another
            excused = ("two receipts", f"{PAGE} points at something else in cold")
        if self.setting.captures == SAME:  # nor can anything
            excused = ("two receipts", f"{PAGE} points at nothing in hot")
        found = self.world.troubles()
        promised = [it for it in found if not it.startswith(excused)]
        self._known.excused_count += len(found) - len(promised)
        return promised

    def _fail(self, problems: Sequence[str]) -> None:
        raise Violation(problems, list(self._choices.schedule), self.story)

    def _changed_cold(self, before: _Around, now: _Around) -> Iterator[str]:
        for key, body in before.cold.items():
            if now.cold.get(key) != body:
                yield f"G9: {key} holds other bytes than before"

    def _deleted(self, before: _Around, now: _Around) -> Iterator[str]:
        """What is gone from hot was receipted, and that for at least the grace."""
        for location, body in before.hot.items():
            if location in now.hot:
                continue
            receipts = [
                it
                for it in self.world.tables.receipts
                if it.receipt.location == location
                and it.receipt.digest == Digest.of(body)
                and it.receipt.evidence > Evidence.UNPROVEN
            ]
            grace = timedelta(seconds=self.setting.grace_seconds)
            if not receipts:
                is_window = self._acting is not None and self._acting.has_looked
                if is_window and not self.setting.deletes_by_identity:
                    raise _Window
                yield f"G1, G3: {location} was deleted without a receipt for its bytes"
            elif self.world.clock.now() - min(it.archived_at for it in receipts) < grace:
                yield f"G8: {location} was deleted within the grace"

    def _fenced(self, before: _Around, now: _Around) -> Iterator[str]:
        """Whoever's lease is over begins nothing and ends nothing; nobody ends another's."""
        acting = self._acting
        if acting is None:
            return
        who = acting.sender.name
        has_written = before.hot != now.hot or before.cold != now.cold
        # What it has begun and not recorded is its own, lease or not.
        has_written = has_written or bool((before.uploads - now.uploads) & before.recorded)
        if has_written and not acting.was_in_lease:
            yield f"{acting} of {who} was begun past its lease"
        for recorded in self.world.tables.receipts[before.receipts_count :]:
            if not self._is_alive(recorded.receipt.token.worker):
                yield f"{who} recorded {recorded.receipt.id} past its lease"
        for what, token in before.held.items():
            is_mine = token.worker == acting.sender.number
            if now.held.get(what) != token and not is_mine and self._is_alive(token.worker):
                yield f"{who} ended {what}, which is another's: {token}"

    def _is_alive(self, worker: WorkerId) -> bool:
        row = self.world.tables.workers[worker]
        return not row.has_left and row.lease_until > self.world.clock.monotonic()

    def _conclude(self) -> None:
        """Whoever comes next finds all that is left to do; what is late finds nothing."""
        world = self.world
        self._known.ends.add(_digest(self._shared_state()))
        world.outlive_leases()
        self._told.append(("C, once all leases are over: sweeps",))
        plan = {**self.setting.plan, "release": True, "retry_wait_seconds": 60.0}
        for _ in range(2):  # a claim of a page as it was ends in the first
            world.sweep(**plan)
        if world.open_uploads():  # of a version, or a row, that nobody comes back for
            world.outlive_uploads()
            world.sweep(**plan)
        problems = [*self._troubles(), *self._leftovers()]
        dangling = [it for it in world.troubles() if it.endswith("nothing in hot")]
        problems += [it for it in dangling if it not in problems]  # it was recovered by now
        for request in self._requests:
            if not problems:
                self._told.append(("network",))
                self._before = self._look_around()
                self._deliver(request)
                self._judge()
        if problems:
            self._fail(problems)

    def _leftovers(self) -> list[str]:
        world, spent = self.world, self._spent
        found = [*world.held()]
        if not spent["net"]:  # a request to begin one may arrive after all; a note is no proof
            found += [*world.open_uploads(), *world.wrong_notes()]
        found += [f"still pending: {it}" for it in world.pointing_ids]
        is_known = self.setting.promises_digests or not spent["puts"]
        if is_known and not (spent["net"] or spent["deletes"]):  # late; a row that is gone
            found += [f"still hot: {it}" for it in world.hot_ids]
        found += [f"a claim is left: {it}" for it in world.claim_states().items()]
        found += [f"a release is left: {it}" for it in world.tables.releases]
        if not (spent["puts"] or spent["deletes"]):
            known = {it.receipt.cold.key for it in world.tables.receipts}
            found += [f"an orphan in cold: {it}" for it in set(world.archived) - known]
        return found

    # --- what is ------------------------------------------------------------------------------

    def _look_around(self) -> _Around:
        tables = self.world.tables
        held = {
            f"the claim of {key[1]}": row.token
            for key, row in tables.claims.items()
            if row.state is ClaimState.CLAIMED
        }
        held |= {
            f"release {id_}": row.token for id_, row in tables.releases.items() if row.token
        }
        return _Around(
            self.world.hot.objects,
            self.world.cold.objects,
            held,
            len(tables.receipts),
            frozenset(it.upload_id for it in self.world.cold.multipart.uploads),
            frozenset(it.upload_id for it in tables.uploads.values() if it.upload_id),
        )

    def _shared_state(self) -> str:
        """All that workers, the application and the network can change, but for the time."""
        world = self.world
        left_out = ("lock", "workers", "new_nonce")
        kept = {k: v for k, v in vars(world.tables).items() if k not in left_out}
        parts = (world.cold.multipart._uploads, world.cold.multipart._numbers)
        return repr((world.rows._rows, world.hot._objects, world.cold._objects, parts, kept))

    def _state(self, shared: str) -> bytes:
        told = (
            shared,
            self.world.clock.monotonic(),
            self.world.tables.workers,
            [it.state for it in self._rivals],
            self._last,
            [it.state for it in self._requests],
            sorted(self._spent.items()),
            self._has_to_point,
        )
        return _digest(told).encode()


@dataclass(frozen=True)
class _Around:
    hot: Mapping[HotLocation, bytes]
    cold: Mapping[Any, bytes]
    held: Mapping[str, FencingToken]  # by what they hold
    receipts_count: int
    uploads: frozenset[str]  # that are open at the store
    recorded: frozenset[str]  # of these: the ledger knows of them


class Rival(Worker):
    """A worker whose calls are steps of a schedule, and whose time is the schedule's."""

    def __init__(self, name: str, rivalry: Rivalry) -> None:
        world = rivalry.world
        super().__init__(world, world._ledger.another(), seed=0)
        self.stop_beating()  # the schedule beats, too
        self.name = name
        self.number = self.heartbeat.lease.worker
        self.next_step = "begins"
        self.has_begun = False
        self.seen = ""  # a digest of all that it was answered
        self.is_done = False
        self.is_dead = False
        self.outcome = ""
        self._rivalry = rivalry
        self._deciding: _Request | None = None
        self._looks: dict[HotLocation, tuple[HotIdentity, float]] = {}
        for attribute, value in list(vars(self).items()):
            if isinstance(value, _Between):
                setattr(self, attribute, Seam(value, self, rivalry))
        self.workshop = _Workshop(world, self, rivalry)
        if rivalry.setting.begins_vouched:
            self.vouched.until = math.inf
        self._baton = threading.Semaphore(0)
        self._thread: threading.Thread | None = None

    @property
    def is_running(self) -> bool:
        return not (self.is_done or self.is_dead)

    @property
    def state(self) -> tuple[object, ...]:
        deciding = self._deciding.state if self._deciding else None
        deadline_seconds = self.heartbeat.lease.deadline_seconds
        return self.seen, self.next_step, deciding, self.is_done, self.is_dead, deadline_seconds

    def run(self, **plan: Any) -> Run:
        run = super().run(**plan)
        run.clock = _Clock(self, self._rivalry)
        return run

    # --- its thread ---------------------------------------------------------------------------

    def go_on(self) -> None:
        if self._thread is None:
            name = f"rival-{self.name}"
            self._thread = threading.Thread(target=self._sweep, name=name, daemon=True)
            self._thread.start()
        else:
            self._baton.release()

    def wait(self) -> None:
        if not self._baton.acquire(timeout=2 * _PATIENCE_SECONDS):
            raise _Over

    def end(self) -> None:
        """Unwind its thread, wherever it is."""
        if self._thread is not None:
            self._baton.release()
            self._thread.join(_PATIENCE_SECONDS)

    def _sweep(self) -> None:
        bug: BaseException | None = None
        try:
            summary = self.sweep(**self._rivalry.setting.plan)
            self.outcome = f"{summary.state} {summary.error or ''}".rstrip()
        except _Over:
            return
        except BaseException as error:  # noqa: BLE001  # raised by the run
            bug = error
        self._rivalry.ended(self, bug)

    # --- what it knows ------------------------------------------------------------------------

    def saw(self, step: str, answer: object) -> None:
        """It knows this now, and when it was."""
        told = (
            answer if isinstance(answer, BaseException) else getattr(answer, "identity", answer)
        )
        lease = self.heartbeat.lease
        now = self._world.clock.monotonic()
        self.seen = _digest((self.seen, step, told, now, lease.deadline_seconds))

    def decides(self, request: _Request) -> None:
        """It is about to send this: may it still, and has it looked at what it deletes?"""
        self._deciding = request
        now = self._world.clock.monotonic()
        request.was_in_lease = self.heartbeat.lease.deadline_seconds > now
        targets = request.args[0] if request.name == "delete" else []
        request.has_looked = bool(targets) and all(
            (look := self._looks.get(location)) is not None
            and look[0] == identity
            and now - look[1] <= _LOOK_LASTS_SECONDS
            for location, identity in targets
        )

    def looked(self, room: str, answer: object) -> None:
        """Remember what hot objects were seen to be, until the next question to hot."""
        if room != "hot":
            return
        now = self._world.clock.monotonic()
        found = answer.items() if isinstance(answer, dict) else ()
        self._looks = {at: (it, now) for at, it in found if isinstance(it, HotIdentity)}


class Seam:
    """Stands before one side of a contract; all that is called there is a step."""

    def __init__(self, between: _Between, rival: Rival, rivalry: Rivalry) -> None:
        self._inner: Any = between._inner
        self._room = between._room
        self._rival = rival
        self._rivalry = rivalry

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        if isinstance(value, FakeMultipart):
            between = _Between(value, "multipart", self._rival)
            return Seam(between, self._rival, self._rivalry)
        kind = _kind(self._inner.__class__, name)
        if kind == "value":
            return value
        cross = partial(self._rivalry.cross, self._rival, self._room, name)
        if kind == "context":
            return partial(self._opened, value, cross)
        if kind == "iterator":
            return lambda *args: iter(cross(lambda *asked: list(value(*asked)), *args))
        return partial(cross, value)

    @contextmanager
    def _opened(self, manage: Any, cross: Any, *args: Any) -> Iterator[Any]:
        """Its beginning is the step."""
        with ExitStack() as stack:
            found = cross(lambda *asked: stack.enter_context(manage(*asked)), *args)
            between = _Between(found, "open", self._rival)
            yield Seam(between, self._rival, self._rivalry)


@cache
def _kind(owner: type, name: str) -> str:
    found = inspect.getattr_static(owner, name, None)
    is_step = name not in _NO_STEPS or name in _BEGINS.get(owner, ())
    if not inspect.isfunction(found) or not is_step:
        return "value"
    if not inspect.isgeneratorfunction(inspect.unwrap(found)):
        return "call"
    return "context" if hasattr(found, "__wrapped__") else "iterator"


class _Workshop(Workshop):
    """Opens the fakes, behind seams."""

    def __init__(self, world: World, rival: Rival, rivalry: Rivalry) -> None:
        super().__init__(world, rival)
        self._rival = rival
        self._rivalry = rivalry

    def stores(self) -> Stores:
        stores = super().stores()
        seamed = {
            it.name: Seam(value, self._rival, self._rivalry)
            for it in fields(stores)
            if isinstance(value := getattr(stores, it.name), _Between)
        }
        return replace(stores, **seamed)  # type: ignore[arg-type]  # they stand for both

    def mover(self) -> Mover:
        mover = super().mover()
        clock = _Clock(self._rival, self._rivalry)
        return replace(mover, sender=replace(mover.sender, clock=clock))


@dataclass(frozen=True)
class _Clock:
    """The world's clock; to sleep on it is a step."""

    rival: Rival
    rivalry: Rivalry

    def now(self) -> Any:
        return self.rivalry.world.clock.now()

    def monotonic(self) -> float:
        return self.rivalry.world.clock.monotonic()

    def sleep(self, seconds: float) -> None:
        self.rivalry.sleep(self.rival, seconds)


def _world(setting: Setting) -> World:
    world = World(
        evidence=setting.evidence,
        capabilities=setting.capabilities,
        grace_seconds=setting.grace_seconds,
        retry_base_seconds=0.25,
    )
    numbers = count(1)
    world.tables.new_nonce = lambda: f"nonce {next(numbers)}"
    world.hot = FakeHotStore(BUCKET, deletes_by_identity=setting.deletes_by_identity)
    if setting.part_bytes is not None:
        world.streams = Streams(crew=InlineCrew(), part_bytes=setting.part_bytes)
    if not setting.tells_versions:
        world.hot._versions = repeat(0)  # type: ignore[assignment]  # it is asked for the next
    world.plant(PAGE, **({} if setting.promises_digests else {"content_digest": None}))
    if setting.shares_an_object:
        other = page("3", content=PAGE.encode())
        world.rows.plant(replace(other, hot_path=page(PAGE).hot_path))
    if setting.begins_archived:
        world.sweep(release=False)
        world.clock.advance(setting.grace_seconds)
    return world


def _gave_up(room: str, name: str) -> ArchiverError:
    if room not in _STORES:
        return LedgerUnavailable(operation=name, message="the connection was lost")
    return StoreUnavailable(
        store="cold" if room in {"cold", "multipart"} else "hot", operation=name, code="timeout"
    )


def _digest(told: object) -> str:
    return hashlib.blake2b(repr(told).encode(), digest_size=16).hexdigest()


@dataclass(frozen=True)
class _Brief:
    """What a call is about, in a word or two; not asked for unless a story is told."""

    args: Sequence[Any]

    def __str__(self) -> str:
        return _brief(self.args)


def _brief(args: Sequence[Any]) -> str:
    about = args[0] if args else ()
    return " ".join(_name_of(it) for it in (about if isinstance(about, list) else [about]))


_OF_UPLOADS = ("plan", "id", "upload_id")


def _name_of(it: Any) -> str:
    if isinstance(it, tuple):
        it = it[0] if it else ""
    for inner in ("release", "recorded", "receipt", "claim", "candidate", "id", *_OF_UPLOADS):
        it = getattr(it, inner, it)
    return str(it)
