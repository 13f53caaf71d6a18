"""What arrives, as orders."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import asdict, dataclass
from functools import cached_property
from hashlib import sha256
from typing import Annotated, Any

from aws_lambda_powertools.utilities.parser import BaseModel, Field, ValidationError, parse
from pydantic import AfterValidator, BeforeValidator, StrictInt, StrictStr
from pydantic_core import PydanticCustomError, from_json

from darkroom.currencies import is_currency, minor_units
from darkroom.errors import MalformedMessage
from darkroom.messages import Unreadable, unreadable_task_id

_MOST_ITEMS = 100
_LARGEST_QUANTITY = 1_000_000
_LARGEST_AMOUNT = 10**12  # in minor units; payment providers stop far below
_ID = r"^[!-~]{1,200}$"  # ASCII without the space: safe in a key, a header and a log
_DECIMAL = re.compile(r"[0-9]{1,13}(\.[0-9]{1,4})?")


def _money(value: Any) -> int | str:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST_AMOUNT:
        return value
    if isinstance(value, str) and _DECIMAL.fullmatch(value):
        return value
    raise PydanticCustomError(
        "money", 'must be a whole number of minor units, 0 or more, or decimal text such as "12.50"; never a float'
    )


def _listed(code: str) -> str:
    if not is_currency(code):
        raise PydanticCustomError("currency", "must be a currency of ISO 4217 in capital letters, such as EUR")
    return code


Id = Annotated[StrictStr, Field(pattern=_ID)]
Money = Annotated[int | str, BeforeValidator(_money)]


class ItemMessage(BaseModel):
    """One line of an order, as a shop writes it."""

    product_id: Id
    quantity: StrictInt = Field(ge=1, le=_LARGEST_QUANTITY)
    unit_price: Money


class OrderMessage(BaseModel):
    """An order, as a shop writes it. Further fields are left alone."""

    order_id: Id
    customer_id: Id
    customer_email: Annotated[StrictStr, Field(max_length=254, pattern=r"^[^@\s]+@[^@\s]+$")] | None = None
    items: list[ItemMessage] = Field(min_length=1, max_length=_MOST_ITEMS)
    amount: Money
    currency: Annotated[StrictStr, AfterValidator(_listed)]
    payment_method: Id


@dataclass(frozen=True)
class OrderLine:
    """One line of an order. ``unit_price`` in minor units of the order's currency."""

    product_id: str
    quantity: int
    unit_price: int


@dataclass(frozen=True)
class Order:
    """What a shop asks for. ``amount`` in minor units of ``currency`` (ISO 4217), the sum over the lines."""

    order_id: str
    customer_id: str
    lines: tuple[OrderLine, ...]
    amount: int
    currency: str
    payment_method: str
    customer_email: str | None = None

    @cached_property
    def products(self) -> tuple[tuple[str, int], ...]:
        """Every product once, with its whole quantity; always in the same order."""
        wanted: Counter[str] = Counter()
        for line in self.lines:
            wanted[line.product_id] += line.quantity
        return tuple(sorted(wanted.items()))

    @cached_property
    def fingerprint(self) -> str:
        """The same for two messages only if they ask for the same."""
        return sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class OrderTask:
    """One order to fulfil; ``body`` is the message as it came."""

    order: Order
    body: str

    @property
    def task_id(self) -> str:
        """The order's id."""
        return self.order.order_id


def read_body(body: str) -> list[OrderTask | Unreadable]:
    """Read one SQS body: always one entry, the order or why it is none."""
    try:
        message = parse(event=body, model=OrderMessage)  # type: ignore[call-overload] # it takes JSON as text too
        return [OrderTask(_order_of(message), body)]
    except ValidationError as error:
        told = ((".".join(map(str, fault["loc"])) or "the body", fault["msg"]) for fault in error.errors())
        faults = [f"{field}: {message}" for field, message in told]
    except _Faults as error:
        faults = error.faults
    fault = MalformedMessage(f"The order is not valid: {'; '.join(faults)}.")
    return [Unreadable(_id_of(body) or unreadable_task_id(body), body, fault)]


class _Faults(Exception):
    def __init__(self, faults: list[str]) -> None:
        super().__init__(faults)
        self.faults = faults


def _order_of(message: OrderMessage) -> Order:
    faults: list[str] = []

    def minor(field: str, amount: int | str) -> int:
        try:
            return minor_units(amount, message.currency)
        except ValueError as error:
            faults.append(f"{field}: {error}")
            return 0

    lines = tuple(
        OrderLine(item.product_id, item.quantity, minor(f"items.{number}.unit_price", item.unit_price))
        for number, item in enumerate(message.items)
    )
    amount = minor("amount", message.amount)
    total = sum(line.quantity * line.unit_price for line in lines)
    if not faults and amount != total:
        faults.append(f"amount: {amount} minor units, but the items sum up to {total}")
    if not faults and not 0 < amount <= _LARGEST_AMOUNT:
        faults.append(f"amount: must be from 1 to {_LARGEST_AMOUNT} minor units")
    if faults:
        raise _Faults(faults)
    return Order(
        order_id=message.order_id,
        customer_id=message.customer_id,
        lines=lines,
        amount=amount,
        currency=message.currency,
        payment_method=message.payment_method,
        customer_email=message.customer_email,
    )


def _id_of(body: str) -> str | None:
    """The order's id, if that much of the message can be read: whoever looks for the order finds its dead letter."""
    try:
        message = from_json(body)
    except ValueError:
        return None
    order_id = message.get("order_id") if isinstance(message, dict) else None
    return order_id if isinstance(order_id, str) and re.fullmatch(_ID, order_id) else None
