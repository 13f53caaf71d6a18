"""DynamoDB tables for tests, in moto."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


def empty_table(dynamodb: DynamoDBClient, key: str) -> str:
    """Create a table with that key; returns its name."""
    return dynamodb.create_table(
        TableName=uuid4().hex,
        KeySchema=[{"AttributeName": key, "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )["TableDescription"]["TableName"]
