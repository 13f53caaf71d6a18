"""Everything that a stack keeps of photos whose keys a person names, and how it is removed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import or_
from time import monotonic, sleep
from typing import Any

from boto3.dynamodb.conditions import Attr, ConditionBase, ConditionExpressionBuilder
from boto3.dynamodb.types import TypeSerializer
from darkroom.image_messages import ImageTask, delete_task_id, read_body

from functions.process_image.images import OTHER_BUCKETS, image_key_of, is_rendition_of, rendition_prefix, upload_of
from operations.dead_letters import QueueScan
from operations.deployed import DeployedStack

_KEYS_PER_CALL = 1000  # https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html
_SECONDS_TO_SETTLE = 180
_QUEUES = {
    "ImageTasksDeadLetterQueueUrl": "dead letters",
    "ResultsQueueUrl": "unread results",
    "ResultsDeadLetterQueueUrl": "dead letters of results",
}
_serialize = TypeSerializer().serialize


@dataclass(frozen=True)
class Selection:
    """The uploads that are meant: of one bucket, with one key or with all that begin with a prefix.

    ``own_bucket`` is the stack's own bucket.
    """

    key: str
    prefix: str
    bucket: str
    own_bucket: str

    @property
    def begins_with(self) -> str:
        """Return what all of the keys begin with."""
        return self.key or self.prefix

    @property
    def images_begin_with(self) -> tuple[str, ...]:
        """Return what the image keys of these uploads begin with."""
        long_form = f"{OTHER_BUCKETS}{self.bucket}/{self.begins_with}"
        return (self.begins_with, long_form) if self.bucket == self.own_bucket else (long_form,)

    def has(self, bucket: str, key: str) -> bool:
        """Return whether an upload is meant."""
        return bucket == self.bucket and (key == self.key if self.key else key.startswith(self.prefix))

    def has_image(self, image_key: str) -> bool:
        """Return whether the upload with this image key is meant."""
        return self.has(*upload_of(image_key, self.own_bucket))


@dataclass(frozen=True)
class Trace:
    """One thing that is kept of a photo. ``kind`` is for people; ``version_id`` only of S3 objects."""

    kind: str
    where: str
    name: str
    key: str = ""
    version_id: str | None = None


@dataclass
class Removal:
    """What was removed and what was not, with the reason."""

    removed: list[Trace] = field(default_factory=list)
    kept: list[tuple[Trace, str]] = field(default_factory=list)


def uploads(stack: DeployedStack, selection: Selection) -> Iterator[Trace]:
    """Find every version and every delete marker. Raises ClientError, BotoCoreError."""
    bucket = selection.bucket
    pages = stack.s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=selection.begins_with)
    for page in pages:
        found = [("upload", version["Key"], version["VersionId"]) for version in page.get("Versions", [])]
        found += [("delete marker", marker["Key"], marker["VersionId"]) for marker in page.get("DeleteMarkers", [])]
        for kind, key, version_id in found:
            if selection.has(bucket, key):
                yield Trace(kind, bucket, key, image_key_of(bucket, key, selection.own_bucket), version_id)


def renditions(stack: DeployedStack, selection: Selection, keys: Sequence[str]) -> Iterator[Trace]:
    """Find the renditions of every version. Raises ClientError, BotoCoreError.

    Parameters
    ----------
    keys:
        Image keys that are known: the renditions of very long ones are found by them alone.
    """
    bucket = stack.outputs["RenditionsBucketName"]
    prefixes = {*selection.images_begin_with, *(rendition_prefix(key) for key in keys)}
    seen = set()
    for prefix in sorted(prefixes):
        for page in stack.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for found in page.get("Contents", []):
                name = found["Key"]
                image_key = name.rsplit("/", 2)[0]
                of_one = prefix not in selection.images_begin_with
                known = [key for key in keys if is_rendition_of(key, name)] if of_one else []
                if name not in seen and (
                    known or (selection.has_image(image_key) and is_rendition_of(image_key, name))
                ):
                    seen.add(name)
                    yield Trace("rendition", bucket, name, (known or [image_key])[0])


def records(stack: DeployedStack, selection: Selection) -> Iterator[Trace]:
    """Find the records. Raises ClientError, BotoCoreError."""
    conditions = [Attr("image_key").begins_with(prefix) for prefix in selection.images_begin_with]
    for item in _items(stack, "ImagesTableName", reduce(or_, conditions)):
        if selection.has_image(image_key := item["image_key"]["S"]):
            yield Trace("record", stack.outputs["ImagesTableName"], image_key, image_key)


def tasks(stack: DeployedStack, selection: Selection) -> Iterator[Trace]:
    """Find the items of the tasks table, by reading all of it. Raises ClientError, BotoCoreError."""
    condition = Attr("bucket").eq(selection.bucket) & Attr("key").begins_with(selection.begins_with)
    for item in _items(stack, "TasksTableName", condition):
        if selection.has(selection.bucket, key := item["key"]["S"]):
            image_key = image_key_of(selection.bucket, key, selection.own_bucket)
            yield Trace("task", stack.outputs["TasksTableName"], item["task_id"]["S"], image_key)


def _items(stack: DeployedStack, output: str, condition: ConditionBase) -> Iterator[dict[str, Any]]:
    built = ConditionExpressionBuilder().build_expression(condition)
    names = dict(built.attribute_name_placeholders)
    pages = stack.dynamodb.get_paginator("scan").paginate(
        TableName=stack.outputs[output],
        ConsistentRead=True,
        FilterExpression=built.condition_expression,
        ExpressionAttributeNames=names,
        ExpressionAttributeValues={name: _serialize(v) for name, v in built.attribute_value_placeholders.items()},
    )
    for page in pages:
        yield from page["Items"]


def remove_objects(stack: DeployedStack, traces: Sequence[Trace], removal: Removal) -> None:
    """Delete S3 objects for good. Raises ClientError, BotoCoreError."""
    for bucket in sorted({trace.where for trace in traces}):
        here = [trace for trace in traces if trace.where == bucket]
        for start in range(0, len(here), _KEYS_PER_CALL):
            some = here[start : start + _KEYS_PER_CALL]
            objects: list[Any] = [
                {"Key": trace.name, **({"VersionId": trace.version_id} if trace.version_id else {})} for trace in some
            ]
            answer = stack.s3.delete_objects(Bucket=bucket, Delete={"Objects": objects, "Quiet": True})
            failed = {(e.get("Key"), e.get("VersionId")): e.get("Message", "") for e in answer.get("Errors", [])}
            for trace in some:
                reason = failed.get((trace.name, trace.version_id))
                if reason is None:
                    removal.removed.append(trace)
                else:
                    removal.kept.append((trace, reason))


def remove_items(stack: DeployedStack, traces: Sequence[Trace], key_name: str, removal: Removal) -> None:
    """Delete items of a table. Raises ClientError, BotoCoreError."""
    for trace in traces:
        stack.dynamodb.delete_item(TableName=trace.where, Key={key_name: {"S": trace.name}})
        removal.removed.append(trace)


def remove_messages(stack: DeployedStack, selection: Selection, removal: Removal) -> None:
    """Delete the messages that name a key, and show all others again. Raises ClientError, BotoCoreError."""
    for output, kind in _QUEUES.items():
        url = stack.outputs[output]
        with QueueScan(stack.sqs, url, hidden_for=60) as scan:
            for letters in scan.letters():
                mine = [letter for letter in letters if _names(letter.body, selection)]
                left = scan.delete([letter.message_id for letter in mine])
                for number, letter in enumerate(mine):
                    trace = Trace(kind, url, letter.message_id)
                    if number >= len(mine) - left:
                        removal.kept.append((trace, "SQS did not delete it"))
                    else:
                        removal.removed.append(trace)


def _names(body: str, selection: Selection) -> bool:
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):
        return bool(selection.key) and selection.key in body
    if isinstance(message, dict) and isinstance(message.get("image_key"), str):
        return selection.has_image(message["image_key"])
    for task in read_body(body):
        if isinstance(task, ImageTask) and any(
            selection.has(task.bucket, key) for key in (task.key, task.other_key) if key
        ):
            return True
    return False


def wait_until_settled(stack: DeployedStack, gone: Sequence[Trace], progress: Callable[[int], None]) -> bool:
    """Wait until the function has answered the events of what was deleted; returns whether it has.

    Only then do its last writes - tombstones, tasks, results - exist, to be removed with the rest.
    """
    waiting = {
        delete_task_id(trace.where, trace.name, trace.version_id): trace
        for trace in gone
        if trace.version_id and trace.version_id != "null"
    }
    end = monotonic() + _SECONDS_TO_SETTLE
    while waiting and monotonic() < end:
        for task_id in list(waiting)[:100]:
            item = stack.dynamodb.get_item(
                TableName=stack.outputs["TasksTableName"], Key={"task_id": {"S": task_id}}, ConsistentRead=True
            ).get("Item", {})
            if item.get("state", {}).get("S") == "DONE":
                del waiting[task_id]
        progress(len(gone) - len(waiting))
        sleep(0.5)
    return not waiting


def clear_cdn(stack: DeployedStack, selection: Selection) -> str:
    """Have CloudFront forget its copies, if the stack has a distribution; returns the invalidation's id, or nothing.

    Raises ClientError, BotoCoreError.
    """
    distribution = next((value for name, value in stack.outputs.items() if name.endswith("DistributionId")), "")
    if not distribution:
        return ""
    paths = [f"/{prefix}*" for prefix in selection.images_begin_with]
    answer = stack.client("cloudfront").create_invalidation(
        DistributionId=distribution,
        InvalidationBatch={
            "Paths": {"Quantity": len(paths), "Items": paths},
            "CallerReference": f"erase-{monotonic():.6f}",
        },
    )
    return str(answer["Invalidation"]["Id"])
