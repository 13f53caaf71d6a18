"""The images flow under faults: events twice and in any order, keys overwritten and deleted, faulty files."""

from __future__ import annotations

import json
import random
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from itertools import chain
from pathlib import Path
from time import monotonic
from typing import Any

from darkroom.items import stored_renditions
from darkroom.sending import send_all
from PIL import Image
from rich.console import Console

from functions.process_image.images import is_rendition_of
from local.chaos.audit import Audit, dead_lettered_rightly
from local.chaos.fault_injection import held_back_messages
from local.chaos.flow import InFlight, PreparedFlow, Seen, in_portions
from local.chaos.uploads import Changes, Deletion, Upload, numbered, small_photo, upload
from local.config import PROJECT, LaptopError
from local.outcomes import DeadLetter, read_items, search
from local.stack import Stack
from operations import erase_command
from operations.erase import Selection
from operations.flows import FLOWS

DEAD_LETTERS = FLOWS["images"].dead_letters
# Two of ten uploads overwrite an earlier key.
_OVERWRITTEN = 0.2
_FAULTY = 0.05
# So many items delete, undelete or replace what was uploaded before.
_CHANGES = 0.15
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
_DONE = {"Processed", "Superseded"}
# Of a key that was deleted meanwhile.
_DONE_WITH_DELETIONS = _DONE | {"Deleted", "Unchanged"}


@dataclass(frozen=True)
class Found:
    """The final state of a run's images.

    Attributes
    ----------
    current:
        The version that S3 shows of each key, None where it shows nothing.
    tasks, images:
        Items of the two tables, by key.
    written:
        Every rendition, and when it was last written.
    stale:
        The renditions that the lifecycle rule will delete.
    """

    current: Mapping[str, str | None]
    tasks: Mapping[str, Mapping[str, Any]]
    images: Mapping[str, Mapping[str, Any]]
    written: Mapping[str, datetime]
    stale: frozenset[str]
    results: Sequence[Mapping[str, Any]]
    letters: Sequence[DeadLetter]


def prepare(deployed: Stack, run: str, items: int, chance: random.Random) -> PreparedFlow:
    """Upload and delete the half whose events arrive twice and in any order; prepare the other. Raises LaptopError.

    Parameters
    ----------
    run:
        The prefix of all keys of this run.
    """
    queue_url = deployed.outputs[FLOWS["images"].waiting]
    faulty, changing = max(1, int(items * _FAULTY)), int(items * _CHANGES)
    early, early_changes = int(items * _REORDERED), changing // 2
    first_late, end = early - early_changes, items - changing
    folder, photo = f"{run}/images", small_photo()
    with held_back_messages(deployed, deployed.outputs["ImageTasksQueueArn"]):
        uploads = _upload_early(deployed, folder, photo, first_late, chance)
        keys = list(dict.fromkeys(u.key for u in uploads))
        changes = Changes(deployed, keys[: max(1, changing // 2)], chance)
        for _ in range(early_changes):
            changes.make_one()
        events = [body for body in _take_events(deployed, early) for _ in range(2)]
    chance.shuffle(events)
    todo: list[Callable[[], Upload | Deletion]] = [
        partial(upload, deployed, f"{folder}/{number:05}.jpg", numbered(photo, number))
        for number in range(first_late, end - faulty)
    ]
    todo += [partial(_upload_faulty, deployed, folder, number, chance) for number in range(end - faulty, end)]
    todo += [changes.make_one] * (changing - early_changes)
    chance.shuffle(todo)
    tasks = tasks_in_flight(deployed)
    faulty_ids: set[str] = set()

    def offer(bodies: Sequence[str], some: Sequence[Callable[[], Upload | Deletion]]) -> None:
        send_all(deployed.sqs, queue_url, bodies)
        made = [make() for make in some]
        fresh = [each for each in made if isinstance(each, Upload) and each.key not in changes.keys]
        uploads.extend(fresh)
        faulty_ids.update(u.task_id for u in fresh if u.error_code)
        tasks.watch(_task_ids(made))

    def look(seen: Seen) -> Audit:
        found = find(deployed, [*uploads, *changes.uploads], folder, seen, changes.deletions)
        return erased(deployed, folder, audit([*uploads, *changes.uploads], found, changes.deletions))

    tasks.watch(_task_ids([*uploads, *changes.uploads, *changes.deletions]))
    return PreparedFlow(
        name="images",
        portions=[partial(offer, *some) for some in zip(in_portions(events), in_portions(todo), strict=True)],
        count_done=tasks.count_done,
        expected=items,
        faulty={DEAD_LETTERS: faulty_ids},
        audit=look,
    )


def _task_ids(items: Sequence[Upload | Deletion]) -> list[str]:
    return [item.task_id for item in items]


def tasks_in_flight(deployed: Stack) -> InFlight:
    """Watch image tasks."""
    return InFlight(deployed, "TasksTableName", "task_id", frozenset({"DONE"}))


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


def find(
    deployed: Stack, uploads: Sequence[Upload], folder: str, seen: Seen, deletions: Sequence[Deletion] = ()
) -> Found:
    """Read the state of uploads and deletions whose keys begin with ``folder``."""
    images = read_items(deployed, deployed.outputs["ImagesTableName"], "image_key", [u.key for u in uploads])
    written = _written(deployed, folder)
    told = {rendition["key"] for image in images.values() for rendition in stored_renditions(image)}
    return Found(
        current=dict.fromkeys(u.key for u in uploads) | _current(deployed, folder),
        tasks=read_items(deployed, deployed.outputs["TasksTableName"], "task_id", _task_ids([*uploads, *deletions])),
        images=images,
        written=written,
        stale=_marked_stale(deployed, written.keys() - told),
        results=seen.results,
        letters=seen.letters[DEAD_LETTERS],
    )


def audit(uploads: Sequence[Upload], found: Found, deletions: Sequence[Deletion] = ()) -> Audit:
    """Audit all uploads and deletions of a folder."""
    faulty = {u.task_id: u.key for u in uploads if u.error_code}
    changed = {d.key for d in deletions}
    expected = {u.task_id: u.error_code for u in uploads} | {d.task_id: "" for d in deletions}
    dead, findings = dead_lettered_rightly(expected, found.letters)
    outcomes = {task_id: task.get("outcome") for task_id, task in found.tasks.items()}
    accepted: list[Upload | Deletion] = [*uploads, *deletions]
    done = {
        each.task_id
        for each in accepted
        if outcomes.get(each.task_id) in (_DONE_WITH_DELETIONS if each.key in changed else _DONE)
    }
    findings += [f"{task_id} was rendered, although it cannot be." for task_id in sorted(done & faulty.keys())]
    announced = Counter(result["task_id"] for result in found.results)
    told = {r["key"] for image in found.images.values() for r in stored_renditions(image)}
    forgotten = found.written.keys() - told - found.stale
    findings += [f"{key} belongs to no record and is not marked stale." for key in sorted(forgotten)]
    of_records = {key: _findings_of(key, found, is_faulty=key in faulty.values()) for key in found.current}
    findings += [finding for key in sorted(of_records) for finding in of_records[key]]
    untouched = [u for u in uploads if u.key not in changed and not u.error_code]
    findings += [
        f"{u.key} has no result."
        for u in untouched
        if found.current[u.key] == u.version_id and not announced[u.task_id]
    ]
    again = _written_again(untouched, found) | _announced_as_others(untouched, found.results)
    by_change = Counter(d.change.value for d in deletions)
    gone = [key for key, version_id in found.current.items() if version_id is None]
    return Audit(
        accepted=len(expected),
        done=len(done - faulty.keys()),
        dead_lettered=len(dead & faulty.keys()),
        faulty=len(faulty),
        twice=len(again),
        details={
            "uploads": len(uploads),
            **dict(sorted(by_change.items())),
            **{f"tasks {result.lower()}": sum(outcomes[t] == result for t in done) for result in sorted(_DONE)},
            **(
                {
                    "tasks that withdrew an image": sum(outcomes[t] == "Deleted" for t in done),
                    "tasks of deletions that changed nothing published": sum(outcomes[t] == "Unchanged" for t in done),
                }
                if deletions
                else {}
            ),
            "moved to the dead-letter queue, cannot be rendered": len(dead & faulty.keys()),
            "keys whose record is what S3 shows": f"{sum(not f for f in of_records.values()):,} of {len(of_records):,}",
            **({"of these, without a current version": len(gone)} if deletions else {}),
            "renditions of replaced versions, marked stale": len(found.stale),
            "renditions that no record names and nothing deletes": len(forgotten),
            "results sent more than once, with the same task id": sum(announced[i] > 1 for i in done),
        },
        findings=findings,
    )


def _findings_of(key: str, found: Found, *, is_faulty: bool) -> list[str]:
    """What is wrong with the record of a key, compared with what S3 shows."""
    image, version_id = found.images.get(key, {}), found.current[key]
    if is_faulty:
        noted = (image.get("state"), image.get("latest_fault", {}).get("version_id"))
        return [] if noted == ("REJECTED", version_id) else [f"{key} cannot be rendered, but its record is {noted}."]
    if version_id is None:
        left = [name for name in found.written if is_rendition_of(key, name)]
        findings = [f"{key} is deleted, but has {len(left)} renditions."] if left else []
        if image.get("state") != "DELETED":
            findings.append(f"{key} is deleted, but its record is {image.get('state', 'missing')}.")
    else:
        if image.get("version_id") != version_id:
            return [f"{key} is not published in its current version."]
        lost = {r["key"] for r in stored_renditions(image)} - (found.written.keys() - found.stale)
        findings = [f"{key} has a missing rendition."] if lost else []
    orders = [r["version_order"] for r in found.results if r["image_key"] == key]
    if max(orders, default=None) != image.get("version_order"):
        findings.append(f"{key}: its latest result is not that of its record.")
    return findings


def _written_again(uploads: Sequence[Upload], found: Found) -> set[str]:
    """The tasks whose renditions were written again after the task was done."""
    again = set()
    for made in uploads:
        processed_at = found.tasks.get(made.task_id, {}).get("processed_at")
        image = found.images.get(made.key, {})
        if not processed_at or image.get("version_id") != made.version_id:
            continue
        latest = datetime.fromisoformat(processed_at) + _TICK
        if any(found.written.get(r["key"], latest) > latest for r in stored_renditions(image)):
            again.add(made.task_id)
    return again


def erased(deployed: Stack, folder: str, audit: Audit) -> Audit:
    """Erase all photos of a folder, and add to the audit what is still found of them."""
    bucket = deployed.outputs["UploadsBucketName"]
    with tempfile.TemporaryDirectory() as receipts:
        code = erase_command.run(
            deployed, Selection("", f"{folder}/", bucket, bucket), Path(receipts), Console(quiet=True), is_real=True
        )
        (receipt,) = [json.loads(path.read_text()) for path in Path(receipts).glob("*.json")]
    left = search(deployed, f"{folder}/")
    findings = [f"make erase leaves {name}." for name in left]
    if code:
        findings.append("make erase does not end as complete.")
    return replace(
        audit,
        details={
            **audit.details,
            "removed by make erase": len(receipt["removed"]),
            "still found by a search": len(left),
        },
        findings=[*audit.findings, *findings],
    )


def _announced_as_others(uploads: Sequence[Upload], results: Iterable[Mapping[str, Any]]) -> set[str]:
    """The tasks whose image also has a result under another task id."""
    mine: dict[tuple[str, str | None], str] = {(u.key, u.version_id): u.task_id for u in uploads}
    ids = defaultdict(set)
    for result in results:
        ids[result["image_key"], result.get("version_id")].add(result["task_id"])
    return {task_id for version, task_id in mine.items() if ids[version] - {task_id}}


def _current(deployed: Stack, folder: str) -> dict[str, str | None]:
    """The version that S3 shows of each key in a folder that has one."""
    bucket = deployed.outputs["UploadsBucketName"]
    pages = deployed.s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=f"{folder}/")
    versions = [version for page in pages for version in page.get("Versions", [])]
    return {version["Key"]: version["VersionId"] for version in versions if version["IsLatest"]}


def _written(deployed: Stack, folder: str) -> dict[str, datetime]:
    """Every rendition of uploads in a folder, and when it was last written."""
    bucket = deployed.outputs["RenditionsBucketName"]
    pages = deployed.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{folder}/")
    return {o["Key"]: o["LastModified"] for page in pages for o in page.get("Contents", [])}


def _marked_stale(deployed: Stack, keys: Iterable[str]) -> frozenset[str]:
    s3, bucket = deployed.s3, deployed.outputs["RenditionsBucketName"]
    return frozenset(key for key in keys if s3.get_object_tagging(Bucket=bucket, Key=key)["TagSet"])
