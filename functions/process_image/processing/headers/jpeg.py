"""JPEG: segments up to the first scan.

https://www.w3.org/Graphics/JPEG/itu-t81.pdf
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from darkroom.errors import UnsupportedFormat

from functions.process_image.processing.exif import read_exif
from functions.process_image.processing.headers import Header

_END, _SCAN, _APP1 = 0xD9, 0xDA, 0xE1
#: Markers that begin a frame, and the names of the processes that libjpeg does not decode.
_BASELINE, _PROGRESSIVE = (0xC0, 0xC1, 0xC9), (0xC2, 0xCA)
_NOT_DECODED = {
    **dict.fromkeys((0xC3, 0xCB), "lossless"),
    **dict.fromkeys((0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF), "hierarchical"),
}
_EXIF = b"Exif\0\0"
#: A marker within a scan: neither a stuffed zero, nor filling, nor a restart.
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)


def read(data: bytes) -> Header:
    """Read the first frame's header and the EXIF before it.

    Raises
    ------
    UnsupportedFormat
        The file has a process or a depth that is not decoded; the message names it.
    """
    exif = b""
    frame: tuple[int, bytes] | None = None
    for marker, at, end in _segments(data):
        if marker == _APP1 and data.startswith(_EXIF, at) and not exif:
            exif = data[at:end]
        elif marker in _BASELINE + _PROGRESSIVE or marker in _NOT_DECODED:
            frame = frame or (marker, data[at:end])
        elif marker == _SCAN:
            break
    if frame is None:
        raise ValueError("no frame before the first scan")

    process, body = frame
    if process in _NOT_DECODED:
        raise UnsupportedFormat(f"the JPEG file is {_NOT_DECODED[process]}; allowed are baseline and progressive JPEG")
    bits, components = body[0], body[5]
    if bits != 8:
        raise UnsupportedFormat(f"the JPEG file has {bits} bits per sample; 8 are allowed")
    if components not in (1, 3, 4):
        raise UnsupportedFormat(f"the JPEG file has {components} colour components; allowed are 1, 3 and 4")
    return Header(
        width=int.from_bytes(body[3:5]),
        height=int.from_bytes(body[1:3]),
        # If the coefficients or components are split over several scans, libjpeg holds all of them.
        decoded_whole=process in _PROGRESSIVE or data[at] < components,
        full_chroma=components > 1 and len({body[7 + 3 * n] for n in range(components)}) == 1,
        exif=read_exif(exif),
    )


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield the segments up to the first scan: the marker, and where its body begins and ends."""
    at = 2
    while True:
        at = data.index(b"\xff", at)  # bytes between segments are skipped, as libjpeg does
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
        elif marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD8:  # have no body
            at += 2
        elif marker == _END:
            raise ValueError("it ends before its first scan")
        else:
            length = int.from_bytes(data[at + 2 : at + 4])
            body = at + 4
            at += 2 + max(length, 2)
            if at > len(data):
                raise ValueError("it ends within a segment")
            yield marker, body, at


def lacks_end(data: bytes) -> bool:
    """Return whether the end marker of the picture is missing. All pixels may still be there."""
    if data.endswith(b"\xff\xd9"):
        return False
    at = 0
    for marker, _, end in _segments(data):
        if marker == _SCAN:
            at = end
            break
    while found := _MARKER.search(data, at):
        if found[0][1] == _END:
            return False
        at = found.end() + (int.from_bytes(data[found.end() : found.end() + 2]) or 2)
    return True
