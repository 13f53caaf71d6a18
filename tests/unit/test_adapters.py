from __future__ import annotations

import io
import json
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import boto3
import pytest
from botocore.response import StreamingBody
from botocore.stub import Stubber
from darkroom.dead_letters import SqsDeadLetters
from darkroom.errors import (
    InProgressElsewhere,
    NotAnImage,
    ObjectGone,
    PermanentFault,
    ServiceUnavailable,
    TooLarge,
)
from darkroom.image_messages import ImageTask
from darkroom.visibility import set_visibility_timeout
from moto import mock_aws
from urllib3.exceptions import ProtocolError

from functions.process_image.images import ImageRecord, ImageVersion, StoredRendition
from functions.process_image.images_table import DynamoDbImages
from functions.process_image.photo import Rendition
from functions.process_image.ports import Claim, Images, Result, Tasks
from functions.process_image.results_queue import SqsResults
from functions.process_image.s3 import S3Renditions, S3Upload, S3Uploads
from functions.process_image.tasks_table import DynamoDbTasks
from tests.unit.events import BUCKET
from tests.unit.fakes import FakeImages, FakeTasks
from tests.unit.tables import empty_table

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

REGION: Final = "eu-central-1"


@dataclass
class Clock:
    now: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now


TASK = ImageTask("task-1", BUCKET, "a.jpg", body="{}")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def aws() -> Iterator[None]:
    with mock_aws():
        yield


@pytest.fixture(scope="module")
def dynamodb(aws: None) -> DynamoDBClient:
    return boto3.client("dynamodb", region_name=REGION)


@pytest.fixture(scope="module")
def s3(aws: None) -> S3Client:
    client = boto3.client("s3", region_name=REGION)
    for bucket in (BUCKET, "unversioned", "renditions"):
        client.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    client.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    return client


@pytest.fixture(scope="module")
def sqs(aws: None) -> SQSClient:
    return boto3.client("sqs", region_name=REGION)


@pytest.fixture
def queue_url(sqs: SQSClient) -> str:
    return sqs.create_queue(QueueName=uuid4().hex)["QueueUrl"]


@pytest.fixture
def dynamodb_tasks(dynamodb: DynamoDBClient, clock: Clock) -> DynamoDbTasks:
    return DynamoDbTasks(dynamodb, empty_table(dynamodb, "task_id"), retention_days=30, now=clock)


@pytest.fixture
def dynamodb_images(dynamodb: DynamoDBClient) -> DynamoDbImages:
    return DynamoDbImages(dynamodb, empty_table(dynamodb, "image_key"))


class TestTasks:
    """What any tasks table keeps, the fake and the real one."""

    @pytest.fixture(params=["fake", "DynamoDB"])
    def tasks(self, request: pytest.FixtureRequest, clock: Clock) -> Tasks:
        tasks: Tasks = FakeTasks(now=clock) if request.param == "fake" else request.getfixturevalue("dynamodb_tasks")
        return tasks

    @staticmethod
    def claim(tasks: Tasks, clock: Clock, *, seconds: float = 60, again: bool = False) -> Claim:
        claim = tasks.claim(TASK, until=clock.now + seconds, again=again)
        assert claim
        return claim

    def test_a_new_task_is_claimed(self, tasks: Tasks, clock: Clock) -> None:
        assert self.claim(tasks, clock).task_id == "task-1"

    def test_a_claimed_task_is_refused_with_the_time_until_it_may_be_taken_over(
        self, tasks: Tasks, clock: Clock
    ) -> None:
        self.claim(tasks, clock, seconds=60)
        clock.now += 20
        with pytest.raises(InProgressElsewhere) as refused:
            tasks.claim(TASK, until=clock.now + 60, again=False)
        assert refused.value.retry_after == pytest.approx(40)

    def test_a_claim_that_ran_out_is_taken_over(self, tasks: Tasks, clock: Clock) -> None:
        dead = self.claim(tasks, clock, seconds=60)
        clock.now += 59.9
        with pytest.raises(InProgressElsewhere):
            self.claim(tasks, clock)
        clock.now += 0.1
        assert self.claim(tasks, clock).owner != dead.owner

    def test_claims_are_counted(self, tasks: Tasks, clock: Clock) -> None:
        first = self.claim(tasks, clock)
        tasks.release(first)
        assert (first.attempt, self.claim(tasks, clock).attempt) == (1, 2)

    def test_only_what_ran_out_is_said_to_be_taken_over(self, tasks: Tasks, clock: Clock) -> None:
        new = self.claim(tasks, clock, seconds=60)
        clock.now += 60
        ran_out = self.claim(tasks, clock)
        tasks.release(ran_out)
        released = self.claim(tasks, clock)
        tasks.finish(released, Result.DEAD_LETTERED, "NotAnImage")
        redriven = self.claim(tasks, clock, again=True)
        assert [claim.taken_over for claim in (new, ran_out, released, redriven)] == [False, True, False, False]

    def test_a_claim_taken_over_can_run_out_again(self, tasks: Tasks, clock: Clock) -> None:
        for _ in range(3):
            self.claim(tasks, clock, seconds=60)
            clock.now += 60

    @pytest.mark.parametrize("result", [Result.PROCESSED, Result.SUPERSEDED, Result.DEAD_LETTERED])
    def test_a_finished_task_is_not_started_again(self, tasks: Tasks, clock: Clock, result: Result) -> None:
        tasks.finish(self.claim(tasks, clock), result, None)
        clock.now += 1000
        assert tasks.claim(TASK, until=clock.now + 60, again=False) is None

    def test_only_a_dead_lettered_one_is_when_it_is_redriven(self, tasks: Tasks, clock: Clock) -> None:
        tasks.finish(self.claim(tasks, clock), Result.DEAD_LETTERED, "NotAnImage")
        again = self.claim(tasks, clock, again=True)
        with pytest.raises(InProgressElsewhere):
            tasks.claim(TASK, until=clock.now + 60, again=True)
        tasks.finish(again, Result.PROCESSED, None)
        assert tasks.claim(TASK, until=clock.now + 60, again=True) is None

    @pytest.mark.parametrize("result", [Result.PROCESSED, Result.SUPERSEDED])
    def test_no_other_is(self, tasks: Tasks, clock: Clock, result: Result) -> None:
        tasks.finish(self.claim(tasks, clock), result, None)
        assert tasks.claim(TASK, until=clock.now + 60, again=True) is None

    def test_a_new_task_may_be_claimed_as_redriven(self, tasks: Tasks, clock: Clock) -> None:
        self.claim(tasks, clock, again=True)

    def test_a_released_task_is_claimed_at_once(self, tasks: Tasks, clock: Clock) -> None:
        tasks.release(self.claim(tasks, clock))
        self.claim(tasks, clock)

    def test_a_claim_that_was_lost_cannot_be_finished(self, tasks: Tasks, clock: Clock) -> None:
        slow = self.claim(tasks, clock, seconds=60)
        clock.now += 60
        quick = self.claim(tasks, clock)
        with pytest.raises(ServiceUnavailable):
            tasks.finish(slow, Result.PROCESSED, None)
        tasks.finish(quick, Result.PROCESSED, None)

    def test_a_claim_that_was_lost_releases_nothing(self, tasks: Tasks, clock: Clock) -> None:
        slow = self.claim(tasks, clock, seconds=60)
        clock.now += 60
        self.claim(tasks, clock)
        tasks.release(slow)
        with pytest.raises(InProgressElsewhere):
            self.claim(tasks, clock)

    def test_a_finished_task_is_not_released(self, tasks: Tasks, clock: Clock) -> None:
        claim = self.claim(tasks, clock)
        tasks.finish(claim, Result.PROCESSED, None)
        tasks.release(claim)
        assert tasks.claim(TASK, until=clock.now + 60, again=False) is None

    def test_other_tasks_are_not_concerned(self, tasks: Tasks, clock: Clock) -> None:
        self.claim(tasks, clock)
        assert tasks.claim(replace(TASK, task_id="task-2"), until=clock.now + 60, again=False)


class TestTheTasksTable:
    @pytest.fixture
    def tasks(self, dynamodb_tasks: DynamoDbTasks) -> DynamoDbTasks:
        return dynamodb_tasks

    @staticmethod
    def item(tasks: DynamoDbTasks) -> dict[str, Any]:
        item = tasks.dynamodb.get_item(TableName=tasks.table, Key={"task_id": {"S": "task-1"}})["Item"]
        return {name: next(iter(value.values())) for name, value in item.items()}

    def test_tells_what_a_claimed_task_is_about(self, tasks: DynamoDbTasks, clock: Clock) -> None:
        claim = tasks.claim(TASK, until=clock.now + 60, again=False)
        assert claim
        assert self.item(tasks) == {
            "task_id": "task-1",
            "state": "IN_PROGRESS",
            "owner": claim.owner,
            "claimed_until": "1000060000",
            "bucket": BUCKET,
            "key": "a.jpg",
            "attempts": "1",
            "expires_at": str(1_000_000 + 30 * 86_400),
        }

    def test_tells_how_a_finished_task_ended(self, tasks: DynamoDbTasks, clock: Clock) -> None:
        claim = tasks.claim(TASK, until=clock.now + 60, again=False)
        assert claim
        clock.now += 5
        tasks.finish(claim, Result.DEAD_LETTERED, "NotAnImage")
        assert self.item(tasks) == {
            "task_id": "task-1",
            "state": "DONE",
            "outcome": "DeadLettered",
            "error_code": "NotAnImage",
            "processed_at": "1970-01-12T13:46:45.000+00:00",
            "bucket": BUCKET,
            "key": "a.jpg",
            "attempts": "1",
            "expires_at": str(1_000_005 + 30 * 86_400),
        }

    def test_counts_attempts_and_forgets_an_earlier_outcome(self, tasks: DynamoDbTasks, clock: Clock) -> None:
        claim = tasks.claim(TASK, until=clock.now + 60, again=False)
        assert claim
        tasks.finish(claim, Result.DEAD_LETTERED, "NotAnImage")
        tasks.claim(TASK, until=clock.now + 60, again=True)
        item = self.item(tasks)
        assert item["attempts"] == "2"
        assert not {"outcome", "error_code", "processed_at"} & set(item)

    def test_a_claim_whose_answer_was_lost_is_kept_when_boto3_asks_again(
        self, tasks: DynamoDbTasks, clock: Clock
    ) -> None:
        # given a client whose first request arrives twice, as when boto3 retries after a lost answer
        sent: list[Any] = []

        def send_twice(params: Any, **_: Any) -> None:
            if not sent:
                sent.append(params)
                tasks.dynamodb._make_api_call("UpdateItem", params)  # type: ignore[attr-defined]

        tasks.dynamodb.meta.events.register("provide-client-params.dynamodb.UpdateItem", send_twice)
        claim = tasks.claim(TASK, until=clock.now + 60, again=False)
        assert claim
        assert (claim.attempt, claim.taken_over) == (1, False)

    def test_in_trouble_is_a_transient_fault(self) -> None:
        client = boto3.client("dynamodb", region_name=REGION)
        tasks = DynamoDbTasks(client, "table", retention_days=30)
        with Stubber(client) as stub:
            stub.add_client_error("update_item", "ProvisionedThroughputExceededException")
            with pytest.raises(ServiceUnavailable, match="claim the task"):
                tasks.claim(TASK, until=0, again=False)
            stub.add_client_error("update_item", "InternalServerError")
            with pytest.raises(ServiceUnavailable, match="finish the task"):
                tasks.finish(Claim("task-1", "me", attempt=1), Result.PROCESSED, None)
            stub.add_client_error("update_item", "InternalServerError")
            tasks.release(Claim("task-1", "me", attempt=1))


def image_version(source: str = "v1", second: int = 0, *, rendition_set: str = "set-a", sequencer: str = "0") -> Any:
    return ImageVersion(source, f"2026-11-22T09:30:{second:02}Z/{sequencer}/{source}", rendition_set)


def image(version: ImageVersion, *, key: str = "photos/Käthe 1.jpg") -> ImageRecord:
    return ImageRecord(
        image_key=key,
        bucket=BUCKET,
        version=version,
        version_id=version.source,
        uploaded_at="2026-11-22T09:30:00+00:00",
        format="jpeg",
        bytes=2_417_613,
        width=4032,
        height=3024,
        frames=1,
        camera="Canon EOS 5D",
        taken_at="2026-11-21T16:02:11+01:00",
        location=(48.137154, -11.5761),
        placeholder="1QcSHQRnh493V4dIh4eXh1h4kJUI",
        dominant_colour="#3a6ea5",
        renditions=tuple(
            StoredRendition(name, f"{key}/{version.name}/{name}.webp", "image/webp", 256, 192, 9000)
            for name in ("thumb", "small")
        ),
    )


def keys_of(record: ImageRecord) -> tuple[str, ...]:
    return tuple(rendition.key for rendition in record.renditions)


class TestImages:
    """What any images table keeps, the fake and the real one."""

    @pytest.fixture(params=["fake", "DynamoDB"])
    def images(self, request: pytest.FixtureRequest) -> Images:
        images: Images = FakeImages() if request.param == "fake" else request.getfixturevalue("dynamodb_images")
        return images

    def test_nothing_stands_under_an_unknown_key(self, images: Images) -> None:
        assert images.published("unknown") is None

    def test_the_first_record_stands_and_replaces_nothing(self, images: Images) -> None:
        record = image(image_version())
        published = images.publish(record)
        assert (published.record, published.replaced) == (record, ())
        assert images.published(record.image_key) == published

    def test_a_record_without_what_a_photo_may_lack_is_read_as_it_was_written(self, images: Images) -> None:
        record = replace(image(image_version()), version_id=None, camera=None, taken_at=None, location=None)
        assert images.publish(record).record == record

    def test_a_newer_version_stands_and_remembers_what_it_replaced(self, images: Images) -> None:
        old, new = image(image_version("v1", 1)), image(image_version("v2", 2))
        images.publish(old)
        published = images.publish(new)
        assert (published.record, published.replaced) == (new, keys_of(old))
        assert images.published(new.image_key) == published

    def test_what_several_versions_replaced_is_remembered_until_it_is_forgotten(self, images: Images) -> None:
        first, second, third = (image(image_version(f"v{second}", second)) for second in range(3))
        for record in (first, second, third):
            published = images.publish(record)
        assert published.replaced == keys_of(first) + keys_of(second)
        images.forget_replaced(published)
        left = images.published(third.image_key)
        assert left is not None
        assert (left.record, left.replaced) == (third, ())

    def test_what_a_newer_version_replaced_is_not_forgotten_for_an_older_one(self, images: Images) -> None:
        old, new = image(image_version("v1", 1)), image(image_version("v2", 2))
        outdated = images.publish(old)
        published = images.publish(new)
        images.forget_replaced(outdated)
        assert images.published(new.image_key) == published

    def test_an_older_version_is_told_what_stands(self, images: Images) -> None:
        old, new = image(image_version("v1", 1)), image(image_version("v2", 2))
        before = images.publish(new)
        assert images.publish(old) == before
        assert images.published(new.image_key) == before

    def test_publishing_twice_is_publishing_once(self, images: Images) -> None:
        old, new = image(image_version("v1", 1)), image(image_version("v2", 2))
        images.publish(old)
        once = images.publish(new)
        assert images.publish(new) == once

    def test_another_rendition_set_replaces_the_first(self, images: Images) -> None:
        first, second = (image(image_version(rendition_set=name)) for name in ("set-a", "set-b"))
        images.publish(first)
        published = images.publish(second)
        assert (published.record, published.replaced) == (second, keys_of(first))
        assert images.publish(first).replaced == keys_of(second)

    def test_another_rendition_set_does_not_make_an_older_version_newer(self, images: Images) -> None:
        published = images.publish(image(image_version("v2", 2)))
        assert images.publish(image(image_version("v1", 1, rendition_set="set-b"))) == published

    def test_the_order_of_what_stands_can_be_raised_but_not_lowered(self, images: Images) -> None:
        old = image(image_version("v0"))
        plain, event = (image(image_version("v1", 1, sequencer=sequencer)) for sequencer in ("0", "0B"))
        images.publish(old)
        published = images.publish(plain)
        raised = images.raise_order(published, event.version.order)
        assert (raised.record, raised.replaced) == (replace(plain, version=event.version), keys_of(old))
        assert images.raise_order(published, plain.version.order) == raised
        assert images.publish(event) == raised, "it is published already"

    def test_the_order_of_what_no_longer_stands_is_left_alone(self, images: Images) -> None:
        outdated = images.publish(image(image_version("v1", 1)))
        published = images.publish(image(image_version("v2", 2)))
        assert images.raise_order(outdated, image_version("v1", 9).order) == published

    def test_a_fault_leaves_an_unknown_image_without_a_record(self, images: Images) -> None:
        images.note_fault("a.jpg", "task-1", NotAnImage("a text"))
        assert images.published("a.jpg") is None

    def test_a_fault_leaves_a_standing_version_alone(self, images: Images) -> None:
        published = images.publish(image(image_version()))
        images.note_fault(published.record.image_key, "task-1", NotAnImage("a text"))
        assert images.published(published.record.image_key) == published

    def test_after_a_fault_a_version_can_be_published(self, images: Images) -> None:
        record = image(image_version())
        images.note_fault(record.image_key, "task-1", NotAnImage("a text"))
        published = images.publish(record)
        assert (published.record, published.replaced) == (record, ())

    def test_images_do_not_meet(self, images: Images) -> None:
        one, other = image(image_version("v2", 2), key="one.jpg"), image(image_version("v1", 1), key="other.jpg")
        images.publish(one)
        assert images.publish(other).record == other


class TestTheImagesTable:
    @pytest.fixture
    def images(self, dynamodb_images: DynamoDbImages) -> DynamoDbImages:
        return dynamodb_images

    @staticmethod
    def item(images: DynamoDbImages) -> dict[str, Any]:
        return dict(images.dynamodb.get_item(TableName=images.table, Key={"image_key": {"S": "a.jpg"}})["Item"])

    def test_tells_a_ready_image_from_a_rejected_one(self, images: DynamoDbImages) -> None:
        images.note_fault("a.jpg", "task-1", NotAnImage("a text"))
        assert self.item(images)["state"] == {"S": "REJECTED"}
        images.publish(image(image_version(), key="a.jpg"))
        assert self.item(images)["state"] == {"S": "READY"}
        images.note_fault("a.jpg", "task-2", TooLarge("huge"))
        assert self.item(images)["state"] == {"S": "READY"}

    def test_tells_the_latest_fault(self, images: DynamoDbImages) -> None:
        images.note_fault("a.jpg", "task-1", NotAnImage("a text"))
        images.note_fault("a.jpg", "task-2", TooLarge("huge"))
        fault = self.item(images)["latest_fault"]["M"]
        assert (fault["task_id"], fault["error_code"], fault["reason"]) == (
            {"S": "task-2"},
            {"S": "TooLarge"},
            {"S": "huge"},
        )
        assert "at" in fault
        images.publish(image(image_version(), key="a.jpg"))
        assert "latest_fault" not in self.item(images)

    def test_in_trouble_is_a_transient_fault(self) -> None:
        client = boto3.client("dynamodb", region_name=REGION)
        images = DynamoDbImages(client, "table")
        with Stubber(client) as stub:
            stub.add_client_error("get_item", "InternalServerError")
            with pytest.raises(ServiceUnavailable, match="look the image up"):
                images.published("a.jpg")
            stub.add_client_error("update_item", "ProvisionedThroughputExceededException")
            with pytest.raises(ServiceUnavailable, match="publish the image"):
                images.publish(image(image_version()))
            stub.add_client_error("update_item", "AccessDeniedException")
            with pytest.raises(ServiceUnavailable, match="note the image's fault"):
                images.note_fault("a.jpg", "task-1", NotAnImage("a text"))


class TestUploads:
    def put(self, s3: S3Client, key: str, body: bytes, bucket: str = BUCKET) -> str:
        return s3.put_object(Bucket=bucket, Key=key, Body=body).get("VersionId", "")

    def test_the_newest_version_is_opened_unless_another_is_named(self, s3: S3Client) -> None:
        first, second = self.put(s3, "a.jpg", b"first"), self.put(s3, "a.jpg", b"second!")
        uploads = S3Uploads(s3)
        newest, named = uploads.open(BUCKET, "a.jpg", None), uploads.open(BUCKET, "a.jpg", first)
        assert (newest.read(), newest.size, newest.version_id, newest.source) == (b"second!", 7, second, second)
        assert (named.read(), named.size, named.version_id, named.source) == (b"first", 5, first, first)
        assert newest.last_modified.tzinfo is not None
        newest.close()
        named.close()

    def test_an_upload_need_not_be_read(self, s3: S3Client) -> None:
        self.put(s3, "unread.jpg", b"bytes")
        S3Uploads(s3).open(BUCKET, "unread.jpg", None).close()

    def test_without_versions_the_etag_tells_contents_apart(self, s3: S3Client) -> None:
        self.put(s3, "a.jpg", b"first", bucket="unversioned")
        first = S3Uploads(s3).open("unversioned", "a.jpg", None)
        self.put(s3, "a.jpg", b"second", bucket="unversioned")
        second = S3Uploads(s3).open("unversioned", "a.jpg", None)
        assert first.version_id is second.version_id is None
        assert first.source != second.source
        assert '"' not in first.source
        first.close()
        second.close()

    def test_a_key_that_does_not_exist_is_gone(self, s3: S3Client) -> None:
        with pytest.raises(ObjectGone, match=rf"There is no object 'no/ü\.jpg' in bucket {BUCKET}\."):
            S3Uploads(s3).open(BUCKET, "no/ü.jpg", None)

    def test_a_version_that_was_deleted_is_gone(self, s3: S3Client) -> None:
        version = self.put(s3, "gone-version.jpg", b"first")
        self.put(s3, "gone-version.jpg", b"second")
        s3.delete_object(Bucket=BUCKET, Key="gone-version.jpg", VersionId=version)
        with pytest.raises(ObjectGone, match=f"in version {version}"):
            S3Uploads(s3).open(BUCKET, "gone-version.jpg", version)

    def test_a_deleted_object_is_gone_but_its_older_version_is_not(self, s3: S3Client) -> None:
        version = self.put(s3, "deleted.jpg", b"bytes")
        marker = s3.delete_object(Bucket=BUCKET, Key="deleted.jpg")["VersionId"]
        uploads = S3Uploads(s3)
        with pytest.raises(ObjectGone):
            uploads.open(BUCKET, "deleted.jpg", None)
        with pytest.raises(ObjectGone):
            uploads.open(BUCKET, "deleted.jpg", marker)
        assert uploads.open(BUCKET, "deleted.jpg", version).read() == b"bytes"

    @pytest.mark.parametrize(
        ("code", "status", "fault"),
        [
            ("NoSuchKey", 404, ObjectGone),
            ("NoSuchVersion", 404, ObjectGone),
            ("NoSuchBucket", 404, ObjectGone),
            ("MethodNotAllowed", 405, ObjectGone),
            ("InvalidArgument", 400, ObjectGone),
            ("AccessDenied", 403, ServiceUnavailable),
            ("SlowDown", 503, ServiceUnavailable),
            ("InternalError", 500, ServiceUnavailable),
        ],
    )
    def test_only_what_is_surely_gone_is_a_permanent_fault(
        self, code: str, status: int, fault: type[PermanentFault | ServiceUnavailable]
    ) -> None:
        client = boto3.client("s3", region_name=REGION)
        with Stubber(client) as stub:
            stub.add_client_error("get_object", code, http_status_code=status)
            with pytest.raises(fault):
                S3Uploads(client).open(BUCKET, "a.jpg", "v1")

    def test_a_connection_that_breaks_while_reading_is_a_transient_fault(self) -> None:
        class Broken(io.RawIOBase):
            def read(self, size: int = -1) -> bytes:
                raise ProtocolError("Connection broken")

        upload = S3Upload({"Body": StreamingBody(Broken(), 5), "ContentLength": 5})  # type: ignore[typeddict-item]
        with pytest.raises(ServiceUnavailable, match="read the upload"):
            upload.read()

    def test_an_answer_that_is_cut_short_is_a_transient_fault(self) -> None:
        body = StreamingBody(io.BytesIO(b"only this"), 1000)
        with pytest.raises(ServiceUnavailable, match="read the upload"):
            S3Upload({"Body": body, "ContentLength": 1000}).read()  # type: ignore[typeddict-item]

    def test_a_suspended_version_has_no_id(self) -> None:
        upload = S3Upload({"VersionId": "null", "ETag": '"abc"'})  # type: ignore[typeddict-item]
        assert (upload.version_id, upload.source) == (None, "abc")


def rendition(name: str = "thumb") -> Rendition:
    return Rendition(name, f"pixels of {name}".encode(), "image/webp", "webp", 256, 192, 1)


class TestRenditions:
    @pytest.fixture
    def transfers(self) -> Iterator[Executor]:
        with ThreadPoolExecutor(4) as pool:
            yield pool

    @pytest.fixture
    def renditions(self, s3: S3Client, transfers: Executor) -> S3Renditions:
        return S3Renditions(s3, "renditions", transfers)

    @staticmethod
    def tags(s3: S3Client, key: str) -> dict[str, str]:
        return {tag["Key"]: tag["Value"] for tag in s3.get_object_tagging(Bucket="renditions", Key=key)["TagSet"]}

    def test_each_is_stored_with_what_a_browser_needs(self, s3: S3Client, renditions: S3Renditions) -> None:
        renditions.put({f"a/{name}.webp": rendition(name) for name in ("thumb", "small")})
        for name in ("thumb", "small"):
            stored = s3.get_object(Bucket="renditions", Key=f"a/{name}.webp")
            assert stored["Body"].read() == f"pixels of {name}".encode()
            assert stored["ContentType"] == "image/webp"
            assert stored["CacheControl"] == "public, max-age=31536000, immutable"

    def test_a_stale_one_is_tagged_for_the_lifecycle_rule(self, s3: S3Client, renditions: S3Renditions) -> None:
        renditions.put({"b/thumb.webp": rendition(), "b/small.webp": rendition()})
        renditions.mark_stale(("b/thumb.webp",))
        assert self.tags(s3, "b/thumb.webp") == {"darkroom:stale": "true"}
        answer = s3.head_object(Bucket="renditions", Key="b/thumb.webp")
        assert answer["ContentType"] == "image/webp"
        assert "immutable" in answer["CacheControl"]
        assert self.tags(s3, "b/small.webp") == {}

    def test_a_stale_one_that_is_written_again_is_live(self, s3: S3Client, renditions: S3Renditions) -> None:
        renditions.put({"c/thumb.webp": rendition()})
        renditions.mark_stale(("c/thumb.webp",))
        renditions.put({"c/thumb.webp": rendition()})
        assert self.tags(s3, "c/thumb.webp") == {}

    def test_one_that_is_gone_is_as_good_as_stale(self, renditions: S3Renditions) -> None:
        renditions.mark_stale(("gone/thumb.webp",))

    def test_none_at_all_makes_no_call(self, transfers: Executor) -> None:
        client = boto3.client("s3", region_name=REGION)
        with Stubber(client):
            S3Renditions(client, "renditions", transfers).mark_stale(())

    def test_that_cannot_be_written_or_tagged_are_a_transient_fault(self, transfers: Executor) -> None:
        client = boto3.client("s3", region_name=REGION)
        renditions = S3Renditions(client, "renditions", transfers)
        with Stubber(client) as stub:
            stub.add_client_error("put_object", "SlowDown", http_status_code=503)
            with pytest.raises(ServiceUnavailable, match="write the renditions"):
                renditions.put({"d": rendition()})
            stub.add_client_error("copy_object", "AccessDenied", http_status_code=403)
            with pytest.raises(ServiceUnavailable, match="mark stale renditions"):
                renditions.mark_stale(("d",))


def receive(sqs: SQSClient, queue_url: str) -> Any:
    (message,) = sqs.receive_message(QueueUrl=queue_url, MessageAttributeNames=["All"])["Messages"]
    return message


def test_a_finished_image_is_announced_with_its_task_and_its_record(sqs: SQSClient, queue_url: str) -> None:
    record = image(image_version("v1"))
    SqsResults(sqs, queue_url).announce("task-1", record)
    message = json.loads(receive(sqs, queue_url)["Body"])
    assert (message["task_id"], message["state"], message["image_key"]) == ("task-1", "READY", "photos/Käthe 1.jpg")
    assert message["version_order"] == record.version.order
    assert message["version_id"] == "v1"
    assert message["location"] == [48.137154, -11.5761]
    assert message["renditions"][0] == {
        "name": "thumb",
        "key": record.renditions[0].key,
        "content_type": "image/webp",
        "width": 256,
        "height": 192,
        "bytes": 9000,
    }


def test_a_dead_letter_keeps_its_body_and_carries_its_reason(sqs: SQSClient, queue_url: str) -> None:
    body = '  {"task_id": "t", "key": "Käthe"}\n'
    SqsDeadLetters(sqs, queue_url).send(body, "task-1", NotAnImage("it is a text"))
    message = receive(sqs, queue_url)
    assert message["Body"] == body
    assert {name: value["StringValue"] for name, value in message["MessageAttributes"].items()} == {
        "error_code": "NotAnImage",
        "reason": "it is a text",
        "task_id": "task-1",
    }


@pytest.mark.parametrize(
    ("reason", "readable"),
    [
        ("a\x00b\x1bc\x7fd", "abcd"),
        ("two\nlines", "two\nlines"),
        ("lone \ud800 half", "lone ? half"),
        ("not \ufffe a character", "not  a character"),
        ("", "(nothing readable)"),
        ("\x00", "(nothing readable)"),
        ("ä" * 5000, "ä" * 1000),
        ("写真 🎞", "写真 🎞"),
    ],
)
def test_a_reason_is_cut_to_what_an_attribute_takes(sqs: SQSClient, queue_url: str, reason: str, readable: str) -> None:
    SqsDeadLetters(sqs, queue_url).send("{}", "task-1", NotAnImage(reason))
    assert receive(sqs, queue_url)["MessageAttributes"]["reason"]["StringValue"] == readable


@pytest.mark.parametrize(
    ("seconds", "expected"), [(7.4, 7), (7.6, 8), (0, 0), (-5, 0), (43_200, 43_200), (10**9, 43_200)]
)
def test_a_message_is_shown_again_within_the_bounds_of_sqs(seconds: float, expected: int) -> None:
    client = boto3.client("sqs", region_name=REGION)
    with Stubber(client) as stub:
        stub.add_response(
            "change_message_visibility",
            {},
            {"QueueUrl": "https://queue", "ReceiptHandle": "receipt", "VisibilityTimeout": expected},
        )
        set_visibility_timeout(client, "https://queue", "receipt", seconds)
        stub.assert_no_pending_responses()


def test_sqs_in_trouble_is_a_transient_fault() -> None:
    client = boto3.client("sqs", region_name=REGION)
    calls = {
        "announce the image": partial(SqsResults(client, "https://queue").announce, "t", image(image_version())),
        "send the dead letter": partial(SqsDeadLetters(client, "https://queue").send, "{}", "t", NotAnImage("a text")),
    }
    with Stubber(client) as stub:
        for action, call in calls.items():
            stub.add_client_error("send_message", "ServiceUnavailable")
            with pytest.raises(ServiceUnavailable, match=action):
                call()
        stub.add_client_error("change_message_visibility", "InvalidParameterValue")
        with pytest.raises(ServiceUnavailable, match="change the message's visibility timeout"):
            set_visibility_timeout(client, "https://queue", "receipt", 1)
