"""Estimate what rendering a photo takes: peak bytes and seconds of one vCPU, so that a batch can share its function.

The constants are fitted to peaks that ``python -m benchmarks.rendering.memory`` measures, over every kind of file and
encoder; docs/rendering-memory.md is its table, and a test compares the estimate with it.
"""

from __future__ import annotations

from dataclasses import dataclass

from functions.process_image.photo import Photo
from functions.process_image.processing.layout import Layout, lay_out
from functions.process_image.processing.load import jpeg_shrink, webp_scale
from functions.process_image.rendition_set import RenditionSet, RenditionSpec

_MB = 1_000_000

#: Added to the estimate: the same file takes a little more or less with every release of a library.
_MARGIN = 1.1

#: The interpreter, tables of the libraries, the miniature.
_FIXED = 9.5 * _MB

#: Bytes per pixel of width for the lines between decoder and resizer: for each byte of a sample, and for alpha, which
#: is premultiplied in floats.
_LINES, _ALPHA_LINES = 2_700, 6_000
#: The share of the decoder's memory that malloc keeps while encoders run.
_KEPT = 0.33

#: Bytes per pixel of an animated WebP's two canvases.
_WEBP_ANIMATED = 10
#: Bytes per pixel of each of its frames: libvips decodes all of them before it returns the first.
_WEBP_FRAME = 4
#: Bytes per pixel of a GIF's frame; and, if the file is rewritten for its transparency, of each of its frames in it.
_GIF_FRAME, _GIF_REWRITTEN = 20, 1.2
#: Bytes of each frame of an animation, however small.
_FRAME = 80_000
#: Bytes per pixel of an animation's encoded frames: all are in memory before they are written, then in the rendition.
_ENCODED = 0.65


@dataclass(frozen=True, slots=True)
class _Encoder:
    """Bytes and microseconds per pixel of a rendition, by effort from 0; the last entry is for all higher efforts.

    Noise in the alpha channel, which WebP and PNG store without loss, is the worst case: ``alpha_bytes`` and
    ``alpha_micros``. Shrinking averages it, so that less of it reaches the encoder: ``averaged_alpha_bytes``, if that
    makes a difference. AVIF encodes it as a second picture: ``pictures_with_alpha``.
    """

    bytes: tuple[float, ...]
    micros: tuple[float, ...]
    alpha_bytes: tuple[float, ...] | None = None
    alpha_micros: float = 0
    averaged_alpha_bytes: float | None = None
    pictures_with_alpha: int = 1

    def bytes_of(self, spec: RenditionSpec, has_alpha: bool, averaged: bool) -> float:
        """Bytes per pixel."""
        if not has_alpha or self.alpha_bytes is None:
            return _at(self.bytes, spec.effort)
        if averaged and self.averaged_alpha_bytes is not None:
            return self.averaged_alpha_bytes
        return _at(self.alpha_bytes, spec.effort)

    def micros_of(self, spec: RenditionSpec, has_alpha: bool) -> float:
        """Microseconds per pixel."""
        if not has_alpha:
            return _at(self.micros, spec.effort)
        return _at(self.micros, spec.effort) * self.pictures_with_alpha + self.alpha_micros


_ENCODERS = {
    "webp": _Encoder(
        (6.8,),
        (0.06, 0.07, 0.09, 0.13, 0.14, 0.2, 0.35),
        alpha_bytes=(46,),
        alpha_micros=0.7,
        averaged_alpha_bytes=36,
    ),
    "jpeg": _Encoder((7,), (0.05,), alpha_bytes=(14,)),
    "png": _Encoder((4.5,), (0.12,), alpha_bytes=(15,)),
    "avif": _Encoder(
        (22.5, 22.5, 22.5, 22.5, 36),
        (0.12, 0.17, 0.26, 0.45, 4, 6, 9, 18, 36, 60),
        alpha_bytes=(44, 44, 44, 44, 64),
        pictures_with_alpha=2,
    ),
}

#: An animated WebP's encoder tries each frame whole and as a change of the frame before.
_TRIES_OF_A_FRAME = 2

#: A rendition with less than this share of the stored pixels is made of averages.
_AVERAGED = 0.5

#: Microseconds to decode a stored pixel, and a pixel of a photo with ``decoded_whole``.
_DECODING = {
    "jpeg": (0.013, 0.03),
    "png": (0.04, 0.06),
    "webp": (0.03, 0.05),
    "gif": (0.03, 0.03),
    "tiff": (0.04, 0.04),
}
_DECODING_OF_CONTAINERS = 0.1
_SECONDS_AT_LEAST = 0.05


def _at(values: tuple[float, ...], effort: int | None) -> float:
    return values[min(effort or 0, len(values) - 1)]


def estimate_memory(photo: Photo, rendition_set: RenditionSet) -> int:
    """Estimate the most that :func:`~functions.process_image.processing.render` takes, without the file's own bytes.

    Parameters
    ----------
    photo : Photo
        What to render.
    rendition_set : RenditionSet
        The renditions to make.

    Returns
    -------
    int
        Bytes: at least as much as was measured, and at most half as much again.
    """
    targets = _targets(photo, rendition_set)
    largest = max(targets, key=_area)
    areas = sorted((_area(layout) for layout in targets), reverse=True)
    encoders = sorted(
        (
            _area(layout)
            * _ENCODERS[spec.format].bytes_of(spec, photo.has_alpha, _area(layout) < _AVERAGED * _stored(photo))
            for layout, specs in targets.items()
            for spec in specs
        ),
        reverse=True,
    )
    band_bytes = 4 if photo.has_alpha else 3
    if photo.frames > 1:  # one encoder runs; what it frees is used again for the next size
        canvas = areas[0] * band_bytes * photo.frames
        encoded = (areas[0] + sum(areas)) * _ENCODED
        finishing = (sum(areas) * band_bytes + encoded + _FRAME) * photo.frames + encoders[0]
    else:  # all sizes are in memory while two encoders run
        canvas = areas[0] * band_bytes * (2 if photo.orientation >= 2 else 1)
        finishing = sum(areas) * band_bytes + sum(encoders[:2])
    lines, whole = _lines(photo, largest), _whole(photo, largest)
    # AVIF and HEIC are decoded whole, not line by line. A GIF's decoder stays open until its last frame is resized.
    kept = lines + whole if photo.format == "gif" else (lines or whole) * _KEPT
    peak = max(lines + whole + canvas, kept + finishing)
    return int((_FIXED + peak) * _MARGIN)


def estimate_seconds(photo: Photo, rendition_set: RenditionSet) -> float:
    """Estimate how long :func:`~functions.process_image.processing.render` computes on one vCPU.

    Parameters
    ----------
    photo : Photo
        What to render.
    rendition_set : RenditionSet
        The renditions to make.

    Returns
    -------
    float
        Seconds; the estimate is high rather than low.
    """
    stored = _stored(photo) * photo.frames
    streaming, whole = _DECODING.get(photo.format, (_DECODING_OF_CONTAINERS, _DECODING_OF_CONTAINERS))
    micros = stored * (whole if photo.decoded_whole else streaming) * (2 if photo.bits > 8 else 1)
    micros += stored * 0.03 * photo.has_alpha
    noisy_alpha = photo.has_alpha and photo.format != "gif"  # a GIF's is on or off
    for layout, specs in _targets(photo, rendition_set).items():
        for spec in specs:
            frames = photo.frames if spec.output.is_animated else 1
            tries = _TRIES_OF_A_FRAME if frames > 1 else 1
            micros += _area(layout) * frames * (_ENCODERS[spec.format].micros_of(spec, noisy_alpha) * tries + 0.02)
    return _SECONDS_AT_LEAST + micros / 1e6


def _targets(photo: Photo, rendition_set: RenditionSet) -> dict[Layout, list[RenditionSpec]]:
    """Return the sizes to make and what is encoded at each; equal renditions are encoded once."""
    upright = (photo.display_width, photo.display_height)
    targets: dict[Layout, dict[object, RenditionSpec]] = {}
    for spec in rendition_set.specs_for(photo.frames):
        layout = lay_out(upright, (spec.width, spec.height), spec.fit)
        targets.setdefault(layout, {})[spec.format, spec.quality, spec.effort] = spec
    return {layout: list(specs.values()) for layout, specs in targets.items()}


def _area(layout: Layout) -> int:
    return layout.width * layout.height


def _stored(photo: Photo) -> int:
    return max(photo.width * photo.height, photo.coded_pixels)


def _sample_bytes(photo: Photo) -> int:
    return 1 if photo.bits <= 8 else 2 if photo.bits <= 16 else 4


def _lines(photo: Photo, largest: Layout) -> float:
    """Return the bytes of the lines that a line-by-line decoder passes on."""
    if photo.format in ("avif", "heic"):
        return 0
    width: float = photo.width
    if photo.format == "jpeg":
        width /= jpeg_shrink(photo, largest)
    if photo.format == "webp":
        width *= webp_scale(photo, largest)
    return width * (_LINES * _sample_bytes(photo) + _ALPHA_LINES * photo.has_alpha)


def _whole(photo: Photo, largest: Layout) -> float:
    """Return the bytes that a decoder holds for the whole picture."""
    bands = 3 + photo.has_alpha
    samples = (3 if photo.full_chroma else 1.5) + photo.has_alpha
    match photo.format:
        case "jpeg":  # coefficients have 2 bytes
            per_pixel = 2.1 * samples if photo.decoded_whole else 0
        case "png":
            per_pixel = bands * _sample_bytes(photo) + 0.4 if photo.decoded_whole else 0
        case "webp":
            scaled = webp_scale(photo, largest) ** 2
            per_pixel = bands * scaled + (4 if photo.decoded_whole else 1.6 * scaled + 5 * photo.has_alpha)
            per_pixel += (_WEBP_ANIMATED + _WEBP_FRAME * photo.frames) * (photo.frames > 1)
        case "gif":
            per_pixel = _GIF_FRAME + _GIF_REWRITTEN * photo.frames * photo.has_alpha
        case "avif":
            per_pixel = 13.5 + 2.1 * samples * _sample_bytes(photo)
        case "heic":
            per_pixel = 1.8 + 2.4 * samples * _sample_bytes(photo)
        case _:
            per_pixel = 0
    return _stored(photo) * per_pixel
