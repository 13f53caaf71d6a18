"""Items of DynamoDB."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import count, islice
from time import sleep
from typing import TYPE_CHECKING, Any, TypeVar

from boto3.dynamodb.types import TypeDeserializer

from darkroom.errors import ServiceUnavailable
from darkroom.retries import backoff

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

T = TypeVar("T")
_KEYS_PER_CALL = 100
_deserialize = TypeDeserializer().deserialize


def plain_values(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return an item's attributes as Python values: ``{"S": "a"}`` as ``"a"``; numbers are ``Decimal``.

    https://boto3.amazonaws.com/v1/documentation/api/latest/_modules/boto3/dynamodb/types.html
    """
    return {name: _deserialize(value) for name, value in item.items()}


def read_items(
    dynamodb: DynamoDBClient,
    table: str,
    key_name: str,
    keys: Iterable[str],
    *,
    attempts: int = 8,
    consistent: bool = True,
) -> dict[str, dict[str, Any]]:
    """Read items of a table by their keys; those that do not exist are left out.

    Parameters
    ----------
    key_name:
        The attribute that is the table's key, a string.
    attempts:
        How often to ask for a key that DynamoDB leaves out. Eight take up to five seconds, four a third of one.

    Raises
    ------
    ServiceUnavailable
        DynamoDB left keys out each time.
    ClientError, BotoCoreError
        DynamoDB answered with an error, or did not answer.
    """
    found: dict[str, dict[str, Any]] = {}
    for some in portions(dict.fromkeys(keys), _KEYS_PER_CALL):
        wanted: Any = {table: {"Keys": [{key_name: {"S": key}} for key in some], "ConsistentRead": consistent}}
        for attempt in count(1):
            answer = dynamodb.batch_get_item(RequestItems=wanted)
            for item in map(plain_values, answer["Responses"].get(table, [])):
                found[item[key_name]] = item
            # What one answer has no room for, or the table no capacity:
            # https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html
            wanted = answer.get("UnprocessedKeys")
            if not wanted:
                break
            if attempt == attempts:
                raise ServiceUnavailable(f"DynamoDB left items of {table} out, {attempts} times.")
            sleep(backoff(attempt, base=0.05, longest=2))
    return found


def portions(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Split into lists of a size; the last may be shorter."""
    coming = iter(items)
    while some := list(islice(coming, size)):
        yield some


def stored_renditions(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return everything that is stored of an image, of its item as plain values: each rendition in every format."""
    return [*record.get("renditions", ()), *record.get("other_formats", ())]
