"""What must be true after the sweep. Knows no store and no database: only what was seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from archiver.demo.backlog import Backlog, Captured
    from archiver.demo.command import Ran
    from archiver.demo.state import State
    from archiver.model import Digest


@dataclass(frozen=True, slots=True)
class Seen:
    """All that was looked at, from before the first sweep to after the second."""

    backlog: Backlog
    before: State
    sweep: Ran
    after: State
    cold_digests: Mapping[str, Digest]  # by key, of the bytes read back
    second_sweep: Ran
    at_last: State


@dataclass(frozen=True, slots=True)
class Check:
    claim: str
    problem: str = ""  # empty: the claim holds

    @property
    def holds(self) -> bool:
        return not self.problem


def check(seen: Seen) -> list[Check]:
    """Every claim of the demo, each held against what was seen."""
    return [
        _sweep_ended_well(seen),
        _due_rows_point_cold(seen),
        _cold_holds_the_same_bytes(seen),
        _hot_let_go(seen),
        _kept_pages_are_untouched(seen),
        _jobs_are_marked(seen),
        _second_sweep_does_nothing(seen),
    ]


def _sweep_ended_well(seen: Seen) -> Check:
    due = len(seen.backlog.due)
    summary = seen.sweep.summary
    expected = {"state": "done", "archived": due, "released": due, "waiting": 0, "parked": 0}
    found = {name: summary.get(name) for name in expected}
    claim = "the sweep archived and released all that was due, and exited 0"
    if seen.sweep.exit_code != 0:
        return Check(claim, f"it exited {seen.sweep.exit_code}")
    return Check(claim, "" if found == expected else f"it answered {found}, due were {due}")


def _due_rows_point_cold(seen: Seen) -> Check:
    due, rows = seen.backlog.due, seen.after.rows
    wrong = [
        it.id
        for it in due
        for row in [rows.get(it.id)]
        if row is None or row.hot_path or not row.cold_key or not row.is_stamped
    ]
    return Check(f"{len(due)} due rows point at the cold store, none at hot", _named(wrong))


def _cold_holds_the_same_bytes(seen: Seen) -> Check:
    due = seen.backlog.due
    expected = {_cold_key(seen, it): it.page.digest for it in due}
    wrong = [it.id for it in due if not _is_equal(seen, it)]
    claim = f"{len(due)} cold objects, read back, are the bytes that were hot"
    if extra := sorted(set(seen.after.cold) - set(expected)):
        return Check(claim, f"{_named(extra)}: nobody's")
    return Check(claim, _named(wrong))


def _is_equal(seen: Seen, captured: Captured) -> bool:
    return seen.cold_digests.get(_cold_key(seen, captured)) == captured.page.digest


def _cold_key(seen: Seen, captured: Captured) -> str:
    row = seen.after.rows.get(captured.id)
    return (row.cold_key if row else None) or ""


def _hot_let_go(seen: Seen) -> Check:
    due = seen.backlog.due
    left = [it.hot_path for it in due if it.hot_path in seen.after.hot]
    return Check(f"{len(due)} hot copies are deleted", _named(left))


def _kept_pages_are_untouched(seen: Seen) -> Check:
    kept = seen.backlog.kept
    wrong = [
        it.id
        for it in kept
        if seen.after.rows.get(it.id) != seen.before.rows[it.id]
        or seen.after.hot.get(it.hot_path) != seen.before.hot[it.hot_path]
    ]
    return Check(f"{len(kept)} pages to keep are untouched, rows and objects", _named(wrong))


def _jobs_are_marked(seen: Seen) -> Check:
    expected = {
        job.id: "archived" if job.is_due else seen.before.jobs[job.id]
        for job in seen.backlog.jobs
    }
    wrong = [id_ for id_, status in expected.items() if seen.after.jobs.get(id_) != status]
    due_count = sum(job.is_due for job in seen.backlog.jobs)
    return Check(f"{due_count} jobs are marked archived, no other", _named(wrong))


def _second_sweep_does_nothing(seen: Seen) -> Check:
    summary = seen.second_sweep.summary
    claim = "a second sweep finds nothing to do, and exits 0"
    if seen.second_sweep.exit_code != 0:
        return Check(claim, f"it exited {seen.second_sweep.exit_code}")
    did = {name: summary.get(name) for name in ("archived", "released", "moved_bytes")}
    if any(count != 0 for count in did.values()):
        return Check(claim, f"it answered {did}")
    return Check(claim, "" if seen.at_last == seen.after else "but something changed")


def _named(wrong: Sequence[str]) -> str:
    shown = ", ".join(wrong[:2])
    return f"{shown} and {len(wrong) - 2} more" if len(wrong) > 2 else shown  # noqa: PLR2004
