"""One order from its message to its end, step by step.

Every step can be repeated, even by two deliveries at the same time: stock moves in one transaction with the order's
state, an order has one payment, whose id is stored before the charge, and an event that is published twice has the same
id. So the function can die between any two steps, and the next delivery continues.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import time

from darkroom.dead_letters import DeadLetters
from darkroom.deadline import Deadline
from darkroom.errors import PermanentFault
from darkroom.messages import Unreadable
from darkroom.order_expiry import STANDS_STILL_AFTER, stands_still
from darkroom.order_messages import OrderTask

from functions.process_order.events import event_of
from functions.process_order.orders import (
    EXPIRING,
    FINAL,
    Change,
    OrderRecord,
    Rejection,
    RejectionCode,
    State,
    StockMove,
)
from functions.process_order.ports import (
    ConfirmationRequired,
    Declined,
    OrderEvents,
    Orders,
    Overtaken,
    Payments,
    Result,
    StockShort,
)

# A step that starts with less time left rarely finishes; a step that is cut short is repeated.
_SECONDS_PER_STEP = 25
# https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ServiceQuotas.html: 100 writes, one for the order.
PRODUCTS_PER_TRANSACTION = 99


@dataclass(frozen=True)
class Outcome:
    """How one message ended, with what its metrics and its log line need."""

    result: Result
    task_id: str
    rejection: Rejection | None = None
    fault: PermanentFault | None = None


@dataclass(frozen=True)
class Dependencies:
    """The ports of an order."""

    orders: Orders
    payments: Payments
    events: OrderEvents
    dead_letters: DeadLetters


def process(
    task: OrderTask | Unreadable, deadline: Deadline, *, dependencies: Dependencies, redriven: bool = False
) -> Outcome:
    """Process one message.

    Parameters
    ----------
    redriven:
        The message comes back from the dead-letter queue. That changes nothing: an order continues from its state.

    Raises
    ------
    TransientFault
        Nothing is lost: try again later.
    """
    del redriven
    try:
        if isinstance(task, Unreadable):
            raise task.fault
        return _fulfil(task, dependencies, deadline)
    except PermanentFault as fault:
        dependencies.dead_letters.send(task.body, task.task_id, fault)
        return Outcome(Result.DEAD_LETTERED, task.task_id, fault=fault)


def _fulfil(task: OrderTask, dependencies: Dependencies, deadline: Deadline) -> Outcome:
    record = dependencies.orders.receive(task.order)
    if record.state is State.RECEIVED and not _is_expired(record):
        dependencies.payments.check_configured()  # before the order reserves stock for which it cannot pay
    ended_here = False
    while record.state not in FINAL:
        deadline.require(_SECONDS_PER_STEP, "take the order one step further")
        try:
            step = _expire if _is_expired(record) else STEPS[record.state]
            record = step(record, dependencies)
            ended_here = record.state in FINAL
        except Overtaken:
            record = dependencies.orders.load(task.order.order_id)
    if not ended_here:
        return Outcome(Result.DUPLICATE, task.task_id)
    result = Result.COMPLETED if record.state is State.COMPLETED else Result.REJECTED
    return Outcome(result, task.task_id, record.rejection)


def _is_expired(record: OrderRecord) -> bool:
    return record.state in EXPIRING and stands_still(record.history[-1].at, time())


def _expire(record: OrderRecord, dependencies: Dependencies) -> OrderRecord:
    reason = f"The order stood still for more than {STANDS_STILL_AFTER.days} days. It is not charged."
    return _reject(record, dependencies, RejectionCode.EXPIRED, reason)


def _reserve_stock(record: OrderRecord, dependencies: Dependencies) -> OrderRecord:
    products = record.order.products
    some = products[record.reserved :][:PRODUCTS_PER_TRANSACTION]
    reserved = record.reserved + len(some)
    to = State.RESERVED if reserved == len(products) else State.RECEIVED
    try:
        return dependencies.orders.apply(
            record, Change(to, {"reserved": reserved}, StockMove("available", "reserved", some))
        )
    except StockShort as short:
        return _reject(record, dependencies, RejectionCode.OUT_OF_STOCK, f"Not enough in stock of {short}.")


def _open_payment(record: OrderRecord, dependencies: Dependencies) -> OrderRecord:
    try:
        payment_id = dependencies.payments.open(record.order)
    except Declined as declined:
        return _reject_payment(record, dependencies, declined)
    return dependencies.orders.apply(record, Change(State.PAYING, {"payment_id": payment_id}))


def _charge(record: OrderRecord, dependencies: Dependencies) -> OrderRecord:
    try:
        dependencies.payments.charge(_payment_id(record), record.order)
    except Declined as declined:
        return _reject_payment(record, dependencies, declined)
    return dependencies.orders.apply(record, Change(State.CHARGED))


def _commit(record: OrderRecord, dependencies: Dependencies) -> OrderRecord:
    products = record.order.products
    some = products[record.sold :][:PRODUCTS_PER_TRANSACTION]
    sold = record.sold + len(some)
    to = State.COMMITTED if sold == len(products) else State.CHARGED
    try:
        return dependencies.orders.apply(record, Change(to, {"sold": sold}, StockMove("reserved", "sold", some)))
    except StockShort as short:
        return _reject(record, dependencies, RejectionCode.STOCK_LOST, f"The reserved stock of {short} is gone.")


def _reject(record: OrderRecord, dependencies: Dependencies, code: RejectionCode, reason: str) -> OrderRecord:
    return dependencies.orders.apply(record, Change(State.REJECTING, {"rejection": Rejection(code, reason)}))


def _reject_payment(record: OrderRecord, dependencies: Dependencies, declined: Declined) -> OrderRecord:
    asks = isinstance(declined, ConfirmationRequired)
    code = RejectionCode.PAYMENT_CONFIRMATION_REQUIRED if asks else RejectionCode.PAYMENT_DECLINED
    return _reject(record, dependencies, code, str(declined))


def _undo_payment(record: OrderRecord, dependencies: Dependencies) -> OrderRecord:
    if record.payment_id:
        dependencies.payments.undo(record.payment_id, record.order)
    return dependencies.orders.apply(record, Change(State.UNCHARGED))


def _release_stock(record: OrderRecord, dependencies: Dependencies) -> OrderRecord:
    """Undo what the order did, the last step first."""
    products = record.order.products
    if record.sold < record.reserved:
        held_as, some = "reserved", products[record.sold : record.reserved][-PRODUCTS_PER_TRANSACTION:]
    else:
        held_as, some = "sold", products[: record.sold][-PRODUCTS_PER_TRANSACTION:]
    reserved = record.reserved - len(some)
    to = State.UNCHARGED if reserved else State.RELEASED
    values = {"reserved": reserved, "sold": min(record.sold, reserved)}
    while True:
        move = StockMove(held_as, "available", some) if some else None
        try:
            return dependencies.orders.apply(record, Change(to, values, move))
        except StockShort as short:  # a person corrected the stock meanwhile: there is nothing to return
            some = tuple(product for product in some if product[0] not in short.product_ids)


def _tell(to: State) -> Callable[[OrderRecord, Dependencies], OrderRecord]:
    def tell(record: OrderRecord, dependencies: Dependencies) -> OrderRecord:
        dependencies.events.publish(event_of(record))
        return dependencies.orders.apply(record, Change(to))

    return tell


def _payment_id(record: OrderRecord) -> str:
    if record.payment_id is None:
        raise ValueError(f"Order {record.order.order_id} is {record.state} without a payment.")
    return record.payment_id


STEPS: dict[State, Callable[[OrderRecord, Dependencies], OrderRecord]] = {
    State.RECEIVED: _reserve_stock,
    State.RESERVED: _open_payment,
    State.PAYING: _charge,
    State.CHARGED: _commit,
    State.COMMITTED: _tell(State.COMPLETED),
    State.REJECTING: _undo_payment,
    State.UNCHARGED: _release_stock,
    State.RELEASED: _tell(State.REJECTED),
}
