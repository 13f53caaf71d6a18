"""Whole handlers, event to answer, against fake AWS: ``python -m benchmarks.rendering.handlers NAME``.

A worker like ``benchmarks.rendering.worker``, but its jobs name objects, ``{"keys": [...]}``, one SQS message each.
The environment points to fake AWS.
"""

from __future__ import annotations

import atexit
import io
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from time import time
from typing import Any

import boto3
from darkroom.deadline import Deadline
from darkroom.image_messages import ImageTask
from darkroom.messages import Unreadable
from PIL import Image

from benchmarks.function_settings import BUCKET, ENVIRONMENT, MEMORY_MB
from benchmarks.rendering.baselines import LIMITS, usual_renditions
from benchmarks.rendering.rendition_sets import WEBP
from benchmarks.rendering.worker import serve
from functions.process_image.admission import Admission
from functions.process_image.events import ImageEvent
from functions.process_image.images import ImageRecord, KnownImage
from functions.process_image.photo import Rendition
from functions.process_image.ports import Claim, Result
from functions.process_image.processing import identify, render
from functions.process_image.render_server import RenderServer


class _Context:
    """The Lambda context that a handler uses."""

    function_name = memory_limit_in_mb = invoked_function_arn = aws_request_id = "1"
    log_group_name = log_stream_name = "1"

    def get_remaining_time_in_millis(self) -> int:
        return 50_000


def event_of(keys: list[str]) -> dict[str, Any]:
    """A batch of S3 notifications as in Lambda's SQS event, one message per key."""
    return {"Records": [_record(number, key) for number, key in enumerate(keys)]}


def _record(number: int, key: str) -> dict[str, Any]:
    uploaded = {"key": f"photos/{number}/{key}", "size": 1, "eTag": "e", "sequencer": f"00{number:02}"}
    notification = {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "eventTime": "2026-11-22T09:30:00.412Z",
        "eventName": "ObjectCreated:Put",
        "s3": {"bucket": {"name": BUCKET}, "object": uploaded},
    }
    return {
        "messageId": str(number),
        "receiptHandle": str(number),
        "body": json.dumps({"Records": [notification]}),
        "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": "1795340401000"},
        "messageAttributes": {},
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:eu-central-1:123456789012:tasks",
        "awsRegion": "eu-central-1",
    }


def _ours() -> Callable[[dict[str, Any]], list[bytes]]:
    """Darkroom's `lambda_handler`."""
    os.environ.update(ENVIRONMENT)
    os.environ.setdefault("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", MEMORY_MB)
    from functions.process_image import app  # reads the environment when imported

    def work(job: dict[str, Any]) -> list[bytes]:
        answer = app.lambda_handler(event_of(job["keys"]), _Context())
        if answer["batchItemFailures"]:
            sys.exit(f"The handler failed: {answer}")
        return []

    return work


def _baseline() -> Callable[[dict[str, Any]], list[bytes]]:
    """The baseline: records, sizes and requests in sequence."""
    s3 = boto3.client("s3")

    def work(job: dict[str, Any]) -> list[bytes]:
        for record in event_of(job["keys"])["Records"]:
            for notification in json.loads(record["body"])["Records"]:
                key = notification["s3"]["object"]["key"]
                data = s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
                for spec, body in zip(WEBP.specs, usual_renditions(data, "webp"), strict=True):
                    s3.put_object(Bucket="renditions", Key=f"{key}/{spec.name}", Body=body, ContentType="image/webp")
        return []

    return work


def _without_network() -> Callable[[dict[str, Any]], list[bytes]]:
    """Darkroom's `lambda_handler` over ports in memory, with a photo of 16 x 16 pixels."""
    work = _ours()
    from functions.process_image import app

    memory = _Memory(_tiny_photo())
    dependencies = app.messages.process.keywords["dependencies"]  # type: ignore[attr-defined] # a partial, see wiring.py
    dependencies = replace(dependencies, uploads=memory, renditions=memory, tasks=memory, images=memory)
    dependencies = replace(dependencies, events=_Nobody())
    process = partial(app.messages.process.func, dependencies=dependencies)  # type: ignore[attr-defined]
    app.messages = replace(app.messages, process=process)
    app.handlers.clear()  # of the queues, so that this one takes every message
    return work


def _rendering_alone() -> Callable[[dict[str, Any]], list[bytes]]:
    """The rendering part: the same photo."""
    data = _tiny_photo()
    photo = identify(data, LIMITS)
    return lambda _: [rendition.body for rendition in render(data, photo, WEBP).renditions]


def _rendering_apart() -> Callable[[dict[str, Any]], list[bytes]]:
    """The rendering part in a process of its own: the same photo."""
    data = _tiny_photo()
    server = RenderServer(LIMITS, WEBP, Admission(10**9, vcpus=1), cpu_seconds=60)
    atexit.register(server.close)
    server.wait_until_ready()
    return lambda _: [r.body for r in server.render(data, Deadline(time() + 300))[1].renditions]


def _tiny_photo() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), "teal").save(buffer, "JPEG")
    return buffer.getvalue()


@dataclass(frozen=True)
class _Memory:
    """A fake of every port, with one upload."""

    data: bytes
    last_modified = datetime(2026, 11, 22, tzinfo=UTC)
    version_id = None
    source = "1"

    @property
    def size(self) -> int:
        return len(self.data)

    def close(self) -> None:
        pass

    def open_current(self, bucket: str, key: str) -> _Memory:  # noqa: ARG002
        return self

    def put(self, keyed: dict[str, Rendition]) -> None:
        pass

    def mark_stale(self, keys: tuple[str, ...]) -> None:
        pass

    def claim(self, task: ImageTask | Unreadable, *, until: float, again: bool) -> Claim:  # noqa: ARG002
        return Claim(task.task_id, "me", attempt=1)

    def release(self, claim: Claim, *, begun: bool) -> None:
        pass

    def finish(self, claim: Claim, result: Result, error_code: str | None) -> None:
        pass

    def read(self, image_key: str = "") -> Any:
        # The images table's method with a key, else the upload's: one object implements all ports.
        return KnownImage(image_key) if image_key else self.data

    def publish(self, image: KnownImage, record: ImageRecord) -> KnownImage:
        return replace(image, published=record)


class _Nobody:
    """The topic, without subscribers."""

    def publish(self, event: ImageEvent) -> None:
        pass


HANDLERS = {
    "ours": _ours,
    "baseline": _baseline,
    "without network": _without_network,
    "rendering alone": _rendering_alone,
    "rendering apart": _rendering_apart,
}

if __name__ == "__main__":
    serve(HANDLERS[sys.argv[1]]())
