"""`make cost`: what a month of images costs on AWS, component by component, beside the usual sample.

The counts are those of the code: each is written here beside the module that causes it. The seconds are measured
(`benchmarks.function_seconds`), the prices are AWS's (`benchmarks.prices`), what a call waits for AWS is assumed
(`WAITS`). `make cost-page` writes docs/cost.md from the same numbers.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.function_seconds import Measured, load
from benchmarks.prices import AS_OF, MB_PER_CPU, PRICES, REGIONS, SOURCES
from functions.process_image.rendition_set import load_rendition_set

PROJECT = Path(__file__).resolve().parent.parent
PAGE = PROJECT / "docs" / "cost.md"
PLOT = PROJECT / "docs" / "plots" / "cost-by-memory.svg"

SECONDS_A_MONTH = 30 * 86_400
MEMORY_SIZES = (512, 768, 1024, 1280, 1536, 1769, 2048, 2560, 3008)
#: A camera's JPEG: 12 megapixels in about 4 MB.
MEGAPIXELS_PER_MB = 3
#: Encoders at work at once, as the function has them: a third vCPU would have nothing to do.
_MOST_CPUS = 2

#: Seconds that a call waits, and bytes a second from S3 to a function: assumed, of the size that people report.
WAITS = {"s3": 0.040, "dynamodb": 0.006, "sqs": 0.012}
BYTES_PER_SECOND = 80e6

# Names of the metrics in functions/process_image/reporting.py and layers/common/darkroom/reporting.py, ColdStart and
# one error code among them. The smaller ones appear only in months in which they happen; all are counted.
_METRICS = 13
# Lambda's pollers ask an idle queue five at a time, and SQS answers after ReceiveMessageWaitTimeSeconds.
_IDLE_POLLERS = 5
_POLL_SECONDS = 10


@dataclass(frozen=True)
class Load:
    """What comes in, and how it is taken.

    Attributes
    ----------
    images:
        A month.
    megabytes:
        Of one upload.
    batch:
        Messages that one invocation takes, on average: 1 while images come one by one, 10 when they queue.
    views:
        How often an image's largest rendition is sent to the internet.
    """

    images: float
    megabytes: float = 4
    memory_mb: int = MB_PER_CPU
    architecture: str = "arm64"
    region: str = "eu-central-1"
    batch: float = 1
    views: float = 0

    @property
    def invocations(self) -> float:
        """A month."""
        return self.images / self.batch

    @property
    def megapixels(self) -> float:
        """Of one upload, if a camera took it."""
        return self.megabytes * MEGAPIXELS_PER_MB


@dataclass(frozen=True)
class Line:
    """One line of the bill: so many units of a price, and what drives them."""

    component: str
    driver: str
    quantity: float
    price: str
    dollars: float


@dataclass(frozen=True)
class Bill:
    """A month's bill. ``kept`` comes again every month that the images are kept; ``fixed`` whether any come or not."""

    running: tuple[Line, ...]
    fixed: tuple[Line, ...]
    kept: tuple[Line, ...]

    @property
    def dollars(self) -> float:
        """Of the images that came in: what runs and what is fixed, without what is kept."""
        return sum(line.dollars for line in (*self.running, *self.fixed))


def renditions() -> int:
    """How many are made of every photo: of the rendition set as it stands."""
    return len(load_rendition_set(PROJECT / "functions" / "process_image" / "renditions.toml").specs)


def alarms() -> int:
    """How many metric alarms the template makes."""
    return len(re.findall(r"^    Type: AWS::CloudWatch::Alarm$", (PROJECT / "template.yaml").read_text(), re.MULTILINE))


def rendering_seconds(cpu_seconds: float, memory_mb: int, parallel: float) -> float:
    """How long a rendering takes with a function's share of the CPU.

    Parameters
    ----------
    cpu_seconds:
        On one core.
    parallel:
        The share of them that a second core can take over, 0 to 1 (Amdahl).
    """
    cpus = memory_mb / MB_PER_CPU
    if cpus <= 1:
        return cpu_seconds / cpus
    return cpu_seconds * (1 - parallel + parallel / min(cpus, _MOST_CPUS))


def parallel_share(one_core: float, two_cores: float) -> float:
    """The share of a rendering that a second core takes over, from its wall time on one and on two."""
    return min(max(2 * (1 - two_cores / one_core), 0), 1)


def waiting_seconds(megabytes: float, *, s3: int, dynamodb: int, sqs: int) -> float:
    """How long one image waits for AWS: its calls that follow one another, and its way from S3."""
    calls = s3 * WAITS["s3"] + dynamodb * WAITS["dynamodb"] + sqs * WAITS["sqs"]
    return calls + megabytes * 1e6 / BYTES_PER_SECOND


def seconds_of_ours(load: Load, measured: Measured) -> tuple[float, float]:
    """Seconds that an image waits, and seconds of the CPU that it takes with the function's memory.

    One after the other: claim, GetObject, look-up, all PutObjects side by side, publish, announce, finish
    (functions/process_image/process.py).
    """
    point = measured.at(load.megapixels)
    parallel = parallel_share(point.one_core, point.two_cores)
    return (
        waiting_seconds(load.megabytes, s3=2, dynamodb=4, sqs=1),
        rendering_seconds(point.ours, load.memory_mb, parallel),
    )


def seconds_of_sample(load: Load, measured: Measured) -> tuple[float, float]:
    """The same of the usual sample: GetObject, then a PutObject after each size."""
    point = measured.at(load.megapixels)
    return (
        waiting_seconds(load.megabytes, s3=1 + renditions(), dynamodb=0, sqs=0),
        rendering_seconds(point.sample, load.memory_mb, parallel=0),
    )


def billed_seconds_of_ours(load: Load, measured: Measured) -> float:
    """Seconds billed for an image: messages of a batch overlap, so that a batch waits about once."""
    waiting, rendering = seconds_of_ours(load, measured)
    return waiting / load.batch + rendering


def billed_seconds_of_sample(load: Load, measured: Measured) -> float:
    """Seconds billed for an image: records one after the other."""
    return sum(seconds_of_sample(load, measured))


def bill_of_ours(load: Load, measured: Measured) -> Bill:
    """The bill of the flow as it stands."""
    count = renditions()
    task_units = ceil(measured.tasks_item_bytes / 1024)
    image_units = ceil(measured.images_item_bytes / 1024)
    logs = measured.log_bytes_per_image + measured.log_bytes_per_batch / load.batch
    rate = load.invocations / SECONDS_A_MONTH
    # One invocation a second is traced, and 5 % of the others.
    # https://docs.aws.amazon.com/lambda/latest/dg/services-xray.html
    traced = min(rate, 1 + 0.05 * max(rate - 1, 0)) / rate if rate else 0
    line = _line_maker(load)
    return Bill(
        running=(
            *_compute(load, billed_seconds_of_ours(load, measured)),
            line("S3", f"{count} PutObject per image, one for each rendition", load.images * count, "s3.put"),
            line("S3", "1 GetObject per image", load.images, "s3.get"),
            line(
                "SQS",
                "2 messages sent per image (task, result), a receive and a delete per batch",
                load.images * 2 + load.invocations * 2,
                "sqs.request",
            ),
            line(
                "DynamoDB",
                f"claim and finish the task: 2 x {task_units} unit, {measured.tasks_item_bytes} bytes;"
                f" publish the image: {image_units} units, {measured.images_item_bytes:,} bytes",
                load.images * (2 * task_units + image_units),
                "dynamodb.write",
            ),
            line("DynamoDB", "look the image up, eventually consistent: half a unit", load.images / 2, "dynamodb.read"),
            line(
                "CloudWatch",
                f"logs: {measured.log_bytes_per_image} bytes per image, {measured.log_bytes_per_batch:,} per batch",
                load.images * logs / 1e9,
                "cloudwatch.logs",
            ),
            line("X-Ray", f"traces: {traced:.0%} of the invocations", load.invocations * traced, "xray.trace"),
        ),
        fixed=(
            line("CloudWatch", f"{_METRICS} custom metrics", _METRICS, "cloudwatch.metric"),
            line("CloudWatch", f"{alarms()} alarms, of all flows", alarms(), "cloudwatch.alarm"),
            line(
                "SQS",
                f"{_IDLE_POLLERS} pollers on an idle queue, {_POLL_SECONDS} s a poll",
                _IDLE_POLLERS * SECONDS_A_MONTH / _POLL_SECONDS,
                "sqs.request",
            ),
        ),
        kept=(
            *_kept(load, measured),
            line(
                "DynamoDB",
                "images and a month of tasks",
                load.images * (measured.images_item_bytes + measured.tasks_item_bytes) / 2**30,
                "dynamodb.storage",
            ),
            line(
                "DynamoDB",
                "point-in-time recovery of the images",
                load.images * measured.images_item_bytes / 2**30,
                "dynamodb.recovery",
            ),
        ),
    )


def bill_of_sample(load: Load, measured: Measured) -> Bill:
    """The bill of the usual sample with the same renditions: no record, no claim, no result, no metrics, no traces."""
    count = renditions()
    line = _line_maker(load)
    return Bill(
        running=(
            *_compute(load, billed_seconds_of_sample(load, measured)),
            line("S3", f"{count} PutObject per image", load.images * count, "s3.put"),
            line("S3", "1 GetObject per image", load.images, "s3.get"),
            line(
                "SQS",
                "1 message sent per image, a receive and a delete per batch",
                load.images + load.invocations * 2,
                "sqs.request",
            ),
            line(
                "CloudWatch", "logs: Lambda's own lines", load.invocations * _SAMPLE_LOG_BYTES / 1e9, "cloudwatch.logs"
            ),
        ),
        fixed=(),
        kept=_kept(load, measured),
    )


# START, END and REPORT in the text format.
_SAMPLE_LOG_BYTES = 400


def best_memory(load: Load, measured: Measured) -> int:
    """The memory size with the least cost; of those within 1 % of it the fastest."""
    bills = {size: bill_of_ours(replace(load, memory_mb=size), measured).dollars for size in MEMORY_SIZES}
    least = min(bills.values())
    return max(size for size, dollars in bills.items() if dollars <= least * 1.01)


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


def _kept(load: Load, measured: Measured) -> tuple[Line, ...]:
    line = _line_maker(load)
    return (
        line("S3", f"uploads of {load.megabytes:g} MB", load.images * load.megabytes / 1000, "s3.storage"),
        line(
            "S3",
            f"renditions, {measured.renditions_bytes:,} bytes",
            load.images * measured.renditions_bytes / 1e9,
            "s3.storage",
        ),
        line(
            "Transfer",
            f"{load.views:g} views of each image",
            load.images * load.views * measured.largest_rendition_bytes / 1e9,
            "transfer.out",
        ),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the bill, or write the page; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cost", description=__doc__)
    parser.add_argument("--images", type=float, default=1e6, help="a month (default 1,000,000)")
    parser.add_argument("--mb", type=float, default=4, help="of one upload (default 4)")
    parser.add_argument("--memory", type=int, default=MB_PER_CPU, help="of the function, in MB (default 1769)")
    parser.add_argument("--arch", choices=("arm64", "x86_64"), default="arm64")
    parser.add_argument("--region", choices=REGIONS, default="eu-central-1")
    parser.add_argument("--batch", type=float, default=1, help="messages an invocation takes, 1 to 10 (default 1)")
    parser.add_argument("--views", type=float, default=0, help="of each image, sent to the internet (default 0)")
    parser.add_argument("--page", action="store_true", help="write docs/cost.md and its plot instead")
    given = parser.parse_args(arguments)
    if given.images <= 0 or given.mb <= 0 or not 128 <= given.memory <= 10240 or not 1 <= given.batch <= 10:
        parser.error("images and mb must be above 0, memory from 128 to 10240, batch from 1 to 10")
    measured = load()
    if given.page:
        from benchmarks import plots

        PAGE.write_text(page_of(measured))
        plots.plot_memory_sizes(measured, PLOT)
        return 0
    wanted = Load(given.images, given.mb, given.memory, given.arch, given.region, given.batch, given.views)
    _print(Console(highlight=False, width=None if sys.stdout.isatty() else 110), wanted, measured)
    return 0


def _print(console: Console, wanted: Load, measured: Measured) -> None:
    ours, sample = bill_of_ours(wanted, measured), bill_of_sample(wanted, measured)
    table = Table(
        title=f"{wanted.images:,.0f} images of {wanted.megabytes:g} MB a month, {wanted.region}",
        title_justify="left",
        header_style="bold",
    )
    table.add_column("component")
    table.add_column("driven by")
    for column in ("quantity", "USD"):
        table.add_column(column, justify="right")
    for line in (*ours.running, *ours.fixed):
        table.add_row(line.component, line.driver, f"{line.quantity:,.0f}", f"{line.dollars:,.2f}")
    table.add_section()
    table.add_row("[bold]Darkroom", f"{_per_million(ours, wanted):.2f} USD a million", "", f"[bold]{ours.dollars:,.2f}")
    table.add_row("The usual sample", f"{_per_million(sample, wanted):.2f} USD a million", "", f"{sample.dollars:,.2f}")
    table.add_section()
    for line in ours.kept:
        table.add_row(line.component, f"kept a month: {line.driver}", f"{line.quantity:,.0f}", f"{line.dollars:,.2f}")
    console.print(table)
    console.print(
        f"The best memory size for this is {best_memory(wanted, measured)} MB. Measured on {measured.machine},"
        f" {measured.measured_on}; prices of {AS_OF}, before free tiers."
    )


def _per_million(bill: Bill, wanted: Load) -> float:
    return bill.dollars / wanted.images * 1e6


def page_of(measured: Measured) -> str:
    """docs/cost.md, from the calculator's own numbers."""
    return "\n".join(_lines(measured)).rstrip() + "\n"


def _lines(measured: Measured) -> Iterator[str]:
    usual = Load(images=1e6)
    ours, sample = bill_of_ours(usual, measured), bill_of_sample(usual, measured)
    best = best_memory(usual, measured)
    yield "<!-- Made by `make cost-page` from benchmarks/cost.py, prices.py and results. Do not edit. -->"
    yield "# Cost"
    yield ""
    yield (
        f"A million images of {usual.megabytes:g} MB a month cost **{ours.dollars:.0f} USD** in {usual.region} with"
        f" {usual.memory_mb} MB and {usual.architecture}; the usual sample, with the same renditions and nothing else,"
        f" **{sample.dollars:.0f} USD**. `make cost IMAGES=1000000 MB=4` says the same of your numbers"
        " (MEMORY, ARCH, REGION, BATCH, VIEWS)."
    )
    yield ""
    yield "| Component | Driven by | USD | The usual sample |"
    yield "|---|---|---:|---:|"
    theirs = {(line.component, line.price): line.dollars for line in sample.running}
    for line in (*ours.running, *ours.fixed):
        is_fixed = line in ours.fixed
        beside = "" if is_fixed else f"{theirs.get((line.component, line.price), 0):.2f}"
        yield f"| {line.component} | {line.driver}{', fixed' if is_fixed else ''} | {line.dollars:.2f} | {beside} |"
    yield f"| | **Together** | **{ours.dollars:.2f}** | **{sample.dollars:.2f}** |"
    yield ""
    yield (
        "The usual sample takes records one after the other, decodes the photo for each size and writes each rendition"
        " when it is done. It knows no task, no version, no record and no result, so it pays nothing for them: what"
        " Darkroom pays for DynamoDB, traces, metrics and alarms is the price of not doing a thing twice and of"
        " knowing what became of it."
    )
    yield ""
    yield "While the images are kept, every month:"
    yield ""
    yield "| | | USD a month |"
    yield "|---|---|---:|"
    for line in ours.kept:
        yield f"| {line.component} | {line.driver} | {line.dollars:.2f} |"
    yield ""
    yield "## By volume"
    yield ""
    yield "USD a million images, arm64, 1769 MB. The fixed part is spread thin only from some hundred thousand on."
    yield ""
    yield "| Images a month | eu-central-1 | us-east-1 | the usual sample, eu-central-1 |"
    yield "|---:|---:|---:|---:|"
    for images in (1e4, 1e5, 1e6, 1e7, 1e8):
        europe, america = replace(usual, images=images), replace(usual, images=images, region="us-east-1")
        row = (
            _per_million(bill_of_ours(europe, measured), europe),
            _per_million(bill_of_ours(america, measured), america),
            _per_million(bill_of_sample(europe, measured), europe),
        )
        yield f"| {images:,.0f} | " + " | ".join(f"{dollars:.2f}" for dollars in row) + " |"
    yield ""
    yield "## Memory"
    yield ""
    yield (
        f"Below {MB_PER_CPU} MB a function has a part of a CPU and takes longer for the same price, but what it"
        " waits for AWS costs less. Above it, it has part of a second one, which helps as far as two encoders run. Of"
        f" the sizes within 1 % of the least cost the largest is the fastest: **{best} MB**."
    )
    yield ""
    yield "![Cost and time by memory size](plots/cost-by-memory.svg)"
    yield ""
    yield "| MB | seconds an image | USD a million, arm64 | x86_64 | the usual sample, seconds | USD a million, arm64 |"
    yield "|---:|---:|---:|---:|---:|---:|"
    for size in MEMORY_SIZES:
        arm, x86 = replace(usual, memory_mb=size), replace(usual, memory_mb=size, architecture="x86_64")
        yield (
            f"| {size} | {billed_seconds_of_ours(arm, measured):.2f} | {bill_of_ours(arm, measured).dollars:.2f} |"
            f" {bill_of_ours(x86, measured).dollars:.2f} | {billed_seconds_of_sample(arm, measured):.2f} |"
            f" {bill_of_sample(arm, measured).dollars:.2f} |"
        )
    yield ""
    full = replace(usual, batch=10)
    yield (
        f"These are images that come one by one. When they queue, an invocation takes ten and waits for AWS about once:"
        f" {bill_of_ours(full, measured).dollars:.2f} USD a million instead of {ours.dollars:.2f}, and"
        f" {bill_of_sample(full, measured).dollars:.2f} instead of {sample.dollars:.2f}."
    )
    yield ""
    yield "## What it rests on"
    yield ""
    yield (
        f"Measured on {measured.machine}, {measured.measured_on} (`benchmarks/results/function_seconds.json`): CPU"
        " seconds of one core, taken for those of a Lambda vCPU of either architecture. Yours will differ; measure with"
        " `make bench`."
    )
    yield ""
    yield "| Megapixels | Darkroom, CPU s | the usual sample, CPU s | Darkroom on one core, s | on two, s |"
    yield "|---:|---:|---:|---:|---:|"
    for point in measured.rendering:
        yield (
            f"| {point.megapixels:g} | {point.ours:.2f} | {point.sample:.2f} | {point.one_core:.2f} |"
            f" {point.two_cores:.2f} |"
        )
    yield ""
    waits = ", ".join(f"{name} {seconds * 1000:.0f} ms" for name, seconds in WAITS.items())
    yield (
        f"Assumed: a call waits {waits}; S3 sends {BYTES_PER_SECOND / 1e6:.0f} MB a second; {MEGAPIXELS_PER_MB}"
        " megapixels to a MB of JPEG; no retries, no cold starts, no orders and no RabbitMQ; every image's first"
        " version, so that nothing is tagged stale."
    )
    yield ""
    yield f"List prices of {AS_OF}, before free tiers, volume discounts and taxes:"
    yield ""
    yield f"| | {REGIONS[0]}, USD | {REGIONS[1]}, USD | found in a public source for | |"
    yield "|---|---:|---:|---|---|"
    for price in PRICES.values():
        scale, per = (1e6, "a million ") if price.dollars[REGIONS[0]] < 1e-3 else (1, "")
        dollars = " | ".join(f"{price.dollars[region] * scale:.4g}" for region in REGIONS)
        source = f"[{price.service}]({SOURCES[price.service]})"
        yield f"| {per}{price.unit} | {dollars} | {', '.join(price.checked) or 'none'} | {source} |"


if __name__ == "__main__":
    sys.exit(main())
