from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import boto3
import pytest
from boto3.dynamodb.types import TypeDeserializer
from botocore.response import StreamingBody
from botocore.stub import Stubber
from darkroom.dead_letters import SqsDeadLetters
from darkroom.errors import (
    InProgressElsewhere,
    NotAnImage,
    ServiceUnavailable,
)
from darkroom.image_messages import ImageTask
from darkroom.visibility import set_visibility_timeout
from moto import mock_aws
from urllib3.exceptions import ProtocolError

from functions.process_image.images import (
    ImageRecord,
    ImageVersion,
    KnownImage,
    LatestFault,
    StoredRendition,
    Tombstone,
    rendition_key,
)
from functions.process_image.images_table import DynamoDbImages
from functions.process_image.photo import Rendition
from functions.process_image.ports import Claim, Images, Result, Tasks
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
    return DynamoDbImages(dynamodb, empty_table(dynamodb, "image_key"), 30)


class TestTasks:
    """The contract of the tasks table, for the fake and the real one."""

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
        tasks.release(first, begun=True)
        assert (first.attempt, self.claim(tasks, clock).attempt) == (1, 2)

    def test_only_an_expired_claim_counts_as_taken_over(self, tasks: Tasks, clock: Clock) -> None:
        new = self.claim(tasks, clock, seconds=60)
        clock.now += 60
        ran_out = self.claim(tasks, clock)
        tasks.release(ran_out, begun=True)
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

    def test_a_dead_lettered_task_is_started_again_when_redriven(self, tasks: Tasks, clock: Clock) -> None:
        tasks.finish(self.claim(tasks, clock), Result.DEAD_LETTERED, "NotAnImage")
        again = self.claim(tasks, clock, again=True)
        with pytest.raises(InProgressElsewhere):
            tasks.claim(TASK, until=clock.now + 60, again=True)
        tasks.finish(again, Result.PROCESSED, None)
        assert tasks.claim(TASK, until=clock.now + 60, again=True) is None

    @pytest.mark.parametrize("result", [Result.PROCESSED, Result.SUPERSEDED])
    def test_no_other_finished_task_is_started_again(self, tasks: Tasks, clock: Clock, result: Result) -> None:
        tasks.finish(self.claim(tasks, clock), result, None)
        assert tasks.claim(TASK, until=clock.now + 60, again=True) is None

    def test_a_new_task_may_be_claimed_as_redriven(self, tasks: Tasks, clock: Clock) -> None:
        self.claim(tasks, clock, again=True)

    def test_a_claim_counts_the_earlier_ones_that_did_not_begin(self, tasks: Tasks, clock: Clock) -> None:
        for begun, expected in ((False, 0), (True, 1), (False, 1), (True, 2)):
            claim = self.claim(tasks, clock)
            assert claim.not_begun == expected
            tasks.release(claim, begun=begun)

    def test_a_released_task_is_claimed_at_once(self, tasks: Tasks, clock: Clock) -> None:
        tasks.release(self.claim(tasks, clock), begun=True)
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
        tasks.release(slow, begun=True)
        with pytest.raises(InProgressElsewhere):
            self.claim(tasks, clock)

    def test_a_finished_task_is_not_released(self, tasks: Tasks, clock: Clock) -> None:
        claim = self.claim(tasks, clock)
        tasks.finish(claim, Result.PROCESSED, None)
        tasks.release(claim, begun=True)
        assert tasks.claim(TASK, until=clock.now + 60, again=False) is None

    def test_other_tasks_are_not_affected(self, tasks: Tasks, clock: Clock) -> None:
        self.claim(tasks, clock)
        assert tasks.claim(replace(TASK, task_id="task-2"), until=clock.now + 60, again=False)


class TestTheTasksTable:
    @pytest.fixture
    def tasks(self, dynamodb_tasks: DynamoDbTasks) -> DynamoDbTasks:
        return dynamodb_tasks

    @staticmethod
    def claim(tasks: DynamoDbTasks, clock: Clock) -> Claim:
        claim = tasks.claim(TASK, until=clock.now + 60, again=False)
        assert claim
        return claim

    @staticmethod
    def item(tasks: DynamoDbTasks) -> dict[str, Any]:
        item = tasks.dynamodb.get_item(TableName=tasks.table, Key={"task_id": {"S": "task-1"}})["Item"]
        return {name: next(iter(value.values())) for name, value in item.items()}

    def test_shows_what_a_claimed_task_is_about(self, tasks: DynamoDbTasks, clock: Clock) -> None:
        claim = self.claim(tasks, clock)
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

    def test_shows_how_a_finished_task_ended(self, tasks: DynamoDbTasks, clock: Clock) -> None:
        claim = self.claim(tasks, clock)
        clock.now += 5
        tasks.finish(claim, Result.DEAD_LETTERED, "NotAnImage")
        assert self.item(tasks) == {
            "task_id": "task-1",
            "state": "DONE",
            "finished_by": claim.owner,
            "outcome": "DeadLettered",
            "error_code": "NotAnImage",
            "processed_at": "1970-01-12T13:46:45.000+00:00",
            "bucket": BUCKET,
            "key": "a.jpg",
            "attempts": "1",
            "expires_at": str(1_000_005 + 30 * 86_400),
        }

    def test_counts_attempts_and_forgets_an_earlier_outcome(self, tasks: DynamoDbTasks, clock: Clock) -> None:
        tasks.finish(self.claim(tasks, clock), Result.DEAD_LETTERED, "NotAnImage")
        tasks.claim(TASK, until=clock.now + 60, again=True)
        item = self.item(tasks)
        assert item["attempts"] == "2"
        assert not {"outcome", "error_code", "processed_at"} & set(item)

    @staticmethod
    def _lose_the_next_answer(tasks: DynamoDbTasks) -> None:
        """Send the next request twice, as boto3 does when it gets no answer."""
        sent: list[Any] = []

        def send_twice(params: Any, **_: Any) -> None:
            if not sent:
                sent.append(params)
                tasks.dynamodb._make_api_call("UpdateItem", params)  # type: ignore[attr-defined]

        tasks.dynamodb.meta.events.register("provide-client-params.dynamodb.UpdateItem", send_twice)

    def test_a_claim_whose_answer_was_lost_is_kept_when_boto3_asks_again(
        self, tasks: DynamoDbTasks, clock: Clock
    ) -> None:
        self._lose_the_next_answer(tasks)
        claim = self.claim(tasks, clock)
        assert (claim.attempt, claim.taken_over) == (1, False)

    def test_a_task_whose_finish_was_not_answered_is_finished_when_boto3_asks_again(
        self, tasks: DynamoDbTasks, clock: Clock
    ) -> None:
        claim = self.claim(tasks, clock)
        self._lose_the_next_answer(tasks)
        tasks.finish(claim, Result.DEAD_LETTERED, "NotAnImage")
        item = self.item(tasks)
        assert (item["state"], item["outcome"], item["error_code"]) == ("DONE", "DeadLettered", "NotAnImage")

    def test_a_task_that_another_delivery_finished_is_not_taken_for_an_own_one(
        self, tasks: DynamoDbTasks, clock: Clock
    ) -> None:
        # given a claim that ran out, whose task another delivery has finished
        slow = tasks.claim(TASK, until=clock.now, again=False)
        quick = tasks.claim(TASK, until=clock.now + 60, again=False)
        assert slow
        assert quick
        tasks.finish(quick, Result.PROCESSED, None)
        # then it cannot finish the task
        with pytest.raises(ServiceUnavailable):
            tasks.finish(slow, Result.PROCESSED, None)

    def test_an_error_is_a_transient_fault(self) -> None:
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
            tasks.release(Claim("task-1", "me", attempt=1), begun=True)


def image(
    source: str = "v1",
    second: int = 0,
    *,
    rendition_set: str = "set-a",
    key: str = "photos/Käthe 1.jpg",
    replaces: KnownImage | None = None,
) -> ImageRecord:
    version = ImageVersion(source, rendition_set)
    revision = replaces.revision if replaces else 0
    return ImageRecord(
        image_key=key,
        bucket=BUCKET,
        version=version,
        version_order=f"2026-11-22T09:30:{second:02}.000000Z",
        version_id=source,
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
            StoredRendition(name, rendition_key(key, revision, version, name, "webp"), "image/webp", 256, 192, 9000)
            for name in ("small", "thumb")
        ),
    )


def fault(code: str = "NotAnImage", second: int = 0) -> LatestFault:
    order = f"2026-11-22T09:30:{second:02}.000000Z"
    return LatestFault("task-1", code, "it is a text", "2026-11-22", order, "v1", ImageVersion("v1", "set-a"))


def keys_of(record: ImageRecord) -> tuple[str, ...]:
    return tuple(rendition.key for rendition in record.renditions)


KEY: Final = "photos/Käthe 1.jpg"


class TestImages:
    """The contract of the images table, for the fake and the real one."""

    @pytest.fixture(params=["fake", "DynamoDB"])
    def images(self, request: pytest.FixtureRequest) -> Images:
        images: Images = FakeImages() if request.param == "fake" else request.getfixturevalue("dynamodb_images")
        return images

    @staticmethod
    def publish(images: Images, record: ImageRecord) -> KnownImage:
        known = images.publish(images.read(record.image_key), record)
        assert known
        return known

    def test_an_unknown_key_has_no_record(self, images: Images) -> None:
        known = images.read("unknown")
        assert known == KnownImage("unknown")
        assert not known.is_known

    def test_what_is_published_is_read_again(self, images: Images) -> None:
        known = self.publish(images, image())
        assert (known.record, known.replaced, known.fault, known.revision) == (image(), (), None, 1)
        assert images.read(KEY) == known

    def test_a_record_without_optional_fields_is_read_unchanged(self, images: Images) -> None:
        record = replace(image(), version_id=None, camera=None, taken_at=None, location=None)
        self.publish(images, record)
        assert images.read(KEY).record == record

    def test_replaced_renditions_are_listed_until_cleared(self, images: Images) -> None:
        known = images.read(KEY)
        replaced: tuple[str, ...] = ()
        for number in range(3):
            record = image(f"v{number}", number, replaces=known)
            known = self.publish(images, record)
            assert known.replaced == replaced
            replaced += keys_of(record)
        images.forget_replaced(known)
        assert images.read(KEY) == replace(known, replaced=())

    def test_replaced_renditions_are_not_cleared_by_an_older_record(self, images: Images) -> None:
        outdated = self.publish(images, image("v1", 1))
        known = self.publish(images, image("v2", 2, replaces=outdated))
        images.forget_replaced(outdated)
        assert images.read(KEY) == known

    def test_a_withdrawn_image_leaves_nothing_but_a_tombstone(self, images: Images) -> None:
        images.note_fault(self.publish(images, image()), fault(), keep_published=True)
        known = images.withdraw(images.read(KEY), BUCKET)
        assert known
        assert isinstance(known.published, Tombstone)
        assert (known.published.bucket, known.replaced, known.fault) == (BUCKET, (), None)
        assert known.published.version_order > image().version_order
        assert images.read(KEY) == known
        assert self.publish(images, image("v2", replaces=known)).replaced == ()

    def test_a_fault_of_an_image_without_a_record(self, images: Images) -> None:
        known = images.note_fault(images.read(KEY), fault(), keep_published=True)
        assert known
        assert (known.published, known.fault, known.version_order) == (None, fault(), fault().version_order)
        assert images.read(KEY) == known

    @pytest.mark.parametrize("keep", [True, False])
    def test_a_fault_next_to_a_published_image(self, images: Images, keep: bool) -> None:
        published = self.publish(images, image())
        known = images.note_fault(published, fault("TooLarge", 9), keep_published=keep)
        assert known
        assert (known.record, known.fault) == (image() if keep else None, fault("TooLarge", 9))
        assert images.read(KEY) == known

    def test_a_fault_is_removed_by_the_next_publication(self, images: Images) -> None:
        images.note_fault(images.read(KEY), fault(), keep_published=False)
        assert self.publish(images, image()).fault is None

    @pytest.mark.parametrize("forget", [True, False])
    def test_a_confirmation_changes_only_revision_and_fault(self, images: Images, forget: bool) -> None:
        self.publish(images, image())
        known = images.note_fault(images.read(KEY), fault(), keep_published=True)
        assert known
        confirmed = images.confirm(known, forget_fault=forget)
        assert confirmed == replace(known, revision=3, fault=None if forget else fault())
        assert images.read(KEY) == confirmed

    @pytest.mark.parametrize(
        "write",
        [
            lambda images, known: images.publish(known, image("v2")),
            lambda images, known: images.withdraw(known, BUCKET),
            lambda images, known: images.note_fault(known, fault(), keep_published=True),
            lambda images, known: images.note_fault(known, fault(), keep_published=False),
            lambda images, known: images.confirm(known, forget_fault=True),
        ],
    )
    @pytest.mark.parametrize("known_before", [True, False])
    def test_a_write_is_refused_if_another_came_between(
        self, images: Images, write: Callable[[Images, KnownImage], KnownImage | None], known_before: bool
    ) -> None:
        if known_before:
            self.publish(images, image("v0"))
        outdated = images.read(KEY)
        self.publish(images, image("v1"))
        now = images.read(KEY)
        assert write(images, outdated) is None
        assert images.read(KEY) == now

    def test_images_are_independent(self, images: Images) -> None:
        self.publish(images, image(key="one.jpg"))
        assert self.publish(images, image(key="other.jpg")).revision == 1


class TestTheImagesTable:
    @pytest.fixture
    def images(self, dynamodb_images: DynamoDbImages) -> DynamoDbImages:
        return dynamodb_images

    @staticmethod
    def item(images: DynamoDbImages) -> dict[str, Any]:
        item = images.dynamodb.get_item(TableName=images.table, Key={"image_key": {"S": "a.jpg"}})["Item"]
        return {name: TypeDeserializer().deserialize(value) for name, value in item.items()}

    def test_has_plain_attributes(self, images: DynamoDbImages) -> None:
        published = images.publish(images.read("a.jpg"), image(key="a.jpg"))
        assert published
        item = self.item(images)
        assert (item["state"], item["version_id"], item["rendition_set"]) == ("READY", "v1", "set-a")
        assert item["renditions"][0].keys() == {"name", "key", "content_type", "width", "height", "bytes"}
        assert "other_formats" not in item
        images.note_fault(published, fault("TooLarge"), keep_published=True)
        assert self.item(images)["state"] == "READY"
        assert self.item(images)["latest_fault"] == {
            "task_id": "task-1",
            "error_code": "TooLarge",
            "reason": "it is a text",
            "at": "2026-11-22",
            "version_order": "2026-11-22T09:30:00.000000Z",
            "version_id": "v1",
            "version_source": "v1",
            "rendition_set": "set-a",
        }

    def test_has_other_formats_next_to_the_renditions(self, images: DynamoDbImages) -> None:
        # given a published image with a format more
        first = image(key="a.jpg")
        avif = replace(first.renditions[0], key="a.jpg/1/small.avif", content_type="image/avif")
        published = images.publish(images.read("a.jpg"), replace(first, other_formats=(avif,)))
        assert published
        assert images.read("a.jpg").record == replace(first, other_formats=(avif,))
        assert [one["key"] for one in self.item(images)["other_formats"]] == [avif.key]
        # when it is replaced by one without, then all that it had waits to be marked stale
        now = images.publish(published, image("v2", 1, key="a.jpg", replaces=published))
        assert now
        assert set(now.replaced) == {avif.key, *keys_of(first)}

    def test_keeps_a_tombstone_for_the_retention_time(self, images: DynamoDbImages) -> None:
        published = images.publish(images.read("a.jpg"), image(key="a.jpg"))
        assert published
        withdrawn = images.withdraw(published, BUCKET)
        assert withdrawn
        item = self.item(images)
        assert item.keys() == {
            *("image_key", "bucket", "state", "revision", "version_order"),
            *("deleted_at", "expires_at"),
        }
        assert item["state"] == "DELETED"
        deleted_at = datetime.fromisoformat(item["deleted_at"])
        assert timedelta(days=29, hours=23) < datetime.fromtimestamp(int(item["expires_at"]), UTC) - deleted_at
        images.publish(withdrawn, image(key="a.jpg"))
        assert not {"deleted_at", "expires_at"} & self.item(images).keys()

    def test_reads_records_without_a_revision(self, images: DynamoDbImages) -> None:
        images.publish(images.read("a.jpg"), image(key="a.jpg"))
        images.dynamodb.update_item(
            TableName=images.table,
            Key={"image_key": {"S": "a.jpg"}},
            UpdateExpression="REMOVE revision SET latest_fault = :fault",
            ExpressionAttributeValues={":fault": {"M": {"error_code": {"S": "NotAnImage"}}}},
        )
        known = images.read("a.jpg")
        assert (known.revision, known.record, known.fault) == (0, image(key="a.jpg"), None)
        assert known.is_known
        confirmed = images.confirm(known, forget_fault=True)
        assert confirmed
        assert confirmed.revision == 1

    def test_an_error_is_a_transient_fault(self) -> None:
        client = boto3.client("dynamodb", region_name=REGION)
        images, known = DynamoDbImages(client, "table", 30), KnownImage("a.jpg")
        with Stubber(client) as stub:
            stub.add_client_error("get_item", "InternalServerError")
            with pytest.raises(ServiceUnavailable, match="look the image up"):
                images.read("a.jpg")
            stub.add_client_error("put_item", "ProvisionedThroughputExceededException")
            with pytest.raises(ServiceUnavailable, match="write the image's record"):
                images.publish(known, image())
            stub.add_client_error("update_item", "AccessDeniedException")
            with pytest.raises(ServiceUnavailable, match="write the image's record"):
                images.confirm(known, forget_fault=False)


class TestUploads:
    def put(self, s3: S3Client, key: str, body: bytes, bucket: str = BUCKET) -> str:
        return s3.put_object(Bucket=bucket, Key=key, Body=body).get("VersionId", "")

    @staticmethod
    def current(s3: S3Client, key: str, bucket: str = BUCKET) -> S3Upload:
        upload = S3Uploads(s3).open_current(bucket, key)
        assert upload
        return upload

    def test_what_is_current_is_opened(self, s3: S3Client) -> None:
        self.put(s3, "a.jpg", b"first")
        second = self.put(s3, "a.jpg", b"second!")
        upload = self.current(s3, "a.jpg")
        assert (upload.read(), upload.size, upload.version_id, upload.source) == (b"second!", 7, second, second)
        assert upload.last_modified.tzinfo is not None
        upload.close()

    def test_an_upload_can_be_closed_unread(self, s3: S3Client) -> None:
        self.put(s3, "unread.jpg", b"bytes")
        self.current(s3, "unread.jpg").close()

    def test_without_versions_the_etag_tells_contents_apart(self, s3: S3Client) -> None:
        uploads = []
        for body in (b"first", b"second"):
            self.put(s3, "a.jpg", body, bucket="unversioned")
            uploads.append(self.current(s3, "a.jpg", bucket="unversioned"))
        first, second = uploads
        assert first.version_id is second.version_id is None
        assert first.source != second.source
        assert '"' not in first.source
        first.close()
        second.close()

    def test_nothing_is_current_without_a_version_or_after_deletion(self, s3: S3Client) -> None:
        uploads = S3Uploads(s3)
        assert uploads.open_current(BUCKET, "no/ü.jpg") is None
        version = self.put(s3, "deleted.jpg", b"bytes")
        marker = s3.delete_object(Bucket=BUCKET, Key="deleted.jpg")["VersionId"]
        assert uploads.open_current(BUCKET, "deleted.jpg") is None
        assert uploads.has_version(BUCKET, "deleted.jpg", version)
        assert not uploads.has_version(BUCKET, "deleted.jpg", marker)
        s3.delete_object(Bucket=BUCKET, Key="deleted.jpg", VersionId=marker)
        assert self.current(s3, "deleted.jpg").version_id == version
        s3.delete_object(Bucket=BUCKET, Key="deleted.jpg", VersionId=version)
        assert not uploads.has_version(BUCKET, "deleted.jpg", version)

    @pytest.mark.parametrize(
        ("code", "status", "is_gone"),
        [
            ("NoSuchKey", 404, True),
            ("NoSuchBucket", 404, False),
            ("AccessDenied", 403, False),
            ("SlowDown", 503, False),
            ("InternalError", 500, False),
        ],
    )
    def test_only_a_definite_answer_means_there_is_none(self, code: str, status: int, is_gone: bool) -> None:
        client = boto3.client("s3", region_name=REGION)
        with Stubber(client) as stub:
            stub.add_client_error("get_object", code, http_status_code=status)
            with nullcontext() if is_gone else pytest.raises(ServiceUnavailable):
                assert S3Uploads(client).open_current(BUCKET, "a.jpg") is None

    @pytest.mark.parametrize(
        ("code", "is_gone"), [("404", True), ("405", True), ("400", True), ("403", False), ("503", False)]
    )
    def test_only_a_definite_answer_means_a_version_is_gone(self, code: str, is_gone: bool) -> None:
        client = boto3.client("s3", region_name=REGION)
        with Stubber(client) as stub:
            stub.add_client_error("head_object", code, http_status_code=int(code))
            with nullcontext() if is_gone else pytest.raises(ServiceUnavailable):
                assert not S3Uploads(client).has_version(BUCKET, "a.jpg", "v1")

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

    def test_a_missing_rendition_counts_as_stale(self, renditions: S3Renditions) -> None:
        renditions.mark_stale(("gone/thumb.webp",))

    def test_no_renditions_need_no_call(self, transfers: Executor) -> None:
        client = boto3.client("s3", region_name=REGION)
        with Stubber(client):
            S3Renditions(client, "renditions", transfers).mark_stale(())

    def test_are_live_while_all_are_there_and_none_is_stale(self, s3: S3Client, renditions: S3Renditions) -> None:
        keys = ("e/thumb.webp", "e/small.webp")
        renditions.put({key: rendition() for key in keys})
        assert renditions.are_live(keys)
        assert not renditions.are_live((*keys, "e/lost.webp"))
        renditions.mark_stale(keys[:1])
        assert not renditions.are_live(keys)

    def test_of_every_version_are_found_and_deleted(self, s3: S3Client, renditions: S3Renditions) -> None:
        keys = {
            key: rendition_key(key, revision, ImageVersion("v1", "set"), "thumb", "webp")
            for key, revision in (("f.jpg", 0), ("f.jpg", 5), ("f.jpg/g.jpg", 0), ("f.jpgs", 0))
        }
        first = rendition_key("f.jpg", 0, ImageVersion("v1", "set"), "thumb", "webp")
        renditions.put({key: rendition() for key in (*keys.values(), first)})
        assert set(renditions.stored("f.jpg")) == {first, keys["f.jpg"]}
        renditions.delete(renditions.stored("f.jpg"))
        assert renditions.stored("f.jpg") == ()
        assert renditions.stored("f.jpg/g.jpg") == (keys["f.jpg/g.jpg"],)

    def test_a_refused_deletion_is_a_transient_fault(self, transfers: Executor) -> None:
        client = boto3.client("s3", region_name=REGION)
        with Stubber(client) as stub:
            stub.add_response("delete_objects", {"Errors": [{"Key": "a", "Code": "InternalError"}]})
            with pytest.raises(ServiceUnavailable, match="InternalError"):
                S3Renditions(client, "renditions", transfers).delete(("a",))

    def test_a_failed_write_or_tag_is_a_transient_fault(self, transfers: Executor) -> None:
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


def test_an_error_of_sqs_is_a_transient_fault() -> None:
    client = boto3.client("sqs", region_name=REGION)
    with Stubber(client) as stub:
        stub.add_client_error("send_message", "ServiceUnavailable")
        with pytest.raises(ServiceUnavailable, match="send the dead letter"):
            SqsDeadLetters(client, "https://queue").send("{}", "t", NotAnImage("a text"))
        stub.add_client_error("change_message_visibility", "InvalidParameterValue")
        with pytest.raises(ServiceUnavailable, match="change the message's visibility timeout"):
            set_visibility_timeout(client, "https://queue", "receipt", 1)
