"""The outside of the order function in memory, with the payment provider's own memory of what it was asked for.

The contract tests run over these and over the real adapters alike.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from queue import SimpleQueue
from threading import RLock, Thread
from time import time
from typing import Any

from darkroom.deadline import Deadline
from darkroom.errors import OrderIdReused, PaymentsNotConfigured, ProductUnknown, TransientFault
from darkroom.order_messages import Order, read_body

from functions.process_order.events import OrderEvent
from functions.process_order.orders import Change, HistoryEntry, OrderRecord, State, StockMove
from functions.process_order.ports import Declined, Overtaken, StockShort
from functions.process_order.process import Dependencies, Outcome, process
from tests.unit.fakes import Calls, DeadLetter, FakeDeadLetters, Killed, Trouble

GOOD_CARD = "pm_card_visa"
DECLINED_CARD = "pm_card_chargeCustomerFail"
NO_SUCH_CARD = "pm_card_nobody_has"

PRINT, FRAME, ALBUM = "print-30x40", "frame-oak", "album-linen"
# For orders of two transactions: with ALBUM these are 99, and FRAME and PRINT sort behind them.
CARDS = tuple(f"card-{number:02}" for number in range(98))


def utc_now() -> str:
    return datetime.now(UTC).isoformat()


@dataclass(frozen=True)
class FakeOrders:
    """``inventory``: of every product the counters ``available``, ``reserved`` and ``sold``."""

    orders: dict[str, OrderRecord] = field(default_factory=dict)
    inventory: dict[str, dict[str, int]] = field(default_factory=dict)
    calls: Calls = field(default_factory=Calls)
    lock: RLock = field(default_factory=RLock)
    now: Callable[[], str] = utc_now

    def receive(self, order: Order) -> OrderRecord:
        with self.calls.call("receive"), self.lock:
            first = HistoryEntry(State.RECEIVED, self.now())
            record = self.orders.setdefault(order.order_id, OrderRecord(order, State.RECEIVED, 1, (first,)))
        if differing := record.order.differences(order):
            raise OrderIdReused(f"Order {order.order_id} asks for something else: {', '.join(differing)} differ.")
        return record

    def load(self, order_id: str) -> OrderRecord:
        with self.calls.call("load"), self.lock:
            return self.orders[order_id]

    def apply(self, record: OrderRecord, change: Change) -> OrderRecord:
        with self.calls.call(f"to {change.to}"), self.lock:
            known = self.orders.get(record.order.order_id)
            overtaken = known is None or known.revision != record.revision
            short = self._too_little(change.stock) if change.stock else ()
            unknown = [p for p in short if p not in self.inventory]
            changed = self._changed(record, change)
            if not overtaken and not short:
                self.orders[record.order.order_id] = changed
                if change.stock:
                    self._move(change.stock)
        if overtaken:
            raise Overtaken
        if unknown and change.stock and change.stock.added_to != "available":
            raise ProductUnknown(f"{', '.join(unknown)} not in the inventory.")
        if short:
            raise StockShort(short)
        return changed

    def _changed(self, record: OrderRecord, change: Change) -> OrderRecord:
        history = record.history
        if change.to is not record.state:
            history += (HistoryEntry(change.to, self.now()),)
        values: dict[str, Any] = vars(record) | dict(change.values)
        return OrderRecord(**values | {"state": change.to, "revision": record.revision + 1, "history": history})

    def _too_little(self, stock: StockMove) -> tuple[str, ...]:
        counters = ((p, quantity, self.inventory.get(p, {})) for p, quantity in stock.products)
        return tuple(p for p, quantity, counter in counters if counter.get(stock.taken_from, 0) < quantity)

    def _move(self, stock: StockMove) -> None:
        for product_id, quantity in stock.products:
            counter = self.inventory[product_id]
            counter[stock.taken_from] -= quantity
            counter[stock.added_to] = counter.get(stock.added_to, 0) + quantity


class PaymentState(StrEnum):
    """What a payment is at the provider's."""

    OPEN = "open"
    CHARGED = "charged"
    CANCELED = "canceled"
    REFUNDED = "refunded"


@dataclass
class Payment:
    """One payment as the provider remembers it."""

    order_id: str
    amount: int
    currency: str
    payment_method: str
    state: PaymentState = PaymentState.OPEN
    charges: int = 0
    refunds: int = 0

    @property
    def taken(self) -> int:
        """What the customer is without."""
        return self.amount * (self.charges - self.refunds)


@dataclass(frozen=True)
class FakePayments:
    """``payments`` by id; whoever asks for another payment gets another, and both may be charged.

    ``empty``: the payment methods that hold no money just now. A payment that was declined may be tried again.
    """

    payments: dict[str, Payment] = field(default_factory=dict)
    empty: set[str] = field(default_factory=lambda: {DECLINED_CARD})
    configured: Callable[[], bool] = lambda: True
    calls: Calls = field(default_factory=Calls)
    lock: RLock = field(default_factory=RLock)

    def check_configured(self) -> None:
        with self.calls.call("check payments"):
            self._check_configured()

    def open(self, order: Order) -> str:
        with self.calls.call("open payment"), self.lock:
            self._check_configured()
            payment_id = f"payment-{len(self.payments) + 1}"
            if order.payment_method != NO_SUCH_CARD:
                self.payments[payment_id] = Payment(order.order_id, order.amount, order.currency, order.payment_method)
        if order.payment_method == NO_SUCH_CARD:
            raise Declined("There is no such card.")
        return payment_id

    def charge(self, payment_id: str, order: Order) -> None:
        with self.calls.call("charge"), self.lock:
            self._check_configured()
            payment = self.payments[payment_id]
            if payment.state is PaymentState.OPEN and payment.payment_method not in self.empty:
                payment.state = PaymentState.CHARGED
                payment.charges += 1
            declined = payment.state in (PaymentState.OPEN, PaymentState.CANCELED)
        if declined:
            raise Declined("Your card was declined.")

    def undo(self, payment_id: str, order: Order) -> None:
        with self.calls.call("undo payment"), self.lock:
            self._check_configured()
            payment = self.payments[payment_id]
            if payment.state is PaymentState.OPEN:
                payment.state = PaymentState.CANCELED
            elif payment.state is PaymentState.CHARGED:
                payment.state = PaymentState.REFUNDED
                payment.refunds += 1

    def _check_configured(self) -> None:
        if not self.configured():
            raise PaymentsNotConfigured("There is no key for the payment provider.")


@dataclass(frozen=True)
class FakeOrderEvents:
    published: list[OrderEvent] = field(default_factory=list)
    calls: Calls = field(default_factory=Calls)

    def publish(self, event: OrderEvent) -> None:
        with self.calls.call("tell"):
            self.published.append(event)


@dataclass
class OrderWorld:
    """Everything that outlives a worker: both tables, the payment provider, the topic and the dead letters.

    ``stocked`` is how many of each product there are, wherever they are counted.
    """

    inventory: dict[str, dict[str, int]] = field(default_factory=dict)
    stocked: dict[str, int] = field(default_factory=dict)
    orders: dict[str, OrderRecord] = field(default_factory=dict)
    payments: dict[str, Payment] = field(default_factory=dict)
    empty: set[str] = field(default_factory=lambda: {DECLINED_CARD})
    payments_configured: bool = True
    published: list[OrderEvent] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    _lock: RLock = field(default_factory=RLock)

    def stock(self, available: Mapping[str, int]) -> None:
        """Add stock of products."""
        for product_id, quantity in available.items():
            self.inventory[product_id] = {"available": quantity, "reserved": 0, "sold": 0}
            self.stocked[product_id] = quantity

    def write_off_reserved(self, product_id: str) -> None:
        """A person writes off all reserved stock of a product."""
        counters = self.inventory[product_id]
        self.stocked[product_id] -= counters["reserved"]
        counters["reserved"] = 0

    def dependencies(self, calls: Calls | None = None) -> Dependencies:
        """One worker's view of the world."""
        calls = calls or Calls()
        return Dependencies(
            orders=FakeOrders(self.orders, self.inventory, calls, self._lock),
            payments=FakePayments(self.payments, self.empty, lambda: self.payments_configured, calls, self._lock),
            events=FakeOrderEvents(self.published, calls),
            dead_letters=FakeDeadLetters(self.dead_letters, calls),
        )

    def deliver(
        self,
        body: str,
        calls: Calls | None = None,
        *,
        seconds: float = 50,
        deadline: Deadline | None = None,
        redriven: bool = False,
    ) -> Outcome:
        """Let a worker with ``seconds`` left process a message."""
        (task,) = read_body(body)
        return process(
            task, deadline or Deadline(time() + seconds), dependencies=self.dependencies(calls), redriven=redriven
        )

    def deliver_and_die_before(self, call: str, body: str) -> None:
        """Let a worker process a message, and kill it at a call."""

        def die(name: str) -> None:
            if name == call:
                raise Killed

        try:
            self.deliver(body, Calls(before=die))
        except Killed:
            return
        raise AssertionError(f"The worker never came to {call!r}.")

    def counters(self, product_id: str) -> tuple[int, int, int]:
        """How many of a product are available, reserved and sold."""
        counters = self.inventory[product_id]
        return counters["available"], counters["reserved"], counters["sold"]

    def payments_of(self, order_id: str) -> list[Payment]:
        return [payment for payment in self.payments.values() if payment.order_id == order_id]

    def taken_for(self, order_id: str) -> int:
        """What the customer paid for an order and did not get back."""
        return sum(payment.taken for payment in self.payments_of(order_id))

    def events_of(self, order_id: str) -> list[OrderEvent]:
        return [event for event in self.published if event.body["order_id"] == order_id]


class _CallsByTurns(Calls):
    """Waits before every call until a test decides the outcome of the call."""

    def __init__(self) -> None:
        super().__init__()
        self.coming = ""
        self.waiting: SimpleQueue[None] = SimpleQueue()
        self.turns: SimpleQueue[Trouble | None] = SimpleQueue()

    @contextmanager
    def call(self, name: str) -> Iterator[None]:
        self.coming = name
        self.waiting.put(None)
        self.trouble, self.at = self.turns.get(), len(self.made) + 1
        with super().call(name):
            yield


class Worker:
    """A delivery that makes one call at a time, on command: of several workers only one ever runs.

    Attributes
    ----------
    end:
        The outcome, or the error that ended it; None while it runs.
    """

    def __init__(self, world: OrderWorld, body: str) -> None:
        self.end: Outcome | BaseException | None = None
        self._calls = _CallsByTurns()
        self._thread = Thread(target=self._run, args=(world, body), daemon=True)
        self._thread.start()
        self._calls.waiting.get(timeout=60)

    @property
    def coming(self) -> str:
        """The call that it is going to make."""
        return self._calls.coming

    @property
    def lives(self) -> bool:
        return self.end is None

    def step(self, trouble: Trouble | None = None) -> None:
        """Make the next call, and continue until the one after it."""
        self._calls.turns.put(trouble)
        self._calls.waiting.get(timeout=60)
        if isinstance(self.end, BaseException) and not isinstance(self.end, TransientFault | Killed):
            raise self.end

    def run(self, calls: int = 1000) -> None:
        """Make so many calls, or as many as there are."""
        while calls and self.lives:
            self.step()
            calls -= 1

    def kill(self) -> None:
        if self.lives:
            self.step(Trouble.KILLED)

    def _run(self, world: OrderWorld, body: str) -> None:
        try:
            self.end = world.deliver(body, self._calls)
        except BaseException as error:  # noqa: BLE001 # told to whoever asked for the step
            self.end = error
        self._calls.waiting.put(None)


def order_message(
    order_id: str = "order-1",
    items: Iterable[tuple[str, int]] = ((PRINT, 1),),
    *,
    card: str = GOOD_CARD,
    unit_price: int = 1250,
) -> dict[str, Any]:
    """An order as a shop writes it; everything costs the same."""
    lines: list[dict[str, Any]] = [
        {"product_id": product_id, "quantity": quantity, "unit_price": unit_price} for product_id, quantity in items
    ]
    return {
        "order_id": order_id,
        "customer_id": "customer-7",
        "customer_email": "mara@example.com",
        "items": lines,
        "amount": sum(line["quantity"] * unit_price for line in lines),
        "currency": "EUR",
        "payment_method": card,
    }


def order_body(
    order_id: str = "order-1", items: Iterable[tuple[str, int]] = ((PRINT, 1),), *, card: str = GOOD_CARD
) -> str:
    """The message of an order."""
    return json.dumps(order_message(order_id, items, card=card))
