"""TIFF and BigTIFF: directories.

https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf

libvips decodes what it can and returns the rest blank, black or not at all. What it cannot decode is refused here, by
name, before anything is decoded.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from darkroom.errors import UnsupportedFormat

from functions.process_image.formats import ALLOWED
from functions.process_image.processing.exif import Exif, read_exif, valid_orientation
from functions.process_image.processing.headers import Header

_SUBFILE_TYPE, _OLD_SUBFILE_TYPE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 254, 255, 256, 257, 258, 259, 262
_ORIENTATION, _SAMPLES, _PLANAR, _TILE_WIDTH, _SUB_DIRECTORIES, _INK_SET = 274, 277, 284, 322, 330, 332
_EXTRA_SAMPLES, _SAMPLE_FORMAT, _DNG_VERSION = 338, 339, 50706

#: Bytes and format of the field types that hold whole numbers.
_WHOLE_NUMBERS = {1: (1, "B"), 3: (2, "H"), 4: (4, "I"), 13: (4, "I"), 16: (8, "Q"), 18: (8, "Q")}
_MOST_DIRECTORIES, _MOST_VALUES = 1000, 64

#: What libvips's own libtiff decompresses; a test decodes each of them.
_DECOMPRESSED = {1, 2, 3, 4, 5, 7, 8, 32773, 32946, 34676, 34677, 50001}
_COMPRESSIONS = {
    6: "old-style JPEG",
    32766: "NeXT",
    32771: "CCITT RLE, word-aligned",
    32809: "ThunderScan",
    32908: "Pixar film",
    32909: "Pixar log",
    32947: "Kodak DCS",
    33003: "JPEG 2000",
    33005: "JPEG 2000",
    34661: "JBIG",
    34712: "JPEG 2000",
    34887: "LERC",
    34892: "lossy JPEG of a camera",
    34925: "LZMA",
    50000: "Zstandard",
    50002: "JPEG XL",
    52546: "JPEG XL",
}
_OF_RAW_FILES = {32767, 32769, 32770, 34713, 65000, 65535}  # compressions: Sony, packed, Samsung, Nikon, Kodak, Pentax

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _INKS, _YCBCR, CIELAB, ICCLAB, _LOGLUV = 0, 1, 2, 3, 5, 6, 8, 9, 32845
_COLOUR_FILTER_ARRAY, _LINEAR_RAW = 32803, 34892
#: The number of colour bands, by what the numbers mean.
_COLOURS = {
    _WHITE_IS_ZERO: 1,
    _BLACK_IS_ZERO: 1,
    _RGB: 3,
    _PALETTE: 1,
    _INKS: 4,
    _YCBCR: 3,
    CIELAB: 3,
    ICCLAB: 3,
    _LOGLUV: 3,
}
_PHOTOMETRICS = {4: "a transparency mask", 10: "ITU Lab (fax) colours", 32844: "LogL samples"}
_UNSIGNED, _SIGNED, _FLOAT = 1, 2, 3
_SAMPLE_FORMATS = {_SIGNED: "signed", 4: "undefined", 5: "complex whole", 6: "complex"}
_ALPHA = {1, 2}


@dataclass(frozen=True, slots=True)
class Page:
    """One directory.

    Parameters
    ----------
    tags : dict
        Whole numbers by tag, as many as are used.
    places : dict
        The position of each tag's value in the file.
    number, sub_directory : int
        Its number as libvips counts: the page, and its sub-directory, -1 for the page itself.
    """

    tags: dict[int, tuple[int, ...]]
    places: dict[int, int]
    number: int
    sub_directory: int = -1

    def value(self, tag: int, default: int = 0) -> int:
        """A tag's first number."""
        return (self.tags.get(tag) or (default,))[0]

    @property
    def is_reduced(self) -> bool:
        """Whether it is a preview or a mask of another picture."""
        return bool(self.value(_SUBFILE_TYPE) & 0b101) or self.value(_OLD_SUBFILE_TYPE) == 2

    @property
    def photometric(self) -> int:
        """What the numbers mean."""
        return self.value(_PHOTOMETRIC, _BLACK_IS_ZERO)

    @property
    def is_inverted(self) -> bool:
        """Whether its floats are 0 for white; libvips inverts only whole numbers."""
        return self.photometric == _WHITE_IS_ZERO and self.value(_SAMPLE_FORMAT, _UNSIGNED) == _FLOAT

    @property
    def bits(self) -> int:
        """Bits per sample."""
        return self.value(_BITS, 1)

    @property
    def colours(self) -> int:
        """The number of colour bands, as libvips decodes them; a palette may become three or one."""
        return _COLOURS.get(self.photometric, 1)

    @property
    def alpha(self) -> int | None:
        """The number of the extra band that is alpha, counted from 0; None if there is none."""
        extras = self.tags.get(_EXTRA_SAMPLES, ())
        return next((place for place, kind in enumerate(extras) if kind in _ALPHA), None)


def read(data: bytes) -> Header:
    """Read the picture's directory, and the camera's.

    Raises
    ------
    UnsupportedFormat
        It is a camera's raw file, or its compression or layout is not supported.
    """
    page = picture(data)
    _refuse_unsupported(page)
    exif = read_exif(data) if data[2:4] in (b"*\0", b"\0*") else Exif()  # Pillow does not read the EXIF of a BigTIFF
    orientation = valid_orientation(page.value(_ORIENTATION, 1))
    return Header(
        width=page.value(_WIDTH),
        height=page.value(_HEIGHT),
        has_alpha=page.alpha is not None,
        bits=max(page.bits, 8),
        full_chroma=True,
        exif=Exif(orientation, exif.camera, exif.taken_at, exif.location),
    )


def picture(data: bytes) -> Page:
    """Find the directory of the picture: the first that is not a preview, or the first if all are previews.

    Raises
    ------
    UnsupportedFormat
        It is a camera's raw file.
    """
    pages = list(_pages(data))
    for page in pages:
        is_raw = page.photometric in (_COLOUR_FILTER_ARRAY, _LINEAR_RAW) or page.value(_COMPRESSION) in _OF_RAW_FILES
        if is_raw or _DNG_VERSION in page.tags:
            raise UnsupportedFormat(f"the file is a camera's raw file; {ALLOWED}")
    return next((page for page in pages if not page.is_reduced), pages[0])


def _refuse_unsupported(page: Page) -> None:
    def refuse(found: str, allowed: str) -> None:
        raise UnsupportedFormat(f"the TIFF file {found}; {allowed}")

    compression = page.value(_COMPRESSION, 1)
    if compression not in _DECOMPRESSED:
        name = _COMPRESSIONS.get(compression, f"method {compression}")
        refuse(
            f"is compressed with {name}",
            "allowed are no compression, LZW, Deflate, PackBits, JPEG, WebP, CCITT and SGI Log",
        )
    if page.photometric not in _COLOURS:
        name = _PHOTOMETRICS.get(page.photometric, f"samples of kind {page.photometric}")
        refuse(f"holds {name}", "allowed are grey, RGB, palette, CMYK, YCbCr, Lab and LogLuv")
    if page.photometric == _INKS and page.value(_INK_SET, 1) != 1:
        refuse("is of other inks than CMYK", "of inks only CMYK is allowed")

    kind = page.value(_SAMPLE_FORMAT, _UNSIGNED)
    if kind in _SAMPLE_FORMATS and page.photometric not in (CIELAB, _LOGLUV):
        refuse(f"has {_SAMPLE_FORMATS[kind]} samples", "allowed are unsigned and floating-point samples")
    if kind == _FLOAT and page.photometric not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _LOGLUV):
        refuse("has floating-point samples that are neither grey nor RGB", "allowed are unsigned samples")
    allowed_bits = {
        _RGB: (8, 16, 32),
        _INKS: (8, 16),
        _YCBCR: (8,),
        CIELAB: (8, 16),
        ICCLAB: (8, 16),
        _PALETTE: (1, 2, 4, 8, 16),
        _LOGLUV: (8, 16, 32),
    }.get(page.photometric, (1, 2, 4, 8, 16, 32))
    if kind == _FLOAT and page.photometric != _LOGLUV:
        allowed_bits = (16, 32)
    if len(set(page.tags.get(_BITS, (1,)))) > 1 or page.bits not in allowed_bits:
        bits = " and ".join(map(str, dict.fromkeys(page.tags.get(_BITS, (1,)))))
        refuse(f"has {bits} bits per sample", f"allowed here are {', '.join(map(str, allowed_bits))}")

    samples = page.value(_SAMPLES, 1)
    if samples < page.colours:
        raise ValueError("fewer samples than colours")
    if page.bits < 8 and samples > 1:
        refuse(f"has {samples} samples of {page.bits} bits", "allowed is one of so few bits")
    if page.value(_PLANAR, 1) == 2 and samples > 1 and _TILE_WIDTH in page.tags:
        refuse("has tiles in separate planes", "allowed are interleaved tiles and strips in separate planes")


def _pages(data: bytes) -> Iterator[Page]:
    """Yield the pages, each with its sub-directories."""
    order = "<" if data[:2] == b"II" else ">"
    is_big = struct.unpack_from(order + "H", data, 2)[0] == 43
    (at,) = struct.unpack_from(order + ("Q" if is_big else "I"), data, 8 if is_big else 4)
    seen: set[int] = set()
    number = 0
    while at and at not in seen and len(seen) < _MOST_DIRECTORIES:
        seen.add(at)
        try:
            page, following = _directory(data, at, order, is_big=is_big, number=number)
        except (LookupError, struct.error):
            if number == 0:
                raise
            return  # the first pages are valid in any case
        yield page
        for place, sub in enumerate(page.tags.get(_SUB_DIRECTORIES, ())):
            if sub in seen or len(seen) >= _MOST_DIRECTORIES:
                continue
            seen.add(sub)
            try:
                yield _directory(data, sub, order, is_big=is_big, number=number, sub_directory=place)[0]
            except (LookupError, struct.error):
                continue
        at, number = following, number + 1


def _directory(
    data: bytes, at: int, order: str, *, is_big: bool, number: int, sub_directory: int = -1
) -> tuple[Page, int]:
    """Read one directory; also returns where the next begins, 0 for none."""
    count_format, entry, offset_format = ("Q", 20, "Q") if is_big else ("H", 12, "I")
    in_place = struct.calcsize(order + offset_format)
    (count,) = struct.unpack_from(order + count_format, data, at)
    at += struct.calcsize(order + count_format)
    if count == 0 or at + count * entry > len(data):
        raise IndexError("it ends within a directory")
    tags: dict[int, tuple[int, ...]] = {}
    places: dict[int, int] = {}
    for place in range(at, at + count * entry, entry):
        tag, kind, values = struct.unpack_from(order + "HH" + offset_format, data, place)
        if kind not in _WHOLE_NUMBERS or not values:
            continue
        size, letter = _WHOLE_NUMBERS[kind]
        value_at = place + 4 + in_place
        if values * size > in_place:
            (value_at,) = struct.unpack_from(order + offset_format, data, value_at)
        values = min(values, _MOST_VALUES)
        if value_at + values * size <= len(data) and tag not in tags:
            tags[tag] = struct.unpack_from(f"{order}{values}{letter}", data, value_at)
            places[tag] = value_at
    following_at = at + count * entry
    following = 0
    if following_at + in_place <= len(data):
        (following,) = struct.unpack_from(order + offset_format, data, following_at)
    return Page(tags, places, number, sub_directory), following


def lab_as_rgb(data: bytes, page: Page) -> bytes:
    """Change the declared meaning, so that libvips returns the numbers of Lab unchanged."""
    place = page.places[_PHOTOMETRIC]
    rgb = struct.pack("<H" if data[:2] == b"II" else ">H", _RGB)
    return data[:place] + rgb + data[place + 2 :]
