"""The Lambda handler: a batch of orders from SQS."""

from __future__ import annotations

import os
from time import time
from typing import Any

from aws_lambda_powertools.utilities.batch import AsyncBatchProcessor, EventType, async_process_partial_response
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.typing import LambdaContext
from darkroom.deadline import Deadline
from darkroom.logs import logger
from darkroom.reporting import metrics

from functions.process_order.settings import Settings
from functions.process_order.wiring import build_message_handler

messages = build_message_handler(Settings.from_environment(os.environ))
# A batch in which every message failed is not a failed invocation: each message has its own retries.
processor = AsyncBatchProcessor(EventType.SQS, raise_on_entire_batch_failure=False)


@logger.inject_lambda_context(clear_state=True)
@metrics.log_metrics(capture_cold_start_metric=True)
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> Any:
    """Answer SQS with the messages that failed."""
    deadline = Deadline(time() + context.get_remaining_time_in_millis() / 1000)

    async def take(record: SQSRecord) -> None:
        await messages.take(record, deadline)

    return async_process_partial_response(event, take, processor, context)
