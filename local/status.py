"""`make status`: what waits, what is being worked on, and what was set aside and why."""

from __future__ import annotations

from collections import Counter

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from local import payments
from local.outcomes import count_messages, read_dead_letters
from local.stack import Stack

_QUEUES = {
    "image tasks": "ImageTasksQueueUrl",
    "image tasks, dead letters": "ImageTasksDeadLetterQueueUrl",
    "results": "ResultsQueueUrl",
    "results, dead letters": "ResultsDeadLetterQueueUrl",
    "orders": "OrderQueueUrl",
    "orders, dead letters": "OrderDeadLetterQueueUrl",
    "RabbitMQ intake, rejects": "RabbitMqRejectsQueueUrl",
}


def show(deployed: Stack, console: Console) -> int:
    """Print the state of the stack; returns the exit code."""
    console.print(f"Stack {deployed.stack_name} at {deployed.endpoint_url}, region {deployed.region}")
    answers = payments.answers(deployed.payments_url)
    console.print(f"Payment provider at {deployed.payments_url}{'' if answers else ': [red]no answer[/]; run make up'}")
    queues = Table(header_style="bold")
    queues.add_column("queue")
    queues.add_column("waiting", justify="right")
    queues.add_column("being worked on", justify="right")
    for name, output in _QUEUES.items():
        waiting, working = count_messages(deployed, deployed.outputs[output])
        queues.add_row(name, str(waiting), str(working))
    console.print(queues)
    for name in ("image tasks, dead letters", "orders, dead letters", "RabbitMQ intake, rejects"):
        letters = read_dead_letters(deployed, deployed.outputs[_QUEUES[name]])
        if not letters:
            continue
        reasons = Table(title=name, title_justify="left", header_style="bold")
        reasons.add_column("error code")
        reasons.add_column("messages", justify="right")
        reasons.add_column("one of the reasons")
        examples = {letter.error_code: letter.reason for letter in letters}
        for code, count in Counter(letter.error_code for letter in letters).most_common():
            reasons.add_row(escape(code) or "(none: the function died)", str(count), escape(examples[code]))
        console.print(reasons)
    return 0
