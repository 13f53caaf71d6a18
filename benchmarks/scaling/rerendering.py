"""`python -m benchmarks.scaling.rerendering`: live uploads during `make rerender`, its estimate, a kill.

On the running laptop stack: live uploads alone, then live uploads while older photos are rendered again, then a run
that is killed in the middle and continued. Older photos are uploaded under names that S3 sends no event for.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from time import monotonic, sleep, time
from typing import Any

from PIL import Image
from rich.console import Console
from rich.table import Table

from local.chaos.uploads import Upload, numbered, upload
from local.config import PROJECT, LaptopError, local_config
from local.outcomes import poll, read_items, take_results, wait_for_tasks
from local.stack import Stack, load
from operations.rerender import RerenderOptions, deployed_form, plan
from operations.rerender_command import estimate
from operations.terminal import printable

RESULTS = Path(__file__).parents[1] / "results" / "rerendering.json"
_PHOTO = PROJECT / "samples" / "raccoon.jpg"  # 3 megapixels
_LIVE_A_SECOND = 0.5
_LEAST_ALONE = 20
_FIRST = 5  # not counted: they start processes
_SECONDS_TO_FINISH = 120
_BY_PACE = re.compile(r"After the first ([\d,]+): (?:(\d+) h )?(\d+) min(?: (\d+) s)? in all")


def main() -> int:
    """Measure, print a table and write the results; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling.rerendering", description=__doc__)
    parser.add_argument("--images", type=int, default=1000, help="how many are rendered again (default 1000)")
    images = parser.parse_args().images
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 110)
    try:
        deployed = load(local_config())
        measured = _measure(deployed, images, console)
    except LaptopError as error:
        console.print(f"[red]{printable(str(error))}[/]")
        return 1
    RESULTS.write_text(json.dumps(measured, indent=2) + "\n")
    table = Table(title="make rerender on the laptop stack", title_justify="left", header_style="bold")
    table.add_column("what")
    table.add_column("", justify="right")
    for name, value in measured.items():
        table.add_row(name, f"{value:,}" if isinstance(value, int | float) else value)
    console.print(table)
    return 0


def _measure(deployed: Stack, images: int, console: Console) -> dict[str, Any]:
    run = f"rerendering/{time():.0f}"
    for _ in take_results(deployed):
        pass  # drops the messages of earlier runs
    with console.status("Uploading older photos ..."):
        older = _upload_older(deployed, f"{run}/older", images)
        killed = _upload_older(deployed, f"{run}/killed", images // 10)
    with console.status("Live uploads alone ..."):
        _live(deployed, f"{run}/first", lambda made: made >= _FIRST)
        alone = _live(deployed, f"{run}/alone", lambda made: made >= max(images // 10, _LEAST_ALONE))
    found = plan(deployed, deployed_form(deployed), RerenderOptions(prefix=f"{run}/older", any_name=True))
    by_model = estimate(deployed, found).seconds
    load_average = os.getloadavg()[0]
    with console.status("Live uploads while older photos are rendered again ..."):
        started = monotonic()
        command = _rerender(f"{run}/older")
        ended: list[float] = []

        def is_over(_: int) -> bool:
            if command.poll() is not None:
                ended.append(monotonic())
            return bool(ended)

        meanwhile = _live(deployed, f"{run}/meanwhile", is_over)
        said = command.communicate()[0]
    if command.returncode:
        raise LaptopError(f"make rerender failed: {' '.join(said.split())}")
    with console.status("A run that is killed in the middle ..."):
        _kill_in_the_middle(deployed, f"{run}/killed", killed)
    once = _rendered_once(deployed, [*older, *killed])
    seconds = ended[0] - started
    return {
        "machine": f"{os.cpu_count()} cores, load average {load_average:.0f}, {date.today().isoformat()}",  # noqa: DTZ011
        "photos rendered again": images,
        "seconds measured": round(seconds),
        "seconds by the model": round(by_model),
        "seconds by the pace of the first hundred": _by_pace(said),
        "live uploads alone": len(alone),
        "live uploads meanwhile": len(meanwhile),
        **{f"alone, {name}, s": round(value, 2) for name, value in _percentiles(alone).items()},
        **{f"meanwhile, {name}, s": round(value, 2) for name, value in _percentiles(meanwhile).items()},
        "photos of the killed run": len(killed),
        "photos rendered exactly once": once,
    }


def _photo() -> Image.Image:
    with Image.open(_PHOTO) as photo:
        photo.load()
        return photo


def _upload_older(deployed: Stack, folder: str, count: int) -> list[str]:
    photo = _photo()

    def upload_one(number: int) -> str:
        return upload(deployed, f"{folder}/{number:05}", numbered(photo, number)).key

    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(upload_one, range(count)))


def _live(deployed: Stack, folder: str, is_over: Callable[[int], bool]) -> list[float]:
    """Upload at an even pace; returns the seconds from each upload's start until it is published."""
    photo, began, made = _photo(), monotonic(), 0
    uploads: list[tuple[Upload, float]] = []
    while not is_over(made):
        body = numbered(photo, made)
        at = time()
        uploads.append((upload(deployed, f"{folder}/{made:05}.jpg", body), at))
        made += 1
        sleep(max(began + made / _LIVE_A_SECOND - monotonic(), 0))
    tasks = wait_for_tasks(deployed, [live.task_id for live, _ in uploads], seconds=_SECONDS_TO_FINISH)
    return [
        datetime.fromisoformat(tasks[live.task_id]["processed_at"]).astimezone(UTC).timestamp() - at
        for live, at in uploads
    ]


def _rerender(prefix: str) -> subprocess.Popen[str]:
    """Begin `make rerender`."""
    arguments = [sys.executable, "-u", "-m", "operations", "rerender", "--prefix", prefix, "--any-name"]
    return subprocess.Popen(arguments, cwd=PROJECT, stdout=subprocess.PIPE, text=True)  # noqa: S603 # our own command


def _kill_in_the_middle(deployed: Stack, prefix: str, keys: list[str]) -> None:
    middle = keys[len(keys) // 2]
    read = partial(read_items, deployed, deployed.outputs["ImagesTableName"], "image_key", [middle])
    killed = _rerender(prefix)
    poll(read, lambda found: bool(found) or killed.poll() is not None, seconds=_SECONDS_TO_FINISH * 5, every=0.5)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    if killed.returncode != -signal.SIGKILL:
        raise LaptopError("The run ended before it could be killed.")
    command = _rerender(prefix)
    said = command.communicate()[0]
    if command.returncode:
        raise LaptopError(f"make rerender failed after a kill: {' '.join(said.split())}")


def _rendered_once(deployed: Stack, keys: list[str]) -> int:
    """How many photos have one result, and in the bucket the renditions of their record and no others."""
    tasks = defaultdict(set)
    for result in take_results(deployed):
        tasks[result["image_key"]].add(result["task_id"])
    folder = keys[0].rsplit("/", 2)[0]
    pages = deployed.s3.get_paginator("list_objects_v2").paginate(
        Bucket=deployed.outputs["RenditionsBucketName"], Prefix=folder
    )
    stored = defaultdict(set)
    for page in pages:
        for found in page.get("Contents", []):
            stored[found["Key"].rsplit("/", 2)[0]].add(found["Key"])
    records = read_items(deployed, deployed.outputs["ImagesTableName"], "image_key", keys)
    return sum(
        len(tasks[key]) == 1 and stored[key] == {rendition["key"] for rendition in records[key]["renditions"]}
        for key in keys
        if records.get(key, {}).get("state") == "READY"
    )


def _by_pace(said: str) -> int | None:
    found = _BY_PACE.search(said)
    return int(found[2] or 0) * 3600 + int(found[3]) * 60 + int(found[4] or 0) if found else None


def _percentiles(seconds: list[float]) -> dict[str, float]:
    hundredths = statistics.quantiles(seconds, n=100, method="inclusive")
    return {"median": statistics.median(seconds), "p99": hundredths[98]}


if __name__ == "__main__":
    sys.exit(main())
