"""The flows of a stack, under the names that a person on call uses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from darkroom import image_messages, order_messages
from darkroom.messages import Task


@dataclass(frozen=True)
class Flow:
    """A flow, by the outputs of the stack that hold its queues' URLs.

    Attributes
    ----------
    waiting:
        Of the queue of its messages; empty where they do not wait in SQS.
    dead_letters:
        Of its dead-letter queue.
    read_body:
        What its function reads from a message's body; None where no function of ours does.
    """

    waiting: str
    dead_letters: str
    read_body: Callable[[str], Sequence[Task]] | None = None


FLOWS = {
    "images": Flow("ImageTasksQueueUrl", "ImageTasksDeadLetterQueueUrl", image_messages.read_body),
    "orders": Flow("OrderQueueUrl", "OrderDeadLetterQueueUrl", order_messages.read_body),
    "results": Flow("ResultsQueueUrl", "ResultsDeadLetterQueueUrl"),
    "rabbitmq": Flow("", "RabbitMqDeadLetterQueueUrl"),
}


def flows_of(outputs: Mapping[str, str]) -> dict[str, Flow]:
    """The flows that a stack has, by its outputs: its parameters may leave some out."""
    return {name: flow for name, flow in FLOWS.items() if flow.dead_letters in outputs}
