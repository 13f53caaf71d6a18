"""A laptop stack for each test process, apart from the person's: its own emulator, ports and folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator

import pytest
from rich.console import Console

from local.config import PROJECT, LocalConfig
from local.emulators import rabbitmq, rabbitmq_install
from local.stack import Stack, down, up
from tests.ports import free_port

_WORKER = os.environ.get("PYTEST_XDIST_WORKER", "alone")
# The longest first: the processes then end together.
_FIRST = ("test_commands", "test_alarms", "test_least_privilege", "test_operations", "test_rabbitmq_broker")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest first, all that needs RabbitMQ into one process; leave it out where there is no RabbitMQ."""
    order = {name: number for number, name in enumerate(_FIRST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))
    for item in items:
        if not isinstance(item, pytest.Function) or "broker" not in item.fixturenames:
            continue
        with_a_stack = "stack" in item.fixturenames
        item.add_marker(pytest.mark.xdist_group("a stack with a broker" if with_a_stack else "a broker alone"))
        if not rabbitmq.installed():
            item.add_marker(pytest.mark.skip(reason=rabbitmq_install.why_left_out()))


@pytest.fixture(scope="session")
def make_config() -> Iterator[Callable[[str], LocalConfig]]:
    """Makes a configuration of its own in .local, and leaves nothing of it behind."""
    configs: list[LocalConfig] = []

    def make(name: str) -> LocalConfig:
        port = free_port(neighbours=4)  # of TLS, payments, RabbitMQ, its node
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
    return up(config, Console(), broker=False)


@pytest.fixture(scope="session")
def broker(stack: Stack, config: LocalConfig) -> str:
    """The URL of the stack's RabbitMQ."""
    return up(config, Console()).rabbitmq_url
