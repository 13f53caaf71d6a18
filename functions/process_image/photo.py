"""What an upload is, and what is made of it. No image library: this is what the rest of the function works with."""

from __future__ import annotations

from dataclasses import dataclass

from darkroom.errors import TooLarge


@dataclass(frozen=True, slots=True)
class Limits:
    """What is refused before it is decoded.

    Parameters
    ----------
    max_bytes : int
        Of the file.
    max_pixels : int
        Width x height x frames.
    max_frames : int
        Of an animation.
    """

    max_bytes: int
    max_pixels: int
    max_frames: int


@dataclass(frozen=True, slots=True)
class Photo:
    """An image we take, as its header describes it.

    Parameters
    ----------
    format : str
        A key of :data:`~functions.process_image.formats.INPUT_FORMATS`, such as ``jpeg``.
    width, height : int
        In pixels, as stored (HEIC and AVIF: as decoded, turning and cropping belong to their decoding).
    frames : int
        Of an animated GIF or WebP; 1 for all else, whose first picture counts.
    orientation : int
        EXIF orientation, 1 to 8: what must be done to the stored pixels to show them upright.
    has_alpha : bool
        Whether the file has an alpha channel or a transparent colour.
    decoded_whole : bool
        A progressive JPEG, an interlaced PNG or a lossless WebP: decoding holds all of it in memory.
    bits : int
        Per sample, as decoded: 8, 10, 12, 16 or 32.
    full_chroma : bool
        Whether colour is stored at full size, as in 4:4:4.
    coded_pixels : int
        Of HEIC and AVIF, before the container crops them; 0 if the format has no such thing.
    camera : str or None
        Maker and model, such as ``Canon EOS 5D``.
    taken_at : str or None
        ISO 8601, local to where it was taken; with the offset if the camera knew it.
    location : tuple of two floats or None
        Latitude and longitude in degrees, north and east positive.
    """

    format: str
    width: int
    height: int
    frames: int = 1
    orientation: int = 1
    has_alpha: bool = False
    decoded_whole: bool = False
    bits: int = 8
    full_chroma: bool = False
    coded_pixels: int = 0
    camera: str | None = None
    taken_at: str | None = None
    location: tuple[float, float] | None = None

    @property
    def display_width(self) -> int:
        """Pixels across, once upright."""
        return self.height if self.orientation >= 5 else self.width

    @property
    def display_height(self) -> int:
        """Pixels down, once upright."""
        return self.width if self.orientation >= 5 else self.height


def check_size(size: int, limits: Limits) -> None:
    """Refuse a file by its size alone, which is known before it is fetched.

    Parameters
    ----------
    size : int
        Bytes.
    limits : Limits
        What to refuse.

    Raises
    ------
    TooLarge
        With both numbers.
    """
    if size > limits.max_bytes:
        raise TooLarge(f"the file has {size:,} bytes; at most {limits.max_bytes:,} are allowed")


@dataclass(frozen=True, slots=True)
class Rendition:
    """A finished rendition.

    Parameters
    ----------
    name : str
        Its name in the rendition set.
    body : bytes
        The encoded picture.
    content_type, extension : str
        Such as ``image/webp`` and ``webp``.
    width, height : int
        In pixels.
    frames : int
        Above 1 for an animation.
    """

    name: str
    body: bytes
    content_type: str
    extension: str
    width: int
    height: int
    frames: int


@dataclass(frozen=True, slots=True)
class Rendered:
    """All that is made of one photo.

    Parameters
    ----------
    renditions : tuple of Rendition
        One per spec, in the rendition set's order.
    placeholder : str
        Base64 of a ThumbHash, about 30 characters.
    dominant_colour : str
        ``#rrggbb``.
    """

    renditions: tuple[Rendition, ...]
    placeholder: str
    dominant_colour: str
