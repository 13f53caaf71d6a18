"""The record of an image: what is published under its key.

The record follows what S3 shows as current under the key (docs/decisions/0019-s3-shows.md). Each write of it is
conditional on the revision that was read before S3 was asked.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import sha256

from functions.process_image.formats import INPUT_FORMATS

#: What the image keys of uploads in buckets other than the stack's own begin with.
OTHER_BUCKETS = "other-buckets/"
_LONGEST_OBJECT_KEY = 1024
_LONGEST_ENDING = len("/") + 24 + len("/") + 32 + len(".avif")
_FOLDER = re.compile(r"([0-9a-f]{12})[0-9a-f]{12}|[0-9a-f]{16}")  # the second: from releases without a revision
_FILE = re.compile(r"[a-z0-9-]{1,32}\.[a-z]{3,4}")
_SUFFIXES = tuple(suffix for image_format in INPUT_FORMATS.values() for suffix in image_format.suffixes)


class State(StrEnum):
    """The state of a record."""

    READY = "READY"  #: all renditions are there
    REJECTED = "REJECTED"  #: nothing is published, and the current version cannot be rendered
    DELETED = "DELETED"  #: nothing is published, because S3 shows nothing under the key


@dataclass(frozen=True)
class ImageVersion:
    """One version of one upload, rendered with one rendition set.

    Attributes
    ----------
    source:
        S3's version id, or the ETag in a bucket without versions.
    rendition_set:
        Fingerprint of the rendition set.
    """

    source: str
    rendition_set: str


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
    """A published image with all that readers need. ``taken_at`` and ``uploaded_at`` are ISO 8601.

    ``version_order`` sorts what was published or withdrawn under one key from oldest to newest, as text.
    ``renditions`` has each rendition once, in the format that most clients show; ``other_formats`` has its others.
    """

    image_key: str
    bucket: str
    version: ImageVersion
    version_order: str
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
    other_formats: tuple[StoredRendition, ...] = ()

    @property
    def stored(self) -> tuple[StoredRendition, ...]:
        """Return everything that is stored of it."""
        return self.renditions + self.other_formats


@dataclass(frozen=True)
class Tombstone:
    """The record of a deleted image. ``deleted_at`` is ISO 8601."""

    image_key: str
    bucket: str
    version_order: str
    deleted_at: str


@dataclass(frozen=True)
class LatestFault:
    """Why the current version could not be rendered. ``at`` is ISO 8601."""

    task_id: str
    error_code: str
    reason: str
    at: str
    version_order: str
    version_id: str | None
    version: ImageVersion


@dataclass(frozen=True)
class KnownImage:
    """The content of the images table for a key.

    Attributes
    ----------
    revision:
        Counts the writes; 0 if there is no record. A write is refused if it has changed.
    published:
        The record that readers see, or the tombstone.
    replaced:
        Keys of replaced renditions that are not marked stale yet.
    """

    image_key: str
    revision: int = 0
    published: ImageRecord | Tombstone | None = None
    fault: LatestFault | None = None
    replaced: tuple[str, ...] = ()

    @property
    def record(self) -> ImageRecord | None:
        """Return the published image, if there is one."""
        return self.published if isinstance(self.published, ImageRecord) else None

    @property
    def version_order(self) -> str:
        """Return the order of what is published, or of the fault if nothing is."""
        known = self.published or self.fault
        return known.version_order if known else ""

    @property
    def rendition_keys(self) -> frozenset[str]:
        """Return the keys of the published renditions."""
        return frozenset(rendition.key for rendition in self.record.stored) if self.record else frozenset()

    @property
    def is_known(self) -> bool:
        """Return whether there is a record at all."""
        return bool(self.revision or self.published or self.fault)

    def record_of(self, version: ImageVersion) -> ImageRecord | None:
        """Return the published image if it is exactly this version, rendered with the same rendition set."""
        return self.record if self.record and self.record.version == version else None

    def next_order(self, now: datetime) -> str:
        """Return the ``version_order`` of what is written now: later than any before under this key.

        Parameters
        ----------
        now:
            An aware datetime in UTC.
        """
        earlier = [known.version_order for known in (self.published, self.fault) if known]
        order = _order(now)
        if earlier and order <= max(earlier):
            # The clock of the previous function was ahead, or there are two writes in one microsecond.
            order = _order(datetime.fromisoformat(max(earlier).partition("/")[0]) + timedelta(seconds=1))
        return order

    def is_stray(self, key: str) -> bool:
        """Return whether a rendition of this image belongs to no record and never will.

        A rendition made for the current revision may still be published.
        """
        return key not in self.rendition_keys and _made_for(key) < self.revision


def _order(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S.%f}Z"


def image_key_of(bucket: str, key: str, own_bucket: str) -> str:
    """Return the image key of an upload: its own key or, in another bucket, ``other-buckets/<bucket>/<key>``.

    A key of the stack's own bucket that begins so gets the long form, too, so that no two uploads share an image key.
    """
    if bucket == own_bucket and not key.startswith(OTHER_BUCKETS):
        return key
    return f"{OTHER_BUCKETS}{bucket}/{key}"


def upload_of(image_key: str, own_bucket: str) -> tuple[str, str]:
    """Return the bucket and the key of the upload with this image key."""
    if not image_key.startswith(OTHER_BUCKETS):
        return own_bucket, image_key
    bucket, _, key = image_key.removeprefix(OTHER_BUCKETS).partition("/")
    return bucket, key


def rendition_key(image_key: str, revision: int, version: ImageVersion, name: str, extension: str) -> str:
    """Return a rendition's key: ``<image key>/<revision and version>/<rendition>.<extension>``.

    The name depends on everything that the content depends on, and on the revision that it may replace: a replaced
    version that becomes current again must not reuse its old renditions, which are marked stale.

    Parameters
    ----------
    revision:
        Revision of the record that the version would replace.
    """
    content = sha256(f"{version.source}\0{version.rendition_set}".encode()).hexdigest()[:12]
    return f"{rendition_prefix(image_key)}{revision:012x}{content}/{name}.{extension}"


def rendition_prefix(image_key: str) -> str:
    """Return the prefix of the keys of an image's renditions: its key, or a hash if the key is too long."""
    if len(image_key.encode()) + _LONGEST_ENDING > _LONGEST_OBJECT_KEY:
        image_key = f"long-keys/{sha256(image_key.encode()).hexdigest()}"
    return f"{image_key}/"


def is_rendition_of(image_key: str, key: str) -> bool:
    """Return whether a key of the renditions bucket belongs to this image, and not to one with a longer key."""
    prefix = rendition_prefix(image_key)
    folder, _, file = key.removeprefix(prefix).partition("/")
    return key.startswith(prefix) and bool(_FOLDER.fullmatch(folder)) and bool(_FILE.fullmatch(file))


def _made_for(key: str) -> int:
    """Return the revision that a rendition was made to replace; -1 if its key does not contain it."""
    folder = _FOLDER.fullmatch(key.split("/")[-2])
    return int(folder[1], 16) if folder and folder[1] else -1


def has_image_suffix(key: str) -> bool:
    """Return whether S3 notifies of uploads under this key."""
    return key.lower().endswith(_SUFFIXES)
