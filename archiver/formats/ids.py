"""Ids that the ledger can keep, and short ones for those that it cannot."""

from __future__ import annotations

from archiver.model import CandidateId, Digest

LIMIT_BYTES = 1024  # an entry of a Postgres index has 2,704, the source's name included
_BEGINNING = 200  # characters of a longer one: by them a person knows which it is


def problem_of_text(text: str) -> str:
    """Why Postgres could not keep a text; empty where it can."""
    if "\0" in text:
        return "it holds a NUL"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "it is not Unicode"
    return ""


def problem_of_id(id_: str) -> str:
    """Why the ledger could not keep an id; empty where it can."""
    if problem := problem_of_text(id_):
        return problem
    length = len(id_.encode())
    return f"it has {length} bytes, {LIMIT_BYTES} are allowed" if length > LIMIT_BYTES else ""


def short_id(id_: str) -> CandidateId:
    """What stands for an id that cannot be kept: its beginning and its SHA-256."""
    end = f"...{Digest.of(id_.encode(errors='surrogatepass'))}"
    beginning = ascii(id_[:_BEGINNING])[1:-1]  # escaped: up to ten bytes a character
    return CandidateId(beginning[: LIMIT_BYTES - len(end)] + end)
