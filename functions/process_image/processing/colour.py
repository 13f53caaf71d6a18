"""Step 3: convert to 8-bit sRGB, unless it is sRGB already."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pyvips

from functions.process_image.processing.canvas import Canvas
from functions.process_image.processing.colour_spaces import (
    ColourSpace,
    icc_profile,
    linear_to_srgb,
    profile_colours,
)
from functions.process_image.processing.layout import Layout

_PROFILE = "icc-profile-data"

#: What LittleCMS says of a profile whose contents are damaged. It says so before a pixel is decoded.
_DAMAGED_PROFILE = re.compile("link the profiles|wrong (?:input|output) color space|no input profile", re.IGNORECASE)

#: A white page in HDR pictures, and the brightest light that they are graded for; in candela per square metre.
#: https://www.itu.int/pub/R-REP-BT.2408
_WHITE, _PEAK = 203.0, 1000.0
#: Light up to this share of white is kept. Brighter light is compressed into the rest; white becomes 94 %.
_KNEE = 0.75


def to_srgb(canvas: Canvas, _: Layout) -> Canvas:
    """Convert every frame to 8-bit sRGB and keep its alpha; the file's profile applies if it has one.

    It runs after the resize, on fewer pixels, and only when needed: a conversion that changes nothing still takes 3.4
    times as long as none.
    """
    return replace(canvas, frames=tuple(_converted(frame, canvas.space) for frame in canvas.frames), space=None)


def _converted(frame: Any, space: ColourSpace | None) -> Any:
    if space and (space.instead_of_profile or not frame.get_typeof(_PROFILE)):
        frame = _without_profile(frame)
        if space.hdr:
            frame = _tone_mapped(frame, space)
        else:
            frame = frame.copy()
            frame.set_type(pyvips.GValue.blob_type, _PROFILE, icc_profile(space, grey=frame.bands < 3))
    frame = _without_profile(_by_profile(frame))
    if frame.interpretation == "cmyk":
        frame = _of_inks(frame)
    if frame.interpretation != "srgb":
        frame = frame.colourspace("srgb")
    return frame if frame.format == "uchar" else frame.cast("uchar")


def _by_profile(frame: Any) -> Any:
    """Apply the ICC profile; like browsers, ignore a profile that is damaged or for other colours.

    The header is checked first (:func:`profile_colours`), because libvips applies any profile of three colours to RGB.
    LittleCMS finds damaged contents when it links the profiles.
    """
    colours = frame.bands - frame.hasalpha()
    of_profile = profile_colours(bytes(frame.get(_PROFILE))) if frame.get_typeof(_PROFILE) else None
    if of_profile == 3 and colours == 1:  # browsers treat grey as RGB here
        frame = _as_rgb(frame)
    elif of_profile != colours:
        return frame
    try:
        return frame.icc_transform("srgb", embedded=True, intent="relative", depth=8)
    except pyvips.Error as error:
        if not _DAMAGED_PROFILE.search(str(error)):
            raise
        return frame


def _as_rgb(frame: Any) -> Any:
    grey, *alpha = frame.bandsplit()
    kind = "rgb16" if frame.format == "ushort" else "srgb"
    return grey.bandjoin([grey, grey, *alpha]).copy(interpretation=kind)


def _of_inks(frame: Any) -> Any:
    """Convert CMYK without a profile as browsers do: each ink absorbs its share of the light."""
    colours = (255 - frame.extract_band(0, n=3)) * (255 - frame[3]) / 255
    colours = colours.rint().cast("uchar").copy(interpretation="srgb")
    return colours.bandjoin(frame[4]) if frame.hasalpha() else colours


def _without_profile(frame: Any) -> Any:
    if not frame.get_typeof(_PROFILE):
        return frame
    frame = frame.copy()
    frame.remove(_PROFILE)
    return frame


def _tone_mapped(frame: Any, space: ColourSpace) -> Any:
    """Convert HDR for a screen that shows white as bright as a page: https://www.itu.int/rec/R-REC-BT.2100."""
    alpha = frame[frame.bands - 1] if frame.hasalpha() else None
    colours = frame.extract_band(0, n=frame.bands - 1) if alpha is not None else frame
    if colours.bands == 1:
        colours = colours.bandjoin([colours, colours])
    is_deep = colours.format == "ushort"
    signal = pyvips.Image.identity(ushort=is_deep).cast("float") / (65535 if is_deep else 255)
    light = colours.maplut(_of_pq(signal) if space.hdr == "pq" else _of_hlg(signal))
    if space.hdr == "hlg":  # the picture's own brightness decides how much the screen adds
        light *= (light.recomb(pyvips.Image.new_from_array([[0.2627, 0.6780, 0.0593]])) + 1e-6) ** 0.2
        light *= _PEAK / _WHITE
    light = light.recomb(pyvips.Image.new_from_array([list(row) for row in linear_to_srgb(space.primaries)]))
    over = (light - _KNEE) / (1 - _KNEE)
    most = (_PEAK / _WHITE - _KNEE) / (1 - _KNEE)
    pressed = over * (over / most**2 + 1) / (over + 1) * (1 - _KNEE) + _KNEE
    light = (light > _KNEE).ifthenelse(pressed, light).cast("float").copy(interpretation="scrgb")
    shown = light.colourspace("srgb")
    return shown if alpha is None else shown.bandjoin((alpha >> 8 if is_deep else alpha).cast("uchar"))


def _of_pq(signal: Any) -> Any:
    """Turn PQ's signal, 0 to 1, into light, 1 for a page's white; SMPTE ST 2084."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    power = signal ** (1 / m2)
    above = (power > c1).ifthenelse(power - c1, 0.0)
    light = (above / (c2 - c3 * power)) ** (1 / m1)
    return (light * (10_000 / _WHITE)).cast("float")


def _of_hlg(signal: Any) -> Any:
    """Turn HLG's signal, 0 to 1, into the scene's light, 0 to 1; ARIB STD-B67."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    bright = (((signal - c) / a).exp() + b) / 12
    return (signal > 0.5).ifthenelse(bright, signal * signal / 3).cast("float")
