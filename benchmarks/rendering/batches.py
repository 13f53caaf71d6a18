"""Whole handlers against fake AWS: a batch of ten with slow S3, and the handler's own cost."""

from __future__ import annotations

import random
import sys
from contextlib import ExitStack
from dataclasses import asdict
from statistics import median
from time import sleep
from typing import Any

from rich.console import Console
from rich.progress import track

from benchmarks.rendering.figures import ratio_of_pairs, spread
from benchmarks.rendering.photos import inputs
from benchmarks.rendering.processes import Measured, aws, cores, worker

_S3_SECONDS = 0.04
_BATCH = 10
_HANDLERS = ("ours", "baseline")
SMALL = "0.3mp.jpg"
_PAUSE = 0.03  # seconds between images that come one after the other; less than S3 takes
_TINY_IMAGES = 50  # at a time: the CPU time of running children has a resolution of 10 ms
_MOST_TIMES = 15  # each takes five to ten seconds


def measure(rounds: int, console: Console) -> dict[str, Any]:
    """Measure everything; returns what ``results/batch.json`` holds."""
    all_cores = set(cores())
    own, apart, waited = _beside(min(3 * rounds, _MOST_TIMES), console)
    return {
        "rounds": rounds,
        "s3_seconds": _S3_SECONDS,
        "batches": [
            _batch("2mp.jpg", all_cores, rounds, console),
            _batch(SMALL, {cores()[-1]}, rounds, console),
        ],
        "handler": asdict(spread(own)),
        "apart": asdict(spread(apart)),
        "waited": asdict(spread(waited)),
        "with_aws_calls": asdict(spread([1000 * seconds for seconds in handler_cpu("ours", 3 * rounds, console)])),
    }


def _batch(photo: str, on: set[int], rounds: int, console: Console) -> dict[str, Any]:
    """Ten messages in one event, in turns with the baseline and with one message alone."""
    folder = next(each.path.parent for each in inputs() if each.name == photo)
    batches: dict[str, list[Measured]] = {name: [] for name in _HANDLERS}
    alone: list[Measured] = []
    with aws(folder, _S3_SECONDS, core=cores()[0]) as endpoint, ExitStack() as stack:
        workers = {
            name: stack.enter_context(
                worker([sys.executable, "-m", "benchmarks.rendering.handlers", name], cores=on, endpoint=endpoint)
            )
            for name in _HANDLERS
        }
        for number in track(range(rounds + 1), description=f"Batches of {photo}", console=console, transient=True):
            for name in random.sample(_HANDLERS, len(_HANDLERS)):
                measured = workers[name].do({"keys": [photo] * _BATCH})
                if number > 0:
                    batches[name].append(measured)
            chain = workers["ours"].do({"keys": [photo]})
            if number > 0:
                alone.append(chain)
    ours, sample = batches["ours"], batches["baseline"]
    longest = [max(batch.cpu / len(on), chain.seconds) for batch, chain in zip(ours, alone, strict=True)]
    return {
        "photo": photo,
        "cores": len(on),
        "ours": _times(ours),
        "baseline": _times(sample),
        "chain": _times(alone),
        "wall_to_longest": asdict(ratio_of_pairs([m.seconds for m in ours], longest)),
        "sample_to_ours": asdict(ratio_of_pairs([m.seconds for m in sample], [m.seconds for m in ours])),
    }


def _times(measured: list[Measured]) -> dict[str, Any]:
    return {
        "seconds": asdict(spread([m.seconds for m in measured])),
        "cpu": asdict(spread([m.cpu for m in measured])),
    }


def _beside(times: int, console: Console) -> tuple[list[float], list[float], list[float]]:
    """Milliseconds for an image of 16 x 16 pixels, without its rendering.

    Returns
    -------
    tuple of three lists of float
        CPU time of Darkroom's handler itself, over ports in memory; CPU time of the separate process of each image: the
        fork, the first use of every page, the exit; and what one image after the other waits for that process.
    """
    command = [sys.executable, "-m", "benchmarks.rendering.handlers"]
    on, nowhere = {cores()[-1]}, "http://127.0.0.1:9"
    own, cpu, waited = [], [], []
    with (
        worker([*command, "without network"], cores=on, endpoint=nowhere) as handler,
        worker([*command, "rendering alone"], cores=on) as alone,
        worker([*command, "rendering apart"], cores=on) as apart,
    ):
        for number in track(range(times + 1), "Handler", console=console, transient=True):
            whole = handler.do({"keys": ["any.jpg"] * _TINY_IMAGES})
            here, there = [], []
            for _ in range(_TINY_IMAGES):
                here.append(alone.do({}))
                there.append(apart.do({}))
                sleep(_PAUSE)
            if number > 0:  # the first warms up
                own.append(whole.own_cpu / _TINY_IMAGES * 1000)
                cpu.append((whole.cpu - whole.own_cpu - sum(m.cpu for m in here)) / _TINY_IMAGES * 1000)
                waited.append(1000 * (median(m.seconds for m in there) - median(m.seconds for m in here)))
    return own, cpu, waited


def handler_cpu(name: str, rounds: int, console: Console) -> list[float]:
    """Seconds of CPU of a whole handler for a photo of 0.3 megapixels, with AWS that answers at once.

    Parameters
    ----------
    name : str
        ``ours`` or ``baseline``.
    rounds : int
        Number of batches of ten.
    """
    folder = inputs()[0].path.parent
    with (
        aws(folder, 0, core=cores()[0]) as endpoint,
        worker(
            [sys.executable, "-m", "benchmarks.rendering.handlers", name], cores={cores()[-1]}, endpoint=endpoint
        ) as handler,
    ):
        batches = [
            handler.do({"keys": [SMALL] * _BATCH})
            for _ in track(range(rounds + 1), "AWS calls", console=console, transient=True)
        ]
    return [batch.cpu / _BATCH for batch in batches[1:]]  # the first warms up
