"""Everything that the function knows about each image format: a new output format is a new row here.

Standard library only: the function's own process reads it at cold start.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class InputFormat:
    """A format of uploads.

    Parameters
    ----------
    name : str
        Darkroom's name, as in records.
    label : str
        Its name in messages.
    suffixes : tuple of str
        Suffixes of file names in lower case. The bucket sends events only for these, each as ``.jpg``, ``.Jpg``
        and ``.JPG``.
    magic : bytes
        Regular expression of its first bytes; empty for formats in a HEIF container.
    """

    name: str
    label: str
    suffixes: tuple[str, ...]
    magic: bytes = b""


@dataclass(frozen=True, slots=True)
class OutputFormat:
    """A format of renditions.

    Parameters
    ----------
    name, extension, content_type : str
        In ``renditions.toml``, at the end of object keys, and in HTTP.
    saver : str
        The libvips operation that writes it, without the suffix ``_buffer``.
    options : mapping
        Options that the saver always gets.
    usual_quality : int or None
        The default quality; None for a lossless format, which has no quality.
    efforts : tuple of two ints or None
        The encoder's highest effort and the default; None if it has none. The numbers are libvips's
        (https://www.libvips.org/API/current/method.Image.webpsave.html, .../method.Image.heifsave.html).
    has_alpha : bool
        Whether transparency is kept; else it becomes white.
    is_animated : bool
        Whether animations stay animated; else the first frame is shown.
    """

    name: str
    extension: str
    content_type: str
    saver: str
    options: MappingProxyType[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    usual_quality: int | None = 80
    efforts: tuple[int, int] | None = None
    has_alpha: bool = True
    is_animated: bool = False


_INPUT: Final = (
    InputFormat(
        name="jpeg",
        label="JPEG",
        suffixes=(".jpg", ".jpeg", ".jfif", ".jpe"),
        magic=rb"\xff\xd8\xff",
    ),
    InputFormat(
        name="png",
        label="PNG",
        suffixes=(".png",),
        magic=rb"\x89PNG\r\n\x1a\n",
    ),
    InputFormat(
        name="webp",
        label="WebP",
        suffixes=(".webp",),
        magic=rb"RIFF....WEBP",
    ),
    InputFormat(
        name="gif",
        label="GIF",
        suffixes=(".gif",),
        magic=rb"GIF8[79]a",
    ),
    InputFormat(
        name="tiff",
        label="TIFF",
        suffixes=(".tif", ".tiff"),
        magic=rb"(?!II.{6}CR\x02)II[*+]\0|MM\0[*+]",
    ),
    InputFormat(
        name="avif",
        label="AVIF",
        suffixes=(".avif", ".avifs"),
    ),
    InputFormat(
        name="heic",
        label="HEIC",
        suffixes=(".heic", ".heif", ".hif"),
    ),
)

# First what every client shows, last what the fewest show.
_OUTPUT: Final = (
    OutputFormat(
        "jpeg",
        "jpg",
        "image/jpeg",
        "jpegsave",
        MappingProxyType({"optimize_coding": True, "interlace": True}),
        has_alpha=False,
    ),
    OutputFormat("png", "png", "image/png", "pngsave", usual_quality=None),
    OutputFormat("webp", "webp", "image/webp", "webpsave", efforts=(6, 4), is_animated=True),
    OutputFormat(
        "avif",
        "avif",
        "image/avif",
        "heifsave",
        MappingProxyType({"compression": "av1"}),
        usual_quality=62,
        efforts=(9, 0),
    ),
)

#: By name; the output formats in the order above.
INPUT_FORMATS: Final = MappingProxyType({image_format.name: image_format for image_format in _INPUT})
OUTPUT_FORMATS: Final = MappingProxyType({image_format.name: image_format for image_format in _OUTPUT})

#: Suffixes of file names with events, each in three spellings: S3's filter is case-sensitive.
KEY_SUFFIXES: Final = tuple(
    spelling
    for image_format in _INPUT
    for suffix in image_format.suffixes
    for spelling in (suffix, f".{suffix[1:].capitalize()}", suffix.upper())
)

#: Brands in the ``ftyp`` box of a HEIF container, ISO/IEC 23008-12 annex B and AVIF's own. They do not
#: always tell the two formats apart.
HEIF_BRANDS: Final = frozenset(
    {b"avif", b"avis"}
    | {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
    | {b"mif1", b"mif2", b"mif3", b"msf1", b"miaf"}
)

_LABELS: Final = [image_format.label for image_format in _INPUT]
#: The end of every refusal.
ALLOWED: Final = f"allowed are {', '.join(_LABELS[:-1])} and {_LABELS[-1]}"


def content_type_of(key: str) -> str:
    """Return the content type of a rendition by its object key."""
    extension = key.rpartition(".")[2]
    return next((f.content_type for f in _OUTPUT if f.extension == extension), "application/octet-stream")
