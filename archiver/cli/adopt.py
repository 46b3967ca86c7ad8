"""`archiver adopt`: receipts for what another worker archived."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import click

from archiver.cli import exits
from archiver.cli.backstage import Backstage, pass_backstage
from archiver.cli.options import TEXT
from archiver.cli.paper import print_facts, print_table, say, to_json, warn
from archiver.cli.running import observing, stopping_on_signals
from archiver.engine.stop import Stop
from archiver.errors import ArchiverError
from archiver.events import HoldingRefused
from archiver.model import Takeover
from archiver.ops.human import bytes_text, count_text, seconds_text

if TYPE_CHECKING:
    from archiver.events import Event

_TOLD_ROWS = 1000  # in a table; a program is told all


@click.command()
@click.option("--source", type=TEXT, required=True, metavar="NAME", help="Whose archived rows.")
@click.option("--unproven", is_flag=True, help="Read no bytes: existence and size only.")
@click.option("--limit", type=click.IntRange(min=1), help="Stop after so many receipts.")
@click.option("--dry-run", is_flag=True, help="Only count; ask no store, write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Answer with one JSON object.")
@pass_backstage
def adopt(
    backstage: Backstage,
    *,
    source: str,
    unproven: bool,
    limit: int | None,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Give receipts to rows that another worker archived.

    Each cold object is read back whole and compared with what its row promises. Stop it at
    any time: the next run goes on with what has no receipt yet. Nothing is put or deleted.
    """
    asked = _Asked(source, limit, unproven=unproven, dry_run=dry_run)
    answer = _JsonAnswer() if as_json else _Answer(dry_run=dry_run)
    began_at = backstage.clock.monotonic()
    try:
        takeover = _run(backstage, asked, answer)
        if takeover.error is not None:  # a plugin's own words may be in it
            takeover = replace(takeover, error=backstage.masked(takeover.error))
    except Exception as error:
        told = str(error) if isinstance(error, ArchiverError) else type(error).__name__
        seconds = round(backstage.clock.monotonic() - began_at, 3)
        answer.failed(Takeover(state="fatal", error=backstage.masked(told), seconds=seconds))
        raise
    answer.end(source, takeover)
    return exits.of_takeover(takeover)


@dataclass(frozen=True, slots=True)
class _Asked:
    source: str
    limit: int | None
    unproven: bool
    dry_run: bool


def _run(backstage: Backstage, asked: _Asked, answer: _Answer | _JsonAnswer) -> Takeover:
    settings = backstage.read_enabled_settings()
    stop = Stop()
    is_watched = sys.stderr.isatty() and not asked.dry_run
    with (
        stopping_on_signals(stop),
        observing(backstage, settings, shows_progress=is_watched) as observer,
    ):

        def observe(event: Event) -> None:
            observer(event)
            if isinstance(event, HoldingRefused):
                answer.refused(event)

        with backstage.import_app().open_archiver(
            settings, observe, backstage.clock
        ) as archiver:
            act = archiver.survey if asked.dry_run else archiver.adopt
            return act(asked.source, asked.limit, stop, unproven=asked.unproven)


# --- for a program ----------------------------------------------------------------------


@dataclass(slots=True)
class _JsonAnswer:
    """One object, written as it comes: there may be millions of rows."""

    _has_begun: bool = False

    def refused(self, event: HoldingRefused) -> None:
        holding = event.holding
        row = {
            "id": holding.id,
            "cold_bucket": holding.cold_bucket,
            "cold_key": holding.cold_key,
            "why": event.why,
            "reason": event.reason,
        }
        self._open()
        click.echo(f"{', ' if self._has_begun else ''}{to_json(row)}", nl=False)
        self._has_begun = True

    def end(self, source: str, takeover: Takeover) -> None:
        self._open()
        facts = to_json({"source": source, **takeover.to_json()})
        click.echo(f"], {facts.removeprefix('{')}")

    def failed(self, takeover: Takeover) -> None:
        self._open()
        click.echo(f"], {to_json(takeover.to_json()).removeprefix('{')}")

    def _open(self) -> None:
        if not self._has_begun:
            click.echo('{"not_adopted": [', nl=False)


# --- for a person -----------------------------------------------------------------------


@dataclass(slots=True)
class _Answer:
    """Rows that got no receipt, then the counts, each with what it means to the reader."""

    dry_run: bool
    _refused: list[HoldingRefused] = field(default_factory=list)

    def refused(self, event: HoldingRefused) -> None:
        if len(self._refused) < _TOLD_ROWS:
            self._refused.append(event)

    def failed(self, takeover: Takeover) -> None:
        """The error itself is the message."""

    def end(self, source: str, takeover: Takeover) -> None:
        if takeover.error is not None:
            warn(f"archiver: {takeover.error}")
        self._print_refused()
        say(_headline(takeover))
        if lines := _lines(takeover, dry_run=self.dry_run):
            print_facts(lines)
        for bucket, count in takeover.elsewhere.items():
            warn(_elsewhere(source, bucket, count))
        if self.dry_run:
            warn("Nothing was written.")

    def _print_refused(self) -> None:
        if not self._refused:
            return
        print_table(
            ["id", "why", "key", "reason"],
            (
                [it.holding.id, it.why.value, it.holding.cold_key or "", it.reason]
                for it in self._refused
            ),
        )
        if len(self._refused) == _TOLD_ROWS:
            warn(f"There may be more than these {count_text(_TOLD_ROWS)}: --json has all.")
        say("")


def _headline(takeover: Takeover) -> str:
    time = seconds_text(takeover.seconds)
    if takeover.state == "fatal":
        return f"Failed after {time}."
    if takeover.state == "stopped":
        return f"Stopped after {time}: {_STOPPED[takeover.stopped or 'signal']}."
    return f"Done in {time}."


_STOPPED = {
    "limit": "the limit is reached; there may be more",
    "duration": "its time is over; run again, and it goes on from here",
    "failures": "the cold store fails again and again; run again when it answers",
    "paused": "the workers are paused: `archiver resume`",
    "signal": "interrupted; run again, and it goes on from here",
}


def _lines(takeover: Takeover, *, dry_run: bool) -> dict[str, str]:
    adopted = "would be adopted" if dry_run else "adopted"
    size = "" if dry_run else bytes_text(takeover.adopted_bytes)
    told = {
        adopted: (takeover.adopted, size),
        "unpromised": (takeover.unpromised, "of these: the row promises no digest to compare"),
        "known": (takeover.known, "had their receipts already"),
        "changed": (takeover.changed, "got a receipt from somebody else meanwhile"),
        "missing": (takeover.missing, "the cold store does not have them"),
        "damaged": (takeover.damaged, "their bytes are not what was promised"),
        "unreadable": (takeover.unreadable, "the reason is beside each"),
        "unreachable": (takeover.unreachable, "the store did not answer: run again"),
        "skipped": (
            takeover.skipped,
            "say archived and name no object: nothing to adopt, their bytes are nowhere known",
        ),
        "elsewhere": (sum(takeover.elsewhere.values()), "in other buckets"),
    }
    width = max(len(count_text(count)) for count, _ in told.values())
    return {
        name: f"{count_text(count):>{width}}  {meaning}".rstrip()
        for name, (count, meaning) in told.items()
        if count or name == adopted
    }


def _elsewhere(source: str, bucket: str, count: int) -> str:
    setting = f"ARCHIVE_SOURCE__{source.upper()}__BUCKET={bucket}"
    return (
        f"{count_text(count)} rows are in the bucket {bucket}: run `archiver adopt` once with "
        f"{setting}, and the provider and keys of that bucket."
    )
