"""Translate the errors of decoders into reasons for people."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager

import pyvips
from darkroom.errors import DamagedImage, UnsupportedFormat

from functions.process_image.formats import INPUT_FORMATS
from functions.process_image.photo import Photo

#: How libvips and its decoders report that they got no memory; they have no separate error for it.
_NO_MEMORY = re.compile("out of memory|insufficient memory|memory allocation|creating thread", re.IGNORECASE)
#: libheif also calls it a memory error if the coded picture is larger than its container says.
_OTHER_SIZE = re.compile("exceeds the maximum image size", re.IGNORECASE)
#: How they report a file that may be intact but is of a kind that they do not decode.
_UNSUPPORTED = re.compile(
    "not supported|not configured|not implemented|unsupported (?:tiff|jpeg process|image|codec|feature|data)"
    "|unimplemented|not a whole number of bytes",
    re.IGNORECASE,
)


#: Warnings of libjpeg about a TIFF that mean lost pixels; others are about odd metadata.
_LOST = re.compile("corrupt jpeg data|premature end", re.IGNORECASE)


class _Warnings(logging.Handler):
    """The warnings of libvips."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


_warnings = _Warnings()
logging.getLogger("pyvips").addHandler(_warnings)  # pyvips logs the warnings of libvips there


def _lost_pixels() -> bool:
    """Whether libvips hides an error, or libtiff warned of one."""
    hidden = bool(pyvips.ffi.string(pyvips.vips_lib.vips_error_buffer()))
    return hidden or any(map(_LOST.search, _warnings.texts))


@contextmanager
def translate_decoder_errors(photo: Photo, *faults: type[Exception]) -> Iterator[None]:
    """Turn a library's ``faults`` into :class:`DamagedImage`, with the library's error as the cause.

    libvips replaces a TIFF's tile that it cannot decode by a black or grey one, so libtiff's warnings count as errors.

    Raises UnsupportedFormat, with the library's words, if the library does not decode such files, and MemoryError if it
    got no memory, which says nothing about the file.
    """
    pyvips.vips_lib.vips_error_clear()
    _warnings.texts.clear()
    try:
        yield
        if photo.format == "tiff" and _lost_pixels():
            raise pyvips.Error("tile")
    except faults as error:
        said = str(error)
        if _NO_MEMORY.search(said) and not _OTHER_SIZE.search(said):
            raise MemoryError from error
        label = INPUT_FORMATS[photo.format].label
        if _UNSUPPORTED.search(said):
            line = next(line for line in said.splitlines() if _UNSUPPORTED.search(line))
            words = "".join(character for character in line if character.isprintable()).strip()[:200]
            raise UnsupportedFormat(f"the {label} file is of a kind that is not decoded: {words}") from error
        raise DamagedImage(f"the {label} file is damaged or cut short: its pixels cannot be decoded") from error


@contextmanager
def translate_encoder_errors() -> Iterator[None]:
    """Turn an encoder's error into MemoryError: its pixels are in memory, so nothing else can fail."""
    try:
        yield
    except pyvips.Error as error:
        raise MemoryError from error
