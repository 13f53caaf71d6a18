"""Orders that stand still come to their end, wherever the sweep and the deliveries die; unknown payments are found."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from time import time
from typing import Any

import boto3
import pytest
import stripe
from botocore.stub import Stubber
from darkroom.errors import PaymentsUnavailable, ServiceUnavailable
from darkroom.order_expiry import STANDS_STILL_AFTER
from darkroom.order_messages import Order, OrderTask, read_body
from darkroom.stripe_key import STACK, stack_of
from moto import mock_aws

from functions.process_order.orders import EXPIRING, FINAL, Change, HistoryEntry, RejectionCode, State
from functions.process_order.orders_table import DynamoDbOrders as WrittenOrders
from functions.process_order.ports import Result
from functions.sweep_orders.orders_table import DynamoDbOrders
from functions.sweep_orders.stripe_payments import StripePayments, TakenPayment
from functions.sweep_orders.sweep import Dependencies, send_again_what_stands_still, unknown_payments
from tests.unit.fakes import Calls, Killed, Trouble
from tests.unit.order_fakes import DECLINED_CARD, GOOD_CARD, PRINT, OrderWorld, order_body
from tests.unit.tables import empty_table

REGION = "eu-central-1"
SECRET_ARN = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:payment-AbCdEf"
BEFORE = ["to RESERVED", "open payment", "to PAYING", "charge", "to CHARGED", "to COMMITTED", "tell", "to COMPLETED"]


def let_pass(world: OrderWorld, time_passed: timedelta) -> None:
    """Let all orders stand still for so long."""
    for order_id, record in world.orders.items():
        history = tuple(
            HistoryEntry(entry.state, (datetime.fromisoformat(entry.at) - time_passed).isoformat())
            for entry in record.history
        )
        world.orders[order_id] = replace(record, history=history)


def order_of(body: str) -> Order:
    (task,) = read_body(body)
    assert isinstance(task, OrderTask)
    return task.order


@pytest.mark.parametrize("died_before", BEFORE)
@pytest.mark.parametrize("trouble", Trouble)
@pytest.mark.parametrize("at", range(1, 8))
def test_an_order_ends_correctly_after_any_failure_of_it_and_its_sweep(
    died_before: str, trouble: Trouble, at: int
) -> None:
    # given an order that died somewhere, and whose dead letter expired
    world = OrderWorld()
    world.stock({PRINT: 10})
    world.deliver_and_die_before(died_before, order_body(items=[(PRINT, 2)]))
    state = world.orders["order-1"].state
    let_pass(world, STANDS_STILL_AFTER + timedelta(seconds=1))
    # when it is sent again, its delivery meets trouble, and it comes once more
    with suppress(Killed, ServiceUnavailable):
        world.deliver(order_body(items=[(PRINT, 2)]), Calls(trouble, at))
    world.deliver(order_body(items=[(PRINT, 2)]))
    # then nothing was charged that was not sold
    record = world.orders["order-1"]
    if state in EXPIRING:
        assert record.state is State.REJECTED
        assert record.rejection
        assert record.rejection.code is RejectionCode.EXPIRED
        assert world.counters(PRINT) == (10, 0, 0)
        assert world.taken_for("order-1") == 0
    else:
        assert record.state is State.COMPLETED
        assert world.counters(PRINT) == (8, 0, 2)
        assert world.taken_for("order-1") == 2500
    assert world.events_of("order-1")
    assert world.dead_letters == []


def test_an_order_that_is_expired_needs_no_key_for_payments() -> None:
    world = OrderWorld()
    world.stock({PRINT: 10})
    world.deliver_and_die_before("to RESERVED", order_body())
    let_pass(world, STANDS_STILL_AFTER + timedelta(seconds=1))
    world.payments_configured = False
    assert world.deliver(order_body()).result is Result.REJECTED


@pytest.mark.parametrize(("card", "result"), [(GOOD_CARD, Result.COMPLETED), (DECLINED_CARD, Result.REJECTED)])
def test_a_day_earlier_it_continues(card: str, result: Result) -> None:
    world = OrderWorld()
    world.stock({PRINT: 10})
    world.deliver_and_die_before("charge", order_body(card=card))
    let_pass(world, STANDS_STILL_AFTER - timedelta(days=1))
    outcome = world.deliver(order_body(card=card))
    assert outcome.result is result
    assert outcome.rejection is None or outcome.rejection.code is RejectionCode.PAYMENT_DECLINED


class TestOrdersOnDynamoDb:
    @pytest.fixture
    def tables(self) -> Iterator[tuple[WrittenOrders, DynamoDbOrders]]:
        with mock_aws():
            dynamodb = boto3.client("dynamodb", region_name=REGION)
            table = empty_table(dynamodb, "order_id")
            yield WrittenOrders(dynamodb, table, "none"), DynamoDbOrders(dynamodb, table)

    def test_exactly_the_old_unfinished_orders_are_found(self, tables: tuple[WrittenOrders, DynamoDbOrders]) -> None:
        # given an order in each state, old and new
        written, orders = tables
        now = time()
        orders_sent = {}
        for age in (timedelta(), STANDS_STILL_AFTER + timedelta(minutes=1)):
            then = replace(written, now=partial(float, now - age.total_seconds()))
            for state in State:
                body = order_body(f"{state}-{age.days}", [(PRINT, 2)])
                order = order_of(body)
                orders_sent[order.order_id] = order
                then.apply(then.receive(order), Change(state))
        # when
        found = [order_of(json.dumps(message)) for message in orders.standing_still(now)]
        # then they are found as they came
        expected = {f"{state}-{STANDS_STILL_AFTER.days}" for state in set(State) - FINAL}
        assert {order.order_id for order in found} == expected
        assert all(order == orders_sent[order.order_id] for order in found)

    def test_payments_of_more_orders_than_one_call_takes(self, tables: tuple[WrittenOrders, DynamoDbOrders]) -> None:
        written, orders = tables
        for number in range(120):
            record = written.receive(order_of(order_body(f"order-{number}")))
            if number % 2:
                written.apply(record, Change(State.PAYING, {"payment_id": f"pi_{number}"}))
        found = orders.payments_of([f"order-{number}" for number in range(150)])
        assert found == {f"order-{number}": f"pi_{number}" for number in range(1, 120, 2)}

    def test_keys_that_dynamodb_leaves_out_are_asked_for_again_after_longer_and_longer_waits(
        self, tables: tuple[WrittenOrders, DynamoDbOrders], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # given
        _, orders = tables
        waits: list[float] = []
        monkeypatch.setattr("darkroom.items.sleep", waits.append)
        left_out = {"Responses": {}, "UnprocessedKeys": {orders.orders_table: {"Keys": [{"order_id": {"S": "a"}}]}}}
        found = {"Responses": {orders.orders_table: [{"order_id": {"S": "a"}, "payment_id": {"S": "pi_a"}}]}}
        with Stubber(orders.dynamodb) as stubber:
            for answer in (left_out, left_out, left_out, found):
                stubber.add_response("batch_get_item", answer)
            # then
            assert orders.payments_of(["a"]) == {"a": "pi_a"}
            stubber.assert_no_pending_responses()
        assert len(waits) == 3
        assert all(wait <= bound for wait, bound in zip(waits, (0.05, 0.1, 0.2), strict=True))
        # and given a table without capacity
        with Stubber(orders.dynamodb) as stubber:
            for _ in range(8):
                stubber.add_response("batch_get_item", left_out)
            with pytest.raises(ServiceUnavailable, match=r"left items .* out, 8 times"):
                orders.payments_of(["a"])


class FakeSweptOrders:
    def __init__(self, messages: Iterable[dict[str, Any]] = (), known: dict[str, str] | None = None) -> None:
        self.messages, self.known = messages, known or {}

    def standing_still(self, now: float) -> Iterator[dict[str, Any]]:
        yield from self.messages

    def payments_of(self, order_ids: Iterable[str]) -> dict[str, str]:
        return {order_id: self.known[order_id] for order_id in order_ids if order_id in self.known}


class FakeTaken:
    def __init__(self, *payments: TakenPayment) -> None:
        self.payments = list(payments)

    def taken_since(self, since: float) -> list[TakenPayment]:
        return self.payments


def test_a_payment_is_unknown_that_its_order_does_not_remember() -> None:
    taken = [TakenPayment(f"pi_{order_id or 'none'}", order_id, 100, "EUR") for order_id in ("a", "b", "c", "")]
    orders = FakeSweptOrders(known={"a": "pi_a", "b": "pi_other"})
    found = unknown_payments(Dependencies(orders, FakeTaken(*taken), lambda messages: 0), time())
    assert [payment.order_id for payment in found] == ["b", "c", ""]


def test_what_stands_still_is_sent_and_counted() -> None:
    sent: list[dict[str, Any]] = []

    def send(messages: Iterable[dict[str, Any]]) -> int:
        sent.extend(messages)
        return len(sent)

    dependencies = Dependencies(FakeSweptOrders([{"order_id": "a"}, {"order_id": "b"}]), FakeTaken(), send)
    assert send_again_what_stands_still(dependencies, time()) == 2
    assert sent == [{"order_id": "a"}, {"order_id": "b"}]


class TestPaymentsOfStripe:
    def payments(self, monkeypatch: pytest.MonkeyPatch, *intents: dict[str, Any]) -> StripePayments:
        """Stripe's answer to the list of payments."""
        page: Any = stripe.ListObject.construct_from(
            {"object": "list", "data": list(intents), "has_more": False, "url": "/v1/payment_intents"}, "sk_test_x"
        )
        monkeypatch.setattr("stripe.PaymentIntentService.list", lambda *_, **__: page)
        return self.with_secret({"SecretString": '{"api_key": "sk_test_x"}'})

    def with_secret(self, answer: dict[str, Any]) -> StripePayments:
        client = boto3.client("secretsmanager", region_name=REGION)
        stubber = Stubber(client)
        stubber.add_response("get_secret_value", answer, {"SecretId": SECRET_ARN})
        stubber.activate()
        return StripePayments(client, SECRET_ARN, "http://127.0.0.1:9")

    def intent(self, id_: str, status: str = "succeeded", *, refunded: int = 0, **others: Any) -> dict[str, Any]:
        return {
            "object": "payment_intent",
            "id": id_,
            "status": status,
            "created": 1000,
            "amount": 1250,
            "currency": "eur",
            "metadata": {"order_id": "order-1", STACK: stack_of(SECRET_ARN)},
            "latest_charge": {"object": "charge", "id": f"ch_{id_}", "amount_refunded": refunded},
        } | others

    def test_are_those_of_this_stack_that_keep_money(self, monkeypatch: pytest.MonkeyPatch) -> None:
        payments = self.payments(
            monkeypatch,
            self.intent("pi_1"),
            self.intent("pi_part", refunded=250),
            self.intent("pi_refunded", refunded=1250),
            self.intent("pi_open", "requires_confirmation", latest_charge=None),
            self.intent("pi_canceled", "canceled", latest_charge=None),
            self.intent("pi_processing", "processing", latest_charge=None),
            self.intent("pi_other", metadata={"order_id": "order-1", STACK: stack_of("another")}),
            self.intent("pi_old", created=10),
            self.intent("pi_older", created=9),
        )
        found = {payment.payment_id: payment.amount for payment in payments.taken_since(500)}
        assert found == {"pi_1": 1250, "pi_part": 1000, "pi_processing": 1250}

    def test_are_none_without_a_key(self) -> None:
        assert self.with_secret({"SecretString": "to do"}).taken_since(0) == []

    def test_a_refused_key_is_not_shown(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: Any, **__: Any) -> None:
            raise stripe.AuthenticationError("Invalid API Key provided: sk_test_x", http_status=401)

        payments = self.payments(monkeypatch)
        monkeypatch.setattr("stripe.PaymentIntentService.list", refuse)
        with pytest.raises(PaymentsUnavailable, match="status 401") as raised:
            payments.taken_since(0)
        assert "sk_test" not in str(raised.value)
