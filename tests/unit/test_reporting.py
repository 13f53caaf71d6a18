from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from darkroom.batch import Attempt
from darkroom.errors import MalformedMessage, NotAnImage, ServiceUnavailable, TransientFault, UnexpectedError
from darkroom.image_messages import ImageTask
from darkroom.messages import Unreadable

from functions.process_image.ports import Result
from functions.process_image.process import Outcome
from functions.process_image.reporting import report, report_taken_over

TASK = ImageTask(
    "task-1", "uploads", "a.jpg", body="{}", version_id="v1", event_time=datetime.fromtimestamp(1000, tz=UTC)
)
PLAIN_TASK = ImageTask("task-1", "uploads", "a.jpg", body="{}")

ImageAttempt = Attempt[ImageTask | Unreadable, Outcome]
Metrics = Callable[[], list[dict[str, Any]]]


def attempt(outcome: Outcome | TransientFault, task: ImageTask | Unreadable = TASK) -> ImageAttempt:
    return Attempt(task, started=1007.5, ended=1009.0, outcome=outcome)


def done(result: Result, **details: Any) -> ImageAttempt:
    return attempt(Outcome(result, "task-1", **details))


def units(emf: dict[str, Any]) -> dict[str, str]:
    (directive,) = emf["_aws"]["CloudWatchMetrics"]
    return {metric["Name"]: metric["Unit"] for metric in directive["Metrics"]}


def test_a_processed_task_is_counted_with_its_times_and_bytes(printed: Metrics) -> None:
    report(done(Result.PROCESSED, bytes_in=5000, bytes_out=700), sent=1002.0)
    (emf,) = printed()
    assert units(emf) == {
        "NotificationLatency": "Seconds",
        "QueueTime": "Seconds",
        "ProcessingTime": "Seconds",
        "Processed": "Count",
        "BytesIn": "Bytes",
        "BytesOut": "Bytes",
    }
    assert emf["ProcessingTime"] == [1.5]
    assert emf["QueueTime"] == [5.5]
    assert emf["Processed"] == [1.0]
    assert (emf["BytesIn"], emf["BytesOut"]) == ([5000.0], [700.0])


@pytest.mark.parametrize(
    ("happened", "counts"),
    [(-1, True), (-13 * 86_400, True), (-15 * 86_400, False), (60, False), (400 * 86_400, False)],
)
def test_an_event_time_that_no_message_can_have_does_not_move_the_latency_alarm(
    printed: Metrics, happened: int, counts: bool
) -> None:
    # given a time in seconds before or after the start, as whoever sends the message states it
    time = datetime.fromtimestamp(1_800_000_000 + happened, tz=UTC)
    outcome = Outcome(Result.PROCESSED, "task-1")
    # when
    report(Attempt(replace(TASK, event_time=time), 1_800_000_000.0, 1_800_000_001.0, outcome))
    # then
    assert ("NotificationLatency" in units(printed()[0])) == counts


def test_metrics_stand_in_the_namespace_under_the_service(printed: Metrics) -> None:
    report(done(Result.DUPLICATE))
    (emf,) = printed()
    (directive,) = emf["_aws"]["CloudWatchMetrics"]
    assert directive["Namespace"] == "Darkroom"
    assert directive["Dimensions"] == [["service"]]
    assert emf["service"] == "process-image"


def test_the_notification_latency_is_counted_only_at_the_first_attempt(printed: Metrics) -> None:
    report(done(Result.PROCESSED), sent=1002.0)
    (first,) = printed()
    assert first["NotificationLatency"] == [7.5]
    report(replace(done(Result.PROCESSED), is_first=False), sent=1002.0)
    (later,) = printed()
    assert "NotificationLatency" not in later
    assert later["QueueTime"] == [5.5]


def test_a_task_that_is_taken_over_is_counted_at_once(
    capsys: pytest.CaptureFixture[str], log: Callable[[], dict[str, Any]]
) -> None:
    report_taken_over(TASK)
    emf = json.loads(capsys.readouterr().out)  # nobody flushed it
    assert units(emf) == {"TakenOver": "Count"}
    assert emf["_aws"]["CloudWatchMetrics"][0]["Dimensions"] == [["service"]]
    line = log()
    assert (line["level"], line["message"]) == ("WARNING", "Taken over from a delivery that died.")
    assert (line["task_id"], line["bucket"], line["key"], line["version_id"]) == ("task-1", "uploads", "a.jpg", "v1")


@pytest.mark.parametrize("result", [Result.DUPLICATE, Result.SUPERSEDED])
def test_a_task_that_needed_no_work_is_counted_without_bytes(printed: Metrics, result: Result) -> None:
    report(done(result, bytes_in=5000))
    (emf,) = printed()
    assert emf[result.value] == [1.0]
    assert not {"BytesIn", "BytesOut", "Processed"} & set(units(emf))


def test_a_dead_lettered_task_is_counted_once_in_all_and_once_by_its_error_code(printed: Metrics) -> None:
    report(done(Result.DEAD_LETTERED, fault=NotAnImage("it is a text")))
    by_reason, in_all = printed()
    assert (by_reason["DeadLettered"], by_reason["error_code"]) == ([1.0], "NotAnImage")
    (dimensions,) = by_reason["_aws"]["CloudWatchMetrics"][0]["Dimensions"]
    assert sorted(dimensions) == ["error_code", "service"]
    assert in_all["DeadLettered"] == [1.0]
    assert "error_code" not in in_all


def test_a_transient_fault_is_counted_as_retried_once_in_all_and_once_by_its_error_code(printed: Metrics) -> None:
    report(attempt(ServiceUnavailable("S3 is slow")))
    by_reason, in_all = printed()
    assert (by_reason["Retried"], by_reason["error_code"]) == ([1.0], "ServiceUnavailable")
    assert in_all["Retried"] == [1.0]
    assert not {"DeadLettered", "error_code"} & in_all.keys()


def test_a_transient_fault_at_the_last_attempt_is_counted_as_a_dead_letter(printed: Metrics) -> None:
    report(attempt(ServiceUnavailable("S3 is slow")), is_last=True)
    by_reason, in_all = printed()
    assert by_reason["error_code"] == "ServiceUnavailable"
    assert in_all["DeadLettered"] == [1.0]
    assert "Retried" not in in_all


def test_a_success_at_the_last_attempt_is_a_success(printed: Metrics) -> None:
    report(done(Result.PROCESSED), is_last=True)
    (emf,) = printed()
    assert emf["Processed"] == [1.0]


def test_a_direct_invocation_has_no_queue_time(printed: Metrics) -> None:
    report(done(Result.PROCESSED), sent=None)
    (emf,) = printed()
    assert "QueueTime" not in emf


def test_a_plain_task_has_no_notification(printed: Metrics) -> None:
    report(attempt(Outcome(Result.PROCESSED, "task-1"), PLAIN_TASK))
    (emf,) = printed()
    assert "NotificationLatency" not in emf


def test_the_log_line_has_the_task_the_object_and_the_times(
    printed: Metrics, log: Callable[[], dict[str, Any]]
) -> None:
    report(done(Result.PROCESSED), sent=1002.0)
    line = log()
    assert (line["level"], line["message"]) == ("INFO", "Processed")
    assert (line["task_id"], line["bucket"], line["key"], line["version_id"]) == ("task-1", "uploads", "a.jpg", "v1")
    assert (line["ProcessingTimeMs"], line["QueueTimeMs"]) == (1500, 5500)


def test_the_log_line_of_a_fault_has_its_reason(printed: Metrics, log: Callable[[], dict[str, Any]]) -> None:
    report(done(Result.DEAD_LETTERED, fault=NotAnImage("it is a text")))
    line = log()
    assert (line["level"], line["message"]) == ("WARNING", "DeadLettered: it is a text")
    assert (line["task_id"], line["key"], line["error_code"]) == ("task-1", "a.jpg", "NotAnImage")
    assert "exception" not in line


def test_the_log_line_of_an_unreadable_message_has_its_task_id(
    printed: Metrics, log: Callable[[], dict[str, Any]]
) -> None:
    fault = MalformedMessage("it is not JSON")
    report(attempt(Outcome(Result.DEAD_LETTERED, "body-1", fault=fault), Unreadable("body-1", "hello", fault)))
    line = log()
    assert (line["task_id"], line["error_code"]) == ("body-1", "MalformedMessage")
    assert "bucket" not in line


def test_the_log_line_of_a_defect_has_its_traceback(printed: Metrics, log: Callable[[], dict[str, Any]]) -> None:
    defect = UnexpectedError("KeyError: 'x'")
    defect.__cause__ = KeyError("x")
    report(attempt(defect))
    line = log()
    assert line["message"] == "Retried: KeyError: 'x'"
    assert line["exception_name"] == "KeyError"
