"""The Lambda handler: a batch of image tasks from SQS, or one S3 notification invoked directly."""

from __future__ import annotations

import json
import os
from time import time
from typing import Any

from aws_lambda_powertools.utilities.batch import AsyncBatchProcessor, EventType, async_process_partial_response
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.typing import LambdaContext
from darkroom.deadline import Deadline
from darkroom.errors import TransientFault
from darkroom.logs import logger
from darkroom.reporting import metrics

from functions.process_image.reporting import report
from functions.process_image.settings import Settings
from functions.process_image.wiring import build_message_handlers

handlers = build_message_handlers(Settings.from_environment(os.environ))
messages = next(iter(handlers.values()))
# A batch in which every message failed is not a failed invocation: each message has its own retries.
processor = AsyncBatchProcessor(EventType.SQS, raise_on_entire_batch_failure=False)


@logger.inject_lambda_context(clear_state=True)
@metrics.log_metrics(capture_cold_start_metric=True)
def lambda_handler(event: Any, context: LambdaContext) -> Any:
    """Answer SQS with the messages that failed, a direct caller with the outcome of each image."""
    deadline = Deadline(time() + context.get_remaining_time_in_millis() / 1000)
    if _is_from_sqs(event):

        async def take(record: SQSRecord) -> None:
            await handlers.get(record.event_source_arn.rpartition(":")[2], messages).take(record, deadline)

        return async_process_partial_response(event, take, processor, context)
    return _render_now(event, deadline)


def _is_from_sqs(event: Any) -> bool:
    match event:
        case {"Records": [{"eventSource": "aws:sqs"}, *_]}:
            return True
    return False


def _render_now(event: Any, deadline: Deadline) -> dict[str, Any]:
    message = messages.message(json.dumps(event))
    message.work(deadline)
    outcomes = []
    for attempt in message.attempts():
        report(attempt)
        if isinstance(attempt.outcome, TransientFault):
            raise attempt.outcome
        outcomes.append(attempt.outcome.summary())
    return {"outcomes": outcomes}
