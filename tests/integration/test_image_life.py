"""An image's whole life on the deployed stack: deleted, undeleted, rendered again, erased."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rich.console import Console

from local.chaos.fault_injection import held_back_messages
from local.config import EXISTING_BUCKET, LocalConfig
from local.emulators.aws_emulator import function_processes
from local.outcomes import poll, read_items, search, take_results
from local.stack import Stack
from operations import erase_command
from operations.erase import Selection
from operations.rerender import RerenderOptions, deployed_form, plan
from tests.integration.uploading import SAMPLES, SECONDS, image, new_key, upload, wait_for, wait_for_results

RACES = 10  # of each kind


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
    told = {result["version_order"]: result["state"] for result in wait_for_results(stack, key, 5)}
    assert [told[order] for order in orders] == ["DELETED", "READY", "READY"]


def test_what_is_deleted_at_once_is_not_published(stack: Stack) -> None:
    # given photos that are deleted before their event, and photos that are deleted while their event is on its way
    late, racing = [new_key() for _ in range(RACES)], [new_key() for _ in range(RACES)]
    with held_back_messages(stack, stack.outputs["ImageTasksQueueArn"]):
        for key in late:
            upload_and_delete(stack, key)
    for key in racing:
        upload_and_delete(stack, key)
    # then in the end nothing of them is published
    for key in (*late, *racing):
        wait_until(stack, key, "DELETED")
    left = poll(
        lambda: [name for key in (*late, *racing) for name in renditions(stack, key)],
        lambda names: not names,
        seconds=SECONDS,
    )
    assert left == []
    # and the first were never published
    told: dict[str, set[str]] = {key: set() for key in late}

    def listen() -> bool:
        for result in take_results(stack):
            told.get(result.get("image_key", ""), set()).add(result["state"])
        return all(told.values())

    assert poll(listen, bool, seconds=SECONDS)
    assert set().union(*told.values()) == {"DELETED"}


def upload_and_delete(stack: Stack, key: str) -> None:
    upload(stack, key, SAMPLES / "IMG_0042.JPG")
    stack.s3.delete_object(Bucket=stack.outputs["UploadsBucketName"], Key=key)


def test_lost_renditions_are_planned_and_made_again(stack: Stack, config: LocalConfig) -> None:
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
    # and by processes of lower priority, so that live uploads do not wait behind them
    functions = function_processes(config, stack.outputs["ProcessImageFunctionName"])
    # A function that has only begun has no server yet.
    priorities = [(function.nice(), server.nice()) for function in functions for server in function.children()]
    assert max(priorities)[0] >= min(priorities)[0] + 10
    assert all(function == server for function, server in priorities), "the images are rendered there"
    if sys.platform == "linux":
        policies = {os.sched_getscheduler(function.pid) for function in functions}
        assert policies == {os.SCHED_OTHER, os.SCHED_IDLE}


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
    selection, console = Selection("", folder, bucket, bucket), Console(quiet=True)
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
    assert search(stack, folder) == []
    # and CloudFront forgets its copies
    cleared = stack.client("cloudfront").get_invalidation(
        DistributionId=stack.outputs["DistributionId"], Id=receipt["cloudfront_invalidation"]
    )["Invalidation"]
    assert cleared["InvalidationBatch"]["Paths"]["Items"] == [
        f"/other-buckets/{bucket}/{quote(folder)}*",
        f"/{quote(folder)}*",
    ]


def test_an_existing_bucket_is_rendered_rerendered_and_erased_apart_from_the_stacks_own(
    stack: Stack, tmp_path: Path
) -> None:
    # given a bucket without versions that the parameters name, with a photo from before its events were switched on
    own, bucket, folder = stack.outputs["UploadsBucketName"], EXISTING_BUCKET, new_key("")
    stack.s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    stack.s3.upload_file(str(SAMPLES / "raccoon.jpg"), bucket, f"{folder}before.jpg")
    events: Any = {"EventBridgeConfiguration": {}}
    stack.s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=events)
    # when photos of one name are put into both buckets, and something else
    key = f"{folder}ü + b.JPG"
    stack.s3.put_object(Bucket=bucket, Key=f"{folder}notes", Body=b"no photo")
    stack.s3.upload_file(str(SAMPLES / "raccoon.jpg"), bucket, key)
    _, task_id = upload(stack, key, SAMPLES / "IMG_0042.JPG")
    # then each has a record of its own
    wait_for(stack, task_id)
    image_key = f"other-buckets/{bucket}/{key}"
    assert wait_until(stack, image_key, "READY")["bucket"] == bucket
    assert record(stack, key)["bucket"] == own
    # and the photo from before is what a re-render finds
    options = RerenderOptions(prefix=folder, bucket=bucket)
    (task,) = plan(stack, deployed_form(stack), options).tasks
    assert (task.bucket, task.key) == (bucket, f"{folder}before.jpg")
    # when a photo is deleted, and the rest erased
    stack.s3.delete_object(Bucket=bucket, Key=key)
    wait_until(stack, image_key, "DELETED")
    selection = Selection("", folder, bucket, own)
    assert erase_command.run(stack, selection, tmp_path, Console(quiet=True), is_real=True) == 0
    # then the photo of that name in the stack's own bucket stays
    assert _items_with(stack, bucket) == []
    assert "Contents" not in stack.s3.list_objects_v2(Bucket=bucket, Prefix=folder)
    assert record(stack, key)["state"] == "READY"


def _items_with(stack: Stack, text: str) -> list[str]:
    pages = stack.dynamodb.get_paginator("scan").paginate(TableName=stack.outputs["ImagesTableName"])
    return [str(item) for page in pages for item in page["Items"] if text in str(item)]
