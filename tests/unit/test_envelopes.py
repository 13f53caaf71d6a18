"""An order or an image task in any envelope is the same as without."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from darkroom import image_messages, order_messages
from darkroom.envelopes import open_body
from darkroom.errors import MalformedMessage
from darkroom.image_messages import ImageTask
from darkroom.messages import Unreadable
from darkroom.order_messages import OrderTask
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.events import body_of

ORDER, TASK = body_of("order_good"), body_of("sqs_plain_task")


def byte_order_mark(body: str) -> str:
    return "\ufeff" + body


def sns(body: str) -> str:
    return json.dumps({"Type": "Notification", "MessageId": "m", "TopicArn": "arn:aws:sns:::t", "Message": body})


def eventbridge(body: str) -> str:
    return json.dumps({"version": "0", "detail-type": "Placed", "source": "shop", "detail": json.loads(body)})


def eventbridge_text(body: str) -> str:
    return json.dumps({"version": "0", "detail-type": "Placed", "source": "shop", "detail": body})


def unused_lone_surrogate(body: str) -> str:
    return json.dumps(json.loads(body) | {"note \ud800": "\udfff"})


WRAPPERS: list[Callable[[str], str]] = [byte_order_mark, sns, eventbridge_text]


@given(st.lists(st.sampled_from(WRAPPERS), max_size=5))
def test_a_message_is_the_same_in_any_envelope(wrappers: list[Callable[[str], str]]) -> None:
    order, task = unused_lone_surrogate(ORDER), TASK
    for wrap in wrappers:
        order, task = wrap(order), wrap(task)
    (read_order,), (read_task,) = order_messages.read_body(order), image_messages.read_body(task)
    assert isinstance(read_order, OrderTask)
    assert isinstance(read_task, ImageTask)
    assert (read_order.task_id, read_task.task_id) == ("order-4711", "catalogue-4711")
    assert (read_order.body, read_task.body) == (order, task), "a dead letter keeps what came"


def test_the_detail_of_an_eventbridge_event_is_the_message() -> None:
    assert json.loads(open_body(sns(eventbridge(ORDER))).text) == json.loads(ORDER)


@pytest.mark.parametrize("name", ["sqs_s3", "sqs_sns", "sqs_eventbridge"])
def test_an_event_of_s3_stays_an_event_of_s3_in_an_envelope(name: str) -> None:
    (task,) = image_messages.read_body(sns(body_of(name)))
    assert isinstance(task, ImageTask)


def wrapped(times: int) -> str:
    body = ORDER
    for _ in range(times):
        body = eventbridge_text(body) if times % 2 else json.dumps({"detail-type": "", "source": "", "detail": body})
    return body


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (json.dumps(ORDER), "The body is a JSON string that holds JSON: it was encoded twice"),
        (json.dumps(json.dumps(ORDER)), "it was encoded twice"),
        (json.dumps("\ufeff" + ORDER), "it was encoded twice"),
        (sns(json.dumps(ORDER)), "The SNS notification's Message is a JSON string that holds JSON"),
        (sns("hello"), "The SNS notification's Message is not JSON"),
        (json.dumps({"Type": "SubscriptionConfirmation", "TopicArn": "t"}), "SubscriptionConfirmation"),
        (wrapped(7), "inside more than 5 envelopes"),
        ("[" * 100_000, "nested too deeply"),
    ],
    ids=range(8),
)
@pytest.mark.parametrize("read", [order_messages.read_body, image_messages.read_body])
def test_an_unreadable_envelope_has_a_reason(read: Callable[[str], list[Any]], body: str, reason: str) -> None:
    (unreadable,) = read(body)
    assert reason in str(unreadable.fault)
    assert isinstance(unreadable.fault, MalformedMessage)
    assert unreadable.body == body


def test_a_lone_surrogate_in_a_used_field_is_named() -> None:
    (unreadable,) = order_messages.read_body(json.dumps(json.loads(ORDER) | {"customer_email": "a\ud800@b.example"}))
    assert isinstance(unreadable, Unreadable)
    assert "customer_email: contains a lone surrogate" in str(unreadable.fault)
