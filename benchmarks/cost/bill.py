"""What a month of images costs on AWS, line by line, with Darkroom and with the baseline.

The counts are those of the code and the template; each is next to the name of the module that causes it. The seconds
are measured and assumed (``durations``), the prices are AWS's (``prices``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import ceil

from benchmarks.cost import durations
from benchmarks.cost.function_seconds import Measured
from benchmarks.cost.prices import MB_PER_CPU, PRICES
from benchmarks.cost.template_counts import template_counts
from functions.process_image.ports import Result

SECONDS_A_MONTH = 30 * 86_400
MEMORY_SIZES = (512, 768, 1024, 1280, 1536, 1769, 2048, 2560, 3008)
#: The image function's metrics with the dimension ``service`` (its ``reporting``, darkroom.reporting, Powertools).
METRICS = (
    *(result.value for result in Result),
    *("Retried", "Defects", "TakenOver", "BytesIn", "BytesOut"),
    *("ProcessingTime", "QueueTime", "NotificationLatency", "ColdStart"),
)
# "Retried" and "DeadLettered" are also counted by error code: one of these in a month.
_METRICS_BY_ERROR_CODE = 1
# Lambda polls an idle queue with five pollers, or two without MaximumConcurrency, each waiting up to 20 s.
# https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html
_IDLE_POLLERS, _IDLE_POLLERS_OF_SAMPLE = 5, 2
_POLL_SECONDS = 20
# START, END and REPORT in the text format.
_SAMPLE_LOG_BYTES = 400
#: Assumed: the share of the requests that CloudFront passes on. A rendition stays at an edge for a day, a redirect for
#: a minute.
MISSED_RENDITIONS, MISSED_REDIRECTS = 0.1, 0.5
# Assumed, of a redirect that CloudFront passes on; and its answer's size.
_REDIRECT_MB, _REDIRECT_SECONDS, _REDIRECT_BYTES = 512, 0.020, 700
# Bytes that DynamoDB adds to every stored item.
_ITEM_OVERHEAD = 100
# AWS bills binary gigabytes.
_GB = 2**30


@dataclass(frozen=True)
class Load:
    """The load, and the function that processes it.

    Attributes
    ----------
    images:
        Number of images.
    megabytes:
        Size of one upload.
    batch:
        Messages per invocation, on average: 1 while images arrive one by one, 10 when they queue.
    views:
        How often an image's largest rendition is sent to the internet.
    delivered:
        Whether CloudFront sends it. If not, S3 does.
    by_stable_address:
        The share of the views that ask for the image's stable address first.
    seconds:
        Period of the load, which is even: a month.
    """

    images: float
    megabytes: float = 4
    memory_mb: int = MB_PER_CPU
    architecture: str = "arm64"
    region: str = "eu-central-1"
    batch: float = 1
    views: float = 0
    delivered: bool = False
    by_stable_address: float = 0
    seconds: float = SECONDS_A_MONTH

    @property
    def invocations(self) -> float:
        """Number of invocations."""
        return self.images / self.batch


@dataclass(frozen=True)
class Line:
    """One line of the bill: a number of units of a price, and what drives it."""

    component: str
    driver: str
    quantity: float
    price: str
    dollars: float


@dataclass(frozen=True)
class Bill:
    """A month's bill. ``kept`` recurs every month that the images are kept; ``fixed`` is due even without images."""

    running: tuple[Line, ...]
    fixed: tuple[Line, ...]
    kept: tuple[Line, ...]

    @property
    def running_dollars(self) -> float:
        """The dollars for processing the images."""
        return sum(line.dollars for line in self.running)

    @property
    def dollars(self) -> float:
        """The dollars for processing and the fixed costs, without storage."""
        return self.running_dollars + sum(line.dollars for line in self.fixed)


def billed_seconds_of_ours(load: Load, measured: Measured) -> float:
    """Seconds billed for an image; the messages of a batch overlap."""
    return durations.of_ours(load.megabytes, load.memory_mb, measured).billed(load.batch, overlap=True)


def billed_seconds_of_sample(load: Load, measured: Measured) -> float:
    """Seconds billed for an image; the records run one after the other."""
    return durations.of_sample(load.megabytes, load.memory_mb, measured).billed(load.batch, overlap=False)


def bill_of_ours(load: Load, measured: Measured, parameters: Mapping[str, str] | None = None) -> Bill:
    """The bill of the image flow, with the stack's fixed costs.

    Parameters
    ----------
    parameters:
        Of the template, where they are not the defaults.
    """
    task_units = ceil(measured.tasks_item_bytes / 1024)
    image_units = ceil(measured.images_item_bytes / 1024)
    logs = measured.log_bytes_per_image + measured.log_bytes_per_batch / load.batch
    rate = load.invocations / load.seconds
    # One invocation a second is traced, and 5 % of the others.
    # https://docs.aws.amazon.com/lambda/latest/dg/services-xray.html
    traced = min(rate, 1 + 0.05 * max(rate - 1, 0)) / rate if rate else 0
    metrics = len(METRICS) + _METRICS_BY_ERROR_CODE
    template = template_counts(parameters)
    line = _line_maker(load)
    return Bill(
        running=(
            *_compute(load, billed_seconds_of_ours(load, measured)),
            *_requests(load, durations.objects(load.megabytes * durations.MEGAPIXELS_PER_MB)),
            line(
                "SQS",
                "2 messages sent per image (task, result), a receive and a delete per batch",
                load.images * 2 + load.invocations * 2,
                "sqs.request",
            ),
            line("SNS", "publish the image's event; SNS sends to queues for free", load.images, "sns.publish"),
            line(
                "DynamoDB",
                f"claim and finish the task: 2 x {task_units} unit, {measured.tasks_item_bytes} bytes;"
                f" publish the image: {image_units} units, {measured.images_item_bytes:,} bytes",
                load.images * (2 * task_units + image_units),
                "dynamodb.write",
            ),
            line("CloudWatch", f"at most {metrics} custom metrics of the image flow", metrics, "cloudwatch.metric"),
            line("DynamoDB", "read the image, consistently: one unit", load.images, "dynamodb.read"),
            line(
                "CloudWatch",
                f"logs: {measured.log_bytes_per_image} bytes per image, {measured.log_bytes_per_batch:,} per batch",
                load.images * logs / _GB,
                "cloudwatch.logs",
            ),
            line("X-Ray", f"traces: {traced:.0%} of the invocations", load.invocations * traced, "xray.trace"),
        ),
        fixed=(
            line(
                "CloudWatch",
                f"{template.alarm_metrics} metrics that alarms read",
                template.alarm_metrics,
                "cloudwatch.alarm",
            ),
            line("CloudWatch", "composite alarm", template.composite_alarms, "cloudwatch.composite"),
            line("CloudWatch", "dashboard", template.dashboards, "cloudwatch.dashboard"),
            line("KMS", "key of the alarm topic", template.keys, "kms.key"),
            line("Secrets Manager", "key of the payment provider", template.secrets, "secrets.secret"),
            _idle_polls(load, template.polled_queues, _IDLE_POLLERS),
        ),
        kept=(
            *_kept(load, measured),
            line(
                "DynamoDB",
                "images and a month of tasks",
                load.images * (measured.images_item_bytes + measured.tasks_item_bytes + 2 * _ITEM_OVERHEAD) / _GB,
                "dynamodb.storage",
            ),
            line(
                "DynamoDB",
                "point-in-time recovery of the images",
                load.images * (measured.images_item_bytes + _ITEM_OVERHEAD) / _GB,
                "dynamodb.recovery",
            ),
        ),
    )


def bill_of_sample(load: Load, measured: Measured) -> Bill:
    """The bill of the baseline with the same renditions: no record, no claim, no result, no metrics, no traces."""
    line = _line_maker(load)
    return Bill(
        running=(
            *_compute(load, billed_seconds_of_sample(load, measured)),
            *_requests(load, durations.renditions()),
            line(
                "SQS",
                "1 message sent per image, a receive and a delete per batch",
                load.images + load.invocations * 2,
                "sqs.request",
            ),
            line(
                "CloudWatch", "logs: Lambda's own lines", load.invocations * _SAMPLE_LOG_BYTES / _GB, "cloudwatch.logs"
            ),
        ),
        fixed=(_idle_polls(load, 1, _IDLE_POLLERS_OF_SAMPLE),),
        kept=_kept(load, measured),
    )


def best_memory(load: Load, measured: Measured) -> int:
    """The memory size with the least Lambda cost times duration: 1 % more cost is worth 1 % less time.

    The cheapest size is always a small one, which saves a few per cent and takes several times as long.
    """

    def cost_times_time(size: int) -> float:
        of = replace(load, memory_mb=size)
        seconds = billed_seconds_of_ours(of, measured)
        return seconds * sum(line.dollars for line in _compute(of, seconds))

    return min(MEMORY_SIZES, key=cost_times_time)


def _line_maker(load: Load) -> Callable[[str, str, float, str], Line]:
    def line(component: str, driver: str, quantity: float, price: str) -> Line:
        return Line(component, driver, quantity, price, PRICES[price].of(quantity, load.region))

    return line


def _compute(load: Load, seconds: float) -> tuple[Line, Line]:
    line = _line_maker(load)
    gigabytes = load.memory_mb / 1024
    return (
        line(
            "Lambda",
            f"{seconds:.2f} s per image with {load.memory_mb} MB, {load.architecture}",
            load.images * seconds * gigabytes,
            f"lambda.{load.architecture}",
        ),
        line("Lambda", f"invocations, for a batch of {load.batch:g} each", load.invocations, "lambda.request"),
    )


def _requests(load: Load, renditions: int) -> tuple[Line, Line]:
    line = _line_maker(load)
    puts = 1 + renditions
    return (
        line(
            "S3", f"{puts} PutObject per image: the upload, every rendition that differs", load.images * puts, "s3.put"
        ),
        line("S3", "1 GetObject per image", load.images, "s3.get"),
    )


def _idle_polls(load: Load, queues: int, pollers: int) -> Line:
    return _line_maker(load)(
        "SQS",
        f"{queues} idle {'queues' if queues > 1 else 'queue'}, {pollers} pollers each, {_POLL_SECONDS} s a poll",
        queues * pollers * SECONDS_A_MONTH / _POLL_SECONDS,
        "sqs.request",
    )


def _kept(load: Load, measured: Measured) -> tuple[Line, ...]:
    line = _line_maker(load)
    lines = [
        line("S3", f"uploads of {load.megabytes:g} MB", load.images * load.megabytes * 1e6 / _GB, "s3.storage"),
        line(
            "S3",
            f"renditions, {measured.renditions_bytes:,} bytes",
            load.images * measured.renditions_bytes / _GB,
            "s3.storage",
        ),
    ]
    views, size = load.images * load.views, measured.largest_rendition_bytes
    if load.views and load.delivered:
        lines += [*_delivered(load, views, size), *_redirected(load, views * load.by_stable_address)]
    elif load.views:
        lines += [
            line("S3", f"{load.views:g} views of each image, a GetObject each", views, "s3.get"),
            line("Transfer", f"their {size:,} bytes", views * size / _GB, "transfer.out"),
        ]
    return tuple(lines)


def _delivered(load: Load, views: float, size: int) -> tuple[Line, ...]:
    line = _line_maker(load)
    return (
        line("CloudFront", f"{load.views:g} views of each image, a request each", views, "cloudfront.request"),
        line("CloudFront", f"their {size:,} bytes", views * size / _GB, "cloudfront.out"),
        line("S3", f"GetObject for {MISSED_RENDITIONS:.0%} of them", views * MISSED_RENDITIONS, "s3.get"),
    )


def _redirected(load: Load, redirects: float) -> tuple[Line, ...]:
    line, missed = _line_maker(load), redirects * MISSED_REDIRECTS
    if not redirects:
        return ()
    return (
        line("CloudFront", "a request for each redirect of a stable address", redirects, "cloudfront.request"),
        line("CloudFront", f"their {_REDIRECT_BYTES} bytes", redirects * _REDIRECT_BYTES / _GB, "cloudfront.out"),
        line("CloudFront", "its function at the edge, each", redirects, "cloudfront.function"),
        line("Lambda", f"LocateImageFunction for {MISSED_REDIRECTS:.0%} of them", missed, "lambda.request"),
        line(
            "Lambda",
            f"its {_REDIRECT_SECONDS * 1000:.0f} ms with {_REDIRECT_MB} MB",
            missed * _REDIRECT_SECONDS * _REDIRECT_MB / 1024,
            f"lambda.{load.architecture}",
        ),
        line("DynamoDB", "its read of the image, half a unit", missed / 2, "dynamodb.read"),
    )


def per_million(bill: Bill, load: Load) -> float:
    """Dollars per million images, at this load."""
    return bill.dollars / load.images * 1e6
