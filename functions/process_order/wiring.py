"""The only place that puts real adapters together."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import boto3
from botocore.config import Config
from darkroom.batch import MessageHandler
from darkroom.dead_letters import SqsDeadLetters
from darkroom.messages import Unreadable
from darkroom.order_messages import OrderTask, read_body
from darkroom.visibility import set_visibility_timeout

from functions.process_order.order_events_topic import SnsOrderEvents
from functions.process_order.orders_table import DynamoDbOrders
from functions.process_order.process import Dependencies, Outcome, process
from functions.process_order.reporting import report
from functions.process_order.settings import Settings
from functions.process_order.stripe_payments import StripePayments

_BATCH_SIZE = 10
# A call that takes longer is better made again by the next delivery.
_CLIENTS = Config(
    connect_timeout=3, read_timeout=10, retries={"mode": "standard", "max_attempts": 3}, max_pool_connections=20
)


def build_message_handler(settings: Settings) -> MessageHandler[OrderTask | Unreadable, Outcome]:
    """Build the handler's dependencies."""
    sqs = boto3.client("sqs", config=_CLIENTS)
    dead_letters = SqsDeadLetters(sqs, settings.dead_letter_queue_url)
    dependencies = Dependencies(
        orders=DynamoDbOrders(
            boto3.client("dynamodb", config=_CLIENTS),
            settings.orders_table,
            settings.inventory_table,
            settings.order_retention_days,
        ),
        payments=StripePayments(
            boto3.client("secretsmanager", config=_CLIENTS), settings.payment_secret_arn, settings.payments_url
        ),
        events=SnsOrderEvents(boto3.client("sns", config=_CLIENTS), settings.order_events_topic_arn),
        dead_letters=dead_letters,
    )
    return MessageHandler(
        read=read_body,
        process=partial(process, dependencies=dependencies),
        dead_letters=dead_letters,
        workers=ThreadPoolExecutor(max_workers=2 * _BATCH_SIZE),  # room for threads that still run after their deadline
        answerers=ThreadPoolExecutor(max_workers=_BATCH_SIZE),
        max_receives=settings.max_receives,
        max_attempts=settings.max_receives,
        set_visibility_timeout=partial(set_visibility_timeout, sqs, settings.order_queue_url),
        report=report,
    )
