"""Step 0: calculate a rendition's size."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Layout:
    """The whole photo scaled to ``width`` x ``height``; its middle ``crop_width`` x ``crop_height`` is kept.

    All in pixels of the upright photo.
    """

    width: int
    height: int
    crop_width: int
    crop_height: int


def lay_out(photo: tuple[int, int], box: tuple[int, int], fit: str) -> Layout:
    """Fit a photo to a box without ever enlarging it.

    Parameters
    ----------
    photo, box : tuple of int
        Width and height in pixels, of the upright photo and of the box.
    fit : str
        ``inside``: the whole photo, as large as fits. ``cover``: the photo fills the box and its overhang is cropped; a
        photo that is too small is cropped to the box's shape.

    Returns
    -------
    Layout
        No side is below 1, however extreme the photo's shape.
    """
    across, down = box[0] / photo[0], box[1] / photo[1]
    scale = min(1.0, across, down) if fit == "inside" else min(1.0, max(across, down))
    width, height = (max(1, round(side * scale)) for side in photo)
    if fit == "inside":
        return Layout(width, height, width, height)
    shape = min(1.0, 1 / across, 1 / down)
    crop_width, crop_height = (max(1, round(side * shape)) for side in box)
    return Layout(width, height, min(width, crop_width), min(height, crop_height))
