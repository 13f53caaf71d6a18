"""A laptop stack for each test process, apart from the person's: its own emulator, ports and folder.

The imports are in the fixtures: the unit tests set the environment before they import anything.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from local.config import LocalConfig
    from local.stack import Stack

_WORKER = os.environ.get("PYTEST_XDIST_WORKER", "alone")


@pytest.fixture(scope="session")
def make_config() -> Iterator[Callable[[str], LocalConfig]]:
    """Makes a configuration of its own in .local, and leaves nothing of it behind."""
    from local.config import PROJECT, LocalConfig
    from local.stack import down
    from tests.ports import free_port

    configs: list[LocalConfig] = []

    def make(name: str) -> LocalConfig:
        port = free_port(neighbours=5)  # of TLS, payments, RabbitMQ, its node, the sample page
        config = LocalConfig(PROJECT / ".local" / f"{name}-{_WORKER}", port)
        shutil.rmtree(config.folder, ignore_errors=True)
        configs.append(config)
        return config

    yield make
    for config in configs:
        down(config)
        shutil.rmtree(config.folder, ignore_errors=True)


@pytest.fixture(scope="session")
def config(make_config: Callable[[str], LocalConfig]) -> LocalConfig:
    return make_config("test")


@pytest.fixture(scope="session")
def stack(config: LocalConfig) -> Stack:
    """The deployed stack; without a broker until a test asks for `broker`."""
    from rich.console import Console

    from local.stack import up

    return up(config, Console(), broker=False)


@pytest.fixture(scope="session")
def broker(stack: Stack, config: LocalConfig) -> str:
    """The URL of the stack's RabbitMQ."""
    from rich.console import Console

    from local.stack import up

    return up(config, Console()).rabbitmq_url


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs RabbitMQ if it is missing."""
    with_broker = [item for item in items if "broker" in getattr(item, "fixturenames", ())]
    if not with_broker:
        return
    from local.emulators import rabbitmq, rabbitmq_install

    if not rabbitmq.installed():
        for item in with_broker:
            item.add_marker(pytest.mark.skip(reason=rabbitmq_install.why_left_out()))
