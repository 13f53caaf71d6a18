import functools
import io
import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import botocore.session
import moto  # noqa: F401 # it reaches no client made before it is imported, and handlers make theirs when imported
import pytest
from hypothesis import HealthCheck, settings

os.environ |= {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "eu-central-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769",
    "POWERTOOLS_SERVICE_NAME": "process-image",
    "POWERTOOLS_METRICS_NAMESPACE": "Darkroom",
    "POWERTOOLS_TRACE_DISABLED": "true",
    "UPLOADS_BUCKET": "darkroom-uploads-c660aae9-f7a0-5321-98e4-c64097062dd7",
    "RENDITIONS_BUCKET": "darkroom-renditions-example",
    "TASKS_TABLE": "tasks",
    "IMAGES_TABLE": "images",
    "TASKS_QUEUE_URL": "https://sqs.eu-central-1.amazonaws.com/123456789012/tasks",
    "RERENDER_QUEUE_URL": "https://sqs.eu-central-1.amazonaws.com/123456789012/rerenders",
    "IMAGE_EVENTS_TOPIC_ARN": "arn:aws:sns:eu-central-1:123456789012:images",
    "IMAGES_URL": "",
    "DELIVERY_PREFIXES": "",
    "DEAD_LETTER_QUEUE_URL": "https://sqs.eu-central-1.amazonaws.com/123456789012/dead-letters",
    "MAX_RECEIVES": "5",
    "MAX_ATTEMPTS": "4",
    "MAX_IMAGE_BYTES": "52428800",
    "MAX_IMAGE_PIXELS": "100000000",
    "MAX_IMAGE_FRAMES": "300",
    "KEEP_LOCATION": "false",
    "TASK_RETENTION_DAYS": "30",
    "ORDERS_TABLE": "orders",
    "INVENTORY_TABLE": "inventory",
    "ORDER_RETENTION_DAYS": "never",
    "ORDER_EVENTS_TOPIC_ARN": "arn:aws:sns:eu-central-1:123456789012:order-events",
    "ORDER_QUEUE_URL": "https://sqs.eu-central-1.amazonaws.com/123456789012/orders",
    "PAYMENT_SECRET_ARN": "arn:aws:secretsmanager:eu-central-1:123456789012:secret:payment-AbCdEf",
    "PAYMENTS_URL": "https://api.stripe.com",
    "ROUTES": '{"image-tasks::/": "image-tasks", "orders::/": "orders"}',
    "IMAGE_TASKS_QUEUE_URL": "https://sqs.eu-central-1.amazonaws.com/123456789012/image-tasks",
}
os.environ.pop("AWS_PROFILE", None)
os.environ.pop("AWS_ENDPOINT_URL", None)

from darkroom.logs import logger
from darkroom.reporting import metrics  # they read the environment

# moto begins a session for each test, and each session reads every endpoint of AWS: a fifth of a second.
botocore.session.create_loader = functools.cache(botocore.session.create_loader)

settings.register_profile(
    "darkroom",
    max_examples=50,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("darkroom")


@pytest.fixture
def logged() -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Read every line that was logged."""
    logger.clear_state()  # what an invocation of an earlier test has left
    stream = io.StringIO()
    streams = {handler: handler.setStream(stream) for handler in logger.handlers}  # type: ignore[attr-defined]
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    for handler, before in streams.items():
        if before:
            handler.setStream(before)  # type: ignore[attr-defined]


@pytest.fixture
def log(logged: Callable[[], list[dict[str, Any]]]) -> Callable[[], dict[str, Any]]:
    """Read the one line that was logged."""

    def read() -> dict[str, Any]:
        (line,) = logged()
        return line

    return read


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Read the metrics that were printed, one dictionary per EMF line."""
    metrics.clear_metrics()

    def read() -> list[dict[str, Any]]:
        metrics.flush_metrics()
        return [json.loads(line) for line in capsys.readouterr().out.splitlines() if '"_aws"' in line]

    yield read
    metrics.clear_metrics()
