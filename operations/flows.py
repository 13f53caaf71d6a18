"""The flows of a stack, under the names that an engineer on call uses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from darkroom import image_messages, order_messages
from darkroom.messages import Task


@dataclass(frozen=True)
class Flow:
    """A flow, described by the stack outputs that hold the URLs of its queues.

    Attributes
    ----------
    waiting:
        Output of its message queue; empty if its messages do not wait in SQS.
    dead_letters:
        Output of its dead-letter queue.
    read_body:
        Parses a message's body as the flow's function does; None if no function of Darkroom reads it.
    remembers_tasks:
        Whether its function remembers tasks as done, so that it needs the mark of a redrive. An order continues from
        its state.
    """

    waiting: str
    dead_letters: str
    read_body: Callable[[str], Sequence[Task]] | None = None
    remembers_tasks: bool = False


FLOWS = {
    "images": Flow(
        "ImageTasksQueueUrl", "ImageTasksDeadLetterQueueUrl", image_messages.read_body, remembers_tasks=True
    ),
    "orders": Flow("OrderQueueUrl", "OrderDeadLetterQueueUrl", order_messages.read_body),
    "results": Flow("ResultsQueueUrl", "ResultsDeadLetterQueueUrl"),
    "rabbitmq": Flow("", "RabbitMqDeadLetterQueueUrl"),
}


def flows_of(outputs: Mapping[str, str]) -> dict[str, Flow]:
    """The flows that a stack has, found by its outputs. Parameters may leave flows out."""
    return {name: flow for name, flow in FLOWS.items() if flow.dead_letters in outputs}
