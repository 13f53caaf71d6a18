"""What the flows of ``make chaos`` have in common: something to offer, a way to see it done, and an audit."""

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

# So many times each flow is offered something: all flows are on their way from the start to the end.
PORTIONS = 20


@dataclass(frozen=True)
class Seen:
    """What the stack shows to all at the end.

    Attributes
    ----------
    results, events:
        Every message of the results queue, and of the orders' topic.
    payments:
        By order every payment that was charged.
    letters:
        Every dead letter, by the output that names its queue.
    """

    results: Sequence[Mapping[str, Any]]
    events: Sequence[Mapping[str, Any]]
    payments: Mapping[str, Sequence[TakenPayment]]
    letters: Mapping[str, Sequence[DeadLetter]]


@dataclass(frozen=True)
class PreparedFlow:
    """One flow, prepared.

    Attributes
    ----------
    portions:
        Each offers a part of the items.
    count_done:
        How many are at their end by now, of ``expected``.
    faulty:
        By the output that names the dead-letter queue, the ids that have to come there.
    """

    name: str
    portions: Sequence[Callable[[], object]]
    count_done: Callable[[], int]
    expected: int
    faulty: Mapping[str, Set[str]]
    audit: Callable[[Seen], Audit]


@dataclass
class InFlight:
    """Items of a table that come to their end; those that have are not asked for again.

    Attributes
    ----------
    table:
        The output that names it.
    final:
        The states that an item ends in.
    """

    deployed: Stack
    table: str
    key_name: str
    final: frozenset[str]
    _open: set[str] = field(default_factory=set)
    _done: int = 0

    def watch(self, ids: Iterable[str]) -> None:
        """Ask for these, too."""
        self._open.update(ids)

    def count_done(self) -> int:
        """How many are at their end."""
        items = read_items(self.deployed, self.deployed.outputs[self.table], self.key_name, list(self._open))
        ended = {key for key, item in items.items() if item["state"] in self.final}
        self._open -= ended
        self._done += len(ended)
        return self._done


def in_portions(items: Sequence[T]) -> list[Sequence[T]]:
    """Cut into `PORTIONS` parts of about the same length, some of them empty if there are few items."""
    bounds = [len(items) * number // PORTIONS for number in range(PORTIONS + 1)]
    return [items[start:end] for start, end in pairwise(bounds)]
