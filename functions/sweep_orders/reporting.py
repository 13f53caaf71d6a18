"""Report a sweep: two metrics, and a log line for each payment that no order knows."""

from __future__ import annotations

from dataclasses import asdict

from aws_lambda_powertools.metrics import MetricUnit
from darkroom.logs import logger
from darkroom.reporting import metrics

from functions.sweep_orders.stripe_payments import TakenPayment


def report_sent_again(count: int) -> int:
    """Log and count the orders that stood still; returns how many."""
    metrics.add_metric("StoodStill", MetricUnit.Count, count)
    logger.info("StoodStill", extra={"stood_still": count})
    return count


def report_unknown_payments(payments: list[TakenPayment]) -> int:
    """Log and count payments that no order knows; returns how many."""
    metrics.add_metric("UnknownPayments", MetricUnit.Count, len(payments))
    for payment in payments:
        logger.error("UnknownPayment", extra=asdict(payment))
    return len(payments)
