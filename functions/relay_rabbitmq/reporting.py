"""What the outside learns of a batch: metrics, and a log line for whatever was rejected."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from aws_lambda_powertools.metrics import MetricUnit
from darkroom.reporting import logger, metrics, report_fault

from functions.relay_rabbitmq.relay import Accepted, Rejected


def report(outcomes: Sequence[Accepted | Rejected]) -> None:
    """Log and count what became of a batch."""
    relayed = Counter(outcome.target.value for outcome in outcomes if isinstance(outcome, Accepted))
    if relayed:
        metrics.add_metric("Relayed", MetricUnit.Count, relayed.total())
    for outcome in outcomes:
        if isinstance(outcome, Rejected):
            about = {"task_id": outcome.task_id, "queue": outcome.delivery.queue}
            report_fault(outcome.fault, about, is_last=True)
    logger.info("Relayed", extra={"relayed": dict(relayed), "rejected": len(outcomes) - relayed.total()})
