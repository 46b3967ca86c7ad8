"""Which parts of which objects a cold store has acknowledged, on this machine.

A transaction is alone while it writes, so what it has found is what it writes upon: token and
lease are proven first, then come the plainest statements there are.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from archiver.errors import UploadBusy
from archiver.ledger.rows import part_from, plan_to_json, token_to_json, upload_from
from archiver.ledger.sqlite.file import fetch
from archiver.ledger.sqlite.fleet import text_of
from archiver.ledger.sqlite.queries import load
from archiver.model import TakenUpload

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from archiver.ledger.sqlite.file import LedgerFile, Parameters, Row
    from archiver.ledger.sqlite.fleet import SqliteFleet
    from archiver.model import ColdPlace, Part, Upload, UploadPlan
    from archiver.protocols import Clock

_SQL = load("uploads.sql")


class SqliteUploads:
    """The rows of `upload` and `upload_part`. Implements `protocols.Uploads`."""

    def __init__(
        self, file: LedgerFile, fleet: SqliteFleet, clock: Clock, *, expiry_seconds: float
    ) -> None:
        self._file = file
        self._fleet = fleet
        self._clock = clock
        self._expiry_seconds = expiry_seconds
        # The highest token number that has reached this process. What this worker owns above
        # it was given by a commit that was told as failed. The lock guards the number.
        self._seen_number = 0
        self._lock = threading.Lock()

    def take(self, plan: UploadPlan) -> TakenUpload:
        with self._file.transaction("take") as tx:
            self._fleet.require_lease(tx)
            others = self._others(tx)
            met = fetch(tx, _SQL["find_met"], plan_to_json(plan))
            here = next((row for row in met if row["is_here"]), None)
            if here is not None and here["worker_id"] in others:
                raise UploadBusy(where=str(plan.location))
            own = here if here is not None and here["is_served"] else None
            stale = [row for row in met if row is not own and row["worker_id"] not in others]
            for row in stale:
                told = {**self._new_token(tx), "upload_no": row["upload_no"], "at": self._now()}
                tx.execute(_SQL["set_aside"], told)
            upload = self._find(tx, self._take(tx, plan, own))
            taken = TakenUpload(upload, tuple(self._find(tx, it["upload_no"]) for it in stale))
        self._note([taken.upload, *taken.stale])
        return taken

    def begun(self, upload: Upload, upload_id: str) -> Upload:
        with self._file.transaction("begun") as tx:
            is_known = self._require_mine(tx, upload)["upload_id"] == upload_id
            told: Parameters = {"upload_no": upload.number, "upload_id": upload_id}
            if not is_known:
                tx.execute(_SQL["drop_parts"], told)
            tx.execute(_SQL["begin"], told)
        parts = upload.parts if is_known else ()
        return replace(upload, upload_id=upload_id, parts=parts)

    def save_part(self, upload: Upload, part: Part) -> None:
        with self._file.transaction("save_part") as tx:
            if self._require_mine(tx, upload)["upload_id"] != upload.upload_id:
                raise UploadBusy(where=str(upload.plan.location))
            saved = {
                "upload_no": upload.number,
                "part_number": part.number,
                "size_bytes": part.size_bytes,
                "digest": part.digest.raw,
                "etag": part.etag,
                "at": self._now(),
                "expires_at": self._expiry(),
            }
            tx.execute(_SQL["save_part"], saved)
            tx.execute(_SQL["put_off"], saved)

    def require(self, upload: Upload) -> None:
        with self._file.snapshot("require") as tx:
            self._require_mine(tx, upload)

    def forget(self, upload: Upload) -> None:
        with self._file.transaction("forget") as tx:
            self._fleet.require_lease(tx)
            tx.execute(_SQL["forget"], _which(upload))

    def give_back(self, upload: Upload) -> None:
        with self._file.transaction("give_back") as tx:
            if self._fleet.has_lease(tx):
                tx.execute(_SQL["give_back"], _which(upload))

    def expired(self, place: ColdPlace, limit: int) -> Sequence[Upload]:
        asked = {
            "provider": place.provider,
            "cold_bucket": place.bucket,
            "prefix": place.prefix,
        }
        with self._file.transaction("expired") as tx:
            self._fleet.require_lease(tx)
            others = self._others(tx)
            due = [
                row["upload_no"]
                for row in fetch(tx, _SQL["find_expired"], {**asked, "at": self._now()})
                if row["worker_id"] not in others and not self._is_known_as_mine(row)
            ][:limit]
            for number in due:
                tx.execute(_SQL["own"], {**self._new_token(tx), "upload_no": number})
            uploads = [self._find(tx, number) for number in due]
        self._note(uploads)
        return uploads

    def uploads(self) -> Sequence[Upload]:
        with self._file.snapshot("uploads") as tx:
            listed = fetch(tx, _SQL["list_uploads"], {})
            return [self._find(tx, row["upload_no"]) for row in listed]

    def _take(self, tx: sqlite3.Connection, plan: UploadPlan, own: Row | None) -> int:
        """Its number; a new one, or the one that is there."""
        told = {
            **plan_to_json(plan),
            **self._new_token(tx),
            "at": self._now(),
            "expires_at": self._expiry(),
        }
        if own is None:
            return tx.execute(_SQL["insert"], told).lastrowid or 0
        number: int = own["upload_no"]
        tx.execute(_SQL["resume"], {**told, "upload_no": number})
        return number

    def _find(self, tx: sqlite3.Connection, number: int) -> Upload:
        (row,) = fetch(tx, _SQL["find"], {"upload_no": number})
        times = {name: datetime.fromisoformat(row[name]) for name in ("begun_at", "expires_at")}
        parts = fetch(tx, _SQL["list_parts"], {"upload_no": number})
        return upload_from({**row, **times}, map(part_from, parts))

    def _require_mine(self, tx: sqlite3.Connection, upload: Upload) -> Row:
        self._fleet.require_lease(tx)
        found = fetch(tx, _SQL["find_mine"], _which(upload))
        if not found:
            raise UploadBusy(where=str(upload.plan.location))
        return found[0]

    def _others(self, tx: sqlite3.Connection) -> set[int]:
        return set(self._fleet.live_workers(tx)) - {self._fleet.worker}

    def _is_known_as_mine(self, row: Row) -> bool:
        is_mine: bool = row["worker_id"] == self._fleet.worker
        return is_mine and int(row["number"]) <= self._seen_number

    def _new_token(self, tx: sqlite3.Connection) -> Parameters:
        return token_to_json(self._fleet.new_token(tx))

    def _now(self) -> str:
        return text_of(self._clock.now())

    def _expiry(self) -> str:
        return text_of(self._clock.now() + timedelta(seconds=self._expiry_seconds))

    def _note(self, uploads: Sequence[Upload]) -> None:
        with self._lock:
            self._seen_number = max(
                [self._seen_number, *(upload.token.number for upload in uploads)]
            )


def _which(upload: Upload) -> Parameters:
    return {"upload_no": upload.number, **token_to_json(upload.token)}
