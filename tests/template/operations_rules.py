"""The rules that alarms, dashboard and saved queries keep, in the form of ``rules.py``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from darkroom import errors

from functions.process_order.orders import RejectionCode
from tests.telemetry import LOG_FIELDS, METRICS
from tests.template.template import (
    ALARM,
    API,
    COMPOSITE_ALARM,
    DASHBOARD,
    FUNCTION,
    LOG_GROUP,
    QUERY,
    QUEUE,
    TABLE,
    TOPIC,
    Template,
    dead_letter_queues,
    listed,
    operations,
    properties,
    resource_policies,
    source_queues,
    target,
)

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
        "ApproximateAgeOfOldestMessage",
        "ApproximateNumberOfMessagesNotVisible",
        "ApproximateNumberOfMessagesVisible",
        "NumberOfEmptyReceives",
        "NumberOfMessagesDeleted",
        "NumberOfMessagesSent",
    },
    ("AWS/Lambda", ("FunctionName",)): _OF_LAMBDA,
    ("AWS/Lambda", ("FunctionName", "Resource")): _OF_LAMBDA,
    ("AWS/DynamoDB", ("TableName",)): {
        "ConsumedReadCapacityUnits",
        "ConsumedWriteCapacityUnits",
        "ReadThrottleEvents",
        "WriteThrottleEvents",
    },
    ("AWS/ApiGateway", ("ApiName", "Stage")): _OF_API_GATEWAY,
    ("AWS/ApiGateway", ("ApiName", "Method", "Resource", "Stage")): _OF_API_GATEWAY,
    ("AWS/AmazonMQ", ("Broker",)): {"MessageReadyCount"},
}
# What Lambda writes of itself, as JSON, and adds to an exception that nobody caught; what Powertools and Logs add.
# https://docs.aws.amazon.com/lambda/latest/dg/telemetry-schema-reference.html
_LOG_FIELDS_OF_LAMBDA = {
    *("type", "errorType", "errorMessage"),
    *(
        f"record.metrics.{name}"
        for name in ("durationMs", "initDurationMs", "billedDurationMs", "maxMemoryUsedMB", "memorySizeMB")
    ),
    *("function_request_id", "cold_start"),
}
_LOG_FIELDS_OF_LOGS = {"@timestamp", "@message", "@log", "@logStream"}
_WORDS_OF_QUERIES = {
    *("fields", "filter", "stats", "sort", "limit", "display"),
    *("by", "as", "asc", "desc", "and", "or", "not", "like", "in"),
    *("count", "max", "min", "avg", "sum", "pct", "latest", "earliest", "coalesce", "ispresent"),
}


# The topic


def alarms_reach_their_topic_and_nothing_else_does(template: Template) -> list[str]:
    """https://docs.aws.amazon.com/sns/latest/dg/sns-key-management.html#compatibility-with-aws-services"""
    findings = []
    for topic in sorted({target(one) or "" for v in _alarms(template).values() for one in v.get("AlarmActions", [])}):
        key = target(properties(template, TOPIC)[topic].get("KmsMasterKeyId")) or ""
        document = template["Resources"].get(key, {}).get("Properties", {}).get("KeyPolicy", {"Statement": []})
        if not _lets_cloudwatch(document["Statement"], {"kms:Decrypt", "kms:GenerateDataKey*"}):
            findings.append(f"{topic} has a key that CloudWatch may not use")
        statements = [s for own in resource_policies(template, TOPIC, topic).values() for s in own]
        if not _lets_cloudwatch([s for s in statements if s["Effect"] == "Allow"], {"sns:Publish"}, alone=True):
            findings.append(f"{topic} is not for this account's CloudWatch alone")
    return findings


# Alarms


def alarms_tell_when_they_begin_and_end(template: Template) -> list[str]:
    """https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarm-actions.html"""
    return [
        f"{name} tells nobody by its {actions}"
        for name, values in _alarms(template).items()
        for actions in ("AlarmActions", "OKActions")
        if values.get(actions) != [{"Ref": "AlarmTopic"}] or not values.get("ActionsEnabled", True)
    ]


def alarms_explain_themselves_and_link_to_the_runbook(template: Template) -> list[str]:
    """In one sentence, then by a link to the heading of their own in the runbook.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/Best_Practice_Recommended_Alarms_AWS_Services.html
    """
    return [
        f"{name} does not say what it means and where to read on"
        for name, values in _alarms(template).items()
        if not re.fullmatch(
            rf"[A-Z][^.]+\. docs/runbook\.md#{name.removesuffix('Alarm').lower()}", values.get("AlarmDescription", "")
        )
    ]


def metrics_belong_to_one_stack(template: Template) -> list[str]:
    """Stacks of one account must not raise each other's alarms, so a metric's namespace carries the stack's name.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/cloudwatch_concepts.html#Namespace
    """
    return [
        f"{name} shares its metrics with other stacks"
        for name, values in properties(template, FUNCTION).items()
        if "${AWS::StackName}" not in _as_in_a_sub(values["Environment"]["Variables"]["POWERTOOLS_METRICS_NAMESPACE"])
    ]


def alarms_and_dashboards_use_emitted_metrics(template: Template) -> list[str]:
    """An alarm on a metric that nothing emits is silent forever.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/cloudwatch_concepts.html#Dimension
    """
    used = [(alarm, metric) for alarm in properties(template, ALARM) for metric in _watched(template, alarm)]
    used += [(_title(w), metric) for widgets in _dashboards(template).values() for w in widgets for metric in _drawn(w)]
    return [f"{user} uses {metric}, which nobody emits" for user, metric in used if not _is_emitted(template, metric)]


def queues_have_alarms(template: Template) -> list[str]:
    """On how long their messages wait; on any message in the dead-letter queues.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/Best_Practice_Recommended_Alarms_AWS_Services.html#SQS
    """
    watched = _thresholds(template)

    def thresholds(queue: str, metric: str) -> list[float]:
        return [
            limit
            for one, limit in watched
            if (one.name, one.dimensions, one.statistic)
            == (metric, {"QueueName": f"${{{queue}.QueueName}}"}, "Maximum")
        ]

    findings = [
        f"{queue} has no alarm on its oldest message"
        for queue in source_queues(template)
        # A person follows a re-render, and its messages may wait for hours.
        if queue != "RerenderQueue" and not thresholds(queue, "ApproximateAgeOfOldestMessage")
    ]
    return findings + [
        f"{queue} has no alarm on its first message"
        for queue in dead_letter_queues(template)
        if thresholds(queue, "ApproximateNumberOfMessagesVisible") != [0]
    ]


def functions_have_alarms(template: Template) -> list[str]:
    """On errors, throttles and defects.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/Best_Practice_Recommended_Alarms_AWS_Services.html#Lambda
    """
    findings = []
    watched = _thresholds(template)
    for function, values in properties(template, FUNCTION).items():
        of_lambda = {"FunctionName": f"${{{function}}}"}
        if "AutoPublishAlias" in values:
            of_lambda["Resource"] = f"${{{function}}}:{values['AutoPublishAlias']}"
        environment = values["Environment"]["Variables"]
        own = {"service": environment["POWERTOOLS_SERVICE_NAME"]}
        needed: list[tuple[str, str, dict[str, str], str, float]] = [
            ("AWS/Lambda", "Errors", of_lambda, "Sum", 0),
            ("AWS/Lambda", "Throttles", of_lambda, "Sum", 0),
        ]
        if "FunctionUrlConfig" not in values:  # one with a URL fails as a whole, and counts nothing itself
            needed.append((_as_in_a_sub(environment["POWERTOOLS_METRICS_NAMESPACE"]), "Defects", own, "Sum", 0))
        findings += [
            f"{function} has no alarm on {name} above {limit:g}"
            for namespace, name, dimensions, statistic, limit in needed
            if (_Metric(namespace, name, dimensions, statistic), limit) not in watched
        ]
    return findings


def functions_that_retry_messages_have_an_alarm(template: Template) -> list[str]:
    """Which no single message reaches. A queue's age leaves out what was received three times and not deleted.

    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html
    """
    findings = []
    for function, values in properties(template, FUNCTION).items():
        environment = values["Environment"]["Variables"]
        own = {"service": environment["POWERTOOLS_SERVICE_NAME"]}
        metric = _Metric(_as_in_a_sub(environment["POWERTOOLS_METRICS_NAMESPACE"]), "Retried", own, "Sum")
        retries_of_one = int(environment.get("MAX_ATTEMPTS", environment.get("MAX_RECEIVES", 1))) - 1
        needed = [
            alarm["EvaluationPeriods"] * (alarm["Threshold"] + 1)
            for name, alarm in properties(template, ALARM).items()
            if _watched(template, name) == [metric]
        ]
        if retries_of_one and not any(count > retries_of_one for count in needed):
            findings.append(f"{function} has no alarm on {metric} that one message does not make")
    return findings


def composite_alarms_use_existing_alarms(template: Template) -> list[str]:
    """https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutCompositeAlarm.html"""
    findings = []
    for name, values in properties(template, COMPOSITE_ALARM).items():
        for alarm, condition in _named(values["AlarmRule"]):
            if alarm not in _alarms(template):
                findings.append(f"{name} looks at {alarm}, which does not exist")
            elif template["Resources"][alarm].get("Condition") != condition:
                findings.append(f"{name} looks at {alarm} whether it is there or not")
    return findings


# Dashboard


def dashboards_show_every_alarm(template: Template) -> list[str]:
    """https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/CloudWatch-Dashboard-Body-Structure.html"""
    findings = []
    for name, values in properties(template, DASHBOARD).items():
        shown = _named(values["DashboardBody"], attribute=".Arn")
        wanted = [(alarm, template["Resources"][alarm].get("Condition")) for alarm in _alarms(template)]
        findings += [f"{name} does not show {alarm}" for alarm, _ in sorted({*wanted} - {*shown})]
        findings += [f"{name} shows {alarm}, which may not be there" for alarm, _ in sorted({*shown} - {*wanted})]
    return findings


def dashboards_know_how_much_memory_is_paid(template: Template) -> list[str]:
    """https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html"""
    memory = {
        f"${{{name}}}": f"${{{target(v['MemorySize'])}}}" if target(v["MemorySize"]) else str(v["MemorySize"])
        for name, v in properties(template, FUNCTION).items()
    }
    findings = []
    for widgets in _dashboards(template).values():
        rows = [row for widget in widgets for row in widget["properties"].get("metrics", [])]
        expressions = [row[0]["expression"] for row in rows if isinstance(row[0], dict)]
        for widget in widgets:
            durations = {
                metric.options["id"]: metric.dimensions["FunctionName"]
                for metric in _drawn(widget)
                if metric.name == "Duration" and "id" in metric.options
            }
            findings += [
                f"{_title(widget)} pays {function} otherwise than by its memory"
                for id_, function in durations.items()
                if f"{id_} / 1000 * {memory[function]} / 1024" not in expressions
            ]
    return findings


# Saved queries


def saved_queries_ask_for_what_is_logged(template: Template) -> list[str]:
    """https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/CWL_QuerySyntax.html"""
    findings = []
    for name, values in properties(template, QUERY).items():
        groups = [target(group) or "" for group in values.get("LogGroupNames", [])]
        known = [_fields_of(template, group) for group in groups]
        if not groups or not all(known):
            findings.append(f"{name} asks log groups that there are not")
            continue
        findings += [
            f"{name} asks for {field}, which none of its log groups has"
            for field in _asked_for(values["QueryString"])
            if not any(field in fields for fields in known)
        ]
    return findings


# What several rules ask


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
    return properties(template, ALARM) | properties(template, COMPOSITE_ALARM)


def _lets_cloudwatch(statements: list[dict[str, Any]], actions: set[str], *, alone: bool = False) -> bool:
    from_here = {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}
    fitting = [
        statement
        for statement in statements
        if (statement["Effect"], statement["Principal"]) == ("Allow", {"Service": "cloudwatch.amazonaws.com"})
        and set(listed(statement["Action"])) == actions
        and statement.get("Condition") == from_here
    ]
    return len(fitting) == 1 and (not alone or fitting == statements)


def _watched(template: Template, alarm: str) -> list[_Metric]:
    values = properties(template, ALARM)[alarm]
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
        for alarm, values in properties(template, ALARM).items()
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
        case str():
            return value
    return "computed"


def _is_emitted(template: Template, metric: _Metric) -> bool:
    """Whether a metric has a name and dimensions that are sent, and each dimension a value that there is."""
    kind = tuple(sorted(metric.dimensions))
    names = _METRICS_OF_AWS.get((metric.namespace, kind), set())
    names = names or METRICS.get(metric.dimensions.get("service", ""), {}).get(kind, set())
    known = _dimension_values(template, metric.namespace)
    return metric.name in names and all(
        value in known[dimension] for dimension, value in metric.dimensions.items() if dimension in known
    )


def _dimension_values(template: Template, namespace: str) -> dict[str, set[str]]:
    """The values that dimensions may have, by the dimension's name; a broker may have any name."""
    functions = properties(template, FUNCTION)
    telling = {name: values["Environment"]["Variables"] for name, values in functions.items()}
    paths = {method.partition(" ")[::2] for _, method, _ in operations(template)}
    aliases = {f"${{{n}}}:{v['AutoPublishAlias']}" for n, v in functions.items() if "AutoPublishAlias" in v}
    apis = properties(template, API).values()
    return {
        "QueueName": {f"${{{name}.QueueName}}" for name in properties(template, QUEUE)},
        "FunctionName": {f"${{{name}}}" for name in functions},
        "TableName": {f"${{{name}}}" for name in properties(template, TABLE)},
        "ApiName": {_as_in_a_sub(api["DefinitionBody"]["info"]["title"]) for api in apis},
        "Stage": {api["StageName"] for api in apis},
        "Method": {method for method, _ in paths},
        "Resource": aliases if namespace == "AWS/Lambda" else {path for _, path in paths},
        "service": {
            told["POWERTOOLS_SERVICE_NAME"]
            for told in telling.values()
            if _as_in_a_sub(told["POWERTOOLS_METRICS_NAMESPACE"]) == namespace
        },
        "error_code": {name for name, kind in vars(errors).items() if isinstance(kind, type)},
        "code": {code.value for code in RejectionCode},
    }


def _named(value: Any, attribute: str = "", condition: str | None = None) -> list[tuple[str, str | None]]:
    """Every alarm that a Sub names, by its name or an attribute, with the condition under which it does."""
    match value:
        case {"Fn::If": [str(met), yes, no]}:
            return _named(yes, attribute, met) + _named(no, attribute, f"not {met}")
        case dict():
            return [found for one in value.values() for found in _named(one, attribute, condition)]
        case list():
            return [found for one in value for found in _named(one, attribute, condition)]
        case str():
            return [(name, condition) for name in re.findall(rf"\${{(\w+Alarm){re.escape(attribute)}}}", value)]
    return []


def _dashboards(template: Template) -> dict[str, list[dict[str, Any]]]:
    """The widgets of each dashboard, with the texts in place that its Sub has of its own."""
    found = {}
    for name, values in properties(template, DASHBOARD).items():
        body, variables = values["DashboardBody"]["Fn::Sub"]
        for variable, value in variables.items():
            body = body.replace(f"${{{variable}}}", "" if "Fn::Join" in value else _widgets_of(value))
        found[name] = json.loads(body)["widgets"]
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


def _fields_of(template: Template, group: str) -> set[str]:
    """The fields that the lines of a log group have; none if it is not there."""
    if group not in properties(template, LOG_GROUP):
        return set()
    for values in properties(template, FUNCTION).values():
        if target(values["LoggingConfig"]["LogGroup"]) == group:
            service = values["Environment"]["Variables"]["POWERTOOLS_SERVICE_NAME"]
            return LOG_FIELDS[service] | _LOG_FIELDS_OF_LAMBDA | _LOG_FIELDS_OF_LOGS
    for values in properties(template, API).values():
        if target(values["AccessLogSetting"]["DestinationArn"]) == group:
            return {*json.loads(values["AccessLogSetting"]["Format"]), *_LOG_FIELDS_OF_LOGS}
    return set()


def _asked_for(query: str) -> list[str]:
    """The fields that a query names, without those that it makes itself."""
    bare = re.sub(r'"[^"]*"|/[^/]*/', "", query)
    made = set(re.findall(r"\bas (\w+)", bare))
    words = re.findall(r"@?[A-Za-z_][\w.]*", bare)
    return sorted(set(words) - _WORDS_OF_QUERIES - made)
