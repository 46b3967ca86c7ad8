"""What a store says may echo what it was sent, so secrets in its words are covered."""

from __future__ import annotations

import html
import json
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterable

    from archiver.model import Secret


def covered(text: str, secrets: Iterable[Secret | None]) -> str:
    """The text without these secrets, as they are or as XML, JSON or a URL would write them.

    To be called before the text is cut: half a secret would not be found.
    """
    for secret in secrets:
        if secret is None or not (said := secret.reveal()):
            continue
        for form in (said, html.escape(said), json.dumps(said)[1:-1], quote(said, safe="")):
            text = text.replace(form, repr(secret))
    return text
