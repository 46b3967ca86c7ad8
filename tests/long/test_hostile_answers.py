"""Every hostile answer to every question of every store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.liar.asking import ask_all, running
from tests.liar.hostile import ANSWERS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.harness.figures import TellFigure
    from tests.liar.hostile import Asker
    from tests.liar.server import LyingS3


@pytest.fixture(scope="module")
def asking() -> Iterator[tuple[LyingS3, dict[str, Asker]]]:
    with running() as server_and_askers:
        yield server_and_askers


@pytest.mark.parametrize("store", ["hot", "obstore", "boto3", "supabase"])
@pytest.mark.parametrize("answer", ANSWERS)
def test_no_answer_is_more_than_an_error(
    asking: tuple[LyingS3, dict[str, Asker]], store: str, answer: str
) -> None:
    server, askers = asking

    ask_all(server, askers[store], answer)


def test_so_many_were_given(
    asking: tuple[LyingS3, dict[str, Asker]], tell_figure: TellFigure
) -> None:
    _, askers = asking
    questions_count = sum(len(asker.questions) for asker in askers.values())
    tell_figure(
        "hostile answers", f"{len(ANSWERS)} to each of {questions_count} questions of 4 stores"
    )
