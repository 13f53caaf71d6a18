"""The results queue: one message per finished image."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from darkroom.aws_faults import aws_faults_as_transient

from functions.process_image.images import ImageRecord, State, Tombstone

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

#: Of schemas/image_result.json. It rises when a field goes or changes; a new field leaves it as it is.
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class SqsResults:
    """The results queue."""

    sqs: SQSClient
    queue_url: str

    def announce(self, task_id: str, published: ImageRecord | Tombstone) -> None:
        """Send one message: a finished image with its record, or that an image is withdrawn. Raises ServiceUnavailable.

        Messages of one key may arrive in any order: the highest ``version_order``, as text, is the latest.
        """
        values = asdict(published)
        values.pop("version", None)
        state = State.READY if isinstance(published, ImageRecord) else State.DELETED
        message = {"schema_version": SCHEMA_VERSION, "task_id": task_id, "state": state.value, **values}
        with aws_faults_as_transient("announce the image"):
            self.sqs.send_message(QueueUrl=self.queue_url, MessageBody=json.dumps(message))
