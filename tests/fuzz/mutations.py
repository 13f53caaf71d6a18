"""Files that are almost images: real ones of every format, with the damage that finds a decoder's mistakes.

A format's file is a row of parts: PNG chunks, JPEG segments, RIFF chunks, GIF blocks, TIFF directory entries, boxes of
AVIF and HEIC. Their sizes, counts, offsets and dimensions stand at the beginning of a part, so that is where numbers
are changed.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from random import Random
from typing import Literal

from PIL import Image

_PROJECT = Path(__file__).resolve().parents[2]
_MOST_PARTS = 2000
_LARGEST = 2_000_000
# As far into a part as numbers are looked for.
_HEAD = 40
# A mutation of its own kind is as telling as many: mostly one, seldom several.
_MUTATIONS_AT_ONCE = (1, 1, 1, 2, 2, 3, 5)

_MAGIC = (
    b"\xff\xd8\xff\xe0",
    b"\x89PNG\r\n\x1a\n",
    b"GIF89a",
    b"RIFF\xff\xff\0\0WEBPVP8X",
    b"II*\0\x08\0\0\0",
    b"MM\0*\0\0\0\x08",
    b"\0\0\0\x1cftypavif\0\0\0\0mif1avifmiaf",
    b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
)
_CONTAINER_BOXES = (b"meta", b"iprp", b"ipco", b"iinf", b"moov", b"trak", b"mdia", b"minf", b"stbl", b"dinf", b"iref")


@dataclass(frozen=True)
class Part:
    """The position of a part of a file."""

    start: int
    stop: int


@cache
def small_files() -> tuple[bytes, ...]:
    """Little pictures in every format and mode: quick to decode, so that many can be tried."""
    colours = Image.linear_gradient("L").resize((48, 36))
    photo = Image.merge("RGB", (colours, colours.rotate(90), colours.rotate(180)))
    frames = [photo.rotate(angle) for angle in (0, 90, 180)]
    exif = Image.Exif()
    exif.update({0x010F: "NIKON CORPORATION", 0x0110: "NIKON D90", 0x0112: 6})
    exif.get_ifd(0x8769)[0x9003] = "2024:07:14 10:30:00"
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 8.0, 14.0), 3: "E", 4: (11.0, 34.0, 30.0)})

    def saved(picture: Image.Image, image_format: str, **options: object) -> bytes:
        file = io.BytesIO()
        picture.save(file, image_format, **options)
        return file.getvalue()

    return (
        saved(photo, "JPEG", exif=exif),
        saved(photo, "JPEG", progressive=True, icc_profile=bytes(200), comment="a comment"),
        saved(photo.convert("CMYK"), "JPEG"),
        saved(photo.convert("L"), "JPEG", subsampling=0, restart_marker_blocks=1),
        saved(photo, "PNG", exif=exif),
        saved(photo.convert("RGBA"), "PNG", dpi=(72, 72)),
        saved(photo.convert("P"), "PNG", transparency=3),
        saved(photo.convert("1"), "PNG"),
        saved(photo.convert("L").convert("I;16"), "PNG"),
        saved(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=50, loop=0, comment=b"a comment"),
        saved(photo.convert("P"), "GIF", transparency=1, interlace=1),
        saved(photo, "WEBP", exif=exif),
        saved(photo.convert("RGBA"), "WEBP", lossless=True),
        saved(frames[0], "WEBP", save_all=True, append_images=frames[1:], duration=50),
        saved(photo, "TIFF", exif=exif),
        saved(photo, "TIFF", compression="tiff_lzw"),
        saved(photo, "TIFF", compression="jpeg"),
        saved(photo.convert("1"), "TIFF", compression="group4"),
        saved(frames[0], "TIFF", save_all=True, append_images=frames[1:], compression="tiff_adobe_deflate"),
        saved(photo, "AVIF", exif=exif),
        saved(photo.convert("RGBA"), "AVIF"),
        (_PROJECT / "tests" / "unit" / "data" / "quadrants.heic").read_bytes(),
    )


@cache
def sample_files() -> tuple[bytes, ...]:
    """The photos that `make demo` shows, and those that it shows to be refused."""
    folder = _PROJECT / "samples"
    paths = (*folder.glob("*.*"), *(folder / "faulty").iterdir())
    return tuple(path.read_bytes() for path in sorted(paths) if path.suffix not in (".md", ".py", ".toml"))


def almost_an_image(random: Random) -> bytes:
    """Make one file. The same ``random`` makes the same, as long as Pillow's encoders do."""
    if random.random() < 0.03:
        return random.choice(_MAGIC) + random.randbytes(random.choice((0, 4, 60, 3000)))
    files = small_files() if random.random() < 0.9 else sample_files()
    data = random.choice(files)
    for _ in range(random.choice(_MUTATIONS_AT_ONCE)):
        data = random.choice(_MUTATIONS)(random, data)
    if data.startswith(b"\x89PNG") and random.random() < 0.8:
        data = _with_right_checksums(data)
    return data[:_LARGEST]


def parts_of(data: bytes) -> list[Part]:
    """The parts of a file, as far as it can be read; the whole file where its format is not known."""
    return list(islice(_parts(data), _MOST_PARTS)) or [Part(0, len(data))]


def _parts(data: bytes) -> Iterator[Part]:
    if data.startswith(b"\x89PNG"):
        return _rows(data, 8, lambda at: 12 + int.from_bytes(data[at : at + 4], "big"))
    if data.startswith(b"\xff\xd8"):
        return _jpeg_segments(data)
    if data.startswith(b"RIFF"):
        return _rows(data, 12, lambda at: 8 + (int.from_bytes(data[at + 4 : at + 8], "little") + 1) // 2 * 2)
    if data.startswith(b"GIF8"):
        return _gif_blocks(data)
    if data[:2] in (b"II", b"MM"):
        return _tiff_entries(data)
    if data[4:8] == b"ftyp":
        return _boxes(data, 0, len(data))
    return iter(())


def _rows(data: bytes, at: int, size_at: Callable[[int], int]) -> Iterator[Part]:
    while at < len(data):
        stop = min(at + size_at(at), len(data))
        yield Part(at, stop)
        at = stop


def _jpeg_segments(data: bytes) -> Iterator[Part]:
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        size = 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        stop = len(data) if data[at + 1] == 0xDA else min(at + size, len(data))  # a scan, and the pixels behind it
        yield Part(at, stop)
        at = stop


def _gif_blocks(data: bytes) -> Iterator[Part]:
    def palette(at: int) -> int:
        return 3 * 2 ** ((data[at] & 7) + 1) if at < len(data) and data[at] & 0x80 else 0

    start, at = 0, 13 + palette(10)
    while at < len(data):
        yield Part(start, at)
        start = at
        at += 10 + palette(at + 9) + 1 if data[at] == 0x2C else 2
        while at < len(data) and data[at]:
            at += data[at] + 1
        at += 1
    yield Part(start, len(data))


def _tiff_entries(data: bytes) -> Iterator[Part]:
    order = "<" if data.startswith(b"II") else ">"
    yield Part(0, min(8, len(data)))
    at = struct.unpack_from(f"{order}I", data, 4)[0] if len(data) >= 8 else len(data)
    while 8 <= at <= len(data) - 2:
        (count,) = struct.unpack_from(f"{order}H", data, at)
        yield Part(at, at + 2)
        yield from (Part(entry, entry + 12) for entry in range(at + 2, at + 2 + 12 * count, 12) if entry < len(data))
        end = at + 2 + 12 * count
        following = struct.unpack_from(f"{order}I", data, end)[0] if end + 4 <= len(data) else 0
        at = following if following > at else len(data)


def _boxes(data: bytes, at: int, stop: int) -> Iterator[Part]:
    while at + 8 <= stop:
        size, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        end = min(at + max(size, 8), stop) if size else stop
        yield Part(at, end)
        if kind in _CONTAINER_BOXES:
            full = {b"meta": 4, b"iref": 4, b"iinf": 6}.get(kind, 0)
            yield from _boxes(data, at + 8 + full, end)
        at = end


def _with_right_checksums(data: bytes) -> bytes:
    """Correct the checksums: decoders stop at a wrong one."""
    mended = bytearray(data)
    for part in parts_of(data):
        if part.stop - part.start >= 12:
            mended[part.stop - 4 : part.stop] = zlib.crc32(data[part.start + 4 : part.stop - 4]).to_bytes(4, "big")
    return bytes(mended)


def _flip_bits(random: Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(random.choice((1, 2, 8, 64)) if data else 0):
        changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _overwrite(random: Random, data: bytes) -> bytes:
    at, length = random.randrange(len(data) + 1), random.choice((1, 2, 4, 16, 256))
    run = random.choice((b"\0", b"\xff", b"\x80", random.randbytes(1))) * length
    return data[:at] + random.choice((run, random.randbytes(length))) + data[at + length :]


def _insert(random: Random, data: bytes) -> bytes:
    at = random.randrange(len(data) + 1)
    return data[:at] + random.randbytes(random.choice((1, 3, 40, 5000))) + data[at:]


def _remove(random: Random, data: bytes) -> bytes:
    at = random.randrange(len(data) + 1)
    return data[:at] + data[at + random.choice((1, 2, 16, 300, 5000)) :]


def _cut_short(random: Random, data: bytes) -> bytes:
    return data[: random.randrange(len(data) + 1)]


def _splice(random: Random, data: bytes) -> bytes:
    """The beginning of one file and the end of another."""
    other = random.choice(small_files())
    return data[: random.randrange(len(data) + 1)] + other[random.randrange(len(other)) :]


def _change_number(random: Random, data: bytes) -> bytes:
    """Replace a size, count, offset or dimension by an extreme value."""
    part = random.choice(parts_of(data))
    length = random.choice((1, 2, 2, 4, 4, 4))
    at = random.randrange(part.start, max(min(part.start + _HEAD, part.stop), part.start + 1))
    order: Literal["little", "big"] = "little" if data[:2] == b"II" or data[:4] in (b"RIFF", b"GIF8") else "big"
    was = int.from_bytes(data[at : at + length], order)
    most: int = 256**length - 1
    telling: tuple[int, ...] = (
        0,
        1,
        most,
        most // 2,
        most // 2 + 1,
        most - 8,
        len(data),
        was - 1,
        was + 1,
        2 * was,
        was ^ 0x80,
        65_536,
    )
    return data[:at] + (random.choice(telling) & most).to_bytes(length, order) + data[at + length :]


def _drop_part(random: Random, data: bytes) -> bytes:
    part = random.choice(parts_of(data))
    return data[: part.start] + data[part.stop :]


def _repeat_part(random: Random, data: bytes) -> bytes:
    part = random.choice(parts_of(data))
    times = random.choice((1, 2, 300, 20_000))
    times = min(times, _LARGEST // max(part.stop - part.start, 1))
    return data[: part.stop] + data[part.start : part.stop] * times + data[part.stop :]


def _swap_parts(random: Random, data: bytes) -> bytes:
    first, second = sorted((random.choice(parts_of(data)) for _ in range(2)), key=lambda part: part.start)
    if first.stop > second.start:  # one inside the other, or the same
        return data
    between = data[first.stop : second.start]
    one, other = data[first.start : first.stop], data[second.start : second.stop]
    return data[: first.start] + other + between + one + data[second.stop :]


def _take_part_of_another(random: Random, data: bytes) -> bytes:
    """Insert a part of another file, preferably of the same format."""
    other = random.choice([file for file in small_files() if file[:2] == data[:2]] or small_files())
    theirs, ours = random.choice(parts_of(other)), random.choice(parts_of(data))
    stop = random.choice((ours.start, ours.stop))
    return data[: ours.start] + other[theirs.start : theirs.stop] + data[stop:]


def _add_metadata(random: Random, data: bytes) -> bytes:
    """Add many metadata that look well-formed."""
    size = random.choice((10, 60_000, 1_000_000))
    body = random.choice((b"Exif\0\0II*\0\x08\0\0\0" + b"\xff" * size, b"\0" * size, random.randbytes(size)))
    match data[:4]:
        case b"\x89PNG":
            kind = random.choice((b"eXIf", b"iCCP", b"zTXt", b"tEXt", b"iTXt", b"sPLT"))
            packed = random.choice((body, b"a\0\0" + zlib.compress(body)))
            return data[:33] + len(packed).to_bytes(4, "big") + kind + packed + bytes(4) + data[33:]
        case b"\xff\xd8\xff\xe0" | b"\xff\xd8\xff\xe1" | b"\xff\xd8\xff\xee" | b"\xff\xd8\xff\xdb":
            pieces = [body[at : at + 65_533] for at in range(0, len(body), 65_533)]
            marker = random.choice((b"\xff\xe1", b"\xff\xe2", b"\xff\xed", b"\xff\xfe"))
            segments = b"".join(marker + (2 + len(piece)).to_bytes(2, "big") + piece for piece in pieces)
            return data[:2] + segments + data[2:]
        case b"RIFF":
            body += b"\0" * (len(body) % 2)
            kind = random.choice((b"EXIF", b"XMP ", b"ICCP"))
            return data + kind + len(body).to_bytes(4, "little") + body
        case _:
            return data + body


_MUTATIONS: Sequence[Callable[[Random, bytes], bytes]] = (
    _flip_bits,
    _overwrite,
    _insert,
    _remove,
    _cut_short,
    _splice,
    _change_number,
    _change_number,
    _change_number,
    _change_number,
    _drop_part,
    _repeat_part,
    _swap_parts,
    _take_part_of_another,
    _add_metadata,
)
