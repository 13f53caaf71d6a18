"""Items of DynamoDB."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from boto3.dynamodb.types import TypeDeserializer

_deserialize = TypeDeserializer().deserialize


def plain_values(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return an item's attributes as Python values: ``{"S": "a"}`` as ``"a"``; numbers are ``Decimal``.

    https://boto3.amazonaws.com/v1/documentation/api/latest/_modules/boto3/dynamodb/types.html
    """
    return {name: _deserialize(value) for name, value in item.items()}
