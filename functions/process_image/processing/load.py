"""Step 1: open the file at the cheapest scale that is enough for the largest rendition."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pi_heif
import pyvips
from darkroom.errors import DamagedImage

from functions.process_image.photo import Photo
from functions.process_image.processing.canvas import Canvas
from functions.process_image.processing.decoder_errors import translate_decoder_errors
from functions.process_image.processing.headers import gif, heif, jpeg, png, tiff
from functions.process_image.processing.layout import Layout
from functions.process_image.processing.samples import usual_samples

#: Errors of libvips's loaders that mean missing pixels, not just an unusual file: trailing bytes and bytes between
#: markers are accepted, a file that ends early or a picture that cannot be unpacked is not. ("truncated" would accept a
#: TIFF that is cut short, "warning" would refuse what browsers show.)
#: https://www.libvips.org/API/current/enum.FailOn.html
FAIL_ON = "error"

#: For a JPEG whose end marker was added here, "error" accepts everything after its last byte.
FAIL_ON_ANYTHING = "warning"

# libheif's own limit is the size after the crop, which refuses every cropped picture. Darkroom's limits apply to the
# size before the crop, and to the process.
pi_heif.options.DISABLE_SECURITY_LIMITS = True
# None of these is shown.
pi_heif.options.THUMBNAILS = pi_heif.options.DEPTH_IMAGES = pi_heif.options.AUX_IMAGES = False

#: What pi_heif raises for pixels that it cannot decode; MemoryError means one of libheif's own limits.
_HEIC_FAULTS = (RuntimeError, ValueError, OSError, SyntaxError, LookupError, EOFError, MemoryError)

#: libvips's names for pi_heif's modes, with their bands and format. A lower-case a means premultiplied.
_HEIC_MODES = {
    "L": ("b-w", 1, "uchar"),
    "LA": ("b-w", 2, "uchar"),
    "RGB": ("srgb", 3, "uchar"),
    "RGBA": ("srgb", 4, "uchar"),
    "RGBa": ("srgb", 4, "uchar"),
    "I;16": ("grey16", 1, "ushort"),
    "I;16L": ("grey16", 1, "ushort"),
    "LA;16": ("grey16", 2, "ushort"),
    "RGB;16": ("rgb16", 3, "ushort"),
    "RGBA;16": ("rgb16", 4, "ushort"),
    "RGBa;16": ("rgb16", 4, "ushort"),
}


def load(data: bytes, photo: Photo, layout: Layout, *, animated: bool = False) -> Canvas:
    """Open a photo lazily; pixels are decoded from top to bottom when a later step needs them.

    Parameters
    ----------
    data : bytes
        The file.
    photo : Photo
        What :func:`~functions.process_image.processing.identify.identify` said of it.
    layout : Layout
        The largest size to make.
    animated : bool
        All frames rather than the first.

    Returns
    -------
    Canvas
        Unprocessed pixels; fewer than the file has if the format can shrink while it decodes.

    Raises
    ------
    DamagedImage
        The decoder cannot read the file, or finds another size than the header states.
    UnsupportedFormat
        The decoder does not support files of this kind.
    """
    with translate_decoder_errors(photo, pyvips.Error, *_HEIC_FAULTS):
        canvas, shrink = _open(data, photo, layout, animated)
    canvas = replace(canvas, frames=tuple(usual_samples(frame, photo.format) for frame in canvas.frames))
    # The limits were checked against the header; a file that shows its decoder another size may be an attack.
    (frame, *_), frames = canvas.frames, len(canvas.frames)
    apart = abs(frame.width * shrink - photo.width), abs(frame.height * shrink - photo.height)
    if max(apart) > shrink - (shrink == 1) or (animated and frames != photo.frames):
        raise DamagedImage(
            f"the header says {photo.width} x {photo.height} pixels in {photo.frames} frames, "
            f"the picture itself {round(frame.width * shrink)} x {round(frame.height * shrink)} in {frames}"
        )
    return canvas


def _open(data: bytes, photo: Photo, layout: Layout, animated: bool) -> tuple[Canvas, float]:
    """Open a file of any format; also return the factor by which it is smaller than stored."""
    # From top to bottom, once: rotating reads sideways, so it happens in memory, at the final size.
    options: dict[str, Any] = {"access": "sequential", "fail_on": FAIL_ON}
    upright = Canvas((), orientation=photo.orientation)
    n = -1 if animated else 1
    match photo.format:
        case "jpeg":
            shrink = jpeg_shrink(photo, layout)
            if jpeg.lacks_end(data):
                data, options["fail_on"] = data + b"\xff\xd9", FAIL_ON_ANYTHING
            image = pyvips.Image.jpegload_source(_source(data), shrink=shrink, **options)
            return replace(upright, frames=(image,), owner=data), shrink
        case "png":
            image = pyvips.Image.pngload_source(_source(data), **options)
            if image.bands < 3 and (profile := png.profile(data)):
                image = image.copy()
                image.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)
            return replace(upright, frames=(image,), space=png.colour_space(data)), 1
        case "webp":
            scale = webp_scale(photo, layout)
            image = pyvips.Image.webpload_source(_source(data), n=n, scale=scale, **options)
            return _frames(upright, image, animated), 1 / scale
        case "gif":
            data, shown = gif.with_transparent_canvas(data)
            image = pyvips.Image.gifload_source(_source(data), n=n, **options)
            return _frames(replace(upright, owner=data), image, animated, shown), 1
        case "tiff":
            image, data = _open_tiff(data, options)
            return replace(upright, frames=(image,), owner=data), 1
        case "avif":
            data = heif.as_still(data)
            image = pyvips.Image.heifload_source(_source(data), **options)
            if heif.is_grey_of_video(data):
                image = _of_full_range(image)
            return replace(upright, frames=(image,), space=heif.colour_space(data), owner=data), 1
    return _open_heic(data, (photo.width, photo.height)), 1


def _of_full_range(image: Any) -> Any:
    """Spread video's grey, 16 for black and 235 for white, over all values; alpha has them already."""
    unit = 256 if image.format == "ushort" else 1
    alpha = image[image.bands - 1] if image.hasalpha() else None
    grey = image.extract_band(0, n=image.bands - 1) if alpha is not None else image
    grey = ((grey - 16 * unit) * ((256 * unit - 1) / (219 * unit))).rint().cast(image.format)
    return (grey if alpha is None else grey.bandjoin(alpha)).copy(interpretation=image.interpretation)


def _source(data: bytes) -> Any:
    """Let libvips read the bytes in place; the loaders that take a buffer would copy them.

    libvips does not keep them alive.
    """
    return pyvips.Source.new_from_memory(data)


def _frames(canvas: Canvas, image: Any, animated: bool, shown: list[int] | None = None) -> Canvas:
    """Split an animation into its frames and keep those in ``shown``."""
    if not animated:
        return replace(canvas, frames=(image,))
    height = image.get_page_height()
    numbers = shown or list(range(image.height // height))
    delays = image.get("delay") if image.get_typeof("delay") else [100] * (numbers[-1] + 1)
    return replace(
        canvas,
        frames=tuple(image.crop(0, number * height, image.width, height) for number in numbers),
        delays=tuple(delays[number] for number in numbers),
        loop=image.get("loop") if image.get_typeof("loop") else 0,
    )


def _open_tiff(data: bytes, options: dict[str, Any]) -> tuple[Any, bytes]:
    """Open the page of the picture; also return the bytes that it is read from."""
    page = tiff.picture(data)
    is_lab = page.photometric in (tiff.CIELAB, tiff.ICCLAB)
    if is_lab:
        data = tiff.lab_as_rgb(data, page)
    where = {"page": page.number} | ({"subifd": page.sub_directory} if page.sub_directory >= 0 else {})
    image: Any = pyvips.Image.tiffload_source(_source(data), **where, **options)
    colours = page.colours if page.colours > 1 or image.interpretation != "srgb" else 3  # a palette of colours
    alpha = image[colours + page.alpha] if page.alpha is not None and colours + page.alpha < image.bands else None
    image = image.extract_band(0, n=colours)
    if page.is_inverted:
        image = 1 - image
    if is_lab:
        image = _lab(image, page)
        alpha = alpha if alpha is None else (alpha / (257 if alpha.format == "ushort" else 1)).cast("float")
    return (image if alpha is None else image.bandjoin(alpha)), data


def _lab(image: Any, page: tiff.Page) -> Any:
    """Convert the numbers of Lab, as TIFF stores them, to L from 0 to 100 and a and b from -128 to 127."""
    deep = image.format == "ushort"
    if page.photometric == tiff.ICCLAB:  # a and b have an offset; 16 bits are those of ICC's first version
        unit = 256 if deep else 1
        numbers = (image[0] * (100 / (65280 if deep else 255))).bandjoin([image[1] / unit - 128, image[2] / unit - 128])
    else:
        signed = image.extract_band(1, n=2).copy(format="short" if deep else "char")
        numbers = (image[0] * (100 / (65535 if deep else 255))).bandjoin(signed / (256 if deep else 1))
    return numbers.cast("float").copy(interpretation="lab")


#: How much larger than the largest rendition the JPEG decoder leaves a photo. It shrinks by averaging squares of
#: pixels, which loses detail unless the resize shrinks further. Measured with photos that have detail in every
#: pixel: 4032 to 2016 pixels for a rendition of 1920 loses .014 of SSIM; 6000 to 3000 loses .003, as sharp does.
_LEFT_BY_JPEG = 1.5


def jpeg_shrink(photo: Photo, layout: Layout) -> int:
    """Choose how much the JPEG decoder shrinks: the most of 8, 4, 2 and 1 that leaves 1.5 times the layout's size."""
    for shrink in (8, 4, 2):
        # Rounded down, because libvips refuses a picture with a side below 1.
        wide_enough = photo.display_width // shrink >= layout.width * _LEFT_BY_JPEG
        high_enough = photo.display_height // shrink >= layout.height * _LEFT_BY_JPEG
        if wide_enough and high_enough:
            return shrink
    return 1


def webp_scale(photo: Photo, layout: Layout) -> float:
    """Choose the scale that the WebP decoder applies: the layout's own, because it supports any scale.

    Measured, 12 megapixels to 1920 pixels: decoding and resizing take 0.6 of the time and lose .0015 of SSIM.
    """
    if photo.frames > 1:  # a frame is a patch on the previous one: scaled separately, it would have seams
        return 1.0
    return max(layout.width / photo.display_width, layout.height / photo.display_height)


def _open_heic(data: bytes, size: tuple[int, int]) -> Canvas:
    """Decode a HEIC with pi_heif, because pyvips-binary has no HEVC decoder."""
    space = heif.colour_space(data)
    data, crop = heif.uncropped(data, size)
    # With HDR's curve, 8 bits are too few for the dark half of the picture.
    picture = pi_heif.open_heif(heif.as_still(data), convert_hdr_to_8bit=not (space and space.hdr))
    width, height = picture.size
    interpretation, bands, band_format = _HEIC_MODES[picture.mode]
    pixels = picture.data
    row = len(pixels) // height // (bands * (2 if band_format == "ushort" else 1))  # rows may be padded
    image: Any = pyvips.Image.new_from_memory(pixels, row, height, bands, band_format)
    image = image.crop(0, 0, width, height).copy(interpretation=interpretation)
    if crop:
        image = image.crop(crop.left, crop.top, *size)
    if "a" in picture.mode:
        image = image.unpremultiply().cast(band_format)
    if heif.is_grey_of_video(data):
        image = _of_full_range(image)
    if profile := picture.info.get("icc_profile"):
        image.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)
    return Canvas((image,), space=space, owner=picture)
