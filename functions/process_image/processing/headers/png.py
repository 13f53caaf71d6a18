"""PNG: chunks up to the pixels.

https://www.w3.org/TR/png-3/
"""

from __future__ import annotations

import zlib

from darkroom.errors import UnsupportedFormat

from functions.process_image.processing.colour_spaces import (
    SRGB_PRIMARIES,
    ColourSpace,
    Curve,
    Primaries,
    colour_space_of_code_points,
    colour_space_of_gamma,
)
from functions.process_image.processing.exif import read_exif
from functions.process_image.processing.headers import Header

_PALETTE = 3
_WITH_ALPHA = (4, 6)
_LARGEST_PROFILE = 4_000_000


def read(data: bytes) -> Header:
    """Read the header, and the EXIF if it precedes the pixels, where browsers look for it.

    Raises
    ------
    UnsupportedFormat
        The file is Apple's variant, which only Apple's own decoder reads.
    """
    chunks = _chunks(data)
    header = chunks[b"IHDR"]
    bits, colour_type, interlaced = header[8], header[9], header[12]
    if colour_type == _PALETTE and not chunks[b"PLTE"]:
        raise ValueError("the palette is empty")
    return Header(
        width=int.from_bytes(header[0:4]),
        height=int.from_bytes(header[4:8]),
        has_alpha=colour_type in _WITH_ALPHA or b"tRNS" in chunks,
        decoded_whole=interlaced != 0,
        bits=max(bits, 8),
        full_chroma=True,
        exif=read_exif(chunks.get(b"eXIf", b"")),
    )


def colour_space(data: bytes) -> ColourSpace | None:
    """Return what the pixels' numbers mean; None for sRGB or an embedded profile.

    cICP comes before iCCP before sRGB before gAMA with cHRM: https://www.w3.org/TR/png-3/#4Concepts.ColourSpaces
    """
    chunks = _chunks(data)
    if (cicp := chunks.get(b"cICP", b""))[2:] == b"\0\1":  # RGB of full range; browsers ignore any other
        return colour_space_of_code_points(cicp[0], cicp[1], instead_of_profile=True, video_curves=True)
    if b"iCCP" in chunks or b"sRGB" in chunks:
        return None
    gamma = int.from_bytes(chunks.get(b"gAMA", b"")) / 100_000
    if not gamma:  # without it the numbers of cHRM have no meaning
        return None
    primaries = SRGB_PRIMARIES
    if len(chrm := chunks.get(b"cHRM", b"")) == 32:
        numbers = [int.from_bytes(chrm[at : at + 4]) / 100_000 for at in range(0, 32, 4)]
        primaries = Primaries(*zip(numbers[::2], numbers[1::2], strict=True))
    return colour_space_of_gamma(primaries, Curve(1 / gamma))


def profile(data: bytes) -> bytes | None:
    """Return the ICC profile. libpng drops a profile for RGB from a grey picture, but browsers apply it."""
    _, _, packed = _chunks(data).get(b"iCCP", b"").partition(b"\0")
    try:
        return zlib.decompressobj().decompress(packed[1:], _LARGEST_PROFILE) or None
    except zlib.error:
        return None


def _chunks(data: bytes) -> dict[bytes, bytes]:
    """Return the chunks before the pixels; the first of each kind counts."""
    chunks: dict[bytes, bytes] = {}
    at = 8
    while True:
        kind, length = data[at + 4 : at + 8], int.from_bytes(data[at : at + 4])
        if kind == b"CgBI":
            raise UnsupportedFormat("the file is Apple's own variant of PNG (CgBI); allowed is PNG as browsers read it")
        if at == 8 and kind != b"IHDR":
            raise ValueError("the header is missing")
        if kind == b"IDAT":
            return chunks
        if at + 12 + length > len(data):  # the decoder reports the missing pixels
            return chunks
        chunks.setdefault(kind, data[at + 8 : at + 8 + length])
        at += 12 + length
