"""Sources in Python: what an author's object may do, and what is said when it may not."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING, Any, ClassVar

import psycopg
import pytest

from archiver.errors import BadPointer, RowMissing, SettingsError, SourceRefused
from archiver.model import (
    BadRow,
    Candidate,
    CandidateId,
    ColdKey,
    ColdPointer,
    Digest,
    Holding,
    HotLocation,
    Position,
    Secret,
    SourceName,
)
from archiver.sources.locating import located
from archiver.sources.plugins import (
    PluginCandidate,
    PluginHolding,
    PluginSettings,
    PluginSource,
    load_plugin,
)
from archiver.testing import receipt_for

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from archiver.model import Receipt

DUE = datetime(2024, 1, 1, tzinfo=UTC)
TOLD = PluginSettings(Secret("postgresql://nowhere"), 3, timedelta())
NO_TX: Any = None  # these plugins have no use for it


class Notes:
    """A plugin over a list."""

    name = "notes"

    def __init__(self, settings: PluginSettings = TOLD) -> None:
        self.settings = settings
        self.found = [_note("a"), _note("b"), _note("c")]
        self.taken: Collection[str] | None = ["a"]
        self.error: Exception | None = None

    def cold_key(self, candidate: PluginCandidate) -> str:
        return f"notes/{candidate.id}"

    def find_candidates(self, limit: int, after: Position | None) -> list[PluginCandidate]:
        if self.error is not None:
            raise self.error
        behind = (after.due_at, after.id) if after else (datetime.min.replace(tzinfo=UTC), "")
        return [it for it in self.found if (it.due_at, it.id) > behind][:limit]

    def on_archived(
        self, _receipts: Sequence[Receipt], _tx: psycopg.Connection[Any]
    ) -> Collection[str]:
        if self.error is not None:
            raise self.error
        return self.taken  # type: ignore[return-value]  # an author may forget it


def _note(id_: str) -> PluginCandidate:
    return PluginCandidate(id=id_, due_at=DUE, hot_bucket="notes", hot_path=f"{id_}.txt")


def find(plugin: Notes, limit: int = 10, after: Position | None = None) -> list[Any]:
    return list(PluginSource(plugin).find_candidates(limit, after, NO_TX))


def refusal(plugin: Notes, after: Position | None = None) -> str:
    with pytest.raises(SourceRefused) as caught:
        find(plugin, 2, after)
    return str(caught.value)


def test_what_an_author_finds_becomes_a_candidate() -> None:
    (first, *_) = find(Notes())
    assert isinstance(first, Candidate)
    assert ("a", "notes/a", HotLocation("notes", "a.txt")) == (
        first.id,
        first.cold_key,
        first.location,
    )


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"hot_bucket": None}, "bad pointer: hot_bucket is empty"),
        ({"hot_path": ""}, "bad pointer: hot_path is empty"),
        ({"digest": "d41d8cd9"}, "bad row: digest: not a SHA-256 in hex: 'd41d8cd9'"),
        ({"id": "../x"}, "bad row: no cold key: 'notes/../x': a segment is empty"),
        ({"id": "x" * 1000}, "are allowed"),
        ({"id": "é"}, "only printable ASCII"),
        ({"content_type": "text/html\r\nx-amz-acl: public-read"}, "bad row: content_type: "),
        ({"content_encoding": "gzîp"}, "bad row: content_encoding: not plain printable ASCII"),
        ({"content_type": "x" * 257}, "bad row: content_type: 257 bytes, 256 are allowed"),
    ],
)
def test_a_row_that_cannot_be_a_candidate_is_offered_with_its_reason(
    changes: dict[str, Any], reason: str
) -> None:
    plugin = Notes()
    plugin.found = [replace(_note("a"), **changes)]
    (bad,) = find(plugin)
    assert isinstance(bad, BadRow)
    assert reason in bad.reason


def test_what_is_counted_is_what_is_offered() -> None:
    assert 3 == PluginSource(Notes()).count_candidates(NO_TX)


def test_a_page_that_is_no_page_is_refused() -> None:
    class Deaf(Notes):
        def find_candidates(
            self, _limit: int, _after: Position | None
        ) -> list[PluginCandidate]:
            return self.found

    deaf = Deaf()
    assert "3 candidates, 2 were asked for" in refusal(deaf)
    deaf.found = [_note("a"), _note("b")]
    assert "the candidate 'b' again" in refusal(deaf, Position(DUE, CandidateId("b")))
    later = Position(DUE + timedelta(days=1), CandidateId(""))
    assert "before the position asked for" in refusal(deaf, later)
    deaf.found = [replace(_note("a"), due_at=DUE + timedelta(1)), _note("b")]
    assert "not in order of (due_at, id)" in refusal(deaf)
    deaf.found = [_note("a"), _note("a")]
    assert "a candidate stands there twice" in refusal(deaf)


def test_what_an_author_raises_is_told_with_the_method() -> None:
    plugin = Notes()
    plugin.error = KeyError("colour")
    assert "Notes.find_candidates: KeyError: 'colour'" in refusal(plugin)


def test_what_postgres_says_is_left_to_the_ledger() -> None:
    plugin = Notes()
    plugin.error = psycopg.errors.LockNotAvailable("held")
    with pytest.raises(psycopg.errors.LockNotAvailable):
        find(plugin)


def test_a_flip_that_forgets_its_answer_is_refused() -> None:
    plugin = Notes()
    source = PluginSource(plugin)
    receipt = receipt_for(find(plugin)[0], source)
    assert {"a"} == set(source.on_archived([receipt], NO_TX))
    plugin.taken = None
    with pytest.raises(SourceRefused, match="it returned None, not the ids it took"):
        source.on_archived([receipt], NO_TX)


def test_optional_methods_are_used_where_they_are() -> None:
    class Whole(Notes):
        def points_at(self, locations: Any, _tx: Any) -> Any:
            return locations

        def on_restored(self, receipts: Sequence[Receipt], _tx: Any) -> list[str]:
            return [receipt.id for receipt in receipts]

        def housekeeping(self) -> dict[str, int]:
            return {"swept": 0}

    here = {HotLocation("notes", "a.txt")}
    plain, whole = PluginSource(Notes()), PluginSource(Whole())
    receipt = receipt_for(find(Notes())[0], plain)
    assert (set(), here) == (plain.points_at(here, NO_TX), whole.points_at(here, NO_TX))
    assert {} == plain.housekeeping(NO_TX, everything=True)
    assert {"swept": 0} == whole.housekeeping(NO_TX, everything=True)
    assert (False, True) == (plain.can_restore, whole.can_restore)
    assert {"a"} == set(whole.on_restored([receipt], NO_TX))
    assert "Whole.on_restored: no" in str(whole.refused("restored", "no", ""))  # by `prove`
    with pytest.raises(SourceRefused, match="on_restored: the plugin has no such method"):
        plain.on_restored([receipt], NO_TX)


ROW = {"hot_bucket": "notes", "hot_path": "a.txt", "digest": "ab" * 32, "provider": "r2"}


def test_a_plugin_may_say_where_one_row_points() -> None:
    class Found(Notes):
        row: ClassVar[object] = ROW

        def locate(self, _id: str, _tx: Any) -> object:
            return self.row

    source, id_ = PluginSource(Found()), CandidateId("a")
    located = source.locate(id_, NO_TX)
    assert (located.hot, located.cold) == (HotLocation("notes", "a.txt"), None)
    assert str(located.digest) == "ab" * 32
    Found.row = {"cold_bucket": "cold", "cold_key": "notes/a", "provider": "r2"}
    assert source.locate(id_, NO_TX).cold == ColdPointer("r2", "cold", ColdKey("notes/a"))
    Found.row = None
    with pytest.raises(RowMissing):
        source.locate(id_, NO_TX)
    with pytest.raises(SourceRefused, match="locate: the plugin has no such method"):
        PluginSource(Notes()).locate(id_, NO_TX)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"hot_path": "a.txt"}, "hot_bucket is None and hot_path 'a.txt'"),
        ({**ROW, "cold_key": "k"}, "cold_bucket is None and cold_key 'k'"),
        ({**ROW, "digest": "d41d8cd9"}, "digest: not a SHA-256 in hex"),
        ({**ROW, "hot_path": 7}, "hot_path is a int, not text"),
    ],
)
def test_a_pointer_that_makes_no_sense_is_told(row: dict[str, object], told: str) -> None:
    with pytest.raises(BadPointer, match=told):
        located(SourceName("notes"), CandidateId("a"), row)


def test_all_that_an_object_lacks_is_told_at_once() -> None:
    class Nothing:
        name = "Not a name"
        transactional = False

    with pytest.raises(SettingsError) as caught:
        PluginSource(Nothing())  # type: ignore[arg-type]
    told = caught.value.problems
    assert 5 == len(told), told
    assert any("transactional is not True; this version" in problem for problem in told)
    assert any("there is no method cold_key" in problem for problem in told)


def test_a_plugin_is_loaded_by_its_entry_point() -> None:
    assert "notes" == load_plugin(_entry("notes", "Notes"), TOLD).name


@pytest.mark.parametrize(
    ("name", "attribute", "told"),
    [
        ("notes", "Nobody", "cannot be loaded: AttributeError"),
        ("notes", "DUE", "cannot be loaded: TypeError"),
        ("letters", "Notes", "calls itself 'notes'"),
    ],
)
def test_a_plugin_that_cannot_be_used_is_a_problem_with_the_settings(
    name: str, attribute: str, told: str
) -> None:
    with pytest.raises(SettingsError, match=told):
        load_plugin(_entry(name, attribute), TOLD)


def _entry(name: str, attribute: str) -> EntryPoint:
    return EntryPoint(name, f"{__name__}:{attribute}", "archiver.sources")


# --- holdings ---------------------------------------------------------------------------


class Kept(Notes):
    """One that tells what is archived already."""

    held: Sequence[PluginHolding] = ()

    def holdings(self, limit: int, after: str | None) -> list[PluginHolding]:
        del limit, after
        if self.error is not None:
            raise self.error
        return list(self.held)


def _held(id_: str, **changes: Any) -> PluginHolding:
    right = {"id": id_, "cold_bucket": "cold", "cold_key": f"notes/{id_}"}
    return PluginHolding(**right | changes)


def test_holdings_are_parsed_and_what_makes_no_sense_is_said_of_its_row() -> None:
    plugin = Kept()
    digest = Digest.of(b"note")
    plugin.held = [
        _held("a", content_digest=f"sha256:{digest}", group_id="g"),
        _held("b", cold_bucket=None, cold_key=None),
        _held("c", content_digest="none"),
        _held("d", cold_bucket=None),
    ]
    a, b, c, d = PluginSource(plugin).holdings(9, None, NO_TX)

    assert a == Holding(CandidateId("a"), "cold", ColdKey("notes/a"), digest, "g")
    assert (b.cold_key, b.problem) == (None, "")
    assert "content_digest: not a SHA-256" in c.problem
    assert "no cold bucket" in d.problem


@pytest.mark.parametrize(
    ("held", "after", "told"),
    [
        ([_held("a"), _held("a")], None, "a row stands there twice"),
        ([_held("a")], "a", "the row 'a' again, which ends the page before"),
        ([_held("a"), _held("b"), _held("c")], None, "3 rows, 2 were asked for"),
        ([_held("a", cold_key=7)], None, "cold_key is a int, not text"),
        ([_held("")], None, "id is ''"),
    ],
)
def test_a_page_of_holdings_that_cannot_be_followed_is_refused(
    held: list[PluginHolding], after: str | None, told: str
) -> None:
    plugin = Kept()
    plugin.held = held
    with pytest.raises(SourceRefused, match=re.escape(told)):
        PluginSource(plugin).holdings(2, CandidateId(after) if after else None, NO_TX)


def test_a_plugin_without_holdings_or_with_a_bug_in_them_says_so() -> None:
    with pytest.raises(SourceRefused, match=r"Notes\.holdings: the plugin has no such method"):
        PluginSource(Notes()).holdings(9, None, NO_TX)
    plugin = Kept()
    plugin.error = ValueError("oops")
    with pytest.raises(SourceRefused, match=r"Kept\.holdings: ValueError: oops"):
        PluginSource(plugin).holdings(9, None, NO_TX)
