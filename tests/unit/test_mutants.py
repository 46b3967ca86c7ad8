"""The catalogue of mutants fits the code; whether they are caught, `make mutants` says."""

from __future__ import annotations

from tests.mutants.catalogue import MUTANTS
from tests.mutants.running import TREE


def test_every_text_to_replace_is_there_once() -> None:
    edits = [(mutant.name, edit) for mutant in MUTANTS for edit in mutant.edits]
    counts = {
        (name, edit.file): (TREE / edit.file).read_text().count(edit.old)
        for name, edit in edits
    }

    assert {} == {what: count for what, count in counts.items() if count != 1}


def test_every_mutant_has_a_name_of_its_own_and_a_test() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    assert all(mutant.caught_by for mutant in MUTANTS)
