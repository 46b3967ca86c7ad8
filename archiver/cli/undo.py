"""`archiver undo`: point rows at their hot copies again, while there are any."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import click

from archiver.cli.backstage import Backstage, pass_backstage
from archiver.cli.exits import ExitCode
from archiver.cli.ledger import asking
from archiver.cli.options import DURATION_OR_NONE, TEXT, moment
from archiver.cli.paper import in_line, print_json, print_table, say, warn
from archiver.model import CandidateId, SourceName, SweepId, UndoAnswer
from archiver.ops.human import count_text, seconds_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from archiver.cli.backstage import OpenArchiver
    from archiver.model import Entry, Undone

    Chosen = Mapping[SourceName, Callable[[], Iterable[Entry]]]  # to be read more than once

_SHOWN = 50  # rows of a table that a person still reads
_TOLD = 1000  # rows in the JSON: the counts are of all

_WHY = {
    UndoAnswer.RELEASED: "the hot copy is deleted: the object is cold alone",
    UndoAnswer.RELEASING: "a worker is deleting the hot copy",
    UndoAnswer.KEPT: "no release is pending",
    UndoAnswer.CHANGED: "the row does not hold that cold copy any more",
    UndoAnswer.HOT_MISSING: "there is no hot copy",
    UndoAnswer.HOT_CHANGED: "another object lies where the hot copy was",
    UndoAnswer.BUSY: "the application holds the row: run it again",
    UndoAnswer.REFUSED: "the database refuses the change",
}


@dataclass(frozen=True, slots=True)
class _Left:
    """One that was not undone."""

    source: SourceName | None
    id: CandidateId
    answer: str
    why: str


@dataclass
class _Outcome:
    """What became of all that was chosen; of those left, the first."""

    answers: Counter[str] = field(default_factory=Counter)
    left: list[_Left] = field(default_factory=list)
    left_count: int = 0

    def add(self, undone: Undone) -> None:
        if undone.answer.is_undone:
            self.answers[undone.answer.value] += 1
            return
        detail = f": {undone.detail}" if undone.detail else ""
        why = f"{_WHY[undone.answer]}{detail}"
        self.leave(_Left(undone.source, undone.id, undone.answer.value, why))

    def leave(self, one: _Left) -> None:
        self.answers[one.answer] += 1
        self.left_count += 1
        if len(self.left) < _TOLD:
            self.left.append(one)


@click.command()
@click.argument("ids", type=TEXT, nargs=-1, metavar="[ID]…")
@click.option("--sweep", type=click.IntRange(min=1), metavar="N", help="All of this sweep.")
@click.option("--since", metavar="T", help="All since 2h or 7d ago, 2026-01-31 or a time.")
@click.option(
    "--hold",
    type=DURATION_OR_NONE,
    default="7d",
    show_default=True,
    help="How long no sweep takes them.",
)
@click.option("--source", type=TEXT, metavar="NAME", help="Only this source.")
@click.option("--dry-run", is_flag=True, help="Count what the ledger would let go back.")
@click.option("--yes", is_flag=True, help="Do not ask, on a terminal.")
@click.option("--json", "as_json", is_flag=True, help="Answer with one JSON object.")
@pass_backstage
def undo(
    backstage: Backstage,
    *,
    ids: tuple[str, ...],
    sweep: int | None,
    since: str | None,
    hold: float,
    source: str | None,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> int:
    """Point archived rows at their hot copies again.

    While a hot copy is not let go of yet. It then stays, and no sweep takes the row before
    the hold is over (`archiver retry ID` ends it). Workers may go on meanwhile.
    """
    if sum((bool(ids), sweep is not None, since is not None)) != 1:
        message = "name ids, or a sweep with --sweep, or a time with --since."
        raise click.UsageError(message)
    begin = None if since is None else moment("--since", since, backstage.clock.now())
    outcome = _Outcome()
    with asking(backstage) as archiver:
        name = None if source is None else SourceName(source)
        if begin is not None:
            chosen = _since(archiver, begin, name)
        elif sweep is not None:
            chosen = _of_sweep(archiver, SweepId(sweep), name)
        else:
            chosen = _of_ids(archiver, [CandidateId(id_) for id_ in ids], name, outcome)
        for chosen_source in chosen:
            archiver.require_restorable(chosen_source)
        if dry_run or _is_asked(yes=yes, as_json=as_json, is_few=bool(ids)):
            counts = {it: _count(entries()) for it, entries in chosen.items()}
            if dry_run:
                return _tell_plan(counts, outcome, as_json=as_json)
            _print_plan(counts)
            click.confirm(
                f"Point these rows back and hold them for {seconds_text(hold)}?", abort=True
            )
        for chosen_source, entries in chosen.items():
            for undone in archiver.undo(chosen_source, entries(), hold):
                outcome.add(undone)
    if as_json:
        print_json({"answers": outcome.answers, "not_undone": outcome.left})
    else:
        _print_outcome(outcome, hold)
    return ExitCode.UNFINISHED if outcome.left_count else ExitCode.DONE


# --- what is meant ----------------------------------------------------------------------


def _of_ids(
    archiver: OpenArchiver,
    ids: Sequence[CandidateId],
    source: SourceName | None,
    outcome: _Outcome,
) -> Chosen:
    """By source; ids that were never moved are told as left."""
    found: dict[SourceName, list[Entry]] = {}
    sources_of: dict[CandidateId, list[SourceName]] = {id_: [] for id_ in ids}
    for entry in archiver.records.newest_entries_of(sources_of.keys(), source):
        receipt = entry.recorded.receipt
        found.setdefault(receipt.source, []).append(entry)
        sources_of[receipt.id].append(receipt.source)
    for id_, names in sources_of.items():
        if len(names) > 1:
            message = f"{in_line(id_)} is an id of {', '.join(names)}: give --source."
            raise click.UsageError(message)
        if not names:
            outcome.leave(_Left(source, id_, "unknown", "the ledger knows of no move of it"))
    return {name: lambda entries=entries: entries for name, entries in found.items()}  # type: ignore[misc]


def _of_sweep(archiver: OpenArchiver, sweep: SweepId, source: SourceName | None) -> Chosen:
    """What its worker archived of its source while it lasted: a worker does one at a time."""
    record = archiver.fleet.sweep(sweep)
    if record is None:
        message = f"no sweep {sweep} is known; `archiver history` lists them."
        raise click.UsageError(message)
    if source not in (None, record.source):
        message = f"sweep {sweep} was one of {record.source}."
        raise click.UsageError(message)
    return {
        record.source: lambda: archiver.records.newest_entries(
            record.source, record.started_at, record.ended_at, record.worker
        )
    }


def _since(archiver: OpenArchiver, since: datetime, source: SourceName | None) -> Chosen:
    names = archiver.source_names if source is None else [source]
    return {
        name: lambda name=name: archiver.records.newest_entries(name, since)  # type: ignore[misc]
        for name in names
    }


# --- before -----------------------------------------------------------------------------


def _is_asked(*, yes: bool, as_json: bool, is_few: bool) -> bool:
    """Only a person at a terminal, and only of what was not named one by one."""
    return sys.stdin.isatty() and not (yes or as_json or is_few)


def _count(entries: Iterable[Entry]) -> Counter[str]:
    counts: Counter[str] = Counter(archived=0, pending=0)
    for entry in entries:
        counts["archived"] += 1
        counts["pending"] += entry.is_pending
    return counts


def _tell_plan(
    counts: Mapping[SourceName, Counter[str]], outcome: _Outcome, *, as_json: bool
) -> int:
    if as_json:
        print_json({"sources": counts, "not_undone": outcome.left})
    else:
        _print_plan(counts)
        _print_left(outcome)
    return ExitCode.UNFINISHED if outcome.left_count else ExitCode.DONE


def _print_plan(counts: Mapping[SourceName, Counter[str]]) -> None:
    for source, count in counts.items():
        say(
            f"{source}: {count_text(count['archived'])} rows were archived; "
            f"of {count_text(count['pending'])} the hot copy is not let go of yet."
        )


# --- after ------------------------------------------------------------------------------


def _print_outcome(outcome: _Outcome, hold_seconds: float) -> None:
    undone_count = outcome.answers[UndoAnswer.UNDONE.value]
    if not undone_count:
        say("Nothing undone.")
    else:
        say(f"{count_text(undone_count)} undone: the rows point at their hot copies again.")
        how_long = seconds_text(hold_seconds)
        say(f"No sweep takes them for {how_long}; `archiver retry ID` ends a hold.")
    if before_count := outcome.answers[UndoAnswer.UNDONE_BEFORE.value]:
        say(f"{count_text(before_count)} were undone before.")
    _print_left(outcome)


def _print_left(outcome: _Outcome) -> None:
    if not outcome.left:
        return
    say("")
    print_table(
        ["source", "id", "not undone"],
        ([one.source or "", one.id, one.why] for one in outcome.left[:_SHOWN]),
    )
    if outcome.left_count > _SHOWN:
        warn(
            f"And {count_text(outcome.left_count - _SHOWN)} more; --json counts them by answer."
        )
