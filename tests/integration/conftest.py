"""One laptop stack for the whole suite, apart from the person's: its own emulator, ports and folder."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable, Iterator

import pytest
from rich.console import Console

from local import emulator
from local.machine import PROJECT, Place
from local.stack import Stack, up


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
        emulator.stop(place)
        shutil.rmtree(place.folder, ignore_errors=True)


@pytest.fixture(scope="session")
def place(make_place: Callable[[str], Place]) -> Place:
    return make_place("test")


@pytest.fixture(scope="session")
def stack(place: Place) -> Stack:
    return up(place, Console())


def _free_port() -> int:
    """A port whose neighbour is free too: the emulator takes both."""
    while True:
        with socket.socket() as plain, socket.socket() as tls:
            plain.bind(("127.0.0.1", 0))
            port = int(plain.getsockname()[1])
            try:
                tls.bind(("127.0.0.1", port + 1))
            except (OSError, OverflowError):
                continue
            return port
