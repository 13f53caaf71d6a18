"""Everything that a stack keeps of photos whose keys a person names, and how it is removed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import or_
from time import monotonic, sleep
from typing import Any
from urllib.parse import quote, unquote_plus
from uuid import uuid4

from boto3.dynamodb.conditions import Attr, ConditionBase, ConditionExpressionBuilder
from boto3.dynamodb.types import TypeSerializer
from botocore.exceptions import ClientError
from darkroom.image_messages import ImageTask, delete_task_id, read_body
from darkroom.items import portions, read_items

from functions.process_image.images import OTHER_BUCKETS, image_key_of, is_rendition_of, rendition_prefix, upload_of
from operations.dead_letters import DeadLetter, QueueScan
from operations.deployed import DeployedStack

_KEYS_PER_CALL = 1000  # https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html
#: How long no deletion may be answered until the run ends.
SECONDS_TO_SETTLE = 180
_SECONDS_BETWEEN_LOOKS = 0.5
_SECONDS_HIDDEN = 60
#: The queues that may name a photo, by the stack's output. A stack may lack some.
DEAD_LETTERS = {
    "ImageTasksDeadLetterQueueUrl": "dead letters",
    "ResultsDeadLetterQueueUrl": "dead letters of results",
    "RabbitMqDeadLetterQueueUrl": "dead letters of RabbitMQ",
}
RESULTS = {"ResultsQueueUrl": "unread results"}
#: The uploads in the order of their removal: what is current goes after what it hides, so that nothing older is
#: published in between; a delete marker goes last, for without it the photo would show again.
UPLOADS = ("older version", "upload", "delete marker")
_KEY_FIELDS = ("key", "image_key")
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

    @property
    def identity(self) -> tuple[str, str, str | None]:
        """Return what tells it from all others."""
        return self.where, self.name, self.version_id


@dataclass
class Removal:
    """What was removed and what was not, with the reason.

    Attributes
    ----------
    note:
        Called with what is about to be removed, so that a receipt exists if the process is killed.
    """

    note: Callable[[Sequence[Trace]], object] = lambda _: None
    removed: list[Trace] = field(default_factory=list)
    kept: list[tuple[Trace, str]] = field(default_factory=list)


def uploads(stack: DeployedStack, selection: Selection) -> Iterator[Trace]:
    """Find every version and every delete marker. Raises ClientError, BotoCoreError."""
    bucket = selection.bucket
    older, current, marker = UPLOADS
    pages = stack.s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=selection.begins_with)
    for page in pages:
        found = [
            (current if version["IsLatest"] else older, version["Key"], version["VersionId"])
            for version in page.get("Versions", [])
        ]
        found += [(marker, hidden["Key"], hidden["VersionId"]) for hidden in page.get("DeleteMarkers", [])]
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
    long = {
        prefix: key for key in keys if not (prefix := rendition_prefix(key)).startswith(selection.images_begin_with)
    }
    seen = set()
    for prefix in (*selection.images_begin_with, *sorted(long)):
        for page in stack.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for found in page.get("Contents", []):
                name = found["Key"]
                image_key = long.get(prefix, name.rsplit("/", 2)[0])
                if name not in seen and selection.has_image(image_key) and is_rendition_of(image_key, name):
                    seen.add(name)
                    yield Trace("rendition", bucket, name, image_key)


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


def dead_letters(stack: DeployedStack, selection: Selection) -> Iterator[Trace]:
    """Find the dead letters that name a key. They stay, hidden for a moment. Raises ClientError, BotoCoreError."""
    for kind, url in _queues(stack, DEAD_LETTERS):
        with QueueScan(stack.sqs, url, hidden_for=_SECONDS_HIDDEN) as scan:
            for letters in scan.letters():
                yield from (_trace(kind, url, letter) for letter in letters if _names(letter.body, selection))


def _queues(stack: DeployedStack, outputs: dict[str, str]) -> list[tuple[str, str]]:
    return [(kind, stack.outputs[output]) for output, kind in outputs.items() if output in stack.outputs]


def _trace(kind: str, url: str, letter: DeadLetter) -> Trace:
    return Trace(kind, url, letter.message_id)


def remove_objects(stack: DeployedStack, traces: Sequence[Trace], removal: Removal) -> None:
    """Delete S3 objects for good. What S3 refuses is kept. Raises BotoCoreError if it does not answer."""
    for bucket in sorted({trace.where for trace in traces}):
        for some in portions((trace for trace in traces if trace.where == bucket), _KEYS_PER_CALL):
            removal.note(some)
            objects: list[Any] = [
                {"Key": trace.name, **({"VersionId": trace.version_id} if trace.version_id else {})} for trace in some
            ]
            try:
                answer = stack.s3.delete_objects(Bucket=bucket, Delete={"Objects": objects, "Quiet": True})
            except ClientError as error:
                removal.kept += [(trace, str(error)) for trace in some]
                continue
            failed = {
                (e.get("Key"), e.get("VersionId")): f"{e.get('Code', '')}: {e.get('Message', '')}"
                for e in answer.get("Errors", [])
            }
            for trace in some:
                reason = failed.get((trace.name, trace.version_id))
                if reason is None:
                    removal.removed.append(trace)
                else:
                    removal.kept.append((trace, reason))


def remove_items(stack: DeployedStack, traces: Sequence[Trace], key_name: str, removal: Removal) -> None:
    """Delete items of a table. What DynamoDB refuses is kept. Raises BotoCoreError if it does not answer."""
    if traces:
        removal.note(traces)
    for trace in traces:
        try:
            stack.dynamodb.delete_item(TableName=trace.where, Key={key_name: {"S": trace.name}})
        except ClientError as error:
            removal.kept.append((trace, str(error)))
        else:
            removal.removed.append(trace)


def remove_messages(stack: DeployedStack, selection: Selection, removal: Removal) -> None:
    """Delete the messages that name a key, and show all others again.

    What SQS refuses is kept. Raises BotoCoreError if it does not answer.
    """
    for kind, url in _queues(stack, DEAD_LETTERS | RESULTS):
        try:
            with QueueScan(stack.sqs, url, hidden_for=_SECONDS_HIDDEN) as scan:
                for letters in scan.letters():
                    mine = [_trace(kind, url, letter) for letter in letters if _names(letter.body, selection)]
                    if mine:
                        removal.note(mine)
                        _remove_letters(scan, mine, removal)
        except ClientError as error:
            removal.kept.append((Trace(kind, url, "all that name these photos"), str(error)))


def _remove_letters(scan: QueueScan, mine: Sequence[Trace], removal: Removal) -> None:
    for trace in mine:
        if scan.delete([trace.name]):
            removal.kept.append((trace, "SQS did not delete it"))
        else:
            removal.removed.append(trace)


def _names(body: str, selection: Selection) -> bool:
    """Return whether a message is about one of the keys: a result, a task of any shape, or one that is not valid."""
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):
        return bool(selection.key) and selection.key in body
    if isinstance(message, dict) and isinstance(message.get("image_key"), str):
        return selection.has_image(message["image_key"])
    about = read_body(body)
    named = [
        (task.bucket, key) for task in about if isinstance(task, ImageTask) for key in (task.key, task.other_key) if key
    ]
    if not all(isinstance(task, ImageTask) for task in about):
        named += [(selection.bucket, key) for key in _keys_in(message)]
    return any(selection.has(bucket, key) for bucket, key in named)


def _keys_in(message: Any) -> list[str]:
    """Return what stands in fields for keys, at any depth, also as S3 encodes it."""
    found, to_do = [], [message]
    while to_do:
        part = to_do.pop()
        if isinstance(part, list):
            to_do += part
        elif isinstance(part, dict):
            to_do += part.values()
            texts = [part[name] for name in _KEY_FIELDS if isinstance(part.get(name), str)]
            found += [key for text in texts for key in (text, unquote_plus(text))]
    return found


def wait_until_settled(stack: DeployedStack, gone: Sequence[Trace], progress: Callable[[int], None]) -> list[Trace]:
    """Wait until the function has answered the events of what was deleted; returns those it has not answered.

    Only then do its last writes - tombstones, tasks, results - exist, to be removed with the rest. The event of an
    object without a version id cannot be recognised: its record tells.

    Raises
    ------
    ServiceUnavailable, ClientError, BotoCoreError
    """
    waiting = list(gone)
    end = monotonic() + SECONDS_TO_SETTLE
    while waiting:
        before, waiting = len(waiting), _unanswered(stack, waiting)
        progress(len(gone) - len(waiting))
        if len(waiting) < before:
            end = monotonic() + SECONDS_TO_SETTLE
        elif monotonic() > end:
            break
        if waiting:
            sleep(_SECONDS_BETWEEN_LOOKS)
    return waiting


def _unanswered(stack: DeployedStack, gone: Sequence[Trace]) -> list[Trace]:
    by_task = {_answer_to(trace): trace for trace in gone if trace.version_id != "null"}
    tasks_there = read_items(stack.dynamodb, stack.outputs["TasksTableName"], "task_id", by_task)
    by_key = {trace.key: trace for trace in gone if trace.version_id == "null"}
    records_there = read_items(stack.dynamodb, stack.outputs["ImagesTableName"], "image_key", by_key)
    return [
        *(trace for task_id, trace in by_task.items() if tasks_there.get(task_id, {}).get("state") != "DONE"),
        *(trace for key, trace in by_key.items() if records_there.get(key, {"state": "DELETED"})["state"] != "DELETED"),
    ]


def _answer_to(trace: Trace) -> str:
    return delete_task_id(trace.where, trace.name, trace.version_id or "")


def clear_cdn(stack: DeployedStack, selection: Selection, keys: Sequence[str]) -> str:
    """Have CloudFront forget its copies, if the stack has a distribution; returns the invalidation's id, or nothing.

    Raises ClientError, BotoCoreError.
    """
    distribution = stack.outputs.get("DistributionId", "")
    if not distribution:
        return ""
    prefixes = {
        *selection.images_begin_with,
        *(p for p in map(rendition_prefix, keys) if not p.startswith(selection.images_begin_with)),
    }
    paths = [f"/{quote(prefix)}*" for prefix in sorted(prefixes)]
    answer = stack.client("cloudfront").create_invalidation(
        DistributionId=distribution,
        InvalidationBatch={"Paths": {"Quantity": len(paths), "Items": paths}, "CallerReference": uuid4().hex},
    )
    return str(answer["Invalidation"]["Id"])
