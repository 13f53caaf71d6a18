"""The photos for the measurements: made once from real, freely licensed pictures, kept in ``.local/bench-photos``.

The pictures and their licences are those of ``samples/make_samples.py``. None is as large as an upload, so each photo
is a mosaic: pictures at their own resolution, never enlarged, by their mirror images. Noise as of a sensor is added
last. So there is detail in every pixel, more than in most uploads. Only the pages of ``text`` are drawn.

    python -m benchmarks.rendering.photos
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from itertools import product
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageDraw, ImageFont
from rich.progress import track

from samples.make_samples import Box, Sources, camera_exif, encode, to_vips

_PROJECT = Path(__file__).resolve().parents[2]
_FOLDER = _PROJECT / ".local" / "bench-photos"
_WHEELS, _HEIC_ENCODER = _FOLDER / "wheels", _FOLDER / "encoder"

_TWO_MP, _TWELVE_MP, _TWENTY_FOUR_MP = (1640, 1230), (4032, 3024), (6000, 4000)
_SMALL = (2000, 1500)  # photos for the encoders: 3 megapixels, larger than the largest rendition

#: Parts of the satellite mosaic with land and clouds in them, at its own resolution: left and top of 2000 x 1500.
_REGIONS = {
    "america-north": (600, 150),
    "america-south": (1100, 1150),
    "europe": (2350, 250),
    "sahara": (2300, 750),
    "africa-south": (2600, 1150),
    "asia": (3300, 300),
    "himalaya": (3400, 600),
    "australia": (3400, 1150),
}

#: Noise of a sensor: the standard deviation at mid-grey, of 255, in daylight and at night.
_DAYLIGHT, _NIGHT = 2.5, 7.0
#: The part of the noise that does not grow with the light.
_DARK_NOISE = 0.3


@dataclass(frozen=True)
class Kind:
    """What a photo shows: pictures, or parts of them, and the noise of its sensor."""

    pictures: tuple[tuple[str, Box | None], ...]
    noise: float = _DAYLIGHT


KINDS = {
    "foliage": Kind((("raccoon", None),)),
    "fur": Kind((("cat", None),)),
    "skin": Kind((("astronaut", (60, 0, 380, 300)), ("hopper", (100, 40, 420, 340)))),
    "night": Kind((("deep_field", None), ("rocket", None)), _NIGHT),
    "text": Kind((("text", None),)),
    "architecture": Kind((("lake", (0, 60, 640, 427)), ("brick", None))),
    "sky": Kind((("rocket", (0, 0, 300, 200)), ("lake", (300, 0, 600, 60)))),
    "table": Kind((("coffee", None),)),
    "land": Kind((("earth", (2350, 250, 5350, 2250)),)),
}
_MIXED = Kind(tuple(kind.pictures[0] for name, kind in KINDS.items() if name != "sky"))


@dataclass(frozen=True)
class BenchPhoto:
    """A photo for measurements. ``megapixels`` per frame."""

    name: str
    path: Path
    megapixels: float

    @property
    def is_large(self) -> bool:
        """Whether the targets for large photos apply: 12 megapixels and more."""
        return self.megapixels >= 12


def inputs() -> list[BenchPhoto]:
    """The photos of every format and size, for all tools; made if missing."""
    return [_photo(name) for name in _INPUTS]


def kinds() -> list[BenchPhoto]:
    """The photos of every kind, for detail; made if missing."""
    return [_photo(name) for name in _OF_KINDS]


def encoder_photos() -> list[BenchPhoto]:
    """Different lossless photos for the encoder settings; made if missing."""
    return [_photo(name) for name in _ENCODER_PHOTOS]


def mosaic(pictures: list[Image.Image], size: tuple[int, int]) -> Image.Image:
    """Fill a photo with pictures as they are, in turns, cut to the smallest of them; every second cell is mirrored."""
    width, height = (min(side) for side in zip(*(picture.size for picture in pictures), strict=True))
    cells = [_middle(picture.convert("RGB"), width, height) for picture in pictures]
    photo = Image.new("RGB", size)
    for row, column in product(range(-(-size[1] // height)), range(-(-size[0] // width))):
        # Two by two, so that every picture meets its own mirror image on two sides.
        cell = cells[(row // 2 + column // 2) % len(cells)]
        if column % 2:
            cell = cell.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if row % 2:
            cell = cell.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
        photo.paste(cell, (column * width, row * height))
    return photo


def with_noise(photo: Image.Image, strength: float, seed: int = 0) -> Image.Image:
    """Add noise as of a sensor: it grows with the root of the light, and red and blue have half as many samples."""
    chance = np.random.default_rng(seed)
    width, height = photo.size
    bands = []
    for number, band in enumerate(photo.split()):
        light = np.asarray(band, np.float32)
        scale = 1 if number == 1 else 2
        grain = chance.standard_normal((-(-height // scale), -(-width // scale)), np.float32)
        if scale == 2:
            grain = np.asarray(Image.fromarray(grain).resize((width, height), Image.Resampling.BILINEAR))
        deviation = strength * np.sqrt(_DARK_NOISE**2 + light / 128)
        bands.append(Image.fromarray((light + deviation * grain).round().clip(0, 255).astype(np.uint8)))
    return Image.merge("RGB", bands)


def _middle(picture: Image.Image, width: int, height: int) -> Image.Image:
    left, top = (picture.width - width) // 2, (picture.height - height) // 2
    return picture.crop((left, top, left + width, top + height))


def _of_kind(sources: Sources, kind: Kind, size: tuple[int, int]) -> Image.Image:
    pictures = [
        _printed_page() if name == "text" else sources.picture(name).crop(box) if box else sources.picture(name)
        for name, box in kind.pictures
    ]
    return with_noise(mosaic(pictures, size), kind.noise)


def _printed_page() -> Image.Image:
    """A page of the licence in letters of many sizes, on paper that is lit from one side."""
    page = Image.linear_gradient("L").rotate(90).resize((900, 700)).point(lambda light: 205 + light // 6)
    draw, top = ImageDraw.Draw(page), 12
    lines = (_PROJECT / "LICENSE").read_text().splitlines()
    for number, line in enumerate(filter(None, lines * 3)):
        size = 9 + number % 7 * 3
        if top + size > page.height:
            break
        draw.text((14, top), line, fill=25, font=ImageFont.load_default(size))
        top += round(1.35 * size)
    return page


def _region(sources: Sources, name: str) -> Image.Image:
    left, top = _REGIONS[name]
    width, height = _SMALL
    return sources.picture("earth").crop(
        (left, min(top, 2700 - height), left + width, min(top, 2700 - height) + height)
    )


def _jpeg(photo: Image.Image) -> bytes:
    return encode(photo, "JPEG", quality=90, exif=camera_exif("Benchmark", "2026:11:22 12:00:00"))


def _mixed(sources: Sources, size: tuple[int, int] = _TWELVE_MP) -> Image.Image:
    return _of_kind(sources, _MIXED, size)


def _profiled(sources: Sources) -> bytes:
    """As a phone stores it: in Display P3, rotated by EXIF."""
    upright = to_vips(_mixed(sources, (_TWELVE_MP[1], _TWELVE_MP[0])))
    wide = upright.icc_transform("p3", input_profile="srgb", depth=8).rot270()
    exif = camera_exif("Benchmark", "2026:11:22 12:00:00")
    exif[ExifTags.Base.Orientation] = 6
    photo = Image.frombytes("RGB", (wide.width, wide.height), bytes(wide.write_to_memory()))
    return encode(photo, "JPEG", quality=90, exif=exif, icc_profile=wide.get("icc-profile-data"))


def _heic(sources: Sources) -> bytes:
    sys.path.append(str(_HEIC_ENCODER))
    import_module("pillow_heif").register_heif_opener()
    return encode(_mixed(sources), "HEIF", quality=70)


def panning_gif(frames: int) -> bytes:
    """An animation of 640 x 480 pixels that pans over a picture, at most 150 frames."""
    picture, step = Sources(_WHEELS).picture("raccoon"), min(12, 384 // frames)
    boxes = [(step * number, step * number // 2) for number in range(frames)]
    pictures = [picture.crop((left, top, left + 640, top + 480)) for left, top in boxes]
    palette = pictures[frames // 2].quantize(128)
    small = [each.quantize(palette=palette, dither=Image.Dither.NONE) for each in pictures]
    return encode(small[0], "GIF", save_all=True, append_images=small[1:], duration=80, loop=0)


_Maker = Callable[[Sources], bytes]

_INPUTS: dict[str, _Maker] = {
    "0.3mp.jpg": lambda sources: _jpeg(_of_kind(sources, KINDS["foliage"], (640, 480))),
    "2mp.jpg": lambda sources: _jpeg(_of_kind(sources, KINDS["foliage"], _TWO_MP)),
    "12mp.jpg": lambda sources: _jpeg(_mixed(sources)),
    "12mp-p3-rotated.jpg": _profiled,
    "24mp.jpg": lambda sources: _jpeg(_mixed(sources, _TWENTY_FOUR_MP)),
    "12mp.png": lambda sources: encode(_mixed(sources), "PNG"),
    "12mp.webp": lambda sources: encode(_mixed(sources), "WEBP", quality=90),
    "12mp.heic": _heic,
    "animated.gif": lambda _: panning_gif(24),
}


def _jpeg_of(sources: Sources, kind: Kind, size: tuple[int, int]) -> bytes:
    return _jpeg(_of_kind(sources, kind, size))


_OF_KINDS: dict[str, _Maker] = {
    f"{size}-{name}.jpg": partial(_jpeg_of, kind=kind, size=pixels)
    for size, pixels in (("12mp", _TWELVE_MP), ("24mp", _TWENTY_FOUR_MP))
    for name, kind in KINDS.items()
}


def _lossless(photo: Image.Image) -> bytes:
    return encode(photo, "PNG", compress_level=1)


def _of_region(sources: Sources, name: str) -> bytes:
    return _lossless(_region(sources, name))


def _png_of(sources: Sources, kind: Kind) -> bytes:
    return _lossless(_of_kind(sources, kind, _SMALL))


def _encoder_makers() -> Iterator[tuple[str, _Maker]]:
    for region in _REGIONS:
        yield f"earth-{region}", partial(_of_region, name=region)
    for name, kind in KINDS.items():
        yield name, partial(_png_of, kind=kind)


_ENCODER_PHOTOS: dict[str, _Maker] = {f"{name}.png": make for name, make in _encoder_makers()}
_MAKERS = _INPUTS | _OF_KINDS | _ENCODER_PHOTOS


def _photo(name: str) -> BenchPhoto:
    path = _FOLDER / ("encoders" if name in _ENCODER_PHOTOS else "inputs") / name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_MAKERS[name](Sources(_WHEELS)))
    return BenchPhoto(name, path, _megapixels(path))


def _megapixels(path: Path) -> float:
    import pi_heif  # after pillow_heif, which would replace it

    pi_heif.register_heif_opener()
    with Image.open(path) as image:
        return image.width * image.height / 1e6


if __name__ == "__main__":
    for each in track(_MAKERS, description="Making photos"):
        print(f"{each}: {_photo(each).megapixels:.1f} megapixels, {_photo(each).path.stat().st_size:,} bytes")
