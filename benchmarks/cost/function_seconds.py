"""Measure what one image costs the function: CPU seconds by size, bytes. `benchmarks.cost` prices it.

`python -m benchmarks.cost.function_seconds` measures on this machine and writes its results. It measures
CPU time of one core, which a busy machine hardly changes. The gain of a second core is wall time and needs a quiet
machine.
"""

from __future__ import annotations

import io
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

from benchmarks.function_settings import AWS_ENVIRONMENT, ENVIRONMENT, MEMORY_MB
from benchmarks.rendering.processes import processor

RESULTS = Path(__file__).parents[1] / "results" / "function_seconds.json"
_PROJECT = Path(__file__).resolve().parents[2]
_SIZES = ((1632, 1224), (4032, 3024), (5656, 4242))  # 2, 12 and 24 megapixels
_COLD_STARTS = 5


@dataclass(frozen=True)
class Seconds:
    """CPU seconds to render one photo; ``one_core`` and ``two_cores`` are Darkroom's wall seconds."""

    megapixels: float
    ours: float
    sample: float
    one_core: float
    two_cores: float


@dataclass(frozen=True)
class Measured:
    """The measurements, with machine and date.

    Attributes
    ----------
    rendering:
        By size, ascending.
    handler_ours, handler_sample:
        CPU seconds of a whole handler per image without the rendering: AWS calls, messages, records, and for Darkroom
        the process of each image.
    renditions_bytes, largest_rendition_bytes:
        All renditions of the 12-megapixel photo together, and the largest of them.
    log_bytes_per_image, log_bytes_per_batch:
        Log bytes of the function per image and, in addition, per invocation.
    images_item_bytes, tasks_item_bytes:
        One item of the images and of the tasks table, as DynamoDB counts them.
    cold_start_seconds:
        CPU seconds of a new process until the handler is imported and its clients are made.
    """

    machine: str
    measured_on: str
    rendering: tuple[Seconds, ...]
    handler_ours: float
    handler_sample: float
    renditions_bytes: int
    largest_rendition_bytes: int
    log_bytes_per_image: int
    log_bytes_per_batch: int
    images_item_bytes: int
    tasks_item_bytes: int
    cold_start_seconds: float

    def at(self, megapixels: float) -> Seconds:
        """Seconds for a size, interpolated linearly between its neighbours and extrapolated beyond the ends."""
        points = self.rendering
        right = next((i for i, point in enumerate(points) if point.megapixels >= megapixels), len(points) - 1)
        right = max(right, 1)
        low, high = points[right - 1], points[right]
        share = (megapixels - low.megapixels) / (high.megapixels - low.megapixels)
        between = {name: value + share * (getattr(high, name) - value) for name, value in asdict(low).items()}
        return Seconds(**between)


def load(path: Path = RESULTS) -> Measured:
    """Read the measurements."""
    values = json.loads(path.read_text())
    return Measured(**{**values, "rendering": tuple(Seconds(**point) for point in values["rendering"])})


def save(measured: Measured, path: Path = RESULTS) -> None:
    """Write the measurements for `load`."""
    path.write_text(json.dumps(asdict(measured), indent=2) + "\n")


def item_bytes(item: Mapping[str, Any]) -> int:
    """The size of an item, by DynamoDB's rules, in the form of its API: ``{"name": {"S": "text"}}``.

    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html
    """
    return sum(len(name.encode()) + _value_bytes(value) for name, value in item.items())


def _value_bytes(value: Mapping[str, Any]) -> int:
    ((kind, content),) = value.items()
    match kind:
        case "S":
            return len(content.encode())
        case "N":
            return (len(content.lstrip("-").replace(".", "")) + 1) // 2 + 1
        case "L":
            return 3 + sum(1 + _value_bytes(entry) for entry in content)
        case "M":
            return 3 + sum(1 + len(name.encode()) + _value_bytes(entry) for name, entry in content.items())
    return 1  # a null or a truth value


def measure(rounds: int, tell: Callable[[str], None]) -> Measured:
    """Measure on this machine: each photo by both, in turns."""
    from PIL import Image

    from benchmarks.rendering.baselines import LIMITS, usual_renditions
    from benchmarks.rendering.rendition_sets import WEBP
    from functions.process_image.processing import identify, render

    cores = sorted(os.sched_getaffinity(0))
    rendering, sizes, item = [], [0], 0
    for width, height in _SIZES:
        with Image.open(_PROJECT / "samples" / "raccoon.jpg") as original:
            buffer = io.BytesIO()
            original.resize((width, height), Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=90)
        data = buffer.getvalue()
        photo = identify(data, LIMITS)

        def ours(data: bytes = data) -> None:
            render(data, identify(data, LIMITS), WEBP)

        def sample(data: bytes = data) -> None:
            usual_renditions(data, "webp")

        cpu: dict[str, list[float]] = {"ours": [], "sample": []}
        wall: dict[int, list[float]] = {1: [], 2: []}
        for _ in range(rounds):
            cpu["ours"].append(_cpu_seconds(ours))
            cpu["sample"].append(_cpu_seconds(sample))
            for count in (1, 2):
                _run_on(cores[:count])
                wall[count].append(_wall_seconds(ours))
            _run_on(cores)
        megapixels = round(width * height / 1e6, 1)
        rendering.append(
            Seconds(
                megapixels,
                round(statistics.median(cpu["ours"]), 3),
                round(statistics.median(cpu["sample"]), 3),
                round(min(wall[1]), 3),
                round(min(wall[2]), 3),
            )
        )
        tell(f"{megapixels} megapixels: {rendering[-1]}")
        if (width, height) == _SIZES[1]:
            rendered = render(data, photo, WEBP)
            sizes = [len(rendition.body) for rendition in rendered.renditions]
            item = _images_item_bytes(photo, rendered, WEBP.fingerprint, len(data))
    per_image, per_batch = _log_bytes()
    handlers = _beside_rendering(rounds)
    return Measured(
        machine=f"{processor()}, {len(cores)} cores, Python {platform.python_version()}",
        measured_on=date.today().isoformat(),  # noqa: DTZ011 # the day, for people
        rendering=tuple(rendering),
        handler_ours=handlers["ours"],
        handler_sample=handlers["baseline"],
        renditions_bytes=sum(sizes),
        largest_rendition_bytes=max(sizes),
        log_bytes_per_image=per_image,
        log_bytes_per_batch=per_batch,
        images_item_bytes=item,
        tasks_item_bytes=_tasks_item_bytes(),
        cold_start_seconds=round(statistics.median(_cold_start() for _ in range(_COLD_STARTS)), 2),
    )


def _beside_rendering(rounds: int) -> dict[str, float]:
    """CPU seconds of each handler for an image of 0.3 megapixels, less its rendering."""
    from rich.console import Console

    from benchmarks.rendering.baselines import BASELINES
    from benchmarks.rendering.batches import SMALL, handler_cpu
    from benchmarks.rendering.photos import inputs

    (photo,) = (each.path for each in inputs() if each.name == SMALL)
    other = {}
    for name in ("ours", "baseline"):
        whole = statistics.median(handler_cpu(name, rounds, Console(stderr=True)))
        alone = statistics.median(_cpu_seconds(lambda: BASELINES[name](photo, "webp")) for _ in range(5 * rounds))  # noqa: B023
        other[name] = round(whole - alone, 4)
    return other


def _cpu_seconds(call: Callable[[], object]) -> float:
    started = process_time()
    call()
    return process_time() - started


def _wall_seconds(call: Callable[[], None]) -> float:
    started = perf_counter()
    call()
    return perf_counter() - started


def _run_on(cores: Sequence[int]) -> None:
    """Pin every thread of this process to some cores."""
    for thread in Path("/proc/self/task").iterdir():
        os.sched_setaffinity(int(thread.name), cores)


def _images_item_bytes(photo: Any, rendered: Any, fingerprint: str, size: int) -> int:
    from boto3.dynamodb.types import TypeSerializer

    from functions.process_image.images import ImageRecord, ImageVersion, KnownImage, StoredRendition, rendition_key
    from functions.process_image.images_table import item_of  # the item as the function writes it

    key, version_id, uploaded = "2026/11/customer-0042/IMG_0042.jpg", "A" * 32, datetime(2026, 11, 22, 12, tzinfo=UTC)
    version = ImageVersion(version_id, fingerprint)
    record = ImageRecord(
        image_key=key,
        bucket="darkroom-uploads-51af3dc0-da77-11e4-872e-1234567db123",
        version=version,
        version_order=KnownImage(key).next_order(uploaded),
        version_id=version_id,
        uploaded_at=uploaded.isoformat(),
        format=photo.format,
        bytes=size,
        width=photo.display_width,
        height=photo.display_height,
        frames=photo.frames,
        camera="NIKON CORPORATION NIKON D3S",
        taken_at="2026-11-22T11:58:00",
        location=None,
        placeholder=rendered.placeholder,
        dominant_colour=rendered.dominant_colour,
        renditions=tuple(
            StoredRendition(r.name, stored_as, r.content_type, r.width, r.height, len(r.body))
            for r in rendered.renditions
            for stored_as in [rendition_key(key, 0, version, r.name, r.extension)]
        ),
    )
    serialize = TypeSerializer().serialize
    item = item_of(KnownImage(key, revision=1, published=record))
    return item_bytes({name: serialize(value) for name, value in item.items()})


def _tasks_item_bytes() -> int:
    texts = {
        "task_id": "s3-" + "0" * 64,
        "bucket": "darkroom-uploads-51af3dc0-da77-11e4-872e-1234567db123",
        "key": "2026/11/customer-0042/IMG_0042.jpg",
        "state": "IN_PROGRESS",
        "owner": "0" * 32,
    }
    numbers = {"claimed_until": "1795348800000", "expires_at": "1797940800", "attempts": "1"}
    return item_bytes({n: {"S": t} for n, t in texts.items()} | {n: {"N": t} for n, t in numbers.items()})


# Lambda's own lines about an invocation (platform.start, platform.report), in the JSON format.
# https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-advanced.html
_PLATFORM_LINES_BYTES = 740
_BYTES_PER_EVENT = 26  # what CloudWatch Logs adds to every event's bytes
_EVENTS_PER_BATCH = 3  # start, report, metrics


def _log_bytes() -> tuple[int, int]:
    """Log bytes per image and per invocation, from reports of one image and of ten."""
    one, ten = (_reported_bytes(count) for count in (1, 10))
    per_image = (ten - one) // 9
    return per_image, one - per_image + _PLATFORM_LINES_BYTES + _EVENTS_PER_BATCH * _BYTES_PER_EVENT


def _reported_bytes(images: int) -> int:
    program = (
        "from time import time\n"
        "from datetime import UTC, datetime\n"
        "from darkroom.batch import Attempt\n"
        "from darkroom.image_messages import ImageTask\n"
        "from darkroom.reporting import metrics\n"
        "from functions.process_image.ports import Result\n"
        "from functions.process_image.process import Outcome\n"
        "from functions.process_image.reporting import report\n"
        "now = time()\n"
        "task = ImageTask('s3-' + '0' * 64, 'darkroom-uploads-51af3dc0-da77-11e4-872e-1234567db123',"
        " '2026/11/customer-0042/IMG_0042.jpg', body='', version_id='A' * 32,"
        " event_time=datetime.fromtimestamp(now - 3, UTC))\n"
        f"for _ in range({images}):\n"
        "    report(Attempt(task, now - 1.234, now, Outcome(Result.PROCESSED, task.task_id, bytes_in=4123456,"
        " bytes_out=612345)), now - 2.345)\n"
        "metrics.flush_metrics()\n"
    )
    said = _python(program).stdout
    return len(said) + images * _BYTES_PER_EVENT


def _cold_start() -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    _python("import functions.process_image.app")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _python(program: str) -> subprocess.CompletedProcess[bytes]:
    """Run a program in a new interpreter, with the function's environment."""
    environment = {
        **os.environ,
        **ENVIRONMENT,
        **AWS_ENVIRONMENT,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": MEMORY_MB,
        "PYTHONPATH": f"{_PROJECT}{os.pathsep}{_PROJECT / 'layers' / 'common'}",
    }
    return subprocess.run(  # noqa: S603 # this interpreter, and our own programs
        [sys.executable, "-c", program],
        env=environment,
        cwd=_PROJECT,
        check=True,
        capture_output=True,
    )


if __name__ == "__main__":
    with redirect_stdout(sys.stderr):
        save(measure(int(sys.argv[1]) if sys.argv[1:] else 5, print))
