"""What MiniStack lacks of resource types, and for alarms: metric math, and the evaluation of dimensions.

``run_ministack.py``, which checks the version, installs it in the emulator's own environment. It can be removed when
``tests/integration/test_alarms.py`` passes without it; each part says what it fixes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from io import BytesIO
from time import time
from types import ModuleType
from typing import Any
from uuid import uuid4
from zipfile import ZipFile

# The metric math of template.yaml. Every expression fills gaps, so there is always a value.
_EXPRESSIONS: dict[str, Callable[[Sequence[float]], float]] = {
    "SUM(FILL(METRICS(), 0))": sum,
    "MAX(FILL(METRICS(), 0))": max,
}


def install() -> None:
    """Add the resource types and fix the alarms."""
    from ministack.services import cloudwatch
    from ministack.services.cloudformation import provisioners

    kinds = provisioners._RESOURCE_HANDLERS  # noqa: SLF001 # there is no public hook
    kinds["AWS::CloudWatch::CompositeAlarm"] = _composite_alarms(cloudwatch, provisioners)
    kinds["AWS::Logs::QueryDefinition"] = _saved_queries()
    _run_custom_resources()
    _take_alarms_on_metric_math(provisioners)
    _look_at_the_metric_that_the_alarm_names(cloudwatch)


def _composite_alarms(cloudwatch: Any, provisioners: Any) -> dict[str, Any]:
    """Create composite alarms with PutCompositeAlarm. MiniStack's CloudFormation does not support them."""

    def put(name: str, properties: dict[str, Any]) -> tuple[str, dict[str, str]]:
        status, _, body = cloudwatch._put_composite_alarm({}, {**properties, "AlarmName": name}, False, True)  # noqa: SLF001
        if status != 200:
            raise ValueError(json.loads(body)["message"])
        return name, {"Arn": cloudwatch._composite_alarms[name]["AlarmArn"]}  # noqa: SLF001

    def create(logical_id: str, properties: dict[str, Any], stack_name: str) -> Any:
        return put(provisioners._physical_name(stack_name, logical_id, max_len=255), properties)  # noqa: SLF001

    def update(name: str, _: Any, properties: dict[str, Any], *__: Any) -> Any:
        return put(name, properties)

    def delete(name: str, _: Any) -> None:
        cloudwatch._composite_alarms.pop(name, None)  # noqa: SLF001

    return {"create": create, "update": update, "delete": delete}


def _saved_queries() -> dict[str, Any]:
    """Accept saved queries as resources of a stack. They have no effect: MiniStack's Logs has no queries."""
    return {
        "create": lambda *_: (str(uuid4()), {}),
        "update": lambda query_id, *_: (query_id, {}),
        "delete": lambda *_: None,
    }


def _run_custom_resources() -> None:
    """Run the inline code of a custom resource here. MiniStack's functions lack `cfnresponse`, which Lambda brings.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cfn-lambda-function-code-cfnresponsemodule.html
    """
    from ministack.services import lambda_svc
    from ministack.services.cloudformation import custom_resource

    def invoke(
        kind: str, _: str, properties: dict[str, Any], *__: Any, physical_id: str | None = None, **___: Any
    ) -> tuple[str, dict[str, Any]]:
        record, *_ = lambda_svc._get_func_record_for_ref(properties["ServiceToken"])  # noqa: SLF001
        with ZipFile(BytesIO(record["code_zip"])) as archive:
            code = archive.read("index.py")
        answers: list[tuple[str, str, dict[str, Any], str]] = []
        sending: Any = ModuleType("cfnresponse")
        sending.SUCCESS, sending.FAILED = "SUCCESS", "FAILED"
        sending.send = lambda _, __, status, data, id_, reason="": answers.append((status, id_, data, reason))
        sys.modules[sending.__name__] = sending
        names: dict[str, Any] = {}
        exec(code, names)  # noqa: S102 # our own template's
        event: dict[str, Any] = {"RequestType": kind, "ResourceProperties": properties}
        names["handler"](event | ({"PhysicalResourceId": physical_id} if physical_id else {}), None)
        ((status, id_, data, reason),) = answers
        if status == "FAILED":
            raise RuntimeError(reason)
        return id_, data

    custom_resource.invoke_custom_resource = invoke


def _take_alarms_on_metric_math(provisioners: Any) -> None:
    """Keep the metrics and the expression of an alarm. MiniStack refuses them in a template."""
    record = provisioners._cw_metric_alarm_record  # noqa: SLF001

    def patched(name: str, properties: dict[str, Any]) -> dict[str, Any]:
        if "Metrics" not in properties:
            return dict(record(name, properties))
        one = {key: value for key, value in properties.items() if key != "Metrics"}
        alarm = record(name, {**one, "MetricName": "-", "Namespace": "-"})
        for key in ("MetricName", "Namespace", "Statistic", "ExtendedStatistic", "Period", "Dimensions"):
            del alarm[key]
        return {**alarm, "Metrics": properties["Metrics"]}

    provisioners._cw_metric_alarm_record = patched  # noqa: SLF001


def _look_at_the_metric_that_the_alarm_names(cloudwatch: Any) -> None:
    """Evaluate an alarm period by period, on the metric with its dimensions, and treat missing data as configured.

    MiniStack evaluates the points of all metrics of that name, with any dimensions, in one period. As in MiniStack, an
    alarm is evaluated when metrics are put. Periods end now, not at the full minute.
    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarm-evaluation.html
    """

    def evaluate(alarm: dict[str, Any]) -> None:
        periods = alarm["EvaluationPeriods"]
        now = time()
        values = [_value(cloudwatch, alarm, now, number) for number in range(periods)]
        if values == [None] * periods and alarm["TreatMissingData"] in ("missing", "ignore"):
            return
        missing = alarm["TreatMissingData"] == "breaching"
        breaching = sum(missing if value is None else _breaches(alarm, value) for value in values)
        state = "ALARM" if breaching >= alarm.get("DatapointsToAlarm", periods) else "OK"
        if state != alarm["StateValue"]:
            before, reason = alarm["StateValue"], f"Threshold Crossed: {values}, the newest first"
            alarm.update(StateValue=state, StateReason=reason, StateUpdatedTimestamp=int(now))
            cloudwatch._record_history(alarm["AlarmName"], before, state, reason)  # noqa: SLF001
            cloudwatch._dispatch_alarm_actions(alarm, before, state, reason)  # noqa: SLF001
            cloudwatch._evaluate_parent_alarms(alarm)  # noqa: SLF001

    cloudwatch._evaluate_alarm = evaluate  # noqa: SLF001


def _value(cloudwatch: Any, alarm: dict[str, Any], now: float, number: int) -> float | None:
    """The value of an alarm's metric in one period, 0 being the newest; None if there is no data."""
    if "Metrics" not in alarm:
        return _statistic(
            cloudwatch, alarm, alarm.get("ExtendedStatistic") or alarm["Statistic"], alarm["Period"], now, number
        )
    (expression,) = [query["Expression"] for query in alarm["Metrics"] if "Expression" in query]
    values = [
        _statistic(cloudwatch, query["MetricStat"]["Metric"], *_stat_and_period(query), now, number) or 0
        for query in alarm["Metrics"]
        if "MetricStat" in query
    ]
    return _EXPRESSIONS[expression](values)


def _stat_and_period(query: dict[str, Any]) -> tuple[str, int]:
    return query["MetricStat"]["Stat"], int(query["MetricStat"]["Period"])


def _statistic(
    cloudwatch: Any, metric: dict[str, Any], statistic: str, period: int, now: float, number: int
) -> float | None:
    dimensions = cloudwatch._dims_key({d["Name"]: d["Value"] for d in metric["Dimensions"]})  # noqa: SLF001
    points = cloudwatch._metrics.get((metric["Namespace"], metric["MetricName"], dimensions), [])  # noqa: SLF001
    end = now - number * period
    of_period = [point for point in points if end - period < point["Timestamp"] <= end]
    if not of_period:
        return None
    value: float = cloudwatch._stat_value(cloudwatch._calc_stats(of_period), statistic, of_period)  # noqa: SLF001
    return value


def _breaches(alarm: dict[str, Any], value: float) -> bool:
    if alarm["ComparisonOperator"] != "GreaterThanThreshold":
        raise ValueError(f"no comparison but GreaterThanThreshold: {alarm['ComparisonOperator']}")
    return bool(value > alarm["Threshold"])
