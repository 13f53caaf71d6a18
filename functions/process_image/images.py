"""An image's published version, and the order of its versions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

# Keys sort as hexadecimal numbers only at one length; S3 says to pad on the right.
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
_SEQUENCER_LENGTH = 64
_LONGEST_OBJECT_KEY = 1024


@dataclass(frozen=True)
class ImageVersion:
    """One version of one upload, rendered with one rendition set.

    Attributes
    ----------
    source:
        S3's version id, or the ETag in a bucket without versions.
    order:
        Sorts the versions of one key from oldest to newest, as text.
    rendition_set:
        Fingerprint of the rendition set.
    """

    source: str
    order: str
    rendition_set: str

    @property
    def name(self) -> str:
        """Return a short name that differs wherever the renditions could."""
        # With the order: a version that was replaced and comes back must not reuse its old renditions, marked stale.
        return sha256(f"{self.source}\0{self.order}\0{self.rendition_set}".encode()).hexdigest()[:16]


def version_order(last_modified: datetime, sequencer: str | None, source: str) -> str:
    """Place a version among the versions of its key.

    S3's own notion of the newest version is the latest Last-Modified. Within one second the sequencer decides, and
    the version's id makes the order total (docs/decisions/0005-newest-wins.md).

    Parameters
    ----------
    last_modified:
        The version's Last-Modified, an aware datetime.
    sequencer:
        The event's sequencer in hexadecimal; None for a plain task.
    """
    padded = (sequencer or "").upper().ljust(_SEQUENCER_LENGTH, "0")
    return f"{last_modified:%Y-%m-%dT%H:%M:%SZ}/{padded}/{source}"


@dataclass(frozen=True)
class StoredRendition:
    """A rendition in the renditions bucket. Width and height in pixels. Equal renditions share one ``key``."""

    name: str
    key: str
    content_type: str
    width: int
    height: int
    bytes: int


@dataclass(frozen=True)
class ImageRecord:
    """The newest version of an image with all that readers need. ``taken_at`` and ``uploaded_at`` are ISO 8601."""

    image_key: str
    bucket: str
    version: ImageVersion
    version_id: str | None
    uploaded_at: str
    format: str
    bytes: int
    width: int
    height: int
    frames: int
    camera: str | None
    taken_at: str | None
    location: tuple[float, float] | None
    placeholder: str
    dominant_colour: str
    renditions: tuple[StoredRendition, ...]


@dataclass(frozen=True)
class PublishedImage:
    """The published version of an image, and the keys of replaced renditions that are not marked stale yet."""

    record: ImageRecord
    replaced: tuple[str, ...]

    @property
    def rendition_keys(self) -> frozenset[str]:
        """Return the keys of the published renditions."""
        return frozenset(rendition.key for rendition in self.record.renditions)

    def is_of(self, version: ImageVersion) -> bool:
        """Return whether exactly this version is published, rendered with the same rendition set."""
        mine = self.record.version
        return (mine.source, mine.rendition_set) == (version.source, version.rendition_set)

    def replaces(self, version: ImageVersion) -> bool:
        """Return whether a newer upload is published. The same upload rendered with another set is not newer."""
        mine = self.record.version
        return mine.source != version.source and mine.order > version.order


def rendition_key(image_key: str, version: ImageVersion, name: str, extension: str) -> str:
    """Return a rendition's key: ``<image key>/<version>/<rendition>.<extension>``.

    An image key too long for that is replaced by its hash.
    """
    ending = f"/{version.name}/{name}.{extension}"
    if len(image_key.encode()) + len(ending) > _LONGEST_OBJECT_KEY:
        image_key = f"long-keys/{sha256(image_key.encode()).hexdigest()}"
    return image_key + ending
