"""Open a message body: the JSON in it, taken out of the envelopes that SNS and EventBridge put around it.

With raw message delivery SNS adds no envelope, so all ways in end in the same message.
https://docs.aws.amazon.com/sns/latest/dg/sns-message-and-json-formats.html
https://docs.aws.amazon.com/eventbridge/latest/ref/overiew-event-structure.html
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from darkroom.errors import MalformedMessage

_BYTE_ORDER_MARK = "\ufeff"
# EventBridge to SNS to SQS has two. More than a few are a mistake, and each costs a whole parse.
_MOST_ENVELOPES = 5
# What only messages have. A body with these and an envelope would be one thing to the API, and another to a reader.
_OF_MESSAGES = {"Records", "task_id", "bucket", "key", "order_id"}


@dataclass(frozen=True)
class Opened:
    """What is inside a body.

    Attributes
    ----------
    message : Any
        The parsed JSON inside all envelopes. An event of S3 by EventBridge is a message itself and stays whole.
    text : str
        The same as JSON text, without a byte-order mark.
    """

    message: Any
    text: str


def open_body(body: str) -> Opened:
    """Parse a body and take the message out of its envelopes.

    Raises
    ------
    MalformedMessage
        The body, or what an envelope holds, is not JSON, is a JSON string that holds JSON, or is an envelope and a
        message in one.
    """
    where, text = "The body", body
    for _ in range(_MOST_ENVELOPES + 1):
        text = text.lstrip(_BYTE_ORDER_MARK)
        message = _parsed(text, where)
        match message:
            case {"Type": "Notification", "Message": str(inner)}:
                _refuse_a_message(message, where)
                where, text = "The SNS notification's Message", inner
            case {"Type": "SubscriptionConfirmation" | "UnsubscribeConfirmation" as kind, "TopicArn": topic}:
                raise MalformedMessage(f"The body is a {kind} of the SNS topic {topic}; confirm it by its URL.")
            case {"detail-type": _, "source": str(source), "detail": detail} if source != "aws.s3":
                _refuse_a_message(message, where)
                where = "The EventBridge event's detail"
                text = detail if isinstance(detail, str) else json.dumps(detail)
            case _:
                return Opened(message, text)
    raise MalformedMessage(f"The message is inside more than {_MOST_ENVELOPES} envelopes.")


def _refuse_a_message(envelope: dict[str, Any], where: str) -> None:
    if both := sorted(_OF_MESSAGES & envelope.keys()):
        raise MalformedMessage(
            f"{where} is an envelope and has fields of a message: {', '.join(both)}. Send one of them."
        )


def _parsed(text: str, where: str) -> Any:
    try:
        message = json.loads(text)
    except RecursionError as error:
        raise MalformedMessage(f"{where} is not JSON that can be read: it is nested too deeply.") from error
    except ValueError as error:
        raise MalformedMessage(f"{where} is not JSON: {error}.") from error
    if isinstance(message, str) and _holds_json(message):
        raise MalformedMessage(
            f"{where} is a JSON string that holds JSON: it was encoded twice. Send the object itself."
        )
    return message


def _holds_json(text: str) -> bool:
    try:
        return isinstance(json.loads(text.lstrip(_BYTE_ORDER_MARK)), dict | list | str)
    except (ValueError, RecursionError):
        return False
