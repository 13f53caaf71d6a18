"""The only place that puts real adapters together."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import boto3
from botocore.config import Config
from darkroom.sending import send_all

from functions.sweep_orders.orders_table import DynamoDbOrders
from functions.sweep_orders.settings import Settings
from functions.sweep_orders.stripe_payments import StripePayments
from functions.sweep_orders.sweep import Dependencies

_CLIENTS = Config(connect_timeout=3, read_timeout=10, retries={"mode": "standard", "max_attempts": 3})


def build_dependencies(settings: Settings) -> Dependencies:
    """Build the handler's dependencies."""
    sqs = boto3.client("sqs", config=_CLIENTS)

    def send(messages: Iterable[dict[str, Any]]) -> int:
        return send_all(sqs, settings.order_queue_url, (json.dumps(message) for message in messages))

    return Dependencies(
        DynamoDbOrders(boto3.client("dynamodb", config=_CLIENTS), settings.orders_table),
        StripePayments(
            boto3.client("secretsmanager", config=_CLIENTS), settings.payment_secret_arn, settings.payments_url
        ),
        send,
    )
