"""Measure the CPU time that an image's process takes to enter its sandbox.

python -m benchmarks.sandbox
"""

from __future__ import annotations

import os
import statistics
import sys
from time import process_time

from functions.process_image import sandbox

_PROCESSES = 500


def milliseconds() -> list[float]:
    """Enter the sandbox in one forked process after the other; returns the time of each, in order of size."""
    return sorted(_one() for _ in range(_PROCESSES))


def _one() -> float:
    told, telling = os.pipe()
    process = os.fork()
    if process == 0:
        begun = process_time()
        filtered = sandbox.enter(keep=telling)
        os.write(telling, f"{process_time() - begun} {filtered}".encode())
        os._exit(0)
    os.close(telling)
    with os.fdopen(told) as answer:
        seconds, filtered_calls = answer.read().split()
    os.waitpid(process, 0)
    if filtered_calls != "True":
        sys.exit("This kernel does not filter system calls: there is nothing to measure.")
    return float(seconds) * 1000


if __name__ == "__main__":
    sandbox.drop_capabilities()
    taken = milliseconds()
    print(f"CPU ms per image, {_PROCESSES} images: median {statistics.median(taken):.2f}, 95 % {taken[-25]:.2f}")
