"""Report every attempt at an image task: one log line and its metrics."""

from __future__ import annotations

from threading import Lock

from aws_lambda_powertools import single_metric
from aws_lambda_powertools.metrics import MetricUnit
from darkroom.batch import Attempt
from darkroom.errors import TransientFault
from darkroom.image_messages import ImageTask
from darkroom.logs import logger
from darkroom.messages import Unreadable
from darkroom.reporting import count_times, metrics, report_fault, stage_times

from functions.process_image.ports import Result
from functions.process_image.process import Outcome

_RETENTION_SECONDS = 14 * 24 * 3600  # of ImageTasksQueue: no message is older

# Many threads may report at once, and a metric is a line of the log.
_one_at_a_time = Lock()


def report(attempt: Attempt[ImageTask | Unreadable, Outcome], sent: float | None = None, is_last: bool = False) -> None:
    """Log one attempt and count it.

    Parameters
    ----------
    sent:
        When the message was sent, seconds since the epoch; None for a direct invocation.
    is_last:
        Whether a task that failed was moved to the dead-letter queue, not left for another attempt.
    """
    task, outcome = attempt.task, attempt.outcome
    times = stage_times(attempt, sent)
    # Only at the first attempt: later ones wait for a retry or a redrive, not for the notification.
    if attempt.is_first and isinstance(task, ImageTask) and task.event_time:
        latency = attempt.started - task.event_time.timestamp()
        if 0 <= latency <= _RETENTION_SECONDS:  # anybody who may send a message says when it happened
            times["NotificationLatency"] = latency
    about = _about(task) | count_times(times)
    if isinstance(outcome, TransientFault):
        report_fault(outcome, about, is_last=is_last)
    elif outcome.fault:
        report_fault(outcome.fault, about, is_last=True)
    else:
        _report_done(outcome, about)


def report_taken_over(task: ImageTask | Unreadable) -> None:
    """Log and count that the previous delivery of a task never released it.

    At once, not at the function's end: the task may crash this delivery, too.
    """
    with _one_at_a_time, single_metric("TakenOver", MetricUnit.Count, 1):
        logger.warning("Taken over from a delivery that died.", extra=_about(task))


def _about(task: ImageTask | Unreadable) -> dict[str, object]:
    if isinstance(task, ImageTask):
        return {"task_id": task.task_id, "bucket": task.bucket, "key": task.key, "version_id": task.version_id}
    return {"task_id": task.task_id}


def _report_done(outcome: Outcome, about: dict[str, object]) -> None:
    metrics.add_metric(outcome.result.value, MetricUnit.Count, 1)
    if outcome.result is Result.PROCESSED:
        metrics.add_metric("BytesIn", MetricUnit.Bytes, outcome.bytes_in)
        metrics.add_metric("BytesOut", MetricUnit.Bytes, outcome.bytes_out)
    logger.info(outcome.result.value, extra=about)
