"""One laptop stack for the whole suite, apart from the person's: its own emulator, ports and folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator

import pytest
from rich.console import Console

from local.machine import PROJECT, Place
from local.stack import Stack, down, up
from tests.ports import free_port


@pytest.fixture(scope="session")
def make_place() -> Iterator[Callable[[str], Place]]:
    """Makes a place of its own in .local, and leaves nothing of it behind."""
    places: list[Place] = []

    def make(name: str) -> Place:
        place = Place(PROJECT / ".local" / name, free_port(neighbours=4))  # of TLS, payments, RabbitMQ, its node
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
