"""The demo's orders: send them, and report each outcome."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import time
from typing import Any

from darkroom.currencies import readable
from darkroom.sending import send_all
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from local.emulators import payments
from local.inventory import set_stock
from local.order_events import Listener
from local.outcomes import SECONDS_TO_FINISH, poll, read_dead_letters, read_items, wait_for_orders
from local.stack import Stack
from operations.flows import FLOWS
from operations.terminal import printable

# Test cards that Stripe knows: https://docs.stripe.com/testing
_GOOD_CARD = "pm_card_visa"
_DECLINED_CARD = "pm_card_chargeCustomerFail"
_STOCK = {"print-30x40": 50, "frame-oak": 50, "album-linen": 0}


@dataclass
class ShownOrder:
    """The outcome of one order: a row of the table, an entry of ``demo.json``.

    ``charged`` is the amount charged and not refunded, in minor units; ``told`` lists the events that subscribers
    received.
    """

    order_id: str
    shows: str
    expected: str
    body: str = field(repr=False)
    deliveries: int = 1
    outcome: str = "unfinished"
    reason: str = ""
    amount: int = 0
    charged: int = 0
    currency: str = ""
    told: list[str] = field(default_factory=list)
    history: list[dict[str, str]] = field(default_factory=list)

    @property
    def word(self) -> str:
        """The events that subscribers received, as displayed."""
        return ", ".join(f"{event} ×{n}, one event_id" if n > 1 else event for event, n in Counter(self.told).items())

    @property
    def as_expected(self) -> bool:
        """Whether the outcome is as expected, it was charged if and only if completed, and the event was published."""
        right_charge = self.charged == (self.amount if self.outcome == "COMPLETED" else 0)
        right_word = bool(self.told) == (self.outcome in ("COMPLETED", "REJECTED"))
        return self.outcome == self.expected and right_charge and right_word


def send(deployed: Stack) -> list[ShownOrder]:
    """Set the stock and send the orders."""
    set_stock(deployed, _STOCK)
    run = f"demo-{time():.0f}"
    prints, frame, album = ("print-30x40", 2, 3450), ("frame-oak", 1, 2900), ("album-linen", 1, 4200)
    shown = [
        _order(f"{run}-good", "two prints and a frame", "COMPLETED", [prints, frame]),
        _order(f"{run}-twice", "an order that is delivered twice", "COMPLETED", [prints], twice=True),
        _order(f"{run}-declined", "a card that the bank declines", "REJECTED", [frame], _DECLINED_CARD),
        _order(f"{run}-no-stock", "an album that is out of stock", "REJECTED", [album]),
        _malformed(f"{run}-malformed"),
    ]
    bodies = [row.body for row in shown for _ in range(row.deliveries)]
    send_all(deployed.sqs, deployed.outputs[FLOWS["orders"].waiting], bodies)
    return shown


def _order(
    order_id: str,
    shows: str,
    expected: str,
    lines: Sequence[tuple[str, int, int]],
    card: str = _GOOD_CARD,
    *,
    twice: bool = False,
) -> ShownOrder:
    amount = sum(quantity * price for _, quantity, price in lines)
    message = {
        "order_id": order_id,
        "customer_id": "customer-7",
        "customer_email": "mara@example.com",
        "items": [{"product_id": p, "quantity": quantity, "unit_price": price} for p, quantity, price in lines],
        "amount": amount,
        "currency": "EUR",
        "payment_method": card,
    }
    return ShownOrder(order_id, shows, expected, json.dumps(message), 2 if twice else 1, amount=amount, currency="EUR")


def _malformed(order_id: str) -> ShownOrder:
    message = {"order_id": order_id, "customer_id": "customer-7", "items": [], "amount": 12.5, "currency": "Euro"}
    return ShownOrder(order_id, "a message that is not an order", "MalformedMessage", json.dumps(message))


def wait(deployed: Stack, shown: Sequence[ShownOrder], console: Console) -> None:
    """Wait until every order is at its end, or four minutes are over."""
    order_ids = [row.order_id for row in shown if row.amount]
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("Fulfilling", total=len(order_ids))
        wait_for_orders(
            deployed,
            order_ids,
            seconds=SECONDS_TO_FINISH,
            progress=lambda done: progress.update(bar, completed=done),
        )


def learn_outcomes(deployed: Stack, shown: Sequence[ShownOrder], listener: Listener) -> None:
    """Fill in each outcome, the amount charged, and the events published."""
    order_ids = [row.order_id for row in shown if row.amount]
    orders = read_items(deployed, deployed.outputs["OrdersTableName"], "order_id", order_ids)
    wanted = {row.order_id for row in shown if row.expected not in ("COMPLETED", "REJECTED")}
    letters = poll(
        lambda: {letter.task_id: letter for letter in _dead_letters(deployed)},
        lambda letters: wanted <= letters.keys(),
        seconds=30,
    )
    told = poll(listener.listen, lambda heard: orders.keys() <= {event["order_id"] for event in heard}, seconds=30)
    taken = payments.succeeded_payments(deployed.payments_url)
    for row in shown:
        if letter := letters.get(row.order_id):
            row.outcome, row.reason = letter.error_code, letter.reason
        elif order := orders.get(row.order_id):
            row.outcome, row.history = order["state"], order["history"]
            row.reason = ": ".join(order.get("rejection", {}).get(name, "") for name in ("code", "reason")).strip(": ")
        row.charged = sum(payment.charged - payment.refunded for payment in taken.get(row.order_id, []))
        row.told = [event["event_type"] for event in told if event["order_id"] == row.order_id]


def _dead_letters(deployed: Stack) -> list[Any]:
    return read_dead_letters(deployed, deployed.outputs[FLOWS["orders"].dead_letters])


def tabulate(shown: Sequence[ShownOrder], *, narrow: bool) -> Table:
    """A row for each order; on a narrow terminal the event is below the outcome."""
    table = Table(title=f"{len(shown)} orders", title_justify="left", header_style="bold")
    table.add_column("order", overflow="fold")
    table.add_column("outcome", overflow="fold", min_width=len("MalformedMessage"))
    table.add_column("charged", justify="right", no_wrap=True)
    if not narrow:
        table.add_column("event published", overflow="fold")
    table.add_column("reason", overflow="fold")
    for row in shown:
        colour = "green" if row.outcome == "COMPLETED" else "yellow"
        charged = readable(row.charged, row.currency) if row.charged else ""
        order = f"{printable(row.shows)}\n[dim]{printable(row.order_id)}[/]"
        outcome = f"[{colour}]{printable(row.outcome)}[/]"
        cells = [f"{outcome}\n{row.word}".strip(), charged] if narrow else [outcome, charged, row.word]
        table.add_row(order, *cells, printable(row.reason))
    return table
