"""What of template.yaml costs money by the month, whether any image comes or not: counted as AWS bills it.

Of a stack without RabbitMQ, whose broker costs far more than all of this, and without what its parameters leave out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_TEMPLATE = Path(__file__).resolve().parents[2] / "template.yaml"
# What a parameter leaves out when it is false: the conditions of resources, and the parameter's default.
_CONDITIONS = {
    "Orders": ("true", {"HasOrders", "OffersOrders", "RollsOutGradually"}),
    "HttpApi": ("true", {"HasHttpApi", "OffersOrders"}),
    "Delivery": ("false", {"HasDelivery"}),
    "CreateDashboard": ("false", {"HasDashboard"}),
    "ResultsAreRead": ("false", {"WatchesResults"}),
}
PHOTOS_ONLY: Mapping[str, str] = {"Orders": "false", "HttpApi": "false"}
_RESOURCE = re.compile(r"^  (?=\w+:$)", re.MULTILINE)


@dataclass(frozen=True)
class TemplateCounts:
    """The number of resources of each kind.

    Attributes
    ----------
    alarm_metrics:
        An alarm is billed for each metric that it reads; metric math reads several.
        https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/cloudwatch_billing.html
    polled_queues:
        Queues that an event source mapping polls permanently.
    """

    alarm_metrics: int
    composite_alarms: int
    dashboards: int
    keys: int
    secrets: int
    polled_queues: int


def template_counts(parameters: Mapping[str, str] | None = None) -> TemplateCounts:
    """Count them in the template, with these parameters and the defaults of the others."""
    values = parameters or {}
    without = {
        condition
        for name, (default, conditions) in _CONDITIONS.items()
        if values.get(name, default) == "false"
        for condition in conditions
    }
    return count(_TEMPLATE.read_text(), frozenset(without))


@cache
def count(template: str, without: frozenset[str] = frozenset()) -> TemplateCounts:
    """Count them in a template's text, laid out as ours: resources indented by two columns, their types by four.

    Parameters
    ----------
    without:
        Conditions that do not hold, in addition to those of RabbitMQ.
    """

    def exists(block: str) -> bool:
        condition = re.search(r"^    Condition: (\w+)$", block, re.MULTILINE)
        return not condition or ("RabbitMq" not in condition[1] and condition[1] not in without)

    blocks = [block for block in _RESOURCE.split(template) if exists(block)]

    def of_type(kind: str) -> list[str]:
        return [block for block in blocks if re.search(rf"^    Type: {kind}$", block, re.MULTILINE)]

    functions = "\n".join(of_type("AWS::Serverless::Function"))
    return TemplateCounts(
        alarm_metrics=sum(max(block.count("MetricStat:"), 1) for block in of_type("AWS::CloudWatch::Alarm")),
        composite_alarms=len(of_type("AWS::CloudWatch::CompositeAlarm")),
        dashboards=len(of_type("AWS::CloudWatch::Dashboard")),
        keys=len(of_type("AWS::KMS::Key")),
        secrets=len(of_type("AWS::SecretsManager::Secret")),
        polled_queues=len(re.findall(r"^ +Type: SQS$", functions, re.MULTILINE)),
    )
