"""GIF: blocks, frame by frame.

https://www.w3.org/Graphics/GIF/spec-gif89a.txt
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from darkroom.errors import DamagedImage, TooManyFrames

from functions.process_image.processing.headers import Header

_IMAGE, _EXTENSION, _GRAPHIC_CONTROL = 0x2C, 0x21, 0xF9
_KEEP, _CLEAR, _TO_PREVIOUS = 1, 2, 3


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame.

    Parameters
    ----------
    control : int or None
        The position of the packed byte of its graphic control, if it has one.
    start, end : int
        The positions where its image descriptor begins and its pixels end.
    rectangle : bytes
        Left, top, width and height as the file has them, 2 bytes each.
    disposal : int
        What happens to it before the next frame.
    has_transparency : bool
        Whether one of its colours is transparent.
    """

    control: int | None
    start: int
    end: int
    rectangle: bytes
    disposal: int
    has_transparency: bool


def read(data: bytes, max_frames: int) -> Header:
    """Count a GIF's frames.

    Many files lack the final trailer, which is fine. A file that ends within a block has lost pixels, and the decoder
    would show the rest without an error.

    Raises
    ------
    TooManyFrames
        There are more than ``max_frames``.
    DamagedImage
        There is no frame, or the file ends within one.
    """
    found: list[Frame] = []
    try:
        for frame in frames(data):
            found.append(frame)
            if len(found) > max_frames:
                raise TooManyFrames(f"the animation has more than {max_frames} frames, the most that are allowed")
    except IndexError as error:
        raise DamagedImage(f"the GIF file is cut short in frame {len(found) + 1}") from error
    if not found:
        raise DamagedImage("the GIF file holds no frame")
    width, height = screen(data, found[0])
    return Header(width, height, frames=len(found), has_alpha=shows_canvas(data, found))


def screen(data: bytes, first: Frame) -> tuple[int, int]:
    """Return the size of the canvas in pixels: as the file states, or larger if its first frame is."""
    left, top, width, height = struct.unpack("<4H", first.rectangle)
    stated_width, stated_height = struct.unpack_from("<2H", data, 6)
    return max(stated_width, left + width), max(stated_height, top + height)


def shows_canvas(data: bytes, found: list[Frame]) -> bool:
    """Return whether the canvas is visible in any frame. Browsers show it transparent, not in its colour."""
    covered = found[0].rectangle == struct.pack("<4H", 0, 0, *screen(data, found[0]))
    is_cleared = any(_is_cleared(number, frame) for number, frame in enumerate(found[:-1]))
    return not covered or is_cleared or any(frame.has_transparency for frame in found)


def _is_cleared(number: int, frame: Frame) -> bool:
    """Return whether a frame leaves the canvas transparent, as it is before the first frame."""
    return frame.disposal == _CLEAR or (number == 0 and frame.disposal == _TO_PREVIOUS)


def frames(data: bytes) -> Iterator[Frame]:
    """Go through the frames. Raises IndexError if the data end within one."""

    def palette(flags: int) -> int:
        return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0

    def after_sub_blocks(at: int) -> int:
        while data[at]:
            at += data[at] + 1
        return at + 1

    at = 13 + palette(data[10])
    control: int | None = None
    while at < len(data):
        if data[at] == _IMAGE:  # descriptor, palette, code size, pixels
            end = after_sub_blocks(at + 11 + palette(data[at + 9]))
            packed = data[control] if control is not None else 0
            yield Frame(control, at, end, data[at + 1 : at + 9], packed >> 2 & 7, bool(packed & 1))
            at, control = end, None
        elif data[at] == _EXTENSION:
            if data[at + 1] == _GRAPHIC_CONTROL and data[at + 2] >= 4:
                control = at + 3
            at = after_sub_blocks(at + 2)
        else:  # the trailer, or appended data without one
            return


def with_transparent_canvas(data: bytes) -> tuple[bytes, list[int]]:
    """Make libvips show the canvas as browsers do: transparent where no frame covers it.

    When its decoder clears a frame without transparency, it paints the file's background colour, and it keeps no alpha
    at all if no frame has transparency. So each such frame is followed by a transparent one in the same place, which is
    cleared instead.

    Returns
    -------
    bytes and list of int
        The file, and which of its frames are the original's.
    """
    found = list(frames(data))
    needs_alpha = shows_canvas(data, found) and not any(frame.has_transparency for frame in found)
    view = memoryview(data)  # whose slices are no copies
    parts: list[bytes | memoryview] = []
    kept: list[int] = []
    at = count = 0
    for number, frame in enumerate(found):
        kept.append(count)
        count += 1
        clears = _is_cleared(number, frame) and not frame.has_transparency and number + 1 < len(found)
        if clears and frame.control is not None:
            keeping = data[frame.control] & ~0x1C | _KEEP << 2
            parts += [view[at : frame.control], bytes([keeping]), view[frame.control + 1 : frame.end]]
            parts.append(_transparent_frame(frame.rectangle, _CLEAR))
            count += 1
        else:
            parts.append(view[at : frame.end])
        at = frame.end
    if needs_alpha and count == len(found):  # and no frame was added that has it
        parts.append(_transparent_frame(b"\0\0\0\0\1\0\1\0", _KEEP))
        count += 1
    return (data if count == len(found) else b"".join([*parts, view[at:]])), kept


def _transparent_frame(rectangle: bytes, disposal: int) -> bytes:
    """Return an invisible frame."""
    width, height = int.from_bytes(rectangle[4:6], "little"), int.from_bytes(rectangle[6:8], "little")
    control = bytes([_EXTENSION, _GRAPHIC_CONTROL, 4, disposal << 2 | 1, 0, 0, 0, 0])
    descriptor = bytes([_IMAGE]) + rectangle + b"\x80" + bytes(6)  # with a palette of two colours
    packed = _lzw_of_zeros(width * height)
    blocks = b"".join(bytes([len(packed[at : at + 255])]) + packed[at : at + 255] for at in range(0, len(packed), 255))
    return control + descriptor + b"\x02" + blocks + b"\0"


def _lzw_of_zeros(count: int) -> bytes:
    """Compress ``count`` zeros: each code stands for one zero more than the previous, until the table is full."""
    clear, end, table = 4, 5, 4095
    number = size = 0
    packed = bytearray()

    def put(code: int, following: int) -> None:
        nonlocal number, size
        number |= code << size
        size += max(3, following.bit_length())
        while size >= 8:
            packed.append(number & 0xFF)
            number >>= 8
            size -= 8

    put(clear, end + 1)
    while count > 0:
        put(0, end + 1)
        count -= 1
        following = end + 1  # the code of the next longer run, which the decoder assigns at the same time
        while count > 0 and following < table:
            run = min(following - end + 1, count)
            put(0 if run == 1 else end + run - 1, following)
            count -= run
            following += 1
        put(clear if count > 0 else end, following)
    packed.append(number & 0xFF)
    return bytes(packed)
