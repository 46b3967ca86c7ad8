"""Which addresses are reached through the proxy: decided here, once for all HTTP clients.

Each of them reads `NO_PROXY` in its own way, so none of them is left to read it.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from archiver.model import Secret


@dataclass(frozen=True, slots=True)
class NoProxy:
    """The entries of `NO_PROXY`. Raises ValueError for one that would never match."""

    entries: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for entry in self.entries:
            if "://" in entry or "@" in entry or any(sign.isspace() for sign in entry):
                raise ValueError(entry)
            if "/" in entry:
                ip_network(entry, strict=False)

    def covers(self, host: str, port: int) -> bool:
        """Whether a host and everything below a domain is reached directly."""
        return any(_matches(entry.lower(), host.lower(), port) for entry in self.entries)


def proxy_for(url: str, proxy: Secret | None, no_proxy: NoProxy) -> Secret | None:
    """The proxy on the way to a store; None: directly."""
    parts = urlsplit(url)
    if proxy is None or parts.scheme != "https":
        return None
    is_covered = no_proxy.covers(parts.hostname or "", parts.port or 443)
    return None if is_covered else proxy


def _matches(entry: str, host: str, port: int) -> bool:
    if entry == "*":
        return True
    if "/" in entry:
        return _is_in(entry, host)
    name, colon, number = entry.rpartition(":")
    if colon and number.isdigit() and ":" not in name.strip("[]").replace("]", ""):
        if int(number) != port:
            return False
        entry = name
    entry = entry.strip("[]").removeprefix("*").removeprefix(".")
    return host == entry or host.endswith(f".{entry}")


def _is_in(network: str, host: str) -> bool:
    try:
        return ip_address(host) in ip_network(network, strict=False)
    except ValueError:  # the host is a name: it is not looked up for this
        return False
