"""The results queue: one message per finished image."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from darkroom.aws_faults import aws_faults_as_transient

from functions.process_image.images import ImageRecord

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient


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
