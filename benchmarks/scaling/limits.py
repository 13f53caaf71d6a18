"""The limits of the image flow: those that AWS publishes, and the template's own."""

from __future__ import annotations

from dataclasses import dataclass

DAY = 86_400
TEMPLATE = "../template.yaml"


@dataclass(frozen=True)
class Limit:
    """A number that AWS or the template sets."""

    value: float
    what: str
    source: str


_LAMBDA = "https://docs.aws.amazon.com/lambda/latest/dg/"
_SQS = "https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/"
_DYNAMODB = "https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/"
_S3 = "https://docs.aws.amazon.com/AmazonS3/latest/userguide/"

LIMITS = {
    "pollers.start": Limit(5, "batches at once when messages appear", _LAMBDA + "services-sqs-scaling.html"),
    "pollers.per_minute": Limit(
        300, "more of them a minute while messages wait", _LAMBDA + "services-sqs-scaling.html"
    ),
    "pollers.most": Limit(1_250, "batches at once of one mapping", _LAMBDA + "services-sqs-scaling.html"),
    "pollers.maximum_concurrency": Limit(1_000, "largest MaximumConcurrency", _LAMBDA + "services-sqs-scaling.html"),
    "provisioned.each": Limit(10, "batches at once of one provisioned poller", _LAMBDA + "services-sqs-scaling.html"),
    "provisioned.per_minute": Limit(1_000, "more batches a minute with them", _LAMBDA + "services-sqs-scaling.html"),
    "account": Limit(
        1_000, "functions at once in an account, until AWS raises it", _LAMBDA + "gettingstarted-limits.html"
    ),
    "environments.per_second": Limit(
        100, "new environments a second (1,000 in ten)", _LAMBDA + "scaling-behavior.html"
    ),
    "in_flight": Limit(120_000, "messages received or hidden, and not deleted", _SQS + "quotas-queues.html"),
    "retention": Limit(14 * DAY, "seconds that a message is kept", _SQS + "quotas-messages.html"),
    "s3.put": Limit(3_500, "PUT requests a second and prefix", _S3 + "optimizing-performance.html"),
    "s3.get": Limit(5_500, "GET requests a second and prefix", _S3 + "optimizing-performance.html"),
    "dynamodb.start": Limit(
        4_000, "write units a second of a new on-demand table", _DYNAMODB + "on-demand-capacity-mode.html"
    ),
    "dynamodb.growth": Limit(
        2, "times its previous peak within 30 minutes", _DYNAMODB + "on-demand-capacity-mode.html"
    ),
    "dynamodb.most": Limit(
        40_000, "write units a second of a table, until AWS raises it", _DYNAMODB + "ServiceQuotas.html"
    ),
    "dynamodb.key": Limit(1_000, "write units a second of one partition", _DYNAMODB + "bp-partition-key-design.html"),
    "concurrency": Limit(5, "image functions at once, ProcessImageConcurrency", TEMPLATE),
    "batch": Limit(10, "messages a batch, without a window", TEMPLATE),
    "visibility": Limit(300, "seconds until a dead function's messages come back", TEMPLATE),
    "receives": Limit(10, "attempts until a message becomes a dead letter", TEMPLATE),
}
