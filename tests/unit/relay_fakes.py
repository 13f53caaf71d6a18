"""The relay's queues in memory, and events with RabbitMQ messages."""

from __future__ import annotations

import base64
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from botocore.exceptions import ClientError
from darkroom.errors import ServiceUnavailable
from mypy_boto3_sqs import SQSClient

from functions.relay_rabbitmq.deliveries import Delivery
from functions.relay_rabbitmq.relay import Target, Undeliverable

IMAGE_TASKS, ORDERS = "image-tasks::/", "orders::/"
ROUTES = {IMAGE_TASKS: Target.IMAGE_TASKS, ORDERS: Target.ORDERS}
LARGEST = 1_048_576


def delivery(
    body: str | bytes,
    queue: str = IMAGE_TASKS,
    *,
    message_id: str | None = None,
    encoding: str = "",
    headers: Mapping[str, Any] | None = None,
) -> Delivery:
    data = body.encode() if isinstance(body, str) else body
    return Delivery(queue, data, encoding, message_id, headers or {})


def event_message(body: str | bytes, *, redelivered: bool = False, **properties: Any) -> dict[str, Any]:
    """One message as it stands in the event; ``properties`` such as ``messageId``."""
    data = body.encode() if isinstance(body, str) else body
    return {
        "basicProperties": {"messageId": None, "contentEncoding": None, "headers": {}, **properties},
        "redelivered": redelivered,
        "data": base64.b64encode(data).decode(),
    }


def event_of(queues: Mapping[str, Any]) -> dict[str, Any]:
    return {"eventSource": "aws:rmq", "eventSourceArn": "arn:aws:mq:...", "rmqMessagesByQueue": dict(queues)}


@dataclass
class FakeQueues:
    """Takes every body but the ``refused``; a target of ``down`` takes two of them and fails."""

    bodies: dict[Target, list[str]] = field(default_factory=lambda: defaultdict(list))
    refused: dict[str, str] = field(default_factory=dict)
    down: set[Target] = field(default_factory=set)

    def offer(self, target: Target, bodies: Iterable[str]) -> list[tuple[str, str]]:
        offered = list(bodies)
        taken = [body for body in offered if body not in self.refused]
        self.bodies[target] += taken[:2] if target in self.down else taken
        if target in self.down:
            raise ServiceUnavailable(f"{target} is down")
        return [(body, self.refused[body]) for body in offered if body in self.refused]


@dataclass
class FakeDeadLetterQueue:
    """Keeps what is moved to the dead-letter queue, unless it is down."""

    kept: list[Undeliverable] = field(default_factory=list)
    down: bool = False

    def send(self, undeliverable: Undeliverable) -> None:
        if self.down:
            raise ServiceUnavailable("the dead-letter queue is down")
        self.kept.append(undeliverable)


@dataclass(frozen=True)
class SentMessage:
    """A message in a queue."""

    body: str
    attributes: Mapping[str, str]


_NO_TROUBLE: Iterator[str] = iter(())


@dataclass
class StrictSqs:
    """SQS with its documented limits, which not every emulator has.

    ``troubles`` says for each call, and each entry of a call, what goes wrong: "refused", "answer lost" or nothing.
    """

    troubles: Iterator[str] = _NO_TROUBLE
    queues: dict[str, list[SentMessage]] = field(default_factory=lambda: defaultdict(list))

    @property
    def client(self) -> SQSClient:
        return cast(SQSClient, self)

    def send_message(
        self,
        *,
        QueueUrl: str,  # noqa: N803
        MessageBody: str,  # noqa: N803
        MessageAttributes: Mapping[str, Mapping[str, str]],  # noqa: N803
    ) -> None:
        attributes = {name: value["StringValue"] for name, value in MessageAttributes.items()}
        assert len(attributes) <= 10
        assert all(re.fullmatch(r"[A-Za-z0-9_.-]{1,256}", name) for name in attributes)
        _check(MessageBody, *attributes.values())
        size = sum(len(f"{name}String{value}".encode()) for name, value in attributes.items())
        assert len(MessageBody.encode()) + size <= LARGEST
        trouble = next(self.troubles, "")
        if trouble != "refused":
            self.queues[QueueUrl].append(SentMessage(MessageBody, attributes))
        if trouble:
            raise _unavailable()

    def send_message_batch(self, *, QueueUrl: str, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803
        assert 1 <= len(Entries) <= 10
        _check(*(entry["MessageBody"] for entry in Entries))
        assert sum(len(entry["MessageBody"].encode()) for entry in Entries) <= LARGEST
        trouble = next(self.troubles, "")
        if trouble == "refused":
            raise _unavailable()
        failed = []
        for entry in Entries:
            if next(self.troubles, "") == "refused":
                failed.append({"Id": entry["Id"], "Code": "InternalError", "SenderFault": False})
            else:
                self.queues[QueueUrl].append(SentMessage(entry["MessageBody"], {}))
        if trouble:
            raise _unavailable()
        return {"Failed": failed}


def _unavailable() -> ClientError:
    return ClientError({"Error": {"Code": "ServiceUnavailable", "Message": "try again"}}, "SendMessage")


def _check(*texts: str) -> None:
    for text in texts:
        assert text, "SQS takes nothing empty"
        assert not re.search("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", text), "XML has no such characters"


def put_together(messages: Iterable[SentMessage]) -> set[tuple[str, str, bytes]]:
    """Each undeliverable message once, however often its parts came: its task id, error code and original body."""
    parts: dict[tuple[str, str, str], dict[int, SentMessage]] = defaultdict(dict)
    for message in messages:
        number, of = message.attributes.get("part", f"1/1 of {message.body}").split("/", 1)
        parts[message.attributes["task_id"], message.attributes["error_code"], of][int(number)] = message
    whole = set()
    for (task_id, error_code, of), numbered in parts.items():
        assert sorted(numbered) == list(range(1, int(of.split(" of ", 1)[0]) + 1)), "a part is missing"
        text = "".join(numbered[number].body for number in sorted(numbered))
        match numbered[1].attributes.get("body_encoding"):
            case "empty":
                data = b""
            case "base64":
                data = base64.b64decode(text, validate=True)
            case _:
                data = text.encode()
        whole.add((task_id, error_code, data))
    return whole
