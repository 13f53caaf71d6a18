"""What one order meets on its way: the ports that the adapters, and the tests' fakes, implement."""

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
    """Some products do not have the stock that was to be moved.

    Parameters
    ----------
    product_ids:
        These products.
    """

    def __init__(self, product_ids: tuple[str, ...]) -> None:
        super().__init__(", ".join(product_ids))
        self.product_ids = product_ids


class Orders(Protocol):
    """The orders table, and the inventory that changes with it."""

    def receive(self, order: Order) -> OrderRecord:
        """Remember a new order, or return it as it stands. Raises OrderIdReused."""

    def load(self, order_id: str) -> OrderRecord:
        """An order as it stands; it must exist."""

    def apply(self, record: OrderRecord, change: Change) -> OrderRecord:
        """Change an order and its stock, all at once; returns the order as it stands then.

        Raises
        ------
        Overtaken
            The order is no longer at the record's revision. Nothing was changed.
        StockShort
            Some products have too little to take. Nothing was changed.
        """


class Declined(Exception):
    """The payment provider says no, and will say no again. ``str()`` of it is the reason for the customer."""


class ConfirmationRequired(Declined):
    """The bank asks the customer to confirm the payment, which only the shop can collect."""


class Payments(Protocol):
    """The payment provider. Every call may be repeated; whatever is unknown afterwards raises a TransientFault."""

    def check_configured(self) -> None:
        """Raise PaymentsNotConfigured unless charging is possible."""

    def open(self, order: Order) -> str:
        """Prepare a payment, charging nothing yet; returns its id. Raises Declined."""

    def charge(self, payment_id: str, order: Order) -> None:
        """Charge the payment, unless it is charged already. Raises Declined."""

    def undo(self, payment_id: str, order: Order) -> None:
        """Refund the payment if it was charged; otherwise see that it never can be."""


class OrderEvents(Protocol):
    """The topic that tells of orders."""

    def publish(self, event: OrderEvent) -> None:
        """Tell all subscribers; after a crash the same event may be told again."""
