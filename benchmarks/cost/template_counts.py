"""What of template.yaml costs money by the month, whether any image comes or not: counted as AWS bills it.

Of a stack without RabbitMQ, whose broker costs far more than all of this.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_TEMPLATE = Path(__file__).resolve().parents[2] / "template.yaml"
_RESOURCE = re.compile(r"^  (?=\w+:$)", re.MULTILINE)


@dataclass(frozen=True)
class TemplateCounts:
    """How many there are of each.

    Attributes
    ----------
    alarm_metrics:
        An alarm is billed for each metric that it reads, one of metric math for several.
        https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/cloudwatch_billing.html
    polled_queues:
        Those that an event source mapping asks for messages day and night.
    """

    alarm_metrics: int
    composite_alarms: int
    dashboards: int
    keys: int
    secrets: int
    polled_queues: int


@cache
def template_counts() -> TemplateCounts:
    """Count them in the template as it stands."""
    return count(_TEMPLATE.read_text())


def count(template: str) -> TemplateCounts:
    """Count them in a template's text, in the layout of ours: resources two columns in, their type four."""
    blocks = [
        block
        for block in _RESOURCE.split(template)
        if not re.search(r"^    Condition: \w*RabbitMq", block, re.MULTILINE)
    ]

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
