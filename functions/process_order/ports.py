"""The ports of an order, which the adapters and the tests' fakes implement."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

from darkroom.order_messages import Order

from functions.process_order.events import OrderEvent
from functions.process_order.orders import Change, OrderRecord


class Result(StrEnum):
    """How a message ended; each is counted under this name."""

    COMPLETED = "Completed"
    REJECTED = "Rejected"
    DUPLICATE = "Duplicate"
    DEAD_LETTERED = "DeadLettered"


class Overtaken(Exception):
    """Another delivery of the order has changed it since it was read."""


class StockShort(Exception):
    """Some products do not have enough stock to move.

    Parameters
    ----------
    product_ids:
        The products without enough stock.
    """

    def __init__(self, product_ids: tuple[str, ...]) -> None:
        super().__init__(", ".join(product_ids))
        self.product_ids = product_ids


class Orders(Protocol):
    """The orders table, and the inventory, which changes in the same transactions."""

    def receive(self, order: Order) -> OrderRecord:
        """Store a new order, or return its record. Raises OrderIdReused."""

    def load(self, order_id: str) -> OrderRecord:
        """Return the record of an order, which must exist."""

    def apply(self, record: OrderRecord, change: Change) -> OrderRecord:
        """Change an order and its stock in one transaction; returns the new record.

        Raises
        ------
        Overtaken
            The order is no longer at the record's revision. Nothing was changed.
        StockShort
            Some products do not have enough stock. Nothing was changed.
        """


class Declined(Exception):
    """The payment provider declines for good. ``str()`` of it is the reason for the customer."""


class ConfirmationRequired(Declined):
    """The bank requires the customer's confirmation, which only the shop can collect."""


class Payments(Protocol):
    """The payment provider. Every call may be repeated; an unknown outcome raises a TransientFault."""

    def check_configured(self) -> None:
        """Raise PaymentsNotConfigured unless charging is possible."""

    def open(self, order: Order) -> str:
        """Prepare a payment, charging nothing yet; returns its id. Raises Declined."""

    def charge(self, payment_id: str, order: Order) -> None:
        """Charge the payment, unless it was charged before. Raises Declined."""

    def undo(self, payment_id: str, order: Order) -> None:
        """Refund the payment if it was charged; otherwise cancel it, so that it never can be."""


class OrderEvents(Protocol):
    """The topic for events about orders."""

    def publish(self, event: OrderEvent) -> None:
        """Publish an event; after a crash the same event may be published again."""
