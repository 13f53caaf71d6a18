"""Compare encoder settings: time and bytes at the SSIM that sharp's default WebP reaches.

Bytes at different SSIM cannot be compared. So every photo, at every rendition's size, is encoded at several qualities
with every setting. Time and bytes are interpolated at one SSIM: that of WebP at effort 4 and quality 80, the default
of sharp and of many other tools. Times are CPU seconds.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from time import process_time
from typing import Any

import numpy as np
import pyvips
from rich.console import Console
from rich.progress import track
from skimage.metrics import structural_similarity

from benchmarks.rendering.figures import Encoded, at_ssim, geometric_mean, price, price_of_two
from benchmarks.rendering.photos import BenchPhoto, encoder_photos

SIZES = (256, 640, 1280, 1920)

#: Views of a rendition in its first year, for the prices.
VIEWS = (0, 10, 100, 1000)


@dataclass(frozen=True)
class Setting:
    """An encoder setting: a saver of libvips with its options, tried at several qualities."""

    name: str
    saver: str
    options: dict[str, Any]
    qualities: tuple[int, ...]

    @property
    def format(self) -> str:
        """The format, such as ``webp``."""
        return self.name.partition(" ")[0]

    def encode(self, image: Any, quality: int) -> bytes:
        """Encode an image as Darkroom does, with other settings."""
        return bytes(getattr(image, f"{self.saver}_buffer")(Q=quality, keep="none", **self.options))


# Qualities around those that reach the standard's SSIM.
_QUALITIES, _JPEG_QUALITIES, _AVIF_QUALITIES = (74, 80, 86, 92), (68, 80, 86, 92, 97), (44, 52, 60, 68)
_PROGRESSIVE = {"optimize_coding": True, "interlace": True}


def _jpeg(name: str, **options: Any) -> Setting:
    return Setting(f"jpeg {name}", "jpegsave", options, _JPEG_QUALITIES)


def _avif(effort: int) -> Setting:
    options = {"compression": "av1", "effort": effort}
    return Setting(f"avif effort {effort}", "heifsave", options, _AVIF_QUALITIES)


#: The compared settings. The AVIF efforts above 1 take most of the time and are left out of a quick run.
SETTINGS = (
    *(Setting(f"webp effort {effort}", "webpsave", {"effort": effort}, _QUALITIES) for effort in range(7)),
    _avif(0),
    _avif(1),
    _jpeg("baseline"),
    _jpeg("optimised", optimize_coding=True),
    _jpeg("progressive", **_PROGRESSIVE),
    _jpeg("progressive, table 3", **_PROGRESSIVE, quant_table=3),
    _jpeg("trellis", **_PROGRESSIVE, trellis_quant=True, overshoot_deringing=True, optimize_scans=True, quant_table=3),
)
SLOW_SETTINGS = (_avif(2), _avif(3), _avif(4))

#: Settings of AVIF that are priced together with the standard, and the share of viewers whose browser takes AVIF
#: (https://caniuse.com/avif).
TOGETHER, AVIF_VIEWERS = ("avif effort 0", "avif effort 3"), 0.93

#: The setting that defines the SSIM, and the denominator of every ratio.
STANDARD = "webp effort 4"

#: The defaults of sharp and of Darkroom for each format.
SHARP_DEFAULTS = {"webp": "webp effort 4", "jpeg": "jpeg optimised", "avif": "avif effort 4"}
OUR_DEFAULTS = {"webp": "webp effort 4", "jpeg": "jpeg progressive", "avif": "avif effort 0"}


def measure(photos: int, *, slow: bool, console: Console) -> dict[str, Any]:
    """Measure a number of photos; returns the content of ``results/encoders.json``.

    Parameters
    ----------
    slow
        Whether to include the AVIF efforts above 1.
    """
    settings = SETTINGS + (SLOW_SETTINGS if slow else ())
    chosen = _spread_out(encoder_photos(), photos)
    jobs = [(photo, size, settings) for photo in chosen for size in SIZES]
    with multiprocessing.get_context("spawn").Pool() as pool:
        done = track(pool.imap_unordered(_compare, jobs), "Encoding", total=len(jobs), console=console, transient=True)
        compared = [(size, found) for size, found in done]
    rows = [
        _row(setting, size, [found for at, found in compared if at == size]) for size in SIZES for setting in settings
    ]
    return {"photos": len(chosen), "rows": [row for row in rows if row is not None]}


def _spread_out(photos: list[BenchPhoto], count: int) -> list[BenchPhoto]:
    """A number of photos of all kinds; the list is sorted by kind."""
    count = min(max(count, 1), len(photos))
    return [photos[number * len(photos) // count] for number in range(count)]


def _compare(job: tuple[BenchPhoto, int, tuple[Setting, ...]]) -> tuple[int, dict[str, Encoded]]:
    """One photo at one size: time and bytes of every setting at the standard's SSIM."""
    photo, size, settings = job
    pyvips.concurrency_set(1)
    pyvips.cache_set_max(0)
    image: Any = pyvips.Image.thumbnail(str(photo.path), size).copy_memory()
    reference = _luma(image)
    encodings = {s.name: [_encoded(s, image, quality, reference) for quality in s.qualities] for s in settings}
    standard = next(s for s in settings if s.name == STANDARD)
    wanted = encodings[STANDARD][standard.qualities.index(80)].ssim
    return size, {name: found for name, tried in encodings.items() if (found := at_ssim(wanted, tried))}


def _encoded(setting: Setting, image: Any, quality: int, reference: np.ndarray[Any, Any]) -> Encoded:
    started = process_time()
    body = setting.encode(image, quality)
    seconds = process_time() - started
    decoded: Any = pyvips.Image.new_from_buffer(body, "")
    return Encoded(float(structural_similarity(reference, _luma(decoded), data_range=255)), len(body), seconds)


def _luma(image: Any) -> np.ndarray[Any, Any]:
    rgb = image.numpy().astype(np.float32)[..., :3]
    return np.asarray(rgb @ np.array([0.299, 0.587, 0.114], np.float32))


def _row(setting: Setting, size: int, compared: list[dict[str, Encoded]]) -> dict[str, Any] | None:
    """One setting at one size, over all photos whose SSIM it reaches; None if there are none."""
    pairs = [(found[setting.name], found[STANDARD]) for found in compared if setting.name in found]
    if not pairs:
        return None
    mean = Encoded(
        geometric_mean([encoded.ssim for encoded, _ in pairs]),
        geometric_mean([encoded.bytes for encoded, _ in pairs]),
        geometric_mean([max(encoded.seconds, 1e-6) for encoded, _ in pairs]),
    )
    return {
        "setting": setting.name,
        "format": setting.format,
        "size": size,
        "photos": len(pairs),
        "bytes_ratio": geometric_mean([encoded.bytes / standard.bytes for encoded, standard in pairs]),
        "seconds_ratio": geometric_mean([max(e.seconds, 1e-6) / max(s.seconds, 1e-6) for e, s in pairs]),
        **asdict(mean),
    }


def prices(rows: list[dict[str, Any]]) -> Iterator[tuple[str, list[float]]]:
    """Dollars for a million photos by setting: the four sizes added, at each number of :data:`VIEWS`.

    For the mean photo, by the ratios to the standard: not every setting reaches every photo's SSIM.
    """
    standard = {row["size"]: row for row in rows if row["setting"] == STANDARD}
    by_setting: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_setting.setdefault(row["setting"], []).append(row)
    for name, sizes in by_setting.items():
        if len(sizes) == len(SIZES):
            pairs = [(row, standard[row["size"]]) for row in sizes]
            yield name, [1e6 * sum(_price(row, webp, views) for row, webp in pairs) for views in VIEWS]
            if name in TOGETHER:
                both = [1e6 * sum(_price_of_both(row, webp, views) for row, webp in pairs) for views in VIEWS]
                yield f"{STANDARD} and {name}", both


def views_to_pay(rows: list[dict[str, Any]], setting: str) -> float:
    """From how many views of each rendition on an AVIF setting pays, made in addition to the standard."""
    standard = {row["size"]: row for row in rows if row["setting"] == STANDARD}
    pairs = [(row, standard[row["size"]]) for row in rows if row["setting"] == setting]

    def gain(views: float) -> float:
        return sum(_price(webp, webp, views) - _price_of_both(row, webp, views) for row, webp in pairs)

    return gain(0) / (gain(0) - gain(1))


def _price(row: dict[str, Any], standard: dict[str, Any], views: float) -> float:
    return price(*_cost_of(row, standard), views)


def _price_of_both(row: dict[str, Any], standard: dict[str, Any], views: float) -> float:
    return price_of_two(_cost_of(standard, standard), _cost_of(row, standard), views, AVIF_VIEWERS)


def _cost_of(row: dict[str, Any], standard: dict[str, Any]) -> tuple[float, float]:
    """Seconds and bytes."""
    return row["seconds_ratio"] * standard["seconds"], row["bytes_ratio"] * standard["bytes"]
