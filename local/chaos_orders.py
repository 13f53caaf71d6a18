"""The orders flow under disturbance: messages twice, functions killed with -9, a payment provider that fails.

The audit sums up what an accountant would: the stock of every product, and the money at the payment provider.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Timer
from time import time
from typing import Any

from darkroom.currencies import readable
from rich.console import Console

from functions.process_order.orders import FINAL, State
from local import payments
from local.audit import Audit
from local.disturbances import (
    held_back_messages,
    kill_functions,
    send_twice_in_any_order,
    short_visibility,
    wait_while_disturbing,
)
from local.inventory import read_stock, set_stock
from local.machine import Place
from local.order_events import listening
from local.outcomes import poll, read_dead_letters, read_items
from local.payments import TakenPayment
from local.stack import Stack

_PRODUCTS = 20
# Of each product there is less than is asked for, so that about a third of the orders finds an empty shelf.
_STOCK_PER_ORDER = 0.1
_DECLINED = 0.1
_UNKNOWN_CUSTOMERS = 0.02
_SHARE_OF_FAILING_PAYMENT_REQUESTS = 0.1
_OUTAGE_AT = 0.4
_SECONDS_OF_OUTAGE = 20
_KILLS = 6
_CURRENCY = "EUR"


@dataclass(frozen=True)
class Placed:
    """One accepted order. ``amount`` in minor units."""

    order_id: str
    quantities: Mapping[str, int]
    amount: int
    body: str


def disturb(deployed: Stack, place: Place, console: Console, items: int) -> Audit:
    """Run ``items`` orders through the stack while disturbing it, and audit stock and money."""
    chance = random.Random(items)  # noqa: S311 # the same disturbance each time, for whoever has to look into it
    started = time()
    run = f"chaos-{started:.0f}"
    stock = {f"{run}-product-{number:02}": max(1, int(items * _STOCK_PER_ORDER)) for number in range(_PRODUCTS)}
    set_stock(deployed, stock)
    orders = [_place(f"{run}-{number:05}", list(stock), chance) for number in range(items)]
    order_ids = [order.order_id for order in orders]

    def count_done() -> int:
        known = read_items(deployed, deployed.outputs["OrdersTableName"], "order_id", order_ids)
        return sum(order["state"] in FINAL for order in known.values())

    killed: list[int] = []
    provider = _FailingProvider(deployed.payments_url, seed=items)
    disturbances = [(chance.uniform(0.05, 0.95), lambda: killed.append(kill_functions(place))) for _ in range(_KILLS)]
    disturbances.append((_OUTAGE_AT, provider.go_down))
    queue_url = deployed.outputs["OrderQueueUrl"]
    with provider.failing(), listening(deployed) as listener, short_visibility(deployed, queue_url):
        with held_back_messages(deployed, deployed.outputs["OrderQueueArn"]):
            delivered = send_twice_in_any_order(deployed, queue_url, [order.body for order in orders], chance)
        wait_while_disturbing(deployed, queue_url, count_done, items, disturbances, doing="Fulfilling", console=console)
        told = poll(listener.listen, lambda heard: set(order_ids) <= {e["order_id"] for e in heard}, seconds=30)
    audit = _audit(deployed, orders, stock, told)
    audit.details.update(
        {
            "messages delivered": delivered,
            "function processes killed": sum(killed),
            "payment requests that failed": provider.summary(),
            "seconds": round(time() - started, 1),
        }
    )
    return audit


@dataclass
class _FailingProvider:
    """A payment provider of which some requests fail all the time, and for a while all of them."""

    url: str
    seed: int
    failed: Counter[str] = field(default_factory=Counter)
    _back_up: Timer | None = None

    @contextmanager
    def failing(self) -> Iterator[None]:
        """Fail inside the block."""
        self._fail(_SHARE_OF_FAILING_PAYMENT_REQUESTS)
        try:
            yield
        finally:
            if self._back_up:
                self._back_up.cancel()
            self._fail(0)

    def go_down(self) -> None:
        """Fail altogether for a while: Stripe saves these answers under their idempotency keys."""
        self._fail(1, "500 before")
        self._back_up = Timer(_SECONDS_OF_OUTAGE, self._fail, [_SHARE_OF_FAILING_PAYMENT_REQUESTS])
        self._back_up.start()

    def summary(self) -> str:
        """How many requests failed, by kind."""
        return ", ".join(f"{kind} {count}" for kind, count in sorted(self.failed.items()))

    def _fail(self, share: float, *kinds: str) -> None:
        self.failed.update(payments.fault_counts(self.url))
        payments.set_faults(self.url, share, self.seed, kinds=kinds)


def _place(order_id: str, products: Sequence[str], chance: random.Random) -> Placed:
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
    return Placed(order_id, {product: quantity for product, quantity, _ in lines}, amount, json.dumps(message))


def _audit(
    deployed: Stack, orders: Sequence[Placed], stock: Mapping[str, int], told: Sequence[Mapping[str, Any]]
) -> Audit:
    items = read_items(deployed, deployed.outputs["OrdersTableName"], "order_id", [o.order_id for o in orders])
    states = {order.order_id: items.get(order.order_id, {}).get("state", "never received") for order in orders}
    completed = [order for order in orders if states[order.order_id] == State.COMPLETED]
    letters = read_dead_letters(deployed, deployed.outputs["OrderDeadLetterQueueUrl"])
    dead = {letter.task_id for letter in letters} & states.keys()
    taken = payments.succeeded_payments(deployed.payments_url)
    rejections = Counter(item["rejection"]["code"] for item in items.values() if "rejection" in item)

    counters = read_stock(deployed, stock)
    charged = sum(p.charged - p.refunded for order in orders for p in taken.get(order.order_id, []))
    findings = [f"{order_id} is {state}." for order_id, state in states.items() if state not in FINAL]
    findings += _stock_findings(stock, counters, completed)
    findings += [f for order in orders for f in _money_findings(order, states[order.order_id], taken)]
    findings += _word_findings(states, told)
    return Audit(
        accepted=len(orders),
        done=sum(state in FINAL for order_id, state in states.items() if order_id not in dead),
        dead_lettered=len(dead),
        twice=sum(len(taken.get(order.order_id, [])) > 1 for order in orders),
        details={
            "orders completed": len(completed),
            **{f"orders rejected, {code}": count for code, count in sorted(rejections.items())},
            "orders in an intermediate state": sum(state not in FINAL for state in states.values()),
            "stock at the start": sum(stock.values()),
            "stock left + reserved + sold": " + ".join(
                str(sum(counter[name] for counter in counters.values())) for name in ("available", "reserved", "sold")
            ),
            "products that are sold out": sum(counter["available"] == 0 for counter in counters.values()),
            "completed orders are worth": readable(sum(order.amount for order in completed), _CURRENCY),
            "charged, net of refunds": readable(charged, _CURRENCY),
            "payments charged": sum(len(taken.get(order.order_id, [])) for order in orders),
            "payments refunded": sum(p.refunded > 0 for order in orders for p in taken.get(order.order_id, [])),
            "events told more than once, with the same id": len(told) - len({event["event_id"] for event in told}),
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
            findings.append(f"{product}: {dict(counter)} is not the {at_the_start} that there were.")
        if counter["reserved"]:
            findings.append(f"{product}: {counter['reserved']} are still reserved.")
        if counter["sold"] != bought:
            findings.append(f"{product}: {counter['sold']} sold, but completed orders have {bought}.")
        if counter["available"] < 0:
            findings.append(f"{product}: oversold by {-counter['available']}.")
    return findings


def _money_findings(order: Placed, state: str, taken: Mapping[str, Sequence[TakenPayment]]) -> list[str]:
    payments_made = taken.get(order.order_id, [])
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
            findings.append(f"{order_id} is {state}; its customer was told {sorted(words) or 'nothing'}.")
    return findings
