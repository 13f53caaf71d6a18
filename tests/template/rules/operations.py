"""Alarms, dashboard and saved queries: that they watch what there is, and that what there is is watched."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from darkroom import errors

from functions.process_order.orders import RejectionCode
from tests.telemetry import LOG_FIELDS, METRICS
from tests.template.template import Findings, Statement, Template, listed, target

# What AWS sends, by namespace and dimensions in alphabetical order, as far as it is looked at here:
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html
# https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html
# https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/metrics-dimensions.html
# https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-metrics-and-dimensions.html
# https://docs.aws.amazon.com/amazon-mq/latest/developer-guide/rabbitmq-logging-monitoring.html
_OF_LAMBDA = {"Invocations", "Errors", "Throttles", "Duration", "ConcurrentExecutions"}
_OF_API_GATEWAY = {"Count", "4XXError", "5XXError", "Latency"}
_METRICS_OF_AWS: dict[tuple[str, tuple[str, ...]], set[str]] = {
    ("AWS/SQS", ("QueueName",)): {
        *("ApproximateAgeOfOldestMessage", "ApproximateNumberOfMessagesNotVisible"),
        *("ApproximateNumberOfMessagesVisible", "NumberOfEmptyReceives"),
        *("NumberOfMessagesDeleted", "NumberOfMessagesSent"),
    },
    ("AWS/Lambda", ("FunctionName",)): _OF_LAMBDA,
    ("AWS/Lambda", ("FunctionName", "Resource")): _OF_LAMBDA,
    ("AWS/DynamoDB", ("TableName",)): {
        *("ConsumedReadCapacityUnits", "ConsumedWriteCapacityUnits"),
        *("ReadThrottleEvents", "WriteThrottleEvents"),
    },
    ("AWS/ApiGateway", ("ApiName", "Stage")): _OF_API_GATEWAY,
    ("AWS/ApiGateway", ("ApiName", "Method", "Resource", "Stage")): _OF_API_GATEWAY,
    ("AWS/AmazonMQ", ("Broker",)): {"MessageReadyCount"},
}
# What Lambda writes of itself, as JSON, and adds to an exception that nobody caught; what Powertools and Logs add.
# https://docs.aws.amazon.com/lambda/latest/dg/telemetry-schema-reference.html
_MEASURED_BY_LAMBDA = ("durationMs", "initDurationMs", "billedDurationMs", "maxMemoryUsedMB", "memorySizeMB")
_LOG_FIELDS_OF_LAMBDA = {
    *("type", "errorType", "errorMessage", "function_request_id", "cold_start"),
    *(f"record.metrics.{name}" for name in _MEASURED_BY_LAMBDA),
}
_LOG_FIELDS_OF_LOGS = {"@timestamp", "@message", "@log", "@logStream"}
_WORDS_OF_QUERIES = {
    *("fields", "filter", "stats", "sort", "limit", "display"),
    *("by", "as", "asc", "desc", "and", "or", "not", "like", "in"),
    *("count", "max", "min", "avg", "sum", "pct", "latest", "earliest", "coalesce", "ispresent"),
}


def alarms_reach_their_topic_and_nothing_else_does(template: Template) -> Findings:
    """https://docs.aws.amazon.com/sns/latest/dg/sns-key-management.html#compatibility-with-aws-services"""
    for topic in sorted({target(one) or "" for v in _alarms(template).values() for one in v.get("AlarmActions", [])}):
        key = target(template.topics[topic].get("KmsMasterKeyId")) or ""
        document = template["Resources"].get(key, {}).get("Properties", {}).get("KeyPolicy", {"Statement": []})
        if not _lets_cloudwatch(document["Statement"], {"kms:Decrypt", "kms:GenerateDataKey*"}):
            yield f"{topic} has a key that CloudWatch may not use"
        statements = [s for s in template.statements_on(topic) if s["Effect"] == "Allow"]
        if len(statements) > 1 or not _lets_cloudwatch(statements, {"sns:Publish"}):
            yield f"{topic} is not for this account's CloudWatch alone"


def alarms_tell_when_they_begin_and_end_and_link_to_the_runbook(template: Template) -> Findings:
    """They explain themselves in one sentence; a link to the heading of their own in the runbook follows.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarm-actions.html
    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/Best_Practice_Recommended_Alarms_AWS_Services.html
    """
    for name, values in _alarms(template).items():
        for actions in ("AlarmActions", "OKActions"):
            if values.get(actions) != [{"Ref": "AlarmTopic"}] or not values.get("ActionsEnabled", True):
                yield f"{name} tells nobody by its {actions}"
        explained = rf"[A-Z][^.]+\. docs/runbook\.md#{name.removesuffix('Alarm').lower()}"
        if not re.fullmatch(explained, values.get("AlarmDescription", "")):
            yield f"{name} does not say what it means and where to read on"


def alarms_and_dashboards_use_emitted_metrics(template: Template) -> Findings:
    """An alarm on a metric that nothing emits is silent forever.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/cloudwatch_concepts.html#Dimension
    """
    used = [(alarm, metric) for alarm in template.alarms for metric in _watched(template, alarm)]
    used += [(_title(widget), metric) for widget in _widgets(template) for metric in _drawn(widget)]
    namespaces = {metric.namespace for _, metric in used}
    known = {namespace: _dimension_values(template, namespace) for namespace in namespaces}
    for user, metric in used:
        if not _is_emitted(metric, known[metric.namespace]):
            yield f"{user} uses {metric}, which nobody emits"


def queues_have_alarms(template: Template) -> Findings:
    """On how long their messages wait; on any message in the dead-letter queues.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/Best_Practice_Recommended_Alarms_AWS_Services.html#SQS
    """
    limits: dict[tuple[str, str], list[float]] = defaultdict(list)
    for metric, limit in _thresholds(template):
        if metric.statistic == "Maximum":
            limits[metric.dimensions.get("QueueName", ""), metric.name].append(limit)
    for queue in template.source_queues():
        # A person follows a re-render, and its messages may wait for hours.
        if queue != "RerenderQueue" and not limits[f"${{{queue}.QueueName}}", "ApproximateAgeOfOldestMessage"]:
            yield f"{queue} has no alarm on its oldest message"
    for queue in template.dead_letter_queues():
        if limits[f"${{{queue}.QueueName}}", "ApproximateNumberOfMessagesVisible"] != [0]:
            yield f"{queue} has no alarm on its first message"


def functions_have_alarms(template: Template) -> Findings:
    """On errors, throttles and defects, of this stack alone: stacks of one account do not raise each other's alarms.

    Those that retry have one that no single message reaches: a queue's age leaves out what was received three times
    and not deleted.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/Best_Practice_Recommended_Alarms_AWS_Services.html#Lambda
    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/cloudwatch_concepts.html#Namespace
    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html
    """
    watched = _thresholds(template)
    for function, values in template.functions.items():
        told = template.environment(function)
        of_lambda = {"FunctionName": f"${{{function}}}"}
        if "AutoPublishAlias" in values:
            of_lambda["Resource"] = f"${{{function}}}:{values['AutoPublishAlias']}"
        of_service, own = (
            {"service": told["POWERTOOLS_SERVICE_NAME"]},
            _as_in_a_sub(told["POWERTOOLS_METRICS_NAMESPACE"]),
        )
        needed = [_Metric("AWS/Lambda", name, of_lambda, "Sum") for name in ("Errors", "Throttles")]
        if "FunctionUrlConfig" not in values:  # one with a URL fails as a whole, and counts nothing itself
            needed.append(_Metric(own, "Defects", of_service, "Sum"))
        yield from (f"{function} has no alarm on {m.name} above 0" for m in needed if (m, 0) not in watched)
        if "${AWS::StackName}" not in own:
            yield f"{function} shares its metrics with other stacks"
        retried = _Metric(own, "Retried", of_service, "Sum")
        retries_of_one = int(told.get("MAX_ATTEMPTS", told.get("MAX_RECEIVES", 1))) - 1
        counts = [
            alarm["EvaluationPeriods"] * (alarm["Threshold"] + 1)
            for name, alarm in template.alarms.items()
            if _watched(template, name) == [retried]
        ]
        if retries_of_one and not any(count > retries_of_one for count in counts):
            yield f"{function} has no alarm on {retried} that one message does not make"


def dashboards_show_every_alarm(template: Template) -> Findings:
    """https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/CloudWatch-Dashboard-Body-Structure.html"""
    wanted = {(alarm, template["Resources"][alarm].get("Condition")) for alarm in _alarms(template)}
    for name, values in template.dashboards.items():
        shown = set(_named(values["DashboardBody"]))
        yield from (f"{name} does not show {alarm}" for alarm, _ in sorted(wanted - shown))
        yield from (f"{name} shows {alarm}, which may not be there" for alarm, _ in sorted(shown - wanted))


def dashboards_know_how_much_memory_is_paid(template: Template) -> Findings:
    """https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html"""
    memory = {f"${{{name}}}": _as_in_a_sub(values["MemorySize"]) for name, values in template.functions.items()}
    rows = [row for widget in _widgets(template) for row in widget["properties"].get("metrics", [])]
    expressions = [row[0]["expression"] for row in rows if isinstance(row[0], dict)]
    for widget in _widgets(template):
        for metric in _drawn(widget):
            function, name = metric.dimensions.get("FunctionName", ""), metric.options.get("id")
            if name and metric.name == "Duration" and f"{name} / 1000 * {memory[function]} / 1024" not in expressions:
                yield f"{_title(widget)} pays {function} otherwise than by its memory"


def saved_queries_ask_for_what_is_logged(template: Template) -> Findings:
    """https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/CWL_QuerySyntax.html"""
    logged = _log_fields(template)
    for name, query in template.saved_queries.items():
        groups = [target(group) for group in query.get("LogGroupNames", [])]
        if not groups or not {*groups} <= logged.keys():
            yield f"{name} asks log groups that there are not"
            continue
        for field in sorted(_asked_for(query["QueryString"]).difference(*(logged[group] for group in groups))):
            yield f"{name} asks for {field}, which none of its log groups has"


@dataclass(frozen=True)
class _Metric:
    """A metric as an alarm or a widget names it, with references written as in a Sub."""

    namespace: str
    name: str
    dimensions: dict[str, str]
    statistic: str
    options: Any = None

    def __str__(self) -> str:
        return f"{self.namespace} {self.name} of {', '.join(self.dimensions.values())}"


def _alarms(template: Template) -> dict[str, dict[str, Any]]:
    return template.alarms | template.composite_alarms


def _lets_cloudwatch(statements: list[Statement], actions: set[str]) -> bool:
    from_here = {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}
    cloudwatch = ("Allow", {"Service": "cloudwatch.amazonaws.com"}, actions, from_here)
    return any(
        (s["Effect"], s["Principal"], {*listed(s["Action"])}, s.get("Condition")) == cloudwatch for s in statements
    )


def _watched(template: Template, alarm: str) -> list[_Metric]:
    values = template.alarms[alarm]
    if "Metrics" in values:
        stats = [query["MetricStat"] for query in values["Metrics"] if "MetricStat" in query]
        return [_metric(stat["Metric"], stat["Stat"]) for stat in stats]
    return [_metric(values, values.get("Statistic") or values["ExtendedStatistic"])]


def _metric(metric: dict[str, Any], statistic: str) -> _Metric:
    dimensions = {dimension["Name"]: _as_in_a_sub(dimension["Value"]) for dimension in metric.get("Dimensions", [])}
    return _Metric(_as_in_a_sub(metric["Namespace"]), metric["MetricName"], dimensions, statistic)


def _thresholds(template: Template) -> list[tuple[_Metric, float]]:
    """Every metric that is watched, with the value above which its alarm begins."""
    return [
        (metric, values["Threshold"])
        for alarm, values in template.alarms.items()
        if values["ComparisonOperator"] == "GreaterThanThreshold"
        for metric in _watched(template, alarm)
    ]


def _as_in_a_sub(value: Any) -> str:
    match value:
        case {"Ref": str(name)}:
            return f"${{{name}}}"
        case {"Fn::GetAtt": [str(name), str(attribute)]}:
            return f"${{{name}.{attribute}}}"
        case {"Fn::Sub": str(text)}:
            return text
        case str() | int():
            return str(value)
    return "computed"


def _is_emitted(metric: _Metric, known: dict[str, set[str]]) -> bool:
    """Whether a metric has a name and dimensions that are sent, and each dimension a value that there is."""
    kind = tuple(sorted(metric.dimensions))
    names = _METRICS_OF_AWS.get((metric.namespace, kind), set())
    names = names or METRICS.get(metric.dimensions.get("service", ""), {}).get(kind, set())
    return metric.name in names and all(
        value in known[dimension] for dimension, value in metric.dimensions.items() if dimension in known
    )


def _dimension_values(template: Template, namespace: str) -> dict[str, set[str]]:
    """The values that dimensions may have, by the dimension's name; a broker may have any name."""
    functions = template.functions
    telling = [template.environment(name) for name in functions]
    paths = {method.partition(" ")[::2] for _, method, _, _ in template.operations()}
    aliases = {f"${{{n}}}:{v['AutoPublishAlias']}" for n, v in functions.items() if "AutoPublishAlias" in v}
    apis = template.apis.values()
    return {
        "QueueName": {f"${{{name}.QueueName}}" for name in template.queues},
        "FunctionName": {f"${{{name}}}" for name in functions},
        "TableName": {f"${{{name}}}" for name in template.tables},
        "ApiName": {_as_in_a_sub(api["DefinitionBody"]["info"]["title"]) for api in apis},
        "Stage": {api["StageName"] for api in apis},
        "Method": {method for method, _ in paths},
        "Resource": aliases if namespace == "AWS/Lambda" else {path for _, path in paths},
        "service": {
            told["POWERTOOLS_SERVICE_NAME"]
            for told in telling
            if _as_in_a_sub(told["POWERTOOLS_METRICS_NAMESPACE"]) == namespace
        },
        "error_code": {name for name, kind in vars(errors).items() if isinstance(kind, type)},
        "code": {code.value for code in RejectionCode},
    }


def _named(value: Any, condition: str | None = None) -> list[tuple[str, str | None]]:
    """Every alarm that a Sub names, with the condition under which it does."""
    match value:
        case {"Fn::If": [str(met), yes, no]}:
            return _named(yes, met) + _named(no, f"not {met}")
        case dict():
            return [found for one in value.values() for found in _named(one, condition)]
        case list():
            return [found for one in value for found in _named(one, condition)]
        case str():
            return [(name, condition) for name in re.findall(r"\${(\w+Alarm)\.Arn}", value)]
    return []


def _widgets(template: Template) -> list[dict[str, Any]]:
    """The widgets of every dashboard, with the texts in place that its Sub has of its own."""
    found: list[dict[str, Any]] = []
    for values in template.dashboards.values():
        body, variables = values["DashboardBody"]["Fn::Sub"]
        for variable, value in variables.items():
            body = body.replace(f"${{{variable}}}", "" if "Fn::Join" in value else _widgets_of(value))
        found += json.loads(body)["widgets"]
    return found


def _widgets_of(value: Any) -> str:
    """What a variable of the dashboard's Sub puts in: the widgets of a flow, or of the broker where there is one."""
    match value:
        case {"Fn::If": [_, there, _]}:
            return _widgets_of(there)
        case {"Fn::Sub": [str(text), _]}:
            return text
    return _as_in_a_sub(value)


def _title(widget: dict[str, Any]) -> str:
    return str(widget["properties"].get("title", widget["type"]))


def _drawn(widget: dict[str, Any]) -> Iterator[_Metric]:
    """The metrics of a widget; a dot stands for what stands above it."""
    above: list[str] = []
    for row in widget["properties"].get("metrics", []):
        if isinstance(row[0], dict):  # an expression
            continue
        options = row[-1] if isinstance(row[-1], dict) else {}
        texts = [above[i] if text == "." else text for i, text in enumerate(row) if isinstance(text, str)]
        above = texts
        dimensions = dict(zip(texts[2::2], texts[3::2], strict=True))
        statistic = options.get("stat", widget["properties"]["stat"])
        yield _Metric(texts[0], texts[1], dimensions, statistic, options)


def _log_fields(template: Template) -> dict[str | None, set[str]]:
    """The fields that the lines of each log group have."""
    fields: dict[str | None, set[str]] = {}
    for name, values in template.functions.items():
        service = template.environment(name)["POWERTOOLS_SERVICE_NAME"]
        fields[target(values["LoggingConfig"]["LogGroup"])] = LOG_FIELDS.get(service, set()) | _LOG_FIELDS_OF_LAMBDA
    for api in template.apis.values():
        fields[target(api["AccessLogSetting"]["DestinationArn"])] = {*json.loads(api["AccessLogSetting"]["Format"])}
    return {group: of | _LOG_FIELDS_OF_LOGS for group, of in fields.items() if group in template.log_groups}


def _asked_for(query: str) -> set[str]:
    """The fields that a query names, without those that it makes itself."""
    bare = re.sub(r'"[^"]*"|/[^/]*/', "", query)
    made = re.findall(r"\bas (\w+)", bare)
    return {*re.findall(r"@?[A-Za-z_][\w.]*", bare)} - _WORDS_OF_QUERIES - {*made}
