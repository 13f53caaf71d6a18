"""What a second format costs: the default set alone, and with all of it in AVIF, too.

Each photo is rendered with every set, in turns, in this process. Times are CPU seconds.
"""

from __future__ import annotations

from time import process_time
from typing import Any

from rich.console import Console
from rich.progress import track

from benchmarks.rendering.baselines import LIMITS
from benchmarks.rendering.figures import geometric_mean, spread
from benchmarks.rendering.photos import encoder_photos, inputs
from benchmarks.rendering.rendition_sets import WEBP, with_avif
from functions.process_image.processing import identify, render

_SETS = {"WebP": WEBP, "WebP and AVIF, effort 0": with_avif(0), "WebP and AVIF, effort 3": with_avif(3)}
_PHOTOS_OF_UPLOADS = ("12mp.jpg", "24mp.jpg")


def measure(rounds: int, photos: int, console: Console) -> dict[str, Any]:
    """Measure; returns the content of ``results/formats.json``: by set and, for the bytes, by content type."""
    chosen = [photo for photo in inputs() if photo.name in _PHOTOS_OF_UPLOADS] + encoder_photos()[:photos]
    seconds: dict[str, list[list[float]]] = {name: [] for name in _SETS}
    sizes: dict[str, dict[str, float]] = {}
    for photo in track(chosen, description="Rendering", console=console, transient=True):
        data = photo.path.read_bytes()
        known = identify(data, LIMITS)
        for name in _SETS:
            seconds[name].append([])
        for _ in range(rounds):
            for name, rendition_set in _SETS.items():
                begun = process_time()
                rendered = render(data, known, rendition_set)
                seconds[name][-1].append(process_time() - begun)
                of_set = sizes.setdefault(name, {})
                for one in rendered.renditions:
                    of_set[one.content_type] = of_set.get(one.content_type, 0) + len(one.body) / rounds / len(chosen)
    medians = {name: [spread(of_photo).median for of_photo in of_photos] for name, of_photos in seconds.items()}
    return {
        "rounds": rounds,
        "photos": len(chosen),
        "sets": {
            name: {
                "seconds": sum(of_photos) / len(of_photos),
                "ratio": geometric_mean([a / b for a, b in zip(of_photos, medians["WebP"], strict=True)]),
                "bytes": sizes[name],
            }
            for name, of_photos in medians.items()
        },
    }
