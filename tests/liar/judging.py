"""What must hold of every scene, whatever the table says of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archiver.model import Evidence
from tests.liar.scene import TARGET

if TYPE_CHECKING:
    from tests.liar.scene import Fault, Seen

LOST = "**lost**"
NOT_MET = "not met"  # at this level nothing is asked that could be lied about
_FOR_GOOD = "though told"  # the ledger has ended with a hot copy that is still there


def judge_cold(seen: Seen, promised: str, fault: Fault, evidence: Evidence) -> None:
    judge(seen, promised, fault)
    is_after_proof = fault.at_record is not None
    assert not (evidence is Evidence.READBACK and seen.is_lost and not is_after_proof)


def judge(seen: Seen, promised: str, fault: Fault) -> None:
    """The outcome is the promised one; what is not lost is recovered by an honest store.

    Both ways: a lie that is no longer told ends as `not met`, a loss that no longer happens
    is another outcome, and either is a failure until the table says so.
    """
    assert seen.outcome == promised
    assert seen.is_lost == (promised == LOST)
    assert fault.is_leaky or seen.open_after == []
    if not fault.is_about_all and "sweep stops" not in promised:
        assert set(seen.neighbours.values()) == {"archived, released"}
    if promised == LOST:
        assert seen.troubles_after
        assert [told for told in seen.troubles_after if TARGET not in told] == []
        return
    assert seen.troubles_after == []
    if _FOR_GOOD in promised:
        assert seen.left_after[TARGET] == promised
    else:
        assert seen.left_after == {}
