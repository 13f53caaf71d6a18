"""The event files: their shape, and the outcome of each message."""

from __future__ import annotations

import json
from base64 import b64decode
from typing import Any

import pytest
from aws_lambda_powertools.utilities.data_classes.rabbit_mq_event import RabbitMQEvent

from functions.relay_rabbitmq.deliveries import read_event
from functions.relay_rabbitmq.relay import Accepted, Target, Undeliverable, judge
from tests.unit.events import load_event
from tests.unit.relay_fakes import ROUTES

EVENTS = ["rabbitmq_image_tasks", "rabbitmq_orders", "rabbitmq_mixed", "rabbitmq_invalid"]

# https://docs.aws.amazon.com/lambda/latest/dg/with-mq.html
MODEL = json.loads(
    """
    {
      "eventSource": "aws:rmq",
      "eventSourceArn": "arn:aws:mq:us-west-2:111122223333:broker:pizzaBroker:b-9bcfa592-423a-4942-879d-eb284b418fc8",
      "rmqMessagesByQueue": {
        "pizzaQueue::/": [
          {
            "basicProperties": {
              "contentType": "text/plain",
              "contentEncoding": null,
              "headers": {
                "header1": {"bytes": [118, 97, 108, 117, 101, 49]},
                "header2": {"bytes": [118, 97, 108, 117, 101, 50]},
                "numberInHeader": 10
              },
              "deliveryMode": 1,
              "priority": 34,
              "correlationId": null,
              "replyTo": null,
              "expiration": "60000",
              "messageId": null,
              "timestamp": "Jan 1, 1970, 12:33:41 AM",
              "type": null,
              "userId": "AIDACKCEVSQ6C2EXAMPLE",
              "appId": null,
              "clusterId": null,
              "bodySize": 80
            },
            "redelivered": false,
            "data": "eyJ0aW1lb3V0IjowLCJkYXRhIjoiQ1pybWYwR3c4T3Y0YnFMUXhENEUifQ=="
          }
        ]
      }
    }
    """
)


def messages_of(event: dict[str, Any]) -> list[dict[str, Any]]:
    return [message for messages in event["rmqMessagesByQueue"].values() for message in messages]


def test_the_event_of_awss_documentation_is_read() -> None:
    (delivery,) = read_event(MODEL)
    assert (delivery.queue, delivery.message_id, delivery.content_encoding) == ("pizzaQueue::/", None, "")
    assert json.loads(delivery.text()) == {"timeout": 0, "data": "CZrmf0Gw8Ov4bqLQxD4E"}
    assert delivery.headers == {"header1": "value1", "header2": "value2", "numberInHeader": 10}


class TestTheEventFiles:
    @pytest.mark.parametrize("name", EVENTS)
    def test_have_the_fields_that_lambda_sends(self, name: str) -> None:
        event, (model,) = load_event(name), messages_of(MODEL)
        assert event.keys() == MODEL.keys()
        assert event["eventSource"] == "aws:rmq"
        assert all("::/" in queue for queue in event["rmqMessagesByQueue"])
        for message in messages_of(event):
            assert message.keys() == model.keys()
            assert message["basicProperties"].keys() == model["basicProperties"].keys()
            assert message["basicProperties"]["bodySize"] == len(b64decode(message["data"], validate=True))

    @pytest.mark.parametrize("name", EVENTS)
    def test_are_read_as_powertools_reads_them(self, name: str) -> None:
        event = load_event(name)
        theirs = [
            (queue, b64decode(message.data), message.basic_properties.message_id)
            for queue, messages in RabbitMQEvent(event).rmq_messages_by_queue.items()
            for message in messages
        ]
        assert [(ours.queue, ours.data, ours.message_id) for ours in read_event(event)] == theirs

    def test_cover_every_kind_of_message(self) -> None:
        messages = [message for name in EVENTS for message in messages_of(load_event(name))]
        assert {message["redelivered"] for message in messages} == {True, False}
        properties = [message["basicProperties"] for message in messages]
        assert {"gzip", "br", None} <= {each["contentEncoding"] for each in properties}
        assert None in [each["messageId"] for each in properties]
        assert None in [each["headers"] for each in properties]
        assert max(len(load_event(name)["rmqMessagesByQueue"]) for name in EVENTS) == 2


def judged(name: str) -> list[tuple[str, str]]:
    """For each message its id and where it goes: a target, or an error code."""
    outcomes = [judge(delivery, ROUTES) for delivery in read_event(load_event(name))]
    return [
        (outcome.task_id, outcome.target if isinstance(outcome, Accepted) else outcome.fault.error_code)
        for outcome in outcomes
    ]


class TestTheirMessages:
    def test_of_image_tasks_go_there(self) -> None:
        (first, target), (second, _), (event, _) = judged("rabbitmq_image_tasks")
        assert (first, second, target) == ("catalogue-4711", "catalogue-4712", Target.IMAGE_TASKS)
        assert event.startswith("rabbitmq-")
        assert {target for _, target in judged("rabbitmq_image_tasks")} == {Target.IMAGE_TASKS}

    def test_of_orders_go_there(self) -> None:
        assert judged("rabbitmq_orders") == [("order-4711", Target.ORDERS), ("order-4716", Target.ORDERS)]

    def test_of_one_batch_go_to_their_targets(self) -> None:
        assert [where for _, where in judged("rabbitmq_mixed")] == [
            Target.IMAGE_TASKS,
            "MalformedMessage",
            Target.ORDERS,
            "MalformedMessage",
        ]

    def test_that_are_invalid_are_each_dead_lettered(self) -> None:
        outcomes = [judge(delivery, ROUTES) for delivery in read_event(load_event("rabbitmq_invalid"))]
        reasons = [str(outcome.fault) for outcome in outcomes if isinstance(outcome, Undeliverable)]
        assert len(reasons) == len(outcomes) == 8
        assert len(set(reasons)) == 7, "only the empty one and the text are alike in not being JSON"
        assert {where for _, where in judged("rabbitmq_invalid")} == {"MalformedMessage"}

    def test_have_headers_that_can_be_read(self) -> None:
        first, *_ = read_event(load_event("rabbitmq_orders"))
        assert first.headers == {"source": "shop", "trace": {"parent": "00-4bf92f35-01", "flags": ["sampled", 1]}}
