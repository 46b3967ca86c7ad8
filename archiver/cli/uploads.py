"""`archiver uploads`: what is being sent in parts, by whom, and how far it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from archiver.cli.backstage import Backstage, pass_backstage
from archiver.cli.exits import ExitCode
from archiver.cli.options import KEY
from archiver.cli.paper import in_line, instant, print_json, print_table, say, warn
from archiver.cli.push import Asked, bandwidth_option, flags_of, json_option, run_push
from archiver.cli.running import stopping_on_signals, transferring
from archiver.engine.stop import Stop
from archiver.ops.human import bytes_text, seconds_text

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from archiver.config import Settings
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


@uploads.command()
@click.argument("key", type=KEY)
@click.argument("file", type=click.Path())
@bandwidth_option
@json_option
@pass_backstage
def resume(
    backstage: Backstage, *, key: str, file: str, bandwidth: str | None, as_json: bool
) -> int:
    """Go on with the push of a file that was begun before, in parts of the same size."""
    settings = backstage.read_settings_of_objects({})
    from archiver.objects.transfers import open_record  # noqa: PLC0415  # not for --help

    with open_record(settings, backstage.clock) as record:
        found = [
            it for it in record.here(settings) if it.plan.location.key in _keys(settings, key)
        ]
    if not found:
        warn(f"archiver: no upload of {in_line(key)} is recorded: `archiver push` begins one.")
        return ExitCode.UNFINISHED
    part_size = f"{found[-1].plan.part_bytes}B"
    flags = flags_of(part_size=part_size, bandwidth=bandwidth)
    return run_push(backstage, Asked(file, key, None, None, flags, as_json=as_json))


@uploads.command()
@click.argument("key", type=KEY, required=False)
@click.option("--all", "every", is_flag=True, help="All that no live worker owns.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_backstage
def abort(backstage: Backstage, *, key: str | None, every: bool, yes: bool) -> int:
    """Drop what was sent of an object in parts. What a live worker owns stays."""
    if (key is None) is not every:
        raise click.UsageError("say a KEY, or --all.")
    settings = backstage.read_settings_of_objects({})
    from archiver.objects.transfers import open_pusher, open_record  # noqa: PLC0415

    with open_record(settings, backstage.clock) as record:
        live = record.live_workers()
        meant = [
            it
            for it in record.here(settings)
            if key is None or it.plan.location.key in _keys(settings, key)
        ]
    owned = [it for it in meant if it.token.worker in live]
    free = [it for it in meant if it not in owned]
    for it in owned:
        warn(f"A live worker owns it: {in_line(it.plan.location.key)}")
    if not meant:
        say("No such upload is recorded.")
    if not free:
        return ExitCode.UNFINISHED if owned or key is not None else ExitCode.DONE
    if not yes:
        sent = bytes_text(sum(map(_sent_bytes, free)))
        click.confirm(f"Drop {sent} of {len(free)} uploads?", abort=True, err=True)
    stop = Stop()
    with (
        stopping_on_signals(stop),
        transferring(backstage, settings) as (observer, tell),
        open_pusher(settings, observer, backstage.clock, stop, tell) as pusher,
    ):
        for it in free:
            pusher.sender.drop(it.plan, "a person asked for it")
            say(f"Aborted: {in_line(it.plan.location.key)}")
    return ExitCode.UNFINISHED if owned else ExitCode.DONE


def _keys(settings: Settings, key: str) -> tuple[str, str]:
    """What a person may mean: a key below objects/, or a whole one."""
    from archiver.objects.transfers import whole_key  # noqa: PLC0415  # not for --help

    return whole_key(settings, key), key


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
