"""Measures what rendering takes at its peak, and writes the table that the estimate is compared with.

    python -m benchmarks.rendering.memory [WORD ...]

Every case is a file and a rendition set. The file is rendered in a process that was forked for it, as the render server
forks one, and the kernel says how far its resident memory grew (``VmHWM``) without the file's own bytes. Contents are
the worst that each codec meets: noise, also in the alpha channel. Two encoders overlap differently each time, so a case
that is measured again keeps its highest peak; remove the results to start again. With words, only cases whose names
have all of them are measured.
"""

from __future__ import annotations

import io
import json
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module
from operator import itemgetter
from pathlib import Path
from typing import Any

import pyvips
from PIL import Image

from benchmarks.rendering.rendition_sets import WEBP, with_avif
from functions.process_image.photo import Limits, Photo
from functions.process_image.processing import estimate_memory, estimate_seconds, identify, render
from functions.process_image.rendition_set import RenditionSet, RenditionSpec, rendition_set_of

RESULTS = Path(__file__).resolve().parent.parent / "results" / "memory.json"
_PAGE = Path(__file__).resolve().parents[2] / "docs" / "rendering-memory.md"
_HEIC_ENCODER = Path(__file__).resolve().parents[2] / ".local" / "bench-photos" / "encoder"
_LIMITS = Limits(max_bytes=500_000_000, max_pixels=100_000_000, max_frames=300)
#: Noise is made once, of this size, and repeated.
_TILE = 500

_SIZES = {"2mp": (1640, 1230), "12mp": (4032, 3024), "48mp": (8064, 6048)}


@dataclass(frozen=True)
class Case:
    """A file to make, and what to render of it. The words of ``file`` describe it, such as ``12mp rgba 16bit png``."""

    file: str
    renditions: str = "default"

    @property
    def name(self) -> str:
        """Tells it from every other."""
        return f"{self.file}, {self.renditions}"


def cases() -> Iterator[Case]:
    """All of the table."""
    kinds = [
        *("420 jpeg", "444 jpeg", "420 progressive jpeg", "444 progressive jpeg"),
        *("png", "interlaced png", "16bit png", "16bit interlaced png", "rgba png", "rgba interlaced png"),
        *("rgba 16bit png", "rgba 16bit interlaced png"),
        *("webp", "lossless webp", "rgba webp", "rgba lossless webp"),
        *("tiff", "tiled tiff", "lzw tiff", "16bit tiff", "rgba tiff", "rgba 16bit tiff"),
        *("420 avif", "444 avif", "420 10bit avif", "444 10bit avif", "444 12bit avif", "rgba 420 avif"),
        "rgba 444 10bit avif",
    ]
    for kind in kinds:
        for size in ("2mp", "12mp") if "rgba" in kind else ("12mp",):
            yield Case(f"{size} {kind}")
    for kind in ("420 jpeg", "420 progressive jpeg", "png", "420 avif"):
        yield Case(f"48mp {kind}")
    for file in ("2mp 420 heic", "12mp 420 heic", "2mp rgba 420 heic"):
        yield Case(file)
    for encoder in ("webp 0", "webp 4", "webp 5", "webp 6", "jpeg", "png", "avif 0", "avif 2", "avif 3", "avif 4"):
        for kind in ("420 jpeg", "rgba png"):
            yield Case(f"12mp {kind}", f"one 1920 {encoder}")
    for encoder in ("webp 4", "avif 0"):
        yield Case("12mp 420 jpeg", f"two 1920 {encoder}")
        yield Case("12mp 420 jpeg", f"one 4096 {encoder}")
    for file in ("12mp 420 jpeg", "2mp rgba png", "12mp rgba png", "640x480x20 gif"):
        yield Case(file, "default and avif")
    for frames in (20, 100):
        yield Case(f"640x480x{frames} gif")
        yield Case(f"640x480x{frames} gif", "one 256 webp 4")
    yield Case("640x480x100 gif", "three 640 webp 4")
    yield Case("1920x1080x20 gif")
    yield Case("640x480x20 gif", "one 640 webp 6")


def rendition_set(name: str) -> RenditionSet:
    """The default one, that with AVIF, too, or as many renditions of a size, format and effort as it says."""
    if name == "default":
        return WEBP
    if name == "default and avif":
        return with_avif(effort=0)
    count, side, image_format, *effort = name.split()
    made = partial(RenditionSpec, format=image_format, effort=int(effort[0]) if effort else None)
    return rendition_set_of(
        tuple(made(str(n), int(side) - n, int(side) - n) for n in range({"one": 1, "two": 2, "three": 3}[count]))
    )


def file_of(words: str) -> bytes:
    """Make the file that the words describe."""
    size, *kind = words.split()
    if size.count("x") == 2:
        return _animation(*map(int, size.split("x")))
    has, image_format = kind.__contains__, kind[-1]
    deep = next((word for word in kind if word.endswith("bit")), "8bit")
    image = _noisy(*_SIZES[size], alpha=has("rgba"), deep=deep != "8bit")
    if image_format == "heic":
        return _heic(image)
    saved: dict[str, dict[str, Any]] = {
        "jpeg": {"Q": 90, "interlace": has("progressive"), "subsample_mode": "off" if has("444") else "on"},
        "png": {"interlace": has("interlaced"), "compression": 1},
        "webp": {"Q": 85, "effort": 0, "lossless": has("lossless")},
        "tiff": {"tile": has("tiled"), "compression": "lzw" if has("lzw") else "none"},
        "avif": {
            "Q": 60,
            "effort": 0,
            "compression": "av1",
            "bitdepth": int(deep.removesuffix("bit")),
            "subsample_mode": "off" if has("444") else "on",
        },
    }
    return bytes(image.write_to_buffer(f".{image_format}", **saved[image_format]))


def _heic(image: Any) -> bytes:
    """Encode with the encoder that `make bench` installs in a folder of its own."""
    sys.path.append(str(_HEIC_ENCODER))
    import_module("pillow_heif").register_heif_opener()
    buffer = io.BytesIO()
    pixels = Image.frombytes(
        "RGB" if image.bands == 3 else "RGBA", (image.width, image.height), image.write_to_memory()
    )
    pixels.save(buffer, "HEIF", quality=60, enc_params={"preset": "ultrafast"})
    return buffer.getvalue()


def _noisy(width: int, height: int, *, alpha: bool, deep: bool) -> Any:
    """A slope of light with noise in every channel."""
    place: Any = pyvips.Image.xyz(width, height)
    slope = place[0] * (150 / width) + place[1] * (60 / height)
    bands = [slope + _noise(width, height, seed, sigma=6) for seed in range(3)]
    if alpha:  # mild noise on a slope: stored without loss, and no palette
        bands.append(place[0] * (100 / width) + place[1] * (100 / height) + _noise(width, height, 3, sigma=12) + 40)
    image = bands[0].bandjoin(bands[1:])
    if deep:
        return (image * 257).cast("ushort").copy(interpretation="rgb16")
    return image.cast("uchar").copy(interpretation="srgb")


def _noise(width: int, height: int, seed: int, sigma: float) -> Any:
    tile: Any = pyvips.Image.gaussnoise(_TILE, _TILE, sigma=sigma, mean=20, seed=seed)
    return tile.copy_memory().replicate(width // _TILE + 1, height // _TILE + 1).crop(0, 0, width, height)


def _animation(width: int, height: int, frames: int) -> bytes:
    noise = [Image.effect_noise((width, height), 40 + 9 * number) for number in range(5)]
    pictures = [
        noise[number % len(noise)].rotate(90 * (number // len(noise))).resize((width, height))
        for number in range(frames)
    ]
    buffer = io.BytesIO()
    pictures[0].save(buffer, "GIF", save_all=True, append_images=pictures[1:], duration=50, loop=0)
    return buffer.getvalue()


def measure(data: bytes, renditions: RenditionSet) -> dict[str, Any]:
    """Render a file in a forked process.

    Returns
    -------
    dict
        ``photo``, ``peak`` (bytes that resident memory grew by), ``mapped`` (bytes that its addresses grew by, most of
        which nobody writes to), ``cpu`` (seconds).
    """

    def work() -> bytes:
        before = _status()
        photo = identify(data, _LIMITS)
        render(data, photo, renditions)
        after, times = _status(), os.times()
        return json.dumps(
            {
                "photo": asdict(photo),
                "peak": after["VmHWM"] - before["VmRSS"],
                "mapped": after["VmPeak"] - before["VmSize"],
                "cpu": round(times.user + times.system, 2),
            }
        ).encode()

    found: dict[str, Any] = json.loads(forked(work))
    return found


def forked(work: Callable[[], bytes]) -> bytes:
    """Do something in a forked process. This one must start no thread, or libvips would hang in those it forks."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reader)
            with os.fdopen(writer, "wb") as pipe:
                pipe.write(work())
        except BaseException:  # noqa: BLE001 # said here, for nothing returns from a fork
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    if not answer:
        raise RuntimeError("the process broke off; what it said stands above")
    return answer


def _status() -> dict[str, int]:
    """Sizes of this process in bytes, https://man7.org/linux/man-pages/man5/proc_pid_status.5.html."""
    text = Path("/proc/self/status").read_text()
    return {name: int(kilobytes) * 1024 for name, kilobytes in re.findall(r"(Vm\w+):\s+(\d+) kB", text)}


def photo_of(row: dict[str, Any]) -> Photo:
    """The photo of a row of the results."""
    return Photo(**row["photo"] | {"location": None})


def _page(rows: dict[str, dict[str, Any]]) -> str:
    lines = [
        "<!-- Made by `python -m benchmarks.rendering.memory`; do not edit. -->",
        "# What rendering takes",
        "",
        "Peaks of resident memory without the file's own bytes, each in a process forked for the image, and what",
        "`estimate_memory` says; CPU seconds, measured on a shared machine, and what `estimate_seconds` says. Contents",
        "are the worst for each codec: noise in every channel. A test keeps each estimate between the peak and 1.5",
        "times the peak.",
        "",
        "| File | Renditions | peak MB | estimate MB | ratio | CPU s | estimate s |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        file, renditions = name.split(", ")
        photo, wanted = photo_of(row), rendition_set(renditions)
        estimate = estimate_memory(photo, wanted)
        lines.append(
            f"| {file} | {renditions} | {row['peak'] / 1e6:.0f} | {estimate / 1e6:.0f} | {estimate / row['peak']:.2f} |"
            f" {row['cpu']:.2f} | {estimate_seconds(photo, wanted):.2f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, and write results and page."""
    rows: dict[str, dict[str, Any]] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    made: dict[str, bytes] = {}
    chosen = [case for case in cases() if all(word in case.name.split() for word in sys.argv[1:])]
    for number, case in enumerate(chosen, start=1):
        if case.file not in made:
            made = {case.file: forked(partial(file_of, case.file))}
        row = measure(made[case.file], rendition_set(case.renditions))
        rows[case.name] = max(rows.get(case.name, row), row, key=itemgetter("peak"))
        print(f"{number}/{len(chosen)} {case.name}: {rows[case.name]['peak'] / 1e6:.0f} MB", flush=True)
        RESULTS.write_text(json.dumps(rows, indent=1) + "\n")
    _PAGE.write_text(_page({case.name: rows[case.name] for case in cases() if case.name in rows}))


if __name__ == "__main__":
    main()
