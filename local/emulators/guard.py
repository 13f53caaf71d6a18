"""Who may talk to the emulators: not a web page, and nobody without this stack's keys.

Any page in a person's browser may send requests to this machine, and with DNS rebinding under a name of its own.
The names are all that the emulators share: MiniStack's environment and localstripe's import it, so it needs the
standard library alone. https://developer.mozilla.org/en-US/docs/Web/HTTP/Headers/Sec-Fetch-Site
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

_NAMES = ("127.0.0.1", "localhost", "host.docker.internal")
_RESERVED = ".localhost"  # no resolver gives such a name to anybody else: RFC 6761
_FROM_ELSEWHERE = ("cross-site", "same-site")  # "same-site" is another server on this machine


def host_fault(hosts: Sequence[str]) -> str:
    """Say why the values of a request's Host header are refused; empty if they are fine."""
    name = (urlsplit(f"//{hosts[0]}").hostname or "") if len(hosts) == 1 else ""
    if name in _NAMES or name.endswith(_RESERVED):
        return ""
    return f"The laptop stack answers to {', '.join(_NAMES)} and names that end with {_RESERVED} alone."


def is_from_elsewhere(host: str, origin: str | None, fetch_site: str | None) -> bool:
    """Whether a browser sends the request for a page of another origin; only browsers set these headers."""
    if origin is not None:
        return urlsplit(origin).netloc != host
    return fetch_site in _FROM_ELSEWHERE
