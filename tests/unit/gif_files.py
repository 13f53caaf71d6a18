"""GIFs with every disposal, and what browsers show of them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

PALETTE = ((0, 0, 255), (255, 0, 0), (0, 255, 0), (255, 255, 0))


@dataclass(frozen=True)
class Frame:
    """Left, top, width and height; a colour of the palette per pixel; which of them is transparent."""

    place: tuple[int, int, int, int]
    pixels: tuple[int, ...]
    disposal: int = 0
    transparent: int | None = None


def gif(size: tuple[int, int], frames: Sequence[Frame], *, loop: int = 0) -> bytes:
    """Write a GIF whose background colour is blue. Its pixels are not compressed: the table is cleared all the time."""
    data = b"GIF89a" + struct.pack("<HHBBB", *size, 0x81, 0, 0) + b"".join(map(bytes, PALETTE))
    data += b"\x21\xff\x0bNETSCAPE2.0\x03\x01" + struct.pack("<H", loop) + b"\0"
    for frame in frames:
        has_transparency = frame.transparent is not None
        data += struct.pack(
            "<4BHBB", 0x21, 0xF9, 4, frame.disposal << 2 | has_transparency, 7, frame.transparent or 0, 0
        )
        data += b"\x2c" + struct.pack("<4HB", *frame.place, 0) + b"\x02"
        number = size_of = 0
        for pixel in frame.pixels:
            for code in (4, pixel):  # clear, and the pixel itself
                number |= code << size_of
                size_of += 3
        number |= 5 << size_of
        packed = number.to_bytes((size_of + 10) // 8, "little")
        for at in range(0, len(packed), 255):
            data += bytes([len(packed[at : at + 255])]) + packed[at : at + 255]
        data += b"\0"
    return data + b";"


def shown_by_browsers(size: tuple[int, int], frames: Sequence[Frame]) -> list[Image.Image]:
    """What is visible at each frame: on a transparent canvas, with any background colour."""
    canvas = Image.new("RGBA", size, (0, 0, 0, 0))
    seen = []
    for frame in frames:
        left, top, width, height = frame.place
        before = canvas.copy()
        drawn = Image.new("RGBA", (width, height))
        drawn.putdata([(0,) * 4 if p == frame.transparent else (*PALETTE[p], 255) for p in frame.pixels])
        canvas.paste(drawn, (left, top), drawn)
        seen.append(canvas.copy())
        if frame.disposal == 2:
            canvas.paste((0, 0, 0, 0), (left, top, left + width, top + height))
        elif frame.disposal == 3:
            canvas = before
    return seen
