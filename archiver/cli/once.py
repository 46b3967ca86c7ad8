"""`archiver --once`: sweep until nothing is due, or show what a sweep would move."""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import click

from archiver.cli import exits
from archiver.cli.paper import in_line, print_facts, print_json, say, to_json, warn
from archiver.cli.running import observing, stopping_on_signals
from archiver.engine.stop import Stop
from archiver.errors import ArchiverError, LedgerUnavailable
from archiver.model import BadRow, Summary
from archiver.ops.human import bytes_text, count_text, seconds_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from archiver.cli.backstage import Backstage
    from archiver.model import Candidate, Offer, SourceName


@dataclass(frozen=True, slots=True)
class Asked:
    """The options of `--once`."""

    sources: Sequence[str] | None  # None: all
    limit: int | None
    max_duration_seconds: float | None
    as_json: bool


def sweep(backstage: Backstage, asked: Asked) -> exits.ExitCode:
    """Archive what is due. With `as_json` stdout gets one object, however the run ends."""
    began_at = backstage.clock.monotonic()
    try:
        summary = _sweep(backstage, asked)
        if summary.error is not None:  # a plugin's own words may be in it
            summary = replace(summary, error=backstage.masked(summary.error))
    except Exception as error:
        if asked.as_json:
            told = str(error) if isinstance(error, ArchiverError) else type(error).__name__
            seconds = backstage.clock.monotonic() - began_at
            failed = Summary(
                state="fatal", error=backstage.masked(told), seconds=round(seconds, 3)
            )
            print_json(failed.to_json())
        raise
    if asked.as_json:
        print_json(summary.to_json())
    else:
        _tell(summary)
    return exits.of_summary(summary)


def _sweep(backstage: Backstage, asked: Asked) -> Summary:
    settings = backstage.read_enabled_settings()
    interrupted = stop = Stop()
    if asked.max_duration_seconds is not None:
        stop = interrupted.within(asked.max_duration_seconds, backstage.clock)
    is_watched = sys.stderr.isatty()
    with (
        stopping_on_signals(interrupted),
        observing(backstage, settings, shows_progress=is_watched) as observer,
        backstage.import_app().open_archiver(settings, observer, backstage.clock) as archiver,
    ):
        if is_watched:
            with suppress(LedgerUnavailable):  # a bar without an end, rather than no sweep
                archiver.count_backlog(asked.sources)
        return archiver.once(asked.sources, asked.limit, stop)


# --- what a person reads at the end -----------------------------------------------------


def _tell(summary: Summary) -> None:
    if summary.state == "fatal" or summary.error:
        warn(f"archiver: {summary.error or 'the sweep failed; its log says why'}")
    say(_headline(summary))
    if lines := _lines(summary):
        print_facts(lines)


def _headline(summary: Summary) -> str:
    time = seconds_text(summary.seconds)
    if summary.state == "fatal":
        return f"Failed after {time}."
    if summary.state == "stopped":
        return f"Stopped after {time}: {_STOPPED[summary.stopped or 'signal']}."
    if not _lines(summary):
        return f"Nothing was due ({time})."
    return f"Done in {time}."


_STOPPED = {
    "limit": "the limit is reached; more may be due",
    "budget": "the budget is spent; more may be due",
    "duration": "its time is over; more may be due",
    "window": "its window is closed; more may be due",
    "failures": "too much failed, the log says what; nothing is lost, run again",
    "paused": "the workers are paused: `archiver resume`",
    "signal": "interrupted; what was in flight is finished or given back",
}


def _lines(summary: Summary) -> dict[str, str]:
    """The counts that are not zero, each with what it means to the reader."""
    told = {
        "archived": (summary.archived, f"{bytes_text(summary.moved_bytes)} sent"),
        "recovered": (summary.recovered, "of these: hot was missing, cold was proven"),
        "released": (summary.released, "hot copies deleted"),
        "replaced": (summary.replaced, "hot copies changed since, so they stay"),
        "in grace": (summary.pending_release, "archived; hot copies not deleted yet"),
        "waiting": (summary.waiting, "failed in this run, to be tried again"),
        "parked": (summary.parked, "in this run; `archiver parked` says why"),
        "superseded": (summary.superseded, "rows changed meanwhile; they stay candidates"),
        "elsewhere": (summary.elsewhere, "held by other workers"),
    }
    width = max((len(count_text(count)) for count, _ in told.values()), default=0)
    return {
        name: f"{count_text(count):>{width}}  {meaning}"
        for name, (count, meaning) in told.items()
        if count
    }


# --- --dry-run --------------------------------------------------------------------------


def preview(backstage: Backstage, asked: Asked) -> exits.ExitCode:
    """Show what a sweep would move, oldest first; nothing is written."""
    settings = backstage.read_enabled_settings()
    with (
        observing(backstage, settings, shows_progress=False) as observer,
        backstage.import_app().open_archiver(settings, observer, backstage.clock) as archiver,
    ):
        offers = archiver.preview(asked.sources, asked.limit)
        (_print_offers_json if asked.as_json else _print_offers)(offers)
    return exits.ExitCode.DONE


@dataclass(slots=True)
class _Previewed:
    candidates: int = 0
    bad_rows: int = 0
    known_bytes: int = 0
    unknown_sizes: int = 0

    def count(self, offer: Offer) -> None:
        if isinstance(offer, BadRow):
            self.bad_rows += 1
            return
        self.candidates += 1
        self.known_bytes += offer.size_bytes or 0
        self.unknown_sizes += offer.size_bytes is None


def _print_offers(offers: Iterator[tuple[SourceName, Offer]]) -> None:
    counts = _Previewed()
    for source, offer in offers:  # lazily: there may be millions
        counts.count(offer)
        say(in_line(f"{source}  {offer.id}  {_would(offer)}"))
    size = bytes_text(counts.known_bytes)
    unknown = (
        f", {count_text(counts.unknown_sizes)} of unknown size" if counts.unknown_sizes else ""
    )
    warn(f"Would move {count_text(counts.candidates)} objects ({size}{unknown}).")
    if counts.bad_rows:
        warn(f"Would park {count_text(counts.bad_rows)} rows.")
    warn("Nothing was written.")


def _would(offer: Offer) -> str:
    if isinstance(offer, BadRow):
        return f"would be parked: {offer.reason}"
    size = "size unknown" if offer.size_bytes is None else bytes_text(offer.size_bytes)
    return f"{offer.location} -> {offer.cold_key}  ({size})"


def _print_offers_json(offers: Iterator[tuple[SourceName, Offer]]) -> None:
    """One object, written as it comes: a backlog of years does not fit into memory."""
    counts = _Previewed()
    click.echo('{"offers": [', nl=False)
    for source, offer in offers:
        separator = ", " if counts.candidates or counts.bad_rows else ""
        counts.count(offer)
        click.echo(separator + to_json({"source": source, **_offer_fields(offer)}), nl=False)
    click.echo(f'], "counts": {to_json(counts)}}}')


def _offer_fields(offer: Offer) -> dict[str, object]:
    if isinstance(offer, BadRow):
        return {"id": offer.id, "due_at": offer.due_at, "would_park": offer.reason}
    return _candidate_fields(offer)


def _candidate_fields(candidate: Candidate) -> dict[str, object]:
    return {
        "id": candidate.id,
        "due_at": candidate.due_at,
        "hot_bucket": candidate.location.bucket,
        "hot_path": candidate.location.path,
        "cold_key": candidate.cold_key,
        "size_bytes": candidate.size_bytes,
        "digest": candidate.digest,
        "content_digest": candidate.content_digest,
        "group_id": candidate.group_id,
    }
