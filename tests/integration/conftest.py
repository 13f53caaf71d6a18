"""One laptop stack for the whole suite, apart from the person's: its own emulator, ports and folder."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from rich.console import Console

from local.machine import PROJECT, Place
from local.stack import Stack, down, up


@pytest.fixture(scope="session")
def make_place() -> Iterator[Callable[[str], Place]]:
    """Makes a place of its own in .local, and leaves nothing of it behind."""
    places: list[Place] = []

    def make(name: str) -> Place:
        place = Place(PROJECT / ".local" / name, _free_port())
        shutil.rmtree(place.folder, ignore_errors=True)
        places.append(place)
        return place

    yield make
    for place in places:
        down(place)
        shutil.rmtree(place.folder, ignore_errors=True)


@pytest.fixture(scope="session")
def place(make_place: Callable[[str], Place]) -> Place:
    return make_place("test")


@pytest.fixture(scope="session")
def stack(place: Place) -> Stack:
    return up(place, Console())


def _free_port() -> int:
    """A port whose neighbours are free too: AWS over TLS, the payment provider, RabbitMQ and its node."""
    while True:
        with ExitStack() as probes:
            port = 0
            try:
                for offset in range(5):
                    probe = probes.enter_context(socket.socket())
                    probe.bind(("127.0.0.1", port + offset if port else 0))
                    port = port or int(probe.getsockname()[1])
            except (OSError, OverflowError):
                continue
            return port
