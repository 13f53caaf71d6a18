"""The queues of a stack, under the names that a person on call uses."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Flow:
    """Where messages wait, and where they are set aside: outputs of the stack that hold the queues' URLs.

    ``waiting`` is empty where what is set aside came from elsewhere than SQS.
    """

    waiting: str
    set_aside: str
    set_aside_as: str = "dead letters"


FLOWS = {
    "images": Flow("ImageTasksQueueUrl", "ImageTasksDeadLetterQueueUrl"),
    "orders": Flow("OrderQueueUrl", "OrderDeadLetterQueueUrl"),
    "results": Flow("ResultsQueueUrl", "ResultsDeadLetterQueueUrl"),
    "rabbitmq": Flow("", "RabbitMqRejectsQueueUrl", set_aside_as="rejects"),
}
