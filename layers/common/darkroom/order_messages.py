"""Read messages as orders: checked by ``schemas/order.json``, then by rules that a schema cannot express."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

from darkroom.currencies import is_currency, minor_units
from darkroom.envelopes import open_body
from darkroom.errors import MalformedMessage
from darkroom.messages import Unreadable, is_text, unreadable_task_id
from darkroom.schema import Schema

_ID = re.compile(r"[!-~]{1,200}")  # ASCII without spaces: safe in a key, a header and a log
_LARGEST_AMOUNT = 10**12  # in minor units; payment providers have far lower limits
_SCHEMA = Schema("order")


@dataclass(frozen=True)
class OrderLine:
    """One item of an order. ``unit_price`` in minor units of the order's currency."""

    product_id: str
    quantity: int
    unit_price: int


@dataclass(frozen=True)
class Order:
    """A valid order. ``amount`` in minor units of ``currency`` (ISO 4217), the sum of the items."""

    order_id: str
    customer_id: str
    lines: tuple[OrderLine, ...]
    amount: int
    currency: str
    payment_method: str
    customer_email: str | None = None

    @cached_property
    def products(self) -> tuple[tuple[str, int], ...]:
        """Return every product once, with its total quantity, always in the same order."""
        wanted: Counter[str] = Counter()
        for line in self.lines:
            wanted[line.product_id] += line.quantity
        return tuple(sorted(wanted.items()))

    def differences(self, other: Order) -> list[str]:
        """Return the fields in which another order asks for something else. The order of the lines does not matter."""
        differing = [
            field.name
            for field in fields(self)
            if field.name != "lines" and getattr(self, field.name) != getattr(other, field.name)
        ]
        return differing + (["items"] if Counter(self.lines) != Counter(other.lines) else [])


@dataclass(frozen=True)
class OrderTask:
    """One order to process; ``body`` is the original message."""

    order: Order
    body: str

    @property
    def task_id(self) -> str:
        """Return the order's id."""
        return self.order.order_id


def read_body(body: str) -> list[OrderTask | Unreadable]:
    """Read one SQS body: always one entry, the order or why it is invalid."""
    message: Any = None
    try:
        message = open_body(body).message
        return [OrderTask(_order_of(message), body)]
    except _Faults as error:
        fault = MalformedMessage(f"The order is not valid: {'; '.join(error.faults)}.")
    except MalformedMessage as error:
        fault = error
    return [Unreadable(_id_of(message) or unreadable_task_id(body), body, fault)]


class _Faults(Exception):
    def __init__(self, faults: list[str]) -> None:
        super().__init__(faults)
        self.faults = faults


def _order_of(message: Any) -> Order:
    faults = _SCHEMA.faults(message)
    if not faults and not is_currency(message["currency"]):
        faults.append(f"currency: must be {_SCHEMA.definition['properties']['currency']['description']}")
    if faults:
        raise _Faults(faults)

    def minor(field: str, amount: int | str) -> int:
        try:
            return minor_units(amount, message["currency"])
        except ValueError as error:
            faults.append(f"{field}: {error}")
            return 0

    lines = tuple(
        OrderLine(item["product_id"], item["quantity"], minor(f"items.{number}.unit_price", item["unit_price"]))
        for number, item in enumerate(message["items"])
    )
    amount = minor("amount", message["amount"])
    total = sum(line.quantity * line.unit_price for line in lines)
    if not faults and amount != total:
        faults.append(f"amount: {amount} minor units, but the items add up to {total}")
    if not faults and not 0 < amount <= _LARGEST_AMOUNT:
        faults.append(f"amount: must be from 1 to {_LARGEST_AMOUNT} minor units")
    email = message.get("customer_email")
    if email and not is_text(email):
        faults.append("customer_email: contains a lone surrogate")
    if faults:
        raise _Faults(faults)
    return Order(
        order_id=message["order_id"],
        customer_id=message["customer_id"],
        lines=lines,
        amount=amount,
        currency=message["currency"],
        payment_method=message["payment_method"],
        customer_email=email,
    )


def _id_of(message: Any) -> str | None:
    """Return the order's id if that much of the message can be read, so that people find the order's dead letter."""
    order_id = message.get("order_id") if isinstance(message, dict) else None
    return order_id if isinstance(order_id, str) and _ID.fullmatch(order_id) else None
