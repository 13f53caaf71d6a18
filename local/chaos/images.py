"""The images flow under faults: events twice and in any order, keys overwritten, files that cannot be rendered."""

from __future__ import annotations

import io
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import chain
from time import monotonic
from typing import Any

from darkroom.image_messages import upload_task_id
from darkroom.sending import send_all
from PIL import Image, ImageDraw

from local.chaos.audit import Audit, dead_lettered_rightly
from local.chaos.fault_injection import held_back_messages
from local.chaos.flow import InFlight, PreparedFlow, Seen, in_portions
from local.config import PROJECT, LaptopError
from local.outcomes import DeadLetter, read_items
from local.stack import Stack
from operations.flows import FLOWS

DEAD_LETTERS = FLOWS["images"].dead_letters
_PHOTO = PROJECT / "samples" / "raccoon.jpg"
_SIZE = (400, 300)  # small: the faults concern a photo's way, not its rendering
# Two of ten uploads overwrite an earlier key.
_OVERWRITTEN = 0.2
_FAULTY = 0.05
_FAULTY_FILES = {
    "not-an-image.jpg": "NotAnImage",
    "bitmap.jpg": "UnsupportedFormat",
    "truncated.jpg": "DamagedImage",
    "bomb.png": "TooManyPixels",
    "too-many-frames.gif": "TooManyFrames",
}
# Half of the events are taken off the queue and sent twice and in any order; S3 sends the others during the run.
_REORDERED = 0.5
_TICK = timedelta(seconds=2)  # S3 dates objects in whole seconds


@dataclass(frozen=True)
class Upload:
    """One accepted upload. ``error_code`` is what its dead letter must have, empty if it can be rendered."""

    key: str
    version_id: str
    task_id: str
    error_code: str = ""


@dataclass(frozen=True)
class Found:
    """The final state of a run's images.

    Attributes
    ----------
    tasks, images:
        Items of the two tables, by key.
    written:
        Every rendition, and when it was last written.
    stale:
        The renditions that the lifecycle rule will delete.
    """

    tasks: Mapping[str, Mapping[str, Any]]
    images: Mapping[str, Mapping[str, Any]]
    written: Mapping[str, datetime]
    stale: frozenset[str]
    results: Sequence[Mapping[str, Any]]
    letters: Sequence[DeadLetter]


def prepare(deployed: Stack, run: str, items: int, chance: random.Random) -> PreparedFlow:
    """Upload the half whose events arrive twice and in any order; prepare the other half. Raises LaptopError.

    Parameters
    ----------
    run:
        The prefix of all keys of this run.
    """
    queue_url = deployed.outputs[FLOWS["images"].waiting]
    early = int(items * _REORDERED)
    faulty = max(1, int(items * _FAULTY))
    folder, photo = f"{run}/images", small_photo()
    with held_back_messages(deployed, deployed.outputs["ImageTasksQueueArn"]):
        uploads = _upload_early(deployed, folder, photo, early, chance)
        events = [body for body in _take_events(deployed, early) for _ in range(2)]
    chance.shuffle(events)
    todo: list[Callable[[], Upload]] = [
        partial(upload, deployed, f"{folder}/{number:05}.jpg", numbered(photo, number))
        for number in range(early, items - faulty)
    ]
    todo += [partial(_upload_faulty, deployed, folder, number, chance) for number in range(items - faulty, items)]
    chance.shuffle(todo)
    tasks = tasks_in_flight(deployed)
    faulty_ids: set[str] = set()

    def offer(bodies: Sequence[str], some: Sequence[Callable[[], Upload]]) -> None:
        send_all(deployed.sqs, queue_url, bodies)
        made = [make() for make in some]
        uploads.extend(made)
        faulty_ids.update(u.task_id for u in made if u.error_code)
        tasks.watch(u.task_id for u in made)

    tasks.watch(u.task_id for u in uploads)
    return PreparedFlow(
        name="images",
        portions=[partial(offer, *some) for some in zip(in_portions(events), in_portions(todo), strict=True)],
        count_done=tasks.count_done,
        expected=items,
        faulty={DEAD_LETTERS: faulty_ids},
        audit=lambda seen: audit(uploads, find(deployed, uploads, folder, seen)),
    )


def tasks_in_flight(deployed: Stack) -> InFlight:
    """Watch image tasks."""
    return InFlight(deployed, "TasksTableName", "task_id", frozenset({"DONE"}))


def small_photo() -> Image.Image:
    """A real photo, small."""
    with Image.open(_PHOTO) as photo:
        photo.draft("RGB", _SIZE)
        return photo.resize(_SIZE)


def numbered(photo: Image.Image, number: int) -> bytes:
    """A JPEG that differs from those of other numbers."""
    copy = photo.copy()
    ImageDraw.Draw(copy).text((20, 20), str(number), fill="white", font_size=80)
    buffer = io.BytesIO()
    copy.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def upload(deployed: Stack, key: str, body: bytes, error_code: str = "") -> Upload:
    """Upload a file."""
    bucket = deployed.outputs["UploadsBucketName"]
    version_id = deployed.s3.put_object(Bucket=bucket, Key=key, Body=body)["VersionId"]
    return Upload(key, version_id, upload_task_id(bucket, key, version_id), error_code)


def _upload_faulty(deployed: Stack, folder: str, number: int, chance: random.Random) -> Upload:
    name, error_code = chance.choice(list(_FAULTY_FILES.items()))
    body = (PROJECT / "samples" / "faulty" / name).read_bytes()
    return upload(deployed, f"{folder}/{number:05}-{name}", body, error_code)


def _upload_early(deployed: Stack, folder: str, photo: Image.Image, count: int, chance: random.Random) -> list[Upload]:
    """Upload photos that all differ, some of them twice under one key."""
    fresh = count - int(count * _OVERWRITTEN)
    keys = [f"{folder}/{number:05}.jpg" for number in range(fresh)]
    keys += [chance.choice(keys) for _ in range(count - fresh)]

    def upload_one(number: int) -> Upload:
        return upload(deployed, keys[number], numbered(photo, number))

    with ThreadPoolExecutor(4) as pool:
        # The overwriting uploads follow one by one, so that the last upload of a key is its newest version.
        return list(chain(pool.map(upload_one, range(fresh)), map(upload_one, range(fresh, count))))


def _take_events(deployed: Stack, expected: int) -> list[str]:
    """Take S3's own events off the queue. Raises LaptopError if some do not arrive."""
    sqs, queue_url = deployed.sqs, deployed.outputs[FLOWS["images"].waiting]
    bodies: list[str] = []
    end = monotonic() + 60
    while len(bodies) < expected and monotonic() < end:
        answer = sqs.receive_message(QueueUrl=queue_url, MaxNumberOfMessages=10, WaitTimeSeconds=1)
        for message in answer.get("Messages", []):
            bodies.append(message["Body"])
            sqs.delete_message(QueueUrl=queue_url, ReceiptHandle=message["ReceiptHandle"])
    if len(bodies) < expected:
        raise LaptopError(f"S3 sent {len(bodies)} events; {expected} were expected.")
    return bodies


def find(deployed: Stack, uploads: Sequence[Upload], folder: str, seen: Seen) -> Found:
    """Read the state of uploads whose keys begin with ``folder``."""
    images = read_items(deployed, deployed.outputs["ImagesTableName"], "image_key", [u.key for u in uploads])
    written = _written(deployed, folder)
    told = {rendition["key"] for image in images.values() for rendition in image.get("renditions", [])}
    return Found(
        tasks=read_items(deployed, deployed.outputs["TasksTableName"], "task_id", [u.task_id for u in uploads]),
        images=images,
        written=written,
        stale=_marked_stale(deployed, written.keys() - told),
        results=seen.results,
        letters=seen.letters[DEAD_LETTERS],
    )


def audit(uploads: Sequence[Upload], found: Found) -> Audit:
    """Audit the uploads, given in the order they were made."""
    faulty = {u.task_id for u in uploads if u.error_code}
    dead, findings = dead_lettered_rightly({u.task_id: u.error_code for u in uploads}, found.letters)
    outcomes = {task_id: task.get("outcome") for task_id, task in found.tasks.items()}
    done = {u.task_id for u in uploads if outcomes.get(u.task_id) in ("Processed", "Superseded")}
    findings += [f"{task_id} was rendered, although it cannot be." for task_id in sorted(done & faulty)]
    newest = {u.key: u for u in uploads if not u.error_code}
    announced = Counter(result["task_id"] for result in found.results)

    told: set[str] = set()
    standing, again = 0, set()
    for key, upload in newest.items():
        image = found.images.get(key, {})
        if image.get("version_id") != upload.version_id:
            findings.append(f"{key} is not published in its newest version.")
            continue
        standing += 1
        if not announced[upload.task_id]:
            findings.append(f"{key} has no result.")
        processed_at = found.tasks.get(upload.task_id, {}).get("processed_at")
        for rendition in image["renditions"]:
            told.add(rendition["key"])
            if rendition["key"] not in found.written:
                findings.append(f"{key} has a missing rendition.")
            elif processed_at and found.written[rendition["key"]] > datetime.fromisoformat(processed_at) + _TICK:
                again.add(upload.task_id)
    again |= _announced_as_others(uploads, found.results)
    forgotten = found.written.keys() - told - found.stale
    findings += [f"{key} belongs to no record and is not marked stale." for key in sorted(forgotten)]
    return Audit(
        accepted=len(uploads),
        done=len(done - faulty),
        dead_lettered=len(dead & faulty),
        faulty=len(faulty),
        twice=len(again),
        details={
            "uploads": len(uploads),
            "processed": sum(outcomes.get(task_id) == "Processed" for task_id in done),
            "superseded by a newer version": sum(outcomes.get(task_id) == "Superseded" for task_id in done),
            "moved to the dead-letter queue, cannot be rendered": len(dead & faulty),
            "images published in their newest version": standing,
            "renditions of replaced versions that nothing deletes": len(forgotten),
            "results sent more than once, with the same task id": sum(announced[i] > 1 for i in done),
        },
        findings=findings,
    )


def _announced_as_others(uploads: Sequence[Upload], results: Iterable[Mapping[str, Any]]) -> set[str]:
    """The tasks whose image also has a result under another task id."""
    mine = {(u.key, u.version_id): u.task_id for u in uploads}
    ids = defaultdict(set)
    for result in results:
        ids[result["image_key"], result["version_id"]].add(result["task_id"])
    return {task_id for version, task_id in mine.items() if ids[version] - {task_id}}


def _written(deployed: Stack, folder: str) -> dict[str, datetime]:
    """Every rendition of uploads in a folder, and when it was last written."""
    bucket = deployed.outputs["RenditionsBucketName"]
    pages = deployed.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{folder}/")
    return {o["Key"]: o["LastModified"] for page in pages for o in page.get("Contents", [])}


def _marked_stale(deployed: Stack, keys: Iterable[str]) -> frozenset[str]:
    s3, bucket = deployed.s3, deployed.outputs["RenditionsBucketName"]
    return frozenset(key for key in keys if s3.get_object_tagging(Bucket=bucket, Key=key)["TagSet"])
