"""Step 5: turn the photo upright."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from functions.process_image.processing.canvas import Canvas
from functions.process_image.processing.layout import Layout

#: The operations that turn each EXIF orientation upright: tag 0x0112 in https://exiftool.org/TagNames/EXIF.html
_TURNS: dict[int, Callable[[Any], Any]] = {
    1: lambda frame: frame,
    2: lambda frame: frame.fliphor(),
    3: lambda frame: frame.rot180(),
    4: lambda frame: frame.flipver(),
    5: lambda frame: frame.rot90().fliphor(),
    6: lambda frame: frame.rot90(),
    7: lambda frame: frame.rot270().fliphor(),
    8: lambda frame: frame.rot270(),
}


def turn_upright(canvas: Canvas, _: Layout) -> Canvas:
    """Apply the EXIF orientation; afterwards the canvas is upright."""
    return replace(canvas, frames=tuple(map(_TURNS[canvas.orientation], canvas.frames)), orientation=1)
