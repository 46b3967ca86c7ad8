"""Stamps in a cold place: where they lie, and what they say.

They lie at `{prefix}.archiver/stamps/{source}/{number}`: ten digits or more, from 1. Where the
store does not refuse a second create, `.{ledger id}.{epoch}.{nonce}` goes after the number, so
that none is written over. What they say is in their metadata, and in their body as JSON:

| metadata                | body          | value                                        |
|-------------------------|---------------|----------------------------------------------|
|                         | `version`     | 1                                            |
| `archiver-ledger`       | `ledger`      | id of the ledger                             |
| `archiver-source`       | `source`      | name of the source                           |
| `archiver-number`       | `number`      | the number, without zeros before it          |
| `archiver-epoch`        | `epoch`       | the ledger's epoch                           |
| `archiver-nonce`        | `nonce`       | a UUID of this one stamp                     |
| `archiver-stamped-at`   | `stamped_at`  | when it was intended, ISO 8601, UTC          |
| `archiver-database`     | `database`    | name of the database the ledger is at home in |

In metadata, values are percent-encoded ASCII.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from archiver.model import ColdKey, SourceName, Stamp

if TYPE_CHECKING:
    from collections.abc import Mapping

_VERSION = 1
_NAME = re.compile(r"([0-9]{10}|[1-9][0-9]{10,17})(?:\..+)?")  # all fit into a bigint
_METADATA = "archiver-"


def stamps_directory(prefix: str, source: SourceName) -> str:
    """What the keys of a source's stamps begin with: apart from all else below `.archiver/`."""
    return f"{prefix}.archiver/stamps/{quote(source, safe='')}/"


def shared_key(prefix: str, stamp: Stamp) -> ColdKey:
    """The one key of all stamps of that number: a second create is to be refused."""
    return ColdKey(f"{stamps_directory(prefix, stamp.source)}{stamp.number:010}")


def own_key(prefix: str, stamp: Stamp) -> ColdKey:
    """The key of this stamp alone."""
    name = f".{stamp.ledger_id}.{stamp.epoch}.{stamp.nonce}"
    return ColdKey(f"{shared_key(prefix, stamp)}{name}")


def number_of(key: ColdKey, directory: str) -> int | None:
    """The number in a key below that directory; None: it is not a stamp's."""
    match = _NAME.fullmatch(key.removeprefix(directory))
    return None if match is None else int(match[1])


def to_metadata(stamp: Stamp) -> dict[str, str]:
    facts = _facts(stamp).items()
    return {_METADATA + name.replace("_", "-"): quote(value, safe=":") for name, value in facts}


def of_metadata(metadata: Mapping[str, str]) -> Stamp | None:
    """None: it does not tell of a stamp."""
    told = {name.removeprefix(_METADATA): value for name, value in metadata.items()}
    return _stamp({name.replace("-", "_"): unquote(value) for name, value in told.items()})


def to_body(stamp: Stamp) -> bytes:
    """The same for the same stamp."""
    return json.dumps({"version": _VERSION, **_facts(stamp)}, indent=1).encode()


def of_body(body: bytes) -> Stamp | None:
    """None: it does not tell of a stamp."""
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return _stamp(told) if isinstance(told, dict) else None


def _facts(stamp: Stamp) -> dict[str, str]:
    return {
        "ledger": stamp.ledger_id,
        "source": stamp.source,
        "number": str(stamp.number),
        "epoch": str(stamp.epoch),
        "nonce": stamp.nonce,
        "stamped_at": stamp.stamped_at.astimezone(UTC).isoformat(),
        "database": stamp.database_name,
    }


def _stamp(told: Mapping[str, object]) -> Stamp | None:
    try:
        stamped_at = datetime.fromisoformat(str(told["stamped_at"]))
        return Stamp(
            ledger_id=str(told["ledger"]),
            source=SourceName(str(told["source"])),
            number=int(str(told["number"])),
            epoch=int(str(told["epoch"])),
            nonce=str(told["nonce"]),
            stamped_at=stamped_at.astimezone(UTC),
            database_name=str(told["database"]),
        )
    except (KeyError, ValueError):
        return None
