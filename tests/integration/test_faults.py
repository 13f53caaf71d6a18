"""A permanent fault becomes a dead letter at once, with its reason; a transient one is retried."""

from __future__ import annotations

import json
from collections.abc import Callable
from uuid import uuid4

import pytest
from darkroom.messages import unreadable_task_id

from local.outcomes import poll, read_items
from local.stack import Stack
from tests.integration.uploading import SAMPLES, SECONDS, image, new_key, send, upload, wait_for, wait_for_dead_letter

FAULTY_FILES = {
    "NotAnImage": "not-an-image.jpg",
    "UnsupportedFormat": "bitmap.jpg",
    "TooManyPixels": "bomb.png",
    "TooManyFrames": "too-many-frames.gif",
    "DamagedImage": "truncated.jpg",
}


@pytest.mark.parametrize("error_code", [*FAULTY_FILES, "TooLarge"])
def test_a_faulty_upload_is_dead_lettered_after_one_receive(stack: Stack, error_code: str) -> None:
    # given
    key = new_key(FAULTY_FILES.get(error_code, "large.jpg"))
    content = (SAMPLES / "faulty" / FAULTY_FILES[error_code]).read_bytes() if error_code in FAULTY_FILES else b""
    # when
    version_id, task_id = upload(stack, key, content or bytes(52_428_801))
    letter = wait_for_dead_letter(stack, task_id)
    # then the dead letter names its reason and carries the original event
    assert (letter.error_code, letter.task_id) == (error_code, task_id)
    assert letter.reason
    (record,) = json.loads(letter.body)["Records"]
    assert record["s3"]["object"]["versionId"] == version_id
    # and it was received once
    task = wait_for(stack, task_id)
    assert (task["outcome"], task["error_code"], task["attempts"]) == ("DeadLettered", error_code, 1)
    # and the image's record has the fault
    assert image(stack, key)["latest_fault"]["error_code"] == error_code


def _gone(stack: Stack, task_id: str) -> dict[str, str]:
    return {"task_id": task_id, "bucket": stack.outputs["UploadsBucketName"], "key": "never-uploaded.jpg"}


def _foreign(stack: Stack, task_id: str) -> dict[str, str]:
    return {"task_id": task_id, "bucket": "somebody-elses-bucket", "key": "photo.jpg"}


@pytest.mark.parametrize(("error_code", "task"), [("ObjectGone", _gone), ("BucketNotAllowed", _foreign)])
def test_a_task_for_another_bucket_is_dead_lettered_after_one_receive(
    stack: Stack, error_code: str, task: Callable[[Stack, str], dict[str, str]]
) -> None:
    task_id = f"{error_code}-{uuid4().hex}"
    body = send(stack, task(stack, task_id))
    letter = wait_for_dead_letter(stack, task_id)
    assert (letter.error_code, letter.body) == (error_code, body)
    assert wait_for(stack, task_id)["attempts"] == 1


def test_a_message_that_is_not_a_task_becomes_a_dead_letter_unchanged(stack: Stack) -> None:
    body = send(stack, f"render photo {uuid4().hex} please")
    letter = wait_for_dead_letter(stack, unreadable_task_id(body))
    assert (letter.error_code, letter.body) == ("MalformedMessage", body)


def test_a_broken_upload_leaves_the_version_before_it_in_place(stack: Stack) -> None:
    key = new_key()
    version_id, first_task = upload(stack, key, SAMPLES / "raccoon.jpg")
    wait_for(stack, first_task)
    _, second_task = upload(stack, key, SAMPLES / "faulty" / "truncated.jpg")
    assert wait_for(stack, second_task)["outcome"] == "DeadLettered"
    record = image(stack, key)
    assert (record["state"], record["version_id"]) == ("READY", version_id)
    assert record["latest_fault"]["task_id"] == second_task


def test_a_transient_fault_is_retried(stack: Stack) -> None:
    # given a renditions bucket that refuses everything
    bucket = stack.outputs["RenditionsBucketName"]
    policy = stack.s3.get_bucket_policy(Bucket=bucket)["Policy"]
    refusal = {"Effect": "Deny", "Principal": "*", "Action": "s3:PutObject", "Resource": f"arn:aws:s3:::{bucket}/*"}
    refusing = json.loads(policy)
    refusing["Statement"].append(refusal)
    stack.s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps(refusing))
    try:
        # when a photo is uploaded, its first attempt fails and is given back
        _, task_id = upload(stack, new_key(), SAMPLES / "IMG_0042.JPG")
        _wait_until_given_back(stack, task_id)
    finally:
        stack.s3.put_bucket_policy(Bucket=bucket, Policy=policy)
    # then a later one succeeds, long before the visibility timeout of 300 s
    task = wait_for(stack, task_id)
    assert task["outcome"] == "Processed"
    assert task["attempts"] > 1


def _wait_until_given_back(stack: Stack, task_id: str) -> None:
    tasks = poll(
        lambda: read_items(stack, stack.outputs["TasksTableName"], "task_id", [task_id]),
        lambda tasks: tasks.get(task_id, {}).get("claimed_until") == 0,
        seconds=SECONDS,
    )
    assert tasks[task_id]["claimed_until"] == 0, "the task was never given back"
