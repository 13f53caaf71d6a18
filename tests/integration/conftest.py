"""Which of the tests on a laptop stack run where, and in which order."""

from __future__ import annotations

import pytest

from local.emulators import rabbitmq, rabbitmq_install

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
