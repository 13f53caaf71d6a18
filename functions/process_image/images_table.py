"""The images table: one item per image, its newest version with all that readers need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from boto3.dynamodb.types import TypeDeserializer, TypeSerializer
from botocore.exceptions import ClientError
from darkroom.aws_faults import aws_faults_as_transient, error_code
from darkroom.errors import PermanentFault

from functions.process_image.images import ImageRecord, ImageVersion, PublishedImage, StoredRendition

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_serialize = TypeSerializer().serialize
_deserialize = TypeDeserializer().deserialize


@dataclass(frozen=True)
class DynamoDbImages:
    """The images table."""

    dynamodb: DynamoDBClient
    table: str

    def published(self, image_key: str) -> PublishedImage | None:
        """What stands under a key, or None. Raises ServiceUnavailable.

        An eventually consistent read: `publish` decides, this only spares work that would be in vain.
        """
        with aws_faults_as_transient("look the image up"):
            item = self.dynamodb.get_item(TableName=self.table, Key={"image_key": {"S": image_key}}).get("Item")
        return _published_image(item) if item and "version_order" in item else None

    def publish(self, record: ImageRecord) -> PublishedImage:
        """Let the record stand unless a newer version does, in one conditional write.

        The renditions it replaces are added to ``replaced`` in the same write, so that a crash cannot lose them.

        Returns
        -------
        PublishedImage
            What stands afterwards: this record, or the newer one that keeps it out.

        Raises
        ------
        ServiceUnavailable
            DynamoDB answered with an error.
        """
        attributes = _attributes(record)
        names = {f"#{name}": name for name in attributes}
        values = {f":{name}": _serialize(value) for name, value in attributes.items()}
        assignments = ", ".join(f"#{name} = :{name}" for name in attributes)
        return self._write(
            record.image_key,
            "SET replaced = list_append(if_not_exists(replaced, :nothing), if_not_exists(#renditions, :nothing)),"
            f" {assignments} REMOVE latest_fault",
            "attribute_not_exists(#version_order)"
            " OR (#version_source <> :version_source AND #version_order < :version_order)"
            " OR (#version_source = :version_source AND #rendition_set <> :rendition_set)",
            names,
            {**values, ":nothing": {"L": []}},
        )

    def raise_order(self, published: PublishedImage, order: str) -> PublishedImage:
        """Let the version that stands count as of ``order``, if that is higher; returns what stands afterwards.

        Raises
        ------
        ServiceUnavailable
            DynamoDB answered with an error.
        """
        return self._write_to(
            published, "SET version_order = :order", "version_order < :order", {":order": {"S": order}}
        )

    def forget_replaced(self, published: PublishedImage) -> None:
        """Empty ``replaced``, once its renditions are marked stale. Raises ServiceUnavailable.

        If another version stands by now, the list is its to work off.
        """
        self._write_to(published, "SET replaced = :nothing", "", {":nothing": {"L": []}})

    def _write_to(
        self, published: PublishedImage, update: str, condition: str, values: dict[str, Any]
    ) -> PublishedImage:
        """Update the record while it is still of the version that stood."""
        version = published.record.version
        return self._write(
            published.record.image_key,
            update,
            "version_source = :source AND rendition_set = :set" + (f" AND {condition}" if condition else ""),
            {},
            {":source": _serialize(version.source), ":set": _serialize(version.rendition_set), **values},
        )

    def _write(
        self, image_key: str, update: str, condition: str, names: dict[str, str], values: dict[str, Any]
    ) -> PublishedImage:
        """Update the record if the condition holds; returns what stands afterwards either way."""
        aliases: dict[str, Any] = {"ExpressionAttributeNames": names} if names else {}
        with aws_faults_as_transient("publish the image"):
            try:
                answer = self.dynamodb.update_item(
                    TableName=self.table,
                    Key={"image_key": {"S": image_key}},
                    UpdateExpression=update,
                    ConditionExpression=condition,
                    ExpressionAttributeValues=values,
                    ReturnValues="ALL_NEW",
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                    **aliases,
                )
            except ClientError as error:
                if error_code(error) != "ConditionalCheckFailedException":
                    raise
                return _published_image(error.response["Item"])  # type: ignore[typeddict-item] # not in the stubs
        return _published_image(answer["Attributes"])

    def note_fault(self, image_key: str, task_id: str, fault: PermanentFault) -> None:
        """Note the latest fault; a published version stays published. Raises ServiceUnavailable."""
        latest = {
            "task_id": task_id,
            "error_code": fault.error_code,
            "reason": str(fault),
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        }
        with aws_faults_as_transient("note the image's fault"):
            self.dynamodb.update_item(
                TableName=self.table,
                Key={"image_key": {"S": image_key}},
                UpdateExpression="SET latest_fault = :latest, #state = if_not_exists(#state, :rejected)",
                ExpressionAttributeNames={"#state": "state"},
                ExpressionAttributeValues={":latest": _serialize(latest), ":rejected": {"S": "REJECTED"}},
            )


def _attributes(record: ImageRecord) -> dict[str, Any]:
    """The item's attributes but for its key; what is not known is null."""
    attributes = asdict(record)
    del attributes["image_key"]
    version = attributes.pop("version")
    latitude_longitude = attributes.pop("location")
    return {
        **attributes,
        "state": "READY",
        "location": [Decimal(str(x)) for x in latitude_longitude] if latitude_longitude else None,
        "renditions": list(attributes["renditions"]),
        "version_source": version["source"],
        "version_order": version["order"],
        "rendition_set": version["rendition_set"],
    }


def _published_image(item: Mapping[str, Any]) -> PublishedImage:
    values = {name: _deserialize(value) for name, value in item.items()}
    location = values["location"]
    record = ImageRecord(
        image_key=values["image_key"],
        bucket=values["bucket"],
        version=ImageVersion(values["version_source"], values["version_order"], values["rendition_set"]),
        version_id=values["version_id"],
        uploaded_at=values["uploaded_at"],
        format=values["format"],
        bytes=int(values["bytes"]),
        width=int(values["width"]),
        height=int(values["height"]),
        frames=int(values["frames"]),
        camera=values["camera"],
        taken_at=values["taken_at"],
        location=(float(location[0]), float(location[1])) if location else None,
        placeholder=values["placeholder"],
        dominant_colour=values["dominant_colour"],
        renditions=tuple(_rendition(r) for r in values["renditions"]),
    )
    # Equal renditions share a key.
    published = PublishedImage(record, replaced=tuple(dict.fromkeys(r["key"] for r in values["replaced"])))
    # Of two rendition sets that take turns, each is what the other replaced.
    return replace(published, replaced=tuple(key for key in published.replaced if key not in published.rendition_keys))


def _rendition(values: dict[str, Any]) -> StoredRendition:
    return StoredRendition(
        name=values["name"],
        key=values["key"],
        content_type=values["content_type"],
        width=int(values["width"]),
        height=int(values["height"]),
        bytes=int(values["bytes"]),
    )
