"""The orders table. The sweep only reads it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from darkroom.aws_faults import aws_faults_as_transient
from darkroom.items import plain_values, read_items
from darkroom.order_expiry import stands_still

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_FINAL = {":completed": {"S": "COMPLETED"}, ":rejected": {"S": "REJECTED"}}
_FIELDS = ("order_id", "customer_id", "customer_email", "items", "amount", "currency", "payment_method")


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
        with aws_faults_as_transient("look up the payments' orders"):
            orders = read_items(self.dynamodb, self.orders_table, "order_id", order_ids)
        return {order_id: order["payment_id"] for order_id, order in orders.items() if "payment_id" in order}


def _message_of(order: dict[str, Any]) -> dict[str, Any]:
    message = {name: order[name] for name in _FIELDS if order.get(name) is not None}
    numbers = {"quantity", "unit_price"}
    lines = [{name: int(v) if name in numbers else v for name, v in line.items()} for line in order["items"]]
    return message | {"amount": int(order["amount"]), "items": lines}
