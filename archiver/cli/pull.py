"""`archiver pull`: an object of the cold store, into a file or to stdout."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from archiver.cli import exits
from archiver.cli.backstage import Backstage, pass_backstage
from archiver.cli.options import DIGEST, KEY_OR_URL
from archiver.cli.paper import print_facts, print_json, say, warn
from archiver.cli.push import (
    bandwidth_option,
    flags_of,
    json_option,
    part_size_option,
    profile_option,
)
from archiver.cli.running import stopping_on_signals, transferring
from archiver.engine.stop import Stop
from archiver.errors import ArchiverError, Mismatch, TransientError
from archiver.ops.human import bytes_text, seconds_text

if TYPE_CHECKING:
    from archiver.model import Digest
    from archiver.objects.pulling import Pulled

_STDOUT = "-"


@click.command()
@click.argument("key", type=KEY_OR_URL, metavar="KEY|URL")
@click.argument("file", type=click.Path(), required=False, metavar="[FILE|-]")
@click.option("--key", "is_whole", is_flag=True, help="KEY is whole, not below objects/.")
@click.option(
    "--digest",
    type=DIGEST,
    metavar="SHA256",
    help="Which the bytes must have.",
)
@profile_option
@part_size_option
@bandwidth_option
@json_option
@pass_backstage
def pull(
    backstage: Backstage,
    *,
    key: str,
    file: str | None,
    is_whole: bool,
    digest: Digest | None,
    profile: str | None,
    part_size: str | None,
    bandwidth: str | None,
    as_json: bool,
) -> int:
    """Bring an object below objects/, or what a URL names, into a file. FILE: its last step.

    It is compared with the digest that you, its metadata or the note beside it promise, and has
    its name only then. The same command goes on where an earlier one ended. With - it goes to
    stdout, from its beginning.
    """
    began_at, stop = backstage.clock.monotonic(), Stop()
    named = key.partition("?")[0] if _is_url(key) else key
    target = named.rpartition("/")[2] if file is None else file
    if not target:
        raise click.UsageError("the URL names no file: say FILE.")
    if target == _STDOUT and as_json:
        raise click.UsageError("--json and the object cannot both go to stdout.")
    flags = flags_of(profile=profile, part_size=part_size, bandwidth=bandwidth)
    try:
        pulled = _pull(backstage, key, target, digest, flags, stop, is_whole=is_whole)
    except ArchiverError as error:
        return _failed(backstage, error, stop, as_json=as_json)
    seconds = round(backstage.clock.monotonic() - began_at, 3)
    if as_json:
        what = {"key": pulled.name, "file": target, "size_bytes": pulled.size_bytes}
        proof = {"digest": pulled.digest, "promised_by": pulled.promised_by}
        rest = {"kept_bytes": pulled.kept_bytes, "seconds": seconds}
        print_json({"state": "done", **what, **proof, **rest})
    elif target != _STDOUT:
        say(f"Pulled in {seconds_text(seconds)}.")
        facts = {
            "file": target,
            "size": f"{bytes_text(pulled.size_bytes)} ({pulled.size_bytes} bytes)",
            "sha256": str(pulled.digest),
        }
        if pulled.promised_by is not None:
            facts["as promised by"] = pulled.promised_by
        if pulled.kept_bytes:
            facts["resumed"] = f"{bytes_text(pulled.kept_bytes)} were here from before"
        print_facts(facts)
    if pulled.promised_by is None:
        warn("Not verified: nothing says which digest it must have. Say it with --digest.")
    return exits.ExitCode.DONE


def _pull(
    backstage: Backstage,
    key: str,
    target: str,
    digest: Digest | None,
    flags: dict[str, str],
    stop: Stop,
    *,
    is_whole: bool,
) -> Pulled:
    from archiver.model import ColdKey  # noqa: PLC0415  # not for --help
    from archiver.objects import transfers  # noqa: PLC0415
    from archiver.objects.pulling import thing_at  # noqa: PLC0415
    from archiver.objects.urls import open_url  # noqa: PLC0415

    is_url = _is_url(key)
    settings = backstage.read_settings_of_objects(flags, needs_store=not is_url)
    clock = backstage.clock
    with (
        stopping_on_signals(stop),
        transferring(backstage, settings) as (_, tell),
        transfers.open_puller(settings, clock, stop, tell) as puller,
        ExitStack() as opened,
    ):
        if is_url:
            thing = opened.enter_context(open_url(key, settings))
        else:
            cold = opened.enter_context(transfers.open_to_read(settings, clock, stop))
            whole = ColdKey(key) if is_whole else transfers.whole_key(settings, key)
            thing = thing_at(cold, whole)
        if digest is not None:
            thing = replace(thing, digest=digest, promised_by="you")
        if target == _STDOUT:
            pulled = puller.pour(thing, sys.stdout.buffer)
            sys.stdout.buffer.flush()
            return pulled
        return puller.pull(thing, Path(target))


def _is_url(text: str) -> bool:
    return text.startswith(("http://", "https://"))


def _failed(
    backstage: Backstage, error: ArchiverError, stop: Stop, *, as_json: bool
) -> exits.ExitCode:
    told = backstage.masked(str(error))
    goes_on = isinstance(error, TransientError) and not isinstance(error, Mismatch)
    has_stopped = stop.reason is not None and goes_on
    if as_json:
        print_json({"state": "stopped" if has_stopped else "failed", "error": told})
    warn("archiver: interrupted." if has_stopped else f"archiver: {told}")
    if goes_on:
        warn("What came is kept beside the file: the same command goes on from there.")
    return exits.ExitCode.INTERRUPTED if has_stopped else exits.of_transfer(error)
