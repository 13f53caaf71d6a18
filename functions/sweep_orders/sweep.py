"""Continue orders that no message moves any more, and find payments that no order knows.

The sweep changes no order. It sends an order's message again, and the order function does the rest, with its retries
and dead letters: it rejects an order that stands still before the charge, and continues any other. So the sweep can die
anywhere and be repeated; an extra message has no effect.
docs/decisions/0023-orders-that-stand-still.md
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from functions.sweep_orders.stripe_payments import TakenPayment

# More than a day, so that a failed sweep leaves no gap.
_SECONDS_OF_PAYMENTS = 3 * 24 * 60 * 60


class Orders(Protocol):
    """The orders table."""

    def standing_still(self, now: float) -> Iterator[dict[str, Any]]:
        """The messages of all orders that stand still."""

    def payments_of(self, order_ids: Iterable[str]) -> dict[str, str]:
        """The payment of each of these orders that has one."""


class Payments(Protocol):
    """The payment provider."""

    def taken_since(self, since: float) -> list[TakenPayment]:
        """Payments of this stack that took money and were not refunded in full."""


@dataclass(frozen=True)
class Dependencies:
    """The ports of the sweep. ``send`` puts messages into the order queue and returns their number."""

    orders: Orders
    payments: Payments
    send: Callable[[Iterable[dict[str, Any]]], int]


def send_again_what_stands_still(dependencies: Dependencies, now: float) -> int:
    """Send the messages of all orders that stand still; returns their number. Raises ServiceUnavailable."""
    return dependencies.send(dependencies.orders.standing_still(now))


def unknown_payments(dependencies: Dependencies, now: float) -> list[TakenPayment]:
    """Yield recent payments that their orders do not know. Raises ServiceUnavailable.

    An order stores its payment's id before the charge, so such a payment is never just early.
    """
    taken = dependencies.payments.taken_since(now - _SECONDS_OF_PAYMENTS)
    known = dependencies.orders.payments_of(payment.order_id for payment in taken if payment.order_id)
    return [payment for payment in taken if known.get(payment.order_id) != payment.payment_id]
