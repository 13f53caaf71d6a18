"""Step 9: write a rendition's bytes, without any metadata."""

from __future__ import annotations

from typing import Any

import pyvips

from functions.process_image.photo import Rendition
from functions.process_image.processing.canvas import Canvas, Target
from functions.process_image.rendition_set import RenditionSpec


def encode(canvas: Canvas, target: Target) -> Rendition:
    """Encode a canvas as the target's spec says, without location, camera, comments and profiles."""
    first, spec = canvas.frames[0], target.spec
    body = _body(_one_image(canvas), spec)
    return Rendition(
        name=spec.name,
        body=_with_alpha_flag(body) if canvas.is_animated and first.hasalpha() else body,
        content_type=spec.output.content_type,
        extension=spec.extension,
        width=first.width,
        height=first.height,
        frames=len(canvas.frames),
    )


def _one_image(canvas: Canvas) -> Any:
    """Stack the frames of an animation, as libvips requires; a still is one image already."""
    first = canvas.frames[0]
    if not canvas.is_animated:
        return first
    stack: Any = pyvips.Image.arrayjoin(list(canvas.frames), across=1).copy()
    stack.set_type(pyvips.GValue.gint_type, "page-height", first.height)
    stack.set_type(pyvips.GValue.array_int_type, "delay", list(canvas.delays))
    stack.set_type(pyvips.GValue.gint_type, "loop", canvas.loop)
    return stack


def _body(image: Any, spec: RenditionSpec) -> bytes:
    output = spec.output
    options = dict(output.options)
    if output.usual_quality is not None:
        options["Q"] = spec.quality
    if output.efforts:
        options["effort"] = spec.effort
    return bytes(getattr(image, f"{output.saver}_buffer")(keep="none", **options))


def _with_alpha_flag(webp: bytes) -> bytes:
    """Set the flag of an animated WebP that says it has transparency.

    libwebp sets it only if a frame has an alpha channel. A frame whose transparent part was left out has none, and some
    decoders then show that part black.
    https://developers.google.com/speed/webp/docs/riff_container#extended_file_format
    """
    flags = len("RIFF....WEBPVP8X....")
    return webp[:flags] + bytes([webp[flags] | 0x10]) + webp[flags + 1 :]
