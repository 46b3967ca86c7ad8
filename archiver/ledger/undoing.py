"""How a release is undone: in one transaction, during which none can be claimed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archiver.ledger.database import fetch
from archiver.ledger.flipping import RowBusy, RowRefused, halving, point_back
from archiver.ledger.queries import load
from archiver.model import HotLocation, Outcome, ReceiptId, UndoAnswer, Undone

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from archiver.ledger.database import Connection, Database
    from archiver.ledger.settings import LedgerSettings
    from archiver.model import CandidateId, Recorded
    from archiver.protocols import ArchiveSource, Look

_SQL = load("undo.sql")

_LOOK_SECONDS = 600.0  # at the hot copies of one group, between two statements

_Answers = dict[ReceiptId, tuple[UndoAnswer, str | None]]

_ENDINGS = {
    Outcome.RELEASED: UndoAnswer.RELEASED,
    Outcome.UNDONE: UndoAnswer.UNDONE_BEFORE,
}


class Undoing:
    """Undoes the pending releases of one source. Thread-safe: it keeps nothing."""

    def __init__(
        self, source: ArchiveSource, database: Database, settings: LedgerSettings
    ) -> None:
        self._source = source
        self._database = database
        self._settings = settings

    def undo(
        self, recorded: Sequence[Recorded], hold_seconds: float, look: Look
    ) -> Sequence[Undone]:
        """As the protocol says: in one transaction, unless a row spoils it."""
        alone = len(recorded) == 1
        settings = self._settings
        wait_seconds = settings.lone_busy_wait_seconds if alone else settings.busy_wait_seconds

        def attempt(group: Sequence[Recorded]) -> _Answers:
            with self._database.transaction("undo", idle_seconds=_LOOK_SECONDS) as tx:
                return self._undo(tx, group, hold_seconds, look, wait_seconds)

        def spoiled(one: Recorded, why: RowBusy | RowRefused) -> _Answers:
            if isinstance(why, RowBusy):
                return {one.receipt_id: (UndoAnswer.BUSY, None)}
            return {one.receipt_id: (UndoAnswer.REFUSED, str(why))}

        answers: _Answers = {}
        for told in halving(recorded, attempt, spoiled):
            answers.update(told)
        return [_undone(one, *answers[one.receipt_id]) for one in recorded]

    def _undo(
        self,
        tx: Connection,
        group: Sequence[Recorded],
        hold_seconds: float,
        look: Look,
        wait_seconds: float,
    ) -> _Answers:
        tx.execute(_SQL["lock_out_claims"], {"source": self._source.name})
        answers = self._unfit(tx, group)
        fit = [one for one in group if one.receipt_id not in answers]
        if fit:
            answers.update((id_, (answer, None)) for id_, answer in look(fit).items())
        there = [one.receipt for one in fit if one.receipt_id not in answers]
        taken = set(point_back(self._source, there, tx, wait_seconds=wait_seconds))
        for one in fit:
            was_taken = one.receipt.id in taken
            answer = UndoAnswer.UNDONE if was_taken else UndoAnswer.CHANGED
            answers.setdefault(one.receipt_id, (answer, None))
        undone = [id_ for id_, told in answers.items() if told[0] is UndoAnswer.UNDONE]
        if undone:
            tx.execute(_SQL["end_undone"], {"receipt_ids": undone})
            tx.execute(_SQL["hold"], {"receipt_ids": undone, "hold_seconds": hold_seconds})
        return answers

    def _unfit(self, tx: Connection, group: Sequence[Recorded]) -> _Answers:
        """Those that cannot be undone, by the ledger alone. The others are held by `tx`."""
        receipt_ids = [one.receipt_id for one in group]
        locked = fetch(tx, _SQL["lock_pending"], {"receipt_ids": receipt_ids})
        pending = {row["receipt_id"] for row in locked}
        under_way = self._under_way(tx)
        in_motion = self._in_motion(tx, [one.receipt.id for one in group])
        answers = dict(self._endings(tx, [id_ for id_ in receipt_ids if id_ not in pending]))
        for one in group:
            if one.receipt_id not in pending:
                continue
            if one.receipt.location in under_way:
                answers[one.receipt_id] = (UndoAnswer.RELEASING, None)
            elif one.receipt.id in in_motion:
                answers[one.receipt_id] = (UndoAnswer.CHANGED, "a candidate again")
        return answers

    def _under_way(self, tx: Connection) -> set[HotLocation]:
        rows = fetch(tx, _SQL["find_under_way"], {"source": self._source.name})
        return {HotLocation(row["hot_bucket"], row["hot_path"]) for row in rows}

    def _in_motion(self, tx: Connection, ids: Sequence[CandidateId]) -> set[CandidateId]:
        parameters: Mapping[str, object] = {"source": self._source.name, "ids": list(ids)}
        return {row["id"] for row in fetch(tx, _SQL["find_in_motion"], parameters)}

    def _endings(
        self, tx: Connection, receipt_ids: Sequence[ReceiptId]
    ) -> Iterator[tuple[ReceiptId, tuple[UndoAnswer, str | None]]]:
        if not receipt_ids:
            return
        for row in fetch(tx, _SQL["find_endings"], {"receipt_ids": list(receipt_ids)}):
            if row["is_pending"]:  # somebody is ending it at this moment
                yield row["receipt_id"], (UndoAnswer.RELEASING, None)
            elif row["outcome"] is None:
                yield row["receipt_id"], (UndoAnswer.KEPT, "the receipt allows no release")
            else:
                outcome = Outcome(row["outcome"])
                answer = _ENDINGS.get(outcome, UndoAnswer.KEPT)
                told = outcome.value if answer is UndoAnswer.KEPT else None
                yield row["receipt_id"], (answer, row["detail"] or told)


def _undone(one: Recorded, answer: UndoAnswer, detail: str | None) -> Undone:
    receipt = one.receipt
    return Undone(receipt.source, receipt.id, one.receipt_id, answer, detail)
