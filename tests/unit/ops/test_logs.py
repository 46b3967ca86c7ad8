"""Events become log lines: one each, with their facts, at their level."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.events import (
    CandidatesClaimed,
    Event,
    Housekept,
    MoveFailed,
    ObjectArchived,
    SourceWarning,
    SweepEnded,
)
from archiver.model import (
    Candidate,
    CandidateId,
    Claim,
    ColdKey,
    ColdLocation,
    Digest,
    Evidence,
    FailAnswer,
    FencingToken,
    HotLocation,
    Receipt,
    SourceName,
    Summary,
    WorkerId,
)
from archiver.ops.logs import Format, LogObserver
from tests.fakes.clock import ManualClock

SOURCE = SourceName("task_html")
AT = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
CLAIM = Claim(
    source=SOURCE,
    candidate=Candidate(
        id=CandidateId("t1"),
        due_at=AT,
        location=HotLocation("pages", "jobs/j1/t1.gz"),
        cold_key=ColdKey("cold/t1.gz"),
        group_id="j1",
    ),
    token=FencingToken(1, WorkerId(2), 3),
    attempts_count=4,
)
RECEIPT = Receipt(
    source=SOURCE,
    id=CandidateId("t1"),
    token=CLAIM.token,
    location=CLAIM.candidate.location,
    identity=None,
    cold=ColdLocation("r2", "cold", ColdKey("p/cold/t1.gz")),
    size_bytes=7,
    digest=Digest.of(b"page"),
    content_digest=None,
    etag=None,
    evidence=Evidence.SIGNED,
)


def _lines(*events: Event, log_format: Format = "text", level: str = "debug") -> list[str]:
    written: list[str] = []
    observe = LogObserver(
        written.append,
        log_format=log_format,
        level=level,  # type: ignore[arg-type]  # parametrized
        clock=ManualClock(AT),
    )
    for event in events:
        observe(event)
    return written


def test_a_line_says_when_how_grave_what_and_the_facts() -> None:
    (line,) = _lines(CandidatesClaimed(SOURCE, 16, 0))
    assert line == (
        "2026-01-02T03:04:05.678Z info    archiving candidates "
        "source=task_html candidates_count=16 parked_count=0\n"
    )


def test_a_json_line_is_one_object() -> None:
    (line,) = _lines(CandidatesClaimed(SOURCE, 16, 0), log_format="json")
    assert json.loads(line) == {
        "timestamp": "2026-01-02T03:04:05.678Z",
        "level": "info",
        "event": "archiving candidates",
        "source": "task_html",
        "candidates_count": 16,
        "parked_count": 0,
    }


def test_a_claim_is_told_by_its_id_key_and_group() -> None:
    (line,) = _lines(MoveFailed(CLAIM, FailAnswer.WAITING, "cut"), log_format="json")
    told = json.loads(line)
    assert (told["source"], told["id"], told["group"]) == ("task_html", "t1", "j1")
    assert (told["hot"], told["key"]) == ("pages/jobs/j1/t1.gz", "cold/t1.gz")
    assert (told["token"], told["answer"], told["attempts_count"]) == ("1.2.3", "waiting", 4)


def test_a_receipt_is_told_by_its_id_cold_key_and_evidence() -> None:
    (line,) = _lines(ObjectArchived(RECEIPT, was_there=False), log_format="json")
    told = json.loads(line)
    assert (told["id"], told["key"], told["size_bytes"]) == ("t1", "p/cold/t1.gz", 7)
    assert (told["evidence"], told["digest"]) == ("signed", str(Digest.of(b"page")))
    assert "group" not in told


def test_counts_are_facts_of_their_own() -> None:
    (housekept,) = _lines(Housekept(SOURCE, {"jobs_marked": 3}))
    (ended,) = _lines(SweepEnded(SOURCE, Summary(archived=5, seconds=1.23456)))
    assert housekept.endswith("source=task_html jobs_marked=3\n")
    assert "archived=5" in ended
    assert "seconds=1.235" in ended


@pytest.mark.parametrize(
    ("level", "count"), [("debug", 3), ("info", 2), ("warning", 1), ("error", 0)]
)
def test_events_below_the_level_are_not_written(level: str, count: int) -> None:
    events = (
        ObjectArchived(RECEIPT, was_there=False),
        CandidatesClaimed(SOURCE, 1, 0),
        SourceWarning(SOURCE, "slow"),
    )
    assert len(_lines(*events, level=level)) == count


@given(st.text(st.characters()), st.sampled_from(["text", "json"]))
def test_no_fact_can_make_a_second_line(text: str, log_format: Format) -> None:
    (line,) = _lines(SourceWarning(SOURCE, text), log_format=log_format)

    assert len(line.splitlines()) == 1
    assert line.removesuffix("\n").isprintable()
    line.encode()


@given(st.text())
def test_no_fact_can_pose_as_another_fact(text: str) -> None:
    (line,) = _lines(SourceWarning(SOURCE, f'x" level=error {text}'))
    assert ' message="x\\" level=error ' in line


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_json_line_gives_every_fact_back(text: str) -> None:
    (line,) = _lines(SourceWarning(SOURCE, text), log_format="json")
    assert json.loads(line)["message"] == text


def test_a_fact_cannot_take_the_place_of_the_event() -> None:
    (line,) = _lines(Housekept(SOURCE, {"event": 1, "timestamp": 2}), log_format="json")
    assert json.loads(line)["event"] == "housekeeping done"
    assert json.loads(line)["timestamp"].startswith("2026-")


def test_a_closed_log_stops_nobody() -> None:
    def write(_line: str) -> None:
        raise BrokenPipeError

    observe = LogObserver(write, log_format="text", level="info", clock=ManualClock(AT))
    observe(SourceWarning(SOURCE, "still here"))
