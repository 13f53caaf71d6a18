"""From deliveries to messages on the queues: routed, identified, validated and sent, or undeliverable.

Lambda retries a whole RabbitMQ batch, so everything here may happen again. A message has the same id every time, so the
functions that read the queues recognise it.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import Any, Protocol
from uuid import uuid4

from darkroom import image_messages, order_messages
from darkroom.envelopes import open_body
from darkroom.errors import (
    DarkroomError,
    MalformedMessage,
    NoRoute,
    NotAcceptedBySqs,
    PermanentFault,
    UnexpectedError,
)
from darkroom.messages import Task, Unreadable, hash_id

from functions.relay_rabbitmq.deliveries import LARGEST_MESSAGE, Delivery, is_sendable

_AT_ONCE = 10  # the most that SQS takes in one call
_ID = re.compile(r"[!-~]{1,200}")  # the ids that the targets accept


class Target(StrEnum):
    """Where messages can be sent."""

    IMAGE_TASKS = "image-tasks"
    ORDERS = "orders"


@dataclass(frozen=True)
class _Kind:
    """The messages of a target: the field with their id, the reader, and the fields that mark an event."""

    id_field: str
    read: Callable[[str], Sequence[Task]]
    id_without_any: Callable[[Mapping[str, Any], str], str]
    event_fields: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Accepted:
    """A message to send."""

    delivery: Delivery
    target: Target
    task_id: str
    body: str


@dataclass(frozen=True)
class Undeliverable:
    """A delivery that no target accepts, and the reason."""

    delivery: Delivery
    task_id: str
    fault: DarkroomError


class Queues(Protocol):
    """The queues to send to."""

    def offer(self, target: Target, bodies: Iterable[str]) -> list[tuple[str, str]]:
        """Send all bodies; returns those that the queue will never accept, with reasons. Raises ServiceUnavailable."""


class DeadLetterQueue(Protocol):
    """The dead-letter queue for what could not be delivered."""

    def send(self, undeliverable: Undeliverable) -> None:
        """Store a delivery unchanged, with its reason. Raises ServiceUnavailable."""


def relay(
    deliveries: Iterable[Delivery], routes: Mapping[str, Target], queues: Queues, dead_letter_queue: DeadLetterQueue
) -> Iterator[Accepted | Undeliverable]:
    """Send a batch, a few messages at a time, and return the outcome of each.

    Sending a few at a time limits the memory: small compressed bodies may unpack to more than the function has.

    Raises
    ------
    ServiceUnavailable
        Neither the target nor the dead-letter queue accepted a message, so the batch must be delivered again.
    NoRoute
        A queue without a target is read, for example while a stack's update renames it. Its messages are valid, so they
        stay on the broker.
    """
    coming = iter(deliveries)
    while some := [judge(delivery, routes) for delivery in islice(coming, _AT_ONCE)]:
        for message in some:
            if isinstance(message, Undeliverable) and isinstance(message.fault, NoRoute):
                raise message.fault
        yield from _hand_over(some, queues, dead_letter_queue)


def _hand_over(
    judged: Sequence[Accepted | Undeliverable], queues: Queues, dead_letter_queue: DeadLetterQueue
) -> Iterator[Accepted | Undeliverable]:
    by_target: dict[Target, list[str]] = defaultdict(list)
    for message in judged:
        if isinstance(message, Accepted):
            by_target[message.target].append(message.body)
    refused: dict[tuple[Target, str], str] = {}
    for target, bodies in by_target.items():
        refused |= {(target, body): reason for body, reason in queues.offer(target, bodies)}
    for message in judged:
        outcome = _unless_refused(message, refused)
        if isinstance(outcome, Undeliverable):
            dead_letter_queue.send(outcome)
        yield outcome


def judge(delivery: Delivery, routes: Mapping[str, Target]) -> Accepted | Undeliverable:
    """Decide where a delivery goes, or why it cannot be sent. Raises nothing: one message must not block the batch."""
    fallback = _fallback_id(delivery)
    try:
        return _judge(delivery, routes, fallback)
    except (PermanentFault, NoRoute) as fault:
        return Undeliverable(delivery, fallback, fault)
    except Exception as error:  # noqa: BLE001 # a defect of ours
        defect = UnexpectedError(f"{type(error).__name__}: {error}")
        defect.__cause__ = error
        return Undeliverable(delivery, fallback, defect)


def _judge(delivery: Delivery, routes: Mapping[str, Target], fallback: str) -> Accepted | Undeliverable:
    target = routes.get(delivery.queue)
    if target is None:
        known = ", ".join(sorted(routes)) or "none"
        raise NoRoute(f"Nothing says where messages of {delivery.queue} go; there are routes for {known}.")
    kind = _KINDS[target]
    task_id, body = _identified(delivery, kind, fallback)
    fault = _fault_of(kind.read(body)) or _fault_for_sqs(body, kind)
    return Undeliverable(delivery, task_id, fault) if fault else Accepted(delivery, target, task_id, body)


def _fallback_id(delivery: Delivery) -> str:
    """Return the id of a delivery whose body has none: its messageId, or a hash of its content."""
    if _is_id(delivery.message_id):
        return str(delivery.message_id)
    return hash_id("rabbitmq", delivery.queue, delivery.data.decode("latin-1"))


def _identified(delivery: Delivery, kind: _Kind, fallback: str) -> tuple[str, str]:
    """Return the id in a body, or the message with an id added. A body without a JSON object is unchanged.

    Raises
    ------
    MalformedMessage
        An order has no id.
    """
    text = delivery.text()
    try:
        opened = open_body(text)
    except MalformedMessage:
        return fallback, text  # the function that reads it reports the reason
    message = opened.message
    if not isinstance(message, dict):
        return fallback, text
    own = message.get(kind.id_field)
    if own is not None:
        return own if _is_id(own) else fallback, text
    if _fault_of(kind.read(text)) is None or message.keys() & kind.event_fields:
        return fallback, text  # an S3 event in one of its forms, which has its own id
    id_ = fallback if _is_id(delivery.message_id) else kind.id_without_any(message, fallback)
    # At the end, because the last of two equal fields counts; everything else stays unchanged.
    start = opened.text.rstrip("\t\n\r ")[:-1]
    return id_, f"{start}{', ' if message else ''}{json.dumps({kind.id_field: id_})[1:]}"


def _id_of_order(message: Mapping[str, Any], of_content: str) -> str:
    """Return the messageId. The content cannot be the id, because two equal orders are two purchases."""
    del message, of_content
    raise MalformedMessage(
        "The order has no order_id, and the RabbitMQ message no message_id of 1 to 200 visible ASCII characters. Two"
        " equal orders are two purchases, so the producer must set one of the two."
    )


def _id_of_image_task(message: Mapping[str, Any], of_content: str) -> str:
    """Return one id per version, which is rendered once. Without a version, each message counts."""
    return of_content if message.get("version_id") else f"rabbitmq-{uuid4().hex}"


_KINDS = {
    Target.IMAGE_TASKS: _Kind(
        "task_id", image_messages.read_body, _id_of_image_task, frozenset({"Records", "detail-type"})
    ),
    Target.ORDERS: _Kind("order_id", order_messages.read_body, _id_of_order),
}


def _is_id(value: Any) -> bool:
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def _fault_of(tasks: Sequence[Task]) -> MalformedMessage | None:
    """Return why the function behind the queue cannot process a message; None if it can."""
    faults = [task.fault for task in tasks if isinstance(task, Unreadable)]
    if faults and len(faults) == len(tasks):
        reason = "; ".join(dict.fromkeys(map(str, faults)))
        return MalformedMessage(reason.encode("utf-8", "replace").decode())  # a log line cannot contain lone surrogates
    return None


def _fault_for_sqs(body: str, kind: _Kind) -> NotAcceptedBySqs | None:
    """Return why SQS would refuse a body, and with it the whole call; None if it accepts the body."""
    if not is_sendable(body):
        return NotAcceptedBySqs("The body has characters that SQS does not take, such as U+FFFE.")
    if len(body.encode()) > LARGEST_MESSAGE:
        return NotAcceptedBySqs(f"With its {kind.id_field} the body is larger than the {LARGEST_MESSAGE:,} of SQS.")
    return None


def _unless_refused(
    outcome: Accepted | Undeliverable, refused: Mapping[tuple[Target, str], str]
) -> Accepted | Undeliverable:
    if isinstance(outcome, Undeliverable) or (outcome.target, outcome.body) not in refused:
        return outcome
    reason = refused[outcome.target, outcome.body]
    return Undeliverable(
        outcome.delivery, outcome.task_id, NotAcceptedBySqs(f"SQS does not take the message: {reason}")
    )
