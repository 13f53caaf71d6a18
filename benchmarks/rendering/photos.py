"""The photos for the measurements: made once from real, freely licensed pictures, kept in ``.local/bench-photos``.

The pictures and their licences are those of ``samples/make_samples.py``. The sources are small, except a satellite
mosaic of 14 megapixels. So each large photo joins four or six of them, each enlarged smoothly by two to four: at the
size of the renditions there is detail everywhere, as with a good lens, and no noise. The photos for the encoders are
joined and enlarged less.

    python -m benchmarks.rendering.photos
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path

from PIL import ExifTags, Image
from rich.progress import track

from samples.make_samples import Sources, camera_exif, encode, enlarge, to_vips

_FOLDER = Path(__file__).resolve().parents[2] / ".local" / "bench-photos"
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
    """The photos for whole renderings; made if missing."""
    return [_photo(name) for name in _INPUTS]


def encoder_photos() -> list[BenchPhoto]:
    """At least twenty different lossless photos for the encoder settings; made if missing."""
    return [_photo(name) for name in _ENCODER_PHOTOS]


def joined(pictures: list[Image.Image], columns: int, size: tuple[int, int]) -> Image.Image:
    """Join pictures into one photo of a given size: row by row, each cropped to its cell and scaled smoothly."""
    rows = len(pictures) // columns
    width, height = size[0] // columns, size[1] // rows
    photo = Image.new("RGB", size)
    for number, picture in enumerate(pictures):
        cell = _cut(picture, width / height).resize((width, height), Image.Resampling.LANCZOS)
        photo.paste(cell, (number % columns * width, number // columns * height))
    return photo


def _cut(picture: Image.Image, shape: float) -> Image.Image:
    """The middle of a picture, with this ratio of width to height."""
    width, height = min(picture.width, round(picture.height * shape)), min(picture.height, round(picture.width / shape))
    left, top = (picture.width - width) // 2, (picture.height - height) // 2
    return picture.convert("RGB").crop((left, top, left + width, top + height))


def _region(sources: Sources, name: str) -> Image.Image:
    left, top = _REGIONS[name]
    width, height = _SMALL
    return sources.picture("earth").crop(
        (left, min(top, 2700 - height), left + width, min(top, 2700 - height) + height)
    )


def _four(sources: Sources, size: tuple[int, int]) -> Image.Image:
    return joined([sources.picture(name) for name in ("raccoon", "lake", "coffee", "astronaut")], 2, size)


def _six(sources: Sources) -> Image.Image:
    some = [sources.picture(name) for name in ("raccoon", "deep_field", "lake")]
    regions = [_region(sources, name) for name in ("europe", "himalaya", "africa-south")]
    return joined([*some, *regions], 3, _TWENTY_FOUR_MP)


def _jpeg(photo: Image.Image) -> bytes:
    return encode(photo, "JPEG", quality=90, exif=camera_exif("Benchmark", "2026:11:22 12:00:00"))


def _profiled(sources: Sources) -> bytes:
    """As a phone stores it: in Display P3, rotated by EXIF."""
    upright = to_vips(_four(sources, (_TWELVE_MP[1], _TWELVE_MP[0])))
    wide = upright.icc_transform("p3", input_profile="srgb", depth=8).rot270()
    exif = camera_exif("Benchmark", "2026:11:22 12:00:00")
    exif[ExifTags.Base.Orientation] = 6
    photo = Image.frombytes("RGB", (wide.width, wide.height), bytes(wide.write_to_memory()))
    return encode(photo, "JPEG", quality=90, exif=exif, icc_profile=wide.get("icc-profile-data"))


def _heic(sources: Sources) -> bytes:
    sys.path.append(str(_HEIC_ENCODER))
    import_module("pillow_heif").register_heif_opener()
    return encode(_four(sources, _TWELVE_MP), "HEIF", quality=70)


def _gif(sources: Sources) -> bytes:
    """Twenty-four frames that pan over a picture."""
    picture = enlarge(sources.picture("raccoon"), (1024, 768))
    frames = [picture.crop((12 * step, 6 * step, 12 * step + 640, 6 * step + 480)) for step in range(24)]
    palette = frames[12].quantize(128)
    small = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    return encode(small[0], "GIF", save_all=True, append_images=small[1:], duration=80, loop=0)


_Maker = Callable[[Sources], bytes]

_INPUTS: dict[str, _Maker] = {
    "0.3mp.jpg": lambda sources: _jpeg(enlarge(sources.picture("raccoon"), (640, 480))),
    "2mp.jpg": lambda sources: _jpeg(enlarge(sources.picture("raccoon"), _TWO_MP)),
    "12mp.jpg": lambda sources: _jpeg(_four(sources, _TWELVE_MP)),
    "12mp-p3-rotated.jpg": _profiled,
    "24mp.jpg": lambda sources: _jpeg(_six(sources)),
    "12mp.png": lambda sources: encode(_four(sources, _TWELVE_MP), "PNG"),
    "12mp.webp": lambda sources: encode(_four(sources, _TWELVE_MP), "WEBP", quality=90),
    "12mp.heic": _heic,
    "animated.gif": _gif,
}


def _lossless(photo: Image.Image) -> bytes:
    return encode(photo, "PNG", compress_level=1)


def _of_region(sources: Sources, name: str) -> bytes:
    return _lossless(_region(sources, name))


def _of_pictures(sources: Sources, *names: str) -> bytes:
    return _lossless(joined([sources.picture(name) for name in names], 1 if len(names) == 1 else 2, _SMALL))


_ALONE = ("raccoon", "deep_field", "lake", "rocket", "coffee", "cat", "astronaut", "hopper", "brick")
_JOINED = (
    ("raccoon", "lake", "coffee", "astronaut"),
    ("cat", "hopper", "deep_field", "rocket"),
    ("lake", "brick", "rocket", "raccoon"),
    ("astronaut", "coffee", "hopper", "cat"),
    ("deep_field", "raccoon", "lake", "coffee"),
)


def _encoder_makers() -> Iterator[tuple[str, _Maker]]:
    for region in _REGIONS:
        yield f"earth-{region}", partial(_of_region, name=region)
    for name in _ALONE:
        yield name, _made_of(name)
    for number, names in enumerate(_JOINED, start=1):
        yield f"joined-{number}", _made_of(*names)


def _made_of(*names: str) -> _Maker:
    return lambda sources: _of_pictures(sources, *names)


_ENCODER_PHOTOS: dict[str, _Maker] = {f"{name}.png": make for name, make in _encoder_makers()}


def _photo(name: str) -> BenchPhoto:
    path = _FOLDER / ("inputs" if name in _INPUTS else "encoders") / name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((_INPUTS | _ENCODER_PHOTOS)[name](Sources(_WHEELS)))
    return BenchPhoto(name, path, _megapixels(path))


def _megapixels(path: Path) -> float:
    import pi_heif  # after pillow_heif, which would replace it

    pi_heif.register_heif_opener()
    with Image.open(path) as image:
        return image.width * image.height / 1e6


if __name__ == "__main__":
    for each in track([*_INPUTS, *_ENCODER_PHOTOS], description="Making photos"):
        print(f"{each}: {_photo(each).megapixels:.1f} megapixels, {_photo(each).path.stat().st_size:,} bytes")
