"""The order of the tests on a laptop stack, and their distribution over processes."""

from __future__ import annotations

import pytest
from xdist.scheduler import LoadScopeScheduling

# A broker takes five seconds of a processor to start: one process has all that need it.
_WITH_A_BROKER = (
    "test_chaos.py::test_chaos",
    "test_operations.py::test_a_dead_letter_is_seen",
    "test_alarms.py::TestOnABroker",
    "test_trust.py::test_everything_listens",
)
# The longest first: the processes then end together.
_FIRST = ("test_chaos", "test_alarms", "test_operations")


def _needs_a_broker(nodeid: str) -> bool:
    return any(test in nodeid for test in _WITH_A_BROKER)


class _Scheduler(LoadScopeScheduling):  # type: ignore[misc]
    """Gives each test to the process that is free, and those that start a broker to one.

    xdist's own groups by mark change a private field of pytest that 9.2 no longer has.
    """

    def _split_scope(self, nodeid: str) -> str:
        return "with a broker" if _needs_a_broker(nodeid) else nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> _Scheduler:
    return _Scheduler(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest tests first."""
    for item in items:
        uses_the_stacks = {"stack", "broker"} <= set(getattr(item, "fixturenames", ()))
        if uses_the_stacks and not _needs_a_broker(item.nodeid):
            raise pytest.UsageError(f"{item.nodeid} uses `broker`: name it in _WITH_A_BROKER.")
    order = {name: number for number, name in enumerate(_FIRST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))
