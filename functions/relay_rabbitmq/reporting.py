"""Report a batch: metrics, and a log line for each message that was moved to the dead-letter queue."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from aws_lambda_powertools.metrics import MetricUnit
from darkroom.logs import logger
from darkroom.reporting import metrics, report_fault

from functions.relay_rabbitmq.relay import Accepted, Undeliverable


def report(outcomes: Iterable[Accepted | Undeliverable]) -> int:
    """Log and count the outcomes of a batch as they come; returns the number of messages."""
    relayed: Counter[str] = Counter()
    undeliverable = 0
    for outcome in outcomes:
        if isinstance(outcome, Undeliverable):
            undeliverable += 1
            about = {"task_id": outcome.task_id, "queue": outcome.delivery.queue}
            report_fault(outcome.fault, about, is_last=True)
        else:
            relayed[outcome.target.value] += 1
    if relayed:
        metrics.add_metric("Relayed", MetricUnit.Count, relayed.total())
    logger.info("Relayed", extra={"relayed": dict(relayed), "dead_lettered": undeliverable})
    return relayed.total() + undeliverable
