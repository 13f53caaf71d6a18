"""The messages between the function and the render server's processes about one image, over a socket of its own.

The function sends a time limit and the file, and receives what the file is and how much memory rendering takes. It
answers when that memory is free, and receives the renditions. A process that has decoded a hostile file may send
anything, so every answer is checked here, and nothing is unpickled.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, Final

from darkroom.errors import (
    DamagedImage,
    DecoderOutOfMemory,
    NotAnImage,
    PermanentFault,
    TooLarge,
    TooManyFrames,
    TooManyPixels,
    UnsupportedFormat,
)

from functions.process_image.formats import INPUT_FORMATS
from functions.process_image.photo import Limits, Photo, Rendered, Rendition
from functions.process_image.rendition_set import LARGEST_SIDE, RenditionSet, RenditionSpec

#: How many seconds an image may take, how many bytes of the file follow, and how many bytes rendering may take; 0: as
#: many as are estimated.
REQUEST: Final = struct.Struct("!dQQ")
#: Go on, and be done in so many seconds.
GO: Final = struct.Struct("!d")
#: How many bytes an answer has: JSON, of the renditions before their bodies.
LENGTH: Final = struct.Struct("!I")
#: How a process ended: with this exit code, or by the signal that this is the negative of.
EXIT_STATUS: Final = struct.Struct("!i")

#: Bytes that a process may take in addition to the file and the estimate: mostly its threads' stacks of 2 MB each,
#: which are hardly written to. Measured: 11 MB for a picture of a few pixels. Identifying a file must fit in here, too.
OVERHEAD_BYTES: Final = 64 * 2**20

#: Bytes of JSON in an answer, at most.
LONGEST_ANSWER = 65_536

_FAULTS: Final = {
    fault.__name__: fault
    for fault in (
        DamagedImage,
        DecoderOutOfMemory,
        NotAnImage,
        TooLarge,
        TooManyFrames,
        TooManyPixels,
        UnsupportedFormat,
    )
}


class ProtocolError(ValueError):
    """An answer that the render server's code never sends."""


class RenderDefect(RuntimeError):
    """A defect in Darkroom that rendering an image uncovered; the text is its traceback."""


def configuration(limits: Limits, rendition_set: RenditionSet, cpu_seconds: int) -> str:
    """The configuration of a render server."""
    return json.dumps([asdict(limits), asdict(rendition_set), cpu_seconds])


def read_configuration(text: str) -> tuple[Limits, RenditionSet, int]:
    """Parse the output of :func:`configuration`."""
    limits, rendition_set, cpu_seconds = json.loads(text)
    specs = tuple(RenditionSpec(**spec) for spec in rendition_set["specs"])
    return Limits(**limits), RenditionSet(specs, rendition_set["fingerprint"]), cpu_seconds


def photo_answer(photo: Photo, memory: int, seconds: float) -> bytes:
    """Encode what the file is, and how many bytes and seconds of one vCPU rendering takes."""
    return _answer({"photo": asdict(photo), "memory": memory, "seconds": seconds})


def rendered_answer(rendered: Rendered) -> bytes:
    """Encode the header of the answer: the bodies follow, in the rendition set's order."""
    sizes = [[r.width, r.height, r.frames, len(r.body)] for r in rendered.renditions]
    return _answer(
        {"renditions": sizes, "placeholder": rendered.placeholder, "dominant_colour": rendered.dominant_colour}
    )


def fault_answer(fault: PermanentFault) -> bytes:
    """Encode what is wrong with the file."""
    return _answer({"fault": fault.error_code, "reason": str(fault)})


def defect_answer(traceback: str) -> bytes:
    """Encode a defect in Darkroom."""
    return _answer({"defect": traceback[-4000:]})


def _answer(content: dict[str, Any]) -> bytes:
    text = json.dumps(content).encode()
    return LENGTH.pack(len(text)) + text


def read_photo(text: bytes, limits: Limits) -> tuple[Photo, int, float]:
    """Read what the file is, and how many bytes and seconds of one vCPU rendering takes.

    Raises
    ------
    PermanentFault
        Something is wrong with the file.
    RenderDefect
        Darkroom has a defect.
    ProtocolError
        The answer is invalid.
    """
    answer = _read(text, {"photo", "memory", "seconds"})
    fields, memory, seconds = answer["photo"], answer["memory"], answer["seconds"]
    if not isinstance(seconds, float) or not 0 <= seconds <= 1e6:
        raise ProtocolError("seconds")
    if not isinstance(fields, dict) or fields.keys() != _PHOTO_FIELDS.keys() or not _is_count(memory):
        raise ProtocolError("photo")
    if place := fields["location"]:
        fields["location"] = tuple(place) if isinstance(place, list) else place
    for name, is_right in _PHOTO_FIELDS.items():
        if not is_right(fields[name]):
            raise ProtocolError(name)
    photo = Photo(**fields)
    if photo.width * photo.height * photo.frames > limits.max_pixels or photo.frames > limits.max_frames:
        raise ProtocolError("beyond the limits")
    return photo, memory, seconds


def read_renditions(
    text: bytes, specs: Sequence[RenditionSpec], most: int
) -> tuple[list[int], Callable[..., Rendered]]:
    """Read the header of the answer.

    Parameters
    ----------
    specs:
        What to make of this file.
    most:
        Most bytes of all bodies together.

    Returns
    -------
    list of int and function
        The bytes of each body, and a function that makes the result from the bodies.

    Raises
    ------
    PermanentFault, RenderDefect, ProtocolError
        As :func:`read_photo` does.
    """
    answer = _read(text, {"renditions", "placeholder", "dominant_colour"})
    sizes, placeholder, colour = answer["renditions"], answer["placeholder"], answer["dominant_colour"]
    if not isinstance(sizes, list) or len(sizes) != len(specs) or not all(map(_is_size, sizes)):
        raise ProtocolError("renditions")
    if not _is_text(placeholder, 100) or not _is_text(colour, 7):
        raise ProtocolError("placeholder")
    lengths = [size[3] for size in sizes]
    if sum(lengths) > most:
        raise ProtocolError("too large")

    def put_together(bodies: list[bytes]) -> Rendered:
        renditions = (
            Rendition(spec.name, body, spec.output.content_type, spec.extension, *size[:3])
            for spec, size, body in zip(specs, sizes, bodies, strict=True)
        )
        return Rendered(tuple(renditions), placeholder, colour)

    return lengths, put_together


def _read(text: bytes, keys: set[str]) -> dict[str, Any]:
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ProtocolError("not JSON") from error
    match answer:
        case {"fault": str(code), "reason": str(reason)} if code in _FAULTS and len(reason) <= 1000:
            raise _FAULTS[code](reason)
        case {"defect": str(traceback)}:
            raise RenderDefect(traceback)
        case dict() if answer.keys() == keys:
            return answer
    raise ProtocolError("not an answer")


def _is_count(value: object, most: int = 2**40) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= most


def _is_text(value: object, most: int) -> bool:
    return isinstance(value, str) and len(value) <= most


def _is_text_or_none(value: object) -> bool:
    return value is None or _is_text(value, 200)


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


def _is_place(value: object) -> bool:
    match value:
        case None:
            return True
        case (float() | int() as latitude, float() | int() as longitude):
            return -90 <= latitude <= 90 and -180 <= longitude <= 180
    return False


def _is_size(value: object) -> bool:
    match value:
        case [width, height, frames, length]:
            return all(_is_count(side, LARGEST_SIDE) for side in (width, height)) and all(
                map(_is_count, (frames, length))
            )
    return False


_PHOTO_FIELDS: Final[dict[str, Callable[[Any], bool]]] = {
    "format": lambda value: isinstance(value, str) and value in INPUT_FORMATS,
    "width": _is_count,
    "height": _is_count,
    "frames": _is_count,
    "orientation": lambda value: _is_count(value, 8),
    "has_alpha": _is_flag,
    "decoded_whole": _is_flag,
    "bits": lambda value: _is_count(value, 64),
    "full_chroma": _is_flag,
    "coded_pixels": lambda value: value == 0 or _is_count(value),
    "camera": _is_text_or_none,
    "taken_at": _is_text_or_none,
    "location": _is_place,
}
