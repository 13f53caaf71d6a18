"""Step 1: open the file at the cheapest scale that serves the largest rendition."""

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

#: Errors of libvips's loaders that mean pixels are missing, not merely that the file is unusual: trailing bytes and
#: bytes between markers pass, a file that ends early or a picture that cannot be unpacked does not. ("truncated" would
#: pass a TIFF cut short, "warning" would refuse what browsers show.)
#: https://www.libvips.org/API/current/enum.FailOn.html
FAIL_ON = "error"

#: Of a JPEG whose end marker was supplied, "error" passes all that comes after its last byte.
FAIL_ON_ANYTHING = "warning"

# libheif's own limit is the picture's size as it is cropped, which refuses any that is. Ours are Limits, compared with
# the size before that, and the process's ceiling.
pi_heif.options.DISABLE_SECURITY_LIMITS = True
# None of these is shown.
pi_heif.options.THUMBNAILS = pi_heif.options.DEPTH_IMAGES = pi_heif.options.AUX_IMAGES = False

#: What pi_heif raises on pixels it cannot decode; MemoryError stands for libheif's own limits.
_HEIC_FAULTS = (RuntimeError, ValueError, OSError, SyntaxError, LookupError, EOFError, MemoryError)

#: How libvips calls pi_heif's modes, their bands and their format. A small a: premultiplied.
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
        If the decoder cannot read the file, or finds another size than the header announced.
    UnsupportedFormat
        If it does not decode files of this kind.
    """
    with translate_decoder_errors(photo, pyvips.Error, *_HEIC_FAULTS):
        canvas, shrink = _open(data, photo, layout, animated)
    canvas = replace(canvas, frames=tuple(usual_samples(frame, photo.format) for frame in canvas.frames))
    # The limits were kept by what the header said; a file that tells its decoder another size is up to something.
    (frame, *_), frames = canvas.frames, len(canvas.frames)
    apart = abs(frame.width * shrink - photo.width), abs(frame.height * shrink - photo.height)
    if max(apart) > shrink - (shrink == 1) or (animated and frames != photo.frames):
        raise DamagedImage(
            f"the header says {photo.width} x {photo.height} pixels in {photo.frames} frames, "
            f"the picture itself {round(frame.width * shrink)} x {round(frame.height * shrink)} in {frames}"
        )
    return canvas


def _open(data: bytes, photo: Photo, layout: Layout, animated: bool) -> tuple[Canvas, float]:
    """Open a file of any format; also tell how much smaller than stored its pixels are."""
    # Top to bottom, once: turning, which reads sideways, comes when the pixels stand in memory at their final size.
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
            return replace(upright, frames=(image,), space=heif.colour_space(data), owner=data), 1
    return _open_heic(data, (photo.width, photo.height)), 1


def _source(data: bytes) -> Any:
    """Have libvips read our bytes where they are; the loaders that take a buffer would copy them.

    It does not keep them alive.
    """
    return pyvips.Source.new_from_memory(data)


def _frames(canvas: Canvas, image: Any, animated: bool, shown: list[int] | None = None) -> Canvas:
    """Take an animation apart into its frames, of which only those ``shown`` count."""
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
    """Open the page of the picture; also give the bytes that it is read from."""
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
    """Turn the numbers of Lab, as TIFF stores them, into L of 0 to 100 and a and b of -128 to 127."""
    deep = image.format == "ushort"
    if page.photometric == tiff.ICCLAB:  # a and b have an offset; 16 bits are those of ICC's first version
        unit = 256 if deep else 1
        numbers = (image[0] * (100 / (65280 if deep else 255))).bandjoin([image[1] / unit - 128, image[2] / unit - 128])
    else:
        signed = image.extract_band(1, n=2).copy(format="short" if deep else "char")
        numbers = (image[0] * (100 / (65535 if deep else 255))).bandjoin(signed / (256 if deep else 1))
    return numbers.cast("float").copy(interpretation="lab")


#: How much larger than the largest rendition the JPEG decoder leaves a photo. Its shrinking averages squares of pixels,
#: which costs detail unless the resize after it still has work to do. Measured, photos with detail in every pixel: 4032
#: pixels to 2016 for a rendition of 1920 lose .014 of SSIM, 6000 to 3000 lose .003, which is what sharp loses too.
_LEFT_BY_JPEG = 1.5


def jpeg_shrink(photo: Photo, layout: Layout) -> int:
    """Choose how much the JPEG decoder shrinks, 8, 4, 2 or 1: the most that leaves 1.5 times the layout's size."""
    for shrink in (8, 4, 2):
        # Rounded down, because libvips takes no picture of which one side would vanish.
        wide_enough = photo.display_width // shrink >= layout.width * _LEFT_BY_JPEG
        high_enough = photo.display_height // shrink >= layout.height * _LEFT_BY_JPEG
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


def _open_heic(data: bytes, size: tuple[int, int]) -> Canvas:
    """Have pi_heif decode a HEIC, because pyvips-binary carries no HEVC decoder."""
    space = heif.colour_space(data)
    data, crop = heif.uncropped(data, size)
    # HDR's curve leaves too few of 8 bits for the dark half of the picture.
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
    if profile := picture.info.get("icc_profile"):
        image.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)
    return Canvas((image,), space=space, owner=picture)
