"""`archiver uploads`: what is being sent in parts, by whom, and how far it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from archiver.cli.backstage import Backstage, pass_backstage
from archiver.cli.exits import ExitCode
from archiver.cli.paper import instant, print_json, print_table, say
from archiver.ops.human import bytes_text, seconds_text

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from archiver.model import Upload, WorkerId


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Answer with one JSON object.")
@click.pass_context
@pass_backstage
def uploads(backstage: Backstage, context: click.Context, *, as_json: bool) -> int | None:
    """List what is recorded of objects that are sent in parts.

    Both those of sweeps and those that were pushed. What nobody goes on with is aborted once
    it has expired.
    """
    if context.invoked_subcommand is not None:
        if as_json:
            message = f"options of {context.invoked_subcommand} go after its name."
            raise click.UsageError(message, context)
        return None
    settings = backstage.read_settings_of_objects({})
    from archiver.objects.transfers import open_record  # noqa: PLC0415  # not for --help

    with open_record(settings, backstage.clock) as record:
        found = record.here(settings)
        live = record.live_workers()
    if as_json:
        print_json({"uploads": [_facts(it, live) for it in found]})
    elif not found:
        say("No upload is under way, and none waits to be resumed.")
    else:
        now = backstage.clock.now()
        print_table(
            ["key", "sent", "size", "age", "owner", "expires"],
            (_row(it, live, now) for it in found),
            right="sent size age",
        )
    return ExitCode.DONE


def _row(upload: Upload, live: Collection[WorkerId], now: datetime) -> list[str]:
    size_bytes = upload.plan.size_bytes
    return [
        upload.plan.location.key,
        bytes_text(_sent_bytes(upload)),
        "unknown" if size_bytes is None else bytes_text(size_bytes),
        seconds_text(max(0.0, (now - upload.begun_at).total_seconds())),
        _owner(upload, live),
        instant(upload.expires_at),
    ]


def _owner(upload: Upload, live: Collection[WorkerId]) -> str:
    return f"worker {upload.token.worker}" if upload.token.worker in live else "none"


def _facts(upload: Upload, live: Collection[WorkerId]) -> dict[str, object]:
    is_owned = upload.token.worker in live
    return {
        "key": upload.plan.location.key,
        "source": upload.plan.source,
        "id": upload.plan.id,
        "sent_bytes": _sent_bytes(upload),
        "size_bytes": upload.plan.size_bytes,
        "part_bytes": upload.plan.part_bytes,
        "begun_at": upload.begun_at,
        "expires_at": upload.expires_at,
        "worker": upload.token.worker if is_owned else None,
    }


def _sent_bytes(upload: Upload) -> int:
    return sum(part.size_bytes for part in upload.parts)
