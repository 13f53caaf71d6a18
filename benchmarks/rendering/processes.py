"""The baselines' processes: pinned to one core, given jobs in turns, their memory measured."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any

import psutil

from benchmarks.function_settings import AWS_ENVIRONMENT

PROJECT = Path(__file__).resolve().parents[2]
_SAMPLE_SECONDS = 0.005
_ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": f"{PROJECT}{os.pathsep}{PROJECT / 'layers' / 'common'}",
    **AWS_ENVIRONMENT,
    "VIPS_CONCURRENCY": "1",
}


@dataclass(frozen=True)
class Measured:
    """One job: wall and CPU seconds, the CPU seconds without its children, and the bytes of all renditions."""

    seconds: float
    cpu: float
    own_cpu: float
    bytes: int


@dataclass(frozen=True)
class Worker:
    """A process that runs a baseline's jobs."""

    process: subprocess.Popen[str]

    def do(self, job: dict[str, Any]) -> Measured:
        """Run one job. Raises RuntimeError if the worker ends; its errors are on the terminal."""
        assert self.process.stdin is not None  # noqa: S101 # both are pipes
        assert self.process.stdout is not None  # noqa: S101
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"The worker ended during {job}")
        return Measured(**json.loads(answer))


@contextmanager
def worker(command: list[str], *, cores: set[int], endpoint: str | None = None) -> Iterator[Worker]:
    """Start a worker on some cores; it ends with the block. ``endpoint`` is the URL of AWS."""
    environment = _ENVIRONMENT | ({"AWS_ENDPOINT_URL": endpoint} if endpoint else {})
    with pinned(cores):
        process = subprocess.Popen(  # noqa: S603
            command, cwd=PROJECT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
    try:
        yield Worker(process)
    finally:
        process.kill()
        process.communicate()


@contextmanager
def aws(folder: Path, s3_seconds: float, *, core: int) -> Iterator[str]:
    """Run fake AWS over a folder of photos; yields its URL."""
    command = [sys.executable, "-m", "benchmarks.rendering.fake_aws", str(folder), str(s3_seconds)]
    with worker(command, cores={core}) as server:
        assert server.process.stdout is not None  # noqa: S101
        yield f"http://127.0.0.1:{server.process.stdout.readline().strip()}"


def processor() -> str:
    """The name of the machine's processor."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())


def cores() -> list[int]:
    """The cores that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]


@contextmanager
def pinned(to: set[int]) -> Iterator[None]:
    """Pin processes started inside the block to these cores, if the system supports it."""
    if not hasattr(os, "sched_setaffinity"):  # only Linux has it
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, to)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def peak_of(root: int) -> Iterator[list[int]]:
    """Measure a process and its children; afterwards the list holds one number, their peak memory in bytes.

    It counts the resident pages of the process, and the unshared pages of its children.
    """
    highest, ended = [0], Event()

    def watch() -> None:
        while not ended.wait(_SAMPLE_SECONDS):
            highest[0] = max(highest[0], _held(psutil.Process(root)))

    watcher = Thread(target=watch)
    watcher.start()
    try:
        yield highest
    finally:
        ended.set()
        watcher.join()
        highest[0] = max(highest[0], _high_water_mark(root))


def _held(root: psutil.Process) -> int:
    total = root.memory_info().rss
    for child in root.children(recursive=True):
        try:
            total += child.memory_full_info().uss
        except psutil.Error:  # it ended meanwhile
            continue
    return int(total)


def _high_water_mark(pid: int) -> int:
    """The kernel's record of the peak resident bytes; 0 if there is none."""
    status = Path(f"/proc/{pid}/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)
