"""Send photos and tasks to the deployed stack and wait for their outcome."""

from __future__ import annotations

import json
from collections.abc import Collection
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import uuid4

from darkroom.image_messages import upload_task_id
from PIL import Image

from local.config import PROJECT
from local.outcomes import DeadLetter, poll, read_dead_letters, read_items, read_log, take_results, wait_for_tasks
from local.stack import Stack

SAMPLES = PROJECT / "samples"
SECONDS = 240  # of a busy machine; a quiet one takes some seconds


def _small_photo(colour: str) -> bytes:
    image = BytesIO()
    Image.new("RGB", (64, 48), colour).save(image, "JPEG")
    return image.getvalue()


# Rendered at once, for tests of what happens around the rendering.
SMALL, ANOTHER_SMALL = _small_photo("teal"), _small_photo("orange")


def new_key(name: str = "photo.jpg") -> str:
    return f"tests/{uuid4().hex}/{name}"


def upload(stack: Stack, key: str, body: bytes | Path) -> tuple[str, str]:
    """Returns the version id and the task id."""
    content = body.read_bytes() if isinstance(body, Path) else body
    bucket = stack.outputs["UploadsBucketName"]
    version_id = stack.s3.put_object(Bucket=bucket, Key=key, Body=content)["VersionId"]
    return version_id, upload_task_id(bucket, key, version_id)


def send(stack: Stack, body: dict[str, Any] | str) -> str:
    """Put a message on the tasks queue; returns its body."""
    text = body if isinstance(body, str) else json.dumps(body)
    stack.sqs.send_message(QueueUrl=stack.outputs["ImageTasksQueueUrl"], MessageBody=text)
    return text


def s3_record(stack: Stack, key: str, version_id: str, event_time: str = "2026-01-01T00:00:00.000Z") -> dict[str, Any]:
    """S3's notification of an upload; ``key`` is URL-encoded, as S3 writes it."""
    return {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": stack.region,
        "eventTime": event_time,
        "eventName": "ObjectCreated:Put",
        "s3": {
            "bucket": {"name": stack.outputs["UploadsBucketName"]},
            "object": {"key": key, "versionId": version_id, "sequencer": "0055AED6DCD90281E5"},
        },
    }


def wait_for(stack: Stack, task_id: str) -> dict[str, Any]:
    """The finished task's item."""
    task = wait_for_tasks(stack, [task_id], seconds=SECONDS).get(task_id)
    assert task is not None, "the task was never started"
    assert task["state"] == "DONE", task
    return task


def wait_for_dead_letter(stack: Stack, task_id: str, queue: str = "ImageTasksDeadLetterQueueUrl") -> DeadLetter:
    letters = poll(
        lambda: {letter.task_id: letter for letter in read_dead_letters(stack, stack.outputs[queue])},
        lambda letters: task_id in letters,
        seconds=SECONDS,
        every=0.3,
    )
    assert task_id in letters, f"no dead letter of task {task_id}"
    return letters[task_id]


def wait_for_results(stack: Stack, key: str, number: int = 1) -> list[dict[str, Any]]:
    """The results of an image in their order, once there are so many; those of other tests are thrown away."""
    found: list[dict[str, Any]] = []

    def read() -> list[dict[str, Any]]:
        found.extend(result for result in take_results(stack) if result.get("image_key") == key)
        return found

    return poll(read, lambda results: len(results) >= number, seconds=SECONDS)


def wait_for_log(stack: Stack, task_ids: Collection[str]) -> list[dict[str, Any]]:
    """The lines of the image function about some tasks, once each has one: after its invocation has ended."""

    def read() -> list[dict[str, Any]]:
        log = read_log(stack, stack.outputs["ProcessImageFunctionName"], since=0)
        return [line for line in log if line.get("task_id") in task_ids]

    return poll(read, lambda lines: {line["task_id"] for line in lines} >= set(task_ids), seconds=SECONDS)


def image(stack: Stack, key: str) -> dict[str, Any]:
    return read_items(stack, stack.outputs["ImagesTableName"], "image_key", [key])[key]
