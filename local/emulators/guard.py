"""Access control of the emulators: it refuses web pages and clients without this stack's keys.

Any page in the user's browser can send requests to this machine, and DNS rebinding lets it use a name of its own.
MiniStack's and localstripe's environments import this module, so it uses the standard library only.
https://developer.mozilla.org/en-US/docs/Web/HTTP/Headers/Sec-Fetch-Site
"""

from __future__ import annotations

import re
from collections.abc import Sequence

NAMES = ("127.0.0.1", "localhost", "host.docker.internal")
_RESERVED = ".localhost"  # always this machine: RFC 6761
_HOST = re.compile(
    rf"({'|'.join(map(re.escape, NAMES))}|[a-z0-9.-]+{re.escape(_RESERVED)})(:[0-9]{{1,5}})?", re.IGNORECASE
)
_FROM_HERE = (None, "same-origin", "none")  # "none": the person typed the address; "same-site" is another server


def host_fault(hosts: Sequence[str]) -> str:
    """Return why a request's Host headers are refused; empty if they are allowed."""
    if len(hosts) == 1 and _HOST.fullmatch(hosts[0]):
        return ""
    return f"The laptop stack accepts only the hosts {', '.join(NAMES)} and names that end with {_RESERVED}."


def is_from_elsewhere(host: str, origin: str | None, fetch_site: str | None) -> bool:
    """Whether a browser sends the request from a page of another origin; only browsers set these headers."""
    if origin is not None:
        return origin not in (f"http://{host}", f"https://{host}")
    return fetch_site not in _FROM_HERE
