"""Which photos to render again, and the tasks for it.

An upload is rendered again if it has no record, if its record is of another rendition set (or of another setting that
shapes a record), if it failed before, or if its renditions were lost. The task id comes from all of that, so a second
run, an interrupted one and two at once render each photo once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from darkroom.items import portions, read_items, stored_renditions
from darkroom.messages import hash_id
from darkroom.sending import PlainTask

from functions.process_image.images import has_image_suffix, image_key_of
from functions.process_image.rendition_set import load_rendition_set, record_form
from functions.process_image.s3 import S3Renditions
from operations.current_uploads import CurrentUpload, in_inventory, listed
from operations.deployed import DeployedStack
from operations.errors import OperationsError

_RENDITIONS = Path(__file__).resolve().parents[1] / "functions" / "process_image" / "renditions.toml"
# Uploads that are compared with their records in one call.
_AT_ONCE = 100


@dataclass(frozen=True)
class RerenderOptions:
    """What a person asks for.

    Attributes
    ----------
    prefix:
        Only keys that begin with it.
    code:
        Only uploads that failed with this error code.
    missing:
        Whether renditions are checked, which takes a request for each.
    any_name:
        Whether uploads without an image suffix are meant too, even if they have no record.
    bucket:
        An existing bucket; empty for the stack's own.
    inventory:
        Address of an S3 Inventory report's manifest, to read instead of listing the bucket.
    """

    prefix: str = ""
    code: str = ""
    missing: bool = False
    any_name: bool = False
    bucket: str = ""
    inventory: str = ""


@dataclass
class RerenderPlan:
    """What to render again, and why: by reason how many. ``sizes`` are the bytes of the uploads, in their order."""

    tasks: list[PlainTask] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    seen: int = 0


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
    OperationsError
        The inventory report is not usable.
    ServiceUnavailable, ClientError, BotoCoreError
        AWS refuses or does not answer.
    """
    own = stack.outputs["UploadsBucketName"]
    found, bucket = RerenderPlan(), options.bucket or own
    current = (
        in_inventory(stack.s3, bucket, options.prefix, options.inventory)
        if options.inventory
        else listed(stack.s3, bucket, options.prefix)
    )
    with ThreadPoolExecutor(20) as pool:
        renditions = S3Renditions(stack.s3, stack.outputs["RenditionsBucketName"], pool)
        for uploads in portions(current, _AT_ONCE):
            records = _records(stack, [image_key_of(bucket, upload.key, own) for upload in uploads])
            for upload in uploads:
                found.seen += 1
                record = records.get(image_key_of(bucket, upload.key, own), {})
                reason = reason_for(upload, record, form, options)
                if not reason and options.missing and record.get("state") == "READY":
                    keys = {rendition["key"] for rendition in stored_renditions(record)}
                    reason = "" if renditions.are_live(keys) else "renditions are lost"
                if reason:
                    found.reasons[reason] += 1
                    found.sizes.append(upload.size)
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


def check_progress(stack: DeployedStack, form: str, tasks: Iterable[PlainTask]) -> None:
    """Check that what was rendered again has the form that the plan was made for.

    Raises
    ------
    OperationsError
        The deployed function has another rendition set than this folder.
    """
    own = stack.outputs["UploadsBucketName"]
    records = _records(stack, [image_key_of(task.bucket, task.key, own) for task in islice(tasks, _AT_ONCE)])
    forms = {record["rendition_set"] for record in records.values() if record.get("state") == "READY"}
    if forms and form not in forms:
        raise OperationsError(
            "The deployed function has another rendition set than this folder's renditions.toml. Deploy it first."
        )


def _records(stack: DeployedStack, keys: Iterable[str]) -> dict[str, dict[str, Any]]:
    return read_items(stack.dynamodb, stack.outputs["ImagesTableName"], "image_key", keys)
