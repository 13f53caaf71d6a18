"""The properties of an upload, and its renditions. It needs no image library."""

from __future__ import annotations

from dataclasses import dataclass

from darkroom.errors import TooLarge


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits that a file must keep before it is decoded.

    Parameters
    ----------
    max_bytes : int
        Bytes of the file.
    max_pixels : int
        Width x height x frames.
    max_frames : int
        Frames of an animation.
    """

    max_bytes: int
    max_pixels: int
    max_frames: int


@dataclass(frozen=True, slots=True)
class Photo:
    """A supported image, as its header describes it.

    Parameters
    ----------
    format : str
        A key of :data:`~functions.process_image.formats.INPUT_FORMATS`, such as ``jpeg``.
    width, height : int
        In pixels, as stored (HEIC and AVIF: as decoded, turning and cropping belong to their decoding).
    frames : int
        Frames of an animated GIF or WebP; 1 for other formats, whose first picture is rendered.
    orientation : int
        EXIF orientation, 1 to 8: the transformation that shows the stored pixels upright.
    has_alpha : bool
        Whether the file has an alpha channel or a transparent colour.
    decoded_whole : bool
        A progressive JPEG, an interlaced PNG or a lossless WebP: decoding holds all of it in memory.
    bits : int
        Per sample, as decoded: 8, 10, 12, 16 or 32.
    full_chroma : bool
        Whether colour is stored at full size, as in 4:4:4.
    coded_pixels : int
        Pixels of HEIC and AVIF before the container crops them; 0 for other formats.
    camera : str or None
        Maker and model, such as ``Canon EOS 5D``.
    taken_at : str or None
        ISO 8601, in local time; with the offset if the camera recorded it.
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
        """Width in pixels of the upright photo."""
        return self.height if self.orientation >= 5 else self.width

    @property
    def display_height(self) -> int:
        """Height in pixels of the upright photo."""
        return self.width if self.orientation >= 5 else self.height


def check_size(size: int, limits: Limits) -> None:
    """Refuse a file by its size, which is known before the download.

    Parameters
    ----------
    size : int
        Bytes.
    limits : Limits
        The limits.

    Raises
    ------
    TooLarge
        The file is too large; the message has both numbers.
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
    """The renditions, placeholder and colour of one photo.

    Parameters
    ----------
    renditions : tuple of Rendition
        One per spec for such an upload, in the rendition set's order.
    placeholder : str
        Base64 of a ThumbHash, about 30 characters.
    dominant_colour : str
        ``#rrggbb``.
    """

    renditions: tuple[Rendition, ...]
    placeholder: str
    dominant_colour: str
