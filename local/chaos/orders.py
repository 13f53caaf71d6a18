"""The orders flow under faults: messages twice and in any order, scarce stock, declined cards.

The audit sums up the stock of every product, and the money at the payment provider.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from darkroom.currencies import readable
from darkroom.sending import send_all

from functions.process_order.orders import FINAL, State
from local.chaos.audit import Audit, dead_lettered_rightly
from local.chaos.flow import InFlight, PreparedFlow, Seen, in_portions
from local.emulators.payments import TakenPayment
from local.inventory import read_stock, set_stock
from local.outcomes import DeadLetter, read_items
from local.stack import Stack
from operations.flows import FLOWS

DEAD_LETTERS = FLOWS["orders"].dead_letters
_PRODUCTS = 20
# There is less of each product than the orders contain, so that about a third of them find it out of stock.
_STOCK_PER_ORDER = 0.1
_DECLINED = 0.1
_UNKNOWN_CUSTOMERS = 0.02
_FAULTY = 0.03
_CURRENCY = "EUR"


@dataclass(frozen=True)
class Placed:
    """One accepted order. ``amount`` in minor units; ``error_code`` is that of its dead letter, if invalid."""

    order_id: str
    quantities: Mapping[str, int]
    amount: int
    message: Mapping[str, Any]
    error_code: str = ""


@dataclass(frozen=True)
class Found:
    """The final state of a run's orders.

    Attributes
    ----------
    orders, stock:
        Items of the two tables, by key; a product's item is its counters.
    payments:
        Every charged payment, by order.
    events:
        Every event that the topic published.
    """

    orders: Mapping[str, Mapping[str, Any]]
    stock: Mapping[str, Mapping[str, int]]
    payments: Mapping[str, Sequence[TakenPayment]]
    events: Sequence[Mapping[str, Any]]
    letters: Sequence[DeadLetter]


def prepare(deployed: Stack, run: str, items: int, chance: random.Random) -> PreparedFlow:
    """Set the stock and write the orders.

    Parameters
    ----------
    run:
        The prefix of all ids of this run.
    """
    stock = fill_shelves(deployed, f"{run}-orders", items)
    orders = [place_order(f"{run}-orders-{number:05}", list(stock), chance) for number in range(items)]
    for number in range(max(1, int(items * _FAULTY))):
        orders[number] = without_items(orders[number])
    bodies = [json.dumps(order.message) for order in orders for _ in range(2)]
    chance.shuffle(bodies)
    faulty = frozenset(order.order_id for order in orders if order.error_code)
    in_flight = orders_in_flight(deployed)
    in_flight.watch(order.order_id for order in orders if not order.error_code)
    return PreparedFlow(
        name="orders",
        portions=[
            partial(send_all, deployed.sqs, deployed.outputs[FLOWS["orders"].waiting], some)
            for some in in_portions(bodies)
        ],
        count_done=in_flight.count_done,
        expected=items - len(faulty),
        faulty={DEAD_LETTERS: faulty},
        audit=lambda seen: audit(orders, stock, find(deployed, orders, stock, seen)),
    )


def orders_in_flight(deployed: Stack) -> InFlight:
    """Watch orders."""
    return InFlight(deployed, "OrdersTableName", "order_id", FINAL)


def fill_shelves(deployed: Stack, run: str, orders: int) -> dict[str, int]:
    """Create products for this run, too few of each; returns the number of each."""
    stock = {f"{run}-product-{number:02}": max(1, int(orders * _STOCK_PER_ORDER)) for number in range(_PRODUCTS)}
    set_stock(deployed, stock)
    return stock


def place_order(order_id: str, products: Sequence[str], chance: random.Random) -> Placed:
    """Write an order."""
    lines = [(product, chance.randint(1, 3), chance.randint(100, 9900)) for product in chance.sample(products, 2)]
    amount = sum(quantity * price for _, quantity, price in lines)
    message = {
        "order_id": order_id,
        "customer_id": "cus_nobody" if chance.random() < _UNKNOWN_CUSTOMERS else f"customer-{chance.randint(1, 99)}",
        "items": [{"product_id": p, "quantity": quantity, "unit_price": price} for p, quantity, price in lines],
        "amount": amount,
        "currency": _CURRENCY,
        "payment_method": "pm_card_chargeCustomerFail" if chance.random() < _DECLINED else "pm_card_visa",
    }
    return Placed(order_id, {product: quantity for product, quantity, _ in lines}, amount, message)


def without_items(order: Placed) -> Placed:
    """The order with an error, so that nobody can fulfil it."""
    message = {name: value for name, value in order.message.items() if name != "items"}
    return Placed(order.order_id, {}, order.amount, message, "MalformedMessage")


def find(deployed: Stack, orders: Sequence[Placed], stock: Mapping[str, int], seen: Seen) -> Found:
    """Read the state of orders and their products."""
    return Found(
        orders=read_items(deployed, deployed.outputs["OrdersTableName"], "order_id", [o.order_id for o in orders]),
        stock=read_stock(deployed, stock),
        payments=seen.payments,
        events=seen.events,
        letters=seen.letters[DEAD_LETTERS],
    )


def audit(orders: Sequence[Placed], stock: Mapping[str, int], found: Found) -> Audit:
    """Audit the orders, and the stock against its state at the start."""
    faulty = {o.order_id for o in orders if o.error_code}
    dead, findings = dead_lettered_rightly({o.order_id: o.error_code for o in orders}, found.letters)
    states = {o.order_id: found.orders.get(o.order_id, {}).get("state", "never received") for o in orders}
    findings += [f"{order_id} is invalid, but is {states[order_id]}." for order_id in faulty & found.orders.keys()]
    valid = [o for o in orders if not o.error_code]
    completed = [o for o in valid if states[o.order_id] == State.COMPLETED]
    rejections = Counter(
        found.orders[o.order_id]["rejection"]["code"] for o in valid if "rejection" in found.orders.get(o.order_id, {})
    )
    payments = {o.order_id: found.payments.get(o.order_id, []) for o in orders}
    made = [payment for of_order in payments.values() for payment in of_order]
    unfinished = [o for o in valid if states[o.order_id] not in FINAL]
    findings += [f"{o.order_id} is {states[o.order_id]}." for o in unfinished]
    findings += _stock_findings(stock, found.stock, completed)
    findings += [f for o in orders for f in _money_findings(o, states[o.order_id], payments[o.order_id])]
    findings += _word_findings({o.order_id: states[o.order_id] for o in valid}, found.events)
    mine = [event["event_id"] for event in found.events if event["order_id"] in states]
    return Audit(
        accepted=len(orders),
        done=len(valid) - len(unfinished),
        dead_lettered=len(dead & faulty),
        faulty=len(faulty),
        twice=sum(len(of_order) > 1 for of_order in payments.values()),
        details={
            "orders completed": len(completed),
            **{f"orders rejected, {code}": count for code, count in sorted(rejections.items())},
            "orders moved to the dead-letter queue, not valid": len(dead & faulty),
            "orders in an intermediate state": len(unfinished),
            "stock at the start": sum(stock.values()),
            "stock left + reserved + sold": " + ".join(
                str(sum(counter[name] for counter in found.stock.values()))
                for name in ("available", "reserved", "sold")
            ),
            "completed orders are worth": readable(sum(o.amount for o in completed), _CURRENCY),
            "charged, net of refunds": readable(sum(p.charged - p.refunded for p in made), _CURRENCY),
            "payments charged": len(made),
            "payments refunded": sum(p.refunded > 0 for p in made),
            "events published more than once, with the same id": len(mine) - len(set(mine)),
        },
        findings=findings,
    )


def _stock_findings(
    stock: Mapping[str, int], counters: Mapping[str, Mapping[str, int]], completed: Sequence[Placed]
) -> list[str]:
    findings = []
    for product, at_the_start in stock.items():
        counter = counters[product]
        bought = sum(order.quantities.get(product, 0) for order in completed)
        if sum(counter.values()) != at_the_start:
            findings.append(f"{product}: {dict(counter)} does not add up to the {at_the_start} at the start.")
        if counter["reserved"]:
            findings.append(f"{product}: {counter['reserved']} are still reserved.")
        if counter["sold"] != bought:
            findings.append(f"{product}: {counter['sold']} sold, but completed orders have {bought}.")
        if counter["available"] < 0:
            findings.append(f"{product}: oversold by {-counter['available']}.")
    return findings


def _money_findings(order: Placed, state: str, payments_made: Sequence[TakenPayment]) -> list[str]:
    net = sum(payment.charged - payment.refunded for payment in payments_made)
    owed = order.amount if state == State.COMPLETED else 0
    findings = []
    if net != owed:
        findings.append(f"{order.order_id} is {state}: {net} charged, {owed} owed.")
    if len(payments_made) > 1:
        findings.append(f"{order.order_id} was charged {len(payments_made)} times.")
    return findings


def _word_findings(states: Mapping[str, str], told: Sequence[Mapping[str, Any]]) -> list[str]:
    types = {State.COMPLETED.value: "OrderCompleted", State.REJECTED.value: "OrderRejected"}
    heard: dict[str, set[tuple[str, str]]] = {}
    for event in told:
        heard.setdefault(event["order_id"], set()).add((event["event_type"], event["event_id"]))
    findings = []
    for order_id, state in states.items():
        words = heard.get(order_id, set())
        if {event_type for event_type, _ in words} != {types.get(state)} or len(words) != 1:
            findings.append(f"{order_id} is {state}; the events published are {sorted(words) or 'none'}.")
    return findings
