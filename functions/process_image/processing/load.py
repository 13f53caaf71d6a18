"""Step 1: open the file at the cheapest scale that serves the largest rendition."""

from __future__ import annotations

import math
from typing import Any

import pi_heif
import pyvips
from darkroom.errors import DamagedImage

from functions.process_image.photo import Photo
from functions.process_image.processing.canvas import Canvas
from functions.process_image.processing.decoder_errors import translate_decoder_errors
from functions.process_image.processing.layout import Layout

#: Errors of libvips's loaders that mean pixels are missing, not merely that the file is unusual: trailing bytes and
#: bytes between markers pass, a file that ends early or a picture that cannot be unpacked does not. ("truncated" would
#: pass a TIFF cut short, "warning" would refuse what browsers show.)
#: https://www.libvips.org/API/current/enum.FailOn.html
FAIL_ON = "error"

#: What pi_heif raises on pixels it cannot decode; MemoryError stands for libheif's own limits.
_HEIC_FAULTS = (RuntimeError, ValueError, OSError, SyntaxError, LookupError, EOFError, MemoryError)

#: How libvips calls pi_heif's modes, and their bands.
_HEIC_MODES = {"L": ("b-w", 1), "LA": ("b-w", 2), "RGB": ("srgb", 3), "RGBA": ("srgb", 4), "I;16": ("grey16", 1)}


def load(data: bytes, photo: Photo, layout: Layout, *, animated: bool = False) -> Canvas:
    """Open a photo lazily; pixels are decoded top to bottom when a later step asks for them.

    Parameters
    ----------
    data : bytes
        The file.
    photo : Photo
        What :func:`~functions.process_image.processing.identify.identify` said of it.
    layout : Layout
        The largest size that will be made.
    animated : bool
        All frames rather than the first.

    Returns
    -------
    Canvas
        Untouched pixels, fewer than the file has where the format can shrink while it decodes.

    Raises
    ------
    DamagedImage
        If pi_heif cannot decode a HEIC, or a decoder finds more pixels than the header announced.
    pyvips.Error
        If the decoder cannot read the file.
    """
    if photo.format == "heic":
        with translate_decoder_errors(photo, *_HEIC_FAULTS):
            image, owner = _open_heic(data)
    else:
        image, owner = _open(data, photo, layout, animated), None
    # The limits were kept by what Pillow read; a file that tells libvips a larger size is up to something.
    if image.width * image.height > photo.width * photo.height * photo.frames:
        raise DamagedImage(
            f"the header says {photo.width} x {photo.height} pixels in {photo.frames} frames, "
            f"the picture itself {image.width} x {image.height}"
        )
    # libheif turns pictures upright while it decodes: rotation is a property of the container, EXIF's is void there.
    orientation = 1 if photo.format in ("heic", "avif") else photo.orientation
    if not animated:
        return Canvas((image,), orientation, owner=owner)

    frame_height = image.get_page_height()
    frames = tuple(image.crop(0, top, image.width, frame_height) for top in range(0, image.height, frame_height))
    delays = tuple(image.get("delay")) if image.get_typeof("delay") else (100,) * len(frames)
    return Canvas(frames, orientation, delays, image.get("loop") if image.get_typeof("loop") else 0)


def _open(data: bytes, photo: Photo, layout: Layout, animated: bool) -> Any:
    # Top to bottom, once: turning, which reads sideways, comes when the pixels stand in memory at their final size.
    # A source reads our bytes where they are; the loaders that take a buffer would copy them.
    source: Any = pyvips.Source.new_from_memory(data)
    options = {"access": "sequential", "fail_on": FAIL_ON}
    if photo.format == "jpeg":
        return pyvips.Image.jpegload_source(source, shrink=jpeg_shrink(photo, layout), **options)
    if photo.format == "png":
        return pyvips.Image.pngload_source(source, **options)
    if photo.format == "webp":
        scale = webp_scale(photo, layout)
        return pyvips.Image.webpload_source(source, n=-1 if animated else 1, scale=scale, **options)
    if photo.format == "gif":
        return pyvips.Image.gifload_source(source, n=-1 if animated else 1, **options)
    if photo.format == "tiff":
        return pyvips.Image.tiffload_source(source, **options)
    return pyvips.Image.heifload_source(source, **options)


def jpeg_shrink(photo: Photo, layout: Layout) -> int:
    """Choose how much the JPEG decoder shrinks, 8, 4, 2 or 1: the most that leaves the layout's size.

    Measured, 4032 pixels to 2016 for a rendition of 1920: a seventh less time for all four JPEG renditions and 1 to 2 %
    fewer bytes, for .0015 of SSIM.
    """
    for shrink in (8, 4, 2):
        wide_enough = math.ceil(photo.display_width / shrink) >= layout.width
        high_enough = math.ceil(photo.display_height / shrink) >= layout.height
        if wide_enough and high_enough:
            return shrink
    return 1


def webp_scale(photo: Photo, layout: Layout) -> float:
    """Choose the scale that the WebP decoder applies: the layout's own, because it takes any.

    Measured, 12 megapixels to 1920 pixels: decoding and resizing take 0.6 of the time, for .0015 of SSIM.
    """
    if photo.frames > 1:  # patches on the frame before: scaled one by one they would show seams
        return 1.0
    return max(layout.width / photo.display_width, layout.height / photo.display_height)


def _open_heic(data: bytes) -> tuple[Any, Any]:
    """Have pi_heif decode a HEIC, because pyvips-binary carries no HEVC decoder; also return what owns the pixels."""
    heic = pi_heif.open_heif(data, convert_hdr_to_8bit=True)
    width, height = heic.size
    interpretation, bands = _HEIC_MODES[heic.mode]
    band_format = "ushort" if heic.mode == "I;16" else "uchar"
    pixels = heic.data
    row = len(pixels) // height // (bands * (2 if band_format == "ushort" else 1))  # rows may be padded
    image: Any = pyvips.Image.new_from_memory(pixels, row, height, bands, band_format)
    image = image.crop(0, 0, width, height).copy(interpretation=interpretation)
    if profile := heic.info.get("icc_profile"):
        image.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)
    return image, heic
