"""Every file of events/ works unchanged on a stack that `make up` started."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from local import sample_events
from local.config import PROJECT, LaptopError
from local.outcomes import poll
from local.stack import Stack
from tests.integration.uploading import SECONDS

EVENTS = PROJECT / "events"
OTHER_QUEUE = "arn:aws:sqs:eu-central-1:000000000000:other"
# The outcomes of each file's messages, in any order; a message that another file has too may be a duplicate.
# The relay ends every batch with the line "Relayed" and its counts.
RESULTS = {
    "order_decimal_amounts": ["Completed"],
    "order_declined": ["Rejected"],
    "order_delivered_twice": ["Completed", "Duplicate"],
    "order_good": ["Completed"],
    "order_malformed": ["DeadLettered"],
    "order_out_of_stock": ["Rejected"],
    "rabbitmq_image_tasks": ["Relayed"],
    "rabbitmq_invalid": ["DeadLettered", "Relayed"],
    "rabbitmq_mixed": ["DeadLettered", "Relayed"],
    "rabbitmq_orders": ["Relayed"],
    "s3": ["Processed"],
    "sqs_eventbridge": ["Processed"],
    "sqs_malformed": ["DeadLettered"],
    "sqs_mixed_batch": ["Processed", "DeadLettered"],
    "sqs_plain_task": ["Processed"],
    "sqs_s3": ["Processed"],
    "sqs_s3_several_records": ["Processed"],
    "sqs_sns": ["Processed"],
    "sqs_test_event": [],
}


@pytest.mark.parametrize("path", sorted(EVENTS.glob("*.json")), ids=lambda path: path.stem)
def test_an_event_works_as_it_is(stack: Stack, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def invoke() -> tuple[int, list[str]]:
        status = sample_events.invoke(stack, Console(file=io.StringIO()), path)
        return status, capsys.readouterr().out.strip().splitlines()

    def succeeded(invoked: tuple[int, list[str]]) -> bool:
        status, said = invoked
        return status == 0 and not json.loads(said[-1]).get("batchItemFailures")

    # when; as SQS and S3 do, again if another message renders the same photo at this moment
    status, [*log, answer] = poll(invoke, succeeded, seconds=SECONDS)
    # then
    assert status == 0, log
    assert json.loads(answer).get("batchItemFailures", []) == [], log
    lines = [json.loads(line) for line in log if line.startswith('{"level"')]
    messages = [line["message"].partition(":")[0] for line in lines]
    assert set(messages) - {"Duplicate"} <= set(RESULTS[path.stem])
    assert bool(messages) == bool(RESULTS[path.stem])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "cannot be read"),
        ("[]", "holds no event of S3, SQS or RabbitMQ"),
        (
            json.dumps({"Records": [{"eventSource": "aws:sqs", "eventSourceARN": OTHER_QUEUE}]}),
            f"No function of the stack reads {OTHER_QUEUE}",
        ),
    ],
)
def test_a_file_without_an_event_is_reported_in_one_sentence(
    stack: Stack, tmp_path: Path, content: str, reason: str
) -> None:
    path = tmp_path / "event.json"
    path.write_text(content)
    with pytest.raises(LaptopError, match=reason):
        sample_events.invoke(stack, Console(file=io.StringIO()), path)
