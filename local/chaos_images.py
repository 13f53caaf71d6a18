"""The images flow under disturbance: events twice and in any order, keys overwritten, functions killed with -9."""

from __future__ import annotations

import io
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain
from time import monotonic, time
from typing import Any

from darkroom.image_messages import upload_task_id
from PIL import Image, ImageDraw
from rich.console import Console
from rich.progress import Progress

from local.audit import Audit
from local.disturbances import (
    held_back_messages,
    kill_functions,
    send_twice_in_any_order,
    short_visibility,
    wait_while_disturbing,
)
from local.machine import PROJECT, LaptopError, Place
from local.outcomes import read_dead_letters, read_items, take_results
from local.stack import Stack

_PHOTO = PROJECT / "samples" / "raccoon.jpg"
_SIZE = (800, 600)
# Of ten uploads two overwrite a key that was uploaded before.
_OVERWRITTEN = 0.2
# The functions are killed when these shares of the work are done.
_KILL_AT = (0.25, 0.5, 0.75)
_TICK = timedelta(seconds=2)  # S3 dates objects in whole seconds


@dataclass(frozen=True)
class Upload:
    """One accepted upload."""

    key: str
    version_id: str
    task_id: str


def disturb(deployed: Stack, place: Place, console: Console, items: int) -> Audit:
    """Run ``items`` uploads through the stack while disturbing it, and audit the outcome."""
    chance = random.Random(items)  # noqa: S311 # the same disturbance each time, for whoever has to look into it
    started = time()
    for _ in take_results(deployed):
        pass  # those of earlier runs
    queue_url = deployed.outputs["ImageTasksQueueUrl"]
    task_ids: list[str] = []

    def count_done() -> int:
        tasks = read_items(deployed, deployed.outputs["TasksTableName"], "task_id", task_ids)
        return sum(task["state"] == "DONE" for task in tasks.values())

    killed: list[int] = []
    kills = [(share, lambda: killed.append(kill_functions(place))) for share in _KILL_AT]
    with short_visibility(deployed, queue_url):
        with held_back_messages(deployed, deployed.outputs["ImageTasksQueueArn"]):
            uploads = _upload(deployed, items, chance, console)
            delivered = send_twice_in_any_order(deployed, queue_url, _take_events(deployed, len(uploads)), chance)
        task_ids += [upload.task_id for upload in uploads]
        wait_while_disturbing(deployed, queue_url, count_done, len(uploads), kills, doing="Rendering", console=console)
    return _audit(
        deployed,
        uploads,
        {
            "uploads": len(uploads),
            "keys": len({upload.key for upload in uploads}),
            "events delivered": delivered,
            "function processes killed": sum(killed),
            "tasks unfinished at the end": len(uploads) - count_done(),
            "seconds": round(time() - started, 1),
        },
    )


def _upload(deployed: Stack, items: int, chance: random.Random, console: Console) -> list[Upload]:
    """Upload photos that all differ; some keys twice, the later one being the newest."""
    s3, bucket = deployed.s3, deployed.outputs["UploadsBucketName"]
    run = f"chaos/{time():.0f}"
    fresh = items - int(items * _OVERWRITTEN)
    keys = [f"{run}/{number:05}.jpg" for number in range(fresh)]
    keys += [chance.choice(keys) for _ in range(items - fresh)]
    with Image.open(_PHOTO) as photo:
        photo.draft("RGB", _SIZE)
        small = photo.resize(_SIZE)

    def upload(number: int) -> Upload:
        body = _numbered(small, number)
        version_id = s3.put_object(Bucket=bucket, Key=keys[number], Body=body)["VersionId"]
        return Upload(keys[number], version_id, upload_task_id(bucket, keys[number], version_id))

    with ThreadPoolExecutor(4) as pool, Progress(console=console, transient=True) as progress:
        bar = progress.add_task("Uploading", total=items)
        uploads = []
        # Overwriting comes after, one by one, so that the last upload of a key is its newest version.
        for done in chain(pool.map(upload, range(fresh)), map(upload, range(fresh, items))):
            uploads.append(done)
            progress.advance(bar)
    return uploads


def _numbered(photo: Image.Image, number: int) -> bytes:
    copy = photo.copy()
    ImageDraw.Draw(copy).text((20, 20), str(number), fill="white", font_size=80)
    buffer = io.BytesIO()
    copy.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def _take_events(deployed: Stack, expected: int) -> list[str]:
    """Take S3's own events off the queue. Raises LaptopError if some do not arrive."""
    sqs, queue_url = deployed.sqs, deployed.outputs["ImageTasksQueueUrl"]
    bodies: list[str] = []
    end = monotonic() + 60
    while len(bodies) < expected and monotonic() < end:
        answer = sqs.receive_message(QueueUrl=queue_url, MaxNumberOfMessages=10, WaitTimeSeconds=1)
        for message in answer.get("Messages", []):
            bodies.append(message["Body"])
            sqs.delete_message(QueueUrl=queue_url, ReceiptHandle=message["ReceiptHandle"])
    if len(bodies) < expected:
        raise LaptopError(f"S3 told of {len(bodies)} uploads, not of {expected}.")
    return bodies


def _audit(deployed: Stack, uploads: Sequence[Upload], details: dict[str, Any]) -> Audit:
    tasks = read_items(deployed, deployed.outputs["TasksTableName"], "task_id", [u.task_id for u in uploads])
    newest = {upload.key: upload for upload in uploads}
    images = read_items(deployed, deployed.outputs["ImagesTableName"], "image_key", list(newest))
    done = {task_id for task_id, task in tasks.items() if task["state"] == "DONE"}
    letters = read_dead_letters(deployed, deployed.outputs["ImageTasksDeadLetterQueueUrl"])
    dead = {upload.task_id for upload in uploads} & {letter.task_id for letter in letters}
    announced = Counter(result["task_id"] for result in take_results(deployed))
    outcomes = Counter(task.get("outcome") for task in tasks.values())

    written = _written(deployed, uploads)
    findings: list[str] = []
    again: set[str] = set()
    standing = 0
    for key, upload in newest.items():
        image = images.get(key)
        if image is None or image["version_id"] != upload.version_id:
            findings.append(f"{key} does not stand in its newest version.")
            continue
        standing += 1
        if not announced[upload.task_id]:
            findings.append(f"{key} was never announced.")
        for rendition in image["renditions"]:
            if rendition["key"] not in written:
                findings.append(f"{key} lacks a rendition.")
            elif written[rendition["key"]] > datetime.fromisoformat(tasks[upload.task_id]["processed_at"]) + _TICK:
                again.add(upload.task_id)
    forgotten = _forgotten(deployed, written, images)
    findings += [f"{key} belongs to no record and is not marked stale." for key in forgotten]
    return Audit(
        accepted=len(uploads),
        done=len(done - dead),
        dead_lettered=len(dead),
        twice=len(again),
        details=details
        | {
            "processed": outcomes["Processed"],
            "superseded by a newer version": outcomes["Superseded"],
            "images standing in their newest version": standing,
            "renditions of replaced versions that nobody would delete": len(forgotten),
            "results announced more than once, with the same task id": sum(n > 1 for n in announced.values()),
        },
        findings=findings,
    )


def _written(deployed: Stack, uploads: Sequence[Upload]) -> dict[str, datetime]:
    """Every rendition of this run, and when it was written last."""
    run = uploads[0].key.rpartition("/")[0] + "/"
    bucket = deployed.outputs["RenditionsBucketName"]
    pages = deployed.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=run)
    return {o["Key"]: o["LastModified"] for page in pages for o in page.get("Contents", [])}


def _forgotten(deployed: Stack, written: Iterable[str], images: dict[str, dict[str, Any]]) -> list[str]:
    """Renditions that no record points to and no lifecycle rule will find."""
    s3, bucket = deployed.s3, deployed.outputs["RenditionsBucketName"]
    told = {rendition["key"] for image in images.values() for rendition in image["renditions"]}
    others = [key for key in written if key not in told]
    return [key for key in others if not s3.get_object_tagging(Bucket=bucket, Key=key)["TagSet"]]
