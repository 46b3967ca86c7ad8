"""How a claim ends: recorded, failed, or given back; each under its fencing token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg.types.json import Jsonb

from archiver.errors import LeaseLost
from archiver.ledger import rows
from archiver.ledger.database import fetch
from archiver.ledger.flipping import RowBusy, RowRefused, flip, halving
from archiver.ledger.queries import load
from archiver.model import (
    Answer,
    CandidateId,
    ColdKey,
    ColdLocation,
    Digest,
    Evidence,
    FailAnswer,
    FencingToken,
    Receipt,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from archiver.ledger.backoff import Backoff
    from archiver.ledger.database import Connection, Database, Row
    from archiver.ledger.settings import LedgerSettings
    from archiver.model import Claim, Failure
    from archiver.protocols import ArchiveSource

_SQL = load("claims.sql")

_NO_DIGEST = Digest(bytes(32))  # stands where a candidate promises none: nothing has it
_NOWHERE = ColdLocation("none", "none", ColdKey("none"))  # asking whether a row has changed

_FATES = {"waiting": FailAnswer.WAITING, "parked": FailAnswer.PARKED}


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What is to become of a failed claim."""

    failure: Failure
    wait_seconds: float | None  # None: park


class Endings:
    """Ends the claims of one source. Thread-safe: it keeps nothing."""

    def __init__(
        self,
        source: ArchiveSource,
        database: Database,
        settings: LedgerSettings,
        backoff: Backoff,
    ) -> None:
        self._source = source
        self._database = database
        self._settings = settings
        self._backoff = backoff

    # --- give back ---------------------------------------------------------------------------

    def give_back(self, claims: Sequence[Claim]) -> None:
        if not claims:
            return
        with self._database.transaction("give_back") as tx:
            tx.execute(_SQL["give_back"], self._under(_tokens(claims)))

    # --- record ------------------------------------------------------------------------------

    def record(self, receipts: Sequence[Receipt]) -> Sequence[Answer]:
        """As the protocol says: in one transaction, unless a row spoils it.

        Then each half has its own, so that no flipped row stays locked meanwhile.
        """
        wait_seconds = (
            self._settings.lone_busy_wait_seconds
            if len(receipts) == 1
            else self._settings.busy_wait_seconds
        )

        def attempt(group: Sequence[Receipt]) -> Mapping[FencingToken, Answer]:
            with self._database.transaction("record") as tx:
                return self._record(tx, group, wait_seconds)

        def alone(receipt: Receipt, why: RowBusy | RowRefused) -> Mapping[FencingToken, Answer]:
            if isinstance(why, RowBusy):
                return {receipt.token: Answer.BUSY}
            self._park_refused(receipt, str(why))
            return {receipt.token: Answer.REFUSED}

        unique = list({receipt.token: receipt for receipt in receipts}.values())
        answers: dict[FencingToken, Answer] = {}
        for told in halving(unique, attempt, alone):
            answers.update(told)
        return [answers[receipt.token] for receipt in receipts]

    def _record(
        self, tx: Connection, group: Sequence[Receipt], wait_seconds: float
    ) -> Mapping[FencingToken, Answer]:
        held = self._lock_mine(tx, {receipt.token: receipt.id for receipt in group})
        if not all(row["has_lease"] for row in held.values()):
            raise LeaseLost(worker=group[0].token.worker)
        mine = [receipt for receipt in group if receipt.token in held]
        missing = [receipt for receipt in group if receipt.token not in held]
        answers = self._fates(tx, missing) if missing else {}
        if mine:
            taken = set(flip(self._source, mine, tx, wait_seconds=wait_seconds))
            accepted = [receipt for receipt in mine if receipt.id in taken]
            self._keep(tx, accepted, held)
            self._delete(tx, {receipt.token: receipt.id for receipt in mine})
            for receipt in mine:
                was_taken = receipt.id in taken
                answers[receipt.token] = Answer.ACCEPTED if was_taken else Answer.SUPERSEDED
        return answers

    def _fates(self, tx: Connection, missing: Sequence[Receipt]) -> dict[FencingToken, Answer]:
        """Recorded by an earlier call, or another owner's by now."""
        fates = self._find_fates(tx, {receipt.token: receipt.id for receipt in missing})
        answers = {}
        for receipt in missing:
            fate = fates[receipt.token.number]
            if fate["is_recorded"]:
                answers[receipt.token] = Answer.ACCEPTED
            elif fate["state"] == "claimed":  # ours by its token, but under an old epoch
                raise LeaseLost(worker=receipt.token.worker)
            elif fate["state"] == "parked":  # refused, and the answer to that got lost
                answers[receipt.token] = Answer.REFUSED
            else:
                answers[receipt.token] = Answer.LOST
        return answers

    def _keep(
        self, tx: Connection, accepted: Sequence[Receipt], held: Mapping[FencingToken, Row]
    ) -> None:
        receipts = Jsonb(
            [
                rows.receipt_to_json(receipt, held[receipt.token]["cold_key"])
                for receipt in accepted
            ]
        )
        tx.execute(_SQL["add_places"], {"receipts": receipts})
        tx.execute(
            _SQL["insert_receipts"],
            {
                "source": self._source.name,
                "receipts": receipts,
                "grace_seconds": self._settings.release_grace_seconds,
            },
        )

    def _park_refused(self, receipt: Receipt, reason: str) -> None:
        with self._database.transaction("record") as tx:
            if self._lock_mine(tx, {receipt.token: receipt.id}):
                self._fail(tx, [(receipt.id, receipt.token.number, reason, None, True)])

    # --- fail --------------------------------------------------------------------------------

    def fail(self, failures: Sequence[Failure]) -> Sequence[FailAnswer]:
        if not failures:
            return []
        tokens = _tokens([failure.claim for failure in failures])
        with self._database.transaction("fail") as tx:
            held = self._lock_mine(tx, tokens)
            verdicts = [
                self._verdict(failure, held[failure.claim.token]["attempts_count"] + 1)
                for failure in failures
                if failure.claim.token in held
            ]
            answers = self._carry_out(tx, verdicts)
            fates = self._find_fates(tx, tokens) if len(held) < len(tokens) else {}
        for token in tokens.keys() - held.keys():
            # By an earlier call of this very failure, or by another owner.
            answers[token] = _FATES.get(fates[token.number]["state"], FailAnswer.LOST)
        return [answers[failure.claim.token] for failure in failures]

    def _verdict(self, failure: Failure, attempts_count: int) -> _Verdict:
        limit = failure.max_attempts or self._settings.max_attempts
        is_last = failure.is_counted and attempts_count >= limit
        if failure.is_permanent or is_last:
            return _Verdict(failure, wait_seconds=None)
        wait = self._backoff.seconds(attempts_count, failure.retry_after_seconds)
        return _Verdict(failure, wait)

    def _carry_out(
        self, tx: Connection, verdicts: Sequence[_Verdict]
    ) -> dict[FencingToken, FailAnswer]:
        to_park = [it.failure.claim for it in verdicts if it.wait_seconds is None]
        changed = self._changed(tx, to_park)
        if superseded := [claim for claim in to_park if claim.token in changed]:
            self._delete(tx, _tokens(superseded))
        answers = dict.fromkeys(changed, FailAnswer.SUPERSEDED)
        kept = [it for it in verdicts if it.failure.claim.token not in changed]
        if kept:
            self._fail(
                tx,
                [
                    (
                        it.failure.claim.candidate.id,
                        it.failure.claim.token.number,
                        it.failure.reason,
                        it.wait_seconds,
                        it.failure.is_counted,
                    )
                    for it in kept
                ],
            )
        for it in kept:
            is_parked = it.wait_seconds is None
            answer = FailAnswer.PARKED if is_parked else FailAnswer.WAITING
            answers[it.failure.claim.token] = answer
        return answers

    def _changed(self, tx: Connection, claims: Sequence[Claim]) -> set[FencingToken]:
        """Those whose rows no longer hold what the claim was made of.

        The source is asked to flip them, and that is rolled back. A row that cannot be
        asked now, because it is held or raises, counts as unchanged.
        """

        def attempt(group: Sequence[Claim]) -> set[FencingToken]:
            with tx.transaction(force_rollback=True):
                taken = flip(
                    self._source,
                    [_as_promised(claim) for claim in group],
                    tx,
                    wait_seconds=self._settings.busy_wait_seconds,
                )
            return {claim.token for claim in group if claim.candidate.id not in set(taken)}

        changed: set[FencingToken] = set()
        for tokens in halving(claims, attempt, lambda _claim, _why: set()):
            changed |= tokens
        return changed

    # --- shared ------------------------------------------------------------------------------

    def _lock_mine(
        self, tx: Connection, tokens: Mapping[FencingToken, CandidateId]
    ) -> dict[FencingToken, Row]:
        by_number = {token.number: token for token in tokens}
        found = fetch(tx, _SQL["lock_mine"], self._under(tokens))
        return {by_number[row["number"]]: row for row in found}

    def _find_fates(
        self, tx: Connection, tokens: Mapping[FencingToken, CandidateId]
    ) -> dict[int, Row]:
        found = fetch(tx, _SQL["find_fates"], self._under(tokens))
        return {row["number"]: row for row in found}

    def _delete(self, tx: Connection, tokens: Mapping[FencingToken, CandidateId]) -> None:
        numbers = [token.number for token in tokens]
        parameters = {"source": self._source.name, "numbers": numbers}
        tx.execute(_SQL["delete_claims"], {**parameters, "ids": list(tokens.values())})

    def _fail(
        self, tx: Connection, failed: Iterable[tuple[CandidateId, int, str, float | None, bool]]
    ) -> None:
        failures = [
            {
                "id": id_,
                "number": number,
                "reason": rows.storable(reason),
                "wait_seconds": wait,
                "is_counted": is_counted,
            }
            for id_, number, reason, wait, is_counted in failed
        ]
        parameters = {"source": self._source.name, "failures": Jsonb(failures)}
        tx.execute(_SQL["fail_claims"], parameters)

    def _under(self, tokens: Mapping[FencingToken, CandidateId]) -> Mapping[str, object]:
        listed = [{"id": id_, **rows.token_to_json(token)} for token, id_ in tokens.items()]
        return {"source": self._source.name, "tokens": Jsonb(listed)}


def _tokens(claims: Sequence[Claim]) -> dict[FencingToken, CandidateId]:
    return {claim.token: claim.candidate.id for claim in claims}


def _as_promised(claim: Claim) -> Receipt:
    """What a receipt would say if the object were just what its row promises."""
    candidate = claim.candidate
    return Receipt(
        source=claim.source,
        id=candidate.id,
        token=claim.token,
        location=candidate.location,
        identity=None,
        cold=_NOWHERE,
        size_bytes=candidate.size_bytes or 0,
        digest=candidate.digest or _NO_DIGEST,
        content_digest=candidate.content_digest,
        etag=None,
        evidence=Evidence.UNPROVEN,
        group_id=candidate.group_id,
    )
