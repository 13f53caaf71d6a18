"""The camera's metadata: EXIF, which is the same in every format.

A field that cannot be read counts as absent. XMP is not read: browsers ignore its orientation, too.
"""

from __future__ import annotations

import math
import re
import warnings
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from PIL import ExifTags, Image, TiffImagePlugin
from PIL.ExifTags import IFD

# Pillow's EXIF reader imports it with the first block; here it is imported once, before processes are forked.
_READER = TiffImagePlugin

# Pillow warns of odd metadata, which count as absent here.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

#: What Pillow raises for an invalid block.
_FAULTS = (
    OSError,
    AssertionError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    EOFError,
    MemoryError,
)


@dataclass(frozen=True, slots=True)
class Exif:
    """The metadata that are read; the fields are those of :class:`~functions.process_image.photo.Photo`."""

    orientation: int = 1
    camera: str | None = None
    taken_at: str | None = None
    location: tuple[float, float] | None = None


def read_exif(block: bytes) -> Exif:
    """Read an EXIF block, which has the structure of a TIFF file; ``Exif`` and two zeros may precede it."""
    if not block:
        return Exif()
    exif = Image.Exif()
    try:
        exif.load(block)
        shot, place = _sub_directory(exif, IFD.Exif), _sub_directory(exif, IFD.GPSInfo)
        return Exif(
            orientation=valid_orientation(exif.get(ExifTags.Base.Orientation)),
            camera=_camera(exif.get(ExifTags.Base.Make), exif.get(ExifTags.Base.Model)),
            taken_at=_taken_at(shot.get(ExifTags.Base.DateTimeOriginal), shot.get(ExifTags.Base.OffsetTimeOriginal)),
            location=_location(place),
        )
    except _FAULTS:
        return Exif()


def _sub_directory(exif: Image.Exif, tag: int) -> dict[int, Any]:
    try:
        return dict(exif.get_ifd(tag))
    except _FAULTS:
        return {}


def valid_orientation(value: object) -> int:
    """Return 1, upright, for an orientation that does not exist."""
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _camera(make: object, model: object) -> str | None:
    maker, name = _tidy(make), _tidy(model)
    if not name:
        return maker or None
    # Most makers repeat their name in the model: NIKON CORPORATION, NIKON D90.
    if maker and name.casefold().startswith(maker.split()[0].casefold()):
        return name
    return f"{maker} {name}".strip()


def _tidy(value: object) -> str:
    """Reduce a camera's text to one short line of printable characters."""
    if not isinstance(value, str):
        return ""
    text = "".join(character if character.isprintable() else " " for character in value.split("\0")[0])
    return " ".join(text.split())[:64]


def _taken_at(moment: object, offset: object) -> str | None:
    """Turn ``2024:07:14 10:30:00`` and ``+02:00`` into ISO 8601."""
    match = re.match(r"(\d{4})[:-](\d\d)[:-](\d\d)[ T](\d\d:\d\d:\d\d)", str(moment))
    if match is None:
        return None
    zone = offset.strip() if isinstance(offset, str) and re.fullmatch(r"[+-]\d\d:\d\d", offset.strip()) else ""
    year, month, day, time = match.groups()
    try:
        return datetime.fromisoformat(f"{year}-{month}-{day}T{time}{zone}").isoformat()
    except ValueError:  # the 30th of February, or 00:00:00 of year 0, from a camera whose clock was never set
        return None


def _location(place: dict[int, Any]) -> tuple[float, float] | None:
    latitude = _degrees(place.get(ExifTags.GPS.GPSLatitude), place.get(ExifTags.GPS.GPSLatitudeRef), "NS", 90)
    longitude = _degrees(place.get(ExifTags.GPS.GPSLongitude), place.get(ExifTags.GPS.GPSLongitudeRef), "EW", 180)
    return None if latitude is None or longitude is None else (latitude, longitude)


def _degrees(parts: object, reference: object, letters: str, most: int) -> float | None:
    """Turn degrees, minutes and seconds with a letter into signed degrees, to about 10 cm."""
    letter = reference.strip("\0 ").upper() if isinstance(reference, str) else ""
    if not isinstance(parts, tuple) or len(parts) != 3 or letter not in tuple(letters):
        return None
    try:
        degrees = math.fsum(float(part) / 60.0**power for power, part in enumerate(parts))
    except (TypeError, ValueError, ArithmeticError):
        return None
    if not math.isfinite(degrees) or not 0 <= degrees <= most:  # a rational over zero is how cameras write "unknown"
        return None
    return round(-degrees if letter == letters[1] else degrees, 6)
