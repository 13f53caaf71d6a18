"""An image's whole life on the deployed stack: deleted, undeleted, rendered again, erased."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console

from local.outcomes import poll, read_dead_letters, read_items, take_results
from local.stack import Stack
from operations import erase_command
from operations.erase import Selection
from operations.rerender import RerenderOptions, deployed_form, plan
from tests.integration.uploading import SAMPLES, SECONDS, image, new_key, upload, wait_for

RACES = 20


def record(stack: Stack, key: str) -> dict[str, Any]:
    return read_items(stack, stack.outputs["ImagesTableName"], "image_key", [key]).get(key, {})


def wait_until(stack: Stack, key: str, state: str, version_id: str | None = None) -> dict[str, Any]:
    found = poll(
        lambda: record(stack, key),
        lambda item: (item.get("state"), item.get("version_id")) == (state, version_id),
        seconds=SECONDS,
    )
    assert (found.get("state"), found.get("version_id")) == (state, version_id)
    return found


def renditions(stack: Stack, key: str) -> list[str]:
    answer = stack.s3.list_objects_v2(Bucket=stack.outputs["RenditionsBucketName"], Prefix=f"{key}/")
    return [found["Key"] for found in answer.get("Contents", [])]


def test_the_record_follows_what_s3_shows(stack: Stack) -> None:
    bucket, key = stack.outputs["UploadsBucketName"], new_key()
    # given a published photo
    first, task_id = upload(stack, key, SAMPLES / "IMG_0042.JPG")
    wait_for(stack, task_id)
    # when it is deleted, then nothing of it is left but a tombstone
    marker = stack.s3.delete_object(Bucket=bucket, Key=key)["VersionId"]
    tombstone = wait_until(stack, key, "DELETED")
    assert tombstone.keys() == {
        *("image_key", "bucket", "state", "revision", "version_order"),
        *("deleted_at", "expires_at"),
    }
    assert poll(lambda: renditions(stack, key), lambda keys: not keys, seconds=SECONDS) == []
    # when it is undeleted, then it is published again
    stack.s3.delete_object(Bucket=bucket, Key=key, VersionId=marker)
    undeleted = wait_until(stack, key, "READY", first)
    # when it is overwritten and the newest version is removed, then the one before is published
    second, task_id = upload(stack, key, SAMPLES / "rocket-turned.jpg")
    wait_for(stack, task_id)
    stack.s3.delete_object(Bucket=bucket, Key=key, VersionId=second)
    last = wait_until(stack, key, "READY", first)
    # and results can be put into their order
    orders = [tombstone["version_order"], undeleted["version_order"], last["version_order"]]
    assert orders == sorted(orders)
    told = {result["version_order"]: result["state"] for result in take_results(stack) if result["image_key"] == key}
    assert [told[order] for order in orders] == ["DELETED", "READY", "READY"]


def test_what_is_deleted_at_once_is_not_published(stack: Stack) -> None:
    bucket, keys = stack.outputs["UploadsBucketName"], [new_key() for _ in range(RACES)]
    for key in keys:
        upload(stack, key, SAMPLES / "IMG_0042.JPG")
        stack.s3.delete_object(Bucket=bucket, Key=key)
    for key in keys:
        wait_until(stack, key, "DELETED")
    left = poll(
        lambda: [name for key in keys for name in renditions(stack, key)], lambda names: not names, seconds=SECONDS
    )
    assert left == []


def test_lost_renditions_are_planned_and_made_again(stack: Stack) -> None:
    key = new_key()
    _, task_id = upload(stack, key, SAMPLES / "IMG_0042.JPG")
    wait_for(stack, task_id)
    form, options = deployed_form(stack), RerenderOptions(prefix=key, missing=True)
    assert plan(stack, form, options).tasks == []
    lost = image(stack, key)["renditions"][0]["key"]
    stack.s3.delete_object(Bucket=stack.outputs["RenditionsBucketName"], Key=lost)
    (task,) = plan(stack, form, options).tasks
    body = {"task_id": task.task_id, "bucket": task.bucket, "key": task.key, "version_id": task.version_id}
    for _ in range(2):
        stack.sqs.send_message(QueueUrl=stack.outputs["RerenderQueueUrl"], MessageBody=json.dumps(body))
    assert wait_for(stack, task.task_id)["outcome"] == "Processed"
    assert plan(stack, form, options).tasks == []
    assert record(stack, key)["renditions"][0]["key"] != lost


def test_erasing_leaves_nothing_that_a_search_finds(stack: Stack, tmp_path: Path) -> None:
    # given a photo, deleted and uploaded again, and a file that cannot be rendered
    bucket, folder = stack.outputs["UploadsBucketName"], new_key("")
    good, bad = f"{folder}good.jpg", f"{folder}bad.jpg"
    _, task_id = upload(stack, good, SAMPLES / "IMG_0042.JPG")
    wait_for(stack, task_id)
    stack.s3.delete_object(Bucket=bucket, Key=good)
    wait_until(stack, good, "DELETED")
    for key, sample in ((good, "rocket-turned.jpg"), (bad, "faulty/not-an-image.jpg")):
        _, task_id = upload(stack, key, SAMPLES / sample)
        wait_for(stack, task_id)
    # when a dry run looks for it, nothing changes
    selection, console = Selection(prefix=folder), Console(quiet=True)
    assert erase_command.run(stack, selection, tmp_path, console, is_real=False) == 0
    assert record(stack, good)["state"] == "READY"
    # when it is erased
    assert erase_command.run(stack, selection, tmp_path, console, is_real=True) == 0
    # then the receipt names what was removed
    (receipt,) = [json.loads(path.read_text()) for path in tmp_path.glob("erased-*.json")]
    kinds = {entry["kind"] for entry in receipt["removed"]}
    assert kinds >= {"upload", "delete marker", "rendition", "record", "task", "dead letters", "unread results"}
    assert receipt["is_complete"]
    # and no bucket, table or queue has it
    assert _search(stack, folder) == []


def _search(stack: Stack, text: str) -> list[str]:
    found = []
    for bucket in ("UploadsBucketName", "RenditionsBucketName"):
        pages = stack.s3.get_paginator("list_object_versions").paginate(Bucket=stack.outputs[bucket], Prefix=text)
        found += [v["Key"] for page in pages for v in (*page.get("Versions", []), *page.get("DeleteMarkers", []))]
    for table in ("ImagesTableName", "TasksTableName"):
        for page in stack.dynamodb.get_paginator("scan").paginate(TableName=stack.outputs[table]):
            found += [str(item) for item in page["Items"] if text in str(item)]
    letters = read_dead_letters(stack, stack.outputs["ImageTasksDeadLetterQueueUrl"])
    found += [letter.body for letter in letters if text in letter.body]
    return found + [str(result) for result in take_results(stack) if text in str(result)]
