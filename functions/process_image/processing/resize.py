"""Step 2: scale the whole photo down to the rendition's size."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from functions.process_image.processing.canvas import Canvas
from functions.process_image.processing.layout import Layout
from functions.process_image.processing.samples import most


def resize(canvas: Canvas, layout: Layout) -> Canvas:
    """Scale every frame with Lanczos; with alpha premultiplied, so that the colour of invisible pixels cannot bleed."""
    width, height = layout.width, layout.height
    if canvas.orientation >= 5:  # not turned upright yet
        width, height = height, width
    return replace(canvas, frames=tuple(_scaled(frame, width, height) for frame in canvas.frames))


def _scaled(frame: Any, width: int, height: int) -> Any:
    if (frame.width, frame.height) == (width, height):
        return frame
    # libvips rounds the product, so the size is exact.
    across, down = width / frame.width, height / frame.height
    if not frame.hasalpha():
        return frame.resize(across, vscale=down)
    opaque = most(frame)
    premultiplied = frame.premultiply(max_alpha=opaque).resize(across, vscale=down)
    return premultiplied.unpremultiply(max_alpha=opaque).cast(frame.format)
