"""`archiver ledger take-over`: decide which database's workers let go of hot copies."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from archiver.cli.backstage import Backstage, pass_backstage
from archiver.cli.exits import ExitCode
from archiver.cli.paper import print_facts, print_json, say, warn
from archiver.ops.human import count_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from archiver.cli.backstage import OpenSuccession
    from archiver.model import Stamp


@click.command("take-over")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Answer with one JSON object.")
@pass_backstage
def take_over(backstage: Backstage, *, yes: bool, as_json: bool) -> int:
    """Let this database's workers release, and no other's.

    For a database that was restored, moved, renamed or copied, and where another ledger has
    released under the same prefix: shows what the ledger and the cold stores say, asks, then
    raises the epoch, makes this database the ledger's home and stamps the cold stores. It uses
    ARCHIVE_MIGRATE_URL where that is set. Safe to repeat.
    """
    if not yes and (as_json or not sys.stdin.isatty()):
        message = "nobody can be asked here: look at `archiver status`, then give --yes."
        raise click.UsageError(message)
    settings = backstage.read_enabled_settings()
    app = backstage.import_app()
    with app.open_succession(settings, backstage.clock) as succession:
        if not as_json:
            _print_survey(succession)
        if not yes:
            click.confirm("Is this the one database whose workers are to release?", abort=True)
        epoch = succession.take_over()
        if not as_json and succession.live_workers:
            warn("Waiting for the leases of workers from before: one ARCHIVE_LEASE at most.")
        succession.outlive_leases()
    if as_json:
        print_json(_fields(succession, epoch))
    else:
        say(f"Taken over under epoch {epoch}. Workers of this database release from now on.")
    return ExitCode.DONE


def _print_survey(succession: OpenSuccession) -> None:
    identity = succession.identity
    say(f"ledger {identity.ledger_id}, epoch {identity.epoch}, at home in {identity.home}")
    say(f"found in {identity.found_in}")
    say("")
    if not succession.standings:
        say("ARCHIVE_RELEASE=off: no cold store is looked at or stamped.")
    for it in succession.standings:
        say(f"{it.source}, {it.where}")
        known = "none" if it.last is None else str(it.last)
        print_facts({"found there": _found(it.found), "known to the ledger": known})
    for it in succession.standings:
        if it.refusal is not None:
            say(f"{it.source}: {it.refusal}")
    say("")
    if succession.live_workers:
        live = count_text(len(succession.live_workers))
        say(f"Live workers of this database: {live}. They stop, and begin anew.")
    say(
        "Workers of any other database are refused under these prefixes within an hour. What "
        "they released before is recovered from the cold store. Where rows of another database "
        "in use point at the same hot objects, do not take over: they would be deleted."
    )


def _found(stamps: Sequence[Stamp | None]) -> str:
    told = ["a stamp that cannot be read" if it is None else str(it) for it in stamps]
    return "; ".join(told) or "none"


def _fields(succession: OpenSuccession, epoch: int) -> dict[str, object]:
    identity = succession.identity
    return {
        "ledger_id": identity.ledger_id,
        "epoch": epoch,
        "epoch_before": identity.epoch,
        "home": identity.found_in,
        "home_before": identity.home,
        "live_workers": [worker.worker for worker in succession.live_workers],
        "sources": succession.standings,
    }
