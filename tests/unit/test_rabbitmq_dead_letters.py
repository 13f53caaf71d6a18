"""A redrive checks dead letters by the relay's rules, with the current routes of the deployed relay."""

from __future__ import annotations

import gzip
import json

import pytest
from darkroom.came_with import CameWith
from darkroom.errors import MalformedMessage

from functions.relay_rabbitmq.deliveries import Delivery
from functions.relay_rabbitmq.relay import Accepted, Target, Undeliverable, judge
from functions.relay_rabbitmq.settings import Settings
from functions.relay_rabbitmq.sqs import SqsDeadLetterQueue
from operations.dead_letters import DeadLetter
from operations.rabbitmq_dead_letters import judge_again
from operations.redrive import HandOver
from tests.unit.relay_fakes import IMAGE_TASKS, ORDERS, ROUTES, StrictSqs, delivery

SETTINGS = Settings(ROUTES, {Target.IMAGE_TASKS: "image-tasks-url", Target.ORDERS: "orders-url"}, "dead-letters-url")
TASK = json.dumps({"bucket": "uploads", "key": "a.jpg", "version_id": "v-1"})


def undeliverable(found: Delivery) -> list[DeadLetter]:
    """As the relay puts it on the dead-letter queue, when it has no routes."""
    sqs = StrictSqs()
    outcome = judge(found, {})
    assert isinstance(outcome, Undeliverable)
    SqsDeadLetterQueue(sqs.client, "dead-letters").send(outcome)
    return [
        DeadLetter(
            "id", m.body, 0, CameWith({n: {"DataType": "String", "StringValue": v} for n, v in m.attributes.items()})
        )
        for m in sqs.queues["dead-letters"]
    ]


@pytest.mark.parametrize(
    "found",
    [
        delivery(TASK),
        delivery(TASK, message_id="m-1"),
        delivery(json.dumps({"task_id": "t-1", "bucket": "uploads", "key": "a.jpg"}), message_id="m-1"),
        delivery(gzip.compress(TASK.encode(), mtime=0), encoding="gzip"),
        delivery(TASK.ljust(1_040_300), message_id="m-1", headers={"producer": "shop"}),
    ],
    ids=["without an id", "with a message id", "with an id of its own", "packed", "near the size limit"],
)
def test_a_message_with_a_new_route_is_sent_as_by_the_relay(found: Delivery) -> None:
    (letter,) = undeliverable(found)
    as_by_the_relay = judge(found, ROUTES)
    assert isinstance(as_by_the_relay, Accepted)
    handed_over = judge_again(SETTINGS)(letter)
    assert isinstance(handed_over, HandOver)
    assert handed_over.queue_url == "image-tasks-url"
    assert handed_over.message.body == as_by_the_relay.body
    assert handed_over.message.attributes == {}  # no function has seen it: it was never a dead letter


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (delivery(TASK, queue="others::/"), "NoRoute: Nothing says where messages of others::/ go"),
        (delivery("rubbish", queue=ORDERS), "MalformedMessage: The body is not JSON"),
        (delivery(b"[\xff", queue=IMAGE_TASKS), "MalformedMessage: The body is not UTF-8"),
        (delivery(b"", queue=IMAGE_TASKS), "MalformedMessage"),
    ],
    ids=["no route", "no order", "no text", "empty"],
)
def test_a_message_that_would_fail_again_stays_with_its_reason(found: Delivery, reason: str) -> None:
    (letter,) = undeliverable(found)
    stays = judge_again(SETTINGS)(letter)
    assert isinstance(stays, str)
    assert stays.startswith(reason)


def test_a_message_in_parts_stays() -> None:
    sqs = StrictSqs()
    SqsDeadLetterQueue(sqs.client, "dead-letters").send(
        Undeliverable(delivery("x" * 1_500_000), "t-1", MalformedMessage("no"))
    )
    part = sqs.queues["dead-letters"][1]
    attributes = {n: {"DataType": "String", "StringValue": v} for n, v in part.attributes.items()}
    stays = judge_again(SETTINGS)(DeadLetter("id", part.body, 0, CameWith(attributes)))
    assert isinstance(stays, str)
    assert stays.startswith("It is part 2/2 of a message too large for SQS")
