"""Steps 4 and 6: compute the pixels now, so that later steps read memory and not the file again."""

from __future__ import annotations

from dataclasses import replace

from functions.process_image.processing.canvas import Canvas
from functions.process_image.processing.layout import Layout


def materialize(canvas: Canvas, _: Layout) -> Canvas:
    """Run the steps so far, frame by frame; damage in the file raises here."""
    return replace(canvas, frames=tuple(frame.copy_memory() for frame in canvas.frames))
