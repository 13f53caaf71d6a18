"""One message is one task, and what it says about times moves no alarm."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from darkroom.image_messages import upload_task_id
from darkroom.messages import unreadable_task_id

from local.outcomes import read_items
from local.stack import Stack
from tests.integration.calling import Caller, owner_of
from tests.integration.uploading import new_key, s3_record, send, wait_for, wait_for_dead_letter, wait_for_log


def test_one_request_is_never_a_thousand_tasks(stack: Stack) -> None:
    # given a body that is one task to one reader, and a thousand to another
    bucket, versions = stack.outputs["UploadsBucketName"], [f"v{number}" for number in range(1000)]
    records = [s3_record(stack, "nothing.unmatched", version) for version in versions]
    body = {"task_id": "one", "bucket": bucket, "key": "nothing.unmatched", "Records": records}
    # when it is sent over HTTP, and past the API to the queue
    status, answer, _ = Caller(stack, owner_of(stack))("POST", "/image-tasks", body)
    text = send(stack, body)
    # then it is refused as a whole
    assert (status, answer["error"]["code"]) == (400, "BAD_REQUEST_BODY")
    letter = wait_for_dead_letter(stack, unreadable_task_id(text))
    assert (letter.error_code, json.loads(letter.body)) == ("MalformedMessage", body)
    tasks = [upload_task_id(bucket, "nothing.unmatched", version) for version in (versions[0], versions[-1])]
    assert read_items(stack, stack.outputs["TasksTableName"], "task_id", ["one", *tasks]) == {}


def test_a_forged_time_does_not_count(stack: Stack) -> None:
    # given events of an hour ago, of the future, and older than the queue keeps messages
    bucket, key, now = stack.outputs["UploadsBucketName"], new_key("forged.unmatched"), datetime.now(UTC)
    times = {"hour": now - timedelta(hours=1), "future": now + timedelta(days=1), "old": now - timedelta(days=15)}
    send(stack, {"Records": [s3_record(stack, key, name, time.isoformat()) for name, time in times.items()]})
    tasks = {upload_task_id(bucket, key, name): name for name in times}
    # when they are processed
    for task in tasks:
        wait_for(stack, task)
    # then the function measures the first alone
    counted = {tasks[line["task_id"]]: "NotificationLatencyMs" in line for line in wait_for_log(stack, tasks)}
    assert counted == {"hour": True, "future": False, "old": False}
