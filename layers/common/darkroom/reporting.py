"""Report every attempt at a task: a log line, and metrics in the log."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from aws_lambda_powertools import Metrics, single_metric
from aws_lambda_powertools.metrics import MetricUnit
from botocore.exceptions import ClientError

from darkroom.aws_faults import error_code
from darkroom.batch import Attempt
from darkroom.errors import DarkroomError, NotBegun, PaymentRequestRefused, TransientFault, UnexpectedError
from darkroom.logs import logger

# A batch of S3 test events has none.
warnings.filterwarnings("ignore", "No application metrics to publish")

# AWS's answers to a role that lacks a permission, or to a call that no retry can fix.
_DEFECTS = {
    "AccessDenied",
    "AccessDeniedException",
    "AuthorizationError",
    "AuthorizationErrorException",
    "ValidationException",
}

metrics = Metrics()


def stage_times(attempt: Attempt[Any, Any], sent: float | None) -> dict[str, float]:
    """Return the seconds that a task spent in each stage, by metric name.

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
    """Add every time to the metrics, in seconds; returns them for the log line, in whole milliseconds."""
    for name, seconds in times.items():
        metrics.add_metric(name, MetricUnit.Seconds, seconds)
    return {f"{name}Ms": round(seconds * 1000) for name, seconds in times.items()}


def report_fault(fault: DarkroomError, about: Mapping[str, object], *, is_last: bool) -> None:
    """Log and count the fault of a task.

    Parameters
    ----------
    about:
        Further fields of the log line.
    is_last:
        Whether a transient fault moved the message to the dead-letter queue; a permanent fault always does.
    """
    name = "Retried" if isinstance(fault, TransientFault) and not is_last else "DeadLettered"
    if name == "Retried" and isinstance(fault, NotBegun):
        name = "NotBegun"  # no failure, so nothing for the alarm on what is retried
    metrics.add_metric(name, MetricUnit.Count, 1)
    with single_metric(name, MetricUnit.Count, 1) as by_reason:
        by_reason.add_dimension("error_code", fault.error_code)
    if _is_defect(fault):
        metrics.add_metric("Defects", MetricUnit.Count, 1)
    traceback = fault.__cause__ if isinstance(fault, UnexpectedError) else None
    extra = {field: _writable(value) for field, value in about.items()} | {"error_code": fault.error_code}
    logger.warning("%s: %s", name, _writable(str(fault)), extra=extra, exc_info=traceback)


def _writable(value: object) -> object:
    """Replace lone surrogates: JSON can express them, UTF-8 cannot, and one would lose the whole line."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def _is_defect(fault: DarkroomError) -> bool:
    """Return whether a release may have caused it (code, permissions, requests), so that its alarm rolls it back."""
    cause = fault.__cause__
    asked_wrongly = isinstance(cause, ClientError) and error_code(cause) in _DEFECTS
    return isinstance(fault, UnexpectedError | PaymentRequestRefused) or asked_wrongly
