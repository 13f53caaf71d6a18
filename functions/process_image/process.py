"""One image task from its message to its effect, step by step.

Every step may be repeated: the renditions' names come from the image's version, publishing is one conditional write,
and a finished task is not started again. So the function can die between any two of them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from operator import itemgetter

from darkroom.dead_letters import DeadLetters
from darkroom.deadline import Deadline
from darkroom.errors import BucketNotAllowed, ObjectGone, PermanentFault, TooLarge
from darkroom.image_messages import ImageTask
from darkroom.messages import Unreadable

from functions.process_image.images import (
    ImageRecord,
    ImageVersion,
    PublishedImage,
    StoredRendition,
    rendition_key,
    version_order,
)
from functions.process_image.photo import Limits, Rendition, check_size
from functions.process_image.ports import (
    SECONDS_TO_RENDER,
    Budget,
    Images,
    Renderer,
    Renditions,
    Result,
    Results,
    Tasks,
    Upload,
    Uploads,
)
from functions.process_image.rendition_set import RenditionSet


@dataclass(frozen=True)
class Outcome:
    """How one task ended, with what its metrics and its log line need."""

    result: Result
    task_id: str
    fault: PermanentFault | None = None
    bytes_in: int = 0
    bytes_out: int = 0

    def summary(self) -> dict[str, str]:
        """The outcome as JSON, for whoever invoked the function directly."""
        fault = {"error_code": self.fault.error_code, "reason": str(self.fault)} if self.fault else {}
        return {"task_id": self.task_id, "result": self.result.value, **fault}


@dataclass(frozen=True)
class Dependencies:
    """Everything one task meets on its way. ``note_taken_over`` is told of a task before work on it begins again."""

    uploads_bucket: str
    limits: Limits
    keep_location: bool
    rendition_set: RenditionSet
    uploads: Uploads
    renderer: Renderer
    renditions: Renditions
    tasks: Tasks
    images: Images
    results: Results
    dead_letters: DeadLetters
    download_budget: Budget
    note_taken_over: Callable[[ImageTask | Unreadable], None]


def process(
    task: ImageTask | Unreadable, deadline: Deadline, *, dependencies: Dependencies, redriven: bool = False
) -> Outcome:
    """Bring one task to its end.

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
    except BaseException:
        dependencies.tasks.release(claim)
        raise
    return outcome


def _carry_out(
    task: ImageTask | Unreadable, dependencies: Dependencies, deadline: Deadline, *, is_first_attempt: bool
) -> Outcome:
    try:
        if isinstance(task, Unreadable):
            raise task.fault
        if task.bucket != dependencies.uploads_bucket:
            raise BucketNotAllowed(f"The task names bucket {task.bucket}; only the uploads bucket is read.")
        return _publish_newest(task, dependencies, deadline, is_first_attempt=is_first_attempt)
    except PermanentFault as fault:
        if isinstance(task, ImageTask) and not isinstance(fault, BucketNotAllowed | ObjectGone):
            dependencies.images.note_fault(task.key, task.task_id, fault)
        dependencies.dead_letters.send(task.body, task.task_id, fault)
        return Outcome(Result.DEAD_LETTERED, task.task_id, fault=fault)


def _publish_newest(
    task: ImageTask, dependencies: Dependencies, deadline: Deadline, *, is_first_attempt: bool
) -> Outcome:
    key, upload = _open(task, dependencies)
    with closing(upload):
        published = dependencies.images.published(key)
        version = _version(task, upload, published, dependencies.rendition_set)
        may_have_written = not is_first_attempt  # the one before may have died after it
        if published is None or not (published.is_of(version) or published.replaces(version)):
            published = dependencies.images.publish(_render(task, key, upload, version, dependencies, deadline))
            may_have_written = True
    if may_have_written:
        mine = _rendition_keys(key, version, dependencies.rendition_set)
        dependencies.renditions.mark_stale(tuple(k for k in mine if k not in published.rendition_keys))
    if not published.is_of(version):
        return Outcome(Result.SUPERSEDED, task.task_id, bytes_in=upload.size)
    if published.record.version.order < version.order:
        # Published by a plain task, which knew no sequencer: an older upload of that second must not come after.
        published = dependencies.images.raise_order(published, version.order)
        if not published.is_of(version):
            return Outcome(Result.SUPERSEDED, task.task_id, bytes_in=upload.size)
    if published.replaced:
        dependencies.renditions.mark_stale(published.replaced)
        dependencies.images.forget_replaced(published)
    dependencies.results.announce(task.task_id, published.record)
    bytes_out = sum({rendition.key: rendition.bytes for rendition in published.record.renditions}.values())
    return Outcome(Result.PROCESSED, task.task_id, bytes_in=upload.size, bytes_out=bytes_out)


def _version(
    task: ImageTask, upload: Upload, published: PublishedImage | None, rendition_set: RenditionSet
) -> ImageVersion:
    order = version_order(upload.last_modified, task.sequencer, upload.source)
    if published is not None and published.record.version.source == upload.source:
        # Rendered again, say with another rendition set, by a plain task that knows no sequencer.
        order = max(order, published.record.version.order)
    return ImageVersion(source=upload.source, order=order, rendition_set=rendition_set.fingerprint)


def _rendition_keys(key: str, version: ImageVersion, rendition_set: RenditionSet) -> tuple[str, ...]:
    """Where the renditions of a version may stand, in the order of the rendition set; equal ones share an object."""
    return tuple(rendition_key(key, version, spec.name, spec.extension) for spec in rendition_set.specs)


def _open(task: ImageTask, dependencies: Dependencies) -> tuple[str, Upload]:
    """Open the upload under the task's key, or under the key's other reading if nothing stands there."""
    try:
        return task.key, dependencies.uploads.open(task.bucket, task.key, task.version_id)
    except ObjectGone:
        if task.other_key is None:
            raise
        return task.other_key, dependencies.uploads.open(task.bucket, task.other_key, task.version_id)


def _render(
    task: ImageTask, key: str, upload: Upload, version: ImageVersion, dependencies: Dependencies, deadline: Deadline
) -> ImageRecord:
    """Render one version and make its renditions durable. No reader sees them before the record is published."""
    check_size(upload.size, dependencies.limits)
    if upload.size > dependencies.download_budget.capacity:
        raise TooLarge(
            f"the file has {upload.size:,} bytes; the function has memory for {dependencies.download_budget.capacity:,}"
        )
    with dependencies.download_budget.reserve(upload.size):
        deadline.require(SECONDS_TO_RENDER, "render an image")
        photo, rendered = dependencies.renderer.render(upload.read(), deadline)
    keys = _keys_of_equals(_rendition_keys(key, version, dependencies.rendition_set), rendered.renditions)
    dependencies.renditions.put(dict(zip(keys, rendered.renditions, strict=True)))
    return ImageRecord(
        image_key=key,
        bucket=task.bucket,
        version=version,
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
        renditions=tuple(
            StoredRendition(r.name, stored_as, r.content_type, r.width, r.height, len(r.body))
            for stored_as, r in zip(keys, rendered.renditions, strict=True)
        ),
    )


def _keys_of_equals(keys: tuple[str, ...], renditions: tuple[Rendition, ...]) -> tuple[str, ...]:
    """Give renditions with the same bytes, as of a photo smaller than several boxes, the first of their keys.

    The first by the alphabet: the order of the blocks in ``renditions.toml`` leaves the version's name as it is.
    """
    by_key = sorted(zip(keys, renditions, strict=True), key=itemgetter(0), reverse=True)
    first = {(r.content_type, r.body): key for key, r in by_key}
    return tuple(first[r.content_type, r.body] for r in renditions)
