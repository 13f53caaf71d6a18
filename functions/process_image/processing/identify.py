"""Before the first step: identify an upload by its header alone, and decide whether it is accepted.

Nothing here decodes a pixel: the format follows from the first bytes, and sizes and metadata are read block by block. A
file that claims 50,000 x 50,000 pixels costs as much to refuse as any other.
"""

from __future__ import annotations

import re
import struct
from typing import Final

import pi_heif
import pyvips
from darkroom.errors import (
    DamagedImage,
    NotAnImage,
    TooManyFrames,
    TooManyPixels,
    UnsupportedFormat,
)

from functions.process_image.formats import ALLOWED, HEIF_BRANDS, INPUT_FORMATS, InputFormat
from functions.process_image.photo import Limits, Photo, check_size
from functions.process_image.processing.headers import Header, gif, heif, jpeg, png, tiff, webp

#: The first bytes of image formats that are not accepted, and their names.
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

#: What the readers of headers, pi_heif and libvips raise for invalid bytes.
_FAULTS: Final = (
    LookupError,
    ValueError,
    TypeError,
    ArithmeticError,
    struct.error,
    RuntimeError,
    OSError,
    SyntaxError,
    EOFError,
    pyvips.Error,
)


def identify(data: bytes, limits: Limits) -> Photo:
    """Identify a file without decoding it.

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
        The message says what was found and what is allowed. No other error escapes.
    """
    check_size(len(data), limits)
    image_format = _format_of(data)
    label = image_format.label
    try:
        header = _header(image_format.name, data, limits)
    except _FAULTS as error:
        raise DamagedImage(f"the {label} file's header is damaged or cut short") from error

    if header.width < 1 or header.height < 1:
        raise DamagedImage(f"the {label} file says it is {header.width} x {header.height} pixels")
    if header.frames > limits.max_frames:
        raise TooManyFrames(f"the animation has {header.frames} frames; at most {limits.max_frames} are allowed")
    _refuse_pixels(header.width, header.height, header.frames, limits)
    if header.coded_pixels > limits.max_pixels:
        found, allowed = _megapixels(header.coded_pixels), _megapixels(limits.max_pixels)
        raise TooManyPixels(f"before it is cropped it has {found} megapixels; at most {allowed} are allowed")
    return Photo(
        format=image_format.name,
        width=header.width,
        height=header.height,
        frames=header.frames,
        orientation=header.exif.orientation,
        has_alpha=header.has_alpha,
        decoded_whole=header.decoded_whole,
        bits=header.bits,
        full_chroma=header.full_chroma,
        coded_pixels=header.coded_pixels,
        camera=header.exif.camera,
        taken_at=header.exif.taken_at,
        location=header.exif.location,
    )


def _header(image_format: str, data: bytes, limits: Limits) -> Header:
    """Read the header of a format."""
    match image_format:
        case "jpeg":
            return jpeg.read(data)
        case "png":
            return png.read(data)
        case "webp":
            return webp.read(data)
        case "gif":
            return gif.read(data, limits.max_frames)
        case "tiff":
            return tiff.read(data)
        case "avif":
            still = heif.as_still(data)
            image = pyvips.Image.heifload_source(pyvips.Source.new_from_memory(still), access="sequential")
            return heif.read(data, (image.width, image.height))
    return heif.read(data, pi_heif.open_heif(heif.as_still(data)).size)


def _format_of(data: bytes) -> InputFormat:
    """Return the format by the first bytes; in a HEIF container, by the picture's coding."""
    if not data:
        raise NotAnImage("the file is empty (0 bytes)")
    head = data[:4096]
    for image_format in INPUT_FORMATS.values():
        if image_format.magic and re.match(image_format.magic, head, re.DOTALL):
            return image_format
    if _brands(head) & HEIF_BRANDS:
        try:
            return INPUT_FORMATS[heif.coding(data)]
        except _FAULTS as error:
            raise DamagedImage("the HEIF file's header is damaged or cut short") from error
    for pattern, what in _NOT_TAKEN:
        if re.match(pattern, head, re.DOTALL):
            raise UnsupportedFormat(f"the file is {what}; {ALLOWED}")
    raise NotAnImage(f"no image format begins with the bytes {head[:8].hex(' ')}; {ALLOWED}")


def _brands(head: bytes) -> set[bytes]:
    """Read the brands of an ``ftyp`` box, which AVIF and HEIC share."""
    if head[4:8] != b"ftyp":
        return set()
    end = min(int.from_bytes(head[:4], "big"), len(head))
    return {head[8:12], *(head[at : at + 4] for at in range(16, end, 4))}


def _refuse_pixels(width: int, height: int, frames: int, limits: Limits) -> None:
    if width * height * frames > limits.max_pixels:
        size = f"{width} x {height}" + (f" x {frames} frames" if frames > 1 else "")
        found, allowed = _megapixels(width * height * frames), _megapixels(limits.max_pixels)
        raise TooManyPixels(f"{size} are {found} megapixels; at most {allowed} are allowed")


def _refuse_frames(frames: int, limits: Limits) -> None:
    if frames > limits.max_frames:
        raise TooManyFrames(f"the animation has {frames} frames; at most {limits.max_frames} are allowed")


def _megapixels(pixels: int) -> str:
    """Format as millions, with as many decimals as distinguish two numbers, without trailing zeros."""
    return f"{pixels / 1e6:,.6f}".rstrip("0").rstrip(".")
