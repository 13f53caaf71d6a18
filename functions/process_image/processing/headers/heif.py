"""HEIC and AVIF: one container, boxes in boxes. ISO/IEC 14496-12 and 23008-12.

Rotation, mirroring and cropping belong to the container, and decoding applies them; EXIF's orientation has no effect.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from math import floor

from darkroom.errors import UnsupportedFormat

from functions.process_image.formats import ALLOWED
from functions.process_image.processing.colour_spaces import ColourSpace, colour_space_of_code_points
from functions.process_image.processing.exif import Exif, read_exif
from functions.process_image.processing.headers import Header
from functions.process_image.processing.headers.bitstreams import av1_colours, av1_grey_is_full, hevc_colours

#: Codings of an image item, and Darkroom's format for a file that contains them.
_CODINGS = {b"hvc1": "heic", b"hev1": "heic", b"av01": "avif"}
_OTHER_CODINGS = {
    b"avc1": "H.264",
    b"vvc1": "H.266",
    b"jpeg": "JPEG",
    b"j2k1": "JPEG 2000",
    b"unci": "no compression",
    b"evc1": "EVC",
    b"mski": "a mask",
}
#: Items that are composed of others.
_DERIVED = (b"grid", b"iden", b"iovl", b"tmap")
_ALPHA = (b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha", b"urn:mpeg:hevc:2015:auxid:1")
_MOST_ITEMS = 20_000


@dataclass(frozen=True, slots=True)
class Box:
    """A box's name, and where its content begins and ends."""

    kind: bytes
    start: int
    end: int


@dataclass(slots=True)
class _Items:
    """The content of a ``meta`` box, by item number."""

    primary: int | None = None
    kinds: dict[int, bytes] = field(default_factory=dict)
    #: Kind of reference, from which item, to which.
    references: list[tuple[bytes, int, list[int]]] = field(default_factory=list)
    places: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    properties: dict[int, list[Box]] = field(default_factory=dict)

    def inputs(self, item: int) -> list[int]:
        """Return the items from which a derived one is composed."""
        return [to for kind, source, targets in self.references if kind == b"dimg" and source == item for to in targets]

    def coded(self, item: int) -> int:
        """Return the item itself if it is coded, or the first one from which it is composed."""
        for _ in range(5):
            if self.kinds.get(item) not in _DERIVED:
                break
            item = (self.inputs(item) or [item])[0]
        return item


def coding(data: bytes) -> str:
    """Return the format, ``heic`` or ``avif``, by the picture's coding; the brands alone do not decide.

    Raises
    ------
    UnsupportedFormat
        There is no still picture, or it has another coding.
    """
    items = _items(data)
    kind = items.kinds[items.coded(items.primary or 0)]
    if kind not in _CODINGS:
        name = _OTHER_CODINGS.get(kind, kind.decode("latin-1"))
        raise UnsupportedFormat(f"the HEIF file's picture is coded as {name}; allowed are HEVC (HEIC) and AV1 (AVIF)")
    return _CODINGS[kind]


def as_still(data: bytes) -> bytes:
    """Make libheif look for the still picture of a file that is also marked as a sequence."""
    end = min(int.from_bytes(data[:4]), 4096)
    return data[:end].replace(b"msf1", b"mif1") + data[end:] if b"msf1" in data[8:end] else data


def read(data: bytes, size: tuple[int, int]) -> Header:
    """Read the properties of the primary picture.

    Parameters
    ----------
    data : bytes
        The file.
    size : tuple of int
        Width and height that its decoder announces, turned and cropped.
    """
    items = _items(data)
    primary = items.primary or 0
    pixels = [
        int.from_bytes(data[box.start + 4 : box.start + 8]) * int.from_bytes(data[box.start + 8 : box.start + 12])
        for box in _properties(items, primary, b"ispe")
    ]
    bits, full_chroma = 8, False
    for box in _properties(items, primary, b"hvcC"):
        bits, full_chroma = 8 + (data[box.start + 17] & 7), data[box.start + 16] & 3 == 3
    for box in _properties(items, primary, b"av1C"):
        flags = data[box.start + 2]
        bits = (8, 8, 10, 12)[flags >> 5 & 3]
        full_chroma = not flags & 0b1100
    has_alpha = any(
        kind == b"auxl" and {primary, items.coded(primary)} & set(targets) and _is_alpha(data, items, source)
        for kind, source, targets in items.references
    )
    exif = read_exif(_exif(data, items, primary))
    return Header(
        *size,
        has_alpha=has_alpha,
        bits=bits,
        full_chroma=full_chroma,
        coded_pixels=max(pixels, default=0),
        exif=Exif(1, exif.camera, exif.taken_at, exif.location),
    )


@dataclass(frozen=True, slots=True)
class Crop:
    """The visible part of a picture that is decoded whole: its position, turned as the container says."""

    left: int
    top: int


def uncropped(data: bytes, size: tuple[int, int]) -> tuple[bytes, Crop | None]:
    """Make libheif decode the whole of a picture that its container crops.

    libheif 1.23 takes the size after the crop for the most that HEVC may decode to, and refuses the picture.

    Parameters
    ----------
    data : bytes
        The file.
    size : tuple of int
        Width and height as shown.

    Returns
    -------
    bytes and Crop
        The file with a crop that keeps everything, and the crop to apply instead; None if nothing is cropped.
    """
    items = _items(data)
    primary = items.primary or 0
    crop = next((box for box in items.properties.get(primary, ()) if box.kind == b"clap"), None)
    extent = next(iter(_properties(items, primary, b"ispe")), None)
    if crop is None or extent is None:
        return data, None
    whole_width, whole_height = struct.unpack_from(">II", data, extent.start + 4)
    width, height, across, down = (
        Fraction(*struct.unpack_from(">ii", data, at)) for at in range(crop.start, crop.start + 32, 8)
    )
    left = max(0, floor(across + Fraction(whole_width - 1, 2) - (width - 1) / 2))
    top = max(0, floor(down + Fraction(whole_height - 1, 2) - (height - 1) / 2))
    turned = {box.kind: data[box.start] for box in items.properties[primary] if box.kind in (b"irot", b"imir")}
    kept = size if turned.get(b"irot", 0) % 2 == 0 else size[::-1]
    right, bottom = whole_width - left - kept[0], whole_height - top - kept[1]
    for box in items.properties[primary]:
        if box.kind == b"irot":  # counter-clockwise, in right angles
            for _ in range(data[box.start] & 3):
                left, top, right, bottom = top, right, bottom, left
        elif box.kind == b"imir" and data[box.start] & 1:
            left, right = right, left
        elif box.kind == b"imir":
            top, bottom = bottom, top
    everything = struct.pack(">8i", whole_width, 1, whole_height, 1, 0, 1, 0, 1)
    return data[: crop.start] + everything + data[crop.start + 32 :], Crop(max(left, 0), max(top, 0))


def colour_space(data: bytes) -> ColourSpace | None:
    """Return what the pixels' numbers mean; None for sRGB or an embedded profile.

    An embedded profile comes first, then the container's code points, then those in the coded picture.
    """
    items = _items(data)
    primary = items.primary or 0
    colours = [data[box.start : box.end] for box in _properties(items, primary, b"colr")]
    if any(colour[:4] in (b"prof", b"rICC") for colour in colours):
        return None
    for colour in colours:
        if colour[:4] == b"nclx":
            return colour_space_of_code_points(*struct.unpack_from(">HH", colour, 4))
    points = av1_colours(_av1_units(data, items, primary))
    for box in _properties(items, primary, b"hvcC"):
        points = hevc_colours(data[box.start : box.end])
    return colour_space_of_code_points(*points) if points else None


def is_grey_of_video(data: bytes) -> bool:
    """Tell whether the picture is grey in video's range, 16 for black and 235 for white. libheif keeps it."""
    items = _items(data)
    primary = items.primary or 0
    is_grey = any(data[box.start + 2] & 0x10 for box in _properties(items, primary, b"av1C"))
    is_grey |= any(data[box.start + 16] & 3 == 0 for box in _properties(items, primary, b"hvcC"))
    if not is_grey:
        return False
    for box in _properties(items, primary, b"colr"):
        if data[box.start : box.start + 4] == b"nclx":
            return not data[box.start + 10] & 0x80
    return not av1_grey_is_full(_av1_units(data, items, primary))


def _av1_units(data: bytes, items: _Items, primary: int) -> bytes:
    """Return the coded units before the pixels: those of the container, then those of the picture; none of HEVC."""
    found = _properties(items, primary, b"av1C")
    start, length = next(iter(items.places.get(items.coded(primary), ())), (0, 0))
    return b"".join(data[box.start + 4 : box.end] for box in found) + data[start : start + min(length, 200)] * bool(
        found
    )


def _properties(items: _Items, item: int, kind: bytes) -> list[Box]:
    """Return an item's properties of one kind, or if it has none those of its parts."""
    own = [box for box in items.properties.get(item, ()) if box.kind == kind]
    coded = items.coded(item)
    return own or [box for box in items.properties.get(coded, ()) if box.kind == kind]


def _is_alpha(data: bytes, items: _Items, item: int) -> bool:
    kinds = [data[box.start + 4 : box.end] for box in _properties(items, item, b"auxC")]
    return any(kind.startswith(_ALPHA) for kind in kinds)


def _exif(data: bytes, items: _Items, primary: int) -> bytes:
    for kind, source, targets in items.references:
        if kind == b"cdsc" and primary in targets and items.kinds.get(source) == b"Exif":
            block = b"".join(data[start : start + length] for start, length in items.places.get(source, ()))
            return block[4 + int.from_bytes(block[:4]) :]
    return b""


def _items(data: bytes) -> _Items:
    """Read the file's ``meta`` box. Raises UnsupportedFormat if it has no primary picture."""
    meta = next((box for box in boxes(data, 0, len(data)) if box.kind == b"meta"), None)
    items = _Items()
    if meta is not None:
        parts = {box.kind: box for box in boxes(data, meta.start + 4, meta.end)}
        readers = {b"pitm": _read_primary, b"iinf": _read_kinds, b"iref": _read_references, b"iloc": _read_places}
        for kind, reader in readers.items():
            if kind in parts:
                reader(data, parts[kind], items, parts)
        if b"iprp" in parts:
            _read_properties(data, parts[b"iprp"], items)
    if items.primary is None:
        if all(box.kind != b"moov" for box in boxes(data, 0, len(data))):
            raise ValueError("neither a picture nor a sequence")
        raise UnsupportedFormat(f"the file is an image sequence (HEIF) without a still picture; {ALLOWED}")
    return items


def boxes(data: bytes, start: int, end: int) -> Iterator[Box]:
    """Go through the boxes between two places."""
    while start + 8 <= end:
        length, kind = int.from_bytes(data[start : start + 4]), data[start + 4 : start + 8]
        content = start + 8
        if length == 1:
            length, content = int.from_bytes(data[start + 8 : start + 16]), start + 16
        stop = end if length == 0 else start + length
        if stop < content:
            raise ValueError("a box is shorter than its name")
        yield Box(kind, content, min(stop, end))
        start = stop


def _number(data: bytes, at: int, size: int) -> int:
    if at + size > len(data):
        raise IndexError("it ends within a number")
    return int.from_bytes(data[at : at + size])


def _read_primary(data: bytes, box: Box, items: _Items, _: dict[bytes, Box]) -> None:
    items.primary = _number(data, box.start + 4, 2 if data[box.start] == 0 else 4)


def _read_kinds(data: bytes, box: Box, items: _Items, _: dict[bytes, Box]) -> None:
    at = box.start + (6 if data[box.start] == 0 else 8)
    for entry in boxes(data, at, box.end):
        version = data[entry.start]
        if entry.kind != b"infe" or version < 2 or len(items.kinds) >= _MOST_ITEMS:
            continue
        size = 2 if version == 2 else 4
        item = _number(data, entry.start + 4, size)
        items.kinds[item] = data[entry.start + 6 + size : entry.start + 10 + size]


def _read_references(data: bytes, box: Box, items: _Items, _: dict[bytes, Box]) -> None:
    size = 2 if data[box.start] == 0 else 4
    for reference in boxes(data, box.start + 4, box.end):
        count = min(_number(data, reference.start + size, 2), (reference.end - reference.start) // size)
        first = reference.start + size + 2
        targets = [_number(data, first + size * place, size) for place in range(count)]
        items.references.append((reference.kind, _number(data, reference.start, size), targets))


def _read_places(data: bytes, box: Box, items: _Items, parts: dict[bytes, Box]) -> None:
    version = data[box.start]
    sizes = _number(data, box.start + 4, 2)
    offset_size, length_size, base_size = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15
    index_size = sizes & 15 if version else 0
    wide = 2 if version < 2 else 4
    count = _number(data, box.start + 6, wide)
    at = box.start + 6 + wide
    for _ in range(min(count, _MOST_ITEMS)):
        item = _number(data, at, wide)
        at += wide
        method = 0
        if version:
            method = _number(data, at, 2) & 15
            at += 2
        base = _number(data, at + 2, base_size)
        extents = _number(data, at + 2 + base_size, 2)
        at += 4 + base_size
        idat = parts.get(b"idat")
        origin = base + (idat.start if method == 1 and idat else 0)
        for _ in range(extents):
            offset = _number(data, at + index_size, offset_size)
            length = _number(data, at + index_size + offset_size, length_size)
            at += index_size + offset_size + length_size
            if at > box.end:
                raise IndexError("more extents than the box has")
            items.places.setdefault(item, []).append((origin + offset, length or len(data)))


def _read_properties(data: bytes, box: Box, items: _Items) -> None:
    parts = list(boxes(data, box.start, box.end))
    known = [entry for part in parts if part.kind == b"ipco" for entry in boxes(data, part.start, part.end)]
    for part in parts:
        if part.kind != b"ipma":
            continue
        version, flags = data[part.start], data[part.start + 3]
        at = part.start + 8
        for _ in range(min(_number(data, part.start + 4, 4), _MOST_ITEMS)):
            size = 2 if version < 1 else 4
            item, count = _number(data, at, size), _number(data, at + size, 1)
            at += size + 1
            width, mask = (2, 0x7FFF) if flags & 1 else (1, 0x7F)
            for _ in range(count):
                index = _number(data, at, width) & mask
                at += width
                if 0 < index <= len(known):
                    items.properties.setdefault(item, []).append(known[index - 1])
