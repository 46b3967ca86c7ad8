"""Which parts of which objects a cold store has acknowledged, and whose turn it is to go on."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

from archiver.errors import UploadBusy
from archiver.ledger.database import fetch
from archiver.ledger.queries import load
from archiver.ledger.rows import part_from, plan_to_json, token_to_json, upload_from
from archiver.model import TakenUpload

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from archiver.ledger.database import Connection, Database, Row
    from archiver.ledger.fleet import PostgresFleet
    from archiver.model import ColdPlace, Part, Upload, UploadPlan

_SQL = load("uploads.sql")


class PostgresUploads:
    """The rows of `upload` and `upload_part`. Implements `protocols.Uploads`."""

    def __init__(
        self, database: Database, fleet: PostgresFleet, *, expiry_seconds: float
    ) -> None:
        self._database = database
        self._fleet = fleet
        self._expiry_seconds = expiry_seconds
        # The highest token number that has reached this process. What this worker owns above
        # it was given by a reply that got lost. The lock guards the number.
        self._seen_number = 0
        self._lock = threading.Lock()

    def take(self, plan: UploadPlan) -> TakenUpload:
        asked = {
            **plan_to_json(plan),
            "worker_id": self._fleet.worker,
            "expiry_seconds": self._expiry_seconds,
        }
        with self._database.transaction("take") as tx:
            stale = fetch(tx, _SQL["set_aside"], asked)
            taken = fetch(tx, _SQL["take"], asked)
            if not taken:
                self._miss(tx, plan)
            upload, *others = self._with_parts(tx, [*taken, *_by_number(stale)])
        self._note([upload, *others])
        return TakenUpload(upload, tuple(others))

    def begun(self, upload: Upload, upload_id: str) -> Upload:
        with self._database.transaction("begun") as tx:
            begun = fetch(tx, _SQL["begin"], {**_which(upload), "upload_id": upload_id})
            if not begun:
                self._miss(tx, upload.plan)
        parts = upload.parts if begun[0]["is_known"] else ()
        return replace(upload, upload_id=upload_id, parts=parts)

    def save_part(self, upload: Upload, part: Part) -> None:
        told = {
            **_which(upload),
            "upload_id": upload.upload_id,
            "part_number": part.number,
            "size_bytes": part.size_bytes,
            "digest": part.digest.raw,
            "etag": part.etag,
            "expiry_seconds": self._expiry_seconds,
        }
        with self._database.transaction("save_part") as tx:
            if not fetch(tx, _SQL["save_part"], told):
                self._miss(tx, upload.plan)

    def require(self, upload: Upload) -> None:
        with self._database.transaction("require") as tx:
            if not fetch(tx, _SQL["find_mine"], _which(upload)):
                self._miss(tx, upload.plan)

    def forget(self, upload: Upload) -> None:
        with self._database.transaction("forget") as tx:
            if not tx.execute(_SQL["forget"], _which(upload)).rowcount:
                self._fleet.require_lease(tx)

    def give_back(self, upload: Upload) -> None:
        with self._database.transaction("give_back") as tx:
            tx.execute(_SQL["give_back"], _which(upload))

    def expired(self, place: ColdPlace, limit: int) -> Sequence[Upload]:
        asked = {
            "provider": place.provider,
            "cold_bucket": place.bucket,
            "prefix": place.prefix,
            "worker_id": self._fleet.worker,
            "seen_number": self._seen_number,
            "limit": limit,
        }
        with self._database.transaction("expired") as tx:
            self._fleet.require_lease(tx)
            due = fetch(tx, _SQL["take_expired"], asked)
            due.sort(key=lambda row: (row["expires_at"], row["upload_no"]))
            uploads = self._with_parts(tx, due)
        self._note(uploads)
        return uploads

    def uploads(self) -> Sequence[Upload]:
        with self._database.transaction("uploads") as tx:
            return self._with_parts(tx, fetch(tx, _SQL["list_uploads"], {}))

    def _miss(self, tx: Connection, plan: UploadPlan) -> NoReturn:
        """Say why a write that is fenced met no row."""
        self._fleet.require_lease(tx)
        raise UploadBusy(where=str(plan.location))

    def _with_parts(self, tx: Connection, rows: Sequence[Row]) -> list[Upload]:
        parts: dict[int, list[Part]] = {row["upload_no"]: [] for row in rows}
        for row in fetch(tx, _SQL["list_parts"], {"upload_nos": list(parts)}):
            parts[row["upload_no"]].append(part_from(row))
        return [upload_from(row, parts[row["upload_no"]]) for row in rows]

    def _note(self, uploads: Sequence[Upload]) -> None:
        with self._lock:
            self._seen_number = max(
                [self._seen_number, *(upload.token.number for upload in uploads)]
            )


def _which(upload: Upload) -> Mapping[str, object]:
    return {"upload_no": upload.number, **token_to_json(upload.token)}


def _by_number(rows: Sequence[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: int(row["upload_no"]))
