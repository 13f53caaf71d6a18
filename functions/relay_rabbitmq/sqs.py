"""The queues that messages are sent to, and the dead-letter queue."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from darkroom.dead_letters import SqsDeadLetters
from darkroom.sending import offer_all

from functions.relay_rabbitmq.deliveries import Delivery, is_sendable
from functions.relay_rabbitmq.relay import Target, Undeliverable

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

# The size that the targets' queues accept, so a redrive sends it in one piece. It leaves 8 KiB for attributes.
_BYTES_PER_MESSAGE = 1_040_384
_BYTES_OF_HEADERS = 20_000
_LARGEST_WITH_ALL_HEADERS, _FEW_BYTES_OF_HEADERS = 1_000_000, 1_000
# The most that AMQP has of a property; the name of a queue has that of its virtual host, too.
_BYTES_OF_PROPERTY, _BYTES_OF_QUEUE = 255, 512


@dataclass(frozen=True)
class SqsQueues:
    """The targets' queues."""

    sqs: SQSClient
    urls: Mapping[Target, str]

    def offer(self, target: Target, bodies: Iterable[str]) -> list[tuple[str, str]]:
        """Send in tens and retry failed entries; returns what SQS will never accept. Raises ServiceUnavailable."""
        return offer_all(self.sqs, self.urls[target], bodies)


@dataclass(frozen=True)
class SqsDeadLetterQueue:
    """The dead-letter queue.

    A message has the published body. The body is base64 (attribute ``body_encoding``) if SQS does not accept its
    characters, and is split into numbered messages if it is too large for one. Their attribute ``part``, such as
    ``2/3 of 9f86d0...``, contains the SHA-256 of the whole body, because other bodies may have the same ``task_id``.
    """

    sqs: SQSClient
    queue_url: str

    def send(self, undeliverable: Undeliverable) -> None:
        """Store a delivery with its reason, queue and headers. Raises ServiceUnavailable."""
        delivery, letters = undeliverable.delivery, SqsDeadLetters(self.sqs, self.queue_url)
        body, encoding = _sendable(delivery)
        parts, whole = _parts(body), sha256(delivery.data).hexdigest()
        room = _BYTES_OF_HEADERS if len(parts[0].encode()) <= _LARGEST_WITH_ALL_HEADERS else _FEW_BYTES_OF_HEADERS
        for number, part in enumerate(parts, 1):
            about = {
                "queue": _cut(delivery.queue, _BYTES_OF_QUEUE),
                "headers": _headers(delivery.headers, room) if delivery.headers else "",
                "content_encoding": _cut(delivery.content_encoding),
                "body_encoding": encoding,
                "properties": json.dumps(
                    {"content_type": _cut(delivery.content_type), "message_id": _cut(delivery.message_id or "")}
                ),
                "part": f"{number}/{len(parts)} of {whole}" if len(parts) > 1 else "",
            }
            letters.send(part, undeliverable.task_id, undeliverable.fault, about)


def _cut(text: str, most: int = _BYTES_OF_PROPERTY) -> str:
    return text.encode("utf-8", "replace")[:most].decode("utf-8", "ignore")


def _headers(headers: Mapping[str, Any], room: int) -> str:
    """Return the headers as JSON, without those that do not fit."""
    kept: dict[str, Any] = {}
    for name, value in headers.items():
        size = len(json.dumps({name: value}))
        if size <= room:
            kept[name] = value
            room -= size
    left_out = len(headers) - len(kept)
    return json.dumps(kept | ({"(left out)": f"{left_out} headers"} if left_out else {}))


def _sendable(delivery: Delivery) -> tuple[str, str]:
    """Return the body as text that SQS accepts, and its encoding: none, or ``base64``."""
    try:
        text = delivery.data.decode()
    except UnicodeDecodeError:
        text = ""
    if text and is_sendable(text):
        return text, ""
    return base64.b64encode(delivery.data).decode() or "(empty)", "base64" if delivery.data else "empty"


def _parts(text: str) -> list[str]:
    """Cut a text into pieces that fit into one message, never inside a character."""
    parts, rest = [], text.encode()
    while rest:
        part = rest[:_BYTES_PER_MESSAGE].decode("utf-8", "ignore")
        parts.append(part)
        rest = rest[len(part.encode()) :]
    return parts
