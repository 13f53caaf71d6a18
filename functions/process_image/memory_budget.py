"""Memory that the records of one batch share, so that together they stay inside the function's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Condition


class MemoryBudget:
    """A number of bytes, ``capacity``, that threads reserve and give back.

    A thread that holds one budget and waits for another must
    always take the two in the same order.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._free = capacity
        self._given_back = Condition()

    @contextmanager
    def reserve(self, amount: int) -> Iterator[Callable[[int], bool]]:
        """Wait until ``amount`` bytes are free and hold them inside the ``with`` block.

        What it yields holds so many more as well, if they are free; it never waits, for whoever waits for more while
        he holds some is waited for by another who does.

        Raises
        ------
        ValueError
            There will never be that many.
        """
        if amount > self.capacity:
            raise ValueError(f"{amount} bytes are needed, but the budget has {self.capacity}")
        with self._given_back:
            self._given_back.wait_for(lambda: self._free >= amount)
            self._free -= amount
        held = amount

        def hold(more: int) -> bool:
            nonlocal held
            with self._given_back:
                if more > self._free:
                    return False
                self._free -= more
                held += more
            return True

        try:
            yield hold
        finally:
            with self._given_back:
                self._free += held
                self._given_back.notify_all()
