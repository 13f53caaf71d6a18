"""The data that each step passes to the next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from functions.process_image.processing.colour_spaces import ColourSpace
from functions.process_image.processing.layout import Layout
from functions.process_image.rendition_set import RenditionSpec


@dataclass(frozen=True, slots=True)
class Canvas:
    """Pixels, and what the next steps still have to do to them.

    Parameters
    ----------
    frames : tuple of pyvips.Image
        All of one size; one unless the rendition is animated. Lazy until ``materialize`` asks for pixels.
    orientation : int
        EXIF orientation that is not applied yet, 1 to 8.
    delays : tuple of int
        Milliseconds each frame is shown; empty for a still.
    loop : int
        How often an animation is played; 0 means forever.
    space : ColourSpace or None
        The meaning of the numbers, if neither sRGB nor defined by a profile.
    owner : object
        The owner of the frames' memory; the reference keeps it from being freed.
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
    """A rendition to make: its size and how it is encoded."""

    layout: Layout
    spec: RenditionSpec
