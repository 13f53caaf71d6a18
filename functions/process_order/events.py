"""The events about an order, which subscribers receive."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID, uuid5

from functions.process_order.orders import OrderRecord, State

#: The version of schemas/order_event.json: increased when a field is removed or changed, not for a new one.
SCHEMA_VERSION = 1
_NAMESPACE = UUID("6f8a3a0e-0f1c-4f0e-9a35-3f1f3c1d7b52")
_TYPES = {State.COMMITTED: "OrderCompleted", State.RELEASED: "OrderRejected"}


@dataclass(frozen=True)
class OrderEvent:
    """One event. If it is published again, it is identical, ``event_id`` included."""

    event_id: str
    event_type: str
    currency: str
    body: dict[str, Any]


def event_of(record: OrderRecord) -> OrderEvent:
    """Return the event to publish for an order in state COMMITTED or RELEASED."""
    order, event_type = record.order, _TYPES[record.state]
    event_id = str(uuid5(_NAMESPACE, f"{order.order_id}/{event_type}"))
    (occurred_at,) = (entry.at for entry in record.history if entry.state is record.state)
    body: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "event_id": event_id,
        "event_type": event_type,
        "occurred_at": occurred_at,
        "order_id": order.order_id,
        "customer_id": order.customer_id,
        "customer_email": order.customer_email,
        "items": [asdict(line) for line in order.lines],
        "amount": order.amount,
        "currency": order.currency,
    }
    if record.rejection:
        body["rejection"] = {"code": record.rejection.code.value, "reason": record.rejection.reason}
    return OrderEvent(event_id, event_type, order.currency, body)
