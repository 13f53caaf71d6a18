"""The order of the tests on a laptop stack, and their distribution over processes."""

from __future__ import annotations

import pytest
from xdist.scheduler import LoadScopeScheduling

from local.emulators import rabbitmq, rabbitmq_install

# A broker takes five seconds of a processor to start, a second stack fifteen.
_TOGETHER = {
    "with a broker": (
        "test_commands.py::test_the_demo",
        "test_commands.py::test_chaos",
        "test_operations.py::test_a_dead_letter_is_seen",
        "test_alarms.py::TestOnABroker",
        "test_trust.py::test_nothing_listens",
        "test_web_pages.py::test_the_broker",
    ),
    "a broker alone": ("test_rabbitmq_broker.py",),
    "a second stack": ("test_two_stacks.py",),
}
# The longest first: the processes then end together.
_FIRST = (
    "test_commands",
    "test_alarms",
    "test_least_privilege",
    "test_operations",
    "test_rabbitmq_broker",
    "test_two_stacks",
)


class _Scheduler(LoadScopeScheduling):  # type: ignore[misc]
    """Gives each test to the process that is free, and those that start a broker to one.

    xdist's own groups by mark change a private field of pytest that 9.2 no longer has.
    """

    def _split_scope(self, nodeid: str) -> str:
        return next((group for group, tests in _TOGETHER.items() if any(test in nodeid for test in tests)), nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> _Scheduler:
    return _Scheduler(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest tests first, and skip those that need RabbitMQ if it is missing."""
    order = {name: number for number, name in enumerate(_FIRST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))
    if not rabbitmq.installed():
        for item in items:
            if isinstance(item, pytest.Function) and "broker" in item.fixturenames:
                item.add_marker(pytest.mark.skip(reason=rabbitmq_install.why_left_out()))
