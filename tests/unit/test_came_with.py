"""A dead letter keeps a message's attributes, and a redrive restores them."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from darkroom.came_with import (
    CameWith,
    from_lambda,
    from_sqs,
    given_back,
    is_redriven,
    packed,
    producers,
    size_of,
    with_ours,
    working_on,
)
from darkroom.dead_letters import SqsDeadLetters
from darkroom.errors import MalformedMessage
from hypothesis import given
from hypothesis import strategies as st

OURS = {"error_code": "MalformedMessage", "reason": "It is not an order.", "task_id": "o-1"}
NAMES = st.sampled_from(["tenant", "error_code", "reason", "task_id", "dead_letter"]) | st.text("abc", min_size=1)
VALUES = st.builds(
    lambda kind, text: {"DataType": kind, "StringValue": text},
    st.sampled_from(["String", "Number.int"]),
    st.text("1") | st.just("Timeout"),
) | st.builds(lambda data: {"DataType": "Binary", "BinaryValue": data}, st.binary(min_size=1))
CAME = st.dictionaries(NAMES, VALUES, max_size=10)


@given(CAME)
def test_a_dead_letter_keeps_the_attributes_and_a_redrive_restores_them(came: dict[str, Any]) -> None:
    letter = with_ours(came, OURS)
    assert len(letter) <= 10
    assert is_redriven(letter)
    held = packed(letter)
    for name, value in OURS.items():
        assert held.get(name, letter.get(name, {}).get("StringValue")) == value
    assert producers(letter) == came
    redriven = given_back(producers(letter), "MalformedMessage")
    assert len(redriven) <= 10
    assert is_redriven(redriven)
    assert producers(redriven) == came
    assert producers(with_ours(producers(redriven), OURS)) == came, "it fails once more"


@pytest.mark.parametrize(("count", "by_name"), [(7, 7), (8, 8), (9, 9), (10, 9)])
def test_as_many_attributes_as_fit_stay_under_their_names(count: int, by_name: int) -> None:
    came = {f"name-{number}": {"DataType": "String", "StringValue": "v"} for number in range(count)}
    letter = with_ours(came, OURS)
    assert len(came.keys() & letter.keys()) == by_name
    assert ("error_code" in letter) == (count <= 7)


@pytest.mark.parametrize("value", ["404", "Timeout", ""])
def test_a_producers_error_code_does_not_mark_a_dead_letter(value: str) -> None:
    assert not is_redriven({"error_code": {"DataType": "String", "StringValue": value}})


def test_lambda_and_sqs_spell_the_same_differently() -> None:
    record = {
        "messageAttributes": {
            "a": {"stringValue": "x", "dataType": "String", "stringListValues": [], "binaryListValues": []},
            "b": {"binaryValue": base64.b64encode(b"\0").decode(), "dataType": "Binary"},
        },
        "attributes": {"MessageGroupId": "g", "AWSTraceHeader": "Root=1"},
    }
    message = {
        "MessageAttributes": {
            "a": {"StringValue": "x", "DataType": "String"},
            "b": {"BinaryValue": b"\0", "DataType": "Binary"},
        },
        "Attributes": {"MessageGroupId": "g", "AWSTraceHeader": "Root=1"},
    }
    assert from_lambda(record) == from_sqs(message)
    assert from_lambda(record).system_parameters() == {
        "MessageGroupId": "g",
        "MessageSystemAttributes": {"AWSTraceHeader": {"DataType": "String", "StringValue": "Root=1"}},
    }


class Sent:
    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []

    def send_message(self, **message: Any) -> None:
        self.messages.append(message)


@pytest.mark.parametrize("room", [0, 150, 1200])
def test_near_the_size_limit_the_reason_is_shortened(room: int) -> None:
    sqs, body = Sent(), "x" * (1_048_576 - 120 - room)
    with working_on(CameWith({"tenant": {"DataType": "String", "StringValue": "shop-de"}}, group_id="g")):
        SqsDeadLetters(sqs, "url").send(body, "o-1", MalformedMessage("ä" * 1000))  # type: ignore[arg-type]
    (message,) = sqs.messages
    assert message["MessageBody"] == body
    assert message["MessageGroupId"] == "g"
    assert {"tenant", "error_code", "reason", "task_id"} == message["MessageAttributes"].keys()
    assert len(body) + size_of(message["MessageAttributes"]) <= 1_048_576


def test_other_json_under_darkrooms_name_belongs_to_the_producer() -> None:
    came = {"dead_letter": {"DataType": "String", "StringValue": json.dumps([1])}}
    assert producers(with_ours(came, OURS)) == came
