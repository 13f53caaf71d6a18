"""What the outside learns of every attempt at a task: a log line, and metrics in the log."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from aws_lambda_powertools import Logger, Metrics, single_metric
from aws_lambda_powertools.metrics import MetricUnit

from darkroom.batch import Attempt
from darkroom.errors import DarkroomError, TransientFault, UnexpectedError

# A batch of S3 test events has none.
warnings.filterwarnings("ignore", "No application metrics to publish")

logger = Logger()
metrics = Metrics()


def stage_times(attempt: Attempt[Any, Any], sent: float | None) -> dict[str, float]:
    """Seconds that a task spent in each stage, under the metric's name.

    Parameters
    ----------
    sent:
        When the message was sent, seconds since the epoch; None for a direct invocation.
    """
    times = {"ProcessingTime": attempt.ended - attempt.started}
    if sent is not None:
        times["QueueTime"] = attempt.started - sent
    return times


def count_times(times: Mapping[str, float]) -> dict[str, object]:
    """Add every time to the metrics; returns them for the log line, in whole milliseconds."""
    for name, seconds in times.items():
        metrics.add_metric(name, MetricUnit.Milliseconds, seconds * 1000)
    return {f"{name}Ms": round(seconds * 1000) for name, seconds in times.items()}


def report_fault(fault: DarkroomError, about: Mapping[str, object], *, is_last: bool) -> None:
    """Log and count what went wrong with a task.

    Parameters
    ----------
    about:
        Further fields of the log line.
    is_last:
        A transient fault was set aside, as a permanent one always is, and not left for another attempt.
    """
    name = "Retried" if isinstance(fault, TransientFault) and not is_last else "Quarantined"
    metrics.add_metric(name, MetricUnit.Count, 1)
    if name == "Quarantined":
        with single_metric(name, MetricUnit.Count, 1) as by_reason:
            by_reason.add_dimension("error_code", fault.error_code)
    defect = None
    if isinstance(fault, UnexpectedError):
        defect = fault.__cause__
        metrics.add_metric("Defects", MetricUnit.Count, 1)
    logger.warning("%s: %s", name, fault, extra={**about, "error_code": fault.error_code}, exc_info=defect)
