"""`python -m benchmarks.scaling.throughput`: images per second of the running laptop stack, by concurrent functions.

Photos are uploaded while the function does not read the queue, so that only the processing is timed. The result is
compared with the simulation of ``message_flow`` for the same number of messages, the same concurrency and the batches'
measured duration. It also checks that the functions' memory stays flat.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import statistics
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from threading import Event, Thread
from time import monotonic, sleep, time

import psutil
from darkroom.image_messages import upload_task_id
from PIL import Image, ImageDraw
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.scaling.flow_model import Batches
from benchmarks.scaling.message_flow import makespan
from local.chaos.fault_injection import held_back_messages, kill_functions
from local.config import PROJECT, LaptopError, LocalConfig, local_config
from local.emulators import aws_emulator
from local.outcomes import count_messages, take_results, wait_for_tasks
from local.stack import Stack, load
from operations.terminal import printable

RESULTS = Path(__file__).parents[1] / "results" / "throughput.json"
CONCURRENCY = (1, 2, 4)
#: Allowed difference between simulated and measured time: only the measured one includes the emulator's work.
TOLERANCE = 0.2
_PHOTO = PROJECT / "samples" / "raccoon.jpg"
_SIZE = (1200, 900)
_SECONDS_PER_IMAGE = 5  # more than any laptop needs
_BATCH = 10
# Memory is flat if its last third exceeds the middle third by no more than this.
_NOISE = 0.05
_REPORT = re.compile(r"REPORT .*?\bDuration: ([0-9.]+) ms")


@dataclass(frozen=True)
class Run:
    """One run, in seconds and MB; ``memory_mb`` is that of all functions: medians of the run's thirds."""

    concurrency: int
    images: int
    seconds: float
    images_per_second: float
    batches: int
    batch_seconds: float
    simulated_seconds: float
    memory_mb: tuple[float, float, float]

    @property
    def off_by(self) -> float:
        """The simulated time's difference from the measured one, as a share of it."""
        return self.simulated_seconds / self.seconds - 1

    @property
    def is_flat(self) -> bool:
        """Whether memory has stopped growing."""
        return is_flat(self.memory_mb)


def is_flat(thirds: tuple[float, float, float]) -> bool:
    """Whether the last third's memory exceeds the middle third's by no more than noise."""
    return thirds[2] <= thirds[1] * (1 + _NOISE)


def main() -> int:
    """Measure every concurrency, print a table and write the results; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling.throughput", description=__doc__)
    parser.add_argument("--images", type=int, default=1000, help="how many are uploaded for each run (default 1000)")
    images = max(parser.parse_args().images, _BATCH)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 110)
    try:
        config = local_config()
        deployed = load(config)
        runs = [_run(deployed, config, console, images, concurrency) for concurrency in CONCURRENCY]
    except LaptopError as error:
        console.print(f"[red]{printable(str(error))}[/]")
        return 1
    machine = f"{os.cpu_count()} cores, {date.today().isoformat()}"  # noqa: DTZ011 # a local date
    document = {"machine": machine, "photo": f"{_SIZE[0]} x {_SIZE[1]}", "runs": [asdict(run) for run in runs]}
    RESULTS.write_text(json.dumps(document, indent=2) + "\n")
    _print(console, runs)
    return 0


def _run(deployed: Stack, config: LocalConfig, console: Console, images: int, concurrency: int) -> Run:
    kill_functions(config)  # so that this run starts with its own number of functions
    bucket, queue_url = deployed.outputs["UploadsBucketName"], deployed.outputs["ImageTasksQueueUrl"]
    for _ in take_results(deployed):
        pass  # drops the messages of earlier runs
    with _at_most(deployed, concurrency):
        with held_back_messages(deployed, deployed.outputs["ImageTasksQueueArn"]):
            task_ids = _upload(deployed, bucket, images, console)
            _wait_until(lambda: sum(count_messages(deployed, queue_url)) >= images, 60, "S3 did not send all events.")
        started_at, started = datetime.now(UTC), time()
        with _watched_memory(config) as memory, Progress(console=console, transient=True) as progress:
            bar = progress.add_task(f"Rendering, {concurrency} at once", total=images)

            def is_empty() -> bool:
                waiting = sum(count_messages(deployed, queue_url))
                progress.update(bar, completed=images - waiting)
                return waiting == 0

            _wait_until(is_empty, images * _SECONDS_PER_IMAGE, "The queue did not run empty.")
        tasks = wait_for_tasks(deployed, task_ids, seconds=60)
    ended = max(datetime.fromisoformat(task["processed_at"]).timestamp() for task in tasks.values())
    seconds = ended - started
    batches, batch_seconds = _durations(deployed, started_at)
    return Run(
        concurrency=concurrency,
        images=images,
        seconds=round(seconds, 1),
        images_per_second=round(images / seconds, 2),
        batches=batches,
        batch_seconds=round(batch_seconds, 3),
        simulated_seconds=round(
            makespan(batches, concurrency, Batches(waiting=0, each=batch_seconds, overlap=True, size=1)), 1
        ),
        memory_mb=_thirds(memory),
    )


@contextmanager
def _at_most(deployed: Stack, concurrency: int) -> Iterator[None]:
    """Set the number of concurrent functions inside the block; a mapping's own limit is at least 2."""
    lambda_, function = deployed.lambda_, deployed.outputs["ProcessImageFunctionName"]
    queue_arn = deployed.outputs["ImageTasksQueueArn"]
    (mapping,) = lambda_.list_event_source_mappings(EventSourceArn=queue_arn)["EventSourceMappings"]
    uuid, before = mapping["UUID"], mapping["ScalingConfig"]
    limit = {"MaximumConcurrency": max(concurrency, 2)}
    lambda_.update_event_source_mapping(UUID=uuid, ScalingConfig=limit)  # type: ignore[arg-type]
    lambda_.put_function_concurrency(FunctionName=function, ReservedConcurrentExecutions=concurrency)
    try:
        yield
    finally:
        lambda_.delete_function_concurrency(FunctionName=function)
        restored = {"MaximumConcurrency": int(before["MaximumConcurrency"])}
        lambda_.update_event_source_mapping(UUID=uuid, ScalingConfig=restored)  # type: ignore[arg-type]


def _upload(deployed: Stack, bucket: str, images: int, console: Console) -> list[str]:
    """Upload photos that all differ; returns their tasks' ids."""
    run = f"throughput/{time():.0f}"
    with Image.open(_PHOTO) as photo:
        photo.draft("RGB", _SIZE)
        small = photo.resize(_SIZE)

    def upload(number: int) -> str:
        copy, buffer, key = small.copy(), io.BytesIO(), f"{run}/{number:05}.jpg"
        ImageDraw.Draw(copy).text((20, 20), str(number), fill="white", font_size=80)
        copy.save(buffer, "JPEG", quality=85)
        version_id = deployed.s3.put_object(Bucket=bucket, Key=key, Body=buffer.getvalue())["VersionId"]
        return upload_task_id(bucket, key, version_id)

    with ThreadPoolExecutor(4) as pool, Progress(console=console, transient=True) as progress:
        return list(progress.track(pool.map(upload, range(images)), total=images, description="Uploading"))


def _wait_until(holds: Callable[[], bool], seconds: float, otherwise: str) -> None:
    end = monotonic() + seconds
    while not holds():
        if monotonic() > end:
            raise LaptopError(otherwise)
        sleep(1)


@contextmanager
def _watched_memory(config: LocalConfig) -> Iterator[list[float]]:
    """Sample the memory of all function processes, in MB, twice a second during the block."""
    samples: list[float] = []
    over = Event()

    def watch() -> None:
        while not over.wait(0.5):
            total = 0
            for process in aws_emulator.function_processes(config):
                try:
                    total += process.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            samples.append(total / 2**20)

    watcher = Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield samples
    finally:
        over.set()
        watcher.join()


def _thirds(samples: list[float]) -> tuple[float, float, float]:
    third = max(len(samples) // 3, 1)
    first, middle, last = (statistics.median(samples[i * third : (i + 1) * third] or samples) for i in range(3))
    return round(first), round(middle), round(last)


def _durations(deployed: Stack, since: datetime) -> tuple[int, float]:
    """Number and mean duration of the function's batches since a time, from its log's REPORT lines."""
    function = deployed.lambda_.get_function_configuration(FunctionName=deployed.outputs["ProcessImageFunctionName"])
    pages = deployed.logs.get_paginator("filter_log_events").paginate(
        logGroupName=function["LoggingConfig"]["LogGroup"], startTime=int(since.timestamp() * 1000)
    )
    messages = [event["message"] for page in pages for event in page["events"]]
    durations = [float(found[1]) / 1000 for message in messages if (found := _REPORT.match(message))]
    if not durations:
        raise LaptopError("The function's log has no durations of batches.")
    return len(durations), statistics.mean(durations)


def _print(console: Console, runs: list[Run]) -> None:
    table = Table(title=f"{runs[0].images} photos through the laptop stack", title_justify="left", header_style="bold")
    for column in (
        "at once",
        "images/s",
        "seconds",
        "simulated",
        "off by",
        "batches",
        "s a batch",
        "MB, by thirds",
        "flat",
    ):
        table.add_column(column, justify="right")
    for run in runs:
        table.add_row(
            str(run.concurrency),
            f"{run.images_per_second:.1f}",
            f"{run.seconds:.1f}",
            f"{run.simulated_seconds:.1f}",
            f"{run.off_by:+.0%}",
            str(run.batches),
            f"{run.batch_seconds:.2f}",
            " ".join(f"{mb:.0f}" for mb in run.memory_mb),
            "yes" if run.is_flat else "no",
        )
    console.print(table)
    worst = max(abs(run.off_by) for run in runs)
    console.print(f"The simulation is off by {worst:.0%} at most; up to {TOLERANCE:.0%} is what it promises.")


if __name__ == "__main__":
    sys.exit(main())
