"""The ports of an image task, which the adapters and the tests' fakes implement."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from darkroom.deadline import Deadline
from darkroom.image_messages import ImageTask
from darkroom.messages import Unreadable

from functions.process_image.events import ImageEvent
from functions.process_image.images import ImageRecord, KnownImage, LatestFault
from functions.process_image.photo import Photo, Rendered, Rendition

#: An image rarely takes longer than this; one that starts with less time left may not finish.
SECONDS_TO_RENDER = 10


class Result(StrEnum):
    """How a task ended; each is counted under this name."""

    PROCESSED = "Processed"
    DUPLICATE = "Duplicate"
    SUPERSEDED = "Superseded"  #: another version is current, or no version
    DELETED = "Deleted"  #: the image was withdrawn
    UNCHANGED = "Unchanged"  #: a deletion that changes nothing that is published
    DEAD_LETTERED = "DeadLettered"


@dataclass(frozen=True)
class Claim:
    """The right to do a task, until it is finished, released or out of date.

    ``attempt`` counts from 1. ``taken_over``: the claim before ran out, neither finished nor released. ``not_begun``:
    how many claims before were released before the task began.
    """

    task_id: str
    owner: str
    attempt: int
    taken_over: bool = False
    not_begun: int = 0


class Upload(Protocol):
    """An object of the uploads bucket, opened but not yet read. ``size`` in bytes."""

    @property
    def size(self) -> int:
        """Bytes."""

    @property
    def last_modified(self) -> datetime:
        """When this version was stored, an aware datetime."""

    @property
    def version_id(self) -> str | None:
        """The version id; None in a bucket without versions."""

    @property
    def source(self) -> str:
        """Identifies this content among all of its key."""

    def read(self) -> bytes:
        """Read the whole object."""

    def close(self) -> None:
        """Close the connection, read or not."""


class Uploads(Protocol):
    """The uploads bucket."""

    def open_current(self, bucket: str, key: str) -> Upload | None:
        """Open the current version; None if there is none."""

    def has_version(self, bucket: str, key: str, version_id: str) -> bool:
        """Whether a version still exists, current or not."""


class Renderer(Protocol):
    """Makes the renditions of a file."""

    def render(self, data: bytes, deadline: Deadline) -> tuple[Photo, Rendered]:
        """Identify a file, check it against the limits and make all renditions of it.

        Raises
        ------
        TooLarge, NotAnImage, UnsupportedFormat, TooManyPixels, TooManyFrames, DamagedImage
            It is not rendered.
        DecoderCrashed, DecoderOutOfMemory, DecoderTooSlow
            Rendering started and failed.
        OutOfTime, ServiceUnavailable
            It may work later.
        """


class Renditions(Protocol):
    """The renditions bucket."""

    def put(self, keyed: dict[str, Rendition]) -> None:
        """Write every rendition under its key; returns when all are durable."""

    def mark_stale(self, keys: tuple[str, ...]) -> None:
        """Mark renditions that no record points to, so that the bucket's lifecycle rule deletes them."""

    def are_live(self, keys: Iterable[str]) -> bool:
        """Whether every rendition is there and none is marked stale."""

    def stored(self, image_key: str) -> tuple[str, ...]:
        """The keys of all renditions of an image, of every version."""

    def delete(self, keys: Sequence[str]) -> None:
        """Delete renditions at once."""


class Tasks(Protocol):
    """The tasks table: whether a task is done, and which delivery is processing it."""

    def claim(self, task: ImageTask | Unreadable, *, until: float, again: bool) -> Claim | None:
        """Claim the task; None if it was done before. Raises InProgressElsewhere.

        The claim holds ``until`` (seconds since the epoch), when the function that holds it is answered or dead.
        ``again`` allows a task that was moved to the dead-letter queue: its message was redriven.
        """

    def finish(self, claim: Claim, result: Result, error_code: str | None) -> None:
        """Record that the task is done."""

    def release(self, claim: Claim, *, begun: bool) -> None:
        """Release the task for another attempt; the next claim counts one that did not begin."""


class Images(Protocol):
    """The images table: one record per image.

    A write returns the new item. It is refused, and returns None, if there was another write since the image was
    read.
    """

    def read(self, image_key: str) -> KnownImage:
        """Read the item of a key."""

    def publish(self, image: KnownImage, record: ImageRecord) -> KnownImage | None:
        """Replace the record that was read."""

    def withdraw(self, image: KnownImage, bucket: str) -> KnownImage | None:
        """Replace the record that was read by a tombstone."""

    def note_fault(self, image: KnownImage, fault: LatestFault, *, keep_published: bool) -> KnownImage | None:
        """Store why the current version cannot be rendered; the published image stays only if ``keep_published``."""

    def confirm(self, image: KnownImage, *, forget_fault: bool) -> KnownImage | None:
        """Confirm that the record matches S3, so that a delivery with an older view cannot replace it."""

    def forget_replaced(self, image: KnownImage) -> None:
        """Empty the list of replaced renditions, unless another version is published meanwhile."""


class ImageEvents(Protocol):
    """The topic of image events."""

    def publish(self, event: ImageEvent) -> None:
        """Publish an event; after a crash it may be published again."""


class Budget(Protocol):
    """Memory that the tasks of one function share."""

    @property
    def capacity(self) -> int:
        """Bytes in all."""

    def reserve(self, amount: int) -> AbstractContextManager[None]:
        """Wait until ``amount`` bytes are free and hold them."""
