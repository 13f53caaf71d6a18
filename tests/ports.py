"""Ports: free ones for servers of the tests, and those at which processes listen."""

from __future__ import annotations

import atexit
import random
import socket
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from functools import cache

import psutil

# Not those that the system chooses itself: from there it takes the local ends of connections too (32768 to 60999 on
# Linux, from 49152 on macOS), and one of those may take a port, or a neighbour, before its server does.
_FIRST, _LAST, _RANGE = 20_000, 32_000, 200
_given: set[int] = set()  # a server may take its port late, as the sample page does: it stays reserved until then


def free_port(neighbours: int = 0) -> int:
    """Find a port that is free, with as many free ones after it, and that nobody else is given."""
    first = _range_of_this_process()[0]
    while True:
        port = random.randrange(first, first + _RANGE - neighbours - 1)  # noqa: S311 # no secret
        wanted = set(range(port, port + neighbours + 1))
        if wanted & _given:
            continue
        with ExitStack() as probes:
            try:
                for number in wanted:
                    probes.enter_context(socket.socket()).bind(("127.0.0.1", number))
            except OSError:
                continue
            _given.update(wanted)
            return port


def listening(processes: Iterable[psutil.Process]) -> set[tuple[str, int]]:
    """The addresses at which processes listen, with all that these have started.

    Some of that ends at any time, and an image function hides from everybody but root.
    """
    found: set[tuple[str, int]] = set()
    for process in processes:
        for one in (process, *process.children(recursive=True)):
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                at = [c.laddr for c in one.net_connections("inet") if c.status == psutil.CONN_LISTEN]
                found |= {(address.ip, address.port) for address in at}
    return found


@cache
def _range_of_this_process() -> tuple[int, socket.socket]:
    """Hold a range of ports for as long as this process lives, by a socket that is bound to the last one."""
    while True:
        first = random.randrange(_FIRST, _LAST, _RANGE)  # noqa: S311 # no secret
        holder = socket.socket()
        try:
            holder.bind(("127.0.0.1", first + _RANGE - 1))
        except OSError:
            holder.close()
        else:
            atexit.register(holder.close)
            return first, holder
