"""The demo's photos: upload them, and report each outcome."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import time
from typing import Any

from darkroom.image_messages import upload_task_id
from darkroom.items import stored_renditions
from darkroom.messages import unreadable_task_id
from darkroom.sending import PlainTask, send_all, submit_tasks
from rich.console import Console
from rich.filesize import decimal as readable_size
from rich.progress import Progress
from rich.table import Table

from functions.process_image.formats import KEY_SUFFIXES
from local.config import PROJECT, LaptopError
from local.demo.report import Shown
from local.outcomes import SECONDS_TO_FINISH, DeadLetter, poll, read_dead_letters, read_items, read_log, wait_for_tasks
from local.stack import Stack
from operations.flows import FLOWS
from operations.terminal import printable

_SAMPLES = PROJECT / "samples"
_PREFIX = "demo/"


@dataclass(frozen=True)
class Sample:
    """A photo to upload. ``expected`` is "processed", an error code, or None if either is fine."""

    path: Path
    expected: str | None
    shows: str = ""


def shipped_samples() -> list[Sample]:
    """The sample photos, and the expected outcomes."""
    table = tomllib.loads((_SAMPLES / "expected.toml").read_text())
    return [Sample(_SAMPLES / row["file"], row["outcome"], row.get("shows", "")) for row in table["sample"]]


def own_photos(folder: Path) -> list[Sample]:
    """The photos of a folder. Raises LaptopError."""
    if not folder.is_dir():
        raise LaptopError(f"PHOTOS={folder} is not a folder.")
    known = [suffix for suffix in KEY_SUFFIXES if suffix.islower()]
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in known and path.is_file())
    if not paths:
        raise LaptopError(f"There are no photos in {folder}: no file name ends in {', '.join(known)}.")
    mixed = [path.name for path in paths if path.suffix not in KEY_SUFFIXES]
    if mixed:
        raise LaptopError(f"An ending is spelled like .jpg, .Jpg or .JPG. Rename {', '.join(mixed)}.")
    return [Sample(path, None) for path in paths]


def send_in(deployed: Stack, samples: Sequence[Sample], console: Console) -> list[Shown]:
    """Upload every photo; S3 sends the events."""
    s3, bucket = deployed.s3, deployed.outputs["UploadsBucketName"]

    def upload(sample: Sample) -> Shown:
        key = _PREFIX + sample.path.name
        body = sample.path.read_bytes()
        version_id = s3.put_object(Bucket=bucket, Key=key, Body=body)["VersionId"]
        task_id = upload_task_id(bucket, key, version_id)
        return Shown(sample.path.name, key, task_id, sample.expected, sample.shows, bytes_in=len(body))

    with (
        ThreadPoolExecutor(8) as pool,
        Progress(console=console, transient=True, disable=not console.is_terminal) as progress,
    ):
        return list(progress.track(pool.map(upload, samples), total=len(samples), description="Uploading"))


def send_odd_messages(deployed: Stack) -> list[Shown]:
    """Send what other programs might: a task for a missing object, and a message that is not a task."""
    sqs, queue_url = deployed.sqs, deployed.outputs[FLOWS["images"].waiting]
    gone = PlainTask(f"demo-{time():.3f}", deployed.outputs["UploadsBucketName"], f"{_PREFIX}deleted.jpg")
    submit_tasks(sqs, queue_url, [gone])
    body = json.dumps({"please": "render my photo", "sent": f"{time():.3f}"})
    send_all(sqs, queue_url, [body])
    return [
        Shown("(plain task)", gone.key, gone.task_id, "ObjectGone", "a task for an object that is gone"),
        Shown("(plain message)", "", unreadable_task_id(body), "MalformedMessage", "a message that is not a task"),
    ]


def wait(deployed: Stack, shown: Sequence[Shown], console: Console) -> None:
    """Wait until every image is finished, or four minutes are over."""
    task_ids = [row.task_id for row in shown]
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("Rendering", total=len(task_ids))
        wait_for_tasks(
            deployed,
            task_ids,
            seconds=SECONDS_TO_FINISH,
            progress=lambda done: progress.update(bar, completed=done),
        )


def learn_outcomes(deployed: Stack, shown: Sequence[Shown], started: float) -> list[DeadLetter]:
    """Fill in each outcome; returns the dead letters of this run."""
    wanted = {row.task_id for row in shown}
    tasks = read_items(deployed, deployed.outputs["TasksTableName"], "task_id", list(wanted))
    images = read_items(deployed, deployed.outputs["ImagesTableName"], "image_key", [r.key for r in shown if r.key])
    dead_lettered = {row.task_id for row in shown if tasks.get(row.task_id, {}).get("outcome") == "DeadLettered"}
    letters = [letter for letter in _dead_letters(deployed, dead_lettered) if letter.task_id in wanted]
    by_task = {letter.task_id: letter for letter in letters}
    lines = _log_lines(deployed, wanted, started)
    for row in shown:
        row.outcome = tasks.get(row.task_id, {}).get("outcome", "unfinished")
        if letter := by_task.get(row.task_id):
            row.outcome, row.error_code, row.reason = "DeadLettered", letter.error_code, letter.reason
        if row.outcome == "Processed":
            row.image = images[row.key]
            row.bytes_out = sum(int(r["bytes"]) for r in stored_renditions(row.image))
        line = lines.get(row.task_id, {})
        row.notification_latency_ms = line.get("NotificationLatencyMs")
        row.processing_ms = line.get("ProcessingTimeMs")
    return letters


def _dead_letters(deployed: Stack, wanted: set[str]) -> list[DeadLetter]:
    """All dead letters, once those of the given tasks are visible; SQS may hide one for a moment."""
    return poll(
        lambda: read_dead_letters(deployed, deployed.outputs[FLOWS["images"].dead_letters]),
        lambda letters: wanted <= {letter.task_id for letter in letters},
        seconds=30,
    )


def _log_lines(deployed: Stack, task_ids: set[str], started: float) -> dict[str, dict[str, Any]]:
    """The function's log line of each task; logs arrive a little after the work is done."""
    function = deployed.outputs["ProcessImageFunctionName"]
    return poll(
        lambda: {
            line["task_id"]: line for line in read_log(deployed, function, since=started - 1) if "task_id" in line
        },
        lambda lines: task_ids <= lines.keys(),
        seconds=30,
    )


def tabulate(shown: Sequence[Shown], *, narrow: bool) -> Table:
    """A row for each image; on a narrow terminal each rendition has a line."""
    table = Table(title=f"{len(shown)} image{'s' if len(shown) > 1 else ''}", title_justify="left", header_style="bold")
    table.add_column("image", overflow="fold")
    table.add_column("renditions", no_wrap=narrow)
    table.add_column("bytes in → out", justify="right", no_wrap=True)
    if not narrow:
        table.add_column("notified after", justify="right")
    table.add_column("took" if narrow else "processed in", justify="right", no_wrap=True)
    for row in shown:
        if row.outcome == "Processed":
            sizes = (f"{r['name']} {r['width']}×{r['height']}" for r in row.image["renditions"])
            renditions = ("\n" if narrow else "  ").join(sizes)
        else:
            renditions = f"[yellow]{printable(row.error_code or row.outcome)}[/]"
        byte_counts = f"{readable_size(row.bytes_in)} → {readable_size(row.bytes_out)}" if row.bytes_out else ""
        times = [row.processing_ms] if narrow else [row.notification_latency_ms, row.processing_ms]
        table.add_row(printable(row.name), renditions, byte_counts, *map(_readable, times))
    return table


def _readable(milliseconds: int | None) -> str:
    return "" if milliseconds is None else f"{milliseconds} ms"
