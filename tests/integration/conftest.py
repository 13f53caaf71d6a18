"""One laptop stack for the whole suite, apart from the person's: its own emulator, ports and folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator

import pytest
from rich.console import Console

from local.config import PROJECT, LocalConfig
from local.stack import Stack, down, up
from tests.ports import free_port


@pytest.fixture(scope="session")
def make_config() -> Iterator[Callable[[str], LocalConfig]]:
    """Makes a configuration of its own in .local, and leaves nothing of it behind."""
    configs: list[LocalConfig] = []

    def make(name: str) -> LocalConfig:
        config = LocalConfig(PROJECT / ".local" / name, free_port(neighbours=4))  # of TLS, payments, RabbitMQ, its node
        shutil.rmtree(config.folder, ignore_errors=True)
        configs.append(config)
        return config

    yield make
    for config in configs:
        down(config)
        shutil.rmtree(config.folder, ignore_errors=True)


@pytest.fixture(scope="session")
def place(make_config: Callable[[str], LocalConfig]) -> LocalConfig:
    return make_config("test")


@pytest.fixture(scope="session")
def stack(config: LocalConfig) -> Stack:
    return up(config, Console())
