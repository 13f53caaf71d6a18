"""Adapters in memory that keep the contracts of the real ones, and fail or die where a test says.

`test_adapters` runs the same contract tests over these and over the real ones.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from hashlib import sha256
from threading import Event, RLock
from time import time
from uuid import uuid4

from darkroom.addresses import Addresses
from darkroom.deadline import Deadline
from darkroom.errors import DarkroomError, InProgressElsewhere, ServiceUnavailable
from darkroom.image_messages import ImageTask, read_body
from darkroom.messages import Unreadable
from PIL import Image

from functions.process_image.events import ImageEvent
from functions.process_image.images import ImageRecord, KnownImage, LatestFault, Tombstone, is_rendition_of
from functions.process_image.memory_budget import MemoryBudget
from functions.process_image.photo import Limits, Photo, Rendered, Rendition
from functions.process_image.ports import Claim, Result
from functions.process_image.process import Dependencies, Outcome, process
from functions.process_image.processing import identify, render
from functions.process_image.rendition_set import RenditionSet, RenditionSpec, rendition_set_of
from tests.unit.events import BUCKET, EXISTING_BUCKET

ADDRESSES = Addresses("https://images.example.com")
TWO_SIZES = rendition_set_of(
    (
        RenditionSpec("small", 8, 8, format="jpeg"),
        RenditionSpec("thumb", 4, 4, format="png"),
    )
)
TWO_FORMATS = rendition_set_of(
    tuple(
        RenditionSpec(name, side, side, format=one, effort=effort)
        for name, side in (("small", 8), ("thumb", 4))
        for one, effort in (("png", None), ("webp", 0))
    )
)
ONE_SIZE = rendition_set_of((RenditionSpec("only", 5, 5, format="png"),))
LIMITS = Limits(max_bytes=20_000, max_pixels=10_000, max_frames=10)


@cache
def photo(colour: str = "teal", size: tuple[int, int] = (8, 6)) -> bytes:
    """A tiny JPEG."""
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "JPEG")
    return file.getvalue()


class Killed(BaseException):
    """The process is gone. Its `finally` blocks still run here, but nothing they call is reached any more."""


class Trouble(StrEnum):
    """What happens at a call."""

    KILLED = "killed before"
    REFUSED = "refused"
    ANSWER_LOST = "done, but its answer lost"


@dataclass
class Calls:
    """The calls of one worker to the outside, in order; at the one numbered ``at``, from 1, there is trouble."""

    trouble: Trouble | None = None
    at: int = 0
    before: Callable[[str], None] = lambda name: None
    made: list[str] = field(default_factory=list)
    _dead: bool = False

    @contextmanager
    def call(self, name: str) -> Iterator[None]:
        if self._dead:
            raise Killed
        self.made.append(name)
        trouble = self.trouble if len(self.made) == self.at else None
        self.before(name)
        if trouble is Trouble.KILLED:
            self._dead = True
            raise Killed
        if trouble is Trouble.REFUSED:
            raise ServiceUnavailable(f"{name}: refused")
        yield
        if trouble is Trouble.ANSWER_LOST:
            raise ServiceUnavailable(f"{name}: the answer was lost")


class Hold:
    """Holds a worker at its first call of a name: ``Calls(before=hold)``. Wait for ``reached``, then set ``go_on``."""

    def __init__(self, call: str) -> None:
        self.call = call
        self.reached, self.go_on = Event(), Event()

    def __call__(self, name: str) -> None:
        if name == self.call:
            self.reached.set()
            assert self.go_on.wait(60)


@dataclass(frozen=True)
class UploadedVersion:
    """One version of an object in the uploads bucket."""

    version_id: str
    data: bytes | None
    last_modified: datetime
    is_versioned: bool = True

    @property
    def is_marker(self) -> bool:
        """Whether this is a delete marker."""
        return self.data is None

    @property
    def source(self) -> str:
        """What the function calls it by."""
        return self.version_id if self.is_versioned else sha256(self.data or b"").hexdigest()


@dataclass(frozen=True)
class FakeUpload:
    version: UploadedVersion
    calls: Calls

    @property
    def size(self) -> int:
        return len(self.version.data or b"")

    @property
    def last_modified(self) -> datetime:
        return self.version.last_modified

    @property
    def version_id(self) -> str | None:
        return self.version.version_id if self.version.is_versioned else None

    @property
    def source(self) -> str:
        return self.version.source

    def read(self) -> bytes:
        with self.calls.call("read"):
            return self.version.data or b""

    def close(self) -> None:
        pass


def stored_as(bucket: str, key: str) -> str:
    """Where `World.uploads` has an upload: under its key or, in another bucket, `<bucket>:<key>`."""
    return key if bucket == BUCKET else f"{bucket}:{key}"


@dataclass(frozen=True)
class FakeUploads:
    versions: dict[str, list[UploadedVersion]]
    calls: Calls

    def open_current(self, bucket: str, key: str) -> FakeUpload | None:
        with self.calls.call("open"):
            found = self.versions.get(stored_as(bucket, key), [])
            return FakeUpload(found[-1], self.calls) if found and not found[-1].is_marker else None

    def has_version(self, bucket: str, key: str, version_id: str) -> bool:
        with self.calls.call("has version"):
            return any(
                v.version_id == version_id and not v.is_marker for v in self.versions.get(stored_as(bucket, key), [])
            )


@dataclass(frozen=True)
class FakeRenderer:
    """Renders in this process."""

    limits: Limits
    rendition_set: RenditionSet

    def render(self, data: bytes, deadline: Deadline) -> tuple[Photo, Rendered]:
        return _rendered(data, self.limits, self.rendition_set)


@cache
def _rendered(data: bytes, limits: Limits, rendition_set: RenditionSet) -> tuple[Photo, Rendered]:
    photo = identify(data, limits)
    return photo, render(data, photo, rendition_set)


@dataclass
class StoredObject:
    """One object of the renditions bucket."""

    body: bytes
    content_type: str
    stale: bool = False


@dataclass(frozen=True)
class FakeRenditions:
    objects: dict[str, StoredObject]
    calls: Calls

    def put(self, keyed: dict[str, Rendition]) -> None:
        for key, rendition in keyed.items():
            with self.calls.call("put"):
                self.objects[key] = StoredObject(rendition.body, rendition.content_type)

    def mark_stale(self, keys: tuple[str, ...]) -> None:
        for key in keys:
            with self.calls.call("mark stale"):
                if key in self.objects:
                    self.objects[key].stale = True

    def are_live(self, keys: Iterable[str]) -> bool:
        with self.calls.call("are live"):
            return all(key in self.objects and not self.objects[key].stale for key in keys)

    def stored(self, image_key: str) -> tuple[str, ...]:
        with self.calls.call("list"):
            return tuple(key for key in self.objects if is_rendition_of(image_key, key))

    def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            with self.calls.call("delete"):
                self.objects.pop(key, None)


@dataclass
class TaskItem:
    """One item of the tasks table."""

    owner: str | None
    claimed_until: float
    attempts: int = 1
    not_begun: int = 0
    outcome: Result | None = None
    error_code: str | None = None


@dataclass(frozen=True)
class FakeTasks:
    items: dict[str, TaskItem] = field(default_factory=dict)
    now: Callable[[], float] = time
    calls: Calls = field(default_factory=Calls)
    lock: RLock = field(default_factory=RLock)

    def claim(self, task: ImageTask | Unreadable, *, until: float, again: bool) -> Claim | None:
        with self.calls.call("claim"), self.lock:
            item = self.items.get(task.task_id)
            if item and item.outcome and not (again and item.outcome is Result.DEAD_LETTERED):
                return None
            if item and not item.outcome and item.claimed_until > self.now():
                raise InProgressElsewhere("Somebody is at it.", retry_after=item.claimed_until - self.now())
            claim = Claim(
                task.task_id,
                owner=uuid4().hex,
                attempt=item.attempts + 1 if item else 1,
                taken_over=item is not None and item.outcome is None and item.claimed_until > 0,
                not_begun=item.not_begun if item else 0,
            )
            self.items[task.task_id] = TaskItem(claim.owner, until, claim.attempt, claim.not_begun)
            return claim

    def finish(self, claim: Claim, result: Result, error_code: str | None) -> None:
        with self.calls.call("finish"), self.lock:
            item = self._mine(claim)
            if item is None:
                raise ServiceUnavailable("Another delivery took the task over.")
            item.owner, item.outcome, item.error_code = None, result, error_code

    def release(self, claim: Claim, *, begun: bool) -> None:
        try:
            with self.calls.call("release"), self.lock:
                if item := self._mine(claim):
                    item.claimed_until = 0
                    item.not_begun += not begun
        except ServiceUnavailable:
            return

    def _mine(self, claim: Claim) -> TaskItem | None:
        item = self.items.get(claim.task_id)
        return item if item and item.owner == claim.owner else None


@dataclass(frozen=True)
class FakeImages:
    items: dict[str, KnownImage] = field(default_factory=dict)
    calls: Calls = field(default_factory=Calls)
    lock: RLock = field(default_factory=RLock)

    def read(self, image_key: str) -> KnownImage:
        with self.calls.call("look up"), self.lock:
            return self.items.get(image_key, KnownImage(image_key))

    def publish(self, image: KnownImage, record: ImageRecord) -> KnownImage | None:
        live = {rendition.key for rendition in record.stored}
        replaced = tuple(key for key in (*image.replaced, *sorted(image.rendition_keys)) if key not in live)
        return self._write("publish", image, KnownImage(image.image_key, published=record, replaced=replaced))

    def withdraw(self, image: KnownImage, bucket: str) -> KnownImage | None:
        now = datetime.now(UTC)
        tombstone = Tombstone(image.image_key, bucket, image.next_order(now), now.isoformat(timespec="milliseconds"))
        return self._write("withdraw", image, KnownImage(image.image_key, published=tombstone))

    def note_fault(self, image: KnownImage, fault: LatestFault, *, keep_published: bool) -> KnownImage | None:
        kept = image if keep_published and image.record else KnownImage(image.image_key)
        return self._write("note fault", image, replace(kept, fault=fault))

    def confirm(self, image: KnownImage, *, forget_fault: bool) -> KnownImage | None:
        return self._write("confirm", image, replace(image, fault=None if forget_fault else image.fault))

    def forget_replaced(self, image: KnownImage) -> None:
        with self.calls.call("forget replaced"), self.lock:
            now = self.items[image.image_key]
            if now.version_order == image.version_order:
                self.items[image.image_key] = replace(now, replaced=())

    def _write(self, name: str, image: KnownImage, by: KnownImage) -> KnownImage | None:
        with self.calls.call(name), self.lock:
            if self.items.get(image.image_key, KnownImage("")).revision != image.revision:
                return None
            self.items[image.image_key] = replace(by, revision=image.revision + 1)
            return self.items[image.image_key]


@dataclass(frozen=True)
class FakeImageEvents:
    told: list[ImageEvent]
    calls: Calls

    def publish(self, event: ImageEvent) -> None:
        with self.calls.call("tell"):
            self.told.append(event)


@dataclass(frozen=True)
class DeadLetter:
    """One message of the dead-letter queue."""

    body: str
    task_id: str
    error_code: str
    reason: str


@dataclass(frozen=True)
class FakeDeadLetters:
    letters: list[DeadLetter]
    calls: Calls

    def send(self, body: str, task_id: str, fault: DarkroomError) -> None:
        with self.calls.call("dead letter"):
            self.letters.append(DeadLetter(body, task_id, fault.error_code, str(fault)))


@dataclass
class World:
    """Everything that survives a worker: buckets, tables, queues and the clock."""

    uploads: dict[str, list[UploadedVersion]] = field(default_factory=dict)
    renditions: dict[str, StoredObject] = field(default_factory=dict)
    tasks: dict[str, TaskItem] = field(default_factory=dict)
    images: dict[str, KnownImage] = field(default_factory=dict)
    told: list[ImageEvent] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    taken_over: list[str] = field(default_factory=list)
    seconds_passed: float = 0
    _lock: RLock = field(default_factory=RLock)

    def now(self) -> float:
        return time() + self.seconds_passed

    def upload(
        self, key: str = "a.jpg", version_id: str = "v1", *, second: int = 0, data: bytes | None = None
    ) -> UploadedVersion:
        """Put a version into the uploads bucket."""
        moment = datetime(2026, 11, 22, 9, 30, second, tzinfo=UTC)
        version = UploadedVersion(version_id, photo() if data is None else data, moment)
        self.uploads.setdefault(key, []).append(version)
        return version

    def delete(self, key: str = "a.jpg", marker: str = "m1") -> None:
        """Put a delete marker on top."""
        self.uploads.setdefault(key, []).append(UploadedVersion(marker, None, datetime(2026, 11, 22, tzinfo=UTC)))

    def remove(self, version_id: str, key: str = "a.jpg") -> None:
        """Remove a version, or a delete marker, for good."""
        self.uploads[key] = [version for version in self.uploads[key] if version.version_id != version_id]

    def dependencies(
        self,
        calls: Calls | None = None,
        *,
        rendition_set: RenditionSet = TWO_SIZES,
        keep_location: bool = False,
    ) -> Dependencies:
        """One worker's view of the world."""
        calls = calls or Calls()
        return Dependencies(
            uploads_bucket=BUCKET,
            existing_uploads_buckets=frozenset({EXISTING_BUCKET}),
            limits=LIMITS,
            keep_location=keep_location,
            addresses=ADDRESSES,
            rendition_set=rendition_set,
            uploads=FakeUploads(self.uploads, calls),
            renderer=FakeRenderer(LIMITS, rendition_set),
            renditions=FakeRenditions(self.renditions, calls),
            tasks=FakeTasks(self.tasks, self.now, calls, self._lock),
            images=FakeImages(self.images, calls, self._lock),
            events=FakeImageEvents(self.told, calls),
            dead_letters=FakeDeadLetters(self.dead_letters, calls),
            download_budget=MemoryBudget(10**6),
            note_taken_over=lambda task: self.taken_over.append(task.task_id),
        )

    def deliver(
        self,
        body: str,
        calls: Calls | None = None,
        *,
        seconds: float = 50,
        redriven: bool = False,
        rendition_set: RenditionSet = TWO_SIZES,
        keep_location: bool = False,
    ) -> Outcome:
        """Let a worker with ``seconds`` left process a body with one task."""
        (task,) = read_body(body)
        dependencies = self.dependencies(calls, rendition_set=rendition_set, keep_location=keep_location)
        return process(task, Deadline(self.now() + seconds), dependencies=dependencies, redriven=redriven)

    def let_claims_run_out(self) -> None:
        self.seconds_passed += 3600

    def record(self, key: str = "a.jpg") -> ImageRecord:
        """What readers of an image see."""
        record = self.images[key].record
        assert record
        return record

    def current(self, key: str = "a.jpg") -> UploadedVersion | None:
        """What S3 shows."""
        versions = self.uploads.get(key, [])
        return versions[-1] if versions and not versions[-1].is_marker else None


def eventbridge_event(
    kind: str = "Object Created", key: str = "a.jpg", version_id: str | None = "v1", sequencer: str = "0A", **about: str
) -> str:
    """What EventBridge sends for an existing bucket's object."""
    version = {"version-id": version_id} if version_id else {}
    detail = {"bucket": {"name": EXISTING_BUCKET}, "object": {"key": key, "sequencer": sequencer, **version}, **about}
    return json.dumps({"detail-type": kind, "source": "aws.s3", "time": "2026-11-22T09:30:00Z", "detail": detail})


def upload_event(
    key: str = "a.jpg", version_id: str | None = "v1", sequencer: str = "0A", name: str = "ObjectCreated:Put"
) -> str:
    """What S3 sends for an upload, or for what else the name says; the key must need no encoding."""
    version = {"versionId": version_id} if version_id else {}
    return json.dumps(
        {
            "Records": [
                {
                    "eventVersion": "2.1",
                    "eventSource": "aws:s3",
                    "eventTime": "2026-11-22T09:30:00.000Z",
                    "eventName": name,
                    "s3": {
                        "bucket": {"name": BUCKET},
                        "object": {"key": key, **version, "sequencer": sequencer},
                    },
                }
            ]
        }
    )


def delete_event(version_id: str | None = "v1", key: str = "a.jpg", sequencer: str = "0B") -> str:
    """What S3 sends when a version, or a delete marker, was removed for good."""
    return upload_event(key, version_id, sequencer, "ObjectRemoved:Delete")


def marker_event(version_id: str = "m1", key: str = "a.jpg") -> str:
    """What S3 sends when a delete marker was put on top."""
    return upload_event(key, version_id, "0B", "ObjectRemoved:DeleteMarkerCreated")


def plain_task(key: str = "a.jpg", task_id: str = "task-1", version_id: str | None = None, bucket: str = BUCKET) -> str:
    """A task that somebody put on the queue."""
    return json.dumps({"task_id": task_id, "bucket": bucket, "key": key, "version_id": version_id})
