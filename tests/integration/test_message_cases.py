"""Messages of other teams' shops, through the deployed stack: all sent at once, and awaited together."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from uuid import uuid4

import pytest
from darkroom.came_with import CameWith

from local.inventory import read_stock, set_stock
from local.outcomes import wait_for_orders
from local.stack import Stack
from operations.dead_letters import DeadLetter
from operations.redrive import HandOver, Moved, Pace, Redrive, back_to
from tests.integration.test_orders import DEAD_LETTERS, new_product, order, send, wait_for
from tests.integration.uploading import SECONDS, wait_for_dead_letter

CASES = Path(__file__).with_name("cases")
SQS = ["order_body_with_bom", "order_sent_again_items_reordered", "order_wrapped_by_sns"]
RABBITMQ = [
    *("rabbitmq_body_with_bom", "rabbitmq_content_encoding_8bit", "rabbitmq_content_encoding_utf8"),
    "rabbitmq_spring_gzip_colon",
]


@dataclass(frozen=True)
class Sent:
    """The orders that were sent, by case, and their products, which no other test uses."""

    orders: dict[str, str]
    print: str
    frame: str
    items: dict[str, dict[str, Any]]


def _load(name: str) -> dict[str, Any]:
    event: dict[str, Any] = json.loads((CASES / f"{name}.json").read_text())
    return event


def _of_this_run(body: str, names: Mapping[str, str]) -> str:
    for name, ours in names.items():
        body = body.replace(f'"{name}"', f'"{ours}"').replace(f'\\"{name}\\"', f'\\"{ours}\\"')
    return body


@pytest.fixture(scope="module")
def sent(stack: Stack) -> Sent:
    products = {name: f"{name}-{uuid4().hex}" for name in ("print-30x40", "frame-oak")}
    set_stock(stack, dict.fromkeys(products.values(), 100))
    orders = {name: f"{name}-{uuid4().hex}" for name in (*SQS, *RABBITMQ)}
    for name in SQS:
        for record in _load(name)["Records"]:
            body = _of_this_run(record["body"], products | {"o-1": orders[name]})
            stack.sqs.send_message(QueueUrl=stack.outputs["OrderQueueUrl"], MessageBody=body)
    for name in RABBITMQ:
        event = _load(name)
        (message,) = event["rmqMessagesByQueue"]["orders::/"]
        data = base64.b64decode(message["data"])
        zipped = data.startswith(b"\x1f\x8b")
        plain = _of_this_run((gzip.decompress(data) if zipped else data).decode(), products | {"o-1": orders[name]})
        message["data"] = base64.b64encode(gzip.compress(plain.encode()) if zipped else plain.encode()).decode()
        name_of_relay = stack.outputs["RelayRabbitMqFunctionName"]
        answer = stack.lambda_.invoke(FunctionName=name_of_relay, Payload=json.dumps(event).encode())
        assert json.loads(answer["Payload"].read()) == {"messages": 1}
    items = wait_for_orders(stack, list(orders.values()), seconds=SECONDS)
    return Sent(orders, products["print-30x40"], products["frame-oak"], items)


@pytest.mark.parametrize("name", [*SQS, *RABBITMQ])
def test_an_order_is_fulfilled_in_any_notation(sent: Sent, name: str) -> None:
    assert sent.items[sent.orders[name]]["state"] == "COMPLETED"


def test_each_is_fulfilled_once(stack: Stack, sent: Sent) -> None:
    counters = read_stock(stack, [sent.print, sent.frame])
    assert (counters[sent.print]["sold"], counters[sent.frame]["sold"]) == (len(sent.orders), 2 * len(sent.orders))


def test_a_dead_letter_and_its_redrive_keep_what_came_with_a_message(stack: Stack) -> None:
    # given a message with attributes, a message group and a trace
    (record,) = _load("order_attributes_lost_on_dead_letter")["Records"]
    order_id, queue_url = f"attr-{uuid4().hex}", stack.outputs["OrderQueueUrl"]
    body, trace = record["body"].replace("attr-1", order_id), "Root=1-5759e988-bd862e3fe1be46a994272793"
    attributes: dict[str, Any] = {
        name: {"DataType": value["dataType"], "StringValue": value["stringValue"]}
        for name, value in record["messageAttributes"].items()
    }
    stack.sqs.send_message(
        QueueUrl=queue_url,
        MessageBody=body,
        MessageAttributes=attributes,
        MessageGroupId="shop-de",
        MessageSystemAttributes={"AWSTraceHeader": {"DataType": "String", "StringValue": trace}},
    )
    # when it becomes a dead letter, and again after its redrive
    found: list[CameWith] = []

    def judge(letter: DeadLetter) -> HandOver | str:
        if letter.body != body:
            return "It belongs to another test."
        found.append(letter.came)
        return back_to(queue_url)(letter)

    redrive = Redrive(stack.sqs, stack.outputs[DEAD_LETTERS], judge)
    for _ in range(2):
        wait_for_dead_letter(stack, order_id, DEAD_LETTERS)
        redrive.move(redrive.plan(), Pace(100, monotonic, sleep), Moved())
    # then they are there
    assert len(found) == 4
    for came in found:
        assert came.attributes.keys() == attributes.keys() | {"error_code", "reason", "task_id"}
        assert (came.group_id, came.trace_header) == ("shop-de", trace)


def test_a_card_id_is_an_unknown_payment_method(stack: Stack) -> None:
    item = wait_for(stack, send(stack, order(new_product(stack, 5), payment_method="card_1abc")))
    assert (item["state"], item["rejection"]["code"]) == ("REJECTED", "PaymentDeclined")


def test_stock_written_as_text_is_the_operators_mistake(stack: Stack) -> None:
    # given
    product = f"print-{uuid4().hex}"
    record = {"product_id": {"S": product}, "available": {"S": "50"}}
    stack.dynamodb.put_item(TableName=stack.outputs["InventoryTableName"], Item=record)
    # when
    letter = wait_for_dead_letter(stack, send(stack, order(product)), DEAD_LETTERS)
    # then
    assert letter.error_code == "StockRecordInvalid"
    assert f"Product {product}: available is '50'" in letter.reason
    # and the order goes on as soon as the record is corrected
    set_stock(stack, {product: 50})
    assert wait_for(stack, send(stack, json.loads(letter.body), error_code=letter.error_code))["state"] == "COMPLETED"
