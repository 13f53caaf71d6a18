"""The topic for events about orders."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from darkroom.aws_faults import aws_faults_as_transient

from functions.process_order.events import OrderEvent

if TYPE_CHECKING:
    from mypy_boto3_sns import SNSClient


@dataclass(frozen=True)
class SnsOrderEvents:
    """Publish events; subscribers filter by the attributes ``event_type`` and ``currency``."""

    sns: SNSClient
    topic_arn: str

    def publish(self, event: OrderEvent) -> None:
        """Publish an event. Raises ServiceUnavailable."""
        attributes = {"event_type": event.event_type, "currency": event.currency}
        with aws_faults_as_transient("publish the order's event"):
            self.sns.publish(
                TopicArn=self.topic_arn,
                Message=json.dumps(event.body),
                MessageAttributes={
                    name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()
                },
            )
