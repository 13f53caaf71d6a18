"""WebP: RIFF chunks.

https://developers.google.com/speed/webp/docs/riff_container
"""

from __future__ import annotations

from collections.abc import Iterator

from functions.process_image.processing.exif import read_exif
from functions.process_image.processing.headers import Header


def read(data: bytes) -> Header:
    """Read the size of the canvas, the kinds of its pictures, and the EXIF, in any position."""
    frames, has_alpha, lossless, exif = 0, False, False, b""
    size: tuple[int, int] | None = None
    for kind, at, length in _chunks(data):
        body = data[at : at + 16]
        if kind == b"VP8X":
            has_alpha = bool(body[0] & 0x10)
            size = 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
        elif kind == b"ANMF":
            frames += 1
        elif kind == b"VP8 ":
            size = size or (int.from_bytes(body[6:8], "little") & 0x3FFF, int.from_bytes(body[8:10], "little") & 0x3FFF)
        elif kind == b"VP8L":
            sides = int.from_bytes(body[1:5], "little")
            size = size or (1 + (sides & 0x3FFF), 1 + (sides >> 14 & 0x3FFF))
            has_alpha = has_alpha or bool(sides >> 28 & 1)
            lossless = True
        elif kind == b"EXIF" and not exif:
            exif = data[at : at + length]
    if size is None:
        raise ValueError("no picture")
    return Header(*size, frames=max(frames, 1), has_alpha=has_alpha, decoded_whole=lossless, exif=read_exif(exif))


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    at = len("RIFF....WEBP")
    while at + 8 <= len(data):
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        if at + 8 + min(length, 10) > len(data):
            raise ValueError("it ends within a chunk's head")
        yield data[at : at + 4], at + 8, length
        at += 8 + length + length % 2
