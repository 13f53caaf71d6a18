"""Convert the kinds of pixels that decoders return to a few standard kinds, or refuse them by name.

Afterwards pixels are 8-bit or 16-bit grey, RGB or CMYK, linear floats (``scrgb``, 0 black and 1 white), or Lab or XYZ
floats; each with at most one band of alpha.
"""

from __future__ import annotations

from typing import Any

from darkroom.errors import UnsupportedFormat

from functions.process_image.formats import INPUT_FORMATS

_PROFILE = "icc-profile-data"
_GREY, _RGB = ("b-w", "grey16"), ("srgb", "rgb16", "rgb", "scrgb")
_COLOURS = {"b-w": 1, "grey16": 1, "srgb": 3, "rgb16": 3, "scrgb": 3, "cmyk": 4, "lab": 3, "labs": 3, "xyz": 3}
#: Names for error messages.
_KINDS = {
    "char": "signed 8-bit samples",
    "short": "signed 16-bit samples",
    "int": "signed 32-bit samples",
    "complex": "complex samples",
    "dpcomplex": "complex samples",
}


def usual_samples(image: Any, image_format: str) -> Any:
    """Convert an image to a standard kind, without decoding a pixel.

    Parameters
    ----------
    image : pyvips.Image
        The image as its decoder returns it.
    image_format : str
        Darkroom's name of the file's format, for the reason.

    Raises
    ------
    UnsupportedFormat
        The meaning of its numbers is unknown, or it is not a picture.
    """
    label = INPUT_FORMATS[image_format].label
    if image.coding == "labq":
        image = image.LabQ2Lab()
    elif image.coding != "none":
        raise UnsupportedFormat(f"the {label} file is coded as {image.coding}; allowed are plain samples and Lab")
    known = _known(image)
    colours = _COLOURS.get(known.interpretation, 0) if known is not None else 0
    if known is None or known.bands not in (colours, colours + 1):
        what = _KINDS.get(image.format, f"{image.bands} bands of {image.interpretation} as {image.format}")
        raise UnsupportedFormat(
            f"the {label} file has {what}; allowed are grey, RGB, CMYK and Lab as unsigned or floating-point samples"
        )
    return known


def _known(image: Any) -> Any:
    """Convert an image to a standard kind, or return None."""
    kind, sample = image.interpretation, image.format
    if kind == "multiband" and image.bands <= 4:
        kind = "b-w" if image.bands < 3 else "srgb"
    if sample == "uint":  # libvips scales 16 bits to 8, but not 32
        image = (image / 65537).cast("ushort")
        sample = "ushort"
    if sample == "ushort" and kind == "cmyk":  # with 16 bits libvips converts the inks but not the alpha
        image, sample = (image >> 8).cast("uchar"), "uchar"
    if sample == "uchar":
        usual = "b-w" if kind in _GREY else "srgb" if kind in _RGB else "cmyk" if kind == "cmyk" else None
        return image.copy(interpretation=usual) if usual else None
    if sample == "ushort":
        usual = "grey16" if kind in _GREY else "rgb16" if kind in _RGB else None
        return image.copy(interpretation=usual) if usual else None
    if sample == "short":
        return image if kind == "labs" else None
    if sample not in ("float", "double"):
        return None
    if kind in ("lab", "xyz"):
        return image.cast("float")
    if kind in _GREY and image.bands > 2:
        return None
    return _linear(image.cast("float"), kind) if kind in _GREY + _RGB else None


def _linear(image: Any, kind: str) -> Any:
    """Interpret floats as light, 0 for black and 1 for white, as Photoshop writes them; brighter light is white."""
    image = (image > 0).ifthenelse(image, 0.0)  # comparisons with NaN are false
    image = (image < 1).ifthenelse(image, 1.0)
    if image.get_typeof(_PROFILE):  # libvips supports these only as integers
        return (image * 65535).cast("ushort").copy(interpretation="grey16" if kind in _GREY else "rgb16")
    if kind in _GREY:
        grey = image[0]
        image = grey.bandjoin([grey, grey, image[1]] if image.bands == 2 else [grey, grey])
    return image.copy(interpretation="scrgb")


def most(image: Any) -> float:
    """Return the alpha of an opaque pixel."""
    if image.format == "ushort":
        return 65535
    return 1.0 if image.interpretation == "scrgb" else 255
