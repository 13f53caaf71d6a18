"""Read messages of every shape as image tasks.

An SQS body holds an S3 notification, an EventBridge event of S3 or a plain task, alone or in an envelope:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from urllib.parse import unquote_plus

from darkroom.envelopes import open_body
from darkroom.errors import MalformedMessage
from darkroom.messages import Unreadable, hash_id, unreadable_task_id
from darkroom.schema import Schema

_LONGEST_KEY_BYTES = 1024  # https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html
_SCHEMA = Schema("image_task")
_MOST_RECORDS = 1000  # S3 sends one; a body full of them would take minutes and all the memory
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PRINTABLE = re.compile(r"[!-~]+")  # ASCII without spaces: safe in a key, an attribute and a log
_SEQUENCER = re.compile(r"[0-9A-Fa-f]{1,64}")

SHAPES = (
    "an S3 notification, an EventBridge 'Object Created' or 'Object Deleted' event, "
    'or {"task_id", "bucket", "key", "version_id"?}, alone or in an envelope of SNS or EventBridge'
)


class Cause(StrEnum):
    """Why there is an image task."""

    UPLOAD = "upload"  #: S3 stored an object
    DELETE = "delete"  #: an object, a version or a delete marker was deleted, or a delete marker was added
    REQUEST = "request"  #: a plain task: somebody asks for it


# The part of an S3 event's name before the colon. Lifecycle rules delete objects, too.
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-how-to-event-types-and-destinations.html
_CAUSES = {"ObjectCreated": Cause.UPLOAD, "ObjectRemoved": Cause.DELETE, "LifecycleExpiration": Cause.DELETE}
_EVENTBRIDGE_CAUSES = {"Object Created": Cause.UPLOAD, "Object Deleted": Cause.DELETE}
# EventBridge's deletion types, as S3 names them in notifications.
_DELETIONS = {"Permanently Deleted": "Delete", "Delete Marker Created": "DeleteMarkerCreated"}


@dataclass(frozen=True)
class ImageTask:
    """One image whose record must follow what S3 shows.

    ``body`` is the body of a dead letter: the original message or, if that held several records, only this record.
    ``other_key`` is a second reading of the key, for EventBridge, whose documentation does not define the encoding.
    ``sequencer`` and ``event_time`` (when it happened in S3) are known only for events.
    ``version_id`` of a deletion is the version that was deleted, or the delete marker that was added.
    """

    task_id: str
    bucket: str
    key: str
    body: str
    version_id: str | None = None
    sequencer: str | None = None
    event_time: datetime | None = None
    other_key: str | None = None
    cause: Cause = Cause.REQUEST


def read_body(body: str) -> list[ImageTask | Unreadable]:
    """Read one SQS body.

    Returns
    -------
    list
        One entry per record; empty for S3's test event.
    """
    try:
        return _read_message(open_body(body).message, body)
    except MalformedMessage as fault:
        return [Unreadable(unreadable_task_id(body), body, fault)]
    except RecursionError:
        too_deep = MalformedMessage(f"The body is nested too deeply. Expected {SHAPES}.")
        return [Unreadable(unreadable_task_id(body), body, too_deep)]


def _read_message(message: Any, body: str) -> list[ImageTask | Unreadable]:
    shapes = _shapes_of(message)
    if len(shapes) > 1:  # or the API takes one task, and this reader finds a thousand
        raise MalformedMessage(f"The body has fields of {' and of '.join(shapes)}. Send one of them.")
    match message:
        case {"Service": "Amazon S3", "Event": "s3:TestEvent"}:
            return []
        case {"Records": list(records)} if len(records) > _MOST_RECORDS:
            raise MalformedMessage(f"The body holds {len(records):,} records; the limit is {_MOST_RECORDS:,}.")
        case {"Records": [_, *_] as records}:
            return [_or_unreadable(_from_s3_record, r, body if len(records) == 1 else _alone(r)) for r in records]
        case {"detail-type": _, "source": "aws.s3"}:
            return [_or_unreadable(_from_eventbridge, message, body)]
        case {"task_id": _, "bucket": _, "key": _}:
            return [_or_unreadable(_from_plain_task, message, body)]
    raise MalformedMessage(f"The body has none of the accepted shapes: {SHAPES}.")


def _shapes_of(message: Any) -> list[str]:
    """The shapes of which a message has fields."""
    if not isinstance(message, dict):
        return []
    has = {
        "S3's test event": message.get("Event") == "s3:TestEvent",
        "an S3 notification": "Records" in message,
        "an EventBridge event": "detail-type" in message,
        "a plain task": bool({"task_id", "bucket", "key"} & message.keys()),
    }
    return [shape for shape, found in has.items() if found]


def _alone(record: Any) -> str:
    return json.dumps({"Records": [record]})


def _or_unreadable(read: Callable[[Any, str], ImageTask], part: Any, body: str) -> ImageTask | Unreadable:
    try:
        return read(part, body)
    except MalformedMessage as fault:
        return Unreadable(unreadable_task_id(body), body, fault)


def _from_s3_record(record: Any, body: str) -> ImageTask:
    match record:
        case {
            "eventSource": "aws:s3",
            "eventVersion": str(version),
            "eventName": str(name),
            "s3": {"bucket": {"name": str(bucket)}, "object": {"key": str(key), **rest}},
        }:
            if version.split(".")[0] != "2":
                raise MalformedMessage(f"The S3 record has version {version}; only 2.x is supported.")
            kind, _, detail = name.partition(":")
            if kind not in _CAUSES:
                raise MalformedMessage(f"The S3 event is {name}; supported are {', '.join(_CAUSES)}.")
        case _:
            raise MalformedMessage("A record lacks eventSource, eventVersion, eventName, bucket name or object key.")
    return _from_event(_CAUSES[kind], detail, bucket, unquote_plus(key), rest, record.get("eventTime"), body)


def _from_eventbridge(event: Any, body: str) -> ImageTask:
    match event:
        case {
            "detail-type": "Object Created" | "Object Deleted" as kind,
            "detail": {"bucket": {"name": str(bucket)}, "object": {"key": str(key), **rest}, **about},
        }:
            decoded = unquote_plus(key)
            rest["versionId"] = rest.get("version-id")
            deletion = about.get("deletion-type")
            detail = _DELETIONS.get(deletion, "") if isinstance(deletion, str) else ""
            other_key = decoded if decoded != key else None
            cause = _EVENTBRIDGE_CAUSES[kind]
            return _from_event(cause, detail, bucket, key, rest, event.get("time"), body, other_key=other_key)
    raise MalformedMessage(
        "The EventBridge event is no 'Object Created' and no 'Object Deleted' with bucket name and object key."
    )


def _from_event(
    cause: Cause,
    detail: str,
    bucket: str,
    key: str,
    rest: Mapping[Any, Any],
    time: Any,
    body: str,
    *,
    other_key: str | None = None,
) -> ImageTask:
    version_id = rest.get("versionId") or None
    if version_id == "null":  # versioning is suspended: every upload of the key has this id
        version_id = None
    sequencer = rest.get("sequencer") or None
    _check(
        _bucket_fault(bucket),
        _key_fault(key),
        _version_fault(version_id),
        None
        if sequencer is None or (isinstance(sequencer, str) and _SEQUENCER.fullmatch(sequencer))
        else "the sequencer is not a hexadecimal number",
    )
    which = version_id or sequencer
    if which is None and cause is Cause.DELETE and isinstance(time, str):
        which = time  # AWS promises a sequencer only for requests, not for lifecycle rules
    if which is None:
        raise MalformedMessage("The event has neither a version id nor a sequencer, so it cannot be identified.")
    return ImageTask(
        task_id=(
            upload_task_id(bucket, key, which)
            if cause is Cause.UPLOAD
            else delete_task_id(bucket, key, which, is_marker=detail == "DeleteMarkerCreated")
        ),
        bucket=bucket,
        key=key,
        body=body,
        version_id=version_id,
        sequencer=sequencer,
        event_time=_time(time),
        other_key=other_key,
        cause=cause,
    )


def _from_plain_task(task: dict[str, Any], body: str) -> ImageTask:
    _check(*(_SCHEMA.faults(task) or (_key_fault(task["key"]),)))
    version_id = task.get("version_id")
    return ImageTask(
        task_id=task["task_id"],
        bucket=task["bucket"],
        key=task["key"],
        body=body,
        version_id=None if version_id == "null" else version_id,
    )


def _bucket_fault(bucket: Any) -> str | None:
    valid = isinstance(bucket, str) and _BUCKET.fullmatch(bucket)
    return None if valid else "bucket must be a bucket name of 3 to 63 characters"


def _key_fault(key: Any) -> str | None:
    try:
        valid = isinstance(key, str) and 1 <= len(key.encode()) <= _LONGEST_KEY_BYTES
    except UnicodeEncodeError:
        valid = False
    return None if valid else f"key must be text of 1 to {_LONGEST_KEY_BYTES} bytes"


def _version_fault(version_id: Any) -> str | None:
    valid = version_id is None or (
        isinstance(version_id, str) and len(version_id) <= _LONGEST_KEY_BYTES and _PRINTABLE.fullmatch(version_id)
    )
    return None if valid else f"version_id must be 1 to {_LONGEST_KEY_BYTES} printable ASCII characters without spaces"


def _check(*faults: str | None) -> None:
    found = [fault for fault in faults if fault]
    if found:
        raise MalformedMessage(f"The task is not valid: {'; '.join(found)}.")


def _time(value: Any) -> datetime | None:
    """Read an event's time; an unreadable one loses a metric, not the image."""
    try:
        time = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def upload_task_id(bucket: str, key: str, version_id: str) -> str:
    """Return the task id of an upload's S3 events, from its version or, in an unversioned bucket, its sequencer."""
    return hash_id("s3", bucket, key, version_id)


def delete_task_id(bucket: str, key: str, version_id: str, *, is_marker: bool = False) -> str:
    """Return the task id of a deletion's S3 events.

    From the version that was deleted or the delete marker that was added or, in an unversioned bucket, the sequencer.
    """
    return hash_id("s3-marker" if is_marker else "s3-delete", bucket, key, version_id)
