"""What Lambda hands over from RabbitMQ.

https://docs.aws.amazon.com/lambda/latest/dg/with-mq.html
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from darkroom.errors import MalformedMessage, TooLarge

# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
LARGEST_MESSAGE = 1_048_576
_GZIP = 16 + zlib.MAX_WBITS


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
        except zlib.error as error:
            raise MalformedMessage(f"The body is not the gzip that its content-encoding says: {error}.") from error
        return text

    def _plain(self) -> bytes:
        match self.content_encoding.lower():
            case "" | "identity" | "utf-8":
                plain = self.data
            case "gzip" | "x-gzip":
                # No more than is taken anyway: a small body may unpack to any size.
                unpacker = zlib.decompressobj(_GZIP)
                plain = unpacker.decompress(self.data, LARGEST_MESSAGE + 1)
                if len(plain) <= LARGEST_MESSAGE and not unpacker.eof:
                    raise MalformedMessage("The body's gzip is cut short.")
            case other:
                raise MalformedMessage(f"The content-encoding is {other!r}; understood are gzip and none.")
        if len(plain) > LARGEST_MESSAGE:
            raise TooLarge(f"the body has more than the {LARGEST_MESSAGE:,} bytes that SQS takes")
        return plain


def read_event(event: Any) -> Iterator[Delivery]:
    """Read the event of one batch.

    Raises
    ------
    ValueError
        The event is not from RabbitMQ: somebody invoked the function with another one.
    """
    match event:
        case {"eventSource": "aws:rmq", "rmqMessagesByQueue": dict(queues)}:
            return (_delivery(queue, message) for queue, messages in queues.items() for message in messages)
    raise ValueError('The event is not from RabbitMQ: it has no "eventSource": "aws:rmq" with "rmqMessagesByQueue".')


def _delivery(queue: str, message: Mapping[str, Any]) -> Delivery:
    properties = message.get("basicProperties") or {}
    data = message.get("data") or ""
    try:
        body = base64.b64decode(data, validate=True)
    except binascii.Error:
        body = data.encode()  # never seen; kept as it came
    return Delivery(
        queue=queue,
        data=body,
        content_encoding=_text(properties.get("contentEncoding")) or "",
        message_id=_text(properties.get("messageId")) or None,
        headers=_plain(properties.get("headers") or {}),
    )


def _text(value: Any) -> str | None:
    value = _plain(value)
    return value if isinstance(value, str) else None


def _plain(value: Any) -> Any:
    """Turn ``{"bytes": [104, 105]}``, as texts in headers arrive, into text, however deep it stands."""
    match value:
        case {"bytes": list(numbers), **rest} if not rest:
            return bytes(number % 256 for number in numbers).decode("utf-8", "replace")
        case dict():
            return {name: _plain(inner) for name, inner in value.items()}
        case list():
            return [_plain(inner) for inner in value]
    return value
