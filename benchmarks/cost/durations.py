"""Duration of one image in Lambda, from measured seconds, the function's memory, and assumptions about AWS."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from benchmarks.cost.function_seconds import Measured
from benchmarks.cost.prices import MB_PER_CPU
from functions.process_image.rendition_set import load_rendition_set

#: A camera's JPEG: 12 megapixels in about 4 MB.
MEGAPIXELS_PER_MB = 3
#: Seconds that a call waits, and bytes per second from S3 to a function: assumed, close to published reports.
WAITS = {"s3": 0.040, "dynamodb": 0.006, "sqs": 0.012}
BYTES_PER_SECOND = 80e6
#: Encoders that run at once, as in the function: a third vCPU would be idle.
_MOST_CPUS = 2
_RENDITIONS = Path(__file__).resolve().parents[2] / "functions" / "process_image" / "renditions.toml"


@dataclass(frozen=True)
class Duration:
    """Seconds that an image waits for AWS, and seconds of computing with the function's share of the CPU."""

    waiting: float
    computing: float

    def billed(self, batch: float, *, overlap: bool) -> float:
        """Seconds billed for an image of a batch.

        Parameters
        ----------
        overlap:
            Whether the images of a batch wait in parallel, so that the batch waits about once.
        """
        return self.waiting / (batch if overlap else 1) + self.computing


@cache
def renditions() -> int:
    """Number of renditions per photo in the present rendition set."""
    return len(load_rendition_set(_RENDITIONS).specs)


def objects(megapixels: float) -> int:
    """Number of rendition objects per photo: equal renditions, of a photo smaller than several boxes, share one."""
    longer_side = (megapixels * 1e6 * 4 / 3) ** 0.5
    made = load_rendition_set(_RENDITIONS).specs
    return len({(min(s.width, longer_side), s.fit, s.format, s.quality, s.effort) for s in made})


def computing_seconds(cpu_seconds: float, memory_mb: int, parallel: float) -> float:
    """Seconds of computing with a function's share of the CPU.

    Parameters
    ----------
    cpu_seconds:
        On one core.
    parallel:
        The share that a second core can run, 0 to 1 (Amdahl).
    """
    cpus = memory_mb / MB_PER_CPU
    if cpus <= 1:
        return cpu_seconds / cpus
    return cpu_seconds * (1 - parallel + parallel / min(cpus, _MOST_CPUS))


def parallel_share(one_core: float, two_cores: float) -> float:
    """The share of a rendering that a second core runs, from its wall times on one and on two cores."""
    return min(max(2 * (1 - two_cores / one_core), 0), 1)


def of_ours(megabytes: float, memory_mb: int, measured: Measured) -> Duration:
    """One image with Darkroom.

    In sequence: claim, GetObject, read the record, all PutObjects in parallel, publish, send the result, finish
    (functions/process_image/process.py).
    """
    point = measured.at(megabytes * MEGAPIXELS_PER_MB)
    parallel = parallel_share(point.one_core, point.two_cores)
    return Duration(
        _waiting_seconds(megabytes, s3=2, dynamodb=4, sqs=1),
        computing_seconds(point.ours, memory_mb, parallel) + computing_seconds(measured.handler_ours, memory_mb, 0),
    )


def of_sample(megabytes: float, memory_mb: int, measured: Measured) -> Duration:
    """One image with the baseline: GetObject, then a PutObject after each size."""
    point = measured.at(megabytes * MEGAPIXELS_PER_MB)
    return Duration(
        _waiting_seconds(megabytes, s3=1 + renditions(), dynamodb=0, sqs=0),
        computing_seconds(point.sample + measured.handler_sample, memory_mb, parallel=0),
    )


def _waiting_seconds(megabytes: float, *, s3: int, dynamodb: int, sqs: int) -> float:
    """Seconds that one image waits for AWS: its sequential calls, and its transfer from S3."""
    calls = s3 * WAITS["s3"] + dynamodb * WAITS["dynamodb"] + sqs * WAITS["sqs"]
    return calls + megabytes * 1e6 / BYTES_PER_SECOND
