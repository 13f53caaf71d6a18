"""`make chaos` on the stack of the tests."""

from __future__ import annotations

import json
from uuid import uuid4

import pytest
from darkroom.dead_letters import SqsDeadLetters
from darkroom.errors import ObjectGone, ServiceUnavailable
from rich.console import Console

from local.chaos import command as chaos
from local.config import LocalConfig
from local.outcomes import read_dead_letters
from local.stack import Stack
from tests.console import recording, said
from tests.integration.uploading import SAMPLES, wait_for


@pytest.fixture
def console() -> Console:
    return recording(132)


@pytest.mark.usefixtures("broker")
def test_chaos_loses_nothing_and_does_nothing_twice(
    stack: Stack, config: LocalConfig, console: Console, capsys: pytest.CaptureFixture[str]
) -> None:
    # when all flows run at once while everything is disturbed
    assert chaos.run(config, console, "all", 70, with_mistakes=False) == 0, said(console)
    # then the faulty ones are among the dead letters, and all others are done
    assert capsys.readouterr().out.splitlines()[-1] == "accepted 70, done 67, dead-lettered 3, lost 0, twice 0"
    told = json.loads((config.folder / "chaos.json").read_text())
    assert {name: flow["accepted"] for name, flow in told["flows"].items()} == {
        "images": 21,
        "orders": 17,
        "rabbitmq": 32,
    }
    # and photos were deleted, undeleted and erased
    images = told["flows"]["images"]["details"]
    assert all(images[change] for change in ("keys deleted", "keys undeleted", "newest versions deleted"))
    assert images["still found by a search"] == 0
    # and things did go wrong
    assert told["disturbed"]["function processes killed"] > 0
    assert told["disturbed"]["broker restarts"] == 2
    assert all(sum(told["failed_calls"][service].values()) > 0 for service in ("s3", "dynamodb", "sqs", "sns"))
    # and Markdown for the documents was written
    assert "| all | 70 | 67 | 3 | 0 | 0 |" in (config.folder / "chaos.md").read_text()


@pytest.mark.usefixtures("broker")
def test_chaos_redrives_only_what_met_transient_faults(stack: Stack, config: LocalConfig, console: Console) -> None:
    # given two dead letters: one of a photo that can be rendered, one of a photo that is gone
    key, bucket = f"{uuid4()}/photo", stack.outputs["UploadsBucketName"]  # S3 sends no event for such a name
    stack.s3.upload_file(str(SAMPLES / "raccoon.jpg"), bucket, key)
    dead_letters = SqsDeadLetters(stack.sqs, stack.outputs["ImageTasksDeadLetterQueueUrl"])
    passing, gone = f"passing-{uuid4()}", f"gone-{uuid4()}"
    dead_letters.send(_task(passing, bucket, key), passing, ServiceUnavailable("S3 was away."))
    dead_letters.send(_task(gone, bucket, "never-uploaded"), gone, ObjectGone("There is no such object."))
    # when
    redriven = chaos.redrive(stack, config, console)
    # then
    assert redriven["ServiceUnavailable"] >= 1  # those that other tests have left, too
    assert "ObjectGone" not in redriven
    assert wait_for(stack, passing)["outcome"] == "Processed"
    letters = {letter.task_id for letter in read_dead_letters(stack, stack.outputs["ImageTasksDeadLetterQueueUrl"])}
    assert letters & {passing, gone} == {gone}


def _task(task_id: str, bucket: str, key: str) -> str:
    return json.dumps({"task_id": task_id, "bucket": bucket, "key": key})
