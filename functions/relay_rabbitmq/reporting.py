"""What the outside learns of a batch: metrics, and a log line for whatever was rejected."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from aws_lambda_powertools.metrics import MetricUnit
from darkroom.reporting import logger, metrics, report_fault

from functions.relay_rabbitmq.relay import Accepted, Rejected


def report(outcomes: Iterable[Accepted | Rejected]) -> int:
    """Log and count what becomes of a batch, as it does; returns how many messages that were."""
    relayed: Counter[str] = Counter()
    rejected = 0
    for outcome in outcomes:
        if isinstance(outcome, Rejected):
            rejected += 1
            about = {"task_id": outcome.task_id, "queue": outcome.delivery.queue}
            report_fault(outcome.fault, about, is_last=True)
        else:
            relayed[outcome.target.value] += 1
    if relayed:
        metrics.add_metric("Relayed", MetricUnit.Count, relayed.total())
    logger.info("Relayed", extra={"relayed": dict(relayed), "rejected": rejected})
    return relayed.total() + rejected
