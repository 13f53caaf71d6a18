from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest
from darkroom.deadline import Deadline
from darkroom.errors import OutOfTime, ProductUnknown, ServiceUnavailable
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from functions.process_order.orders import FINAL, OrderRecord, RejectionCode, State
from functions.process_order.ports import Result
from functions.process_order.process import PRODUCTS_PER_TRANSACTION, Outcome
from tests.unit.fakes import Calls, DeadLetter, Hold, Killed, Trouble
from tests.unit.order_fakes import (
    ALBUM,
    CARDS,
    DECLINED_CARD,
    FRAME,
    GOOD_CARD,
    NO_SUCH_CARD,
    PRINT,
    OrderWorld,
    PaymentState,
    Worker,
    order_body,
)

A_HUNDRED = ((ALBUM, 2), *((card, 1) for card in CARDS), (FRAME, 3))


@pytest.fixture
def world() -> OrderWorld:
    world = OrderWorld()
    world.stock({PRINT: 10, FRAME: 10, ALBUM: 10} | dict.fromkeys(CARDS, 10))
    return world


def states(record: OrderRecord) -> list[State]:
    return [entry.state for entry in record.history]


class TestAGoodOrder:
    def test_is_charged_sold_and_announced(self, world: OrderWorld) -> None:
        outcome = world.deliver(order_body("order-1", [(PRINT, 2), (FRAME, 1)]))

        assert outcome == Outcome(Result.COMPLETED, "order-1")
        assert world.counters(PRINT) == (8, 0, 2)
        assert world.counters(FRAME) == (9, 0, 1)
        (payment,) = world.payments_of("order-1")
        assert (payment.state, payment.amount, payment.currency) == (PaymentState.CHARGED, 3 * 1250, "EUR")
        (event,) = world.published
        assert event.event_type == "OrderCompleted"
        assert world.dead_letters == []

    def test_is_stored_with_its_states(self, world: OrderWorld) -> None:
        world.deliver(order_body())
        record = world.orders["order-1"]
        assert record.state is State.COMPLETED
        assert states(record) == ["RECEIVED", "RESERVED", "PAYING", "CHARGED", "COMMITTED", "COMPLETED"]
        assert record.payment_id in world.payments
        assert record.rejection is None

    def test_reserves_stock_before_paying_and_stores_the_payment_before_the_charge(self, world: OrderWorld) -> None:
        calls = Calls()
        world.deliver(order_body(), calls)
        assert calls.made == [
            "receive",
            "check payments",
            "to RESERVED",
            "open payment",
            "to PAYING",
            "charge",
            "to CHARGED",
            "to COMMITTED",
            "tell",
            "to COMPLETED",
        ]

    def test_with_a_product_on_two_lines_gets_both(self, world: OrderWorld) -> None:
        world.deliver(order_body(items=[(PRINT, 2), (FRAME, 1), (PRINT, 3)]))
        assert world.counters(PRINT) == (5, 0, 5)

    def test_may_take_the_last_of_a_product(self, world: OrderWorld) -> None:
        assert world.deliver(order_body(items=[(PRINT, 10)])).result is Result.COMPLETED
        assert world.counters(PRINT) == (0, 0, 10)


class TestAnOrderIsRejected:
    def rejection(self, world: OrderWorld, body: str) -> tuple[RejectionCode, str]:
        """Deliver an order; it must be rejected, its customer must have paid nothing, and get the reason."""
        outcome = world.deliver(body)
        assert outcome.result is Result.REJECTED
        assert outcome.fault is None
        record = world.orders[outcome.task_id]
        assert record.state is State.REJECTED
        assert record.rejection == outcome.rejection
        assert record.rejection
        assert world.taken_for(outcome.task_id) == 0
        (event,) = world.events_of(outcome.task_id)
        assert event.event_type == "OrderRejected"
        assert event.body["rejection"] == {"code": record.rejection.code, "reason": record.rejection.reason}
        assert world.dead_letters == [], "an order that is rejected is no fault"
        return record.rejection.code, record.rejection.reason

    def test_that_wants_more_than_there_is(self, world: OrderWorld) -> None:
        code, reason = self.rejection(world, order_body(items=[(PRINT, 11), (FRAME, 1), (ALBUM, 99)]))
        assert (code, reason) == (RejectionCode.OUT_OF_STOCK, "Not enough in stock of album-linen, print-30x40.")
        assert world.counters(FRAME) == (10, 0, 0)
        assert world.payments == {}, "nobody is asked to pay for it"

    def test_that_wants_more_on_two_lines_than_there_is(self, world: OrderWorld) -> None:
        code, _ = self.rejection(world, order_body(items=[(PRINT, 6), (PRINT, 6)]))
        assert code is RejectionCode.OUT_OF_STOCK

    def test_that_wants_what_the_inventory_lacks_only_once_it_is_added(self, world: OrderWorld) -> None:
        # given an operator who forgot a product: customers are not notified
        body = order_body(items=[(PRINT, 1), ("print-9x13", 1)])
        outcome = world.deliver(body)
        assert outcome.result is Result.DEAD_LETTERED
        assert isinstance(outcome.fault, ProductUnknown)
        assert world.published == []
        # when it is added, and the dead letter redriven
        world.stock({"print-9x13": 0})
        world.dead_letters.clear()
        # then the order is judged
        code, reason = self.rejection(world, body)
        assert (code, reason) == (RejectionCode.OUT_OF_STOCK, "Not enough in stock of print-9x13.")
        assert world.counters(PRINT) == (10, 0, 0)

    def test_whose_card_is_declined(self, world: OrderWorld) -> None:
        code, reason = self.rejection(world, order_body(card=DECLINED_CARD))
        assert (code, reason) == (RejectionCode.PAYMENT_DECLINED, "Your card was declined.")
        assert world.counters(PRINT) == (10, 0, 0)
        assert [payment.state for payment in world.payments.values()] == [PaymentState.CANCELED]
        assert states(world.orders["order-1"]) == [
            "RECEIVED",
            "RESERVED",
            "PAYING",
            "REJECTING",
            "UNCHARGED",
            "RELEASED",
            "REJECTED",
        ]

    def test_whose_card_does_not_exist(self, world: OrderWorld) -> None:
        code, reason = self.rejection(world, order_body(card=NO_SUCH_CARD))
        assert (code, reason) == (RejectionCode.PAYMENT_DECLINED, "There is no such card.")
        assert world.counters(PRINT) == (10, 0, 0)

    def test_whose_stock_is_lost_after_the_charge_and_the_customer_gets_the_money_back(self, world: OrderWorld) -> None:
        body = order_body(items=[(PRINT, 2), (FRAME, 1)])
        world.deliver_and_die_before("to COMMITTED", body)
        assert world.taken_for("order-1") == 3750
        world.write_off_reserved(PRINT)

        code, reason = self.rejection(world, body)

        assert (code, reason) == (RejectionCode.STOCK_LOST, "The reserved stock of print-30x40 is gone.")
        assert [(p.charges, p.refunds) for p in world.payments.values()] == [(1, 1)]
        assert world.counters(PRINT) == (8, 0, 0), "what is gone does not come back"
        assert world.counters(FRAME) == (10, 0, 0), "what is there does"

    def test_whose_stock_is_written_off_while_it_is_being_rejected(self, world: OrderWorld) -> None:
        body = order_body(items=[(PRINT, 2), (FRAME, 1)], card=DECLINED_CARD)
        world.deliver_and_die_before("to RELEASED", body)
        world.write_off_reserved(PRINT)
        self.rejection(world, body)
        assert world.counters(PRINT) == (8, 0, 0)
        assert world.counters(FRAME) == (10, 0, 0)

    def test_whose_stock_is_all_written_off_while_it_is_being_rejected(self, world: OrderWorld) -> None:
        body = order_body(items=[(PRINT, 2)], card=DECLINED_CARD)
        world.deliver_and_die_before("to RELEASED", body)
        world.write_off_reserved(PRINT)
        self.rejection(world, body)
        assert world.counters(PRINT) == (8, 0, 0)

    def test_and_the_next_order_gets_its_stock(self, world: OrderWorld) -> None:
        self.rejection(world, order_body("order-1", [(PRINT, 10)], card=DECLINED_CARD))
        assert world.deliver(order_body("order-2", [(PRINT, 10)])).result is Result.COMPLETED


class TestAHundredProducts:
    """One more than fit into a transaction: the stock of the last is moved in a second one."""

    def test_are_the_largest_order(self) -> None:
        assert len({product for product, _ in A_HUNDRED}) == PRODUCTS_PER_TRANSACTION + 1
        assert max(A_HUNDRED) == (FRAME, 3)

    def test_are_all_sold(self, world: OrderWorld) -> None:
        assert world.deliver(order_body(items=A_HUNDRED)).result is Result.COMPLETED
        assert {product: world.counters(product)[2] for product, _ in A_HUNDRED} == dict(A_HUNDRED)
        assert states(world.orders["order-1"]) == [
            "RECEIVED",
            "RESERVED",
            "PAYING",
            "CHARGED",
            "COMMITTED",
            "COMPLETED",
        ]

    def test_are_all_released_if_the_last_is_short(self, world: OrderWorld) -> None:
        world.stock({FRAME: 2})
        outcome = world.deliver(order_body(items=A_HUNDRED))
        assert outcome.rejection
        assert outcome.rejection.code is RejectionCode.OUT_OF_STOCK
        assert {world.counters(product) for product in (ALBUM, *CARDS)} == {(10, 0, 0)}
        assert world.payments == {}

    def test_are_all_released_if_the_card_is_declined(self, world: OrderWorld) -> None:
        assert world.deliver(order_body(items=A_HUNDRED, card=DECLINED_CARD)).result is Result.REJECTED
        assert {world.counters(product) for product, _ in A_HUNDRED} == {(10, 0, 0)}

    def test_are_released_even_if_sold_when_the_last_is_lost(self, world: OrderWorld) -> None:
        body = order_body(items=A_HUNDRED)
        world.deliver_and_die_before("to COMMITTED", body)
        assert world.counters(ALBUM) == (8, 0, 2)
        world.write_off_reserved(FRAME)

        outcome = world.deliver(body)

        assert outcome.rejection
        assert outcome.rejection.code is RejectionCode.STOCK_LOST
        assert {world.counters(product) for product in (ALBUM, *CARDS)} == {(10, 0, 0)}
        assert world.counters(FRAME) == (7, 0, 0)
        assert world.taken_for("order-1") == 0


class TestAnOrderIsFulfilledOnce:
    @pytest.mark.parametrize(("card", "first"), [(GOOD_CARD, Result.COMPLETED), (DECLINED_CARD, Result.REJECTED)])
    def test_its_duplicate_only_reads(self, world: OrderWorld, card: str, first: Result) -> None:
        assert world.deliver(order_body(card=card)).result is first
        calls = Calls()
        assert world.deliver(order_body(card=card), calls) == Outcome(Result.DUPLICATE, "order-1")
        assert calls.made == ["receive"]

    def test_a_second_delivery_continues_and_the_first_finds_it_done(self, world: OrderWorld) -> None:
        hold = Hold("charge")
        with ThreadPoolExecutor(1) as other:
            first = other.submit(world.deliver, order_body(), Calls(before=hold))
            assert hold.reached.wait(60)
            second = world.deliver(order_body())
            hold.go_on.set()
            assert first.result(60).result is Result.DUPLICATE

        assert second.result is Result.COMPLETED
        assert [payment.charges for payment in world.payments.values()] == [1]
        assert world.counters(PRINT) == (9, 0, 1)

    def test_another_notation_is_the_same_order(self, world: OrderWorld) -> None:
        world.deliver(order_body())
        body = order_body().replace("1250", '"12.50"').replace(", ", " , ")
        assert world.deliver(body).result is Result.DUPLICATE

    @pytest.mark.parametrize("card", [GOOD_CARD, DECLINED_CARD])
    def test_another_order_with_its_id_is_dead_lettered(self, world: OrderWorld, card: str) -> None:
        world.deliver(order_body(items=[(PRINT, 1)], card=card))
        before = world.orders["order-1"]
        other = order_body(items=[(PRINT, 2)], card=card)

        outcome = world.deliver(other)

        assert outcome.result is Result.DEAD_LETTERED
        assert [(letter.body, letter.task_id, letter.error_code) for letter in world.dead_letters] == [
            (other, "order-1", "OrderIdReused")
        ]
        assert world.orders == {"order-1": before}

    def test_an_event_that_is_published_twice_is_identical(self, world: OrderWorld) -> None:
        for order_id, card in [("order-1", GOOD_CARD), ("order-2", DECLINED_CARD)]:
            body = order_body(order_id, card=card)
            world.deliver_and_die_before("to COMPLETED" if card == GOOD_CARD else "to REJECTED", body)
            world.deliver(body)
            first, second = world.events_of(order_id)
            assert first == second
        assert len({event.event_id for event in world.published}) == 2


class TestPaymentsAreNotConfigured:
    def test_the_order_is_dead_lettered_before_it_reserves_anything(self, world: OrderWorld) -> None:
        world.payments_configured = False
        outcome = world.deliver(order_body())
        assert outcome.result is Result.DEAD_LETTERED
        assert world.dead_letters == [
            DeadLetter(order_body(), "order-1", "PaymentsNotConfigured", "There is no key for the payment provider.")
        ]
        assert world.counters(PRINT) == (10, 0, 0)
        assert world.published == []

    def test_after_the_configuration_a_redrive_completes_it(self, world: OrderWorld) -> None:
        world.payments_configured = False
        world.deliver(order_body())
        world.payments_configured = True
        assert world.deliver(order_body(), redriven=True).result is Result.COMPLETED

    @pytest.mark.parametrize("call", ["open payment", "charge", "to CHARGED"])
    def test_later_an_order_with_an_unknown_charge_waits(self, world: OrderWorld, call: str) -> None:
        world.deliver_and_die_before(call, order_body())
        stands = world.orders["order-1"]
        world.payments_configured = False
        assert world.deliver(order_body()).result is Result.DEAD_LETTERED
        assert world.orders["order-1"] == stands

        world.payments_configured = True
        assert world.deliver(order_body(), redriven=True).result is Result.COMPLETED
        assert [payment.charges for payment in world.payments.values()] == [1]

    def test_later_an_order_with_a_pending_refund_waits(self, world: OrderWorld) -> None:
        world.deliver_and_die_before("undo payment", order_body(card=DECLINED_CARD))
        world.payments_configured = False
        assert world.deliver(order_body(card=DECLINED_CARD)).result is Result.DEAD_LETTERED
        world.payments_configured = True
        assert world.deliver(order_body(card=DECLINED_CARD), redriven=True).result is Result.REJECTED

    @pytest.mark.parametrize(
        ("call", "card"),
        [("to COMMITTED", GOOD_CARD), ("tell", GOOD_CARD), ("to RELEASED", DECLINED_CARD), ("tell", DECLINED_CARD)],
    )
    def test_later_an_order_past_its_payment_continues(self, world: OrderWorld, call: str, card: str) -> None:
        world.deliver_and_die_before(call, order_body(card=card))
        world.payments_configured = False
        assert world.deliver(order_body(card=card)).result in (Result.COMPLETED, Result.REJECTED)

    def test_a_finished_order_needs_none(self, world: OrderWorld) -> None:
        world.deliver(order_body())
        world.payments_configured = False
        assert world.deliver(order_body()).result is Result.DUPLICATE


def test_a_malformed_order_is_dead_lettered_and_nothing_else(world: OrderWorld) -> None:
    calls = Calls()
    outcome = world.deliver("hello", calls)
    assert outcome.result is Result.DEAD_LETTERED
    assert calls.made == ["dead letter"]
    (letter,) = world.dead_letters
    assert (letter.body, letter.task_id, letter.error_code) == ("hello", outcome.task_id, "MalformedMessage")
    assert letter.reason == str(outcome.fault)


def test_a_refused_dead_letter_keeps_the_message_in_its_queue(world: OrderWorld) -> None:
    with pytest.raises(ServiceUnavailable):
        world.deliver("hello", Calls(Trouble.REFUSED, at=1))


@dataclass(frozen=True)
class DeadlineAfter(Deadline):
    """Time for so many steps."""

    steps: int = 0
    asked: list[float] = field(default_factory=list)

    def require(self, seconds: float, purpose: str) -> None:
        self.asked.append(seconds)
        if len(self.asked) > self.steps:
            raise OutOfTime(purpose)


class TestTimeRunsOut:
    def test_no_step_starts_without_enough_time(self, world: OrderWorld) -> None:
        with pytest.raises(OutOfTime, match=r"9 s are left, \d+ s are needed to take the order one step further"):
            world.deliver(order_body(), seconds=9.4)
        assert world.counters(PRINT) == (10, 0, 0)
        assert world.deliver(order_body()).result is Result.COMPLETED

    @pytest.mark.parametrize("card", [GOOD_CARD, DECLINED_CARD])
    def test_after_any_step_the_next_delivery_continues(self, world: OrderWorld, card: str) -> None:
        deliveries = 0
        while world.orders.get("order-1") is None or world.orders["order-1"].state not in FINAL:
            before = world.orders["order-1"].revision if deliveries else 1
            try:
                world.deliver(order_body(card=card), deadline=DeadlineAfter(0, steps=1))
            except OutOfTime:
                assert world.orders["order-1"].revision == before + 1
            deliveries += 1
        assert deliveries == (5 if card == GOOD_CARD else 6)
        assert_all_is_well(world)

    def test_a_finished_order_is_still_answered(self, world: OrderWorld) -> None:
        world.deliver(order_body())
        assert world.deliver(order_body(), seconds=0).result is Result.DUPLICATE


class TestTheOutcomeOfAChargeIsUnknown:
    @pytest.mark.parametrize("trouble", [Trouble.REFUSED, Trouble.ANSWER_LOST])
    def test_the_next_delivery_charges_the_same_payment(self, world: OrderWorld, trouble: Trouble) -> None:
        with pytest.raises(ServiceUnavailable, match="charge"):
            world.deliver(order_body(), Calls(trouble, at=6))
        assert world.orders["order-1"].state is State.PAYING

        assert world.deliver(order_body()).result is Result.COMPLETED
        (payment,) = world.payments.values()
        assert payment.charges == 1

    def test_a_decline_with_a_lost_answer_is_requested_again(self, world: OrderWorld) -> None:
        with pytest.raises(ServiceUnavailable, match="charge"):
            world.deliver(order_body(card=DECLINED_CARD), Calls(Trouble.ANSWER_LOST, at=6))
        assert world.deliver(order_body(card=DECLINED_CARD)).result is Result.REJECTED

    def test_a_card_that_has_money_the_second_time_is_charged(self, world: OrderWorld) -> None:
        world.deliver_and_die_before("to REJECTING", order_body(card=DECLINED_CARD))
        world.empty.clear()
        assert world.deliver(order_body(card=DECLINED_CARD)).result is Result.COMPLETED
        assert world.taken_for("order-1") == 1250


HAPPY = [State.RECEIVED, State.RESERVED, State.PAYING, State.CHARGED, State.COMMITTED, State.COMPLETED]
SAD = [State.REJECTING, State.UNCHARGED, State.RELEASED, State.REJECTED]
# From RECEIVED on, every way that the drawing in `orders` allows.
WAYS = [HAPPY[:n] for n in range(1, 7)] + [HAPPY[:n] + SAD[:m] for n in range(1, 5) for m in range(1, 5)]
PAID = {State.CHARGED, State.COMMITTED, State.COMPLETED}
UNPAID = {State.UNCHARGED, State.RELEASED, State.REJECTED}
TELLS_OF = {"OrderCompleted": {State.COMMITTED, State.COMPLETED}, "OrderRejected": {State.RELEASED, State.REJECTED}}


def assert_nothing_is_wrong(world: OrderWorld) -> None:
    """What holds at every moment, also between the steps of any worker."""
    for product, counters in world.inventory.items():
        assert min(counters.values()) >= 0
        assert sum(counters.values()) == world.stocked[product]

    for order_id, record in world.orders.items():
        payments = world.payments_of(order_id)
        assert states(record) in WAYS
        assert 0 <= record.sold <= record.reserved <= len(record.order.products)
        assert record.state is record.history[-1].state
        assert [entry.at for entry in record.history] == sorted(entry.at for entry in record.history)
        assert sum(payment.charges for payment in payments) <= 1, "nobody is charged twice"
        assert all(p.refunds <= p.charges for p in payments)
        if record.state in PAID:
            assert record.payment_id
            paid = world.payments[record.payment_id]
            assert (paid.order_id, paid.state) == (order_id, PaymentState.CHARGED)
            assert (paid.amount, paid.currency) == (record.order.amount, record.order.currency)
        if record.state in UNPAID:
            assert world.taken_for(order_id) == 0
            assert record.payment_id is None or world.payments[record.payment_id].state is not PaymentState.OPEN
        assert all(record.state in TELLS_OF[event.event_type] for event in world.events_of(order_id))
        assert all(event == world.events_of(order_id)[0] for event in world.events_of(order_id))


def assert_stock_is_held_by_orders(world: OrderWorld) -> None:
    """What holds at every moment as long as nobody writes off stock by hand."""
    held = {product: [0, 0] for product in world.inventory}
    for record in world.orders.values():
        for number, (product, quantity) in enumerate(record.order.products):
            if number < record.reserved:
                held[product][number < record.sold] += quantity
    assert held == {product: list(world.counters(product)[1:]) for product in world.inventory}


def assert_only_what_is_done_is_acknowledged(world: OrderWorld, workers: Iterable[Worker]) -> None:
    """An acknowledged message is not delivered again, whatever happens to the other workers."""
    for worker in workers:
        if isinstance(worker.end, Outcome):
            assert world.orders[worker.end.task_id].state in FINAL


def assert_all_is_well(world: OrderWorld) -> None:
    """What holds when every message was acknowledged."""
    assert_nothing_is_wrong(world)
    sold = dict.fromkeys(world.inventory, 0)
    for order_id, record in world.orders.items():
        assert record.state in FINAL
        assert world.taken_for(order_id) == (record.order.amount if record.state is State.COMPLETED else 0)
        assert world.events_of(order_id), "the customer was notified"
        for product, quantity in record.order.products if record.state is State.COMPLETED else ():
            sold[product] += quantity
    assert {product: counters["sold"] for product, counters in world.inventory.items()} == sold
    assert {counters["reserved"] for counters in world.inventory.values()} == {0}


@dataclass(frozen=True)
class Case:
    """What stood before, the delivery that meets trouble, and how it ends if it is only repeated often enough."""

    body: str
    result: Result
    prepare: Callable[[OrderWorld, str], None] = lambda world, body: None

    def world(self) -> OrderWorld:
        world = OrderWorld()
        world.stock({PRINT: 3, FRAME: 3, ALBUM: 3} | dict.fromkeys(CARDS, 1))
        self.prepare(world, self.body)
        return world


def the_last_frame_is_gone(world: OrderWorld, body: str) -> None:
    world.stock({FRAME: 0})


def its_frames_are_lost_after_the_charge(world: OrderWorld, body: str) -> None:
    world.deliver_and_die_before("to COMMITTED", body)
    world.write_off_reserved(FRAME)


def its_frames_are_lost_while_it_is_rejected(world: OrderWorld, body: str) -> None:
    world.deliver_and_die_before("to RELEASED", body)
    world.write_off_reserved(FRAME)


TWO = [(PRINT, 2), (FRAME, 1)]
CASES = {
    "good": Case(order_body(items=TWO), Result.COMPLETED),
    "out of stock": Case(order_body(items=TWO), Result.REJECTED, the_last_frame_is_gone),
    "declined": Case(order_body(items=TWO, card=DECLINED_CARD), Result.REJECTED),
    "no such card": Case(order_body(items=TWO, card=NO_SUCH_CARD), Result.REJECTED),
    "stock lost": Case(order_body(items=TWO), Result.REJECTED, its_frames_are_lost_after_the_charge),
    "stock lost late": Case(
        order_body(items=TWO, card=DECLINED_CARD), Result.REJECTED, its_frames_are_lost_while_it_is_rejected
    ),
    "a hundred": Case(order_body(items=A_HUNDRED), Result.COMPLETED),
    "a hundred, out of stock": Case(order_body(items=A_HUNDRED), Result.REJECTED, the_last_frame_is_gone),
    "a hundred, declined": Case(order_body(items=A_HUNDRED, card=DECLINED_CARD), Result.REJECTED),
    "a hundred, stock lost": Case(order_body(items=A_HUNDRED), Result.REJECTED, its_frames_are_lost_after_the_charge),
}
"""Every course of one order."""


def each_call(case: Case, *before: tuple[Trouble, int]) -> Iterator[tuple[int, str]]:
    """Number and name of every call that a delivery makes after others which met trouble."""
    world, calls = case.world(), Calls()
    for trouble, at in before:
        deliver_into_trouble(world, case, trouble, at)
    world.deliver(case.body, calls)
    yield from enumerate(calls.made, start=1)


def deliver_into_trouble(world: OrderWorld, case: Case, trouble: Trouble, at: int) -> None:
    with pytest.raises(Killed if trouble is Trouble.KILLED else ServiceUnavailable):
        world.deliver(case.body, Calls(trouble, at))


@pytest.mark.parametrize("trouble", Trouble)
class TestFailingCalls:
    @pytest.mark.parametrize("name", CASES)
    def test_the_next_delivery_finishes_the_order(self, name: str, trouble: Trouble, subtests: pytest.Subtests) -> None:
        case = CASES[name]
        for at, call in each_call(case):
            with subtests.test(f"{trouble}: {call} (call {at})"):
                world = case.world()
                deliver_into_trouble(world, case, trouble, at)
                assert_nothing_is_wrong(world)
                assert world.deliver(case.body).result in (case.result, Result.DUPLICATE)
                assert_all_is_well(world)
                assert world.orders["order-1"].state.title() == case.result
                assert world.deliver(case.body).result is Result.DUPLICATE

    @pytest.mark.parametrize("name", [*(name for name in CASES if "hundred" not in name), "a hundred, stock lost"])
    def test_any_call_of_the_next_delivery_may_fail_too(self, name: str, trouble: Trouble) -> None:
        case = CASES[name]
        for first, first_call in each_call(case):
            for second, second_call in each_call(case, (trouble, first)):
                world = case.world()
                deliver_into_trouble(world, case, trouble, first)
                deliver_into_trouble(world, case, trouble, second)
                told = f"{trouble}: {first_call} (call {first}), then {second_call} (call {second})"
                assert world.deliver(case.body).result in (case.result, Result.DUPLICATE), told
                assert_all_is_well(world)


class TestTwoWorkersOnOneOrder:
    @pytest.mark.parametrize("name", CASES)
    def test_either_may_stop_for_the_other_at_any_step(self, name: str) -> None:
        case = CASES[name]
        calls = len(list(each_call(case)))
        for ahead in range(calls):
            for behind in range(calls):
                world = case.world()
                first, second = Worker(world, case.body), Worker(world, case.body)
                first.run(ahead)
                second.run(behind)
                assert_nothing_is_wrong(world)
                for worker in (first, second):
                    worker.run()
                    assert_only_what_is_done_is_acknowledged(world, [first, second])
                assert_all_is_well(world)
                results = {end.result for end in (first.end, second.end) if isinstance(end, Outcome)}
                assert results == {case.result, Result.DUPLICATE}, f"{ahead} calls, then {behind} of the other"

    @pytest.mark.parametrize("name", CASES)
    def test_in_lockstep(self, name: str) -> None:
        case = CASES[name]
        world = case.world()
        workers = [Worker(world, case.body), Worker(world, case.body)]
        while any(worker.lives for worker in workers):
            for worker in workers:
                worker.run(1)
                assert_nothing_is_wrong(world)
                assert_only_what_is_done_is_acknowledged(world, workers)
        assert_all_is_well(world)

    def test_an_overtaken_one_continues_because_the_other_may_die(self, world: OrderWorld) -> None:
        overtaken, other = Worker(world, order_body()), Worker(world, order_body())
        for worker in (overtaken, other):
            while worker.coming != "to CHARGED":
                worker.step()
        other.step()
        other.kill()
        overtaken.run()
        assert overtaken.end == Outcome(Result.COMPLETED, "order-1")
        assert_all_is_well(world)

    def test_a_card_charged_for_a_rejected_order_is_refunded(self, world: OrderWorld) -> None:
        # given a worker that got "declined", and another that gets "charged" a moment later
        body = order_body(card=DECLINED_CARD)
        declined, charged = Worker(world, body), Worker(world, body)
        while declined.coming != "to REJECTING":
            declined.step()
        world.empty.clear()
        while charged.coming != "to CHARGED":
            charged.step()
        # when the first is the first to say so
        declined.run()
        charged.run()
        # then that is how it stays
        assert world.orders["order-1"].state is State.REJECTED
        assert [(p.charges, p.refunds) for p in world.payments.values()] == [(1, 1)]
        assert_all_is_well(world)

    def test_a_charge_after_the_end_takes_no_money(self, world: OrderWorld) -> None:
        # given a worker that is about to charge when the card has no money yet
        late = Worker(world, order_body(card=DECLINED_CARD))
        while late.coming != "charge":
            late.step()
        assert world.deliver(order_body(card=DECLINED_CARD)).result is Result.REJECTED
        # when it has
        world.empty.clear()
        late.run()
        # then
        assert world.taken_for("order-1") == 0
        assert_all_is_well(world)


class TestOrdersForTheSameStock:
    @pytest.mark.parametrize("card", [GOOD_CARD, DECLINED_CARD])
    def test_stock_is_never_oversold(self, card: str) -> None:
        ours, theirs = order_body("ours", [(PRINT, 2)], card=card), order_body("theirs", [(PRINT, 2)])
        for ahead in range(13):
            world = OrderWorld()
            world.stock({PRINT: 3})
            worker = Worker(world, ours)
            worker.run(ahead)
            world.deliver(theirs)
            worker.run()
            assert_all_is_well(world)
            assert [record.state for record in world.orders.values()].count(State.COMPLETED) <= 1


ORDERS = st.fixed_dictionaries(
    {
        "items": st.dictionaries(st.sampled_from([PRINT, FRAME, ALBUM]), st.integers(1, 2), min_size=1, max_size=3),
        "bulk": st.sampled_from([False, False, False, True]),
        "card": st.sampled_from([GOOD_CARD, GOOD_CARD, DECLINED_CARD, NO_SUCH_CARD]),
    }
)


class ManyWorkers(RuleBasedStateMachine):
    """Orders that compete, workers that take turns call by call, die or lose an answer, and repeated messages.

    Meanwhile a card gets money and loses it. In the end every message is delivered until it is acknowledged, and only
    then the workers go on that are still about.
    """

    most_workers = 5
    writes_off = False

    def __init__(self) -> None:
        super().__init__()
        self.world = OrderWorld()
        self.bodies: list[str] = []
        self.workers: list[Worker] = []
        self.seen: dict[str, OrderRecord] = {}

    @initialize(available=st.tuples(*[st.integers(0, 4)] * 3), orders=st.lists(ORDERS, min_size=1, max_size=4))
    def orders_come_in(self, available: tuple[int, int, int], orders: list[dict[str, Any]]) -> None:
        self.world.stock(dict(zip((PRINT, FRAME, ALBUM), available, strict=True)) | dict.fromkeys(CARDS, 2))
        for number, order in enumerate(orders):
            items = order["items"] | (dict.fromkeys(CARDS[: 100 - len(order["items"])], 1) if order["bulk"] else {})
            self.bodies.append(order_body(f"order-{number}", items.items(), card=order["card"]))

    @rule(data=st.data(), calls=st.integers(1, 12))
    def a_worker_goes_on(self, data: st.DataObject, calls: int) -> None:
        self.some_worker(data).run(calls)

    @rule(data=st.data(), trouble=st.sampled_from(Trouble))
    def a_worker_meets_trouble(self, data: st.DataObject, trouble: Trouble) -> None:
        self.some_worker(data).step(trouble)

    @rule()
    def a_card_gets_money_or_loses_it(self) -> None:
        self.world.empty ^= {DECLINED_CARD}

    def some_worker(self, data: st.DataObject) -> Worker:
        """One that is at it, or another that has just been given a message."""
        number = data.draw(st.integers(0, self.most_workers - 1))
        if number >= len(self.workers):
            self.workers.append(Worker(self.world, data.draw(st.sampled_from(self.bodies))))
        return self.workers[min(number, len(self.workers) - 1)]

    @invariant()
    def nothing_is_wrong(self) -> None:
        assert_only_what_is_done_is_acknowledged(self.world, self.workers)
        self.workers = [worker for worker in self.workers if worker.lives]
        assert_nothing_is_wrong(self.world)
        if not self.writes_off:
            assert_stock_is_held_by_orders(self.world)
        for order_id, record in self.world.orders.items():
            before = self.seen.get(order_id, record)
            assert before.revision <= record.revision
            assert record.history[: len(before.history)] == before.history
            assert (record == before) == (record.revision == before.revision)
            assert before.payment_id in (None, record.payment_id)
        self.seen = dict(self.world.orders)

    def teardown(self) -> None:
        try:
            for body in self.bodies:
                assert self.world.deliver(body).result is not Result.DEAD_LETTERED
            for worker in self.workers:
                worker.run()
            self.nothing_is_wrong()
            self.all_is_well()
            assert {self.world.deliver(body).result for body in self.bodies} <= {Result.DUPLICATE}
        finally:
            for worker in self.workers:
                worker.kill()

    def all_is_well(self) -> None:
        assert_all_is_well(self.world)
        for record in self.world.orders.values():
            assert not record.rejection or record.rejection.code is not RejectionCode.STOCK_LOST


class ManyWorkersAndLosses(ManyWorkers):
    """Now somebody writes off stock by hand too.

    What was held for several orders is then missing to one of them, maybe in part: what it cannot give back whole
    stays reserved.
    """

    writes_off = True

    @rule(product=st.sampled_from([PRINT, FRAME, ALBUM, CARDS[0]]))
    def stock_is_written_off(self, product: str) -> None:
        self.world.write_off_reserved(product)

    def all_is_well(self) -> None:
        for order_id, record in self.world.orders.items():
            assert record.state in FINAL
            assert self.world.taken_for(order_id) == (record.order.amount if record.state is State.COMPLETED else 0)
            assert self.world.events_of(order_id)


TestManyWorkers = ManyWorkers.TestCase
TestManyWorkers.settings = settings(max_examples=30, stateful_step_count=40)
TestManyWorkersAndLosses = ManyWorkersAndLosses.TestCase
TestManyWorkersAndLosses.settings = settings(max_examples=20, stateful_step_count=40)
