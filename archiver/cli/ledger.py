"""What an operator asks the ledger: status, parked, show; and the one write, retry."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from archiver.cli.backstage import Backstage, pass_backstage
from archiver.cli.exits import ExitCode
from archiver.cli.options import TEXT
from archiver.cli.paper import (
    in_line,
    instant,
    print_facts,
    print_json,
    print_table,
    say,
    warn,
)
from archiver.model import CandidateId, ClaimState, Pause, SourceName
from archiver.ops.human import bytes_text, count_text, seconds_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from archiver.cli.backstage import OpenArchiver
    from archiver.events import Event
    from archiver.model import (
        History,
        LedgerIdentity,
        Outcome,
        ParkedRow,
        Recorded,
        RecordedAdoption,
        SourceCounts,
        Spent,
        Summary,
        SweepRecord,
        UploadCounts,
        WorkerStatus,
    )

_json = click.option("--json", "as_json", is_flag=True, help="Answer with one JSON object.")


def _source(help_text: str) -> Callable[[Callable[..., int]], Callable[..., int]]:
    return click.option("--source", type=TEXT, metavar="NAME", help=help_text)


@contextmanager
def asking(backstage: Backstage) -> Iterator[OpenArchiver]:
    """An open ledger; what its sources warn of goes to stderr."""
    settings = backstage.read_settings_with_database()
    app = backstage.import_app()
    with app.open_archiver(settings, _tell_warnings, backstage.clock) as archiver:
        yield archiver


def _tell_warnings(event: Event) -> None:
    if event.LEVEL in ("warning", "error"):
        from archiver.ops.facts import facts  # noqa: PLC0415  # rarely needed

        told = " ".join(f"{name}={value}" for name, value in facts(event).items())
        warn(in_line(f"{event.LEVEL}: {event.NAME}: {told}"))


def _source_name(name: str | None) -> SourceName | None:
    return None if name is None else SourceName(name)


# --- status -----------------------------------------------------------------------------


@click.command()
@_json
@pass_backstage
def status(backstage: Backstage, *, as_json: bool) -> int:
    """Show sources, counts and workers."""
    with asking(backstage) as archiver:
        identity = archiver.fleet.identity()
        sources, workers = archiver.records.counts(), archiver.fleet.workers()
        paused, spent = archiver.fleet.paused(), archiver.spent()
        uploads = archiver.records.count_uploads()
    if as_json:
        egress = None if spent is None else _egress_fields(spent)
        told = {**_identity_fields(identity), "paused": paused, "egress": egress}
        print_json({**told, "uploads": uploads, "sources": sources, "workers": workers})
        return ExitCode.DONE
    say(f"ledger {identity.ledger_id}, epoch {identity.epoch}")
    if not identity.is_at_home:
        say(f"found in database {identity.found_in}, at home in {identity.home}:")
        say("nothing is moved or deleted from here before `archiver ledger take-over`")
    if paused is not Pause.NOTHING:
        say(f"paused: {paused.value}; `archiver resume` ends that")
    if spent is not None:
        say(_egress_line(spent))
    if uploads.open_count:
        say(_uploads_line(uploads))
    say("")
    _print_sources(sources)
    say("")
    _print_workers(workers)
    return ExitCode.DONE


def _identity_fields(identity: LedgerIdentity) -> dict[str, object]:
    return {
        "ledger_id": identity.ledger_id,
        "epoch": identity.epoch,
        "is_at_home": identity.is_at_home,
        "home": identity.home,
        "found_in": identity.found_in,
    }


def _egress_line(spent: Spent) -> str:
    budget = spent.budget
    limit = f"{bytes_text(budget.limit_bytes)} in {seconds_text(budget.window_seconds)}"
    line = f"egress: {bytes_text(spent.spent_bytes)} spent of {limit}"
    line += f", {bytes_text(spent.left_bytes)} left"
    if spent.next_room_at is None:
        return line
    return f"{line}; the oldest of it leaves the window at {instant(spent.next_room_at)}"


def _uploads_line(uploads: UploadCounts) -> str:
    line = f"uploads in parts: {count_text(uploads.open_count)} under way"
    return f"{line}, {count_text(uploads.expired_count)} of them past their expiry"


def _egress_fields(spent: Spent) -> dict[str, object]:
    return {
        "limit_bytes": spent.budget.limit_bytes,
        "window_seconds": spent.budget.window_seconds,
        "spent_bytes": spent.spent_bytes,
        "left_bytes": spent.left_bytes,
        "next_room_at": spent.next_room_at,
    }


def _print_sources(sources: Sequence[SourceCounts]) -> None:
    if not sources:
        say("No source has been swept yet.")
        return
    numbers = "archived size in-grace released replaced undone claimed waiting held parked"
    print_table(
        ["source", *numbers.split(), "last"],
        (
            [
                counts.source,
                count_text(counts.archived_count),
                bytes_text(counts.archived_bytes),
                count_text(counts.pending_release_count),
                count_text(counts.released_count),
                count_text(counts.replaced_count),
                count_text(counts.undone_count),
                count_text(counts.claimed_count),
                count_text(counts.waiting_count),
                count_text(counts.held_count),
                count_text(counts.parked_count),
                instant(counts.last_archived_at),
            ]
            for counts in sources
        ),
        right=numbers,
    )
    for counts in sources:
        for line in _adopted_lines(counts):
            say(line)


def _adopted_lines(counts: SourceCounts) -> list[str]:
    """What is special about some of the archived, where there are any."""
    lines = []
    if counts.adopted_count:
        of = f"{count_text(counts.adopted_count)} of {counts.source}"
        lines.append(f"{of} were archived by another worker and adopted.")
    if counts.unproven_count:
        of = f"{count_text(counts.unproven_count)} of {counts.source}"
        command = f"`archiver adopt --source {counts.source}`"
        lines.append(f"{of} are unproven: nobody has read them; {command} does.")
    return lines


def _print_workers(workers: Sequence[WorkerStatus]) -> None:
    if not workers:
        say("No worker is at work.")
        return
    print_table(
        [
            "worker",
            "host",
            "pid",
            "version",
            "started",
            "lease until",
            "progressed",
            "claims",
            "moving",
            "state",
        ],
        (
            [
                str(worker.worker),
                worker.host,
                str(worker.pid),
                worker.version,
                instant(worker.started_at),
                instant(worker.lease_until),
                instant(worker.progressed_at),
                count_text(worker.claims_count),
                " ".join(f"{name}:{count_text(n)}" for name, n in worker.moving.items()),
                "alive" if worker.is_alive else "lease ran out",
            ]
            for worker in workers
        ),
        right="worker pid claims",
    )


# --- pause ------------------------------------------------------------------------------


@click.command()
@click.option("--releases", is_flag=True, help="Only deletes; moves go on.")
@pass_backstage
def pause(backstage: Backstage, *, releases: bool) -> int:
    """Ask all workers to stop.

    Each obeys within one heartbeat, a quarter of ARCHIVE_LEASE.
    """
    with asking(backstage) as archiver:
        archiver.fleet.pause(Pause.RELEASES if releases else Pause.ALL)
    what = "No hot copy is deleted" if releases else "Nothing is moved or deleted"
    say(f"{what} before `archiver resume`; workers obey within one heartbeat.")
    return ExitCode.DONE


@click.command()
@pass_backstage
def resume(backstage: Backstage) -> int:
    """End a pause."""
    with asking(backstage) as archiver:
        archiver.fleet.pause(Pause.NOTHING)
    say("Nothing is paused.")
    return ExitCode.DONE


# --- history ----------------------------------------------------------------------------


@click.command()
@_source("Only this source.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True)
@_json
@pass_backstage
def history(backstage: Backstage, *, source: str | None, limit: int, as_json: bool) -> int:
    """List the last sweeps, newest first."""
    with asking(backstage) as archiver:
        sweeps = archiver.fleet.sweeps(_source_name(source), limit)
    if as_json:
        print_json({"sweeps": sweeps})
    elif not sweeps:
        say("No sweep is known.")
    else:
        _print_sweeps(sweeps)
    return ExitCode.DONE


def _print_sweeps(sweeps: Sequence[SweepRecord]) -> None:
    numbers = "sweep worker archived size released parked waiting"
    print_table(
        ["source", *numbers.split(), "started", "ended", "state"],
        (
            [
                sweep.source,
                str(sweep.sweep_id),
                str(sweep.worker),
                *_counts_of(sweep.summary),
                instant(sweep.started_at),
                "" if sweep.ended_at is None else instant(sweep.ended_at),
                _state_of(sweep.summary),
            ]
            for sweep in sweeps
        ),
        right=numbers,
    )


def _counts_of(summary: Summary | None) -> list[str]:
    if summary is None:
        return [""] * 5
    return [
        count_text(summary.archived),
        bytes_text(summary.moved_bytes),
        count_text(summary.released),
        count_text(summary.parked),
        count_text(summary.waiting),
    ]


def _state_of(summary: Summary | None) -> str:
    if summary is None:
        return "under way, or its worker died"
    why = summary.error or summary.stopped
    return f"{summary.state}: {why}" if why else summary.state


# --- parked -----------------------------------------------------------------------------


@click.command()
@_source("Only this source.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True)
@_json
@pass_backstage
def parked(backstage: Backstage, *, source: str | None, limit: int, as_json: bool) -> int:
    """List rows set aside, and why."""
    with asking(backstage) as archiver:
        rows = archiver.records.parked(_source_name(source), limit)
    if as_json:
        print_json({"parked": rows})
    elif not rows:
        say("Nothing is parked.")
    else:
        _print_parked(rows)
        if len(rows) == limit:
            warn(f"There may be more than these {count_text(limit)}: raise --limit.")
        warn("When the cause is mended: `archiver retry ID…`, or `archiver retry --all`.")
    return ExitCode.DONE


def _print_parked(rows: Sequence[ParkedRow]) -> None:
    print_table(
        ["source", "id", "parked", "attempts", "what", "reason", "hot"],
        (
            [
                row.source,
                row.id,
                instant(row.parked_at),
                count_text(row.attempts_count),
                "release" if row.is_release else "move",
                row.reason,
                "" if row.location is None else str(row.location),
            ]
            for row in rows
        ),
        right="attempts",
    )


# --- retry ------------------------------------------------------------------------------


@click.command()
@click.argument("ids", type=TEXT, nargs=-1, metavar="[ID]…")
@click.option("--all", "everything", is_flag=True, help="All parked rows.")
@_source("Only this source.")
@_json
@pass_backstage
def retry(
    backstage: Backstage,
    *,
    ids: tuple[str, ...],
    everything: bool,
    source: str | None,
    as_json: bool,
) -> int:
    """Make parked rows candidates again.

    Their attempts are forgotten. A hold that `archiver undo` has laid on a row ends where its
    id is named; --all leaves holds alone.
    """
    if everything == bool(ids):
        message = "name the ids of parked rows, or give --all."
        raise click.UsageError(message)
    chosen = None if everything else [CandidateId(id_) for id_ in dict.fromkeys(ids)]
    with asking(backstage) as archiver:
        count = archiver.records.retry(_source_name(source), chosen)
    if as_json:
        print_json({"retried": count})
    elif chosen is None:
        say(f"{count_text(count)} parked rows are candidates again.")
    else:
        of = count_text(len(chosen))
        say(f"{count_text(count)} of {of} ids were parked or held and are candidates again.")
    is_complete = chosen is None or count >= len(chosen)
    return ExitCode.DONE if is_complete else ExitCode.UNFINISHED


# --- show -------------------------------------------------------------------------------


@click.command()
@click.argument("id_", type=TEXT, metavar="ID")
@_source("Only this source.")
@_json
@pass_backstage
def show(backstage: Backstage, *, id_: str, source: str | None, as_json: bool) -> int:
    """Show an id's claim and receipts."""
    with asking(backstage) as archiver:
        histories = archiver.records.history(CandidateId(id_), _source_name(source))
    if as_json:
        print_json({"histories": [_history_fields(history) for history in histories]})
    elif not histories:
        warn(f"The ledger knows nothing of {in_line(id_)}.")
    else:
        for history in histories:
            _print_history(history)
    return ExitCode.DONE if histories else ExitCode.UNFINISHED


def _print_history(history: History) -> None:
    say(f"{history.source}  {in_line(history.id)}")
    print_facts(_claim_facts(history))
    for recorded, outcome, ended_at in history.receipts:
        say("")
        say(f"  receipt {recorded.receipt_id}")
        print_facts(_receipt_facts(recorded, outcome, instant(ended_at)))
    for adopted in history.adopted:
        say("")
        say(f"  receipt {adopted.receipt_id}, adopted")
        print_facts(_adoption_facts(adopted))


def _claim_facts(history: History) -> dict[str, str]:
    if history.claim_state is None:
        return {"in motion": "no"}
    facts = {"in motion": history.claim_state.value}
    if history.claim_reason:
        facts["reason"] = history.claim_reason
    if history.claim_location is not None:
        facts["hot"] = str(history.claim_location)
    facts["attempts"] = count_text(history.attempts_count)
    if history.next_attempt_at is not None:
        is_held = history.claim_state is ClaimState.HELD
        facts["held until" if is_held else "next attempt"] = instant(history.next_attempt_at)
    return facts


def _receipt_facts(recorded: Recorded, outcome: Outcome | None, ended: str) -> dict[str, str]:
    receipt = recorded.receipt
    facts = {
        "archived": instant(recorded.archived_at),
        "hot": str(receipt.location),
        "cold": str(receipt.cold),
        "size": f"{bytes_text(receipt.size_bytes)} ({count_text(receipt.size_bytes)} bytes)",
        "digest": f"sha256:{receipt.digest}",
    }
    if receipt.content_digest is not None:
        facts["content digest"] = f"sha256:{receipt.content_digest}"
    ending = "not released yet" if outcome is None else f"{outcome.value} {ended}"
    return facts | {"evidence": str(receipt.evidence), "hot copy": ending}


def _adoption_facts(recorded: RecordedAdoption) -> dict[str, str]:
    adoption = recorded.adoption
    size = f"{bytes_text(adoption.size_bytes)} ({count_text(adoption.size_bytes)} bytes)"
    facts = {
        "adopted": instant(recorded.adopted_at),
        "cold": str(adoption.cold),
        "size": size,
        "digest": "not known" if adoption.digest is None else f"sha256:{adoption.digest}",
    }
    if adoption.content_digest is not None:
        is_read = adoption.digest is not None
        told = "" if is_read else ", as the row promises"
        facts["content digest"] = f"sha256:{adoption.content_digest}{told}"
    evidence = str(adoption.evidence)
    return facts | {"evidence": evidence, "hot copy": "not known: another worker archived it"}


def _history_fields(history: History) -> dict[str, object]:
    return {
        "source": history.source,
        "id": history.id,
        "claim_state": history.claim_state,
        "claim_reason": history.claim_reason,
        "attempts_count": history.attempts_count,
        "next_attempt_at": history.next_attempt_at,
        "receipts": [
            {
                "receipt_id": recorded.receipt_id,
                "archived_at": recorded.archived_at,
                "hot_bucket": recorded.receipt.location.bucket,
                "hot_path": recorded.receipt.location.path,
                "provider": recorded.receipt.cold.provider,
                "cold_bucket": recorded.receipt.cold.bucket,
                "cold_key": recorded.receipt.cold.key,
                "size_bytes": recorded.receipt.size_bytes,
                "digest": recorded.receipt.digest,
                "content_digest": recorded.receipt.content_digest,
                "evidence": recorded.receipt.evidence,
                "outcome": outcome,
                "ended_at": ended_at,
            }
            for recorded, outcome, ended_at in history.receipts
        ],
        "adopted": [
            {
                "receipt_id": recorded.receipt_id,
                "adopted_at": recorded.adopted_at,
                "provider": recorded.adoption.cold.provider,
                "cold_bucket": recorded.adoption.cold.bucket,
                "cold_key": recorded.adoption.cold.key,
                "size_bytes": recorded.adoption.size_bytes,
                "digest": recorded.adoption.digest,
                "content_digest": recorded.adoption.content_digest,
                "evidence": recorded.adoption.evidence,
            }
            for recorded in history.adopted
        ],
    }
