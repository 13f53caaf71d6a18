"""Memory that the records of one batch share, so that their total stays within the function's memory."""

from __future__ import annotations

from collections.abc import Iterator
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
    def reserve(self, amount: int) -> Iterator[None]:
        """Wait until ``amount`` bytes are free and hold them inside the ``with`` block.

        Raises
        ------
        ValueError
            The budget is smaller than ``amount``.
        """
        if amount > self.capacity:
            raise ValueError(f"{amount} bytes are needed, but the budget has {self.capacity}")
        with self._given_back:
            self._given_back.wait_for(lambda: self._free >= amount)
            self._free -= amount
        try:
            yield
        finally:
            with self._given_back:
                self._free += amount
                self._given_back.notify_all()
