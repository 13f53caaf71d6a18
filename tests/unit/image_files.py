"""Pictures as files that Pillow does not write: TIFFs of every kind, and HEIF containers with other properties."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

from functions.process_image.processing.headers.heif import boxes

_SHORT, _LONG, _LONG8 = 3, 4, 16


def tiff(
    samples: bytes,
    size: tuple[int, int],
    *,
    photometric: int = 2,
    bits: Sequence[int] = (8, 8, 8),
    tags: dict[int, Sequence[int]] | None = None,
    order: str = "<",
    big: bool = False,
) -> bytes:
    """Write a TIFF or BigTIFF of one strip, not compressed unless ``tags`` say so; they may overwrite all others."""
    offset_letter, offset_kind = ("Q", _LONG8) if big else ("I", _LONG)
    head = struct.pack(order + "HHHQ", 43, 8, 0, 16 + len(samples) + len(samples) % 2) if big else b""
    head = head or struct.pack(order + "HI", 42, 8 + len(samples) + len(samples) % 2)
    head = (b"II" if order == "<" else b"MM") + head
    fields: dict[int, Sequence[int]] = {
        256: [size[0]],
        257: [size[1]],
        258: list(bits),
        259: [1],
        262: [photometric],
        273: [len(head)],
        277: [len(bits)],
        278: [size[1]],
        279: [len(samples)],
        **(tags or {}),
    }
    index = struct.pack(order + ("Q" if big else "H"), len(fields))
    body = head + samples + bytes(len(samples) % 2)
    room = struct.calcsize(order + offset_letter)
    after = len(body) + len(index) + len(fields) * (12 + 2 * (room - 4)) + room
    more = b""
    for tag, values in sorted(fields.items()):
        is_long = tag in (256, 257, 273, 278, 279, 324, 325, 330)
        letter, kind = (offset_letter, offset_kind) if is_long else ("H", _SHORT)
        packed = struct.pack(f"{order}{len(values)}{letter}", *values)
        if len(packed) > room:
            place = struct.pack(order + offset_letter, after + len(more))
            more += packed + bytes(len(packed) % 2)
            packed = place
        index += struct.pack(order + "HH" + offset_letter, tag, kind, len(values)) + packed.ljust(room, b"\0")
    return body + index + bytes(room) + more


def box(kind: bytes, content: bytes) -> bytes:
    """Write a box of an ISO container."""
    return struct.pack(">I", 8 + len(content)) + kind + content


def nclx(primaries: int, transfer: int, matrix: int = 6, *, full_range: bool = True) -> bytes:
    """Write what a container says of its picture's colours."""
    return box(b"colr", b"nclx" + struct.pack(">HHHB", primaries, transfer, matrix, full_range << 7))


def turned(angle: int) -> bytes:
    """Turn a picture counter-clockwise, in right angles."""
    return box(b"irot", bytes([angle]))


def mirrored(axis: int) -> bytes:
    """Mirror a picture: 0 top to bottom, 1 left to right."""
    return box(b"imir", bytes([axis]))


def cropped(width: int, height: int, across: tuple[int, int] = (0, 1), down: tuple[int, int] = (0, 1)) -> bytes:
    """Crop a picture around its middle, moved by fractions of pixels."""
    return box(b"clap", struct.pack(">8i", width, 1, height, 1, *across, *down))


def with_properties(data: bytes, *properties: bytes, without: Sequence[bytes] = (), essential: bool = True) -> bytes:
    """Give the primary item of a HEIF file more properties, after those it has ``without`` some."""
    top = {found.kind: found for found in boxes(data, 0, len(data))}
    meta = top[b"meta"]
    parts = {found.kind: found for found in boxes(data, meta.start + 4, meta.end)}
    primary = int.from_bytes(data[parts[b"pitm"].start + 4 : parts[b"pitm"].start + 6])
    inner = {found.kind: found for found in boxes(data, parts[b"iprp"].start, parts[b"iprp"].end)}
    known = [data[found.start - 8 : found.end] for found in boxes(data, inner[b"ipco"].start, inner[b"ipco"].end)]
    flag = 0x80 if essential else 0
    links = bytes(flag | len(known) + 1 + place for place in range(len(properties)))

    ipma = bytearray(data[inner[b"ipma"].start : inner[b"ipma"].end])
    assert ipma[0] == ipma[3] == 0, "short numbers"
    at = 8
    while int.from_bytes(ipma[at : at + 2]) != primary:
        at += 3 + ipma[at + 2]
    mine = [link for link in ipma[at + 3 : at + 3 + ipma[at + 2]] if known[(link & 0x7F) - 1][4:8] not in without]
    ipma[at + 2 : at + 3 + ipma[at + 2]] = bytes([len(mine) + len(links), *mine, *links])
    iprp = box(b"iprp", box(b"ipco", b"".join([*known, *properties])) + box(b"ipma", bytes(ipma)))

    old = parts[b"iprp"]
    grown = len(iprp) - (old.end - old.start + 8)
    content = data[meta.start : old.start - 8] + iprp + data[old.end : meta.end]
    moved = data[: meta.start - 8] + box(b"meta", content) + data[meta.end :]
    return _moved_items(moved, meta.end, grown)


def _moved_items(data: bytes, behind: int, by: int) -> bytes:
    """Correct the offsets of items that have moved."""
    meta = next(found for found in boxes(data, 0, len(data)) if found.kind == b"meta")
    iloc = next(found for found in boxes(data, meta.start + 4, meta.end) if found.kind == b"iloc")
    sizes = int.from_bytes(data[iloc.start + 4 : iloc.start + 6])
    offset_size, length_size, base_size, index_size = (sizes >> shift & 15 for shift in (12, 8, 4, 0))
    version, changed, at = data[iloc.start], bytearray(data), iloc.start + 8
    assert version < 2, "short numbers"
    for _ in range(int.from_bytes(data[iloc.start + 6 : iloc.start + 8])):
        method = int.from_bytes(data[at + 2 : at + 4]) & 15 if version else 0
        at += 4 + (2 if version else 0)
        base = int.from_bytes(data[at : at + base_size])
        at += base_size
        count = int.from_bytes(data[at : at + 2])
        at += 2
        for _ in range(count):
            at += index_size if version else 0
            place = slice(at, at + offset_size)
            offset = int.from_bytes(data[place])
            if method == 0 and base + offset >= behind:
                changed[place] = (offset + by).to_bytes(offset_size)
            at += offset_size + length_size
    return bytes(changed)


def with_brands(data: bytes, major: bytes, *compatible: bytes) -> bytes:
    """Give a HEIF file other brands."""
    length = int.from_bytes(data[:4])
    ftyp = box(b"ftyp", major + bytes(4) + b"".join(compatible))
    filled = ftyp if len(ftyp) == length else box(b"ftyp", (ftyp[8:] + major * 20)[: length - 8])
    return filled + data[length:]


def png_with(data: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """Put chunks into a PNG, behind its header."""
    more = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    return data[:33] + more + data[33:]
