"""`archiver ledger export`: what was archived and what became of it, for other tools."""

from __future__ import annotations

import csv
import heapq
import os
import sys
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from archiver.cli.backstage import Backstage, pass_backstage
from archiver.cli.exits import ExitCode
from archiver.cli.ledger import asking
from archiver.cli.options import TEXT, moment
from archiver.cli.paper import to_json, warn
from archiver.model import SourceName
from archiver.ops.human import count_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from archiver.model import Entry, RecordedAdoption

# A public format (docs/ledger-export.md): names stay, new ones come last.
FIELDS = (
    "receipt_id",
    "source",
    "id",
    "group_id",
    "archived_at",
    "hot_bucket",
    "hot_path",
    "hot_etag",
    "hot_version",
    "provider",
    "cold_bucket",
    "cold_key",
    "etag",
    "size_bytes",
    "sha256",
    "content_sha256",
    "evidence",
    "epoch",
    "worker",
    "is_release_pending",
    "outcome",
    "outcome_detail",
    "outcome_at",
)

Fields = dict[str, object]


@click.group()
def ledger() -> None:
    """Export the ledger, or say which database it belongs to."""


@ledger.command()
@click.option("--since", required=True, metavar="T", help="2h, 7d, 2026-01-31 or a time.")
@click.option("--until", metavar="T", help="The same; by default there is no end.")
@click.option("--source", type=TEXT, metavar="NAME", help="Only this source.")
@click.option(
    "--format", "form", type=click.Choice(["jsonl", "csv"]), default="jsonl", show_default=True
)
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), help="Into this file, whole."
)
@pass_backstage
def export(
    backstage: Backstage,
    *,
    since: str,
    until: str | None,
    source: str | None,
    form: str,
    output: Path | None,
) -> int:
    """Write receipts and how they ended.

    One line for each object that was archived in that time, oldest first: where it was, where
    it is, its digests, how it was proven, and whether, when and why its hot copy was deleted.
    """
    now = backstage.clock.now()
    begin = moment("--since", since, now)
    end = None if until is None else moment("--until", until, now)
    with asking(backstage) as archiver, _written(output) as stream:
        name = None if source is None else SourceName(source)
        entries = archiver.records.entries(name, begin, end)
        adoptions = archiver.records.adoptions(name, begin, end)
        lines = heapq.merge(map(_fields, entries), map(_adopted_fields, adoptions), key=_place)
        count = _write(lines, form, stream)
    if output is not None:
        warn(f"{count_text(count)} receipts were written to {output}.")
    return ExitCode.DONE


def _write(lines: Iterable[Fields], form: str, stream: IO[str]) -> int:
    """Line by line, as they come; how many."""
    count = 0
    sheet = csv.DictWriter(stream, FIELDS)  # RFC 4180: lines end in CRLF
    if form == "csv":
        sheet.writeheader()
    for fields in lines:
        if form == "csv":
            is_pending = str(fields["is_release_pending"]).lower()
            sheet.writerow({**fields, "is_release_pending": is_pending})
        else:
            stream.write(f"{to_json(fields)}\n")
        count += 1
    stream.flush()
    return count


def _place(fields: Fields) -> tuple[Any, Any]:
    return fields["archived_at"], fields["receipt_id"]


def _fields(entry: Entry) -> Fields:
    recorded, receipt = entry.recorded, entry.recorded.receipt
    identity = receipt.identity
    content_digest, outcome = receipt.content_digest, entry.outcome
    values = (
        recorded.receipt_id,
        receipt.source,
        receipt.id,
        receipt.group_id,
        _text(recorded.archived_at),
        receipt.location.bucket,
        receipt.location.path,
        None if identity is None else identity.etag,
        None if identity is None else identity.version,
        receipt.cold.provider,
        receipt.cold.bucket,
        receipt.cold.key,
        receipt.etag,
        receipt.size_bytes,
        str(receipt.digest),
        None if content_digest is None else str(content_digest),
        str(receipt.evidence),
        receipt.token.epoch,
        receipt.token.worker,
        entry.is_pending,
        None if outcome is None else outcome.value,
        entry.detail,
        _text(entry.ended_at),
    )
    return dict(zip(FIELDS, values, strict=True))


def _adopted_fields(recorded: RecordedAdoption) -> Fields:
    adoption = recorded.adoption
    digest, content_digest = adoption.digest, adoption.content_digest
    known = {
        "receipt_id": recorded.receipt_id,
        "source": adoption.source,
        "id": adoption.id,
        "group_id": adoption.group_id,
        "archived_at": _text(recorded.adopted_at),
        "provider": adoption.cold.provider,
        "cold_bucket": adoption.cold.bucket,
        "cold_key": adoption.cold.key,
        "etag": adoption.etag,
        "size_bytes": adoption.size_bytes,
        "sha256": None if digest is None else str(digest),
        "content_sha256": None if content_digest is None else str(content_digest),
        "evidence": str(adoption.evidence),
        "is_release_pending": False,
    }
    return {name: known.get(name) for name in FIELDS}


def _text(at: datetime | None) -> str | None:
    """One width, so that texts sort as times do."""
    return None if at is None else f"{at:%Y-%m-%dT%H:%M:%S.%f}Z"


@contextmanager
def _written(output: Path | None) -> Iterator[IO[str]]:
    """Stdout, or a file that appears whole or not at all."""
    if output is None:
        yield sys.stdout
        return
    try:
        handle, name = tempfile.mkstemp(prefix=f".{output.name}.", dir=output.parent)
    except OSError as error:
        message = f"{output} cannot be written: {error.strerror}."
        raise click.BadParameter(message, param_hint="--output") from error
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as stream:
            yield stream
            os.fsync(stream.fileno())
        Path(name).replace(output)
    except BaseException:
        with suppress(FileNotFoundError):
            Path(name).unlink()
        raise
