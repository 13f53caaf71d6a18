"""The outcomes of tasks and orders, read from the deployed stack's tables, queues and logs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import monotonic, sleep
from typing import Any, TypeVar

from darkroom import items

from functions.process_order.orders import FINAL
from local.stack import Stack
from operations.dead_letters import QueueScan

T = TypeVar("T")

SECONDS_TO_FINISH = 240  # for all that the demo sends, on a busy machine


@dataclass(frozen=True)
class DeadLetter:
    """A dead letter. One that SQS moved itself, because the function died, has no code, reason or task id."""

    message_id: str
    task_id: str
    error_code: str
    reason: str
    body: str


def poll(read: Callable[[], T], is_complete: Callable[[T], bool], *, seconds: float, every: float = 0.2) -> T:
    """Read until the result is complete or the time is over; returns the last result."""
    end = monotonic() + seconds
    while True:
        found = read()
        if is_complete(found) or monotonic() > end:
            return found
        sleep(every)


def read_items(stack: Stack, table: str, key_name: str, keys: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Read items by key; those that do not exist are left out."""
    return items.read_items(stack.dynamodb, table, key_name, keys)


def wait_for_tasks(
    stack: Stack, task_ids: Sequence[str], *, seconds: float, progress: Callable[[int], None] = lambda _: None
) -> dict[str, dict[str, Any]]:
    """Wait until every task is done or the time is over; returns the tasks' items.

    Parameters
    ----------
    progress:
        Called with the number of finished tasks.
    """
    return _wait_for_items(
        lambda: read_items(stack, stack.outputs["TasksTableName"], "task_id", task_ids),
        frozenset({"DONE"}),
        len(set(task_ids)),
        seconds,
        progress,
    )


def wait_for_orders(
    stack: Stack, order_ids: Sequence[str], *, seconds: float, progress: Callable[[int], None] = lambda _: None
) -> dict[str, dict[str, Any]]:
    """Wait until every order is completed or rejected, or the time is over; returns the orders.

    Parameters
    ----------
    progress:
        Called with the number of finished orders.
    """
    return _wait_for_items(
        lambda: read_items(stack, stack.outputs["OrdersTableName"], "order_id", order_ids),
        FINAL,
        len(set(order_ids)),
        seconds,
        progress,
    )


def _wait_for_items(
    read: Callable[[], dict[str, dict[str, Any]]],
    final_states: frozenset[str],
    wanted: int,
    seconds: float,
    progress: Callable[[int], None],
) -> dict[str, dict[str, Any]]:
    def is_complete(items: dict[str, dict[str, Any]]) -> bool:
        done = sum(item["state"] in final_states for item in items.values())
        progress(done)
        return done == wanted

    return poll(read, is_complete, seconds=seconds)


def read_dead_letters(stack: Stack, queue_url: str) -> list[DeadLetter]:
    """Read every dead letter; all stay in the queue."""
    with QueueScan(stack.sqs, queue_url, hidden_for=60, wait=0) as scan:
        return [
            DeadLetter(letter.message_id, letter.text("task_id"), letter.error_code, letter.reason, letter.body)
            for letters in scan.letters()
            for letter in letters
        ]


def take_results(stack: Stack) -> Iterator[dict[str, Any]]:
    """Receive and delete every message of the results queue, as its reader would."""
    sqs, queue_url = stack.sqs, stack.outputs["ResultsQueueUrl"]
    ten = {"QueueUrl": queue_url, "MaxNumberOfMessages": 10, "WaitTimeSeconds": 0}
    while messages := sqs.receive_message(**ten).get("Messages"):  # type: ignore[arg-type]
        for message in messages:
            yield json.loads(message["Body"])
            sqs.delete_message(QueueUrl=queue_url, ReceiptHandle=message["ReceiptHandle"])


def search(stack: Stack, text: str) -> list[str]:
    """Search all buckets, tables and queues of the stack; returns every name, item and body that contains a text.

    Messages stay in their queues, hidden for a moment.
    """
    found = []
    for output, name in stack.outputs.items():
        if output.endswith("BucketName"):
            pages = stack.s3.get_paginator("list_object_versions").paginate(Bucket=name)
            found += [v["Key"] for page in pages for v in (*page.get("Versions", []), *page.get("DeleteMarkers", []))]
        elif output.endswith("TableName"):
            found += [
                str(item)
                for page in stack.dynamodb.get_paginator("scan").paginate(TableName=name)
                for item in page["Items"]
            ]
        elif output.endswith("QueueUrl"):
            found += [letter.body for letter in read_dead_letters(stack, name)]
    return [each for each in found if text in each]


def read_log(stack: Stack, function_name: str, *, since: float) -> Iterator[dict[str, Any]]:
    """Read a function's structured log lines since a time (seconds since the epoch)."""
    function = stack.lambda_.get_function_configuration(FunctionName=function_name)
    pages = stack.logs.get_paginator("filter_log_events").paginate(
        logGroupName=function["LoggingConfig"]["LogGroup"], startTime=int(since * 1000)
    )
    for page in pages:
        for event in page["events"]:
            try:
                line = json.loads(event["message"])
            except ValueError:
                continue  # Lambda's own lines
            if isinstance(line, dict):
                yield line


def count_messages(stack: Stack, queue_url: str) -> tuple[int, int]:
    """Messages waiting in a queue, and messages in flight."""
    attributes = stack.sqs.get_queue_attributes(
        QueueUrl=queue_url,
        AttributeNames=["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"],
    )["Attributes"]
    return (
        int(attributes["ApproximateNumberOfMessages"]),
        int(attributes["ApproximateNumberOfMessagesNotVisible"]),
    )
