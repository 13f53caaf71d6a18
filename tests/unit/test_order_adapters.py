"""The orders' tables and topic: a contract for the fake and the real ones, and the details of the real ones."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.stub import ANY, Stubber
from darkroom.errors import OrderIdReused, ProductUnknown, ServiceUnavailable, StockRecordInvalid
from darkroom.order_messages import Order, OrderLine
from moto import mock_aws

from functions.process_order import orders_table
from functions.process_order.events import event_of
from functions.process_order.order_events_topic import SnsOrderEvents
from functions.process_order.orders import Change, HistoryEntry, OrderRecord, Rejection, RejectionCode, State, StockMove
from functions.process_order.orders_table import DynamoDbOrders
from functions.process_order.ports import Orders, Overtaken, StockShort
from tests.unit.order_fakes import FakeOrders
from tests.unit.tables import empty_table

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

REGION = "eu-central-1"
ORDER = Order(
    "order-1",
    "customer-7",
    (OrderLine("print", 2, 1250), OrderLine("frame", 1, 2900), OrderLine("print", 1, 1250)),
    amount=6650,
    currency="EUR",
    payment_method="pm_card_visa",
    customer_email="mara@example.com",
)
RESERVE = Change(State.RESERVED, {"reserved": 2}, StockMove("available", "reserved", (("frame", 1), ("print", 3))))
COMMIT = Change(State.COMMITTED, {"sold": 2}, StockMove("reserved", "sold", (("frame", 1), ("print", 3))))


@dataclass(frozen=True)
class Shop:
    """Orders with an inventory: ``stock`` adds products, ``counters`` reads them."""

    orders: Orders
    stock: Callable[[str, int], None]
    counters: Callable[[str], tuple[int, int, int]]


@pytest.fixture(scope="module")
def dynamodb() -> Iterator[DynamoDBClient]:
    with mock_aws():
        yield boto3.client("dynamodb", region_name=REGION)


@pytest.fixture
def dynamodb_orders(dynamodb: DynamoDBClient) -> DynamoDbOrders:
    return DynamoDbOrders(dynamodb, empty_table(dynamodb, "order_id"), empty_table(dynamodb, "product_id"))


def fake_shop() -> Shop:
    orders = FakeOrders()

    def stock(product_id: str, available: int) -> None:
        orders.inventory[product_id] = {"available": available, "reserved": 0, "sold": 0}

    def counters(product_id: str) -> tuple[int, int, int]:
        counters = orders.inventory[product_id]
        return counters["available"], counters["reserved"], counters["sold"]

    return Shop(orders, stock, counters)


def dynamodb_shop(orders: DynamoDbOrders) -> Shop:
    def stock(product_id: str, available: int) -> None:
        # As an operator writes it: a product that was never reserved or sold has no such counters.
        orders.dynamodb.put_item(
            TableName=orders.inventory_table,
            Item={"product_id": {"S": product_id}, "available": {"N": str(available)}},
        )

    def counters(product_id: str) -> tuple[int, int, int]:
        item = orders.dynamodb.get_item(TableName=orders.inventory_table, Key={"product_id": {"S": product_id}})["Item"]
        available, reserved, sold = (int(item.get(n, {"N": "0"})["N"]) for n in ("available", "reserved", "sold"))
        return available, reserved, sold

    return Shop(orders, stock, counters)


@pytest.fixture(params=["fake", "DynamoDB"])
def shop(request: pytest.FixtureRequest) -> Shop:
    if request.param == "fake":
        return fake_shop()
    return dynamodb_shop(request.getfixturevalue("dynamodb_orders"))


class TestRetention:
    """A finished order is deleted by DynamoDB, any other is not: its messages may still come."""

    NOW = 1_790_000_000.0

    def expiry_after(self, orders: DynamoDbOrders, *states: State) -> str | None:
        record = orders.receive(ORDER)
        for state in states:
            record = orders.apply(record, Change(state))
        item = orders.dynamodb.get_item(TableName=orders.orders_table, Key={"order_id": {"S": "order-1"}})["Item"]
        assert orders.load("order-1") == record
        return item.get("expires_at", {}).get("N")

    @pytest.mark.parametrize("final", [State.COMPLETED, State.REJECTED])
    def test_a_finished_order_expires(self, dynamodb_orders: DynamoDbOrders, final: State) -> None:
        orders = replace(dynamodb_orders, retention_days=60, now=lambda: self.NOW)
        assert self.expiry_after(orders, State.CHARGED, final) == str(int(self.NOW) + 60 * 86_400)

    def test_an_open_order_does_not(self, dynamodb_orders: DynamoDbOrders) -> None:
        assert self.expiry_after(replace(dynamodb_orders, retention_days=60), State.CHARGED, State.COMMITTED) is None

    def test_nor_does_a_finished_one_without_a_retention(self, dynamodb_orders: DynamoDbOrders) -> None:
        assert self.expiry_after(dynamodb_orders, State.CHARGED, State.COMPLETED) is None


class TestOrders:
    """The contract of the orders table, for the fake and the real one."""

    def test_a_new_order_is_received(self, shop: Shop) -> None:
        record = shop.orders.receive(ORDER)
        assert (record.order, record.state, record.revision) == (ORDER, State.RECEIVED, 1)
        assert [entry.state for entry in record.history] == [State.RECEIVED]
        assert shop.orders.load("order-1") == record

    def test_an_order_needs_no_email(self, shop: Shop) -> None:
        order = replace(ORDER, customer_email=None)
        shop.orders.receive(order)
        assert shop.orders.load("order-1").order == order

    def test_a_known_order_is_returned_unchanged(self, shop: Shop) -> None:
        record = shop.orders.apply(shop.orders.receive(ORDER), Change(State.RESERVED))
        assert shop.orders.receive(ORDER) == record

    @pytest.mark.parametrize(
        "other",
        [
            replace(ORDER, amount=6651),
            replace(ORDER, currency="USD"),
            replace(ORDER, customer_id="customer-8"),
            replace(ORDER, customer_email=None),
            replace(ORDER, payment_method="pm_other"),
            replace(ORDER, lines=ORDER.lines[:1]),
        ],
    )
    def test_another_order_under_the_same_id_is_refused(self, shop: Shop, other: Order) -> None:
        record = shop.orders.receive(ORDER)
        with pytest.raises(OrderIdReused, match="order-1"):
            shop.orders.receive(other)
        assert shop.orders.load("order-1") == record

    def test_a_change_is_stored_with_its_values_and_history(self, shop: Shop) -> None:
        # given
        record = shop.orders.receive(ORDER)
        rejection = Rejection(RejectionCode.PAYMENT_DECLINED, "Your card was declined.")
        # when
        record = shop.orders.apply(record, Change(State.PAYING, {"payment_id": "pi_1"}))
        record = shop.orders.apply(record, Change(State.REJECTING, {"rejection": rejection}))
        # then
        assert (record.state, record.revision) == (State.REJECTING, 3)
        assert (record.payment_id, record.rejection) == ("pi_1", rejection)
        assert [entry.state for entry in record.history] == [State.RECEIVED, State.PAYING, State.REJECTING]
        assert shop.orders.load("order-1") == record

    def test_stock_moves_with_the_order(self, shop: Shop) -> None:
        shop.stock("print", 10)
        shop.stock("frame", 1)
        record = shop.orders.apply(shop.orders.receive(ORDER), RESERVE)
        assert (shop.counters("print"), shop.counters("frame")) == ((7, 3, 0), (0, 1, 0))
        shop.orders.apply(record, COMMIT)
        assert (shop.counters("print"), shop.counters("frame")) == ((7, 0, 3), (0, 0, 1))

    def test_a_step_of_many_adds_nothing_to_the_history(self, shop: Shop) -> None:
        shop.stock("print", 10)
        some = Change(State.RECEIVED, {"reserved": 1}, StockMove("available", "reserved", (("print", 3),)))
        record = shop.orders.apply(shop.orders.receive(ORDER), some)
        assert (record.revision, record.reserved, len(record.history)) == (2, 1, 1)
        assert shop.orders.load("order-1") == record

    def test_stock_that_is_short_is_named_and_nothing_changes(self, shop: Shop) -> None:
        shop.stock("print", 2)
        shop.stock("frame", 1)
        record = shop.orders.receive(ORDER)
        with pytest.raises(StockShort) as short:
            shop.orders.apply(record, RESERVE)
        assert short.value.product_ids == ("print",)
        assert (shop.counters("print"), shop.counters("frame")) == ((2, 0, 0), (1, 0, 0))
        assert shop.orders.load("order-1") == record

    def test_an_unknown_product_is_not_out_of_stock(self, shop: Shop) -> None:
        shop.stock("print", 2)
        record = shop.orders.receive(ORDER)
        with pytest.raises(ProductUnknown, match="frame"):
            shop.orders.apply(record, RESERVE)
        assert (shop.counters("print"), shop.orders.load("order-1")) == ((2, 0, 0), record)

    def test_stock_returned_for_a_deleted_product_is_short(self, shop: Shop) -> None:
        give_back = Change(State.RELEASED, {}, StockMove("reserved", "available", (("frame", 1),)))
        with pytest.raises(StockShort, match="frame"):
            shop.orders.apply(shop.orders.receive(ORDER), give_back)

    @pytest.mark.parametrize("change", [RESERVE, Change(State.CHARGED)], ids=["with stock", "without"])
    def test_a_change_to_an_older_revision_does_nothing(self, shop: Shop, change: Change) -> None:
        # given an order that another delivery takes on, and shelves that would do
        shop.stock("print", 10)
        shop.stock("frame", 10)
        early = shop.orders.receive(ORDER)
        now = shop.orders.apply(early, RESERVE)
        # when somebody acts on what it was
        with pytest.raises(Overtaken):
            shop.orders.apply(early, change)
        # then
        assert shop.orders.load("order-1") == now
        assert shop.counters("print") == (7, 3, 0)

    def test_being_overtaken_counts_before_being_short(self, shop: Shop) -> None:
        shop.stock("print", 3)
        shop.stock("frame", 1)
        early = shop.orders.receive(ORDER)
        shop.orders.apply(early, RESERVE)
        with pytest.raises(Overtaken):
            shop.orders.apply(early, RESERVE)


class TestOrdersOnDynamoDb:
    @pytest.fixture
    def waits(self, monkeypatch: pytest.MonkeyPatch) -> list[float]:
        waits: list[float] = []
        monkeypatch.setattr(orders_table, "sleep", waits.append)
        return waits

    @pytest.fixture
    def stubbed(self) -> Iterator[tuple[DynamoDbOrders, Stubber]]:
        client = boto3.client("dynamodb", region_name=REGION)
        with Stubber(client) as stub:
            yield DynamoDbOrders(client, "orders", "inventory"), stub

    @staticmethod
    def cancel(stub: Stubber, *codes: str) -> None:
        stub.add_client_error(
            "transact_write_items",
            "TransactionCanceledException",
            modeled_fields={
                "CancellationReasons": [{"Code": code, "Item": {"available": {"N": "0"}}} for code in codes]
            },
        )

    RECORD = OrderRecord(ORDER, State.RECEIVED, 1, (HistoryEntry(State.RECEIVED, "2026-11-22T09:30:00.000+00:00"),))

    def test_conflicting_orders_try_again(self, stubbed: tuple[DynamoDbOrders, Stubber], waits: list[float]) -> None:
        orders, stub = stubbed
        self.cancel(stub, "None", "TransactionConflict", "None")
        self.cancel(stub, "TransactionConflict", "None", "None")
        stub.add_response("transact_write_items", {}, {"TransactItems": ANY})
        assert orders.apply(self.RECORD, RESERVE).state is State.RESERVED
        assert len(waits) == 2

    def test_orders_that_conflict_repeatedly_are_retried_later(
        self, stubbed: tuple[DynamoDbOrders, Stubber], waits: list[float]
    ) -> None:
        orders, stub = stubbed
        for _ in range(8):
            self.cancel(stub, "None", "TransactionConflict", "None")
        with pytest.raises(ServiceUnavailable, match="TransactionConflict, 8 times"):
            orders.apply(self.RECORD, RESERVE)
        assert len(waits) == 7

    @pytest.mark.parametrize(
        ("item", "reason"),
        [
            ({"available": {"S": "50"}}, "Product frame: available is '50', which is not a number"),
            ({"available": {"NULL": True}}, "Product frame: available is null, which is not a number"),
            ({"available": {"BOOL": True}}, "Product frame: available is True, which is not a number"),
            ({"available": {"NS": ["50"]}}, r"Product frame: available is \['50'\], which is not a number"),
            ({"available": {"L": [{"N": "50"}]}}, "Product frame: available is .*, which is not a number"),
            ({"available": {"N": "5"}, "reserved": {"S": ""}}, "Product frame: reserved is '', which is not a number"),
            ({"sold": {"N": "1"}}, "Product frame: available is missing"),
        ],
    )
    def test_a_record_without_a_number_is_for_the_operator(
        self, dynamodb: DynamoDBClient, dynamodb_orders: DynamoDbOrders, item: dict[str, Any], reason: str
    ) -> None:
        for product, counters in (("print", {"available": {"N": "9"}}), ("frame", item)):
            record = {"product_id": {"S": product}, **counters}
            dynamodb.put_item(TableName=dynamodb_orders.inventory_table, Item=record)
        with pytest.raises(StockRecordInvalid, match=reason):
            dynamodb_orders.apply(dynamodb_orders.receive(ORDER), RESERVE)

    def test_a_number_below_zero_is_a_number(self, shop: Shop) -> None:
        """As after more was written off than was there: nothing is in stock."""
        shop.stock("print", 9)
        shop.stock("frame", -1)
        with pytest.raises(StockShort, match="frame"):
            shop.orders.apply(shop.orders.receive(ORDER), RESERVE)

    def test_missing_stock_counts_even_next_to_a_conflict(
        self, stubbed: tuple[DynamoDbOrders, Stubber], waits: list[float]
    ) -> None:
        orders, stub = stubbed
        self.cancel(stub, "None", "ConditionalCheckFailed", "TransactionConflict")
        with pytest.raises(StockShort, match="frame"):
            orders.apply(self.RECORD, RESERVE)
        assert waits == []

    def test_an_order_in_a_transaction_is_changed_after_it(
        self, stubbed: tuple[DynamoDbOrders, Stubber], waits: list[float]
    ) -> None:
        orders, stub = stubbed
        for operation in ("put_item", "update_item"):
            stub.add_client_error(operation, "TransactionConflictException")
            stub.add_response(operation, {})
        assert orders.receive(ORDER).state is State.RECEIVED
        assert orders.apply(self.RECORD, Change(State.CHARGED)).state is State.CHARGED
        assert len(waits) == 2

    @pytest.mark.parametrize(
        ("operation", "act"),
        [
            ("put_item", lambda orders: orders.receive(ORDER)),
            ("get_item", lambda orders: orders.load("order-1")),
            ("update_item", lambda orders: orders.apply(TestOrdersOnDynamoDb.RECORD, Change(State.CHARGED))),
            ("transact_write_items", lambda orders: orders.apply(TestOrdersOnDynamoDb.RECORD, RESERVE)),
        ],
    )
    def test_an_error_of_dynamodb_is_a_transient_fault(
        self, stubbed: tuple[DynamoDbOrders, Stubber], operation: str, act: Callable[[DynamoDbOrders], Any]
    ) -> None:
        orders, stub = stubbed
        stub.add_client_error(operation, "InternalServerError")
        with pytest.raises(ServiceUnavailable):
            act(orders)

    def test_an_order_can_be_read_by_people(self, dynamodb_orders: DynamoDbOrders) -> None:
        dynamodb_orders.receive(ORDER)
        item = dynamodb_orders.dynamodb.get_item(
            TableName=dynamodb_orders.orders_table, Key={"order_id": {"S": "order-1"}}
        )["Item"]
        assert item["state"] == {"S": "RECEIVED"}
        assert item["amount"] == {"N": "6650"}
        assert item["items"]["L"][0]["M"]["product_id"] == {"S": "print"}


class TestOrderEventsOnSns:
    RECORD = OrderRecord(
        ORDER, State.COMMITTED, 5, (HistoryEntry(State.COMMITTED, "2026-11-22T09:30:00.000+00:00"),), payment_id="pi_1"
    )

    def test_subscribers_can_filter_by_type_and_currency(self) -> None:
        # given a queue that wants to know of completed orders in euros, and one that wants rejected ones
        with mock_aws():
            sns, sqs = boto3.client("sns", region_name=REGION), boto3.client("sqs", region_name=REGION)
            topic = sns.create_topic(Name="orders")["TopicArn"]
            queues = []
            for event_type in ("OrderCompleted", "OrderRejected"):
                queues.append(sqs.create_queue(QueueName=event_type)["QueueUrl"])
                arn = sqs.get_queue_attributes(QueueUrl=queues[-1], AttributeNames=["QueueArn"])["Attributes"]
                wanted = json.dumps({"event_type": [event_type], "currency": ["EUR"]})
                attributes = {"RawMessageDelivery": "true", "FilterPolicy": wanted}
                sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn["QueueArn"], Attributes=attributes)
            # when
            event = event_of(self.RECORD)
            SnsOrderEvents(sns, topic).publish(event)
            # then
            (message,) = sqs.receive_message(QueueUrl=queues[0])["Messages"]
            assert json.loads(message["Body"]) == event.body
            assert "Messages" not in sqs.receive_message(QueueUrl=queues[1])

    def test_an_error_of_sns_is_a_transient_fault(self) -> None:
        client = boto3.client("sns", region_name=REGION)
        with Stubber(client) as stub:
            stub.add_client_error("publish", "InternalError")
            with pytest.raises(ServiceUnavailable, match="publish the order's event"):
                SnsOrderEvents(client, "arn:aws:sns:eu-central-1:123456789012:orders").publish(event_of(self.RECORD))
