"""Which photos to render again, and the tasks for it.

An upload is rendered again if it has no record, if its record is of another rendition set (or of another setting that
shapes a record), if it failed before, or if its renditions were lost. The task id comes from all of that, so a second
run, an interrupted one and two at once render each photo once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from boto3.dynamodb.types import TypeDeserializer
from darkroom.messages import hash_id
from darkroom.sending import PlainTask

from functions.process_image.images import has_image_suffix, image_key_of
from functions.process_image.rendition_set import load_rendition_set, record_form
from functions.process_image.s3 import S3Renditions
from operations.deployed import DeployedStack
from operations.errors import OperationsError

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

T = TypeVar("T")
_RENDITIONS = Path(__file__).resolve().parents[1] / "functions" / "process_image" / "renditions.toml"
_KEYS_PER_CALL = 100  # https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html
_deserialize = TypeDeserializer().deserialize


@dataclass(frozen=True)
class RerenderOptions:
    """What a person asks for.

    Attributes
    ----------
    bucket:
        An existing bucket; empty for the stack's own.
    prefix:
        Only keys that begin with it.
    code:
        Only uploads that failed with this error code.
    missing:
        Whether renditions are checked, which takes a request for each.
    any_name:
        Whether uploads without an image suffix are meant too, even if they have no record.
    """

    prefix: str = ""
    code: str = ""
    missing: bool = False
    any_name: bool = False
    bucket: str = ""


@dataclass(frozen=True)
class CurrentUpload:
    """What S3 shows as current under a key. ``source`` identifies the content, ``size`` is in bytes."""

    key: str
    version_id: str | None
    source: str
    size: int


@dataclass
class RerenderPlan:
    """What to render again, and why: by reason how many."""

    tasks: list[PlainTask] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    seen: int = 0
    bytes: int = 0


def check_bucket(stack: DeployedStack, bucket: str) -> None:
    """Raise OperationsError if the deployed function does not read this bucket."""
    configuration = stack.lambda_.get_function_configuration(FunctionName=stack.outputs["ProcessImageFunctionName"])
    existing = configuration["Environment"]["Variables"].get("EXISTING_UPLOADS_BUCKETS", "")
    known = [stack.outputs["UploadsBucketName"], *filter(None, existing.split(","))]
    if bucket and bucket not in known:
        raise OperationsError(f"The stack does not read bucket {bucket}. It reads: {', '.join(known)}.")


def deployed_form(stack: DeployedStack) -> str:
    """Identify what shapes a record: this folder's rendition set, and the deployed function's setting.

    Raises ClientError.
    """
    configuration = stack.lambda_.get_function_configuration(FunctionName=stack.outputs["ProcessImageFunctionName"])
    keep_location = configuration["Environment"]["Variables"]["KEEP_LOCATION"] == "true"
    return record_form(load_rendition_set(_RENDITIONS), keep_location=keep_location)


def plan(
    stack: DeployedStack, form: str, options: RerenderOptions, progress: Callable[[int], None] = lambda _: None
) -> RerenderPlan:
    """Compare the uploads with their records.

    Parameters
    ----------
    form:
        What `deployed_form` returns.
    progress:
        Called with the number of uploads seen so far.

    Raises
    ------
    ClientError, BotoCoreError
        AWS refuses or does not answer.
    """
    own = stack.outputs["UploadsBucketName"]
    found, bucket = RerenderPlan(), options.bucket or own
    with ThreadPoolExecutor(20) as pool:
        renditions = S3Renditions(stack.s3, stack.outputs["RenditionsBucketName"], pool)
        for uploads in _portions(_current_uploads(stack, bucket, options.prefix), _KEYS_PER_CALL):
            image_keys = [image_key_of(bucket, upload.key, own) for upload in uploads]
            records = _records(stack.dynamodb, stack.outputs["ImagesTableName"], image_keys)
            for upload in uploads:
                found.seen += 1
                record = records.get(image_key_of(bucket, upload.key, own), {})
                reason = reason_for(upload, record, form, options)
                if not reason and options.missing and record.get("state") == "READY":
                    keys = {rendition["key"] for rendition in record["renditions"]}
                    reason = "" if renditions.are_live(keys) else "renditions are lost"
                if reason:
                    found.reasons[reason] += 1
                    found.bytes += upload.size
                    revision = str(record.get("revision", 0))
                    task_id = hash_id("rerender", bucket, upload.key, upload.source, form, revision)
                    found.tasks.append(PlainTask(task_id, bucket, upload.key, upload.version_id))
            progress(found.seen)
    return found


def reason_for(upload: CurrentUpload, record: dict[str, Any], form: str, options: RerenderOptions) -> str:
    """Return why an upload has to be rendered again; empty if it does not."""
    fault = record.get("latest_fault", {})
    failed = fault.get("version_source") == upload.source
    if options.code:
        return f"failed before: {options.code}" if failed and fault.get("error_code") == options.code else ""
    if failed and fault.get("rendition_set") == form:
        return ""  # it would fail again; ask for its error code to try
    if record.get("version_source") != upload.source:
        return "no record" if record or options.any_name or has_image_suffix(upload.key) else ""
    return "" if record["rendition_set"] == form else "another rendition set"


def _current_uploads(stack: DeployedStack, bucket: str, prefix: str) -> Iterator[CurrentUpload]:
    for page in stack.s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix):
        for version in page.get("Versions", []):
            if version["IsLatest"]:
                version_id = None if version["VersionId"] == "null" else version["VersionId"]
                source = version_id or version["ETag"].strip('"')
                yield CurrentUpload(version["Key"], version_id, source, version["Size"])


def _records(dynamodb: DynamoDBClient, table: str, keys: list[str]) -> dict[str, dict[str, Any]]:
    records: dict[str, dict[str, Any]] = {}
    wanted: Any = {table: {"Keys": [{"image_key": {"S": key}} for key in keys], "ConsistentRead": True}}
    while wanted:
        answer = dynamodb.batch_get_item(RequestItems=wanted)
        for item in answer["Responses"].get(table, []):
            values = {name: _deserialize(value) for name, value in item.items()}
            records[values["image_key"]] = values
        wanted = answer.get("UnprocessedKeys")
    return records


def check_progress(stack: DeployedStack, form: str, tasks: Iterable[PlainTask]) -> None:
    """Check that what was rendered again has the form that the plan was made for.

    Raises
    ------
    OperationsError
        The deployed function has another rendition set than this folder.
    """
    own = stack.outputs["UploadsBucketName"]
    keys = [image_key_of(task.bucket, task.key, own) for task in islice(tasks, _KEYS_PER_CALL)]
    records = _records(stack.dynamodb, stack.outputs["ImagesTableName"], keys)
    forms = {record["rendition_set"] for record in records.values() if record.get("state") == "READY"}
    if forms and form not in forms:
        raise OperationsError(
            "The deployed function has another rendition set than this folder's renditions.toml. Deploy it first."
        )


def _portions(items: Iterable[T], size: int) -> Iterator[list[T]]:
    coming = iter(items)
    while some := list(islice(coming, size)):
        yield some
