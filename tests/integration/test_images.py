"""Uploads through the deployed stack: S3 event, queue, function, renditions, record, result."""

from __future__ import annotations

import io
import json
from typing import Any
from uuid import uuid4

import pytest
from darkroom.image_messages import upload_task_id
from darkroom.sending import PlainTask, submit_tasks
from PIL import Image

from local.order_events import listening
from local.outcomes import poll
from local.stack import Stack
from tests.integration.uploading import (
    SAMPLES,
    SECONDS,
    image,
    new_key,
    s3_record,
    send,
    upload,
    wait_for,
    wait_for_log,
    wait_for_results,
)

RENDITIONS = {"thumb": 256, "small": 640, "medium": 1280, "large": 1920}


def test_an_upload_becomes_renditions_a_record_and_a_result(stack: Stack) -> None:
    # given an awkward but legal name
    key = new_key("Käthe + Otto & 100 % = é.JPG")
    # when a photo is uploaded
    version_id, task_id = upload(stack, key, SAMPLES / "raccoon.jpg")
    task = wait_for(stack, task_id)
    # then the task is remembered as done, once
    assert (task["outcome"], task["attempts"]) == ("Processed", 1)
    assert task["processed_at"]
    # and the record tells readers all they need
    record = image(stack, key)
    assert (record["state"], record["version_id"], record["format"]) == ("READY", version_id, "jpeg")
    assert (int(record["width"]), int(record["height"])) == (2000, 1500)
    assert record["camera"] == "Darkroom Sample One"
    # and the renditions are what the record says
    for rendition in record["renditions"]:
        answer = stack.s3.get_object(Bucket=stack.outputs["RenditionsBucketName"], Key=rendition["key"])
        picture = Image.open(io.BytesIO(answer["Body"].read()))
        assert answer["ContentType"] == "image/webp"
        assert picture.size == (int(rendition["width"]), int(rendition["height"]))
        assert max(picture.size) == RENDITIONS[rendition["name"]]
    # and the result was announced once
    results = wait_for_results(stack, key)
    assert [result["task_id"] for result in results] == [task_id]
    assert [r["key"] for r in results[0]["renditions"]] == [r["key"] for r in record["renditions"]]


def test_no_position_leaves_the_upload(stack: Stack) -> None:
    key = new_key("rocket.jpg")
    _, task_id = upload(stack, key, SAMPLES / "rocket-turned.jpg")
    wait_for(stack, task_id)
    record = image(stack, key)
    assert record["location"] is None
    body = stack.s3.get_object(Bucket=stack.outputs["RenditionsBucketName"], Key=record["renditions"][0]["key"])["Body"]
    picture = Image.open(io.BytesIO(body.read()))
    assert not picture.getexif()
    assert picture.height > picture.width, "turned upright"


def test_the_newest_version_wins_and_the_old_renditions_become_stale(stack: Stack) -> None:
    # given a published photo
    key = new_key()
    _, first_task = upload(stack, key, SAMPLES / "raccoon.jpg")
    wait_for(stack, first_task)
    old = image(stack, key)
    # when it is overwritten
    version_id, second_task = upload(stack, key, SAMPLES / "rocket-turned.jpg")
    wait_for(stack, second_task)
    # then readers see the new version, and the old renditions are left to the lifecycle rule
    assert image(stack, key)["version_id"] == version_id
    tags = stack.s3.get_object_tagging(Bucket=stack.outputs["RenditionsBucketName"], Key=old["renditions"][0]["key"])[
        "TagSet"
    ]
    assert tags == [{"Key": "darkroom:stale", "Value": "true"}]
    # and when the first version's event is delivered again as another task, it does not bring it back
    task_id = f"late-{uuid4().hex}"
    send(stack, {"task_id": task_id, "bucket": old["bucket"], "key": key, "version_id": old["version_id"]})
    assert wait_for(stack, task_id)["outcome"] == "Superseded"
    assert image(stack, key)["version_id"] == version_id


def test_plain_tasks_are_taken_once_however_often_they_are_sent(stack: Stack) -> None:
    # given a photo under a name that no notification matches
    key = new_key("photo.without-suffix")
    upload(stack, key, SAMPLES / "IMG_0042.JPG")
    task = PlainTask(f"plain-{uuid4().hex}", stack.outputs["UploadsBucketName"], key)
    # when one task is sent three times
    assert submit_tasks(stack.sqs, stack.outputs["ImageTasksQueueUrl"], [task] * 3) == 3
    # then it is done once
    assert wait_for(stack, task.task_id)["outcome"] == "Processed"
    assert [result["task_id"] for result in wait_for_results(stack, key)] == [task.task_id]


def _by_sns(stack: Stack, key: str, version_id: str) -> dict[str, Any]:
    return {"Type": "Notification", "Message": json.dumps({"Records": [s3_record(stack, key, version_id)]})}


def _by_eventbridge(stack: Stack, key: str, version_id: str) -> dict[str, Any]:
    bucket = stack.outputs["UploadsBucketName"]
    detail = {"bucket": {"name": bucket}, "object": {"key": key, "version-id": version_id, "sequencer": "0055"}}
    return {"detail-type": "Object Created", "source": "aws.s3", "time": "2026-01-01T00:00:00Z", "detail": detail}


@pytest.mark.parametrize("wrap", [_by_sns, _by_eventbridge], ids=["SNS", "EventBridge"])
def test_other_forms_of_upload_events_are_understood(stack: Stack, wrap: Any) -> None:
    key = new_key("photo.unmatched")
    version_id, task_id = upload(stack, key, SAMPLES / "IMG_0042.JPG")
    send(stack, wrap(stack, key, version_id))
    assert wait_for(stack, task_id)["outcome"] == "Processed"


def test_a_bad_record_does_not_hold_up_the_others_of_its_message(stack: Stack) -> None:
    good, gone = new_key("a.unmatched"), new_key("b.unmatched")
    version_id, good_task = upload(stack, good, SAMPLES / "IMG_0042.JPG")
    send(stack, {"Records": [s3_record(stack, gone, "no-such-version"), s3_record(stack, good, version_id)]})
    assert wait_for(stack, good_task)["outcome"] == "Processed"
    gone_task = upload_task_id(stack.outputs["UploadsBucketName"], gone, "no-such-version")
    assert wait_for(stack, gone_task)["outcome"] == "Deleted"


def test_a_notification_invoked_directly_is_answered_with_its_outcome(stack: Stack) -> None:
    key = new_key("photo.unmatched")
    version_id, task_id = upload(stack, key, SAMPLES / "IMG_0042.JPG")
    answer = stack.lambda_.invoke(
        FunctionName=stack.outputs["ProcessImageFunctionName"],
        Payload=json.dumps({"Records": [s3_record(stack, key, version_id)]}),
    )
    assert json.load(answer["Payload"]) == {"outcomes": [{"task_id": task_id, "result": "Processed"}]}


def test_the_log_has_each_image_with_its_times(stack: Stack) -> None:
    key = new_key()
    _, task_id = upload(stack, key, SAMPLES / "IMG_0042.JPG")
    wait_for(stack, task_id)
    (line,) = wait_for_log(stack, [task_id])
    assert (line["message"], line["bucket"], line["key"]) == ("Processed", stack.outputs["UploadsBucketName"], key)
    assert line["NotificationLatencyMs"] >= 0
    assert line["ProcessingTimeMs"] > 0


def test_subscribers_receive_the_outcome_of_an_image(stack: Stack) -> None:
    key = new_key()
    with listening(stack, "ImageEventsTopicArn") as listener:
        # when a photo is uploaded, overwritten by what is none, and deleted
        _, ready = upload(stack, key, SAMPLES / "IMG_0042.JPG")
        wait_for(stack, ready)
        _, failed = upload(stack, key, SAMPLES / "faulty" / "bitmap.jpg")
        wait_for(stack, failed)
        stack.s3.delete_object(Bucket=stack.outputs["UploadsBucketName"], Key=key)

        def about_it() -> list[dict[str, Any]]:
            return [event for event in listener.listen() if event["image_key"] == key]

        events = poll(about_it, lambda events: len(events) == 3, seconds=SECONDS)
    # then
    assert [event["event_type"] for event in events] == ["ImageReady", "ImageFailed", "ImageDeleted"]
    assert [event["task_id"] for event in events[:2]] == [ready, failed]
    assert (events[1]["error_code"], events[1]["still_published"]) == ("UnsupportedFormat", True)
    assert events[1]["reason"]
    # and the results queue is not told of failures
    assert [result["state"] for result in wait_for_results(stack, key, 2)] == ["READY", "DELETED"]
