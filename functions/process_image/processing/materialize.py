"""Steps 4 and 6: compute the pixels now, so that what follows reads memory and not the file again."""

from __future__ import annotations

from dataclasses import replace

from functions.process_image.processing.canvas import Canvas
from functions.process_image.processing.layout import Layout


def materialize(canvas: Canvas, _: Layout) -> Canvas:
    """Run what was planned so far, frame after frame; damage in the file comes to light here."""
    return replace(canvas, frames=tuple(frame.copy_memory() for frame in canvas.frames))
