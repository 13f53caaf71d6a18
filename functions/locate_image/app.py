"""The Lambda handler: a request to the function's URL, from CloudFront alone."""

from __future__ import annotations

import os
from typing import Any

import boto3
from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.config import Config
from darkroom.addresses import Addresses
from darkroom.logs import logger

from functions.locate_image.images_table import DynamoDbImages
from functions.locate_image.settings import Settings
from functions.locate_image.stable_address import locate

_settings = Settings.from_environment(os.environ)
# A browser waits: one quick repetition is all.
_client = Config(connect_timeout=1, read_timeout=2, retries={"mode": "standard", "max_attempts": 2})
images = DynamoDbImages(boto3.client("dynamodb", config=_client), _settings.images_table)
delivers = Addresses(prefixes=_settings.delivery_prefixes).delivers


@logger.inject_lambda_context(clear_state=True)
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answer with a redirect to the current rendition, or with 404 or 410. If DynamoDB fails, so does this: 502."""
    del context
    answer = locate(event["rawPath"], images, delivers)
    return {"statusCode": answer.status, "headers": answer.headers}
