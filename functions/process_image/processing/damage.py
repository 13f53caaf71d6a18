"""Damage that a decoder finds, in words for people."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from darkroom.errors import DamagedImage

from functions.process_image.photo import FORMATS, Photo


@contextmanager
def damage_has_a_name(photo: Photo, *faults: type[Exception]) -> Iterator[None]:
    """Turn a library's ``faults`` into :class:`DamagedImage`; what the library said stays behind as the cause."""
    try:
        yield
    except faults as error:
        label, _ = FORMATS[photo.format]
        raise DamagedImage(f"the {label} file is damaged or cut short: its pixels cannot be decoded") from error
