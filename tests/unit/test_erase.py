"""`make erase` on a stack in memory: what it finds, what it leaves, and its receipt, also after a kill."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from darkroom.image_messages import delete_task_id
from moto import mock_aws
from rich.console import Console

from functions.process_image.images import OTHER_BUCKETS, rendition_prefix
from operations import erase, erase_command
from operations.erase import Selection
from tests.unit.operations_fakes import FakeQueues, Killed
from tests.unit.tables import empty_table
from tests.unit.test_operations import FakeStack

UPLOADS, RENDITIONS = "uploads", "renditions"
MINE, OTHER = "trip/lake.jpg", "trip/lake.jpg2"
RENDITION = "0123456789abcdef/thumb.webp"
# Every message about the photo, by its queue; `{}` stands for its key.
MESSAGES = {
    "results": '{"image_key": "{}", "state": "READY", "version_order": "1"}',
    "image-dead-letters": '{"task_id": "t", "bucket": "uploads", "key": "{}"}',
    "result-dead-letters": '{"image_key": "{}", "state": "DELETED"}',
    "rabbitmq-dead-letters": '{"task_id": 7, "bucket": "uploads", "key": "{}"}',
}


@dataclass
class Aws:
    """S3 and DynamoDB, and a process that may die at any call that removes something.

    The function is here too: it answers the deletion of an upload with a task, a tombstone and a result.
    """

    bucket: str
    tables: dict[str, str]
    queues: FakeQueues
    s3: Any
    dynamodb: Any
    answers: bool = True
    dies_at: int = -1
    dies_after_effect: bool = False
    refused: set[str] = field(default_factory=set)
    removals: list[list[str]] = field(default_factory=list)

    def get_paginator(self, name: str) -> Any:
        return (self.dynamodb if name == "scan" else self.s3).get_paginator(name)

    def batch_get_item(self, **request: Any) -> Any:
        return self.dynamodb.batch_get_item(**request)

    def delete_objects(self, *, Bucket: str, Delete: Any) -> Any:  # noqa: N803
        def effect() -> Any:
            wanted = [each for each in Delete["Objects"] if each["Key"] not in self.refused]
            if wanted:
                self.s3.delete_objects(Bucket=Bucket, Delete={"Objects": wanted})
            if Bucket == UPLOADS and self.answers:
                self.answer(wanted)
            return {
                "Errors": [
                    {"Code": "AccessDenied", "Message": "under legal hold", **each}
                    for each in Delete["Objects"]
                    if each not in wanted
                ]
            }

        return self._remove([each["Key"] for each in Delete["Objects"]], effect)

    def answer(self, deleted: list[dict[str, str]]) -> None:
        for each in deleted:
            task_id = delete_task_id(UPLOADS, each["Key"], each["VersionId"])
            task = {"task_id": task_id, "bucket": UPLOADS, "key": each["Key"], "state": "DONE"}
            self.put("tasks", task)
            self.put("images", {"image_key": each["Key"], "state": "DELETED"})
            self.queues.put("results", json.dumps({"image_key": each["Key"], "state": "DELETED"}))

    def put(self, table: str, item: dict[str, str]) -> None:
        self.dynamodb.put_item(TableName=self.tables[table], Item={name: {"S": text} for name, text in item.items()})

    def delete_item(self, *, TableName: str, Key: Any) -> Any:  # noqa: N803
        (name,) = (value["S"] for value in Key.values())
        if name in self.refused:
            raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, "DeleteItem")
        return self._remove([name], lambda: self.dynamodb.delete_item(TableName=TableName, Key=Key))

    def _remove(self, names: list[str], effect: Any) -> Any:
        self.removals.append(names)
        dies = len(self.removals) - 1 == self.dies_at
        if dies and not self.dies_after_effect:
            raise Killed
        answer = effect()
        if dies:
            raise Killed
        return answer

    def get_function_configuration(self, **_: Any) -> Any:
        return {"LoggingConfig": {"LogGroup": "logs"}}

    def describe_log_groups(self, **_: Any) -> Any:
        return {"logGroups": [{"retentionInDays": 30}]}

    def kept(self, key: str) -> list[str]:
        """Every name, item and message that has a key."""
        found = []
        for bucket in (UPLOADS, RENDITIONS):
            page = self.s3.list_object_versions(Bucket=bucket)
            found += [v["Key"] for v in (*page.get("Versions", []), *page.get("DeleteMarkers", []))]
        found += [str(item) for table in self.tables.values() for item in self.dynamodb.scan(TableName=table)["Items"]]
        found += [body for queue in MESSAGES for body in self.queues.bodies(queue)]
        return [each for each in found if key in each.replace(OTHER, "other")]


@pytest.fixture
def aws() -> Iterator[Aws]:
    with mock_aws():
        s3, dynamodb = boto3.client("s3"), boto3.client("dynamodb")
        for bucket in (UPLOADS, RENDITIONS):
            where: Any = {"LocationConstraint": "eu-central-1"}
            s3.create_bucket(Bucket=bucket, CreateBucketConfiguration=where)
        s3.put_bucket_versioning(Bucket=UPLOADS, VersioningConfiguration={"Status": "Enabled"})
        tables = {"images": empty_table(dynamodb, "image_key"), "tasks": empty_table(dynamodb, "task_id")}
        made = Aws(UPLOADS, tables, FakeQueues(), s3, dynamodb)
        for key in (MINE, OTHER):
            s3.put_object(Bucket=UPLOADS, Key=key, Body=b"first")
            s3.delete_object(Bucket=UPLOADS, Key=key)
            s3.put_object(Bucket=UPLOADS, Key=key, Body=b"second")
            s3.put_object(Bucket=RENDITIONS, Key=f"{key}/{RENDITION}", Body=b"thumb")
            made.put("images", {"image_key": key, "state": "READY"})
            made.put("tasks", {"task_id": f"task of {key}", "bucket": UPLOADS, "key": key, "state": "DONE"})
            for queue, body in MESSAGES.items():
                made.queues.put(queue, body.replace("{}", key))
        yield made


def stack_of(aws: Aws) -> FakeStack:
    outputs = {
        "ImageTasksQueueArn": "arn:aws:sqs:eu-central-1:123456789012:tasks",
        "UploadsBucketName": UPLOADS,
        "RenditionsBucketName": RENDITIONS,
        "ImagesTableName": aws.tables["images"],
        "TasksTableName": aws.tables["tasks"],
        "ResultsQueueUrl": "results",
        "ImageTasksDeadLetterQueueUrl": "image-dead-letters",
        "ResultsDeadLetterQueueUrl": "result-dead-letters",
        "RabbitMqDeadLetterQueueUrl": "rabbitmq-dead-letters",
        "ProcessImageFunctionName": "function",
    }
    clients = {"s3": aws, "dynamodb": aws, "sqs": aws.queues, "lambda": aws, "logs": aws}
    return FakeStack("darkroom", "eu-central-1", outputs, clients)


def run(aws: Aws, receipts: Path, *, is_real: bool = True) -> tuple[int, str]:
    console = Console(file=io.StringIO(), width=200, highlight=False)
    code = erase_command.run(stack_of(aws), Selection(MINE, "", UPLOADS, UPLOADS), receipts, console, is_real=is_real)
    assert isinstance(console.file, io.StringIO)
    return code, console.file.getvalue()


def the_receipt(receipts: Path) -> dict[str, Any]:
    (path,) = receipts.glob("*.json")
    content: dict[str, Any] = json.loads(path.read_text())
    return content


class FakeCloudFront:
    """Notes what is invalidated."""

    def __init__(self) -> None:
        self.paths: list[list[str]] = []

    def create_invalidation(self, *, DistributionId: str, InvalidationBatch: Any) -> Any:  # noqa: N803
        assert DistributionId == "E1"
        assert InvalidationBatch["Paths"]["Quantity"] == len(InvalidationBatch["Paths"]["Items"])
        self.paths.append(InvalidationBatch["Paths"]["Items"])
        return {"Invalidation": {"Id": "I1"}}


@pytest.mark.parametrize(
    ("selection", "keys", "paths"),
    [
        (Selection("users/4711/ä.jpg", "", UPLOADS, UPLOADS), ["users/4711/ä.jpg"], ["/users/4711/%C3%A4.jpg*"]),
        (Selection("", "users/4711/", UPLOADS, UPLOADS), ["users/4711/a.jpg", "users/4711/b.jpg"], ["/users/4711/*"]),
    ],
    ids=["a photo", "a folder"],
)
def test_cloudfront_forgets_its_copies(aws: Aws, selection: Selection, keys: list[str], paths: list[str]) -> None:
    stack, cloudfront = stack_of(aws), FakeCloudFront()
    assert erase.clear_cdn(stack, selection, keys) == "", "there is no distribution"
    stack.outputs["DistributionId"] = "E1"
    stack.clients["cloudfront"] = cloudfront
    assert erase.clear_cdn(stack, selection, keys) == "I1"
    assert set(cloudfront.paths[0]) == {*paths, *(f"/{OTHER_BUCKETS}{UPLOADS}{path}" for path in paths)}


def test_a_dry_run_shows_everything_but_results_and_removes_nothing(aws: Aws, tmp_path: Path) -> None:
    before = aws.kept(MINE)
    code, said = run(aws, tmp_path, is_real=False)
    assert code == 0
    for kind in ("older version", "upload", "delete marker", "rendition", "record", "task", "dead letters of RabbitMQ"):
        assert kind in said
    assert "a look hides them from their reader" in said
    assert sorted(aws.kept(MINE)) == sorted(before)
    assert not list(tmp_path.iterdir())


def test_everything_of_one_key_is_removed_and_nothing_of_another(aws: Aws, tmp_path: Path) -> None:
    others = aws.kept(OTHER)
    code, said = run(aws, tmp_path)
    assert (code, aws.kept(MINE), aws.kept(OTHER)) == (0, [], others)
    receipt = the_receipt(tmp_path)
    assert receipt["is_complete"]
    kinds = {entry["kind"] for entry in receipt["removed"]}
    assert kinds == {
        *(*erase.UPLOADS, "rendition", "record", "task", "unread results"),
        *("dead letters", "dead letters of results", "dead letters of RabbitMQ"),
    }
    assert all(entry["at"] for entry in receipt["removed"])
    assert next(entry["what"] for entry in receipt["lingers"]) in said


def test_what_hides_older_versions_is_removed_after_them(aws: Aws, tmp_path: Path) -> None:
    aws.s3.delete_object(Bucket=UPLOADS, Key=MINE)  # both versions are older ones now
    seen = []
    delete = aws.s3.delete_objects

    def watch(**request: Any) -> Any:
        answer = delete(**request)
        shown = aws.s3.list_objects_v2(Bucket=UPLOADS, Prefix=MINE).get("Contents", [])
        seen.append(MINE in {found["Key"] for found in shown})
        return answer

    aws.s3.delete_objects = watch
    assert run(aws, tmp_path)[0] == 0
    assert not any(seen)


@pytest.mark.parametrize("after_effect", [False, True])
def test_a_killed_run_is_continued_and_its_receipt_names_everything(
    aws: Aws, tmp_path: Path, after_effect: bool
) -> None:
    versions = aws.s3.list_object_versions(Bucket=UPLOADS, Prefix=MINE)
    planted = {v["VersionId"] for v in (*versions["Versions"], *versions["DeleteMarkers"]) if v["Key"] == MINE}
    planted |= {f"{MINE}/{RENDITION}", MINE, f"task of {MINE}"}
    aws.dies_after_effect = after_effect
    # when each run is killed at its first removal, or one removal later than the run before, until one comes to its end
    kills = 0
    for attempt in range(100):
        aws.dies_at = 0 if after_effect else attempt
        aws.removals.clear()
        try:
            code, _ = run(aws, tmp_path)
            break
        except Killed:
            kills += 1
            aws.queues.restart()
    # then one receipt names everything
    assert code == 0
    assert kills > 3
    assert aws.kept(MINE) == []
    receipt = the_receipt(tmp_path)
    assert receipt["is_complete"]
    assert receipt["being_removed"] == []
    assert planted <= {entry["version_id"] or entry["name"] for entry in receipt["removed"]}


def test_what_aws_refuses_is_named_with_its_reason_and_the_rest_is_removed(aws: Aws, tmp_path: Path) -> None:
    aws.refused = {f"{MINE}/{RENDITION}", f"task of {MINE}"}
    code, said = run(aws, tmp_path)
    assert code == 1
    assert "AccessDenied: under legal hold" in said
    assert len(aws.kept(MINE)) == 2
    receipt = the_receipt(tmp_path)
    assert not receipt["is_complete"]
    reasons = {entry["name"]: entry["reason"] for entry in receipt["not_removed"]}
    assert reasons[f"{MINE}/{RENDITION}"] == "AccessDenied: under legal hold"
    assert "AccessDeniedException" in reasons[f"task of {MINE}"]
    # when it is allowed, then the next run ends the same receipt
    aws.refused = set()
    assert run(aws, tmp_path)[0] == 0
    assert the_receipt(tmp_path)["is_complete"]
    assert aws.kept(MINE) == []


def test_a_deletion_that_the_function_did_not_answer_is_waited_for_by_the_next_run(
    aws: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erase, "SECONDS_TO_SETTLE", -1)
    monkeypatch.setattr(erase, "_SECONDS_BETWEEN_LOOKS", 0)
    aws.answers = False
    code, said = run(aws, tmp_path)
    assert code == 1
    assert "has not answered 3 deletions" in said
    unanswered = the_receipt(tmp_path)["unanswered"]
    assert len(unanswered) == 3
    # when the function answers late
    aws.answer([{"Key": entry["name"], "VersionId": entry["version_id"]} for entry in unanswered])
    # then the next run removes what it wrote
    assert run(aws, tmp_path)[0] == 0
    assert (aws.kept(MINE), the_receipt(tmp_path)["unanswered"]) == ([], [])


def test_the_record_tells_whether_a_deletion_without_a_version_is_answered(
    aws: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erase, "SECONDS_TO_SETTLE", -1)
    gone = [erase.Trace("upload", UPLOADS, key, key, "null") for key in (MINE, "never-rendered.jpg")]
    assert erase.wait_until_settled(stack_of(aws), gone, lambda _: None) == gone[:1]
    aws.put("images", {"image_key": MINE, "state": "DELETED"})
    assert erase.wait_until_settled(stack_of(aws), gone, lambda _: None) == []


@pytest.mark.parametrize(
    ("body", "is_named"),
    [
        ('{"image_key": "trip/lake.jpg"}', True),
        ('{"image_key": "trip/sea.jpg", "renditions": [{"key": "trip/lake.jpg"}]}', False),
        ('{"task_id": "t", "bucket": "uploads", "key": "trip/lake.jpg"}', True),
        ('{"task_id": "", "bucket": "uploads", "key": "trip/lake.jpg"}', True),
        ('{"Records": [{"s3": {"object": {"key": "trip%2Flake.jpg"}}}]}', True),
        ('{"task_id": "trip/lake.jpg", "bucket": "uploads", "key": "sea.jpg"}', False),
        ("please render trip/lake.jpg", True),
        ("[" * 100_000, False),
    ],
)
def test_a_message_about_the_photo_is_recognised(body: str, is_named: bool) -> None:
    queues = FakeQueues()
    queues.put("dead-letters", body)
    stack = FakeStack("darkroom", "eu-central-1", {"ImageTasksDeadLetterQueueUrl": "dead-letters"}, {"sqs": queues})
    assert bool(list(erase.dead_letters(stack, Selection(MINE, "", UPLOADS, UPLOADS)))) is is_named


def test_the_renditions_of_a_very_long_key_are_found(aws: Aws) -> None:
    key = "a" * 1000
    name = f"{rendition_prefix(key)}{RENDITION}"
    aws.s3.put_object(Bucket=RENDITIONS, Key=name, Body=b"thumb")
    found = list(erase.renditions(stack_of(aws), Selection(key, "", UPLOADS, UPLOADS), [key]))
    assert [(trace.name, trace.key) for trace in found] == [(name, key)]
