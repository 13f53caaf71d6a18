"""What the outside learns of a task: one log line and its metrics."""

from __future__ import annotations

import warnings

from aws_lambda_powertools import Logger, Metrics, single_metric
from aws_lambda_powertools.metrics import MetricUnit
from darkroom.errors import DarkroomError, TransientFault, UnexpectedError

from functions.process_image.batch import Attempt
from functions.process_image.messages import ImageTask
from functions.process_image.ports import Result
from functions.process_image.process import Outcome

# A batch of S3 test events has none.
warnings.filterwarnings("ignore", "No application metrics to publish")

logger = Logger()
metrics = Metrics()


def report(attempt: Attempt, sent: float | None = None, is_last: bool = False) -> None:
    """Log one attempt and count it.

    Parameters
    ----------
    sent:
        When the message was sent, seconds since the epoch; None for a direct invocation.
    is_last:
        What could not be done now was set aside, not left for another attempt.
    """
    task, outcome = attempt.task, attempt.outcome
    times = _times(attempt, sent)
    for name, seconds in times.items():
        metrics.add_metric(name, MetricUnit.Milliseconds, seconds * 1000)
    about: dict[str, object] = {"task_id": task.task_id}
    about |= {f"{name}Ms": round(seconds * 1000) for name, seconds in times.items()}
    if isinstance(task, ImageTask):
        about |= {"bucket": task.bucket, "key": task.key, "version_id": task.version_id}
    if isinstance(outcome, TransientFault):
        _report_fault(outcome, "Quarantined" if is_last else "Retried", about)
    elif outcome.fault:
        _report_fault(outcome.fault, "Quarantined", about)
    else:
        _report_done(outcome, about)


def _report_done(outcome: Outcome, about: dict[str, object]) -> None:
    metrics.add_metric(outcome.result.value, MetricUnit.Count, 1)
    if outcome.result is Result.PROCESSED:
        metrics.add_metric("BytesIn", MetricUnit.Bytes, outcome.bytes_in)
        metrics.add_metric("BytesOut", MetricUnit.Bytes, outcome.bytes_out)
    logger.info(outcome.result.value, extra=about)


def _report_fault(fault: DarkroomError, name: str, about: dict[str, object]) -> None:
    metrics.add_metric(name, MetricUnit.Count, 1)
    if name == "Quarantined":
        with single_metric(name, MetricUnit.Count, 1) as by_reason:
            by_reason.add_dimension("error_code", fault.error_code)
    defect = fault.__cause__ if isinstance(fault, UnexpectedError) else None
    logger.warning("%s: %s", name, fault, extra=about | {"error_code": fault.error_code}, exc_info=defect)


def _times(attempt: Attempt, sent: float | None) -> dict[str, float]:
    """Seconds of every stage that is known, under the metric's name."""
    times = {"ProcessingTime": attempt.ended - attempt.started}
    if sent is not None:
        times["QueueTime"] = attempt.started - sent
    if isinstance(attempt.task, ImageTask) and attempt.task.event_time:
        times["NotificationLatency"] = attempt.started - attempt.task.event_time.timestamp()
    return times
