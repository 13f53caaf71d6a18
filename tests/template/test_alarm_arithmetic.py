"""What an alarm counts can reach its threshold in as many periods as it wants, and what is no fault cannot.

The times are those of the functions: how long a claim lasts, after how long a message comes back, how often.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from darkroom import batch

from tests.template.template import ROOT, load

TEMPLATE = load((ROOT / "template.yaml").read_text())
ALARMS, FUNCTIONS, QUEUES = TEMPLATE.alarms, TEMPLATE.functions, TEMPLATE.queues
# Alarm, function, and how many tasks a minute make it fire when all of them fail.
RETRIES = [("ImageTasksRetriedAlarm", "ProcessImageFunction", 6), ("OrdersRetriedAlarm", "ProcessOrderFunction", 1)]
_STEP = 5  # seconds


def fires(alarm: dict[str, Any], moments: Iterable[float]) -> set[bool]:
    """Whether an alarm on a sum fires at something that is counted at these moments, in seconds.

    Both answers, if it depends on where its periods begin.
    """
    moments, period, periods = list(moments), alarm["Period"], alarm["EvaluationPeriods"]
    assert (alarm["Statistic"], alarm["ComparisonOperator"]) == ("Sum", "GreaterThanThreshold")
    answers = set()
    for offset in range(0, period, _STEP):
        sums = Counter(int((moment + offset) // period) for moment in moments)
        over = {number for number, count in sums.items() if count > alarm["Threshold"]}
        answers.add(any({*range(first, first + periods)} <= over for first in over))
    return answers


def receives(function: str, *, slowly: bool) -> list[float]:
    """When a message that always fails is received, seconds from the first time, with the longest or shortest waits."""
    moments = [0.0]
    for attempt in range(1, max_receives(function)):
        longest = min(batch.LONGEST_RETRY_SECONDS, batch.FIRST_RETRY_SECONDS * 2 ** (attempt - 1))
        moments.append(moments[-1] + (longest if slowly else batch.FIRST_RETRY_SECONDS / 2))
    return moments


def max_receives(function: str) -> int:
    """Of a message that always fails: those that did not begin its task are not counted."""
    variables = FUNCTIONS[function]["Environment"]["Variables"]
    return int(variables.get("MAX_ATTEMPTS", variables["MAX_RECEIVES"]))


def retries(function: str, *, slowly: bool) -> list[float]:
    """When a message that always fails counts as retried: at every receive but the last."""
    return receives(function, slowly=slowly)[:-1]


class TestRetries:
    @pytest.mark.parametrize(("alarm", "function", "per_minute"), RETRIES)
    @pytest.mark.parametrize("slowly", [True, False])
    def test_fires_in_an_outage(self, alarm: str, function: str, per_minute: int, slowly: bool) -> None:
        begins = range(0, 4 * ALARMS[alarm]["Period"] * ALARMS[alarm]["EvaluationPeriods"], 60 // per_minute)
        assert fires(ALARMS[alarm], (b + r for b in begins for r in retries(function, slowly=slowly))) == {True}

    @pytest.mark.parametrize(("alarm", "function", "_"), RETRIES)
    @pytest.mark.parametrize("slowly", [True, False])
    def test_does_not_fire_if_it_is_one_message(self, alarm: str, function: str, _: int, slowly: bool) -> None:
        assert fires(ALARMS[alarm], retries(function, slowly=slowly)) == {False}

    def test_moves_photos_to_the_dead_letter_queue_within_the_hour_as_the_runbook_says(self) -> None:
        assert receives("ProcessImageFunction", slowly=True)[-1] == 51 * 60 + 10

    @pytest.mark.parametrize(
        ("alarm", "function"),
        [("ImageTasksQueueAgeAlarm", "ProcessImageFunction"), ("OrderQueueAgeAlarm", "ProcessOrderFunction")],
    )
    def test_is_gone_from_the_queues_age_before_that_is_high(self, alarm: str, function: str) -> None:
        """So that another alarm must tell: what was received three times and not deleted is left out of the metric."""
        third = receives(function, slowly=True)[2]
        assert third + 2 * FUNCTIONS[function]["Timeout"] < ALARMS[alarm]["Threshold"]


class TestTakenOver:
    ALARM = ALARMS["ImageTasksStuckAlarm"]
    FUNCTION = FUNCTIONS["ProcessImageFunction"]

    @classmethod
    def gaps(cls) -> Iterator[float]:
        """Seconds from a delivery that died to the next one: the message is seen again, and soon taken."""
        visibility = QUEUES["ImageTasksQueue"]["VisibilityTimeout"]
        yield from range(visibility, visibility + cls.FUNCTION["Timeout"] + 1, 10)

    def test_is_found_without_a_claim(self) -> None:
        assert min(self.gaps()) > self.FUNCTION["Timeout"]

    def test_fires_at_a_photo_that_kills_every_delivery(self) -> None:
        for gap in self.gaps():
            taken_over = [number * gap for number in range(1, max_receives("ProcessImageFunction"))]
            assert fires(self.ALARM, taken_over) == {True}, gap

    def test_fires_at_a_batch_whose_function_is_killed(self) -> None:
        assert fires(self.ALARM, [300.0] * 10) == {True}

    def test_does_not_fire_for_one_message(self) -> None:
        assert fires(self.ALARM, [300.0]) == {False}


def test_one_late_photo_does_not_raise_the_alarm_on_late_notifications() -> None:
    """It is counted at its first receive, so in one period; when S3 is late, photo after photo is."""
    assert ALARMS["HighNotificationLatencyAlarm"]["EvaluationPeriods"] > 1
