"""The Lambda handler: a batch of messages from RabbitMQ."""

from __future__ import annotations

import os
from typing import Any

import boto3
from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.config import Config
from darkroom.errors import TransientFault
from darkroom.logs import logger
from darkroom.reporting import metrics, report_fault

from functions.relay_rabbitmq.deliveries import read_event
from functions.relay_rabbitmq.relay import relay
from functions.relay_rabbitmq.reporting import report
from functions.relay_rabbitmq.settings import Settings
from functions.relay_rabbitmq.sqs import SqsDeadLetterQueue, SqsQueues

settings = Settings.from_environment(os.environ)
sqs = boto3.client(
    "sqs", config=Config(connect_timeout=3, read_timeout=5, retries={"mode": "standard", "max_attempts": 3})
)
queues = SqsQueues(sqs, settings.queue_urls)
dead_letter_queue = SqsDeadLetterQueue(sqs, settings.dead_letter_queue_url)


@logger.inject_lambda_context(clear_state=True)
@metrics.log_metrics(capture_cold_start_metric=True)
def lambda_handler(event: Any, context: LambdaContext) -> dict[str, int]:
    """Send the batch on, or fail; then Lambda delivers all of it again. Returns the number of messages."""
    del context
    try:
        return {"messages": report(relay(read_event(event), settings.routes, queues, dead_letter_queue))}
    except TransientFault as fault:
        report_fault(fault, {}, is_last=False)
        raise
