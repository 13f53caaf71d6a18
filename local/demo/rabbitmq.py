"""The demo's messages to RabbitMQ: publish them as other services would, and report where they arrived."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import time

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from local.emulators.rabbitmq import BrokerMessage, publish
from local.outcomes import SECONDS_TO_FINISH, poll, read_dead_letters, wait_for_orders, wait_for_tasks
from local.stack import Stack
from operations.flows import FLOWS
from operations.terminal import printable


@dataclass
class ShownMessage:
    """The outcome of one message: a row of the table, an entry of ``demo.json``."""

    message_id: str
    shows: str
    queue: str
    expected: str
    message: BrokerMessage = field(repr=False)
    arrived: str = "nowhere"
    outcome: str = "unfinished"
    reason: str = ""

    @property
    def as_expected(self) -> bool:
        """Whether the outcome is as expected."""
        return self.outcome == self.expected


def send(deployed: Stack, photo_key: str) -> list[ShownMessage]:
    """Publish a task for an uploaded photo, an order, and a message that is neither."""
    run = f"demo-rabbitmq-{time():.0f}"
    task = {"bucket": deployed.outputs["UploadsBucketName"], "key": photo_key}
    order = {
        "order_id": f"{run}-order",
        "customer_id": "customer-9",
        "items": [{"product_id": "print-30x40", "quantity": 1, "unit_price": "34.50"}],
        "amount": "34.50",
        "currency": "EUR",
        "payment_method": "pm_card_visa",
    }
    shown = [
        ShownMessage(
            f"{run}-task",
            "a photo to render; the message's own id is the task's",
            "image-tasks",
            "Processed",
            BrokerMessage(json.dumps(task).encode(), message_id=f"{run}-task"),
        ),
        ShownMessage(
            f"{run}-order",
            "an order, compressed",
            "orders",
            "COMPLETED",
            BrokerMessage(gzip.compress(json.dumps(order).encode()), content_encoding="gzip"),
        ),
        ShownMessage(
            f"{run}-invalid",
            "an order that lacks nearly everything",
            "orders",
            "MalformedMessage",
            BrokerMessage(json.dumps({"order_id": f"{run}-invalid"}).encode(), headers={"producer": "demo"}),
        ),
    ]
    for row in shown:
        publish(deployed.rabbitmq_url, row.queue, [row.message])
    return shown


def learn_outcomes(deployed: Stack, shown: Sequence[ShownMessage], console: Console) -> None:
    """Wait for each, and fill in where it arrived and its outcome."""
    task, order, invalid = shown
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("Relaying", total=3)
        tasks = wait_for_tasks(deployed, [task.message_id], seconds=SECONDS_TO_FINISH)
        progress.advance(bar)
        orders = wait_for_orders(deployed, [order.message_id], seconds=SECONDS_TO_FINISH)
        progress.advance(bar)
        dead_letters = poll(
            lambda: {
                r.task_id: r for r in read_dead_letters(deployed, deployed.outputs[FLOWS["rabbitmq"].dead_letters])
            },
            lambda found: invalid.message_id in found,
            seconds=SECONDS_TO_FINISH,
        )
    if found := tasks.get(task.message_id):
        task.arrived, task.outcome = "ImageTasksQueue", found.get("outcome", task.outcome)
    if found := orders.get(order.message_id):
        order.arrived, order.outcome = "OrderQueue", found["state"]
    if letter := dead_letters.get(invalid.message_id):
        invalid.arrived, invalid.outcome, invalid.reason = "RabbitMqDeadLetterQueue", letter.error_code, letter.reason


def tabulate(shown: Sequence[ShownMessage], *, narrow: bool) -> Table:
    """A row for each message; on a narrow terminal the queues and the outcome are in one column."""
    table = Table(title=f"{len(shown)} messages through RabbitMQ", title_justify="left", header_style="bold")
    table.add_column("message", overflow="fold")
    columns = ["published to,\narrived in,\noutcome"] if narrow else ["published to", "arrived in", "outcome"]
    for column in columns:
        table.add_column(column, no_wrap=True)
    table.add_column("reason", overflow="fold")
    for row in shown:
        name = f"{printable(row.shows)}\n[dim]{printable(row.message_id)}[/]"
        way = [row.queue, row.arrived, printable(row.outcome)]
        table.add_row(name, *(["\n".join(way)] if narrow else way), printable(row.reason))
    return table
