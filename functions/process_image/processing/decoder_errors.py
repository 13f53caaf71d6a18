"""Damage that a decoder finds, in words for people."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from darkroom.errors import DamagedImage

from functions.process_image.formats import INPUT_FORMATS
from functions.process_image.photo import Photo

#: How libvips and the decoders under it say that they were refused memory; they have no error of its own for it.
_NO_MEMORY = re.compile("out of memory|insufficient memory|memory allocation|creating thread", re.IGNORECASE)


@contextmanager
def translate_decoder_errors(photo: Photo, *faults: type[Exception]) -> Iterator[None]:
    """Turn a library's ``faults`` into :class:`DamagedImage`; what the library said stays behind as the cause.

    Raises MemoryError where the library was refused memory, which says nothing of the file.
    """
    try:
        yield
    except faults as error:
        if _NO_MEMORY.search(str(error)):
            raise MemoryError from error
        label = INPUT_FORMATS[photo.format].label
        raise DamagedImage(f"the {label} file is damaged or cut short: its pixels cannot be decoded") from error
