"""The tables of docs/guarantees.md that say what becomes of a row when a store lies."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tests.liar.scene import CLIENTS, LEVELS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.model import Evidence

_PAGE = Path(__file__).parents[2] / "docs" / "guarantees.md"
COLD, HOT = "A cold store that …", "A hot store that …"
PARTS = "A cold store that, of an object in parts, …"


def promised_cold() -> dict[str, dict[tuple[Evidence, str], str]]:
    """What becomes of the row, by the lie, the evidence and the client."""
    return {name: _by_client(cells) for name, cells in _rows(COLD)}


def promised_parts() -> dict[str, dict[tuple[Evidence, str], str]]:
    """The same of an object that is sent in parts."""
    return {name: _by_client(cells) for name, cells in _rows(PARTS)}


def promised_hot() -> dict[str, str]:
    return {name: cells[0] for name, cells in _rows(HOT)}


def _by_client(cells: list[str]) -> dict[tuple[Evidence, str], str]:
    """A cell holds for both clients, or says `obstore: … / boto3: …`."""
    told: dict[tuple[Evidence, str], str] = {}
    for level, cell in zip(LEVELS, cells, strict=True):
        for client in CLIENTS:
            _, of_client, rest = cell.partition(f"{client}: ")
            told[level, client] = rest.partition(" / ")[0] if of_client else cell
    return told


def _rows(title: str) -> Iterator[tuple[str, list[str]]]:
    lines = iter(_PAGE.read_text().splitlines())
    for line in lines:
        if line.startswith(f"| {title} |"):
            break
    next(lines)  # the rule below the head
    for line in lines:
        if not line.startswith("|"):
            return
        name, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        yield name, cells
