"""The output of `make redrive`: the plan, the progress and the outcome."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from threading import Event
from time import monotonic
from typing import Final

from botocore.exceptions import BotoCoreError, ClientError
from darkroom.errors import ServiceUnavailable
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from operations.deployed import DeployedStack
from operations.errors import OperationsError
from operations.flows import FLOWS
from operations.rabbitmq_dead_letters import judge_again, read_settings
from operations.redrive import Judge, Moved, Pace, Plan, Redrive, back_to
from operations.terminal import printable


@dataclass(frozen=True)
class RedriveOptions:
    """The command's options; an empty ``code`` and a ``limit`` of 0 mean all, ``rate`` is in messages per second."""

    queue: str
    code: str = ""
    limit: int = 0
    rate: float = 10.0
    dry_run: bool = False


def run(
    stack: DeployedStack, options: RedriveOptions, console: Console, ended: Event, confirm: Callable[[str], bool]
) -> int:
    """Redrive a queue's dead letters; returns the exit code.

    Parameters
    ----------
    ended:
        Set when the user ends the run; work in progress finishes.
    confirm:
        Asks the user a yes-or-no question.

    Raises
    ------
    OperationsError, ServiceUnavailable, ClientError, BotoCoreError
        Nothing has been moved.
    """
    flow = FLOWS[options.queue]
    if flow.dead_letters not in stack.outputs:
        raise OperationsError(f"Stack {stack.stack_name} has no {options.queue}: its parameters leave that flow out.")
    redrive = Redrive(
        stack.sqs,
        stack.outputs[flow.dead_letters],
        _judge(stack, options.queue),
        options.code,
        options.limit,
        ended.is_set,
    )
    with _bar(console, "Looking", redrive.count()) as seen:
        plan = replace(redrive, progress=seen).plan()
    if ended.is_set():
        console.print("Stopped before anything was moved.")
        return 130
    name = f"{options.queue}, dead letters"
    if not plan.seen:
        console.print(f"{name} is empty.")
        return 0
    console.print(_table(name, plan))
    if not plan.is_complete:
        console.print(f"These are the first {plan.seen:,}. Run it again for the rest.")
    count = len(plan.message_ids)
    if not count or options.dry_run:
        console.print("Nothing to move." if not count else f"Dry run: {_messages(count)} would be moved.")
        return 0
    where = f"stack {stack.stack_name}, account {stack.account}, {stack.region}"
    if not confirm(f"Move {_messages(count)} of {printable(where)}?"):
        console.print("Nothing was moved.")
        return 0
    return _move(redrive, plan, Pace(options.rate, monotonic, ended.wait), console)


def _move(redrive: Redrive, plan: Plan, pace: Pace, console: Console) -> int:
    done, trouble, count = Moved(), "", len(plan.message_ids)
    with _bar(console, "Moving", count) as moved:
        try:
            replace(redrive, progress=moved).move(plan, pace, done)
        except (ServiceUnavailable, ClientError, BotoCoreError) as error:
            trouble = str(error)
    refused = sum(done.refused.values())
    console.print(f"Moved {done.moved:,}, left {plan.seen - done.moved - refused:,}, failed {refused:,}.")
    for reason, number in done.refused.items():
        console.print(f"[red]✗[/] SQS does not accept {_messages(number)}: {printable(reason)}")
    if done.copies:
        console.print(
            f"[yellow]![/] {_messages(done.copies)} of those moved may still be in the dead-letter queue. A copy"
            " does no harm:"
            " it is processed once, by its id."
        )
    if trouble:
        console.print(
            f"[red]✗[/] The run stopped: {printable(trouble)}. Nothing is lost; run it again. Up to ten messages may"
            " arrive twice, which does no harm."
        )
        return 1
    if redrive.is_over():
        console.print("Stopped by you. Run it again for the rest.")
        return 130
    if done.moved + refused < count:
        others = count - done.moved - refused
        console.print(f"[yellow]![/] {_messages(others)} could not be read: another reader holds them. Run it again.")
        return 1
    return 1 if refused else 0


def _largest(stack: DeployedStack, queue_url: str) -> int:
    """Return the most bytes that the queue accepts of a message."""
    name: Final = "MaximumMessageSize"
    return int(stack.sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=[name])["Attributes"][name])


def _judge(stack: DeployedStack, queue: str) -> Judge:
    flow = FLOWS[queue]
    if flow.waiting:
        queue_url = stack.outputs[flow.waiting]
        return back_to(queue_url, _largest(stack, queue_url), mark_is_needed=flow.remembers_tasks)
    return judge_again(read_settings(stack))


def _table(name: str, plan: Plan) -> Table:
    table = Table(title=name, title_justify="left", header_style="bold")
    table.add_column("error code", no_wrap=True)
    table.add_column("to move", justify="right")
    table.add_column("to stay", justify="right")
    table.add_column("example reason", overflow="fold")
    for code, group in sorted(plan.groups.items(), key=lambda entry: -entry[1].go):
        reason = printable(group.reason)
        if group.must_stay:
            reason = f"[yellow]{_messages(group.must_stay)} would come back:[/] {printable(group.must_stay_because)}"
        table.add_row(
            printable(code) or "(none: SQS moved it)", str(group.go), str(group.must_stay + group.not_asked_for), reason
        )
    return table


@contextmanager
def _bar(console: Console, name: str, total: int) -> Iterator[Callable[[int], None]]:
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(name, total=total)
        yield lambda number: progress.update(task, completed=number)


def _messages(count: int) -> str:
    return "1 message" if count == 1 else f"{count:,} messages"
