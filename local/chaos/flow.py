"""What the flows of ``make chaos`` have in common: items to send, a way to count finished ones, and an audit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, TypeVar

from local.chaos.audit import Audit
from local.emulators.payments import TakenPayment
from local.outcomes import DeadLetter, read_items
from local.stack import Stack

T = TypeVar("T")

# Number of portions per flow, so that all flows run from the start to the end.
PORTIONS = 20


@dataclass(frozen=True)
class Seen:
    """The final state of the stack that all audits share.

    Attributes
    ----------
    results, events:
        Every message of the results queue, and of the orders' topic.
    payments:
        Every charged payment, by order.
    letters:
        Every dead letter, by the stack output of its queue.
    """

    results: Sequence[Mapping[str, Any]]
    events: Sequence[Mapping[str, Any]]
    payments: Mapping[str, Sequence[TakenPayment]]
    letters: Mapping[str, Sequence[DeadLetter]]


@dataclass(frozen=True)
class PreparedFlow:
    """One flow, ready to run.

    Attributes
    ----------
    portions:
        Functions that send a part of the items each.
    count_done:
        Returns how many of ``expected`` items have reached a final state.
    faulty:
        Ids that must reach a dead-letter queue, by the stack output of the queue.
    """

    name: str
    portions: Sequence[Callable[[], object]]
    count_done: Callable[[], int]
    expected: int
    faulty: Mapping[str, Set[str]]
    audit: Callable[[Seen], Audit]


@dataclass
class InFlight:
    """Counts a table's items in a final state. An item in a final state is not read again.

    Attributes
    ----------
    table:
        The stack output of the table.
    final:
        The final states of an item.
    """

    deployed: Stack
    table: str
    key_name: str
    final: frozenset[str]
    _open: set[str] = field(default_factory=set)
    _done: int = 0

    def watch(self, ids: Iterable[str]) -> None:
        """Count these items, too."""
        self._open.update(ids)

    def count_done(self) -> int:
        """The number of items in a final state."""
        items = read_items(self.deployed, self.deployed.outputs[self.table], self.key_name, list(self._open))
        ended = {key for key, item in items.items() if item["state"] in self.final}
        self._open -= ended
        self._done += len(ended)
        return self._done


def in_portions(items: Sequence[T]) -> list[Sequence[T]]:
    """Split into `PORTIONS` parts of about the same length; some are empty if there are few items."""
    bounds = [len(items) * number // PORTIONS for number in range(PORTIONS + 1)]
    return [items[start:end] for start, end in pairwise(bounds)]
