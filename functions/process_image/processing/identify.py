"""Before the first step: what an upload is, read from its header alone, and whether it is one we take.

Nothing here decodes a pixel: formats are told by their first bytes, sizes and metadata are read by Pillow, frames are
counted by hopping from block to block. A file that claims 50,000 x 50,000 pixels costs as much to refuse as any other.
"""

from __future__ import annotations

import io
import math
import re
import struct
import warnings
import zlib
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

import pi_heif
from darkroom.errors import (
    DamagedImage,
    NotAnImage,
    TooManyFrames,
    TooManyPixels,
    UnsupportedFormat,
)
from PIL import AvifImagePlugin, ExifTags, Image, MpoImagePlugin, TiffImagePlugin, WebPImagePlugin

from functions.process_image.formats import ALLOWED, INPUT_FORMATS, InputFormat
from functions.process_image.photo import Limits, Photo, check_size

pi_heif.register_heif_opener()

# With these Pillow has all the formats that we take beside those it always has, and does not import forty others.
_FORMATS_OF_PILLOW: Final = (AvifImagePlugin, MpoImagePlugin, TiffImagePlugin, WebPImagePlugin)

# Pillow's own guard warns up to twice its limit and raises beyond; both are settings of the whole process and neither
# is ours. ``identify`` compares every size with ``Limits.max_pixels`` before anything is decoded.
# https://pillow.readthedocs.io/en/stable/reference/Image.html#PIL.Image.open
Image.MAX_IMAGE_PIXELS = None

# Pillow says by warning that metadata are odd. Odd metadata are simply absent here.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

#: How images begin that we do not take, and what people call them.
_NOT_TAKEN: Final = (
    (rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", "a Windows bitmap (BMP)"),
    (rb"\0\0[\x01\x02]\0[^\0]\0", "a Windows icon (ICO)"),
    (rb"8BPS", "a Photoshop document (PSD)"),
    (rb"\xff\x0a|\0\0\0\x0cJXL ", "a JPEG XL image"),
    (rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51", "a JPEG 2000 image"),
    (rb"II\xbc", "a JPEG XR image"),
    (rb"%PDF-", "a PDF document"),
    (rb"%!PS|\xc5\xd0\xd3\xc6", "a PostScript document (EPS)"),
    (rb"II.{6}CR\x02|IIRO|IIRS|MMOR|IIU\0|FUJIFILMCCD-RAW|....ftypcrx ", "a camera's raw file"),
    (rb"\x76\x2f\x31\x01", "an OpenEXR image"),
    (rb"#\?R(?:ADIANCE|GBE)", "a Radiance HDR image"),
    (rb"gimp xcf", "a GIMP document (XCF)"),
    (rb"DDS ", "a DirectDraw surface (DDS)"),
    (rb"qoif", "a QOI image"),
    (rb"icns", "an Apple icon (ICNS)"),
    (rb"AT&TFORM", "a DjVu document"),
    (rb"P[1-7]\s", "a Netpbm image (PNM)"),
    (rb"(?:\xef\xbb\xbf)?\s*<(?:[?!][^\0]{0,4000}<)?svg[\s>]", "an SVG drawing"),
)

#: What header parsers raise on bytes that are not what they seem: the union of what Pillow's and pi_heif's do.
_PARSER_FAULTS: Final = (
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
    struct.error,
    zlib.error,
)


def identify(data: bytes, limits: Limits) -> Photo:
    """Say what a file is, without decoding it.

    Parameters
    ----------
    data : bytes
        The whole file.
    limits : Limits
        What to refuse.

    Returns
    -------
    Photo

    Raises
    ------
    TooLarge, NotAnImage, UnsupportedFormat, TooManyPixels, TooManyFrames, DamagedImage
        With a sentence that says what was found and what is allowed. Nothing else escapes.
    """
    check_size(len(data), limits)
    taken = _format_of(data)
    image_format, label = taken.name, taken.label

    claimed = _claimed_size(image_format, data)
    if claimed is not None:
        # Before Pillow: its WebP plugin sets memory aside for the canvas, its PNG plugin wants to see pixels.
        _refuse_pixels(*claimed, 1, limits)
    frames = _count_gif_frames(data, limits) if image_format == "gif" else 1

    try:
        with Image.open(io.BytesIO(data), formats=[taken.plugin]) as image:
            width, height = image.size
            metadata = _metadata(image)
            if image_format == "tiff" and metadata.get("orientation", 1) >= 5:
                width, height = height, width  # Pillow tells how a TIFF will be displayed, unlike all other formats
            if image_format == "webp":
                frames = int(getattr(image, "n_frames", 1))  # from the container's index
            photo = Photo(
                format=image_format,
                width=width,
                height=height,
                frames=frames,
                has_alpha=image.has_transparency_data,
                decoded_whole=bool(image.info.get("progressive") or image.info.get("interlace"))
                or (image_format == "webp" and _is_lossless_webp(data)),
                **metadata,
            )
            is_raw = image_format == "tiff" and _is_camera_raw(image)
    except _PARSER_FAULTS as error:
        raise DamagedImage(f"the {label} file's header is damaged or cut short") from error

    if is_raw:
        raise UnsupportedFormat(f"the file is a camera's raw file; {ALLOWED}")
    if width < 1 or height < 1:
        raise DamagedImage(f"the {label} file says it is {width} x {height} pixels")
    _refuse_frames(photo.frames, limits)
    _refuse_pixels(width, height, photo.frames, limits)
    return photo


def _format_of(data: bytes) -> InputFormat:
    """Tell the format by the first bytes."""
    if not data:
        raise NotAnImage("the file is empty (0 bytes)")
    head = data[:4096]
    brands = _brands(head)
    for image_format in INPUT_FORMATS.values():
        if brands & image_format.brands or (image_format.magic and re.match(image_format.magic, head, re.DOTALL)):
            return image_format
    for pattern, what in _NOT_TAKEN:
        if re.match(pattern, head, re.DOTALL):
            raise UnsupportedFormat(f"the file is {what}; {ALLOWED}")
    raise NotAnImage(f"no image format begins with the bytes {head[:8].hex(' ')}; {ALLOWED}")


def _brands(head: bytes) -> set[bytes]:
    """Read the brands of an ``ftyp`` box, by which AVIF and HEIC, which share a container, are told apart."""
    if head[4:8] != b"ftyp":
        return set()
    end = min(int.from_bytes(head[:4], "big"), len(head))
    return {head[8:12], *(head[at : at + 4] for at in range(16, end, 4))}


def memory_to_identify(data: bytes, limits: Limits) -> int:
    """Bytes that :func:`identify` sets aside and never writes to: two canvases of a WebP, which nobody decodes here."""
    is_webp = data[:4] == b"RIFF" and data[8:12] == b"WEBP"
    width, height = (is_webp and _claimed_size("webp", data)) or (0, 0)
    return 8 * width * height if width * height <= limits.max_pixels else 0


def _claimed_size(image_format: str, data: bytes) -> tuple[int, int] | None:
    """Read the size where it stands at a fixed place."""
    if image_format == "png" and data[12:16] == b"IHDR" and len(data) >= 24:
        width, height = struct.unpack(">II", data[16:24])
        return width, height
    if image_format == "webp" and data[12:16] == b"VP8X" and len(data) >= 30:
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if image_format == "webp" and data[12:16] == b"VP8 " and len(data) >= 30:
        return int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF
    if image_format == "webp" and data[12:16] == b"VP8L" and len(data) >= 25:
        sides = int.from_bytes(data[21:25], "little")
        return 1 + (sides & 0x3FFF), 1 + (sides >> 14 & 0x3FFF)
    return None


def _is_lossless_webp(data: bytes) -> bool:
    """Hop from chunk to chunk to the picture, https://developers.google.com/speed/webp/docs/riff_container."""
    at = len("RIFF....WEBP")
    while at + 8 <= len(data) and data[at : at + 4] not in (b"VP8 ", b"ANMF"):
        if data[at : at + 4] == b"VP8L":
            return True
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        at += 8 + size + size % 2
    return False


def _refuse_pixels(width: int, height: int, frames: int, limits: Limits) -> None:
    if width * height * frames > limits.max_pixels:
        size = f"{width} x {height}" + (f" x {frames} frames" if frames > 1 else "")
        found, allowed = _megapixels(width * height * frames), _megapixels(limits.max_pixels)
        raise TooManyPixels(f"{size} are {found} megapixels; at most {allowed} are allowed")


def _refuse_frames(frames: int, limits: Limits) -> None:
    if frames > limits.max_frames:
        raise TooManyFrames(f"the animation has {frames} frames; at most {limits.max_frames} are allowed")


def _megapixels(pixels: int) -> str:
    """Write millions with as many decimals as tell a number from its neighbour, but no idle zeros."""
    return f"{pixels / 1e6:,.6f}".rstrip("0").rstrip(".")


def _count_gif_frames(data: bytes, limits: Limits) -> int:
    """Count a GIF's frames by hopping over its blocks, https://www.w3.org/Graphics/GIF/spec-gif89a.txt.

    A file without the final trailer is fine, there are many; one that ends within a block has lost pixels, and the
    decoder would show what is left without a word.
    """
    frames = 0
    try:
        for _ in _gif_frames(data):
            frames += 1
            if frames > limits.max_frames:
                raise TooManyFrames(
                    f"the animation has more than {limits.max_frames} frames, the most that are allowed"
                )
    except IndexError as error:
        raise DamagedImage(f"the GIF file is cut short in frame {frames + 1}") from error
    if frames == 0:
        raise DamagedImage("the GIF file holds no frame")
    return frames


def _gif_frames(data: bytes) -> Iterator[None]:
    def palette(flags: int) -> int:
        return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0

    def after_sub_blocks(at: int) -> int:
        while data[at]:
            at += data[at] + 1
        return at + 1

    at = 13 + palette(data[10])
    while at < len(data):
        if data[at] == 0x2C:  # an image: descriptor, palette, code size, pixels
            at = after_sub_blocks(at + 11 + palette(data[at + 9]))
            yield
        elif data[at] == 0x21:  # an extension
            at = after_sub_blocks(at + 2)
        else:  # the trailer, or what somebody appended without one
            return


def _is_camera_raw(image: Image.Image) -> bool:
    """Tell raw files that are TIFF inside: DNG by its tag, others by a first page that is only a preview."""
    tags: Any = getattr(image, "tag_v2", {})
    dng_version, new_subfile_type = 50706, 254
    return dng_version in tags or bool(int(tags.get(new_subfile_type, 0)) & 1)


def _metadata(image: Image.Image) -> dict[str, Any]:
    """Read what EXIF says of the photo; whatever cannot be read is absent."""
    if image.format == "PNG" and "exif" not in image.info:
        return {}  # Pillow would decode the picture to see whether metadata follow it
    try:
        exif = image.getexif()
    except _PARSER_FAULTS:
        return {}
    shot, place = _sub_directory(exif, ExifTags.IFD.Exif), _sub_directory(exif, ExifTags.IFD.GPSInfo)
    return {
        "orientation": _orientation(exif.get(ExifTags.Base.Orientation)),
        "camera": _camera(exif.get(ExifTags.Base.Make), exif.get(ExifTags.Base.Model)),
        "taken_at": _taken_at(shot.get(ExifTags.Base.DateTimeOriginal), shot.get(ExifTags.Base.OffsetTimeOriginal)),
        "location": _location(place),
    }


def _sub_directory(exif: Image.Exif, tag: int) -> dict[int, Any]:
    try:
        return dict(exif.get_ifd(tag))
    except _PARSER_FAULTS:
        return {}


def _orientation(value: object) -> int:
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _camera(make: object, model: object) -> str | None:
    maker, name = _tidy(make), _tidy(model)
    if not name:
        return maker or None
    # Most makers write their own name into the model: NIKON CORPORATION, NIKON D90.
    if maker and name.casefold().startswith(maker.split()[0].casefold()):
        return name
    return f"{maker} {name}".strip()


def _tidy(value: object) -> str:
    """Make one short line of printable text of what a camera wrote."""
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
