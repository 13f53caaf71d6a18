"""Queues in memory with the behaviour of SQS, and a process that may die, or lose the network, at any call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from botocore.exceptions import EndpointConnectionError
from mypy_boto3_sqs import SQSClient


class Killed(BaseException):
    """The process is gone: it makes no further call."""


@dataclass
class QueuedMessage:
    """A message in a queue."""

    message_id: str
    body: str
    attributes: Mapping[str, Any]
    visible_at: float = 0
    receipt_handle: str = ""


@dataclass
class FakeQueues:
    """SQS with a clock that moves by ``seconds_per_call``, and by what sleeps and empty receives wait.

    ``dies_at`` is the number of the call at which the process dies, before it has an effect or after; with
    ``only_network`` it is the network that is lost for good, and the process lives.
    """

    queues: dict[str, list[QueuedMessage]] = field(default_factory=dict)
    now: float = 1000.0
    seconds_per_call: float = 0.01
    dies_at: int = -1
    dies_after_effect: bool = False
    only_network: bool = False
    calls: list[str] = field(default_factory=list)
    refuses: dict[str, str] = field(default_factory=dict)
    keeps_deleted: set[str] = field(default_factory=set)
    _dead: bool = False
    _number: int = 0

    @property
    def client(self) -> SQSClient:
        return cast(SQSClient, self)

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def put(self, queue: str, body: str, error_code: str = "", **attributes: str) -> str:
        texts = ({"error_code": error_code, "reason": f"why {error_code}"} if error_code else {}) | attributes
        self._number += 1
        message = QueuedMessage(
            f"id-{self._number}", body, {n: {"DataType": "String", "StringValue": v} for n, v in texts.items()}
        )
        self.queues.setdefault(queue, []).append(message)
        return message.message_id

    def bodies(self, queue: str) -> list[str]:
        return [message.body for message in self.queues.get(queue, [])]

    def visible(self, queue: str) -> list[QueuedMessage]:
        return [message for message in self.queues.get(queue, []) if message.visible_at <= self.now]

    def restart(self) -> None:
        """Another process, with a network; what the last one hid shows again."""
        self._dead, self.dies_at = False, -1
        self.now += 50_000

    def _call(self, name: str, effect: Any) -> Any:
        if self._dead:
            raise self._death()
        number = len(self.calls)
        self.calls.append(name)
        self.now += self.seconds_per_call
        self._dead = number == self.dies_at
        if self._dead and not self.dies_after_effect:
            raise self._death()
        answer = effect()
        if self._dead:
            raise self._death()
        return answer

    def _death(self) -> BaseException:
        return EndpointConnectionError(endpoint_url="https://sqs") if self.only_network else Killed()

    def get_queue_attributes(self, *, QueueUrl: str, AttributeNames: list[str]) -> Any:  # noqa: N803
        visible = len(self.visible(QueueUrl))
        counts = {
            "ApproximateNumberOfMessages": str(visible),
            "ApproximateNumberOfMessagesNotVisible": str(len(self.queues.get(QueueUrl, [])) - visible),
            "ApproximateNumberOfMessagesDelayed": "0",
            "MaximumMessageSize": "1048576",
        }
        return self._call("count", lambda: {"Attributes": counts})

    def receive_message(
        self,
        *,
        QueueUrl: str,  # noqa: N803
        VisibilityTimeout: int,  # noqa: N803
        WaitTimeSeconds: int,  # noqa: N803
        MaxNumberOfMessages: int,  # noqa: N803
        **_: Any,
    ) -> Any:
        def effect() -> Any:
            found = self.visible(QueueUrl)[:MaxNumberOfMessages]
            if not found:
                self.now += WaitTimeSeconds
                return {}
            for message in found:
                message.visible_at = self.now + VisibilityTimeout
                message.receipt_handle = f"{message.message_id}@{self.now}"
            # A queue keeps no order; what was received last comes last.
            self.queues[QueueUrl].sort(key=lambda message: message.visible_at)
            return {
                "Messages": [
                    {
                        "MessageId": message.message_id,
                        "ReceiptHandle": message.receipt_handle,
                        "Body": message.body,
                        "Attributes": {"SentTimestamp": "1000"},
                        "MessageAttributes": dict(message.attributes),
                    }
                    for message in found
                ]
            }

        return self._call("receive", effect)

    def change_message_visibility_batch(self, *, QueueUrl: str, Entries: list[dict[str, Any]]) -> Any:  # noqa: N803
        def effect() -> Any:
            handles = {entry["ReceiptHandle"]: entry["VisibilityTimeout"] for entry in Entries}
            for message in self.queues[QueueUrl]:
                if message.receipt_handle in handles:
                    message.visible_at = self.now + handles[message.receipt_handle]
            return {}

        assert 1 <= len(Entries) <= 10
        return self._call("show", effect)

    def delete_message_batch(self, *, QueueUrl: str, Entries: list[dict[str, Any]]) -> Any:  # noqa: N803
        def effect() -> Any:
            handles = {entry["ReceiptHandle"]: entry["Id"] for entry in Entries}
            kept = [m for m in self.queues[QueueUrl] if m.receipt_handle in handles and m.body in self.keeps_deleted]
            self.queues[QueueUrl] = [m for m in self.queues[QueueUrl] if m.receipt_handle not in handles or m in kept]
            return {"Failed": [{"Id": handles[m.receipt_handle], "Code": "InternalError"} for m in kept]}

        assert 1 <= len(Entries) <= 10
        return self._call("delete", effect)

    def send_message_batch(self, *, QueueUrl: str, Entries: list[dict[str, Any]]) -> Any:  # noqa: N803
        def effect() -> Any:
            failed = []
            for entry in Entries:
                if code := self.refuses.get(entry["MessageBody"]):
                    failed.append({"Id": entry["Id"], "Code": code, "SenderFault": True})
                    continue
                self.put(QueueUrl, entry["MessageBody"])
                self.queues[QueueUrl][-1].attributes = entry.get("MessageAttributes", {})
            return {"Failed": failed}

        assert 1 <= len(Entries) <= 10
        return self._call("send", effect)
