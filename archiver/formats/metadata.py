"""The metadata of a cold object: enough to bring it home without the ledger.

| name                      | value                                                       |
|---------------------------|-------------------------------------------------------------|
| `archiver-digest`         | SHA-256 of the stored bytes, hex; see `digest_notes.py`     |
| `archiver-content-digest` | SHA-256 of the decompressed bytes, hex, where it is known   |
| `archiver-ledger`         | id of the ledger that holds the receipt                     |
| `archiver-source`         | name of the source                                          |
| `archiver-id`             | the candidate's id                                          |
| `archiver-hot`            | hot bucket and path, each percent-encoded, a slash between  |
| `archiver-encoding`       | content encoding of the stored bytes                        |

Values are percent-encoded ASCII, 2 KB in all (the limit of S3). A source may add its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from archiver.model import CandidateId, Digest, HotLocation, SourceName

if TYPE_CHECKING:
    from collections.abc import Mapping

LIMIT_BYTES = 2048

_DIGEST = "archiver-digest"
_CONTENT_DIGEST = "archiver-content-digest"
_LEDGER = "archiver-ledger"
_SOURCE = "archiver-source"
_ID = "archiver-id"
_HOT = "archiver-hot"
_ENCODING = "archiver-encoding"


def metadata_of_digest(digest: Digest) -> dict[str, str]:
    """What an object says of itself that comes from no source."""
    return {_DIGEST: str(digest)}


def digest_in(metadata: Mapping[str, str]) -> Digest | None:
    """The digest that an object of archiver's says it was put with; None: it says none."""
    try:
        return Digest.parse(metadata[_DIGEST])
    except (KeyError, ValueError):
        return None


@dataclass(frozen=True, slots=True)
class Origin:
    """What a cold object says of itself. Claims, not proofs: the bytes decide."""

    digest: Digest | None  # None: sent in parts, it was not known when this was said
    ledger_id: str
    source: SourceName
    id: CandidateId
    location: HotLocation
    content_digest: Digest | None = None
    content_encoding: str | None = None

    def to_metadata(self, own: Mapping[str, str]) -> dict[str, str]:
        """Metadata for a put; `own` are the source's names and values.

        Raises:
            ValueError: Together they are more than a store accepts.
        """
        metadata = {name: quote(value, safe="/: ;=,.+") for name, value in own.items()}
        metadata |= {
            _LEDGER: self.ledger_id,
            _SOURCE: quote(self.source, safe=""),
            _ID: quote(self.id, safe=""),
            _HOT: "/".join(
                quote(it, safe="") for it in (self.location.bucket, self.location.path)
            ),
        }
        if self.digest is not None:
            metadata[_DIGEST] = str(self.digest)
        if self.content_digest is not None:
            metadata[_CONTENT_DIGEST] = str(self.content_digest)
        if self.content_encoding is not None:
            metadata[_ENCODING] = quote(self.content_encoding, safe="")
        size_bytes = sum(len(name) + len(value) for name, value in metadata.items())
        if size_bytes > LIMIT_BYTES:
            message = f"metadata of {size_bytes} bytes, {LIMIT_BYTES} are allowed"
            raise ValueError(message)
        return metadata

    @classmethod
    def of(cls, metadata: Mapping[str, str]) -> Origin | None:
        """Read it back; None where the object is not archiver's or the metadata is unsound."""
        try:
            bucket, _, path = metadata[_HOT].partition("/")
            digest, content_digest = metadata.get(_DIGEST), metadata.get(_CONTENT_DIGEST)
            encoding = metadata.get(_ENCODING)
            return cls(
                digest=Digest.parse(digest) if digest else None,
                ledger_id=metadata[_LEDGER],
                source=SourceName(unquote(metadata[_SOURCE])),
                id=CandidateId(unquote(metadata[_ID])),
                location=HotLocation(unquote(bucket), unquote(path)),
                content_digest=Digest.parse(content_digest) if content_digest else None,
                content_encoding=unquote(encoding) if encoding else None,
            )
        except (KeyError, ValueError):
            return None
