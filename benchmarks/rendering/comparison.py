"""Compare whole renderings: time, CPU, memory, bytes and SSIM of every baseline on every photo.

Each baseline has a process of its own on the same core. They work in turns, in an order that is shuffled for every
photo of every round, and are compared by CPU seconds of the same photo in the same round: other work on the machine
lengthens the wall time but hardly these. One baseline is Darkroom a second time: its ratio, which should be 1, shows
the noise.
"""

from __future__ import annotations

import random
import shutil
import sys
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from time import sleep
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import Progress
from skimage.metrics import structural_similarity

from benchmarks.rendering.baselines import lanczos_reference
from benchmarks.rendering.figures import ratio_of_pairs, spread
from benchmarks.rendering.photos import BenchPhoto, inputs
from benchmarks.rendering.processes import PROJECT, Measured, Worker, cores, peak_of, worker
from benchmarks.rendering.rendition_sets import SETS

OURS, AGAIN = "ours", "ours again"

_PYTHON = [sys.executable, "-m", "benchmarks.rendering.worker"]
_SHARP = PROJECT / "benchmarks" / "rendering" / "sharp"
_NODE = ["node", str(_SHARP / "worker.mjs")]

_COMMANDS = {
    OURS: [*_PYTHON, "ours"],
    AGAIN: [*_PYTHON, "ours"],
    "parts alone": [*_PYTHON, "parts alone"],
    "sharp, one decode": [*_NODE, "sharp, one decode"],
    "sharp, per size": [*_NODE, "sharp, per size"],
    "Pillow done well": [*_PYTHON, "Pillow done well"],
    "baseline": [*_PYTHON, "baseline"],
    "vipsthumbnail": [*_PYTHON, "vipsthumbnail"],
}

#: Baselines that cannot render a photo, or only its first frame.
_UNFIT = {
    "12mp.heic": {"sharp, one decode", "sharp, per size"},  # its libvips has no HEVC decoder
    "animated.gif": {"parts alone", "sharp, one decode", "Pillow done well", "baseline", "vipsthumbnail"},
}

_SECONDS_TO_START = 1

_Case = tuple[BenchPhoto, str]


def missing() -> dict[str, str]:
    """Baselines that are not installed here, and how to install them."""
    absent: dict[str, str] = {}
    if not (_SHARP / "node_modules").exists() or shutil.which("node") is None:
        absent |= dict.fromkeys(
            ("sharp, one decode", "sharp, per size"), "install Node.js 20 or newer and run make bench again"
        )
    if shutil.which("vipsthumbnail") is None:
        absent["vipsthumbnail"] = "apt-get install libvips-tools, or brew install vips"
    return absent


def measure(rounds: int, console: Console) -> dict[str, Any]:
    """Measure everything; returns the content of ``results/render.json``."""
    absent = missing()
    commands = {name: command for name, command in _COMMANDS.items() if name not in absent}
    cases: list[_Case] = [(photo, "webp") for photo in inputs()]
    cases += [(photo, "jpeg") for photo in inputs() if photo.is_large]
    core = cores()[-1]
    samples: dict[tuple[str, str, str], list[Measured]] = defaultdict(list)
    with Progress(console=console, transient=True) as progress, ExitStack() as stack:
        workers = {name: stack.enter_context(worker(command, cores={core})) for name, command in commands.items()}
        total = (rounds + 1) * len(cases)
        under_way = progress.add_task("Rendering", total=total)
        for number in range(rounds + 1):
            for photo, rendition_set in random.sample(cases, len(cases)):
                fit = [name for name in workers if name not in _UNFIT.get(photo.name, ())]
                for name in random.sample(fit, len(fit)):
                    measured = workers[name].do(job(photo, rendition_set))
                    if number > 0:  # the first round warms up
                        samples[name, photo.name, rendition_set].append(measured)
                progress.advance(under_way)
        likeness = _likeness(workers, cases, progress)
    memory = _memory(commands, cases, core, console)
    rows = [
        _row(name, photo, rendition_set, samples, likeness, memory)
        for photo, rendition_set in cases
        for name in commands
        if (name, photo.name, rendition_set) in samples
    ]
    return {"rounds": rounds, "missing": absent, "rows": rows}


def job(photo: BenchPhoto, rendition_set: str, keep: str | None = None) -> dict[str, Any]:
    """The job for a worker; ``specs`` and ``animated`` are for sharp."""
    return {
        "path": str(photo.path),
        "set": rendition_set,
        "keep": keep,
        "specs": [asdict(spec) for spec in SETS[rendition_set].specs],
        "animated": photo.name == "animated.gif",
    }


def _row(
    name: str,
    photo: BenchPhoto,
    rendition_set: str,
    samples: dict[tuple[str, str, str], list[Measured]],
    likeness: dict[tuple[str, str, str], float],
    memory: dict[tuple[str, str, str], float],
) -> dict[str, Any]:
    mine, theirs = samples[OURS, photo.name, rendition_set], samples[name, photo.name, rendition_set]
    return {
        "baseline": name,
        "photo": photo.name,
        "megapixels": photo.megapixels,
        "set": rendition_set,
        "seconds": asdict(spread([measured.seconds for measured in theirs])),
        "cpu": asdict(spread([measured.cpu for measured in theirs])),
        "ratio": asdict(ratio_of_pairs([m.cpu for m in theirs], [m.cpu for m in mine])),
        "bytes": theirs[0].bytes,
        "ssim": likeness.get((name, photo.name, rendition_set)),
        "peak_mb": memory.get((name, photo.name, rendition_set)),
    }


def _likeness(workers: dict[str, Worker], cases: list[_Case], progress: Progress) -> dict[tuple[str, str, str], float]:
    """Mean SSIM of a set's renditions against the Lanczos reference, by luma."""
    stills = [(photo, rendition_set) for photo, rendition_set in cases if photo.name != "animated.gif"]
    under_way = progress.add_task("Comparing", total=len(stills))
    found = {}
    for photo, rendition_set in stills:
        references = [luma(lanczos_reference(photo.path, spec)) for spec in SETS[rendition_set].specs]
        for name, worker_of_name in workers.items():
            if name in {AGAIN, *_UNFIT.get(photo.name, ())}:
                continue
            with TemporaryDirectory() as folder:
                worker_of_name.do(job(photo, rendition_set, keep=folder))
                ssims = [ssim(file, reference) for file, reference in zip(_in(folder), references, strict=True)]
            found[name, photo.name, rendition_set] = float(np.mean(ssims))
        progress.advance(under_way)
    return found


def _in(folder: str) -> list[Path]:
    return sorted(Path(folder).iterdir())


def luma(image: Image.Image) -> np.ndarray[Any, Any]:
    """Luma of an image, 0 to 255, one float a pixel."""
    return np.asarray(image.convert("L"), dtype=np.float32)


def ssim(file: Path, reference: np.ndarray[Any, Any]) -> float:
    """SSIM of a file's luma and a reference, to whose size the file is scaled if rounding made them differ."""
    with Image.open(file) as image:
        height, width = reference.shape
        compared = image if image.size == (width, height) else image.resize((width, height), Image.Resampling.LANCZOS)
        return float(structural_similarity(reference, luma(compared), data_range=255))


def _memory(
    commands: dict[str, list[str]], cases: list[_Case], core: int, console: Console
) -> dict[tuple[str, str, str], float]:
    """Peak memory of a new process that does one job, in MB above an idle interpreter of its kind."""
    bare = {"python": _peak_of_bare([sys.executable, "-c", "input()"], core)}
    if any(command[0] == "node" for command in commands.values()):
        bare["node"] = _peak_of_bare(["node", "-e", "process.stdin.resume()"], core)
    large = [(photo, rendition_set) for photo, rendition_set in cases if photo.is_large]
    found = {}
    with Progress(console=console, transient=True) as progress:
        for photo, rendition_set in progress.track(large, description="Watching memory"):
            for name, command in commands.items():
                if name == AGAIN or name in _UNFIT.get(photo.name, ()):
                    continue
                with worker(command, cores={core}) as fresh, peak_of(fresh.process.pid) as peak:
                    fresh.do(job(photo, rendition_set))
                floor = bare["node" if command[0] == "node" else "python"]
                found[name, photo.name, rendition_set] = (peak[0] - floor) / 1e6
    return found


def _peak_of_bare(command: list[str], core: int) -> int:
    with worker(command, cores={core}) as idle, peak_of(idle.process.pid) as peak:
        sleep(_SECONDS_TO_START)
    return peak[0]
