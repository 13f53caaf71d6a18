"""An order, the states it moves through, and what is remembered of it.

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
    """How far an order is. Every state but the final two names what was done; the next step follows from it."""

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
#: An order in one of these that stands still is rejected. Any other goes on: its customer has paid, or is told already.
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
    """When an order came to a state. ``at`` is ISO 8601 in UTC."""

    state: State
    at: str


@dataclass(frozen=True)
class OrderRecord:
    """An order as it stands.

    Attributes
    ----------
    revision:
        Counts the changes; a change is made only to the revision it was decided on.
    reserved, sold:
        How many of ``order.products``, from the first, have stock reserved or sold for this order.
    payment_id:
        The one payment that may be charged for this order.
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
    """Stock of some products moves from one counter of the inventory to another.

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
    """What one step does to an order, and to the stock with it, all at once or not at all.

    ``values`` are the fields of the record, other than state, that get a new value.
    """

    to: State
    values: Mapping[str, int | str | Rejection] = field(default_factory=dict)
    stock: StockMove | None = None
