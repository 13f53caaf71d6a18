"""Move a message to a dead-letter queue, with the reason and the original body."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from darkroom.aws_faults import aws_faults_as_transient
from darkroom.errors import DarkroomError

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

# Marks a message that was in a dead-letter queue: a redriven message carries it back to the function.
ERROR_CODE_ATTRIBUTE = "error_code"
_LONGEST_REASON = 1000


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

        Because the body is unchanged, a redrive only has to send the message back.

        Parameters
        ----------
        about:
            Further attributes, at most seven; empty ones are left out.

        Raises
        ------
        ServiceUnavailable
            SQS did not accept it: the message must not leave its queue.
        """
        attributes = {
            ERROR_CODE_ATTRIBUTE: fault.error_code,
            "reason": _readable(str(fault))[:_LONGEST_REASON],
            "task_id": task_id,
            **{name: _readable(value) for name, value in about.items() if value},
        }
        with aws_faults_as_transient("send the dead letter"):
            self.sqs.send_message(
                QueueUrl=self.queue_url,
                MessageBody=body,
                MessageAttributes={
                    name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()
                },
            )


def _readable(text: str) -> str:
    """Keep only what SQS accepts in an attribute: no control characters, no lone surrogates, and not empty."""
    kept = "".join(c for c in text.encode("utf-8", "replace").decode() if c.isprintable() or c == "\n")
    return kept or "(nothing readable)"
