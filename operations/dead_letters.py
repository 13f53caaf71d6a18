"""Read the messages of a dead-letter queue, and delete those that have been sent elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError
from darkroom import came_with
from darkroom.came_with import CameWith

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import MessageTypeDef

_ENTRIES_PER_CALL = 10


@dataclass(frozen=True)
class DeadLetter:
    """A message that was moved to the dead-letter queue.

    Attributes
    ----------
    sent:
        Seconds since the epoch. For a message that SQS moved itself: when it was first sent.
    """

    message_id: str
    body: str
    sent: float
    came: CameWith = field(default_factory=CameWith)

    def text(self, attribute: str) -> str:
        """One of Darkroom's attributes; empty if there is none."""
        held = came_with.packed(self.came.attributes)
        if attribute in held:
            return str(held[attribute])
        return str(self.came.attributes.get(attribute, {}).get("StringValue", ""))

    @property
    def error_code(self) -> str:
        """Why it is here. Empty if SQS moved it itself, because the function died or a reader gave up."""
        return self.text(came_with.ERROR_CODE) if came_with.is_redriven(self.came.attributes) else ""

    @property
    def reason(self) -> str:
        """The reason in words."""
        return self.text("reason")


@dataclass
class QueueScan:
    """A scan of a queue: it reads every message once, hides it meanwhile, and makes it visible again at the end.

    Parameters
    ----------
    hidden_for:
        Seconds until messages become visible again if this process is killed. A message that becomes visible
        during the scan is recognised by its id.
    patience:
        How many empty receives end the scan. Another reader may hide messages for a while.
    wait:
        Seconds of long polling, at least 1: SQS asks all of its servers only then.
    is_over:
        Called before each request, so that the user can end the scan.
    """

    sqs: SQSClient
    queue_url: str
    hidden_for: int
    patience: int = 1
    wait: int = 1
    is_over: Callable[[], bool] = lambda: False
    _hidden: dict[str, str] = field(default_factory=dict)  # receipt handle by message id
    _gone: set[str] = field(default_factory=set)

    def __enter__(self) -> QueueScan:
        """Begin."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Make hidden messages visible again. If that fails, SQS does it after the visibility timeout."""
        for handles in _tens(self._hidden.values()):
            try:
                self.sqs.change_message_visibility_batch(
                    QueueUrl=self.queue_url,
                    Entries=[
                        {"Id": str(number), "ReceiptHandle": handle, "VisibilityTimeout": 0}
                        for number, handle in enumerate(handles)
                    ],
                )
            except (ClientError, BotoCoreError):
                return

    def letters(self) -> Iterator[list[DeadLetter]]:
        """Read up to ten messages at a time, until all were seen. Raises ClientError, BotoCoreError."""
        nothing = again = 0
        while nothing < self.patience and again <= len(self._hidden) and not self.is_over():
            received = self.sqs.receive_message(
                QueueUrl=self.queue_url,
                MaxNumberOfMessages=_ENTRIES_PER_CALL,
                VisibilityTimeout=self.hidden_for,
                WaitTimeSeconds=self.wait,
                MessageAttributeNames=["All"],
                MessageSystemAttributeNames=["SentTimestamp", "MessageGroupId", "AWSTraceHeader"],
            ).get("Messages", [])
            new = [m for m in received if m["MessageId"] not in self._hidden and m["MessageId"] not in self._gone]
            self._hidden |= {message["MessageId"]: message["ReceiptHandle"] for message in received}
            # SQS delivers at least once: a deleted message may arrive again.
            self.delete([message["MessageId"] for message in received if message["MessageId"] in self._gone])
            nothing = 0 if received else nothing + 1
            # Messages become visible again. When as many repeats as messages arrived, nothing new is left.
            again = 0 if new else again + len(received)
            if new:
                yield [_letter(message) for message in new]

    def delete(self, message_ids: Sequence[str]) -> int:
        """Delete messages that were seen; returns how many SQS did not delete.

        Raises ClientError, BotoCoreError.
        """
        self._gone |= set(message_ids)
        left = 0
        for some in _tens(message_ids):
            handles = [self._hidden.pop(message_id) for message_id in some]
            answer = self.sqs.delete_message_batch(
                QueueUrl=self.queue_url,
                Entries=[{"Id": str(number), "ReceiptHandle": handle} for number, handle in enumerate(handles)],
            )
            left += len(answer.get("Failed", []))
        return left


def _letter(message: MessageTypeDef) -> DeadLetter:
    return DeadLetter(
        message_id=message["MessageId"],
        body=message["Body"],
        sent=int(message.get("Attributes", {}).get("SentTimestamp", 0)) / 1000,
        came=came_with.from_sqs(message),
    )


def _tens(values: Iterable[str]) -> Iterator[list[str]]:
    coming = iter(values)
    while some := list(islice(coming, _ENTRIES_PER_CALL)):
        yield some
