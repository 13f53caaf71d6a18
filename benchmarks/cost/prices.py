"""AWS list prices, in US dollars, before free tiers, volume discounts and taxes.

One table: the unit, the source of its price, and the price in each region. Prices change: `AS_OF` is the date of the
last comparison, ``checked`` lists the regions where a public copy of AWS's price list, or AWS, agrees.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

AS_OF = "2026-11"
REGIONS = ("us-east-1", "eu-central-1")
#: Memory that buys one vCPU. https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html
MB_PER_CPU = 1769

#: The URL of a service's price list.
SOURCES = {
    "Lambda": "https://aws.amazon.com/lambda/pricing/",
    "SQS": "https://aws.amazon.com/sqs/pricing/",
    "SNS": "https://aws.amazon.com/sns/pricing/",
    "S3": "https://aws.amazon.com/s3/pricing/",
    "DynamoDB": "https://aws.amazon.com/dynamodb/pricing/on-demand/",
    "CloudWatch": "https://aws.amazon.com/cloudwatch/pricing/",
    "X-Ray": "https://aws.amazon.com/xray/pricing/",
    "KMS": "https://aws.amazon.com/kms/pricing/",
    "Secrets Manager": "https://aws.amazon.com/secrets-manager/pricing/",
    "CloudFront": "https://aws.amazon.com/cloudfront/pricing/",
    "EC2": "https://aws.amazon.com/ec2/pricing/on-demand/#Data_Transfer",
}


@dataclass(frozen=True)
class Price:
    """The price of one unit.

    Attributes
    ----------
    service:
        A key of `SOURCES`.
    unit:
        The unit.
    dollars:
        Price of one unit, by region.
    checked:
        The regions whose price was found in a public source of 2026; check the others before relying on them.
    """

    service: str
    unit: str
    dollars: Mapping[str, float]
    checked: tuple[str, ...] = ()

    def of(self, quantity: float, region: str) -> float:
        """Dollars for a number of units. Raises KeyError for a region that is not in the table."""
        return quantity * self.dollars[region]


def _price(
    service: str, unit: str, us_east_1: float, eu_central_1: float, *, checked: tuple[str, ...] = REGIONS
) -> Price:
    return Price(service, unit, {"us-east-1": us_east_1, "eu-central-1": eu_central_1}, checked)


_US, _EU = ("us-east-1",), ("eu-central-1",)

PRICES = {
    "lambda.arm64": _price("Lambda", "GB-second, arm64", 0.0000133334, 0.0000133334),
    "lambda.x86_64": _price("Lambda", "GB-second, x86_64", 0.0000166667, 0.0000166667),
    "lambda.request": _price("Lambda", "request", 0.20e-6, 0.20e-6),
    "lambda.poller": _price("Lambda", "hour of a provisioned SQS poller", 0.00925, 0.00925, checked=_US),
    "sqs.request": _price("SQS", "request, standard queue", 0.40e-6, 0.40e-6),
    "sns.publish": _price("SNS", "message of up to 64 KB published, standard topic", 0.50e-6, 0.50e-6, checked=_US),
    "s3.put": _price("S3", "PUT request, Standard", 0.005e-3, 0.0054e-3),
    "s3.get": _price("S3", "GET request, Standard", 0.0004e-3, 0.00043e-3),
    "s3.storage": _price("S3", "GB-month, Standard", 0.023, 0.0245),
    "dynamodb.write": _price("DynamoDB", "write request unit, on demand", 0.625e-6, 0.7625e-6),
    "dynamodb.read": _price("DynamoDB", "read request unit, on demand", 0.125e-6, 0.1525e-6),
    "dynamodb.storage": _price("DynamoDB", "GB-month", 0.25, 0.306),
    "dynamodb.recovery": _price("DynamoDB", "GB-month of point-in-time recovery", 0.20, 0.2448, checked=_EU),
    "cloudwatch.metric": _price("CloudWatch", "custom metric and month", 0.30, 0.30, checked=_US),
    "cloudwatch.alarm": _price("CloudWatch", "metric that an alarm reads, and month", 0.10, 0.10),
    "cloudwatch.composite": _price("CloudWatch", "composite alarm and month", 0.50, 0.50, checked=_US),
    "cloudwatch.dashboard": _price("CloudWatch", "dashboard and month", 3.00, 3.00),
    "cloudwatch.logs": _price("CloudWatch", "GB of logs ingested", 0.50, 0.63),
    "xray.trace": _price("X-Ray", "trace recorded", 5.0e-6, 5.0e-6, checked=_US),
    "kms.key": _price("KMS", "key and month", 1.00, 1.00),
    "secrets.secret": _price("Secrets Manager", "secret and month", 0.40, 0.40, checked=_US),
    "cloudfront.out": _price("CloudFront", "GB to viewers", 0.085, 0.085),
    "cloudfront.request": _price("CloudFront", "HTTPS request", 1.00e-6, 1.20e-6, checked=_US),
    "cloudfront.function": _price("CloudFront", "call of a function at the edge", 0.10e-6, 0.10e-6),
    "transfer.out": _price("EC2", "GB to the internet", 0.09, 0.09),
}
