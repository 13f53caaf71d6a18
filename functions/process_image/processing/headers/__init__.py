"""What each format's header says, read without decoding a pixel; one module per format.

A reader hops from block to block over bytes that may be anything. What it expects and does not find makes it raise
ValueError, LookupError or struct.error, which all mean a header that is damaged or cut short.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from functions.process_image.processing.exif import Exif


@dataclass(frozen=True, slots=True)
class Header:
    """What a header says; the fields are those of :class:`~functions.process_image.photo.Photo`."""

    width: int
    height: int
    frames: int = 1
    has_alpha: bool = False
    decoded_whole: bool = False
    bits: int = 8
    full_chroma: bool = False
    coded_pixels: int = 0
    exif: Exif = field(default_factory=Exif)
