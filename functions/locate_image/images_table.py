"""The images table, as a stable address needs it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from darkroom.aws_faults import aws_faults_as_transient
from darkroom.items import plain_values, stored_renditions

from functions.locate_image.stable_address import Published, Rendition

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


@dataclass(frozen=True)
class DynamoDbImages:
    """Reads the images table. What was published a moment ago may be missing: the answer is cached longer than that."""

    dynamodb: DynamoDBClient
    table: str

    def read(self, image_key: str) -> Published | None:
        """Read what is published under a key; None if it is unknown. Raises ServiceUnavailable."""
        with aws_faults_as_transient("look the image up"):
            item = self.dynamodb.get_item(
                TableName=self.table,
                Key={"image_key": {"S": image_key}},
                ProjectionExpression="#state, renditions, other_formats",
                ExpressionAttributeNames={"#state": "state"},
            ).get("Item")
        if item is None:
            return None
        values = plain_values(item)
        renditions = (Rendition(r["name"], r["key"], r["content_type"]) for r in stored_renditions(values))
        return Published(values["state"], tuple(renditions))
