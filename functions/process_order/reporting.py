"""Report every attempt at an order: one log line and its metrics."""

from __future__ import annotations

from aws_lambda_powertools import single_metric
from aws_lambda_powertools.metrics import MetricUnit
from darkroom.batch import Attempt
from darkroom.errors import PaymentsUnavailable, TransientFault
from darkroom.logs import logger
from darkroom.messages import Unreadable
from darkroom.order_messages import OrderTask
from darkroom.reporting import count_times, metrics, report_fault, stage_times

from functions.process_order.process import Outcome


def report(attempt: Attempt[OrderTask | Unreadable, Outcome], sent: float, is_last: bool) -> None:
    """Log one attempt and count it.

    Parameters
    ----------
    sent:
        When the message was sent, seconds since the epoch.
    is_last:
        Whether an order that failed was moved to the dead-letter queue, not left for another attempt.
    """
    outcome = attempt.outcome
    about: dict[str, object] = {"order_id": attempt.task.task_id, **count_times(stage_times(attempt, sent))}
    if isinstance(outcome, PaymentsUnavailable):
        metrics.add_metric("PaymentFailures", MetricUnit.Count, 1)
    if isinstance(outcome, TransientFault):
        report_fault(outcome, about, is_last=is_last)
    elif outcome.fault:
        report_fault(outcome.fault, about, is_last=True)
    else:
        _report_end(outcome, about)


def _report_end(outcome: Outcome, about: dict[str, object]) -> None:
    name = outcome.result.value
    metrics.add_metric(name, MetricUnit.Count, 1)
    if outcome.rejection:
        with single_metric(name, MetricUnit.Count, 1) as by_code:
            by_code.add_dimension("code", outcome.rejection.code)
        about["rejection"] = outcome.rejection.code.value
    logger.info(name, extra=about)
