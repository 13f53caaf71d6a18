"""The rendition sets: ``renditions.toml``, and the same boxes as progressive JPEG, or in WebP and in AVIF."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from functions.process_image.formats import OUTPUT_FORMATS
from functions.process_image.rendition_set import RenditionSet, load_rendition_set, rendition_set_of

_FILE = Path(__file__).resolve().parents[2] / "functions" / "process_image" / "renditions.toml"

WEBP: RenditionSet = load_rendition_set(_FILE)
JPEG: RenditionSet = rendition_set_of(tuple(replace(spec, format="jpeg", effort=None) for spec in WEBP.specs))


def with_avif(effort: int) -> RenditionSet:
    """The default set, and all of it in AVIF, too."""
    quality = OUTPUT_FORMATS["avif"].usual_quality or 0
    avif = (replace(spec, format="avif", quality=quality, effort=effort) for spec in WEBP.specs)
    return rendition_set_of((*WEBP.specs, *avif))


#: By the name in the workers' jobs.
SETS = {"webp": WEBP, "jpeg": JPEG}
