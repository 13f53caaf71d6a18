"""Step 7: cut off the overhang of a ``cover`` rendition, evenly on both sides."""

from __future__ import annotations

from dataclasses import replace

from functions.process_image.processing.canvas import Canvas, Target


def crop(canvas: Canvas, target: Target) -> Canvas:
    """Keep the middle of every frame."""
    layout = target.layout
    width, height = layout.crop_width, layout.crop_height
    if (width, height) == (layout.width, layout.height):
        return canvas
    left, top = (layout.width - width) // 2, (layout.height - height) // 2
    return replace(canvas, frames=tuple(frame.crop(left, top, width, height) for frame in canvas.frames))
