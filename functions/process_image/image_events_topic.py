"""The topic for events about images."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from darkroom.aws_faults import aws_faults_as_transient

from functions.process_image.events import ImageEvent

if TYPE_CHECKING:
    from mypy_boto3_sns import SNSClient


@dataclass(frozen=True)
class SnsImageEvents:
    """Publishes events; subscribers filter by the attributes ``event_type`` and, of a failure, ``error_code``.

    A filter by the key reads the body: https://docs.aws.amazon.com/sns/latest/dg/sns-message-filtering-scope.html
    """

    sns: SNSClient
    topic_arn: str

    def publish(self, event: ImageEvent) -> None:
        """Tell all subscribers. Raises ServiceUnavailable."""
        attributes = {"event_type": event.event_type}
        if "error_code" in event.body:
            attributes["error_code"] = event.body["error_code"]
        with aws_faults_as_transient("publish the image's event"):
            self.sns.publish(
                TopicArn=self.topic_arn,
                Message=json.dumps(event.body),
                MessageAttributes={
                    name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()
                },
            )
