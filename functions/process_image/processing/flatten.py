"""Step 8: put transparent pixels on white, for formats without transparency."""

from __future__ import annotations

from dataclasses import replace

from functions.process_image.processing.canvas import Canvas, Target

WHITE = [255, 255, 255]


def flatten(canvas: Canvas, target: Target) -> Canvas:
    """Remove the alpha channel."""
    if target.spec.output.has_alpha:
        return canvas
    flat = (frame.flatten(background=WHITE) if frame.hasalpha() else frame for frame in canvas.frames)
    return replace(canvas, frames=tuple(flat))
