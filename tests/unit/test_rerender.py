"""`make rerender` on a stack in memory: what it plans, estimates and sends, and that each photo is rendered once."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from threading import Event
from typing import Any

import pytest
from boto3.dynamodb.types import TypeSerializer
from rich.console import Console

from operations import rerender_command
from operations.current_uploads import CurrentUpload, in_inventory
from operations.errors import OperationsError
from operations.rerender import RerenderOptions, deployed_form, plan, reason_for
from operations.rerender_command import estimate
from tests.unit.operations_fakes import Killed
from tests.unit.test_operations import FakeStack

UPLOAD = CurrentUpload("a.jpg", "v2", "v2", 1000)
READY = {"version_source": "v2", "rendition_set": "new", "state": "READY"}
FAULT = {"version_source": "v2", "rendition_set": "new", "error_code": "DamagedImage"}


@pytest.mark.parametrize(
    ("record", "options", "reason"),
    [
        (READY, {}, ""),
        (READY | {"rendition_set": "old"}, {}, "another rendition set"),
        (READY | {"version_source": "v1"}, {}, "no record"),
        ({"state": "DELETED"}, {}, "no record"),
        ({}, {}, "no record"),
        ({"latest_fault": FAULT}, {}, ""),
        ({"latest_fault": FAULT | {"rendition_set": "old"}}, {}, "no record"),
        ({"latest_fault": FAULT | {"version_source": "v1"}}, {}, "no record"),
        ({"latest_fault": FAULT}, {"code": "DamagedImage"}, "failed before: DamagedImage"),
        ({"latest_fault": FAULT}, {"code": "NotAnImage"}, ""),
        (READY | {"rendition_set": "old"}, {"code": "DamagedImage"}, ""),
    ],
)
def test_an_upload_is_rendered_again_for_a_reason(record: dict[str, Any], options: Any, reason: str) -> None:
    assert reason_for(UPLOAD, record, "new", RerenderOptions(**options)) == reason


@pytest.mark.parametrize(
    ("record", "any_name", "reason"),
    [({}, False, ""), ({}, True, "no record"), (READY | {"rendition_set": "old"}, False, "another rendition set")],
)
def test_a_name_without_an_image_suffix_must_have_a_record_or_be_asked_for(
    record: dict[str, Any], any_name: bool, reason: str
) -> None:
    upload = CurrentUpload("notes", "v2", "v2", 1000)
    assert reason_for(upload, record, "new", RerenderOptions(any_name=any_name)) == reason


@dataclass
class Aws:
    """Uploads with their sizes, their records, and a queue whose tasks are done while somebody looks at its length.

    ``dies_at`` is the number of the send at which the process dies, before its effect or after.
    """

    sizes: dict[str, int]
    records: dict[str, dict[str, Any]] = field(default_factory=dict)
    form: str = ""
    done_per_look: int = 40
    queue: list[dict[str, str]] = field(default_factory=list)
    done: set[str] = field(default_factory=set)
    rendered: Counter[str] = field(default_factory=Counter)
    longest: int = 0
    sends: int = 0
    dies_at: int = -1
    dies_after_effect: bool = False
    at_each_look: Callable[[], object] = lambda: None
    memory_mb: int = 1769
    concurrency: int = 2

    @property
    def stack(self) -> FakeStack:
        outputs = {
            "UploadsBucketName": "uploads",
            "RenditionsBucketName": "renditions",
            "ImagesTableName": "images",
            "RerenderQueueUrl": "https://sqs/rerenders",
            "ProcessImageFunctionName": "function",
            "ImageTasksQueueArn": "arn:aws:sqs:eu-central-1:123456789012:tasks",
        }
        return FakeStack("darkroom", "eu-central-1", outputs, dict.fromkeys(("s3", "dynamodb", "sqs", "lambda"), self))

    def get_paginator(self, name: str) -> Any:
        self_ = self

        class Paginator:
            def paginate(self, Prefix: str = "", **_: Any) -> Iterator[Any]:  # noqa: N803
                if name == "list_event_source_mappings":
                    limit = {"MaximumConcurrency": self_.concurrency}
                    yield {"EventSourceMappings": [{"EventSourceArn": "arn:sqs:rerenders", "ScalingConfig": limit}]}
                    return
                yield {
                    "Versions": [
                        {"Key": key, "VersionId": "v1", "ETag": '"e"', "Size": size, "IsLatest": True}
                        for key, size in self_.sizes.items()
                        if key.startswith(Prefix)
                    ]
                }

        return Paginator()

    def batch_get_item(self, *, RequestItems: Any) -> Any:  # noqa: N803
        keys = [key["image_key"]["S"] for key in RequestItems["images"]["Keys"]]
        assert len(keys) <= 100
        serialize = TypeSerializer().serialize
        found = [
            {name: serialize(value) for name, value in {"image_key": key, **self.records[key]}.items()}
            for key in keys
            if key in self.records
        ]
        return {"Responses": {"images": found}}

    def get_function_configuration(self, **_: Any) -> Any:
        variables = {"KEEP_LOCATION": "false"}
        return {"MemorySize": self.memory_mb, "Architectures": ["arm64"], "Environment": {"Variables": variables}}

    def send_message_batch(self, *, QueueUrl: str, Entries: list[Any]) -> Any:  # noqa: N803
        assert QueueUrl == "https://sqs/rerenders"
        self.sends += 1
        dies = self.sends - 1 == self.dies_at
        if dies and not self.dies_after_effect:
            raise Killed
        self.queue += [json.loads(entry["MessageBody"]) for entry in Entries]
        self.longest = max(self.longest, len(self.queue))
        if dies:
            raise Killed
        return {}

    def get_queue_attributes(self, **_: Any) -> Any:
        self.work(self.done_per_look)
        self.at_each_look()
        return {"Attributes": {"ApproximateNumberOfMessages": str(len(self.queue))}}

    def work(self, count: int) -> None:
        """Do as the function does: each task once, by its id."""
        for task in self.queue[:count]:
            if task["task_id"] not in self.done:
                self.done.add(task["task_id"])
                self.rendered[task["key"]] += 1
                self.records[task["key"]] = {
                    "version_source": "v1",
                    "rendition_set": self.form or deployed_form(self.stack),
                    "state": "READY",
                    "revision": int(self.records.get(task["key"], {}).get("revision", 0)) + 1,
                }
        del self.queue[:count]


def library(count: int) -> Aws:
    return Aws({f"{number:04}.jpg": 100_000 * (1 + number % 7) for number in range(count)})


@dataclass
class Person:
    """Somebody who runs the command."""

    answer: bool = True
    ended: Event = field(default_factory=Event)
    questions: list[str] = field(default_factory=list)
    said: str = ""

    def run(self, aws: Aws, budget: float = 0, **options: Any) -> int:
        console = Console(file=io.StringIO(), width=120, highlight=False)

        def confirm(question: str) -> bool:
            self.questions.append(question)
            return self.answer

        try:
            return rerender_command.run(aws.stack, RerenderOptions(**options), budget, console, self.ended, confirm)
        finally:
            assert isinstance(console.file, io.StringIO)
            self.said = console.file.getvalue()


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rerender_command, "_SECONDS_BETWEEN_LOOKS", 0)


def test_all_are_rendered_once_and_few_wait_at_a_time() -> None:
    aws, person = library(250), Person()
    assert person.run(aws) == 0
    assert aws.rendered == dict.fromkeys(aws.sizes, 1)
    assert aws.longest <= 100
    assert "Render 250 images of stack darkroom, account 123456789012, eu-central-1 again?" in person.questions
    assert "After the first 1" in person.said  # by the pace of the first hundred
    assert "Rendered 250 again in" in person.said
    # when it runs again, then there is nothing to do
    assert person.run(aws) == 0
    assert "Of 250 uploads none has to be rendered again." in person.said


def test_nothing_is_sent_if_the_person_says_no() -> None:
    aws = library(3)
    assert Person(answer=False).run(aws) == 0
    assert aws.sends == 0


def test_a_budget_stops_before_it_is_exceeded() -> None:
    aws, person = library(250), Person()
    expected = estimate(aws.stack, plan(aws.stack, deployed_form(aws.stack), RerenderOptions()))
    budget = expected.total / 2
    assert person.run(aws, budget=budget) == 0
    count = sum(aws.rendered.values())
    assert sum(expected.dollars[:count]) <= budget < sum(expected.dollars[: count + 1])
    assert f"is enough for {count:,} of 250" in person.said
    # when even one costs more
    aws.sends = 0
    assert person.run(aws, budget=expected.dollars[0] / 2) == 1
    assert aws.sends == 0


def test_the_estimate_follows_sizes_memory_and_concurrency() -> None:
    aws = library(250)
    form = deployed_form(aws.stack)
    expected = estimate(aws.stack, plan(aws.stack, form, RerenderOptions()))
    assert sum(line.dollars for line in expected.lines) == pytest.approx(expected.total)
    assert expected.dollars[6] > expected.dollars[0]  # a larger photo
    aws.concurrency = 4
    assert estimate(aws.stack, plan(aws.stack, form, RerenderOptions())).seconds == pytest.approx(expected.seconds / 2)


def test_a_run_that_is_paused_is_continued_by_the_next_one() -> None:
    aws, person = library(250), Person()
    looks = iter(range(1000))
    aws.at_each_look = lambda: person.ended.set() if next(looks) == 4 else None
    assert person.run(aws) == 130
    assert "Stopped by you. Run it again for the rest." in person.said
    assert 0 < sum(aws.rendered.values()) < 250
    assert not aws.queue  # what was sent is finished
    aws.at_each_look = lambda: None
    assert Person().run(aws) == 0
    assert aws.rendered == dict.fromkeys(aws.sizes, 1)


@pytest.mark.parametrize("after_effect", [False, True])
@pytest.mark.parametrize("dies_at", [0, 3, 12])
def test_a_run_that_is_killed_is_continued_and_each_is_rendered_once(dies_at: int, after_effect: bool) -> None:
    aws = library(250)
    aws.dies_at, aws.dies_after_effect = dies_at, after_effect
    with pytest.raises(Killed):
        Person().run(aws)
    # when the next run begins while tasks of the first still wait
    assert Person().run(aws) == 0
    assert aws.rendered == dict.fromkeys(aws.sizes, 1)


def test_two_runs_at_once_send_the_same_tasks() -> None:
    aws = library(50)
    form = deployed_form(aws.stack)
    first, second = (plan(aws.stack, form, RerenderOptions()).tasks for _ in range(2))
    assert first == second


def test_a_run_against_another_rendition_set_stops() -> None:
    aws = library(250)
    aws.form = "of another deployment"
    with pytest.raises(OperationsError, match="another rendition set than this folder"):
        Person().run(aws)
    assert sum(aws.rendered.values()) < 250


def test_what_fails_is_counted() -> None:
    aws, person = library(20), Person()
    aws.done_per_look = 20
    aws.work = lambda count: aws.queue.clear()  # type: ignore[method-assign] # every task becomes a dead letter
    assert person.run(aws) == 1
    assert "20 failed: make status shows the dead letters." in person.said


MANIFEST = "s3://reports/uploads/daily/2026-11-27T01-00Z/manifest.json"
SCHEMA = "Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size, ETag"
ROWS = """\
"uploads","trip/a+photo%2B1.jpg","v2","true","false","1000","e2"
"uploads","trip/a+photo%2B1.jpg","v1","false","false","900","e1"
"uploads","trip/gone.jpg","m1","true","true","",""
"uploads","trip/before-versions.jpg","","true","false","7","e3"
"uploads","other.jpg","v3","true","false","5","e4"
"""


@dataclass
class Reports:
    """A bucket with an inventory report."""

    rows: str = ROWS
    manifest: dict[str, Any] = field(default_factory=dict)
    is_damaged: bool = False
    versioning: dict[str, str] = field(default_factory=lambda: {"Status": "Enabled"})

    def get_bucket_versioning(self, **_: Any) -> Any:
        return self.versioning

    def get_object(self, *, Bucket: str, Key: str) -> Any:  # noqa: N803
        assert Bucket == "reports"
        packed = gzip.compress(self.rows.encode(), mtime=0)
        if Key.endswith(".csv.gz"):
            return {"Body": io.BytesIO(packed[:-9] if self.is_damaged else packed)}
        file = {
            "key": "uploads/daily/data/1.csv.gz",
            "MD5checksum": hashlib.md5(packed, usedforsecurity=False).hexdigest(),
        }
        content = {"sourceBucket": "uploads", "fileFormat": "CSV", "fileSchema": SCHEMA, "files": [file]}
        return {"Body": io.BytesIO(json.dumps(content | self.manifest).encode())}


def read(reports: Any, prefix: str = "trip/", manifest: str = MANIFEST) -> list[CurrentUpload]:
    return list(in_inventory(reports, "uploads", prefix, manifest))


def test_an_inventory_report_has_the_current_uploads() -> None:
    assert read(Reports()) == [
        CurrentUpload("trip/a photo+1.jpg", "v2", "v2", 1000),
        CurrentUpload("trip/before-versions.jpg", None, "e3", 7),
    ]


def test_an_inventory_report_of_a_bucket_without_versions_needs_none() -> None:
    reports = Reports('"uploads","trip/a.jpg","7","e3"\n', {"fileSchema": "Bucket, Key, Size, ETag"}, versioning={})
    assert read(reports) == [CurrentUpload("trip/a.jpg", None, "e3", 7)]


@pytest.mark.parametrize(
    ("reports", "manifest", "message"),
    [
        (Reports(), "reports/manifest.json", "is not the address of a manifest"),
        (Reports(manifest={"fileFormat": "ORC"}), MANIFEST, "is in ORC. Configure one in CSV"),
        (Reports(manifest={"sourceBucket": "holidays"}), MANIFEST, "is of bucket holidays, not of uploads"),
        (
            Reports(manifest={"fileSchema": "Bucket, Key, Size"}),
            MANIFEST,
            "lacks ETag, VersionId, IsLatest, IsDeleteMarker",
        ),
        (Reports(manifest={"files": 7}), MANIFEST, "is not the manifest of an S3 Inventory report"),
        (Reports(is_damaged=True), MANIFEST, "its checksum differs"),
    ],
)
def test_a_report_that_cannot_be_used_is_refused(reports: Reports, manifest: str, message: str) -> None:
    with pytest.raises(OperationsError, match=message):
        read(reports, manifest=manifest)


def test_a_plan_can_be_made_from_an_inventory_report(monkeypatch: pytest.MonkeyPatch) -> None:
    aws, reports = library(0), Reports()
    for name in ("get_object", "get_bucket_versioning"):
        monkeypatch.setattr(aws, name, getattr(reports, name), raising=False)
    found = plan(aws.stack, deployed_form(aws.stack), RerenderOptions(prefix="trip/", inventory=MANIFEST))
    assert [(task.key, task.version_id) for task in found.tasks] == [
        ("trip/a photo+1.jpg", "v2"),
        ("trip/before-versions.jpg", None),
    ]
