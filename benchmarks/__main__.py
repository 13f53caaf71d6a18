"""`make bench`: how long rendering takes, photo by photo, and what comes out.

Bare rendering in this process: identify, decode, every rendition of the default set, encode. The photos take turns, so
that a slow moment of the machine does not fall on one of them. Then, if the laptop stack is up, reads of a queue over
HTTP beside the same by SDK.
"""

from __future__ import annotations

import argparse
import io
import statistics
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

from PIL import Image
from rich.console import Console
from rich.filesize import decimal as readable_size
from rich.progress import track
from rich.table import Table

from benchmarks import api_reads
from functions.process_image.photo import Limits, Photo
from functions.process_image.processing import identify, render
from functions.process_image.rendition_set import load_rendition_set
from local import emulator
from local.machine import LaptopError, this_place
from local.stack import load

_PROJECT = Path(__file__).resolve().parent.parent
_SAMPLES = _PROJECT / "samples"
_LIMITS = Limits(max_bytes=50_000_000, max_pixels=100_000_000, max_frames=300)
_LARGE = (4032, 3024)


@dataclass
class Case:
    """One photo and its measured seconds."""

    name: str
    data: bytes
    photo: Photo
    seconds: list[float] = field(default_factory=list)
    bytes_out: int = 0


def main() -> int:
    """Measure and print a table; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how often each photo is rendered (default 5)")
    rounds = max(parser.parse_args().rounds, 1)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 110)
    rendition_set = load_rendition_set(_PROJECT / "functions" / "process_image" / "renditions.toml")
    cases = list(_cases())
    for _ in track(range(rounds), description="Rendering", console=console, transient=True):
        for case in cases:
            started = perf_counter()
            rendered = render(case.data, identify(case.data, _LIMITS), rendition_set)
            case.seconds.append(perf_counter() - started)
            case.bytes_out = sum(len(rendition.body) for rendition in rendered.renditions)
    _print(console, cases, rounds)
    try:
        api_reads.compare(load(emulator.where_it_runs(this_place())), console)
    except LaptopError as error:
        console.print(f"Reads over HTTP are not measured: {error}")
    return 0


def _cases() -> Iterator[Case]:
    for sample in tomllib.loads((_SAMPLES / "expected.toml").read_text())["sample"]:
        if sample["outcome"] == "processed":
            yield _case(sample["file"], (_SAMPLES / sample["file"]).read_bytes())
    with Image.open(_SAMPLES / "raccoon.jpg") as photo:
        buffer = io.BytesIO()
        photo.resize(_LARGE, Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=90)
        yield _case("raccoon.jpg, enlarged", buffer.getvalue())


def _case(name: str, data: bytes) -> Case:
    return Case(name, data, identify(data, _LIMITS))


def _print(console: Console, cases: list[Case], rounds: int) -> None:
    table = Table(title=f"Median of {rounds} renderings", title_justify="left", header_style="bold")
    for column in ("photo", "format"):
        table.add_column(column)
    for column in ("megapixels", "frames", "ms", "least", "most", "bytes in", "bytes out"):
        table.add_column(column, justify="right")
    for case in cases:
        photo, ms = case.photo, [seconds * 1000 for seconds in case.seconds]
        table.add_row(
            case.name,
            photo.format,
            f"{photo.width * photo.height / 1e6:.1f}",
            str(photo.frames),
            f"{statistics.median(ms):.0f}",
            f"{min(ms):.0f}",
            f"{max(ms):.0f}",
            readable_size(len(case.data)),
            readable_size(case.bytes_out),
        )
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
