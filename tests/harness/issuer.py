"""Who gives out role credentials, on loopback: they live for seconds, and a store can tell.

issuer = Issuer(lifetime_seconds=3)
with ScriptedHttp(issuer.container) as endpoint:
    front.rule = issuer.judge
"""

from __future__ import annotations

import json
import re
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from tests.fakes.scripted_http import Answer
from tests.harness.s3_front import Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.fakes.scripted_http import Request
    from tests.harness.s3_front import Asked

SECRET = "sentinel-secret-of-the-role"
_STS = (
    '<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">'
    "<AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>{AccessKeyId}</AccessKeyId>"
    "<SecretAccessKey>{SecretAccessKey}</SecretAccessKey><SessionToken>{Token}</SessionToken>"
    "<Expiration>{Expiration}</Expiration></Credentials>"
    "</AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
)


@dataclass
class Issuer:
    """Each set of credentials is new, and has a life of its own."""

    lifetime_seconds: float
    refused: list[str] = field(default_factory=list)  # key ids that came too late
    used: set[str] = field(default_factory=set)  # key ids that came in time
    _ends: dict[tuple[str, str], float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)  # over all of them

    @property
    def given_count(self) -> int:
        return len(self._ends)

    # --- the ways to get some: each an answerer of `ScriptedHttp` ---------------------------

    def container(self, _: Sequence[Request]) -> Answer:
        return _as_json(self._give())

    def web_identity(self, _: Sequence[Request]) -> Answer:
        body = _STS.format(**self._give())
        return Answer(200, body.encode(), {"Content-Type": "text/xml"})

    def instance(self, requests: Sequence[Request]) -> Answer:
        asked = requests[-1]
        if asked.target == "/latest/api/token":
            return Answer(200, b"token-of-the-instance")
        if asked.target.endswith("/security-credentials/"):
            return Answer(200, b"role")
        return _as_json({"Code": "Success", "Type": "AWS-HMAC", **self._give()})

    def _give(self) -> dict[str, str]:
        with self._lock:
            number = 1 + len(self._ends)
            who = (f"AKIDROLE{number}", f"sentinel-token-{number}")
            self._ends[who] = time.monotonic() + self.lifetime_seconds
        until = datetime.now(UTC) + timedelta(seconds=self.lifetime_seconds)
        return {
            "AccessKeyId": who[0],
            "SecretAccessKey": SECRET,
            "Token": who[1],
            "Expiration": f"{until:%Y-%m-%dT%H:%M:%SZ}",
            "LastUpdated": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        }

    # --- the store that knows them ------------------------------------------------------------

    def judge(self, asked: Asked) -> Refusal | None:
        """A rule of `S3Front`: what has expired is refused, and what was never given."""
        signed_by = re.search(r"Credential=([^/]+)/", asked.headers.get("authorization", ""))
        key_id = signed_by[1] if signed_by else ""
        who = (key_id, asked.headers.get("x-amz-security-token", ""))
        with self._lock:
            if who not in self._ends:
                return Refusal(403, "InvalidAccessKeyId")
            if time.monotonic() > self._ends[who]:
                self.refused.append(key_id)
                return Refusal(400, "ExpiredToken")
            self.used.add(key_id)
        return None


def _as_json(told: Mapping[str, str]) -> Answer:
    return Answer(200, json.dumps(told).encode(), {"Content-Type": "application/json"})
