"""The event files of ``events/``, which are also what ``sam local invoke -e`` takes.

They name what the laptop stack has after ``make up``: its uploads bucket, its queues, and photos that are there.
"""

from __future__ import annotations

import json
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord

EXISTING_BUCKET = "older-photos"
BUCKET = "darkroom-uploads-c660aae9-f7a0-5321-98e4-c64097062dd7"

_EVENTS = Path(__file__).parents[2] / "events"


@cache
def _load(name: str) -> Any:
    return json.loads((_EVENTS / f"{name}.json").read_text(encoding="utf-8"))


def load_event(name: str) -> dict[str, Any]:
    """Read ``events/<name>.json``; the caller may change what it gets."""
    event: dict[str, Any] = deepcopy(_load(name))
    return event


def body_of(name: str) -> str:
    """The body of the first message of an SQS event file."""
    body: str = load_event(name)["Records"][0]["body"]
    return body


def sqs_record(body: str, *, receives: int = 1, redriven: bool = False, message_id: str = "message-1") -> SQSRecord:
    """One record as Lambda's SQS mapping delivers it."""
    record = load_event("sqs_plain_task")["Records"][0]
    record |= {"body": body, "messageId": message_id, "receiptHandle": f"receipt of {message_id}"}
    record["attributes"]["ApproximateReceiveCount"] = str(receives)
    if redriven:
        record["messageAttributes"]["error_code"] = {"stringValue": "ObjectGone", "dataType": "String"}
    return SQSRecord(record)
