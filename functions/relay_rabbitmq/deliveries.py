"""The event that Lambda sends for RabbitMQ.

https://docs.aws.amazon.com/lambda/latest/dg/with-mq.html
"""

from __future__ import annotations

import base64
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from darkroom.errors import MalformedMessage, TooLarge

# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
LARGEST_MESSAGE = 1_048_576
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html
_NOT_SENDABLE = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Delivery:
    """One message of a RabbitMQ queue.

    Attributes
    ----------
    queue:
        ``queue::vhost``, as Lambda names it.
    data:
        The body as it was published.
    content_encoding:
        ``gzip``, another one, or empty.
    """

    queue: str
    data: bytes
    content_encoding: str
    message_id: str | None
    headers: Mapping[str, Any]

    def text(self) -> str:
        """Decode the body.

        Raises
        ------
        MalformedMessage
            It is not what its encoding says, or not UTF-8.
        TooLarge
            It is larger than SQS takes.
        """
        try:
            text = self._plain().decode()
        except UnicodeDecodeError as error:
            raise MalformedMessage(f"The body is not UTF-8: {error}.") from error
        except (EOFError, OSError, zlib.error) as error:
            raise MalformedMessage(f"The body is not the gzip that its content-encoding says: {error}.") from error
        return text

    def _plain(self) -> bytes:
        match self.content_encoding.lower():
            case "" | "identity" | "utf-8":
                plain = self.data
            case "gzip" | "x-gzip":
                # No more than is taken anyway: a small body may unpack to any size.
                plain = gzip.GzipFile(fileobj=io.BytesIO(self.data)).read(LARGEST_MESSAGE + 1)
            case other:
                raise MalformedMessage(f"The content-encoding is {other!r}; understood are gzip and none.")
        if len(plain) > LARGEST_MESSAGE:
            raise TooLarge(f"the body has more than the {LARGEST_MESSAGE:,} bytes that SQS takes")
        return plain


def is_sendable(text: str) -> bool:
    """Whether SQS takes every character of a text."""
    return _NOT_SENDABLE.search(text) is None


def read_event(event: Any) -> Iterator[Delivery]:
    """Read the event of one batch.

    Raises
    ------
    ValueError
        The event is not from RabbitMQ: somebody invoked the function with another one.
    """
    match event:
        case {"eventSource": "aws:rmq", "rmqMessagesByQueue": dict(queues)} if all(
            isinstance(messages, list) for messages in queues.values()
        ):
            return (_delivery(queue, message) for queue, messages in queues.items() for message in messages)
    raise ValueError('The event is not from RabbitMQ: it has no "eventSource": "aws:rmq" with "rmqMessagesByQueue".')


def _delivery(queue: str, message: Any) -> Delivery:
    """Read one message. An invalid one is kept unchanged: an error here would block the batch forever."""
    match message:
        case {"data": str(data)}:
            body = _decoded(data)
        case {"data": None}:
            body = b""
        case _:
            body = json.dumps(message).encode()
    match message:
        case {"basicProperties": dict(properties)}:
            pass
        case _:
            properties = {}
    return Delivery(
        queue=queue,
        data=body,
        content_encoding=_text(properties.get("contentEncoding")) or "",
        message_id=_text(properties.get("messageId")) or None,
        headers=_headers(properties.get("headers")),
    )


def _decoded(data: str) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except ValueError:  # never seen
        return data.encode("utf-8", "surrogatepass")


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _headers(headers: Any) -> Mapping[str, Any]:
    if not isinstance(headers, dict):
        return {}
    try:
        return {name: _plain(value) for name, value in headers.items()}
    except RecursionError:
        return dict.fromkeys(headers, "(nested too deeply to be read)")


def _plain(value: Any) -> Any:
    """Turn ``{"bytes": [104, 105]}``, as texts in headers arrive, into text, however deep it stands."""
    match value:
        case {"bytes": list(numbers), **rest} if not rest and all(_is_byte(number) for number in numbers):
            return bytes(number % 256 for number in numbers).decode("utf-8", "replace")
        case dict():
            return {name: _plain(inner) for name, inner in value.items()}
        case list():
            return [_plain(inner) for inner in value]
    return value


def _is_byte(number: Any) -> bool:
    return isinstance(number, int) and -128 <= number <= 255  # Java's bytes have a sign
