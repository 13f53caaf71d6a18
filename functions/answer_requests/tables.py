"""The tables of images and of orders, read alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from darkroom.aws_faults import aws_faults_as_transient
from darkroom.items import plain_values, read_items

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_ATTEMPTS_AT_A_BATCH = 4  # somebody waits for the answer


@dataclass(frozen=True)
class DynamoDbRecords:
    """The tables. ``orders_table`` is empty in a stack without orders."""

    dynamodb: DynamoDBClient
    images_table: str
    orders_table: str

    def image(self, key: str) -> Mapping[str, Any] | None:
        """Read an image's item, or None. Raises ServiceUnavailable."""
        return self._item(self.images_table, "image_key", key)

    def order(self, order_id: str) -> Mapping[str, Any] | None:
        """Read an order's item, or None. Raises ServiceUnavailable."""
        return self._item(self.orders_table, "order_id", order_id)

    def images(self, keys: list[str]) -> Mapping[str, Mapping[str, Any]]:
        """Read up to 100 images' items, by key. Raises ServiceUnavailable."""
        with aws_faults_as_transient("look the images up"):
            return read_items(
                self.dynamodb, self.images_table, "image_key", keys, attempts=_ATTEMPTS_AT_A_BATCH, consistent=False
            )

    def _item(self, table: str, name: str, key: str) -> Mapping[str, Any] | None:
        if not key:  # DynamoDB refuses it
            return None
        with aws_faults_as_transient("look the record up"):
            item = self.dynamodb.get_item(TableName=table, Key={name: {"S": key}}).get("Item")
        return plain_values(item) if item else None
