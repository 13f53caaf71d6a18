"""What one image task meets on its way: the ports that the adapters, and the tests' fakes, implement."""

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

from functions.process_image.images import ImageRecord, KnownImage, LatestFault, Tombstone
from functions.process_image.photo import Photo, Rendered, Rendition

#: An image rarely takes longer than this; one that starts with less time left may not finish.
SECONDS_TO_RENDER = 10


class Result(StrEnum):
    """How a task ended; each is counted under this name."""

    PROCESSED = "Processed"
    DUPLICATE = "Duplicate"
    SUPERSEDED = "Superseded"  #: another version is current, or none is any more
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
        """When this version came to be, an aware datetime."""

    @property
    def version_id(self) -> str | None:
        """None where the bucket keeps no versions."""

    @property
    def source(self) -> str:
        """What tells this content from any other of its key."""

    def read(self) -> bytes:
        """All of the object."""

    def close(self) -> None:
        """Give it up, read or not."""


class Uploads(Protocol):
    """The uploads bucket."""

    def open_current(self, bucket: str, key: str) -> Upload | None:
        """Open what S3 shows as current; None if that is nothing."""

    def has_version(self, bucket: str, key: str, version_id: str) -> bool:
        """Whether a version still exists, current or not."""


class Renderer(Protocol):
    """What makes renditions of a file."""

    def render(self, data: bytes, deadline: Deadline) -> tuple[Photo, Rendered]:
        """Identify a file, check it against the limits and make all renditions of it.

        Raises
        ------
        TooLarge, NotAnImage, UnsupportedFormat, TooManyPixels, TooManyFrames, DamagedImage
            It is not rendered.
        DecoderCrashed, DecoderOutOfMemory, DecoderTooSlow
            It was tried, and broke off.
        OutOfTime, ServiceUnavailable
            It may work later.
        """


class Renditions(Protocol):
    """The renditions bucket."""

    def put(self, keyed: dict[str, Rendition]) -> None:
        """Write every rendition under its key; returns when all are durable."""

    def mark_stale(self, keys: tuple[str, ...]) -> None:
        """Leave renditions that no record points to any more to the bucket's lifecycle."""

    def are_live(self, keys: Iterable[str]) -> bool:
        """Whether every rendition is there and none is marked stale."""

    def stored(self, image_key: str) -> tuple[str, ...]:
        """The keys of all renditions of an image, of whatever version."""

    def delete(self, keys: Sequence[str]) -> None:
        """Delete renditions at once."""


class Tasks(Protocol):
    """The tasks table: has this task been done, and who is at it."""

    def claim(self, task: ImageTask | Unreadable, *, until: float, again: bool) -> Claim | None:
        """Take the task on; None if it was done before. Raises InProgressElsewhere.

        The claim holds ``until`` (seconds since the epoch), when the function that holds it is answered or dead.
        ``again`` lets a task that was moved to the dead-letter queue be done after all: its message was redriven.
        """

    def finish(self, claim: Claim, result: Result, error_code: str | None) -> None:
        """Remember that the task is done."""

    def release(self, claim: Claim, *, begun: bool) -> None:
        """Give the task back for another attempt; the next claim counts one that did not begin."""


class Images(Protocol):
    """The images table: one record per image.

    A write is refused, and returns None, if there was another since the image was read; else it returns what is known
    now.
    """

    def read(self, image_key: str) -> KnownImage:
        """What is known of a key."""

    def publish(self, image: KnownImage, record: ImageRecord) -> KnownImage | None:
        """Publish a record in place of what was read."""

    def withdraw(self, image: KnownImage, bucket: str) -> KnownImage | None:
        """Leave a tombstone in place of what was read."""

    def note_fault(self, image: KnownImage, fault: LatestFault, *, keep_published: bool) -> KnownImage | None:
        """Remember why the current version cannot be rendered; what is published stays so only if that is said."""

    def confirm(self, image: KnownImage, *, forget_fault: bool) -> KnownImage | None:
        """Say that what was read is what S3 shows, so that nobody replaces it by what was seen before."""

    def forget_replaced(self, image: KnownImage) -> None:
        """Empty the list of replaced renditions, unless something else is published by now."""


class Results(Protocol):
    """The results queue."""

    def announce(self, task_id: str, published: ImageRecord | Tombstone) -> None:
        """Tell that an image is finished or withdrawn; after a crash the same task may be told again."""


class Budget(Protocol):
    """Memory that the tasks of one function share."""

    @property
    def capacity(self) -> int:
        """Bytes in all."""

    def reserve(self, amount: int) -> AbstractContextManager[None]:
        """Wait until ``amount`` bytes are free and hold them."""
