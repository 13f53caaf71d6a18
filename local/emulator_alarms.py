"""What MiniStack lacks for alarms: whose metric, which periods, metric math, composites, invocations by a queue.

Runs in the emulator's own environment, patched in by ``run_emulator.py``, which checks the version. All of it can go
when ``tests/integration/test_alarms.py`` passes without it; each part says what it mends.
"""

from __future__ import annotations

import ast
import operator
from collections import defaultdict
from collections.abc import Callable, Mapping
from time import time
from typing import Any

# A value for each period that has one, by the time that the period begins.
Series = dict[int, float]

_BREACHES: dict[str, Callable[[float, float], bool]] = {
    "GreaterThanOrEqualToThreshold": operator.ge,
    "GreaterThanThreshold": operator.gt,
    "LessThanThreshold": operator.lt,
    "LessThanOrEqualToThreshold": operator.le,
}
_ARITHMETIC: dict[type, Callable[[Any, Any], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
# CloudWatch looks somewhat further back than an alarm asks for, in case that data comes late.
_FURTHER_BACK = 2


def install() -> None:
    """Mend the evaluation of alarms, their way out of a template, and the metrics of functions."""
    from ministack.services import cloudwatch, lambda_svc
    from ministack.services.cloudformation import provisioners

    _evaluate_as_cloudwatch_does(cloudwatch)
    _make_alarms_of_several_metrics(provisioners)
    _make_composite_alarms(cloudwatch, provisioners)
    _count_every_invocation(cloudwatch, lambda_svc)


def _evaluate_as_cloudwatch_does(cloudwatch: Any) -> None:
    """Compare one metric's newest periods with the threshold.

    MiniStack takes the metrics of all dimensions, and of all periods, as one value.
    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarm-evaluation.html
    """

    def evaluate(alarm: dict[str, Any]) -> None:
        wanted = alarm["EvaluationPeriods"]
        needed = alarm.get("DatapointsToAlarm") or wanted
        breaches = _BREACHES[alarm["ComparisonOperator"]]
        values = [value for _, value in sorted(_series_of(cloudwatch, alarm).items())][-wanted:]
        breaching = sum(breaches(value, alarm["Threshold"]) for value in values)
        missing = wanted - len(values)
        treatment = alarm.get("TreatMissingData")
        if treatment == "breaching":
            breaching += missing
        if not values and treatment in ("missing", "ignore"):
            return
        state = "ALARM" if breaching >= needed else "OK"
        before = alarm["StateValue"]
        if state == before:
            return
        reason = f"Threshold Crossed: {breaching} of the last {wanted} datapoints {values} beyond {alarm['Threshold']}"
        alarm.update(StateValue=state, StateReason=reason, StateUpdatedTimestamp=int(time()))
        cloudwatch._record_history(alarm["AlarmName"], before, state, reason)  # noqa: SLF001
        cloudwatch._dispatch_alarm_actions(alarm, before, state, reason)  # noqa: SLF001
        cloudwatch._evaluate_parent_alarms(alarm)  # noqa: SLF001

    cloudwatch._evaluate_alarm = evaluate  # noqa: SLF001 # there is no public hook


def _series_of(cloudwatch: Any, alarm: Mapping[str, Any]) -> Series:
    """What an alarm looks at."""
    far = alarm["EvaluationPeriods"] + _FURTHER_BACK
    queries = {query["Id"]: query for query in alarm.get("Metrics") or []}
    if not queries:
        stat = alarm.get("ExtendedStatistic") or alarm["Statistic"]
        return _measured(cloudwatch, alarm, int(alarm["Period"]), stat, far)

    def series(query: Mapping[str, Any]) -> Series | float:
        if "Expression" in query:
            return _calculated(ast.parse(query["Expression"], mode="eval").body, lambda name: series(queries[name]))
        of = query["MetricStat"]
        return _measured(cloudwatch, of["Metric"], int(of["Period"]), of["Stat"], far)

    (returned,) = [query for query in queries.values() if str(query.get("ReturnData", True)).lower() == "true"]
    result = series(returned)
    return result if isinstance(result, dict) else {}


def _measured(cloudwatch: Any, metric: Mapping[str, Any], period: int, stat: str, far: int) -> Series:
    """The newest periods of the one metric with exactly these dimensions."""
    dimensions = cloudwatch._dims_key(cloudwatch._dims_from_list(metric.get("Dimensions") or []))  # noqa: SLF001
    points = cloudwatch._metrics.get((metric["Namespace"], metric["MetricName"], dimensions)) or []  # noqa: SLF001
    now = time() // period
    periods = defaultdict(list)
    for point in points:
        if now - far < point["Timestamp"] // period <= now:
            periods[int(point["Timestamp"] // period * period)].append(point)
    statistics = {start: cloudwatch._calc_stats(some) for start, some in periods.items()}  # noqa: SLF001
    return {
        start: float(cloudwatch._stat_value(statistics[start], stat, some))  # noqa: SLF001
        for start, some in periods.items()
    }


def _calculated(node: ast.expr, series: Callable[[str], Series | float]) -> Series | float:
    """The value of a metric math expression, as far as the template goes: it reads like one of Python's.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/using-metric-math.html
    """
    match node:
        case ast.Constant(value=int() | float() as number):
            return float(number)
        case ast.Name(id=name):
            return series(name)
        case ast.BinOp(left=left, op=op, right=right):
            return _combined(_ARITHMETIC[type(op)], _calculated(left, series), _calculated(right, series))
        case ast.Call(func=ast.Name(id="FILL"), args=[one, ast.Constant(value=int() | float() as number)]):
            return _Filled(_calculated(one, series), float(number))
        case ast.Call(func=ast.Name(id="SUM" | "MAX" as name), args=[ast.List(elts=[first, *others])]):
            combine: Callable[[float, float], float] = max if name == "MAX" else operator.add
            result = _calculated(first, series)
            for other in others:
                result = _combined(combine, result, _calculated(other, series))
            return result
    raise ValueError(f"The emulator does not know the metric math {ast.unparse(node)}.")


class _Filled(dict[int, float]):
    """A series that has a value for every period."""

    def __init__(self, values: Any, otherwise: float) -> None:
        super().__init__(values)
        self.otherwise = otherwise


def _combined(combine: Callable[[float, float], float], one: Series | float, other: Series | float) -> Series | float:
    if isinstance(one, float) and isinstance(other, float):
        return combine(one, other)
    times = {start for values in (one, other) if isinstance(values, dict) for start in values}
    result = {}
    for start in times:
        left, right = _at(one, start), _at(other, start)
        if left is not None and right is not None:
            result[start] = combine(left, right)
    both_filled = isinstance(one, float | _Filled) and isinstance(other, float | _Filled)
    if both_filled:
        return _Filled(result, combine(_otherwise(one), _otherwise(other)))
    return result


def _at(values: Series | float, start: int) -> float | None:
    if isinstance(values, float):
        return values
    return values.get(start, values.otherwise if isinstance(values, _Filled) else None)


def _otherwise(values: Any) -> float:
    return float(values.otherwise if isinstance(values, _Filled) else values)


def _make_alarms_of_several_metrics(provisioners: Any) -> None:
    """Make an alarm of metric math, which MiniStack refuses."""
    record_of = provisioners._cw_metric_alarm_record  # noqa: SLF001

    def record(name: str, properties: dict[str, Any]) -> dict[str, Any]:
        queries = properties.get("Metrics")
        if not queries:
            return dict(record_of(name, properties))
        stand_in = {"Namespace": "-", "MetricName": "-"}
        alarm = {**record_of(name, {**properties, "Metrics": None, **stand_in}), "Metrics": queries}
        return {key: value for key, value in alarm.items() if key not in ("Namespace", "MetricName")}

    provisioners._cw_metric_alarm_record = record  # noqa: SLF001


def _make_composite_alarms(cloudwatch: Any, provisioners: Any) -> None:
    """Make a composite alarm of a template, as MiniStack does where it is asked to by the API."""

    def put(name: str, properties: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        status, _, body = cloudwatch._put_composite_alarm({}, {**properties, "AlarmName": name}, False, True)  # noqa: SLF001
        if status != 200:
            raise ValueError(body.decode())
        return name, {"Arn": cloudwatch._composite_alarms[name]["AlarmArn"]}  # noqa: SLF001

    def create(logical_id: str, properties: dict[str, Any], stack_name: str) -> tuple[str, dict[str, Any]]:
        name = properties.get("AlarmName") or provisioners._physical_name(stack_name, logical_id, max_len=255)  # noqa: SLF001
        return put(name, properties)

    def update(physical_id: str, _: Any, properties: dict[str, Any], *__: Any) -> tuple[str, dict[str, Any]]:
        return put(physical_id, properties)

    def delete(physical_id: str, _: Any) -> None:
        cloudwatch._composite_alarms.pop(physical_id, None)  # noqa: SLF001

    provisioners._RESOURCE_HANDLERS["AWS::CloudWatch::CompositeAlarm"] = {  # noqa: SLF001
        "create": create,
        "update": update,
        "delete": delete,
    }


def _count_every_invocation(cloudwatch: Any, lambda_svc: Any) -> None:
    """Publish the metrics of invocations by a queue too, and under the alias: MiniStack knows direct ones alone.

    https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html
    """
    execute = lambda_svc._execute_function_dispatch  # noqa: SLF001
    aliases_of = _aliases_of(lambda_svc)

    def publish(name: str, version: str, **values: float) -> None:
        resources = [{}, *({"Resource": f"{name}:{alias}"} for alias in aliases_of(name, version))]
        for metric, value in values.items():
            unit = "Milliseconds" if metric == "Duration" else "Count"
            for resource in resources:
                cloudwatch.record_metric("AWS/Lambda", metric, value, unit, {"FunctionName": name, **resource})

    def executed(func: Any, config: dict[str, Any], event: Any, request_id: str, started: float) -> Any:
        result = execute(func, config, event, request_id, started)
        failed = float(bool(result.get("error")))
        milliseconds = (time() - started) * 1000
        version = config.get("Version", "$LATEST")
        publish(config["FunctionName"], version, Invocations=1, Errors=failed, Throttles=0, Duration=milliseconds)
        return result

    def throttled(name: str, duration_ms: float, *, error: bool, throttle: bool) -> None:
        del error
        if throttle and not duration_ms:  # what was executed has been counted already
            publish(name, "", Throttles=1)

    lambda_svc._execute_function_dispatch = executed  # noqa: SLF001
    lambda_svc._emit_lambda_metrics = throttled  # noqa: SLF001


def _aliases_of(lambda_svc: Any) -> Callable[[str, str], list[str]]:
    def aliases(name: str, version: str) -> list[str]:
        """The aliases that name a version; all for none."""
        known = (lambda_svc._functions.get(name) or {}).get("aliases", {})  # noqa: SLF001
        return [alias for alias, values in known.items() if not version or values["FunctionVersion"] == version]

    return aliases
