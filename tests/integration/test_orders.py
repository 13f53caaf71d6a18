"""Orders through the deployed stack: queue, function, stock, payment provider, topic."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from local.chaos.fault_injection import kill_functions
from local.config import LocalConfig
from local.emulators import payments
from local.emulators.payments import TakenPayment
from local.inventory import read_stock, set_stock
from local.order_events import Listener, listening
from local.outcomes import count_messages, poll, read_items, wait_for_orders
from local.stack import Stack
from tests.integration.uploading import SECONDS, wait_for_dead_letter

DEAD_LETTERS = "OrderDeadLetterQueueUrl"


@pytest.fixture
def listener(stack: Stack) -> Iterator[Listener]:
    with listening(stack) as listener:
        yield listener


def new_product(stack: Stack, available: int) -> str:
    product_id = f"print-{uuid4().hex}"
    set_stock(stack, {product_id: available})
    return product_id


def order(product_id: str, quantity: int = 1, **others: Any) -> dict[str, Any]:
    return {
        "order_id": f"order-{uuid4().hex}",
        "customer_id": "customer-7",
        "items": [{"product_id": product_id, "quantity": quantity, "unit_price": "12.50"}],
        "amount": quantity * 1250,
        "currency": "EUR",
        "payment_method": "pm_card_visa",
    } | others


def send(stack: Stack, message: dict[str, Any], **attributes: str) -> str:
    """Put an order on its queue; returns its id."""
    stack.sqs.send_message(
        QueueUrl=stack.outputs["OrderQueueUrl"],
        MessageBody=json.dumps(message),
        MessageAttributes={n: {"DataType": "String", "StringValue": value} for n, value in attributes.items()},
    )
    return str(message["order_id"])


def wait_for(stack: Stack, order_id: str) -> dict[str, Any]:
    """The finished order."""
    item = wait_for_orders(stack, [order_id], seconds=SECONDS).get(order_id)
    assert item is not None, "the order was never received"
    assert item["state"] in ("COMPLETED", "REJECTED"), item
    return item


def stock(stack: Stack, product_id: str) -> tuple[int, int, int]:
    counters = read_stock(stack, [product_id])[product_id]
    return counters["available"], counters["reserved"], counters["sold"]


def taken(stack: Stack, order_id: str) -> list[TakenPayment]:
    return payments.succeeded_payments(stack.payments_url).get(order_id, [])


def heard(listener: Listener, order_id: str) -> list[dict[str, Any]]:
    """The events that subscribers received about an order, once there are any."""
    events = poll(listener.listen, lambda all_: order_id in {e["order_id"] for e in all_}, seconds=SECONDS)
    return [event for event in events if event["order_id"] == order_id]


def test_a_valid_order_is_charged_once_with_consistent_stock_and_an_event(stack: Stack, listener: Listener) -> None:
    # given
    product = new_product(stack, 5)
    # when
    order_id = send(stack, order(product, 2, customer_email="mara@example.com"))
    item = wait_for(stack, order_id)
    # then its history tells the whole way
    states = [entry["state"] for entry in item["history"]]
    assert states == ["RECEIVED", "RESERVED", "PAYING", "CHARGED", "COMMITTED", "COMPLETED"]
    # and stock and money are right
    assert stock(stack, product) == (3, 0, 2)
    assert taken(stack, order_id) == [TakenPayment(item["payment_id"], charged=2500, refunded=0)]
    # and subscribers know
    (event,) = heard(listener, order_id)
    assert (event["event_type"], event["amount"], event["currency"]) == ("OrderCompleted", 2500, "EUR")
    assert event["customer_email"] == "mara@example.com"


def test_a_declined_card_rejects_the_order_and_gives_the_stock_back(stack: Stack, listener: Listener) -> None:
    product = new_product(stack, 5)
    order_id = send(stack, order(product, payment_method="pm_card_chargeCustomerFail"))
    item = wait_for(stack, order_id)
    assert (item["state"], item["rejection"]["code"]) == ("REJECTED", "PaymentDeclined")
    assert stock(stack, product) == (5, 0, 0)
    assert taken(stack, order_id) == []
    (event,) = heard(listener, order_id)
    assert (event["event_type"], event["rejection"]) == ("OrderRejected", item["rejection"])


def test_missing_stock_rejects_the_order_before_the_charge(stack: Stack, listener: Listener) -> None:
    product = new_product(stack, 1)
    order_id = send(stack, order(product, 2))
    item = wait_for(stack, order_id)
    assert (item["state"], item["rejection"]["code"]) == ("REJECTED", "OutOfStock")
    assert product in item["rejection"]["reason"]
    assert "payment_id" not in item
    assert [event["event_type"] for event in heard(listener, order_id)] == ["OrderRejected"]


def test_an_order_that_is_delivered_many_times_is_charged_once(stack: Stack, listener: Listener) -> None:
    product, message = new_product(stack, 50), order("")
    message["items"][0]["product_id"] = product
    queue_url = stack.outputs["OrderQueueUrl"]
    before = sum(count_messages(stack, queue_url))  # of functions that other tests have killed
    for _ in range(12):
        send(stack, message)
    wait_for(stack, message["order_id"])
    assert poll(lambda: sum(count_messages(stack, queue_url)), lambda left: left <= before, seconds=SECONDS) <= before
    assert [payment.charged for payment in taken(stack, message["order_id"])] == [1250]
    assert stock(stack, product) == (49, 0, 1)
    assert len({event["event_id"] for event in heard(listener, message["order_id"])}) == 1


def test_an_order_of_a_hundred_products_is_one_order(stack: Stack) -> None:
    products = [f"card-{uuid4().hex}" for _ in range(100)]
    set_stock(stack, dict.fromkeys(products, 3))
    items = [{"product_id": product, "quantity": 1, "unit_price": 100} for product in products]
    order_id = send(stack, order("", items=items, amount="100.00"))
    assert wait_for(stack, order_id)["state"] == "COMPLETED"
    assert {tuple(c.values()) for c in read_stock(stack, products).values()} == {(2, 0, 1)}


def test_a_message_that_is_not_an_order_becomes_a_dead_letter_that_names_every_bad_field(stack: Stack) -> None:
    message = order("print", amount=12.5, currency="Euro", items=[])
    letter = wait_for_dead_letter(stack, send(stack, message), DEAD_LETTERS)
    assert (letter.error_code, json.loads(letter.body)) == ("MalformedMessage", message)
    for field in ("amount", "currency", "items"):
        assert f"{field}: " in letter.reason


def test_another_order_under_the_same_id_is_dead_lettered(stack: Stack) -> None:
    product = new_product(stack, 5)
    message = order(product)
    wait_for(stack, send(stack, message))
    letter = wait_for_dead_letter(stack, send(stack, message | {"customer_id": "customer-8"}), DEAD_LETTERS)
    assert letter.error_code == "OrderIdReused"
    assert stock(stack, product) == (4, 0, 1)


def test_an_order_survives_an_outage_of_the_payment_provider(stack: Stack, listener: Listener) -> None:
    # given a payment provider of which every request fails, some after it took the money
    product = new_product(stack, 5)
    payments.set_faults(stack.payments_url, 1.0, seed=5)
    try:
        order_id = send(stack, order(product))

        def has_failed_often(items: dict[str, dict[str, Any]]) -> bool:
            failed = sum(payments.fault_counts(stack.payments_url).values())  # of all orders
            return items.get(order_id, {}).get("state") in ("RESERVED", "PAYING") and failed > 3

        items = poll(
            lambda: read_items(stack, stack.outputs["OrdersTableName"], "order_id", [order_id]),
            has_failed_often,
            seconds=SECONDS,
        )
        # when the order waits, its stock is held and there is no event
        assert items[order_id]["state"] in ("RESERVED", "PAYING")
        assert stock(stack, product) == (4, 1, 0)
    finally:
        payments.set_faults(stack.payments_url, 0)
    # then it is completed once the provider is back, and charged once
    assert wait_for(stack, order_id)["state"] == "COMPLETED"
    assert [payment.charged for payment in taken(stack, order_id)] == [1250]
    assert stock(stack, product) == (4, 0, 1)


def test_money_is_returned_if_the_stock_is_gone_after_the_charge(stack: Stack, listener: Listener) -> None:
    # given an order whose charge takes a while
    product = new_product(stack, 5)
    payments.set_faults(stack.payments_url, 0, seconds=3)
    try:
        order_id = send(stack, order(product, 2))
        items = poll(
            lambda: read_items(stack, stack.outputs["OrdersTableName"], "order_id", [order_id]),
            lambda items: items.get(order_id, {}).get("state") == "PAYING",
            seconds=SECONDS,
        )
        assert items[order_id]["state"] == "PAYING"
        # when somebody finds that what was moved to the dead-letter queue is broken
        stack.dynamodb.update_item(
            TableName=stack.outputs["InventoryTableName"],
            Key={"product_id": {"S": product}},
            UpdateExpression="SET reserved = :none",
            ExpressionAttributeValues={":none": {"N": "0"}},
        )
        item = wait_for(stack, order_id)
    finally:
        payments.set_faults(stack.payments_url, 0)
    # then the customer gets the money back and is notified
    assert (item["state"], item["rejection"]["code"]) == ("REJECTED", "StockLost")
    assert taken(stack, order_id) == [TakenPayment(item["payment_id"], charged=2500, refunded=2500)]
    assert stock(stack, product) == (3, 0, 0)
    assert [event["event_type"] for event in heard(listener, order_id)] == ["OrderRejected"]


def test_the_sweep_ends_an_order_that_stands_still_and_reports_a_payment_that_no_order_knows(stack: Stack) -> None:
    # given an order that no message moves any more, with stock reserved, and that does not know its payment
    product = new_product(stack, 5)
    order_id = send(stack, order(product))
    wait_for(stack, order_id)
    stack.dynamodb.update_item(
        TableName=stack.outputs["InventoryTableName"],
        Key={"product_id": {"S": product}},
        UpdateExpression="SET reserved = sold, sold = reserved",
    )
    stack.dynamodb.update_item(
        TableName=stack.outputs["OrdersTableName"],
        Key={"order_id": {"S": order_id}},
        UpdateExpression="SET #state = :reserved, history = :history, sold = :none REMOVE payment_id",
        ExpressionAttributeNames={"#state": "state"},
        ExpressionAttributeValues={
            ":reserved": {"S": "RESERVED"},
            ":history": {"L": [{"M": {"state": {"S": "RESERVED"}, "at": {"S": "2026-01-01T00:00:00.000Z"}}}]},
            ":none": {"N": "0"},
        },
    )
    # when
    answer = stack.lambda_.invoke(FunctionName=stack.outputs["SweepOrdersFunctionName"])
    found = json.loads(answer["Payload"].read())
    # then
    item = wait_for(stack, order_id)
    assert (item["state"], item["rejection"]["code"]) == ("REJECTED", "Expired")
    assert stock(stack, product) == (5, 0, 0)
    # and what other tests have left may count, too
    assert min(found["stood_still"], found["unknown_payments"]) >= 1


def test_a_wrong_secret_holds_orders_until_the_right_key_is_there(stack: Stack, config: LocalConfig) -> None:
    # given a secret without a Stripe key, and no function that has read another
    secret, product = stack.outputs["PaymentSecretArn"], new_product(stack, 5)
    key, _ = payments.split(stack.payments_url)
    stack.secretsmanager.put_secret_value(SecretId=secret, SecretString="to do")
    kill_functions(config, stack.outputs["ProcessOrderFunctionName"])
    try:
        # then an order is a dead letter, and what cannot be charged holds no stock
        without_key = wait_for_dead_letter(stack, send(stack, order(product)), DEAD_LETTERS)
        assert without_key.error_code == "PaymentsNotConfigured"
        assert "put-secret-value" in without_key.reason
        assert stock(stack, product) == (5, 0, 0)
        # given a key of the wrong mode
        stack.secretsmanager.put_secret_value(SecretId=secret, SecretString="sk_live_wrong")
        # then the stock is held, and the customer is not notified
        refused = wait_for_dead_letter(stack, send(stack, order(product)), DEAD_LETTERS)
        assert refused.error_code == "PaymentKeyRefused"
        assert "secret key of live mode" in refused.reason
        assert stock(stack, product) == (4, 1, 0)
        # when the right key is there, as JSON
        stack.secretsmanager.put_secret_value(SecretId=secret, SecretString=json.dumps({"STRIPE_SECRET_KEY": key}))
        # then both are completed after a redrive; one after the other, for a second function would have to start
        for letter in (without_key, refused):
            order_id = send(stack, json.loads(letter.body), error_code=letter.error_code)
            assert wait_for(stack, order_id)["state"] == "COMPLETED"
    finally:
        stack.secretsmanager.put_secret_value(SecretId=secret, SecretString=key)
    assert stock(stack, product) == (3, 0, 2)
