"""The results queue, the dead-letter queue, and the visibility of the messages being worked on."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from darkroom.aws_faults import aws_faults_as_transient
from darkroom.dead_letters import set_aside
from darkroom.errors import DarkroomError

from functions.process_image.images import ImageRecord

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ChangeMessageVisibility.html
_LONGEST_VISIBILITY = 43_200


@dataclass(frozen=True)
class SqsResults:
    """The results queue."""

    sqs: SQSClient
    queue_url: str

    def announce(self, task_id: str, record: ImageRecord) -> None:
        """Send one message per finished image: its task id and its record. Raises ServiceUnavailable."""
        values = asdict(record)
        version = values.pop("version")
        message = {"task_id": task_id, "state": "READY", **values, "version_order": version["order"]}
        with aws_faults_as_transient("announce the image"):
            self.sqs.send_message(QueueUrl=self.queue_url, MessageBody=json.dumps(message))


@dataclass(frozen=True)
class SqsDeadLetters:
    """The dead-letter queue."""

    sqs: SQSClient
    queue_url: str

    def set_aside(self, body: str, task_id: str, fault: DarkroomError) -> None:
        """Keep a message with its reason. Raises ServiceUnavailable."""
        set_aside(self.sqs, self.queue_url, body=body, task_id=task_id, fault=fault)


def show_again_in(sqs: SQSClient, queue_url: str, receipt_handle: str, seconds: float) -> None:
    """Let a message be received again after ``seconds``. Raises ServiceUnavailable."""
    with aws_faults_as_transient("change the message's visibility"):
        sqs.change_message_visibility(
            QueueUrl=queue_url,
            ReceiptHandle=receipt_handle,
            VisibilityTimeout=min(max(round(seconds), 0), _LONGEST_VISIBILITY),
        )
