"""Cold starts: a new process that imports a built function, compared with one that only makes clients and codec.

It measures the output of `sam build`, laid out as in Lambda: the folders of the function and its layers on the path,
and boto3 from the environment, as in Lambda's runtime. One core, as Lambda gives to 1769 MB.

    python -m benchmarks.rendering.cold_start STARTS FUNCTION ...

measures some functions and leaves the results of the others.
"""

from __future__ import annotations

import os
import random
import re
import resource
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from time import perf_counter
from typing import Any

import botocore
from rich.console import Console
from rich.progress import track

from benchmarks.function_settings import (
    ANSWER_ENVIRONMENT,
    AWS_ENVIRONMENT,
    ENVIRONMENT,
    LOCATE_ENVIRONMENT,
    MEMORY_MB,
    ORDER_ENVIRONMENT,
    RELAY_ENVIRONMENT,
    SWEEP_ENVIRONMENT,
)
from benchmarks.rendering.figures import ratio_of_pairs, spread
from benchmarks.rendering.measurements import load, machine, save
from benchmarks.rendering.processes import PROJECT, cores, pinned
from local.config import build_environment, local_config, sam_command

_BUILD = PROJECT / ".local" / "cold-start" / "build"
_WITHOUT_BYTECODE = PROJECT / ".local" / "cold-start" / "without-bytecode"
#: States of the kernel's page cache. Only Linux can evict files from it.
CACHES = ("warm", "evicted") if hasattr(os, "posix_fadvise") else ("warm",)
BASELINES = ("ours", "without bytecode", "clients and codec")
_WITH_THE_RUNTIME = ("boto3", "botocore", "s3transfer", "jmespath", "dateutil", "urllib3")
_SHARED = ("CommonLayer", "PowertoolsLayer")
_PACKAGES_SHOWN = 12
_BLOCK = 512  # bytes, of ru_inblock


@dataclass(frozen=True)
class Function:
    """A function of the template, and the imports and clients of the least function that could do its work."""

    module: str
    layers: tuple[str, ...]
    clients: tuple[str, ...]
    codec: tuple[str, ...]
    environment: dict[str, str]

    @property
    def usual(self) -> str:
        """The program of the least function."""
        lines = ["import boto3", *(f"boto3.client({name!r})" for name in self.clients)]
        return "\n".join([*lines, *self.codec])


#: The codec of orders validates and charges them; the relay's validates them.
FUNCTIONS = {
    "ProcessImageFunction": Function(
        "functions.process_image.app",
        (*_SHARED, "SchemasLayer", "ImagingLayer"),
        ("s3", "sqs", "dynamodb"),
        ("import pyvips", "from PIL import Image", "import pi_heif"),
        ENVIRONMENT | {"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": MEMORY_MB},
    ),
    "ProcessOrderFunction": Function(
        "functions.process_order.app",
        (*_SHARED, "SchemasLayer", "PaymentsLayer"),
        ("sqs", "dynamodb", "secretsmanager", "sns"),
        ("import fastjsonschema", "from stripe import StripeClient"),
        ORDER_ENVIRONMENT,
    ),
    "RelayRabbitMqFunction": Function(
        "functions.relay_rabbitmq.app",
        (*_SHARED, "SchemasLayer"),
        ("sqs",),
        ("import fastjsonschema",),
        RELAY_ENVIRONMENT,
    ),
    "SweepOrdersFunction": Function(
        "functions.sweep_orders.app",
        (*_SHARED, "PaymentsLayer"),
        ("sqs", "dynamodb", "secretsmanager"),
        ("from stripe import StripeClient",),
        SWEEP_ENVIRONMENT,
    ),
    "AnswerRequestsFunction": Function(
        "functions.answer_requests.app", _SHARED, ("s3", "dynamodb"), (), ANSWER_ENVIRONMENT
    ),
    "LocateImageFunction": Function("functions.locate_image.app", _SHARED, ("dynamodb",), (), LOCATE_ENVIRONMENT),
}


@dataclass(frozen=True)
class _Start:
    """One start: wall clock until it is ready and CPU of all its processes, in seconds; bytes read from the disk."""

    seconds: float
    cpu: float
    read: int


def measure(rounds: int, console: Console, functions: Sequence[str] = tuple(FUNCTIONS)) -> dict[str, Any]:
    """Build, and measure some functions; returns the content of ``results/cold_start.json``."""
    with console.status("sam build ..."):
        _build()
    return {
        "rounds": rounds,
        "starts": [row for name in functions for row in _starts(name, rounds, console)],
        "imports": {name: _imports(name) for name in functions},
        "sizes": {part.name: _size(part) for part in sorted(_BUILD.iterdir()) if part.is_dir()},
    }


def _build() -> None:
    """Build as the laptop stack does. Raises CalledProcessError; the reason is on the terminal."""
    command = sam_command(local_config(), ["build", "--no-cached", "--build-dir", str(_BUILD)])
    subprocess.run(  # noqa: S603
        command, cwd=PROJECT, env=build_environment(), check=True, stdout=subprocess.DEVNULL
    )
    shutil.rmtree(_WITHOUT_BYTECODE, ignore_errors=True)
    shutil.copytree(_BUILD, _WITHOUT_BYTECODE, ignore=shutil.ignore_patterns("__pycache__"))
    for folder in {path.parent for path in _WITHOUT_BYTECODE.rglob("*.py")}:
        (folder / "__pycache__").touch()  # a file, so that as in Lambda no bytecode can be written
    os.sync()  # only files that are on the disk can be evicted


def _starts(name: str, rounds: int, console: Console) -> Iterator[dict[str, Any]]:
    for pages in CACHES:
        measured: dict[str, list[_Start]] = {baseline: [] for baseline in BASELINES}
        for number in track(range(rounds + 1), f"{name}, {pages}", console=console, transient=True):
            for baseline in random.sample(BASELINES, len(BASELINES)):
                if pages == "evicted":
                    _evict()
                start = _start(name, baseline)
                if number > 0:  # the first warms up
                    measured[baseline].append(start)
        usual = [start.seconds for start in measured["clients and codec"]]
        for baseline, starts in measured.items():
            yield {
                "function": name,
                "cache": pages,
                "baseline": baseline,
                "seconds": asdict(spread([start.seconds for start in starts])),
                "cpu": asdict(spread([start.cpu for start in starts])),
                "read_mb": asdict(spread([start.read / 1e6 for start in starts])),
                "ratio": asdict(ratio_of_pairs([start.seconds for start in starts], usual)),
            }


def _start(name: str, baseline: str) -> _Start:
    """Start a process and wait until it is ready. Raises RuntimeError if it fails."""
    function = FUNCTIONS[name]
    program = function.usual if baseline == "clients and codec" else f"import {function.module}"
    command, folder, environment = _process(name, baseline)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with pinned({cores()[-1]}):
        begun = perf_counter()
        process = subprocess.Popen(  # noqa: S603
            [*command, "-c", f"{program}\nimport os; os.write(1, b'.')"],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
        )
    assert process.stdout is not None  # noqa: S101
    said = process.stdout.read(1)
    seconds = perf_counter() - begun
    process.communicate()
    if said != b".":
        raise RuntimeError(f"{name} did not start ({baseline}); its errors are on the terminal.")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return _Start(
        seconds,
        after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        (after.ru_inblock - before.ru_inblock) * _BLOCK,
    )


def _process(name: str, baseline: str) -> tuple[list[str], Path, dict[str, str]]:
    """Interpreter, folder and environment as in Lambda: nothing is writable, the layers are on the path."""
    root = _WITHOUT_BYTECODE if baseline == "without bytecode" else _BUILD
    function = FUNCTIONS[name]
    path = [root / name, *(root / layer / "python" for layer in function.layers)]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(map(str, path))} | AWS_ENVIRONMENT
    return [sys.executable, "-B"], root / name, environment | function.environment


def _evict() -> None:
    """Evict every file that a start may read from the page cache; files mapped by other processes stay."""
    for path in _read_at_start():
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


@cache
def _read_at_start() -> list[Path]:
    """The builds, the runtime's packages, and the standard library without tests and installed packages."""
    packages = Path(botocore.__file__).parents[1]
    library = Path(sysconfig.get_path("stdlib"))
    folders = [_BUILD, _WITHOUT_BYTECODE, *(packages / name for name in _WITH_THE_RUNTIME)]
    inside = [path for folder in folders for path in _files(folder)]
    return inside + [p for p in _files(library) if p.relative_to(library).parts[0] not in ("site-packages", "test")]


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def _imports(name: str) -> dict[str, Any]:
    """Milliseconds of `-X importtime`, summed by package, without other work such as making clients."""
    command, folder, environment = _process(name, "ours")
    said = subprocess.run(  # noqa: S603
        [*command, "-X", "importtime", "-c", f"import {FUNCTIONS[name].module}"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return by_package(said.stderr.splitlines(), FUNCTIONS[name].module)


def by_package(lines: Sequence[str], module: str) -> dict[str, Any]:
    """Sum the output of `-X importtime`: ``all`` milliseconds, and those of the largest packages.

    The module's own time is left out: it makes the clients.
    """
    own = Counter[str]()
    for line in lines:
        found = re.fullmatch(r"import time:\s*(\d+) \|\s*\d+ \|\s*(\S+)", line)
        if found and found[2] != module:
            own[found[2].partition(".")[0]] += int(found[1])
    largest = {name: microseconds / 1000 for name, microseconds in own.most_common(_PACKAGES_SHOWN)}
    return {"all": own.total() / 1000, "packages": largest}


def _size(part: Path) -> dict[str, float]:
    """Megabytes of a function or layer, zipped as SAM does and unpacked; and of its bytecode, zipped."""
    files = list(_files(part))
    return {
        "zipped": _archived(part, files),
        "bytecode": _archived(part, [path for path in files if path.suffix == ".pyc"]),
        "unpacked": sum(path.stat().st_size for path in files) / 1e6,
    }


def _archived(part: Path, files: Sequence[Path]) -> float:
    archive = BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as written:
        for path in files:
            written.write(path, path.relative_to(part))
    return archive.tell() / 1e6


def main() -> None:
    """Measure the functions of the command line, and put them into the results."""
    rounds, *functions = sys.argv[1:]
    known = load("cold_start") or {"rounds": 0, "starts": [], "imports": {}}
    found = measure(int(rounds), Console(), functions)
    kept = [row for row in known["starts"] if row["function"] not in functions]
    text = f"{found['rounds']} starts each, {machine()['date']}, load {machine()['load']}"
    save(
        "cold_start",
        {
            **known,
            "starts": kept + found["starts"],
            "imports": known["imports"] | found["imports"],
            "sizes": found["sizes"],
            "apart": known.get("apart", {}) | dict.fromkeys(functions, text),
        },
    )


if __name__ == "__main__":
    main()
