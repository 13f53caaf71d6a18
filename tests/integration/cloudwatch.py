"""Feed CloudWatch with the metrics that AWS would publish and the emulator does not, and read the alarms.

What is fed was measured: the metrics that a function wrote into its log (EMF), the attributes of a queue, what the
emulator publishes of invocations. Where nothing here measures it, a test writes out what AWS would publish. Only what
an alarm looks at is fed: namespace, name and dimensions must be the same, so an alarm on a metric that nobody writes,
or that is called otherwise, fails.

Time is compressed. An alarm looks at some periods in a row; a fault of a moment is dated into each of them, and in the
newest one such that it is out of it some seconds later: then the alarm sees that the fault is over. That a fault can
last for so many periods is not shown here but in ``tests/template/test_alarm_arithmetic.py``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from time import time
from typing import Any

from local.outcomes import count_messages, read_log
from local.stack import Stack

# Until the fault is out of the newest period: long enough to see the alarm, short enough to wait for its end.
SECONDS_TO_SEE = 4.0
# What was received more often, and not deleted, is at the queue's end and out of its age.
_MOST_RECEIVES_IN_THE_AGE = 2


@dataclass(frozen=True)
class Metric:
    """What identifies a metric in CloudWatch."""

    namespace: str
    name: str
    dimensions: frozenset[tuple[str, str]]

    @classmethod
    def of(cls, described: Mapping[str, Any]) -> Metric:
        """As DescribeAlarms tells it."""
        dimensions = frozenset((one["Name"], one["Value"]) for one in described["Dimensions"])
        return cls(described["Namespace"], described["MetricName"], dimensions)

    @property
    def listed_dimensions(self) -> list[dict[str, str]]:
        """As calls to CloudWatch take them."""
        return [{"Name": name, "Value": value} for name, value in sorted(self.dimensions)]


@dataclass(frozen=True)
class Datum:
    """Values of a metric, measured a moment ago."""

    metric: Metric
    values: Sequence[float]
    unit: str


@dataclass(frozen=True)
class Alarm:
    """A deployed alarm: what it looks at, and in how many periods of how many seconds."""

    name: str
    metrics: tuple[Metric, ...]
    period: int
    periods: int

    @classmethod
    def of(cls, described: Mapping[str, Any]) -> Alarm:
        """As DescribeAlarms tells it."""
        stats = [query["MetricStat"] for query in described.get("Metrics") or [] if "MetricStat" in query]
        metrics = [Metric.of(stat["Metric"]) for stat in stats] or [Metric.of(described)]
        period = int(stats[0]["Period"] if stats else described["Period"])
        return cls(described["AlarmName"], tuple(metrics), period, int(described["EvaluationPeriods"]))

    @property
    def metric(self) -> Metric:
        """The first of its metrics, mostly the only one."""
        return self.metrics[0]


class CloudWatch:
    """The alarms of the deployed stack, by logical id."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self.client = stack.client("cloudwatch")
        self._looks: Counter[str] = Counter()  # at messages, by id: each one counts as a receive
        self._names = {
            resource["LogicalResourceId"]: resource["PhysicalResourceId"]
            for resource in stack.cloudformation.describe_stack_resources(StackName=stack.stack_name)["StackResources"]
            if resource["ResourceType"] in ("AWS::CloudWatch::Alarm", "AWS::CloudWatch::CompositeAlarm")
        }

    def physical(self, logical_id: str) -> str:
        """The name of an alarm."""
        return self._names[logical_id]

    def alarm(self, name: str) -> Alarm:
        """What a metric alarm looks at."""
        (described,) = self.client.describe_alarms(AlarmNames=[name])["MetricAlarms"]
        return Alarm.of(described)

    def state(self, name: str) -> str:
        """OK, ALARM or INSUFFICIENT_DATA, as of the newest feed."""
        answer = self.client.describe_alarms(AlarmNames=[name], AlarmTypes=["MetricAlarm", "CompositeAlarm"])
        (state,) = {alarm["StateValue"] for kind in ("MetricAlarms", "CompositeAlarms") for alarm in answer[kind]}
        return str(state)

    def calm(self) -> None:
        """Put every alarm back to OK after earlier tests; the composite ones last."""
        for logical_id in sorted(self._names, key=lambda one: one == "CustomersNoticeAlarm"):
            self.client.set_alarm_state(AlarmName=self._names[logical_id], StateValue="OK", StateReason="a test begins")

    def feed(self, alarm: Alarm, data: Iterable[Datum]) -> None:
        """Put what the alarm looks at of these into each of its periods; AssertionError if that is nothing.

        In one call: the alarms are evaluated once, before the newest is out of its period.
        """
        data = list(data)
        seen = [datum for datum in data if datum.metric in alarm.metrics]
        assert seen, f"{alarm.name} looks at {alarm.metrics}, measured was {sorted({d.metric.name for d in data})}"
        newest = time() - alarm.period + SECONDS_TO_SEE
        self._put((datum, newest - number * alarm.period) for number in range(alarm.periods) for datum in seen)

    def look_again(self) -> None:
        """Have the alarms evaluated: the emulator does so whenever data comes in."""
        self._put([(Datum(Metric("Tests", "Tick", frozenset()), [1.0], "Count"), time())])

    def from_log(self, function_name: str, since: float) -> Iterator[Datum]:
        """Metrics that a function wrote into its log, in the embedded metric format.

        https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
        """
        for line in read_log(self._stack, function_name, since=since):
            for directive in line.get("_aws", {}).get("CloudWatchMetrics", []):
                for names in directive["Dimensions"]:
                    dimensions = frozenset((name, str(line[name])) for name in names)
                    for metric in directive["Metrics"]:
                        values = line[metric["Name"]]
                        yield Datum(
                            Metric(directive["Namespace"], metric["Name"], dimensions),
                            values if isinstance(values, list) else [values],
                            metric["Unit"],
                        )

    def from_queue(self, queue_url: str, *, message_counts: int = 1, second_counts: int = 1) -> list[Datum]:
        """The metrics that SQS publishes about a queue, measured now.

        https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html

        Parameters
        ----------
        message_counts, second_counts:
            How many messages each one stands for, and how many seconds: nobody waits for an hour, or sends thousands.
        """
        of_queue = frozenset({("QueueName", queue_url.rpartition("/")[2])})
        waiting, _ = count_messages(self._stack, queue_url)
        data = [
            Datum(
                Metric("AWS/SQS", "ApproximateNumberOfMessagesVisible", of_queue), [waiting * message_counts], "Count"
            )
        ]
        if second_counts > 1:
            age = (time() - self._oldest(queue_url)) * second_counts
            data.append(Datum(Metric("AWS/SQS", "ApproximateAgeOfOldestMessage", of_queue), [age], "Seconds"))
        return data

    def _oldest(self, queue_url: str) -> float:
        """When the oldest message was sent, as SQS publishes it; the documentation is that of ``from_queue``."""
        answer = self._stack.sqs.receive_message(
            QueueUrl=queue_url,
            MaxNumberOfMessages=10,
            VisibilityTimeout=0,
            WaitTimeSeconds=0,
            MessageSystemAttributeNames=["SentTimestamp", "ApproximateReceiveCount"],
        )
        messages = answer.get("Messages", [])
        self._looks.update(message["MessageId"] for message in messages)
        sent = [
            int(message["Attributes"]["SentTimestamp"]) / 1000
            for message in messages
            if int(message["Attributes"]["ApproximateReceiveCount"]) - self._looks[message["MessageId"]]
            <= _MOST_RECEIVES_IN_THE_AGE
        ]
        return min(sent, default=time())

    def published(self, metric: Metric, since: float) -> list[Datum]:
        """What the emulator has published of a metric: the sum of all since then; nothing if that is nothing."""
        points = self.client.get_metric_statistics(
            Namespace=metric.namespace,
            MetricName=metric.name,
            Dimensions=metric.listed_dimensions,
            StartTime=since,
            EndTime=time() + 1,
            Period=60,
            Statistics=["Sum"],
        )["Datapoints"]
        total = sum(point["Sum"] for point in points)
        return [Datum(metric, [total], "Count")] if total else []

    def _put(self, data: Iterable[tuple[Datum, float]]) -> None:
        data = list(data)
        (namespace,) = {datum.metric.namespace for datum, _ in data}
        self.client.put_metric_data(
            Namespace=namespace,
            MetricData=[
                {
                    "MetricName": datum.metric.name,
                    "Dimensions": datum.metric.listed_dimensions,
                    "Timestamp": at,
                    "Values": list(datum.values),
                    "Unit": datum.unit,
                }
                for datum, at in data
            ],
        )
