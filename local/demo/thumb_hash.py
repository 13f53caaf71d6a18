"""Decode a ThumbHash, as https://github.com/evanw/thumbhash does."""

from __future__ import annotations

import math
from collections.abc import Iterator

_SIDE = 32


def decode(hashed: bytes) -> tuple[int, int, bytes]:
    """Decode a ThumbHash.

    Returns
    -------
    tuple
        Width and height in pixels, at most 32, and the RGBA pixels row by row.
    """
    head, tail = int.from_bytes(hashed[:3], "little"), int.from_bytes(hashed[3:5], "little")
    has_alpha, landscape = bool(head >> 23), bool(tail >> 15)
    limit = 5 if has_alpha else 7
    across, down = (limit, tail & 7) if landscape else (tail & 7, limit)
    nibbles = _nibbles(hashed[6 if has_alpha else 5 :])

    lightness = _Channel((head & 63) / 63, (head >> 18 & 31) / 31, max(3, across), max(3, down), nibbles)
    yellow_blue = _Channel((head >> 6 & 63) / 31.5 - 1, (tail >> 3 & 63) / 63 * 1.25, 3, 3, nibbles)
    red_green = _Channel((head >> 12 & 63) / 31.5 - 1, (tail >> 9 & 63) / 63 * 1.25, 3, 3, nibbles)
    alpha = _Channel((hashed[5] & 15) / 15, (hashed[5] >> 4) / 15, 5, 5, nibbles) if has_alpha else None

    longest = max(across, down)
    width, height = max(1, round(_SIDE * across / longest)), max(1, round(_SIDE * down / longest))
    pixels = bytearray()
    for y in range(height):
        for x in range(width):
            at = ((x + 0.5) / width, (y + 0.5) / height)
            light, p, q = lightness.value(*at), yellow_blue.value(*at), red_green.value(*at)
            blue = light - 2 / 3 * p
            red = (3 * light - blue + q) / 2
            opacity = alpha.value(*at) if alpha else 1.0
            pixels += bytes(round(255 * min(max(band, 0.0), 1.0)) for band in (red, red - q, blue, opacity))
    return width, height, bytes(pixels)


class _Channel:
    """A channel: a constant plus waves."""

    def __init__(self, constant: float, scale: float, across: int, down: int, nibbles: Iterator[int]) -> None:
        self._constant = constant
        self._waves = [
            (cx, cy, (next(nibbles) / 7.5 - 1) * scale)
            for cy in range(down)
            for cx in range(across)
            if (cx or cy) and cx * down < across * (down - cy)
        ]

    def value(self, x: float, y: float) -> float:
        """The channel's value at a point; both coordinates are from 0 to 1."""
        return self._constant + sum(
            2 * factor * math.cos(math.pi * x * cx) * math.cos(math.pi * y * cy) for cx, cy, factor in self._waves
        )


def _nibbles(data: bytes) -> Iterator[int]:
    for byte in data:
        yield byte & 15
        yield byte >> 4
