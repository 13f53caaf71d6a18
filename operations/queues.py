"""The queues of a stack, under the names that a person on call uses."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Flow:
    """Where messages wait, and where dead letters wait: outputs of the stack that hold the queues' URLs.

    ``waiting`` is empty where the dead letters came from elsewhere than SQS.
    """

    waiting: str
    dead_letters: str


FLOWS = {
    "images": Flow("ImageTasksQueueUrl", "ImageTasksDeadLetterQueueUrl"),
    "orders": Flow("OrderQueueUrl", "OrderDeadLetterQueueUrl"),
    "results": Flow("ResultsQueueUrl", "ResultsDeadLetterQueueUrl"),
    "rabbitmq": Flow("", "RabbitMqDeadLetterQueueUrl"),
}
