"""The stock of products, as the shop's operator sets it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from local.outcomes import read_items
from local.stack import Stack

COUNTERS = ("available", "reserved", "sold")


def set_stock(deployed: Stack, available: Mapping[str, int]) -> None:
    """Set how many of each product are available; the reserved and sold counters stay unchanged."""
    for product_id, quantity in available.items():
        deployed.dynamodb.update_item(
            TableName=deployed.outputs["InventoryTableName"],
            Key={"product_id": {"S": product_id}},
            UpdateExpression="SET available = :available, reserved = if_not_exists(reserved, :none), "
            "sold = if_not_exists(sold, :none)",
            ExpressionAttributeValues={":available": {"N": str(quantity)}, ":none": {"N": "0"}},
        )


def read_stock(deployed: Stack, product_ids: Iterable[str]) -> dict[str, dict[str, int]]:
    """The counters of each product."""
    items = read_items(deployed, deployed.outputs["InventoryTableName"], "product_id", list(product_ids))
    return {product: {name: int(item[name]) for name in COUNTERS} for product, item in items.items()}
