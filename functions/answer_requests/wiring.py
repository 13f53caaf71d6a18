"""The one place where the real adapters are put together."""

from __future__ import annotations

import boto3
from botocore.config import Config

from functions.answer_requests.routes import Dependencies
from functions.answer_requests.s3 import PresignedAddresses, S3Uploads
from functions.answer_requests.settings import Settings
from functions.answer_requests.tables import DynamoDbRecords

_CLIENTS = Config(
    connect_timeout=2,
    read_timeout=3,
    retries={"mode": "standard", "max_attempts": 2},
)
# Signed addresses name the region: S3's global address redirects, and browsers do not post a form again.
_SIGNING = Config(signature_version="s3v4", s3={"addressing_style": "virtual"})


def build_dependencies(settings: Settings) -> Dependencies:
    """Build what the handler works with."""
    s3 = boto3.client("s3", config=_CLIENTS.merge(_SIGNING))
    dynamodb = boto3.client("dynamodb", config=_CLIENTS)
    return Dependencies(
        DynamoDbRecords(dynamodb, settings.images_table, settings.orders_table),
        S3Uploads(s3, settings.uploads_bucket),
        settings.delivered,
        lambda: PresignedAddresses.from_now(s3, settings.renditions_bucket),
        settings.max_image_bytes,
    )
