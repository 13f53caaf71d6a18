"""The visibility timeout of a received message."""

from __future__ import annotations

from typing import TYPE_CHECKING

from darkroom.aws_faults import aws_faults_as_transient

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ChangeMessageVisibility.html
_LONGEST_VISIBILITY = 43_200


def set_visibility_timeout(sqs: SQSClient, queue_url: str, receipt_handle: str, seconds: float) -> None:
    """Make a message visible again after ``seconds``. Raises ServiceUnavailable."""
    with aws_faults_as_transient("change the message's visibility timeout"):
        sqs.change_message_visibility(
            QueueUrl=queue_url,
            ReceiptHandle=receipt_handle,
            VisibilityTimeout=min(max(round(seconds), 0), _LONGEST_VISIBILITY),
        )
