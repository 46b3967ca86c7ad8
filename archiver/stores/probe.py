"""What a cold store really enforces, tried on the bucket itself. Uncertain is no.

Three objects under fixed keys, `{path_prefix}.archiver/probe-...`, stay there, and later
probes find them. Uploads in parts are aborted.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

from archiver.model import Capabilities
from archiver.stores.s3_answers import Asked, check_name

if TYPE_CHECKING:
    from archiver.stores.providers import Provider, S3Client
    from archiver.stores.s3 import S3Settings

_TRIALS = "with-parts"  # what a probe tries: one that tried less is not believed


def probe_name(
    settings: S3Settings, provider: Provider, bucket: str, client: S3Client = "obstore"
) -> str:
    """What a finding holds for: another bucket, key or client is probed anew."""
    # What moves the objects comes first; the probe itself is always boto3's.
    clients = " ".join(f"{name}-{version(name)}" for name in dict.fromkeys((client, "boto3")))
    who = settings.access_key_id or "chain"
    account = f"{settings.endpoint_url} {settings.region} {who}"
    return f"{provider.name} {account} {bucket} {settings.sse} {clients} {_TRIALS}"


def probe_cold(
    settings: S3Settings, provider: Provider, bucket: str, path_prefix: str
) -> Capabilities:
    """Try on the bucket what evidence and write-once keys stand on.

    Raises:
        BucketMissing, StoreDenied: An honest put is refused.
        StoreUnavailable: The store did not answer, or throttled: nothing was learned.
    """
    # A finding is remembered for days: most runs need neither these nor boto3.
    from archiver.stores.s3_questions import Questions, encryption  # noqa: PLC0415
    from archiver.stores.s3_trials import Trials  # noqa: PLC0415

    asked = Asked("cold", "probe", bucket, secrets=settings.secrets)
    check_name(asked)
    questions = Questions(settings)
    try:
        key_start = f"{path_prefix}.archiver/probe-"
        # The encryption decides what an ETag is. The class is left out: some cannot be read
        # back, and a probe reads.
        trials = Trials(questions, provider, asked, key_start, encryption(settings))
        returns_digest = trials.returns_digest()  # first: it shows that honest puts are taken
        return Capabilities(
            enforces_signed_digest=trials.enforces_signed_digest(),
            enforces_create=trials.enforces_create(),
            returns_digest=returns_digest,
            etag_is_md5=trials.etag_is_md5(),
            enforces_signed_parts=trials.enforces_signed_parts(),
            keeps_refused_parts=trials.keeps_refused_parts(),
        )
    finally:
        questions.close()
