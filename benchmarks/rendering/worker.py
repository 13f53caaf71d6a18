"""A process that runs one baseline: ``python -m benchmarks.rendering.worker NAME``.

It takes one job per line of its standard input, ``{"path": ..., "set": "webp" or "jpeg", "keep": folder or null}``,
and answers each with a line of JSON: ``seconds``, ``cpu`` (seconds, with those of its children), ``own_cpu`` and
``bytes``. With ``keep`` the renditions are written into that folder as ``0``, ``1`` and so on, in the set's order.
``benchmarks/rendering/sharp/worker.mjs`` has the same protocol.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from time import perf_counter, process_time
from typing import Any

import psutil

from benchmarks.rendering.baselines import BASELINES

_ME = psutil.Process()


def serve(work: Callable[[dict[str, Any]], list[bytes]]) -> None:
    """Run every job of the standard input."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # keeps the log that a function prints out of the answers
    for line in sys.stdin:
        job = json.loads(line)
        own, children, started = process_time(), _childrens_cpu(), perf_counter()
        made = work(job)
        seconds, own_cpu = perf_counter() - started, process_time() - own
        cpu = own_cpu + _childrens_cpu() - children
        measured = {"seconds": seconds, "cpu": cpu, "own_cpu": own_cpu, "bytes": sum(map(len, made))}
        if job.get("keep"):
            for number, body in enumerate(made):
                (Path(job["keep"]) / str(number)).write_bytes(body)
        print(json.dumps(measured), file=answers, flush=True)


def _childrens_cpu() -> float:
    """CPU seconds of ended children and, to 10 ms, of running ones and their ended children."""
    ended = getrusage(RUSAGE_CHILDREN)
    living = (seconds for child in _ME.children() for seconds in child.cpu_times()[:4])
    return ended.ru_utime + ended.ru_stime + sum(living)


if __name__ == "__main__":
    baseline = BASELINES[sys.argv[1]]
    serve(lambda job: baseline(Path(job["path"]), job["set"]))
