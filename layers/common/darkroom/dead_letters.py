"""Move a message to a dead-letter queue, with the reason and the original body."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from darkroom import came_with
from darkroom.aws_faults import aws_faults_as_transient
from darkroom.errors import DarkroomError

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

_LONGEST_REASON = 1000
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
_LARGEST_MESSAGE = 1_048_576


class DeadLetters(Protocol):
    """A dead-letter queue."""

    def send(self, body: str, task_id: str, fault: DarkroomError) -> None:
        """Store the message with its reason."""


@dataclass(frozen=True)
class SqsDeadLetters:
    """A dead-letter queue in SQS."""

    sqs: SQSClient
    queue_url: str

    def send(
        self, body: str, task_id: str, fault: DarkroomError, about: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        """Send ``body`` unchanged, with ``error_code``, ``reason`` and ``task_id`` as message attributes.

        The producer's attributes, the message group and the trace header stay, so that a redrive gives all back. Near
        the size limit of SQS the reason is shortened.

        Parameters
        ----------
        about:
            Further attributes, at most seven; empty ones are left out.

        Raises
        ------
        ServiceUnavailable
            SQS did not accept it: the message must not leave its queue.
        """
        message = came_with.at_work()
        producers = came_with.producers(message.attributes)
        size = len(body.encode("utf-8", "surrogatepass"))
        for longest_reason in (_LONGEST_REASON, 100, 1):
            ours = {
                came_with.ERROR_CODE: fault.error_code,
                came_with.REASON: _readable(str(fault))[:longest_reason],
                came_with.TASK_ID: task_id,
                **{name: _readable(value) for name, value in about.items() if value},
            }
            attributes: dict[str, Any] = came_with.with_ours(producers, ours)
            if size + came_with.size_of(attributes) <= _LARGEST_MESSAGE:
                break
        with aws_faults_as_transient("send the dead letter"):
            self.sqs.send_message(
                QueueUrl=self.queue_url,
                MessageBody=body,
                MessageAttributes=attributes,
                **message.system_parameters(),
            )


def _readable(text: str) -> str:
    """Keep only what SQS accepts in an attribute: no control characters, no lone surrogates, and not empty."""
    kept = "".join(c for c in text.encode("utf-8", "replace").decode() if c.isprintable() or c == "\n")
    return kept or "(nothing readable)"
