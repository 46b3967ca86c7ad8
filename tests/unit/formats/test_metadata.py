from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.formats.metadata import LIMIT_BYTES, Origin
from archiver.model import CandidateId, Digest, HotLocation, SourceName

_text = st.text(max_size=40)
origins = st.builds(
    Origin,
    digest=st.binary(max_size=8).map(Digest.of),
    ledger_id=st.uuids().map(str),
    source=_text.map(SourceName),
    id=_text.map(CandidateId),
    location=st.builds(HotLocation, _text, _text),
    content_digest=st.none() | st.binary(max_size=8).map(Digest.of),
    content_encoding=st.none() | st.sampled_from(["gzip", "zstd", "br"]),
)


@given(origins)
def test_what_an_object_says_of_itself_is_read_back(origin: Origin) -> None:
    assert Origin.of(origin.to_metadata({})) == origin


@given(origins, st.dictionaries(st.sampled_from(["task_id", "job_id"]), st.text(max_size=40)))
def test_metadata_is_printable_ascii_without_edges(origin: Origin, own: dict[str, str]) -> None:
    for value in origin.to_metadata(own).values():
        assert all(" " <= letter <= "~" for letter in value)


def test_more_than_a_store_accepts_is_refused() -> None:
    origin = Origin(
        digest=Digest.of(b""),
        ledger_id="ledger",
        source=SourceName("task_html"),
        id=CandidateId("7"),
        location=HotLocation("pages", "x" * LIMIT_BYTES),
    )
    with pytest.raises(ValueError, match="2048 are allowed"):
        origin.to_metadata({})


def test_somebody_elses_object_says_nothing() -> None:
    assert Origin.of({"owner": "backup"}) is None
    assert Origin.of({"archiver-digest": "nonsense", "archiver-hot": "a/b"}) is None
