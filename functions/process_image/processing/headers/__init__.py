"""Read each format's header without decoding a pixel; one module per format.

A reader goes from block to block through bytes that nothing has checked. If something is missing, it raises ValueError,
LookupError or struct.error, which all mean that the header is damaged or cut short.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from functions.process_image.processing.exif import Exif


@dataclass(frozen=True, slots=True)
class Header:
    """The content of a header; the fields are those of :class:`~functions.process_image.photo.Photo`."""

    width: int
    height: int
    frames: int = 1
    has_alpha: bool = False
    decoded_whole: bool = False
    bits: int = 8
    full_chroma: bool = False
    coded_pixels: int = 0
    exif: Exif = field(default_factory=Exif)
