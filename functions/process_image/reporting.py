"""What the outside learns of an image task: one log line and its metrics."""

from __future__ import annotations

from aws_lambda_powertools.metrics import MetricUnit
from darkroom.batch import Attempt
from darkroom.errors import TransientFault
from darkroom.image_messages import ImageTask
from darkroom.messages import Unreadable
from darkroom.reporting import count_times, logger, metrics, report_fault, stage_times

from functions.process_image.ports import Result
from functions.process_image.process import Outcome


def report(attempt: Attempt[ImageTask | Unreadable, Outcome], sent: float | None = None, is_last: bool = False) -> None:
    """Log one attempt and count it.

    Parameters
    ----------
    sent:
        When the message was sent, seconds since the epoch; None for a direct invocation.
    is_last:
        What could not be done now was set aside, not left for another attempt.
    """
    task, outcome = attempt.task, attempt.outcome
    times = stage_times(attempt, sent)
    if isinstance(task, ImageTask) and task.event_time:
        times["NotificationLatency"] = attempt.started - task.event_time.timestamp()
    about: dict[str, object] = {"task_id": task.task_id, **count_times(times)}
    if isinstance(task, ImageTask):
        about |= {"bucket": task.bucket, "key": task.key, "version_id": task.version_id}
    if isinstance(outcome, TransientFault):
        report_fault(outcome, about, is_last=is_last)
    elif outcome.fault:
        report_fault(outcome.fault, about, is_last=True)
    else:
        _report_done(outcome, about)


def _report_done(outcome: Outcome, about: dict[str, object]) -> None:
    metrics.add_metric(outcome.result.value, MetricUnit.Count, 1)
    if outcome.result is Result.PROCESSED:
        metrics.add_metric("BytesIn", MetricUnit.Bytes, outcome.bytes_in)
        metrics.add_metric("BytesOut", MetricUnit.Bytes, outcome.bytes_out)
    logger.info(outcome.result.value, extra=about)
