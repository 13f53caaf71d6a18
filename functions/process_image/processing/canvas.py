"""What the steps hand on to one another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from functions.process_image.processing.colour_spaces import ColourSpace
from functions.process_image.processing.layout import Layout
from functions.process_image.rendition_set import RenditionSpec


@dataclass(frozen=True, slots=True)
class Canvas:
    """Pixels on their way, and what is still to be done to them.

    Parameters
    ----------
    frames : tuple of pyvips.Image
        All of one size; one unless the rendition is animated. Lazy until ``materialize`` asks for pixels.
    orientation : int
        EXIF orientation still to be applied, 1 to 8.
    delays : tuple of int
        Milliseconds each frame is shown; empty for a still.
    loop : int
        How often an animation is played; 0 means forever.
    space : ColourSpace or None
        What the numbers mean, if neither sRGB nor what a profile says.
    owner : object
        Whatever the frames' memory belongs to, kept from being freed under them.
    """

    frames: tuple[Any, ...]
    orientation: int = 1
    delays: tuple[int, ...] = ()
    loop: int = 0
    space: ColourSpace | None = None
    owner: Any = None

    @property
    def is_animated(self) -> bool:
        """Whether there is more than one frame."""
        return len(self.frames) > 1


@dataclass(frozen=True, slots=True)
class Target:
    """A rendition to make: what it will measure and how it is encoded."""

    layout: Layout
    spec: RenditionSpec
