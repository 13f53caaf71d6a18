"""An order, its states, and its record.

RECEIVED ── reserve ──> RESERVED ── open payment ──> PAYING ── charge ──> CHARGED ── commit ──> COMMITTED
│                       │                           │                     │                      │ tell
│ no stock, expired     │ refused, expired          │ declined, expired   │ stock lost       COMPLETED
└───────────────────────┴────────────┬──────────────┴─────────────────────┘
REJECTING ── undo payment ──> UNCHARGED ── release ──> RELEASED
│ tell
REJECTED
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from darkroom.order_messages import Order


class State(StrEnum):
    """The state of an order: the last finished step, which determines the next one."""

    RECEIVED = "RECEIVED"
    RESERVED = "RESERVED"
    PAYING = "PAYING"
    CHARGED = "CHARGED"
    COMMITTED = "COMMITTED"
    COMPLETED = "COMPLETED"
    REJECTING = "REJECTING"
    UNCHARGED = "UNCHARGED"
    RELEASED = "RELEASED"
    REJECTED = "REJECTED"


FINAL = frozenset({State.COMPLETED, State.REJECTED})
#: An order that stands still in one of these states is rejected. In any other it continues: the customer has paid, or
#: the order is being rejected already.
EXPIRING = frozenset({State.RECEIVED, State.RESERVED, State.PAYING})


class RejectionCode(StrEnum):
    """Why an order is rejected, for programs."""

    OUT_OF_STOCK = "OutOfStock"
    PAYMENT_DECLINED = "PaymentDeclined"
    PAYMENT_CONFIRMATION_REQUIRED = "PaymentConfirmationRequired"
    STOCK_LOST = "StockLost"
    EXPIRED = "Expired"


@dataclass(frozen=True)
class Rejection:
    """Why an order is rejected; ``reason`` is for people."""

    code: RejectionCode
    reason: str


@dataclass(frozen=True)
class HistoryEntry:
    """When an order reached a state. ``at`` is ISO 8601 in UTC."""

    state: State
    at: str


@dataclass(frozen=True)
class OrderRecord:
    """The record of an order.

    Attributes
    ----------
    revision:
        Counts the changes; a change applies only to the revision for which it was decided.
    reserved, sold:
        How many of ``order.products``, counted from the first, have stock reserved or sold for this order.
    payment_id:
        The only payment that may be charged for this order.
    """

    order: Order
    state: State
    revision: int
    history: tuple[HistoryEntry, ...]
    reserved: int = 0
    sold: int = 0
    payment_id: str | None = None
    rejection: Rejection | None = None


@dataclass(frozen=True)
class StockMove:
    """A movement of stock from one counter of the inventory to another.

    Attributes
    ----------
    taken_from, added_to:
        Counters of a product: ``available``, ``reserved`` or ``sold``.
    """

    taken_from: str
    added_to: str
    products: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Change:
    """The change that one step makes to an order and its stock, in one transaction.

    ``values`` are the new values of the record's fields, except ``state``.
    """

    to: State
    values: Mapping[str, int | str | Rejection] = field(default_factory=dict)
    stock: StockMove | None = None
