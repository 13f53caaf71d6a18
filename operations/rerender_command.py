"""`make rerender`: plan, estimate, ask, send, and follow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import accumulate
from math import ceil
from threading import Event
from time import monotonic

from darkroom.sending import PlainTask, submit_tasks
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.table import Table

from benchmarks.cost.bill import Line, Load, bill_of_ours, billed_seconds_of_ours
from benchmarks.cost.function_seconds import Measured, load
from benchmarks.cost.prices import PRICES, REGIONS
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
    """What a run takes: its lines of the bill, without what the stack costs anyway, and dollars for each image."""

    seconds: float
    lines: tuple[Line, ...]
    dollars: tuple[float, ...]

    @property
    def total(self) -> float:
        """The dollars of all images."""
        return sum(self.dollars)

    def within(self, budget: float) -> int:
        """Return how many images, from the first, cost no more than a budget."""
        return sum(spent <= budget for spent in accumulate(self.dollars))


def estimate(stack: DeployedStack, found: RerenderPlan) -> Estimate:
    """Estimate time and cost by the project's cost model, from the settings of the deployed function."""
    configuration = stack.lambda_.get_function_configuration(FunctionName=stack.outputs["ProcessImageFunctionName"])
    measured, by_size = load(), Counter(_tenths(size) for size in found.sizes)
    seconds, lines, dollars = 0.0, [], {}
    for size, count in by_size.items():
        some = Load(
            images=count,
            megabytes=size / 10,
            memory_mb=configuration["MemorySize"],
            architecture=(configuration.get("Architectures") or ["arm64"])[0],
            region=stack.region if stack.region in REGIONS else _DEFAULT_REGION,
            batch=min(_MESSAGES_PER_INVOCATION, len(found.tasks)),
        )
        seconds += count * billed_seconds_of_ours(some, measured)
        of_size = [_again(line, some, measured) for line in bill_of_ours(some, measured).running]
        # A metric is paid by the month, and live uploads have these already.
        of_size = [line for line in of_size if line.price != _METRIC]
        lines += of_size
        dollars[size] = sum(line.dollars for line in of_size) / count
    return Estimate(seconds / _concurrency(stack), tuple(lines), tuple(dollars[_tenths(size)] for size in found.sizes))


def _tenths(size: int) -> int:
    """Tenths of a megabyte, rounded up, so that a budget is never exceeded."""
    return max(ceil(size / 100_000), 1)


def _again(line: Line, of: Load, measured: Measured) -> Line:
    """Turn a line of the bill of an upload into that of a photo that is rendered again."""
    if line.price == "s3.put":  # no upload is put; each replaced rendition is copied onto itself, to mark it
        quantity = 2 * (line.quantity - of.images)
    elif line.price == "dynamodb.write":  # once they are marked, the record forgets them
        quantity = line.quantity + of.images * ceil(measured.images_item_bytes / 1024)
    else:
        return line
    return replace(line, quantity=quantity, dollars=PRICES[line.price].of(quantity, of.region))


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
        What was sent will be finished; run it again for the rest.
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
        tasks = tasks[: expected.within(budget)]
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
    for line in expected.lines:
        by_component[line.component] = by_component.get(line.component, 0) + line.dollars
    for component, dollars in sorted(by_component.items(), key=lambda entry: -entry[1]):
        table.add_row(component, f"{dollars:,.4f} USD, {dollars / expected.total:.0%}")
    table.add_row("cost", f"{expected.total:,.4f} USD")
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
        is_checked = is_corrected = False
        while True:
            waiting = _waiting(stack, queue_url)
            done = max(sent - waiting, 0)
            progress.update(bar, completed=done)
            if done >= _AT_ONCE and not is_corrected and done < total:
                # The model knows neither these photos nor this machine.
                whole = (monotonic() - started) / done * total
                console.print(f"After the first {done:,}: {_readable(whole)} in all, by their pace.")
                is_corrected = True
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
