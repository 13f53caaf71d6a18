"""The orders table. The sweep only reads it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from darkroom.aws_faults import aws_faults_as_transient
from darkroom.items import plain_values
from darkroom.order_expiry import stands_still

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_FINAL = {":completed": {"S": "COMPLETED"}, ":rejected": {"S": "REJECTED"}}
_FIELDS = ("order_id", "customer_id", "customer_email", "items", "amount", "currency", "payment_method")
# https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html
_KEYS_PER_CALL = 100


@dataclass(frozen=True)
class DynamoDbOrders:
    """Orders that stand still, and the payments that orders know."""

    dynamodb: DynamoDBClient
    orders_table: str

    def standing_still(self, now: float) -> Iterator[dict[str, Any]]:
        """Return the messages of all orders that stand still.

        Raises
        ------
        ServiceUnavailable
            DynamoDB answered with an error.
        """
        pages = self.dynamodb.get_paginator("scan").paginate(
            TableName=self.orders_table,
            FilterExpression="NOT #state IN (:completed, :rejected)",
            ExpressionAttributeNames={"#state": "state"},
            ExpressionAttributeValues=_FINAL,
        )
        with aws_faults_as_transient("look for orders that stand still"):
            for page in pages:
                for item in page["Items"]:
                    order = plain_values(item)
                    if stands_still(order["history"][-1]["at"], now):
                        yield _message_of(order)

    def payments_of(self, order_ids: Iterable[str]) -> dict[str, str]:
        """Return the payments of these orders, without orders that have none. Raises ServiceUnavailable."""
        found: dict[str, str] = {}
        keys = [{"order_id": {"S": order_id}} for order_id in sorted(set(order_ids))]
        for start in range(0, len(keys), _KEYS_PER_CALL):
            asked: Any = {
                self.orders_table: {
                    "Keys": keys[start : start + _KEYS_PER_CALL],
                    "ProjectionExpression": "order_id, payment_id",
                    "ConsistentRead": True,
                }
            }
            while asked:
                with aws_faults_as_transient("look up the payments' orders"):
                    answer = self.dynamodb.batch_get_item(RequestItems=asked)
                for item in answer["Responses"].get(self.orders_table, []):
                    if "payment_id" in item:
                        found[item["order_id"]["S"]] = item["payment_id"]["S"]
                asked = answer.get("UnprocessedKeys")
        return found


def _message_of(order: dict[str, Any]) -> dict[str, Any]:
    message = {name: order[name] for name in _FIELDS if order.get(name) is not None}
    numbers = {"quantity", "unit_price"}
    lines = [{name: int(v) if name in numbers else v for name, v in line.items()} for line in order["items"]]
    return message | {"amount": int(order["amount"]), "items": lines}
