"""The relay's queues, with SQS in memory."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from hashlib import sha256

import boto3
import pytest
from botocore.stub import Stubber
from darkroom.errors import MalformedMessage, NotAcceptedBySqs, ServiceUnavailable, TooLarge
from hypothesis import given
from hypothesis import strategies as st
from moto import mock_aws
from mypy_boto3_sqs import SQSClient

from functions.relay_rabbitmq.deliveries import Delivery
from functions.relay_rabbitmq.relay import Target, Undeliverable
from functions.relay_rabbitmq.sqs import SqsDeadLetterQueue, SqsQueues
from tests.unit.relay_fakes import IMAGE_TASKS, SentMessage, StrictSqs, delivery, put_together

REGION = "eu-central-1"


@pytest.fixture
def sqs() -> Iterator[SQSClient]:
    with mock_aws():
        yield boto3.client("sqs", region_name=REGION)


@pytest.fixture
def queue_url(sqs: SQSClient) -> str:
    return sqs.create_queue(QueueName="dead-letters")["QueueUrl"]


def received(sqs: SQSClient, queue_url: str) -> list[SentMessage]:
    found: list[SentMessage] = []
    while messages := sqs.receive_message(
        QueueUrl=queue_url, MessageAttributeNames=["All"], MaxNumberOfMessages=10
    ).get("Messages"):
        for message in messages:
            attributes = message.get("MessageAttributes", {})
            found.append(SentMessage(message["Body"], {n: v["StringValue"] for n, v in attributes.items()}))
    return found


def undeliverable(found: Delivery) -> Undeliverable:
    return Undeliverable(found, "task-1", MalformedMessage("it is a text"))


class TestAnUndeliverableMessage:
    def test_carries_its_reason_and_where_it_came_from(self, sqs: SQSClient, queue_url: str) -> None:
        found = delivery("Käthe", headers={"source": "shop", "n": 1})
        SqsDeadLetterQueue(sqs, queue_url).send(undeliverable(found))
        (message,) = received(sqs, queue_url)
        assert message.body == "Käthe"
        assert message.attributes == {
            "error_code": "MalformedMessage",
            "reason": "it is a text",
            "task_id": "task-1",
            "properties": '{"content_type": "", "message_id": ""}',
            "queue": IMAGE_TASKS,
            "headers": '{"source": "shop", "n": 1}',
        }

    @pytest.mark.parametrize(
        "data", [b"\xff\0", b"a\0b", "\ufffe".encode(), b"\xed\xa0\x80", b"\x1b[1m"], ids=lambda data: data.hex()
    )
    def test_is_base64_if_sqs_does_not_accept_its_characters(self, sqs: SQSClient, queue_url: str, data: bytes) -> None:
        SqsDeadLetterQueue(sqs, queue_url).send(undeliverable(delivery(data)))
        (message,) = received(sqs, queue_url)
        assert message.attributes["body_encoding"] == "base64"
        assert base64.b64decode(message.body) == data

    def test_that_was_packed_is_kept_packed(self, sqs: SQSClient, queue_url: str) -> None:
        SqsDeadLetterQueue(sqs, queue_url).send(undeliverable(delivery(b"\x1f\x8b", encoding="gzip")))
        (message,) = received(sqs, queue_url)
        assert (message.attributes["content_encoding"], message.attributes["body_encoding"]) == ("gzip", "base64")
        assert put_together([message]) == {("task-1", "MalformedMessage", b"\x1f\x8b")}

    def test_that_is_empty_says_so(self, sqs: SQSClient, queue_url: str) -> None:
        SqsDeadLetterQueue(sqs, queue_url).send(undeliverable(delivery(b"")))
        (message,) = received(sqs, queue_url)
        assert (message.body, message.attributes["body_encoding"]) == ("(empty)", "empty")

    @pytest.mark.parametrize(
        "data", ["Käthe 写真".encode() * 220_000, bytes(range(256)) * 12_000], ids=["text", "bytes"]
    )
    def test_of_3_mb_comes_in_parts(self, sqs: SQSClient, queue_url: str, data: bytes) -> None:
        # when it is moved to the dead-letter queue, and again because something else in its batch failed
        for _ in range(2):
            SqsDeadLetterQueue(sqs, queue_url).send(Undeliverable(delivery(data), "task-1", TooLarge("too large")))
        # then
        messages = received(sqs, queue_url)
        count = len(messages) // 2
        parts = {message.attributes["part"] for message in messages}
        assert parts == {f"{number}/{count} of {sha256(data).hexdigest()}" for number in range(1, count + 1)}
        assert put_together(messages) == {("task-1", "TooLarge", data)}

    def test_differs_from_another_with_the_same_id_even_in_parts(self, sqs: SQSClient, queue_url: str) -> None:
        bodies = {bytes([letter]) * 1_500_000 for letter in b"ab"}
        for data in bodies:
            SqsDeadLetterQueue(sqs, queue_url).send(undeliverable(delivery(data)))
        assert {data for _, _, data in put_together(received(sqs, queue_url))} == bodies


class TestTheLimitsOfSqs:
    @staticmethod
    def sent(undeliverable: Undeliverable) -> list[SentMessage]:
        sqs = StrictSqs()
        SqsDeadLetterQueue(sqs.client, "dead-letters").send(undeliverable)
        return sqs.queues["dead-letters"]

    def test_are_kept_by_a_message_with_as_much_as_possible_of_everything(self) -> None:
        found = Delivery(
            "写" * 5000,
            bytes(2_000_000),
            "写" * 5000,
            "\x01" * 5000,
            {"写": "写" * 160, "写" * 5000: ""},
            "\x01" * 5000,
        )
        messages = self.sent(Undeliverable(found, "x" * 200, NotAcceptedBySqs("写" * 5000)))
        assert {len(message.attributes) for message in messages} == {9}
        assert {data for _, _, data in put_together(messages)} == {found.data}

    @pytest.mark.parametrize("size", [1_000_000, 1_040_383, 1_040_384, 1_040_385, 2_080_768])
    def test_are_kept_by_every_part_and_no_character_is_cut(self, size: int) -> None:
        for character in ("x", "ä", "写", "🎞"):
            data = ("." * (size % 7) + character * (size // len(character.encode()) + 1)).encode()[:size]
            messages = self.sent(undeliverable(delivery(data)))
            assert {found for _, _, found in put_together(messages)} == {data}

    @given(
        queue=st.text(),
        data=st.binary(max_size=50) | st.text().map(str.encode),
        encoding=st.text(),
        reason=st.text(st.characters()),
        headers=st.dictionaries(st.text(st.characters()), st.text(st.characters()) | st.floats() | st.none()),
    )
    def test_are_kept_for_any_message(
        self, queue: str, data: bytes, encoding: str, reason: str, headers: dict[str, object]
    ) -> None:
        found = Delivery(queue, data, encoding, None, headers)
        messages = self.sent(Undeliverable(found, "task-1", MalformedMessage(reason)))
        assert put_together(messages) == {("task-1", "MalformedMessage", data)}

    def test_leave_out_headers_that_are_too_long_and_count_them(self) -> None:
        headers = {"first": "a", "long": "ä" * 50_000, "last": ["b", 1]}
        (message,) = self.sent(undeliverable(delivery("x", headers=headers)))
        told = json.loads(message.attributes["headers"])
        assert told == {"first": "a", "last": ["b", 1], "(left out)": "1 headers"}


def test_an_error_of_the_dead_letter_queue_is_a_transient_fault() -> None:
    client = boto3.client("sqs", region_name=REGION)
    with Stubber(client) as stub:
        stub.add_client_error("send_message", "ServiceUnavailable")
        with pytest.raises(ServiceUnavailable, match="send the dead letter"):
            SqsDeadLetterQueue(client, "https://queue").send(undeliverable(delivery("x")))


class TestTheTargets:
    def test_have_a_queue_each(self, sqs: SQSClient) -> None:
        urls = {target: sqs.create_queue(QueueName=target)["QueueUrl"] for target in Target}
        queues = SqsQueues(sqs, urls)
        assert queues.offer(Target.IMAGE_TASKS, [f"task {n}" for n in range(11)]) == []
        assert queues.offer(Target.ORDERS, ["order"]) == []
        assert sorted(m.body for m in received(sqs, urls[Target.IMAGE_TASKS])) == sorted(f"task {n}" for n in range(11))
        assert [m.body for m in received(sqs, urls[Target.ORDERS])] == ["order"]

    def test_get_the_others_next_to_a_message_that_is_too_large(self, sqs: SQSClient) -> None:
        url = sqs.create_queue(QueueName="small", Attributes={"MaximumMessageSize": "1024"})["QueueUrl"]
        refused = SqsQueues(sqs, {Target.ORDERS: url}).offer(Target.ORDERS, ["a", "x" * 1025, "b"])
        assert [body for body, _ in refused] == ["x" * 1025]
        assert "shorter than 1024 bytes" in refused[0][1]
        assert sorted(message.body for message in received(sqs, url)) == ["a", "b"]
