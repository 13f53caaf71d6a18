"""Read items of a DynamoDB table by their keys."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from darkroom.items import plain_values

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

T = TypeVar("T")
_KEYS_PER_CALL = 100  # https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html


def read_items(dynamodb: DynamoDBClient, table: str, key_name: str, keys: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Read items consistently, by key; those that do not exist are left out. Raises ClientError, BotoCoreError."""
    items: dict[str, dict[str, Any]] = {}
    for some in portions(dict.fromkeys(keys), _KEYS_PER_CALL):
        wanted: Any = {table: {"Keys": [{key_name: {"S": key}} for key in some], "ConsistentRead": True}}
        while wanted:
            answer = dynamodb.batch_get_item(RequestItems=wanted)
            for item in answer["Responses"].get(table, []):
                values = plain_values(item)
                items[values[key_name]] = values
            wanted = answer.get("UnprocessedKeys")
    return items


def portions(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Split into lists of a size; the last may be shorter."""
    coming = iter(items)
    while some := list(islice(coming, size)):
        yield some
