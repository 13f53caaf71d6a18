"""`make status`: waiting messages, dead letters by reason, and alarms that are on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from time import sleep, time
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table

from operations.dead_letters import DeadLetter, QueueScan
from operations.deployed import DeployedStack
from operations.errors import AWS_ERRORS, reason_of
from operations.flows import flows_of
from operations.terminal import printable

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch.type_defs import MetricDataQueryTypeDef
    from mypy_boto3_sqs import SQSClient

SAMPLE = 100
_SECONDS_HIDDEN = 10
_SECONDS_BETWEEN = 3
_ALARMS_PER_CALL = 100
# AWS publishes the ages of messages once a minute, sometimes some minutes late.
_METRIC_WINDOW = timedelta(minutes=10)
_STATES = {"ALARM": "[bold red]ALARM[/]", "INSUFFICIENT_DATA": "[yellow]no data[/]", "OK": "[green]OK[/]"}


@dataclass(frozen=True)
class Queue:
    """The state of a queue; ``oldest`` is the age of its oldest message in seconds, if known."""

    waiting: int
    worked_on: int
    delayed: int
    oldest: float | None = None


@dataclass(frozen=True)
class Alarm:
    """An alarm of the stack; ``name`` is its name in the template.

    ``can_go_off`` is false if nothing feeds its metrics, as on the laptop.
    """

    name: str
    state: str
    since: datetime
    reason: str
    can_go_off: bool = True


@dataclass(frozen=True)
class Observation:
    """The state of a stack at one time, under the names that users know. ``letters`` may be a sample."""

    queues: Mapping[str, Queue]
    letters: Mapping[str, Sequence[DeadLetter]]
    alarms: Sequence[Alarm]
    at: datetime


@dataclass(frozen=True)
class Surroundings:
    """The laptop stack's services other than AWS: what is wrong, and how many messages wait in RabbitMQ's queues."""

    troubles: Sequence[str] = ()
    broker_queues: Mapping[str, int] = field(default_factory=dict)


def run(
    stack: DeployedStack,
    console: Console,
    look_around: Callable[[], Surroundings] = Surroundings,
    *,
    watch: bool,
) -> int:
    """Show a stack, once or until Ctrl-C; returns 0, or 1 with troubles. Raises ClientError, BotoCoreError."""
    alarm_names = dict(find_alarm_names(stack))
    observation, around = observe(stack, alarm_names), look_around()
    if not watch:
        console.print(_screen(stack, observation, around))
        return 1 if around.troubles else 0
    with Live(_screen(stack, observation, around), console=console, auto_refresh=False, screen=True) as live:
        try:
            while True:
                sleep(_SECONDS_BETWEEN)
                around = look_around()
                try:
                    observation = observe(stack, alarm_names, observation)
                except AWS_ERRORS as error:
                    lost = f"No answer since {observation.at:%H:%M:%S}, when these numbers are from: {reason_of(error)}"
                    around = replace(around, troubles=[*around.troubles, lost])
                live.update(_screen(stack, observation, around), refresh=True)
        except KeyboardInterrupt:  # the usual way to end the command
            pass
    console.print(_screen(stack, observation, around))
    return 1 if around.troubles else 0


def observe(stack: DeployedStack, alarm_names: Mapping[str, str], before: Observation | None = None) -> Observation:
    """Read the state of a stack.

    Parameters
    ----------
    alarm_names:
        Each alarm's name in the template, by its name in CloudWatch.
    before:
        The previous observation: dead letters are read again only if their number has changed.

    Raises
    ------
    ClientError, BotoCoreError
        AWS refuses the request or does not answer.
    """
    flows = flows_of(stack.outputs)
    urls = {
        name if output == flow.waiting else f"{name}, dead letters": stack.outputs[output]
        for name, flow in flows.items()
        for output in (flow.waiting, flow.dead_letters)
        if output
    }
    ages = _ages(stack, list(urls.values()))
    queues = {name: _queue(stack.sqs, url, ages.get(url)) for name, url in urls.items()}
    letters: dict[str, Sequence[DeadLetter]] = {}
    for flow_name in flows:
        name = f"{flow_name}, dead letters"
        if before and before.queues[name].waiting == queues[name].waiting:
            letters[name] = before.letters[name]
        else:
            letters[name] = sample(stack.sqs, urls[name], min(queues[name].waiting, SAMPLE))
    now = datetime.now()  # noqa: DTZ005 # local time
    return Observation(queues, letters, read_alarms(stack, alarm_names), now)


def sample(sqs: SQSClient, queue_url: str, count: int) -> list[DeadLetter]:
    """Read about ``count`` dead letters. They stay in the queue, hidden from others only during the scan."""
    found: list[DeadLetter] = []
    with QueueScan(sqs, queue_url, _SECONDS_HIDDEN) as scan:
        for letters in scan.letters() if count else ():
            found += letters
            if len(found) >= count:
                break
    return found


def read_alarms(stack: DeployedStack, alarm_names: Mapping[str, str]) -> list[Alarm]:
    """The stack's alarms: first those that are on, then the most recently changed."""
    names, found = list(alarm_names), []
    fed = None if stack.feeds_all_metrics else _fed_metrics(stack)
    for start in range(0, len(names), _ALARMS_PER_CALL):
        answer = stack.cloudwatch.describe_alarms(
            AlarmNames=names[start : start + _ALARMS_PER_CALL],
            AlarmTypes=["MetricAlarm", "CompositeAlarm"],
            MaxRecords=_ALARMS_PER_CALL,
        )
        found += [*answer.get("MetricAlarms", []), *answer.get("CompositeAlarms", [])]
    alarms = [
        Alarm(
            alarm_names[alarm["AlarmName"]],
            alarm["StateValue"],
            alarm.get("StateTransitionedTimestamp", alarm["StateUpdatedTimestamp"]),
            alarm.get("StateReason", ""),
            can_go_off=fed is None or bool(_metrics_of(alarm) & fed),
        )
        for alarm in found
    ]
    return sorted(alarms, key=lambda alarm: (list(_STATES).index(alarm.state), -alarm.since.timestamp()))


def _metrics_of(alarm: Mapping[str, Any]) -> set[tuple[str, str]]:
    """Namespace and name of each metric that an alarm evaluates; empty for a composite alarm."""
    metrics = [alarm, *(query.get("MetricStat", {}).get("Metric", {}) for query in alarm.get("Metrics", []))]
    return {(metric.get("Namespace", ""), metric["MetricName"]) for metric in metrics if metric.get("MetricName")}


def _fed_metrics(stack: DeployedStack) -> set[tuple[str, str]]:
    pages = stack.cloudwatch.get_paginator("list_metrics").paginate()
    return {(metric["Namespace"], metric["MetricName"]) for page in pages for metric in page["Metrics"]}


def find_alarm_names(stack: DeployedStack) -> Iterator[tuple[str, str]]:
    """Find each alarm of the stack: its name in CloudWatch and its name in the template."""
    pages = stack.cloudformation.get_paginator("list_stack_resources").paginate(StackName=stack.stack_name)
    for page in pages:
        for resource in page["StackResourceSummaries"]:
            if resource["ResourceType"] in ("AWS::CloudWatch::Alarm", "AWS::CloudWatch::CompositeAlarm"):
                yield resource["PhysicalResourceId"], resource["LogicalResourceId"].removesuffix("Alarm")


def _queue(sqs: SQSClient, url: str, oldest: float | None) -> Queue:
    told = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    return Queue(
        waiting=int(told["ApproximateNumberOfMessages"]),
        worked_on=int(told["ApproximateNumberOfMessagesNotVisible"]),
        delayed=int(told["ApproximateNumberOfMessagesDelayed"]),
        oldest=oldest,
    )


def _ages(stack: DeployedStack, urls: Sequence[str]) -> dict[str, float]:
    """Age in seconds of each queue's oldest message, from CloudWatch; an emulator may lack it."""
    queries: list[MetricDataQueryTypeDef] = [
        {
            "Id": f"queue{number}",
            "MetricStat": {
                "Metric": {
                    "Namespace": "AWS/SQS",
                    "MetricName": "ApproximateAgeOfOldestMessage",
                    "Dimensions": [{"Name": "QueueName", "Value": url.rpartition("/")[2]}],
                },
                "Period": 60,
                "Stat": "Maximum",
            },
        }
        for number, url in enumerate(urls)
    ]
    now = datetime.now(UTC)
    answer = stack.cloudwatch.get_metric_data(
        MetricDataQueries=queries, StartTime=now - _METRIC_WINDOW, EndTime=now, ScanBy="TimestampDescending"
    )
    values = {result["Id"]: result["Values"] for result in answer["MetricDataResults"]}
    return {url: values[f"queue{number}"][0] for number, url in enumerate(urls) if values.get(f"queue{number}")}


def _screen(stack: DeployedStack, observation: Observation, around: Surroundings) -> RenderableType:
    where = f"Stack {stack.stack_name}, account {stack.account}, {stack.region}"
    parts: list[RenderableType] = [f"{printable(where)}, at {observation.at:%H:%M:%S}"]
    parts += [f"[red]✗[/] {printable(trouble)}" for trouble in around.troubles]
    parts += [_queues_table(observation, around.broker_queues), *_alarms(observation.alarms)]
    parts += [
        _reasons_table(name, letters, observation.queues[name].waiting)
        for name, letters in observation.letters.items()
        if letters
    ]
    return Group(*parts)


def _queues_table(observation: Observation, broker_queues: Mapping[str, int]) -> Table:
    table = Table(header_style="bold")
    table.add_column("queue")
    for column in ("waiting", "in flight", "delayed", "oldest"):
        table.add_column(column, justify="right")
    for name, queue in observation.queues.items():
        letters = observation.letters.get(name, ())
        oldest = queue.oldest
        if letters and len(letters) >= queue.waiting:
            oldest = time() - min(letter.sent for letter in letters)  # fresher than the metric, and always known
        counts = [str(queue.waiting), str(queue.worked_on), str(queue.delayed)]
        style = "yellow" if name in observation.letters and queue.waiting else ""
        is_empty = queue == Queue(0, 0, 0, queue.oldest)
        table.add_row(name, *counts, "-" if oldest is None or is_empty else age(oldest), style=style)
    for name, waiting in broker_queues.items():
        style = "yellow" if name.endswith(".dead-letters") and waiting else ""
        table.add_row(f"RabbitMQ: {name}", str(waiting), "-", "-", "-", style=style)
    return table


def _reasons_table(name: str, letters: Sequence[DeadLetter], waiting: int) -> Table:
    title = name if waiting <= len(letters) else f"{name}: of the first {len(letters)}"
    table = Table(title=title, title_justify="left", header_style="bold")
    table.add_column("error code", no_wrap=True)
    table.add_column("messages", justify="right")
    table.add_column("example reason", overflow="fold")
    examples = {letter.error_code: letter.reason for letter in letters}
    for code, count in Counter(letter.error_code for letter in letters).most_common():
        table.add_row(printable(code) or "(none: SQS moved it)", str(count), printable(examples[code]))
    return table


def _alarms(alarms: Sequence[Alarm]) -> Iterator[RenderableType]:
    """The alarms that need attention, and the number of the others: a terminal has few lines."""
    if not alarms:
        yield "The stack has no alarms."
        return
    others = [alarm for alarm in alarms if alarm.state != "OK"]
    if others:
        table = Table(header_style="bold")
        table.add_column("alarm", overflow="fold")
        table.add_column("state", no_wrap=True)
        table.add_column("since", no_wrap=True)
        table.add_column("reason", overflow="fold")
        for alarm in others:
            since = f"{alarm.since.astimezone():%d %b %H:%M}"
            table.add_row(alarm.name, _STATES[alarm.state], since, printable(alarm.reason))
        yield table
    silent = sum(not alarm.can_go_off and alarm.state == "OK" for alarm in alarms)
    fine = len(alarms) - len(others) - silent
    if silent:
        yield f"{silent} of {len(alarms)} alarms cannot go off: the laptop stack lacks their metrics. {fine} are OK."
    else:
        yield f"{fine} of {len(alarms)} alarms are {_STATES['OK']}."


def age(seconds: float) -> str:
    """A duration in its two largest units."""
    minutes, rest = divmod(max(int(seconds), 0), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
