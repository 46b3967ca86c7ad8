"""`archiver ls`, `head` and `sign`: the objects of the cold bucket, one by one."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import click

from archiver.cli import exits
from archiver.cli.backstage import Backstage, pass_backstage
from archiver.cli.options import DURATION, KEY, TEXT
from archiver.cli.paper import in_line, instant, print_facts, print_json, say, warn
from archiver.cli.push import json_option
from archiver.errors import ArchiverError
from archiver.ops.human import bytes_text

if TYPE_CHECKING:
    from archiver.model import ListedObject, SignedUrl

_whole_option = click.option(
    "--key", "is_whole", is_flag=True, help="KEY is whole, not below objects/."
)


@click.command()
@click.argument("prefix", type=TEXT, default="")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@pass_backstage
def ls(backstage: Backstage, *, prefix: str, as_json: bool) -> int:
    """List what was pushed: size, time and key below objects/."""
    settings = backstage.read_settings_of_objects({})
    from archiver.objects import transfers  # noqa: PLC0415  # boto3: not for --help
    from archiver.objects.opening import open_object_service  # noqa: PLC0415

    root = transfers.whole_key(settings, "")
    try:
        with open_object_service(settings, clock=backstage.clock) as service:
            for found in service.list(root + prefix):  # lazily: there may be millions
                if as_json:
                    print_json({**_facts(found), "key": found.key.removeprefix(root)})
                else:
                    size, at = bytes_text(found.size_bytes), instant(found.modified_at)
                    say(in_line(f"{size:>10}  {at}  {found.key.removeprefix(root)}"))
    except ArchiverError as error:
        return _failed(backstage, error)
    return exits.ExitCode.DONE


def _facts(found: ListedObject) -> dict[str, object]:
    return {
        "size_bytes": found.size_bytes,
        "modified_at": found.modified_at,
        "etag": found.etag,
    }


@click.command()
@click.argument("key", type=KEY)
@_whole_option
@json_option
@pass_backstage
def head(backstage: Backstage, *, key: str, is_whole: bool, as_json: bool) -> int:
    """Show what the store says of one object. Exit 1: there is none."""
    settings = backstage.read_settings_of_objects({})
    from archiver.objects import transfers  # noqa: PLC0415  # boto3: not for --help
    from archiver.objects.opening import open_object_service  # noqa: PLC0415

    whole = key if is_whole else transfers.whole_key(settings, key)
    try:
        with open_object_service(settings, clock=backstage.clock) as service:
            found = service.head(whole)
    except ArchiverError as error:
        return _failed(backstage, error)
    if found is None:
        warn(f"archiver: there is no object {in_line(whole)}")
        return exits.ExitCode.UNFINISHED
    if as_json:
        print_json(found)
        return exits.ExitCode.DONE
    facts = {
        "key": found.key,
        "size": f"{bytes_text(found.size_bytes)} ({found.size_bytes} bytes)",
        "modified": instant(found.modified_at),
        "etag": found.etag or "",
        "type": found.content_type or "",
        "encoding": found.content_encoding or "",
        "sha256": str(found.digest or found.metadata.get("archiver-digest", "")),
    }
    print_facts({name: value for name, value in facts.items() if value})
    return exits.ExitCode.DONE


@click.command()
@click.argument("key", type=KEY)
@_whole_option
@click.option("--put", "is_put", is_flag=True, help="To write the object, not to read it.")
@click.option("--expires", type=DURATION, default="1h", help="1s to 7d; 1h by default.")
@click.option("--download", type=TEXT, metavar="NAME", help="A browser saves it as NAME.")
@json_option
@pass_backstage
def sign(
    backstage: Backstage,
    *,
    key: str,
    is_whole: bool,
    is_put: bool,
    expires: float,
    download: str | None,
    as_json: bool,
) -> int:
    """Make a URL that anybody may GET, or with --put PUT, one object with. It is a secret."""
    if is_put and download is not None:
        raise click.UsageError("--download goes with a URL to read, not with --put.")
    settings = backstage.read_settings_of_objects({})
    from archiver.model import Disposition  # noqa: PLC0415  # not for --help
    from archiver.objects import transfers  # noqa: PLC0415
    from archiver.objects.opening import open_object_service  # noqa: PLC0415

    whole = key if is_whole else transfers.whole_key(settings, key)
    lifetime = timedelta(seconds=min(expires, timedelta.max.total_seconds() / 2))
    disposition = None if download is None else Disposition("attachment", download)
    try:
        with open_object_service(settings, clock=backstage.clock) as service:
            if is_put:
                signed = service.signed_put(whole, lifetime)
            else:
                signed = service.signed_get(whole, lifetime, disposition=disposition)
    except ArchiverError as error:
        return _failed(backstage, error)
    _tell(signed, as_json=as_json)
    return exits.ExitCode.DONE


def _tell(signed: SignedUrl, *, as_json: bool) -> None:
    if as_json:
        print_json(signed)
        return
    say(signed.url)
    for name, value in signed.headers.items():
        warn(f"Send with it: {name}: {value}")
    warn(f"Until {instant(signed.expires_at)}, whoever has it may {signed.method} the object.")


def _failed(backstage: Backstage, error: ArchiverError) -> exits.ExitCode:
    warn(f"archiver: {backstage.masked(str(error))}")
    return exits.of_transfer(error)
