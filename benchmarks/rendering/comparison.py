"""Compare whole renderings: time, CPU, memory, bytes and likeness of every baseline on every photo.

Each baseline has a process of its own on the same core. They work in turns, in an order that is shuffled for every
photo of every round, and are compared by CPU seconds of the same photo in the same round: other work on the machine
lengthens the wall time but hardly these. One baseline is Darkroom a second time: its ratio, which should be 1, shows
the noise. The photos of every kind of detail are compared with sharp alone, rendition by rendition.
"""

from __future__ import annotations

import io
import multiprocessing
import random
import shutil
import sys
from collections import defaultdict
from concurrent.futures import Future, ProcessPoolExecutor
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
from ssimulacra2 import compute_ssimulacra2

from benchmarks.rendering.baselines import lanczos_reference
from benchmarks.rendering.figures import ratio_of_pairs, spread
from benchmarks.rendering.photos import BenchPhoto, inputs, kinds
from benchmarks.rendering.processes import PROJECT, Measured, Worker, cores, peak_of, worker
from benchmarks.rendering.rendition_sets import SETS

OURS, AGAIN, SHARP = "ours", "ours again", "sharp, one decode"

_PYTHON = [sys.executable, "-m", "benchmarks.rendering.worker"]
_SHARP_FOLDER = PROJECT / "benchmarks" / "rendering" / "sharp"
_NODE = ["node", str(_SHARP_FOLDER / "worker.mjs")]

_COMMANDS = {
    OURS: [*_PYTHON, "ours"],
    AGAIN: [*_PYTHON, "ours"],
    "parts alone": [*_PYTHON, "parts alone"],
    SHARP: [*_NODE, SHARP],
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
_Key = tuple[str, str, str]  # baseline, photo, set


def missing() -> dict[str, str]:
    """Baselines that are not installed here, and how to install them."""
    absent: dict[str, str] = {}
    if not (_SHARP_FOLDER / "node_modules").exists() or shutil.which("node") is None:
        absent |= dict.fromkeys((SHARP, "sharp, per size"), "install Node.js 20 or newer and run make bench again")
    if shutil.which("vipsthumbnail") is None:
        absent["vipsthumbnail"] = "apt-get install libvips-tools, or brew install vips"
    return absent


def measure(rounds: int, console: Console) -> dict[str, Any]:
    """Measure everything; returns the content of ``results/render.json``."""
    absent = missing()
    commands = {name: command for name, command in _COMMANDS.items() if name not in absent}
    formats, of_kinds = inputs(), kinds()
    cases: list[_Case] = [(photo, "webp") for photo in formats]
    cases += [(photo, "jpeg") for photo in formats if photo.is_large]
    cases += [(photo, rendition_set) for photo in of_kinds for rendition_set in SETS]
    fit = {photo.name: [name for name in commands if name not in _UNFIT.get(photo.name, ())] for photo in formats} | {
        photo.name: [name for name in (OURS, AGAIN, SHARP) if name in commands] for photo in of_kinds
    }
    core = cores()[-1]
    samples: dict[_Key, list[Measured]] = defaultdict(list)
    with Progress(console=console, transient=True) as progress, ExitStack() as stack:
        workers = {name: stack.enter_context(worker(command, cores={core})) for name, command in commands.items()}
        total = (rounds + 1) * len(cases)
        under_way = progress.add_task("Rendering", total=total)
        for number in range(rounds + 1):
            for photo, rendition_set in random.sample(cases, len(cases)):
                for name in random.sample(fit[photo.name], len(fit[photo.name])):
                    measured = workers[name].do(job(photo, rendition_set))
                    if number > 0:  # the first round warms up
                        samples[name, photo.name, rendition_set].append(measured)
                progress.advance(under_way)
        renditions = _renditions(workers, cases, fit, progress)
    memory = _memory(commands, [case for case in cases if case[0] not in of_kinds], core, console)
    names = {photo.name for photo in of_kinds}
    rows = [
        _row(name, photo, rendition_set, samples, renditions, memory) | {"kind": photo.name in names}
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
    samples: dict[_Key, list[Measured]],
    renditions: dict[_Key, list[dict[str, Any]]],
    memory: dict[_Key, float],
) -> dict[str, Any]:
    key = name, photo.name, rendition_set
    mine, theirs = samples[OURS, photo.name, rendition_set], samples[key]
    return {
        "baseline": name,
        "photo": photo.name,
        "megapixels": photo.megapixels,
        "set": rendition_set,
        "seconds": asdict(spread([measured.seconds for measured in theirs])),
        "cpu": asdict(spread([measured.cpu for measured in theirs])),
        "ratio": asdict(ratio_of_pairs([m.cpu for m in theirs], [m.cpu for m in mine])),
        "bytes": theirs[0].bytes,
        "ssim": float(np.mean([each["ssim"] for each in renditions[key]])) if key in renditions else None,
        "renditions": renditions.get(key, []),
        "peak_mb": memory.get(key),
    }


def _renditions(
    workers: dict[str, Worker], cases: list[_Case], fit: dict[str, list[str]], progress: Progress
) -> dict[_Key, list[dict[str, Any]]]:
    """Bytes and likeness of every rendition: of stills, by every baseline."""
    stills = [(photo, rendition_set) for photo, rendition_set in cases if photo.name != "animated.gif"]
    under_way = progress.add_task("Comparing", total=len(stills))
    found: dict[_Key, list[dict[str, Any]]] = {}
    with (
        TemporaryDirectory() as scratch,
        ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool,
    ):
        jobs: list[tuple[_Case, Future[dict[str, list[dict[str, Any]]]]]] = []
        for number, (photo, rendition_set) in enumerate(stills):
            folders = {name: Path(scratch) / f"{number} {name}" for name in fit[photo.name] if name != AGAIN}
            for name, folder in folders.items():
                folder.mkdir()
                workers[name].do(job(photo, rendition_set, keep=str(folder)))
            jobs.append(((photo, rendition_set), pool.submit(compare, folders, photo.path, rendition_set)))
        for (photo, rendition_set), future in jobs:
            found |= {(name, photo.name, rendition_set): compared for name, compared in future.result().items()}
            progress.advance(under_way)
    return found


def compare(folders: dict[str, Path], photo: Path, rendition_set: str) -> dict[str, list[dict[str, Any]]]:
    """Compare renditions with Pillow's Lanczos from all pixels of their photo.

    Parameters
    ----------
    folders
        The renditions of every baseline, as a worker keeps them.

    Returns
    -------
    dict of list of dict
        By baseline ``width``, ``bytes`` and ``ssim`` (of the luma) of each rendition, in the set's order; of
        Darkroom's and sharp's also ``ssimulacra2``, which takes too long for the others.
    """
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in folders}
    for number, spec in enumerate(SETS[rendition_set].specs):
        reference = lanczos_reference(photo, spec)
        known: dict[bytes, float] = {}  # Darkroom's and sharp's renditions are often the same
        for name, folder in folders.items():
            body = (folder / str(number)).read_bytes()
            with Image.open(io.BytesIO(body)) as opened:
                shown = opened.convert("RGB")
            if shown.size != reference.size:  # rounding
                shown = shown.resize(reference.size, Image.Resampling.LANCZOS)
            rendition = {"width": spec.width, "bytes": len(body), "ssim": ssim(shown, reference)}
            if name in (OURS, SHARP):
                if body not in known:
                    known[body] = ssimulacra2(shown, reference)
                rendition["ssimulacra2"] = known[body]
            found[name].append(rendition)
    return found


def ssim(image: Image.Image, reference: Image.Image) -> float:
    """SSIM of the luma of two images."""
    return float(structural_similarity(_luma(reference), _luma(image), data_range=255))


def ssimulacra2(image: Image.Image, reference: Image.Image) -> float:
    """SSIMULACRA2 of two images: 100 for the same, 90 for no visible difference, 70 for high quality."""
    with TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("reference.png", "image.png")]
        for each, path in zip((reference, image), paths, strict=True):
            each.save(path, compress_level=0)
        return float(compute_ssimulacra2(*map(str, paths)))


def _luma(image: Image.Image) -> np.ndarray[Any, Any]:
    return np.asarray(image.convert("L"), dtype=np.float32)


def _memory(commands: dict[str, list[str]], cases: list[_Case], core: int, console: Console) -> dict[_Key, float]:
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
