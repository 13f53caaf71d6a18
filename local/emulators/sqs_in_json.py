"""How SQS differs from the emulators for API Gateway: the parameters it refuses, and its messages in JSON.

Standard library only: MiniStack's and LocalStack's environments import it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ReceiveMessage.html
_RANGES = {"MaxNumberOfMessages": (1, 10), "VisibilityTimeout": (0, 43200), "WaitTimeSeconds": (0, 20)}
_SYSTEM_ATTRIBUTES = {
    "All",
    "SenderId",
    "SentTimestamp",
    "ApproximateReceiveCount",
    "ApproximateFirstReceiveTimestamp",
    "SequenceNumber",
    "MessageDeduplicationId",
    "MessageGroupId",
    "AWSTraceHeader",
    "DeadLetterQueueSourceArn",
}


def fault_of(parameters: Mapping[str, str]) -> tuple[str, str] | None:
    """Code and message for a parameter of ReceiveMessage that SQS refuses and the emulators accept."""
    for name, (least, most) in _RANGES.items():
        value = parameters.get(name, str(least))
        if not re.fullmatch("-?[0-9]+", value) or not least <= int(value) <= most:
            reason = f"Reason: Must be between {least} and {most}, if provided."
            return "InvalidParameterValue", f"Value {value} for parameter {name} is invalid. {reason}"
    attribute = parameters.get("AttributeName", "All")
    if attribute not in _SYSTEM_ATTRIBUTES:
        return "InvalidAttributeName", f"Unknown Attribute {attribute}."
    return None


def message_in_json(received: Mapping[str, Any]) -> dict[str, Any]:
    """A message as SQS's query protocol writes it in JSON: attributes in lists, and null for absent values."""
    names = ("Body", "MD5OfBody", "MD5OfMessageAttributes", "MessageId", "ReceiptHandle")
    return {name: received.get(name) for name in names} | {
        kind: [{"Name": name, "Value": value} for name, value in received.get(kind, {}).items()] or None
        for kind in ("Attributes", "MessageAttributes")
    }
