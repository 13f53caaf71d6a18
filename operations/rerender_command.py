"""`make rerender`: plan, estimate, ask, send, and follow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import floor
from threading import Event
from time import monotonic

from darkroom.sending import PlainTask, submit_tasks
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.table import Table

from benchmarks.cost.calculator import Bill, Load, bill_of_ours, billed_seconds_of_ours
from benchmarks.cost.function_seconds import load
from benchmarks.cost.prices import REGIONS
from operations.deployed import DeployedStack
from operations.rerender import RerenderOptions, RerenderPlan, check_bucket, check_progress, deployed_form, plan
from operations.terminal import printable

# So few wait at once: whoever stops the run, by Ctrl-C or kill -9, stops all but these.
_AT_ONCE = 100
_MESSAGES_PER_INVOCATION = 10
_SECONDS_BETWEEN_LOOKS = 1.0
_DEFAULT_REGION = "eu-central-1"
_METRIC = "cloudwatch.metric"


@dataclass(frozen=True)
class Estimate:
    """What a run takes. ``dollars_per_image`` is without what the stack costs anyway."""

    seconds: float
    bill: Bill
    dollars_per_image: float


def estimate(stack: DeployedStack, found: RerenderPlan) -> Estimate:
    """Estimate time and cost by the project's cost model, from the settings of the deployed function."""
    count = len(found.tasks)
    configuration = stack.lambda_.get_function_configuration(FunctionName=stack.outputs["ProcessImageFunctionName"])
    architecture = (configuration.get("Architectures") or ["arm64"])[0]
    megabytes = max(found.bytes / count / 1e6, 0.001)
    expected = Load(
        images=count,
        megabytes=megabytes,
        memory_mb=configuration["MemorySize"],
        architecture=architecture,
        region=stack.region if stack.region in REGIONS else _DEFAULT_REGION,
        batch=min(_MESSAGES_PER_INVOCATION, count),
    )
    measured = load()
    bill = bill_of_ours(expected, measured)
    # A metric is paid by the month, and live uploads have these already.
    bill = replace(bill, running=tuple(line for line in bill.running if line.price != _METRIC))
    seconds = count * billed_seconds_of_ours(expected, measured) / _concurrency(stack)
    return Estimate(seconds, bill, bill.running_dollars / count)


def _concurrency(stack: DeployedStack) -> int:
    """Return how many functions the re-render queue runs at once."""
    mappings = stack.lambda_.get_paginator("list_event_source_mappings").paginate(
        FunctionName=stack.outputs["ProcessImageFunctionName"]
    )
    name = stack.outputs["RerenderQueueUrl"].rpartition("/")[2]
    for page in mappings:
        for mapping in page["EventSourceMappings"]:
            if mapping.get("EventSourceArn", "").endswith(f":{name}"):
                return int(mapping.get("ScalingConfig", {}).get("MaximumConcurrency", 2))
    return 2


def run(
    stack: DeployedStack,
    options: RerenderOptions,
    budget: float,
    console: Console,
    ended: Event,
    confirm: Callable[[str], bool],
) -> int:
    """Render older photos again; returns the exit code.

    Parameters
    ----------
    budget:
        US dollars; 0 for no limit.
    ended:
        Set when the person ends the run: what is sent is finished.
    confirm:
        Asks the person a question.

    Raises
    ------
    OperationsError, ServiceUnavailable, ClientError, BotoCoreError
        What was sent is finished; run it again for the rest.
    """
    check_bucket(stack, options.bucket)
    form = deployed_form(stack)
    with console.status("Comparing uploads with records ...") as status:
        found = plan(stack, form, options, lambda seen: status.update(f"Comparing: {seen:,} uploads seen ..."))
    if not found.tasks:
        console.print(f"Of {found.seen:,} uploads none has to be rendered again.")
        return 0
    expected = estimate(stack, found)
    console.print(_table(found, expected))
    tasks = found.tasks
    if budget:
        tasks = tasks[: floor(budget / expected.dollars_per_image)]
        if len(tasks) < len(found.tasks):
            console.print(f"BUDGET={budget:g} is enough for {len(tasks):,} of {len(found.tasks):,}.")
        if not tasks:
            return 1
    where = f"stack {stack.stack_name}, account {stack.account}, {stack.region}"
    if not confirm(f"Render {len(tasks):,} images of {printable(where)} again?"):
        console.print("Nothing was sent.")
        return 0
    return _send(stack, form, replace(found, tasks=tasks), options, console, ended)


def _table(found: RerenderPlan, expected: Estimate) -> Table:
    count = len(found.tasks)
    table = Table(title=f"{count:,} of {found.seen:,} uploads", title_justify="left", header_style="bold")
    table.add_column("what")
    table.add_column("how much", justify="right")
    for reason, number in found.reasons.most_common():
        table.add_row(reason, f"{number:,}")
    table.add_row("time", _readable(expected.seconds), end_section=True)
    by_component: dict[str, float] = {}
    for line in expected.bill.running:
        by_component[line.component] = by_component.get(line.component, 0) + line.dollars
    for component, dollars in sorted(by_component.items(), key=lambda entry: -entry[1]):
        share = dollars / expected.bill.running_dollars
        table.add_row(component, f"{dollars:,.4f} USD, {share:.0%}")
    table.add_row("cost", f"{expected.bill.running_dollars:,.4f} USD")
    return table


def _readable(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def _send(
    stack: DeployedStack,
    form: str,
    found: RerenderPlan,
    options: RerenderOptions,
    console: Console,
    ended: Event,
) -> int:
    started, sent, total = monotonic(), 0, len(found.tasks)
    queue_url = stack.outputs["RerenderQueueUrl"]
    columns = (*Progress.get_default_columns()[:-1], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("Rendering again", total=total)
        is_checked = False
        while True:
            waiting = _waiting(stack, queue_url)
            done = max(sent - waiting, 0)
            progress.update(bar, completed=done)
            if done and not is_checked:
                check_progress(stack, form, found.tasks[:done])
                is_checked = True
            if not waiting and (sent == total or ended.is_set()):
                break
            if not ended.is_set() and waiting < _AT_ONCE // 2 and sent < total:
                some: list[PlainTask] = found.tasks[sent : sent + _AT_ONCE - waiting]
                sent += submit_tasks(stack.sqs, queue_url, some)
            elif ended.wait(_SECONDS_BETWEEN_LOOKS) and waiting:
                progress.update(bar, description="Finishing what was sent")
                Event().wait(_SECONDS_BETWEEN_LOOKS)
    seconds = monotonic() - started
    left = plan(stack, form, options)
    kept = {task.task_id for task in found.tasks[:sent]} & {task.task_id for task in left.tasks}
    console.print(
        f"Rendered {sent - len(kept):,} again in {_readable(seconds)}, {len(left.tasks):,} are left."
        + (f" {len(kept):,} failed: make status shows the dead letters." if kept else "")
    )
    if ended.is_set():
        console.print("Stopped by you. Run it again for the rest.")
        return 130
    return 1 if kept else 0


def _waiting(stack: DeployedStack, queue_url: str) -> int:
    attributes = stack.sqs.get_queue_attributes(
        QueueUrl=queue_url,
        AttributeNames=["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"],
    )["Attributes"]
    return sum(int(number) for number in attributes.values())
