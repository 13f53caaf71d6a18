"""One image task from its message to its effect, step by step.

The current version in S3 decides, not the message: it is published, or if there is none, the image is withdrawn.
The record is read before S3, and written only if no other delivery wrote it in between. So no delivery replaces what
another one saw later (docs/decisions/0019-s3-shows.md).

Every step can be repeated: the renditions' names come from the image's version and the record's revision, each write
of the record is conditional, and a finished task is not started again. So the function can die between any two of
them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import itemgetter
from time import time

from darkroom.addresses import Addresses
from darkroom.dead_letters import DeadLetters
from darkroom.deadline import Deadline
from darkroom.errors import (
    BucketNotAllowed,
    ImageChanging,
    NotBegun,
    ObjectGone,
    PermanentFault,
    TooLarge,
    TransientFault,
)
from darkroom.image_messages import Cause, ImageTask
from darkroom.messages import Unreadable

from functions.process_image import events
from functions.process_image.images import (
    ImageRecord,
    ImageVersion,
    KnownImage,
    LatestFault,
    StoredRendition,
    Tombstone,
    has_image_suffix,
    image_key_of,
    rendition_key,
    upload_of,
)
from functions.process_image.photo import Limits, Photo, Rendered, Rendition, check_size
from functions.process_image.ports import (
    SECONDS_TO_RENDER,
    Budget,
    ImageEvents,
    Images,
    Renderer,
    Renditions,
    Result,
    Tasks,
    Upload,
    Uploads,
)
from functions.process_image.rendition_set import RenditionSet, RenditionSpec, record_form

# Concurrent deliveries for one key are rare; after this many tries the message returns to the queue.
_TRIES = 5


@dataclass(frozen=True)
class Outcome:
    """How one task ended, with what its metrics and its log line need."""

    result: Result
    task_id: str
    fault: PermanentFault | None = None
    bytes_in: int = 0
    bytes_out: int = 0

    def summary(self) -> dict[str, str]:
        """The outcome as JSON, for direct invocations."""
        fault = {"error_code": self.fault.error_code, "reason": str(self.fault)} if self.fault else {}
        return {"task_id": self.task_id, "result": self.result.value, **fault}


@dataclass(frozen=True)
class Dependencies:
    """The ports of a task. ``note_taken_over`` is called before work on a task starts again."""

    uploads_bucket: str
    existing_uploads_buckets: frozenset[str]
    limits: Limits
    keep_location: bool
    addresses: Addresses
    rendition_set: RenditionSet
    uploads: Uploads
    renderer: Renderer
    renditions: Renditions
    tasks: Tasks
    images: Images
    events: ImageEvents
    dead_letters: DeadLetters
    download_budget: Budget
    note_taken_over: Callable[[ImageTask | Unreadable], None]

    @property
    def record_form(self) -> str:
        """Identify all settings that shape a record, as its ``rendition_set``."""
        return record_form(self.rendition_set, keep_location=self.keep_location)


def process(
    task: ImageTask | Unreadable, deadline: Deadline, *, dependencies: Dependencies, redriven: bool = False
) -> Outcome:
    """Process one task.

    Parameters
    ----------
    redriven:
        The message comes back from the dead-letter queue, so its task is done again.

    Raises
    ------
    TransientFault
        Nothing is lost and the task is released: try again later.
    """
    claim = dependencies.tasks.claim(task, until=deadline.at, again=redriven)
    if claim is None:
        return Outcome(Result.DUPLICATE, task.task_id)
    try:
        if claim.taken_over:
            dependencies.note_taken_over(task)
        outcome = _carry_out(task, dependencies, deadline, is_first_attempt=claim.attempt == 1)
        dependencies.tasks.finish(claim, outcome.result, outcome.fault.error_code if outcome.fault else None)
    except BaseException as error:
        if isinstance(error, TransientFault):
            error.receives_not_counted = claim.not_begun
        dependencies.tasks.release(claim, begun=not isinstance(error, NotBegun))
        raise
    return outcome


def _carry_out(
    task: ImageTask | Unreadable, dependencies: Dependencies, deadline: Deadline, *, is_first_attempt: bool
) -> Outcome:
    try:
        if isinstance(task, Unreadable):
            raise task.fault
        if task.bucket not in (dependencies.uploads_bucket, *dependencies.existing_uploads_buckets):
            raise BucketNotAllowed(f"The task names bucket {task.bucket}; only the stack's uploads buckets are read.")
        # A delivery before this one may have died after it wrote something.
        return _follow(_Delivery(task, dependencies, deadline, may_have_written=not is_first_attempt))
    except PermanentFault as fault:
        dependencies.dead_letters.send(task.body, task.task_id, fault)
        return Outcome(Result.DEAD_LETTERED, task.task_id, fault=fault)


@dataclass(frozen=True)
class _Made:
    """The renditions of a version, or why it cannot be rendered."""

    source: str
    result: tuple[Photo, Rendered] | PermanentFault


@dataclass
class _Delivery:
    """One delivery of a task. ``made`` is kept in case the record must be read again."""

    task: ImageTask
    dependencies: Dependencies
    deadline: Deadline
    may_have_written: bool
    made: _Made | None = None

    def image_key(self, key: str) -> str:
        """The image key of the upload with this key."""
        return image_key_of(self.task.bucket, key, self.dependencies.uploads_bucket)

    def upload_key(self, image: KnownImage) -> str:
        """The key of the image's upload."""
        return upload_of(image.image_key, self.dependencies.uploads_bucket)[1]

    def ended(self, result: Result, bytes_in: int = 0, bytes_out: int = 0) -> Outcome:
        """How the task ended."""
        return Outcome(result, self.task.task_id, bytes_in=bytes_in, bytes_out=bytes_out)


def _follow(delivery: _Delivery) -> Outcome:
    """Update the record of the task's key, or of its other reading, if that one is meant."""
    task, dependencies = delivery.task, delivery.dependencies
    if task.other_key is None:
        return _bring_up_to_date(task.key, delivery)
    if task.cause is Cause.DELETE:
        # Either may be meant; an extra update does no harm.
        outcome = _bring_up_to_date(task.key, delivery)
        if dependencies.images.read(delivery.image_key(task.other_key)).is_known:
            other = _bring_up_to_date(task.other_key, delivery)
            return other if outcome.result is Result.UNCHANGED else outcome
        return outcome
    is_meant = _is_there(task.key, delivery) or not _is_there(task.other_key, delivery)
    return _bring_up_to_date(task.key if is_meant else task.other_key, delivery)


def _is_there(key: str, delivery: _Delivery) -> bool:
    upload = delivery.dependencies.uploads.open_current(delivery.task.bucket, key)
    if upload:
        upload.close()
    return upload is not None


def _bring_up_to_date(key: str, delivery: _Delivery) -> Outcome:
    """Update the record of a key to the current version in S3."""
    task, dependencies = delivery.task, delivery.dependencies
    for _ in range(_TRIES):
        image = dependencies.images.read(delivery.image_key(key))
        if task.cause is Cause.DELETE and not image.is_known and not has_image_suffix(key):
            return delivery.ended(Result.UNCHANGED)  # never was an image
        upload = dependencies.uploads.open_current(task.bucket, key)
        if upload is None:
            outcome = _withdraw(image, delivery)
        else:
            with closing(upload):
                outcome = _publish(image, upload, delivery)
        if outcome is not None:
            return outcome
        delivery.may_have_written = True
    raise ImageChanging(f"Other deliveries changed the record of {key} {_TRIES} times in between.")


def _withdraw(image: KnownImage, delivery: _Delivery) -> Outcome | None:
    """Leave a tombstone and delete the renditions of every version. None if the record was written in between."""
    task, dependencies = delivery.task, delivery.dependencies
    if task.cause is Cause.REQUEST and not image.is_known:
        raise ObjectGone(f"There is no object {delivery.upload_key(image)!r} in bucket {task.bucket}.")
    was_withdrawn = isinstance(image.published, Tombstone)
    now: KnownImage | None = image
    if not was_withdrawn:
        now = dependencies.images.withdraw(image, task.bucket)
    elif task.cause is Cause.DELETE or delivery.may_have_written:
        now = dependencies.images.confirm(image, forget_fault=False)
    if now is None or not isinstance(now.published, Tombstone):
        return None
    if was_withdrawn and not delivery.may_have_written:
        return delivery.ended(Result.UNCHANGED if task.cause is Cause.DELETE else Result.SUPERSEDED)
    _clean(now, delivery)
    dependencies.events.publish(events.deleted(task.task_id, now.published))
    return delivery.ended(Result.DELETED)


def _publish(image: KnownImage, upload: Upload, delivery: _Delivery) -> Outcome | None:
    """Publish the current version. None if the record was written in between."""
    task, dependencies = delivery.task, delivery.dependencies
    if task.cause is not Cause.DELETE and task.version_id not in (None, upload.version_id):
        return _superseded(image, delivery)
    version = ImageVersion(upload.source, dependencies.record_form)
    made = delivery.made if delivery.made and delivery.made.source == upload.source else None
    shown = image.record_of(version)
    # A task for the published version asks for lost renditions.
    asks = task.cause is Cause.REQUEST and made is None
    if shown and (not asks or dependencies.renditions.are_live(image.rendition_keys)):
        return _keep(image, shown, upload, delivery)
    if task.cause is Cause.DELETE and image.fault and image.fault.version == version:
        return _refuse(image, image.fault, delivery, is_new=False)  # its own event was processed before
    delivery.made = made or _make(upload, delivery)
    result = delivery.made.result
    if isinstance(result, PermanentFault):
        fault = _latest_fault(image, upload, version, result, delivery)
        if _refuse(image, fault, delivery, is_new=True) is None:
            return None
        raise result
    record = _store(image, upload, version, *result, delivery)
    now = dependencies.images.publish(image, record)
    if now is None:
        return None
    if not image.is_known and not has_image_suffix(image.image_key):
        return None  # S3 sends no event for such a name, and a deletion is skipped: read again
    return _finish(now, record, upload, delivery)


def _keep(image: KnownImage, record: ImageRecord, upload: Upload, delivery: _Delivery) -> Outcome | None:
    """Keep the published image: it is the current version."""
    deletes = delivery.task.cause is Cause.DELETE
    now: KnownImage | None = image
    if deletes or image.fault or delivery.may_have_written:
        now = delivery.dependencies.images.confirm(image, forget_fault=True)
    if now is None:
        return None
    if deletes and not delivery.may_have_written:
        return delivery.ended(Result.UNCHANGED, bytes_in=upload.size)
    return _finish(now, record, upload, delivery)


def _finish(image: KnownImage, record: ImageRecord, upload: Upload, delivery: _Delivery) -> Outcome:
    """Clean up after a publication, and send its result."""
    dependencies = delivery.dependencies
    if delivery.may_have_written:
        _clean(image, delivery)
    if image.replaced:
        dependencies.renditions.mark_stale(image.replaced)
        dependencies.images.forget_replaced(image)
    dependencies.events.publish(events.ready(delivery.task.task_id, record, dependencies.addresses))
    bytes_out = sum({rendition.key: rendition.bytes for rendition in record.stored}.values())
    return delivery.ended(Result.PROCESSED, bytes_in=upload.size, bytes_out=bytes_out)


def _superseded(image: KnownImage, delivery: _Delivery) -> Outcome | None:
    """Leave the key to the event of the current version."""
    task, dependencies = delivery.task, delivery.dependencies
    if delivery.may_have_written:
        if image.is_known:
            now = dependencies.images.confirm(image, forget_fault=False)
            if now is None:
                return None
            _clean(now, delivery)
        else:
            mine = ImageVersion(task.version_id or "", dependencies.record_form)
            dependencies.renditions.mark_stale(_rendition_keys(image, mine, dependencies.rendition_set.specs))
    return delivery.ended(Result.SUPERSEDED)


def _refuse(image: KnownImage, fault: LatestFault, delivery: _Delivery, *, is_new: bool) -> Outcome | None:
    """Store why the current version cannot be rendered. The published image stays while S3 has its version."""
    task, dependencies, record = delivery.task, delivery.dependencies, image.record
    subscribers, key = dependencies.events, delivery.upload_key(image)
    keep = record is not None and (
        record.version_id is None or dependencies.uploads.has_version(task.bucket, key, record.version_id)
    )
    now = dependencies.images.note_fault(image, fault, keep_published=keep)
    if now is None:
        return None
    if delivery.may_have_written or (record and not keep):
        _clean(now, delivery)
    # A delivery that died may have withdrawn the image and told nobody.
    if not keep and (record or delivery.may_have_written):
        tombstone = Tombstone(image.image_key, task.bucket, fault.version_order, deleted_at=fault.at)
        subscribers.publish(events.deleted(task.task_id, tombstone))
    if is_new:
        subscribers.publish(events.failed(image.image_key, task.bucket, fault, still_published=keep))
    return delivery.ended(Result.UNCHANGED)


def _clean(image: KnownImage, delivery: _Delivery) -> None:
    """Remove renditions that belong to no record: at once if nothing is published, else by the lifecycle rule."""
    renditions = delivery.dependencies.renditions
    strays = tuple(key for key in renditions.stored(image.image_key) if image.is_stray(key))
    if image.record:
        renditions.mark_stale(strays)
    else:
        renditions.delete(strays)


def _make(upload: Upload, delivery: _Delivery) -> _Made:
    """Render the upload."""
    dependencies, deadline = delivery.dependencies, delivery.deadline
    try:
        check_size(upload.size, dependencies.limits)
        if upload.size > dependencies.download_budget.capacity:
            capacity = f"{dependencies.download_budget.capacity:,}"
            raise TooLarge(f"the file has {upload.size:,} bytes; the function has memory for {capacity}")
        with dependencies.download_budget.reserve(upload.size):
            if deadline.at - time() < SECONDS_TO_RENDER:
                raise NotBegun("Too little time is left to render an image.")
            photo, rendered = dependencies.renderer.render(upload.read(), deadline)
    except PermanentFault as fault:
        return _Made(upload.source, fault)
    return _Made(upload.source, (photo, rendered))


def _latest_fault(
    image: KnownImage, upload: Upload, version: ImageVersion, fault: PermanentFault, delivery: _Delivery
) -> LatestFault:
    now = datetime.now(UTC)
    return LatestFault(
        task_id=delivery.task.task_id,
        error_code=fault.error_code,
        reason=str(fault),
        at=now.isoformat(timespec="milliseconds"),
        version_order=image.next_order(now),
        version_id=upload.version_id,
        version=version,
    )


def _rendition_keys(image: KnownImage, version: ImageVersion, specs: Sequence[RenditionSpec]) -> tuple[str, ...]:
    """The keys for the renditions of a version, in the specs' order; equal ones share an object."""
    return tuple(rendition_key(image.image_key, image.revision, version, spec.name, spec.extension) for spec in specs)


def _store(
    image: KnownImage, upload: Upload, version: ImageVersion, photo: Photo, rendered: Rendered, delivery: _Delivery
) -> ImageRecord:
    """Store the renditions. No reader sees them before the record is published."""
    dependencies = delivery.dependencies
    specs = dependencies.rendition_set.specs_for(photo.frames)
    keys = _keys_of_equals(_rendition_keys(image, version, specs), rendered.renditions)
    dependencies.renditions.put(dict(zip(keys, rendered.renditions, strict=True)))
    main: dict[str, StoredRendition] = {}
    others = []
    for key, r in zip(keys, rendered.renditions, strict=True):
        stored = StoredRendition(r.name, key, r.content_type, r.width, r.height, len(r.body))
        if main.setdefault(r.name, stored) is not stored:
            others.append(stored)
    return ImageRecord(
        image_key=image.image_key,
        bucket=delivery.task.bucket,
        version=version,
        version_order=image.next_order(datetime.now(UTC)),
        version_id=upload.version_id,
        uploaded_at=upload.last_modified.isoformat(),
        format=photo.format,
        bytes=upload.size,
        width=photo.display_width,
        height=photo.display_height,
        frames=photo.frames,
        camera=photo.camera,
        taken_at=photo.taken_at,
        location=photo.location if dependencies.keep_location else None,
        placeholder=rendered.placeholder,
        dominant_colour=rendered.dominant_colour,
        renditions=tuple(main.values()),
        other_formats=tuple(others),
    )


def _keys_of_equals(keys: tuple[str, ...], renditions: tuple[Rendition, ...]) -> tuple[str, ...]:
    """Give renditions with the same bytes, as of a photo smaller than several boxes, the first of their keys.

    The first in alphabetical order, so that the order of the blocks in ``renditions.toml`` does not matter.
    """
    by_key = sorted(zip(keys, renditions, strict=True), key=itemgetter(0), reverse=True)
    first = {(r.content_type, r.body): key for key, r in by_key}
    return tuple(first[r.content_type, r.body] for r in renditions)
