"""Ports for servers of the tests."""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack


def free_port(neighbours: int = 0) -> int:
    """Find a port that is free, with as many free ones after it.

    Not one that the system would choose itself: from there it takes the local ends of connections too (32768 to
    60999 on Linux, from 49152 on macOS), and one of those may take the port, or a neighbour, before its server does.
    """
    while True:
        port = random.randrange(20_000, 32_000)  # noqa: S311 # no secret
        with ExitStack() as probes:
            try:
                for offset in range(neighbours + 1):
                    probes.enter_context(socket.socket()).bind(("127.0.0.1", port + offset))
            except OSError:
                continue
            return port
