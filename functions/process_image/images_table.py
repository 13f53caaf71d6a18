"""The images table: one item per image, with everything that readers need.

docs/images.md lists the attributes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from boto3.dynamodb.types import TypeSerializer
from botocore.exceptions import ClientError
from darkroom.aws_faults import aws_faults_as_transient, error_code
from darkroom.items import plain_values

from functions.process_image.images import (
    ImageRecord,
    ImageVersion,
    KnownImage,
    LatestFault,
    State,
    StoredRendition,
    Tombstone,
)

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_serialize = TypeSerializer().serialize


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class DynamoDbImages:
    """The images table. ``retention_days`` is how long a tombstone stays."""

    dynamodb: DynamoDBClient
    table: str
    retention_days: int
    now: Callable[[], datetime] = _now

    def read(self, image_key: str) -> KnownImage:
        """Read the item of a key; revision 0 if there is none. Raises ServiceUnavailable."""
        with aws_faults_as_transient("look the image up"):
            item = self.dynamodb.get_item(
                TableName=self.table, Key={"image_key": {"S": image_key}}, ConsistentRead=True
            ).get("Item")
        return _known(item) if item else KnownImage(image_key)

    def publish(self, image: KnownImage, record: ImageRecord) -> KnownImage | None:
        """Replace the record that was read, in one conditional write.

        The renditions it replaces are added to ``replaced`` in the same write, so that a crash cannot lose them.

        Returns
        -------
        KnownImage or None
            The new item; None if there was another write since the read, and nothing was written.

        Raises
        ------
        ServiceUnavailable
            DynamoDB answered with an error.
        """
        live = {rendition.key for rendition in record.stored}
        replaced = tuple(key for key in (*image.replaced, *sorted(image.rendition_keys)) if key not in live)
        return self._replace(image, KnownImage(image.image_key, published=record, replaced=replaced))

    def withdraw(self, image: KnownImage, bucket: str) -> KnownImage | None:
        """Replace the record that was read by a tombstone; returns and raises as `publish` does."""
        now = self.now()
        tombstone = Tombstone(
            image.image_key, bucket, image.next_order(now), deleted_at=now.isoformat(timespec="milliseconds")
        )
        expires_at = int((now + timedelta(days=self.retention_days)).timestamp())
        return self._replace(image, KnownImage(image.image_key, published=tombstone), expires_at=expires_at)

    def note_fault(self, image: KnownImage, fault: LatestFault, *, keep_published: bool) -> KnownImage | None:
        """Store why the current version cannot be rendered; returns and raises as `publish` does.

        Parameters
        ----------
        keep_published:
            Whether the published image stays published.
        """
        if keep_published and image.record:
            return self._update(image, "SET latest_fault = :fault,", {":fault": _serialize(_fault_item(fault))})
        return self._replace(image, KnownImage(image.image_key, fault=fault))

    def confirm(self, image: KnownImage, *, forget_fault: bool) -> KnownImage | None:
        """Confirm that the record matches S3, so that a delivery with an older view cannot replace it.

        Returns and raises as `publish` does.
        """
        return self._update(image, "REMOVE latest_fault SET" if forget_fault else "SET", {})

    def forget_replaced(self, image: KnownImage) -> None:
        """Empty ``replaced``, once its renditions are marked stale. Raises ServiceUnavailable.

        If another version is published meanwhile, its delivery processes the list.
        """
        with aws_faults_as_transient("forget replaced renditions"):
            try:
                self.dynamodb.update_item(
                    TableName=self.table,
                    Key={"image_key": {"S": image.image_key}},
                    UpdateExpression="SET replaced = :nothing",
                    ConditionExpression="version_order = :order",
                    ExpressionAttributeValues={":nothing": {"L": []}, ":order": {"S": image.version_order}},
                )
            except ClientError as error:
                if error_code(error) != "ConditionalCheckFailedException":
                    raise

    def _replace(self, image: KnownImage, by: KnownImage, **more: Any) -> KnownImage | None:
        """Replace the whole item, if the revision is still the one that was read."""
        by = replace(by, revision=image.revision + 1)
        item = {name: _serialize(value) for name, value in {**item_of(by), **more}.items()}

        def put(condition: str, values: dict[str, Any]) -> None:
            names: dict[str, Any] = {"ExpressionAttributeValues": values} if values else {}
            self.dynamodb.put_item(TableName=self.table, Item=item, ConditionExpression=condition, **names)

        return by if self._if_unmoved(image, put) else None

    def _update(self, image: KnownImage, update: str, values: Mapping[str, Any]) -> KnownImage | None:
        """Change some attributes, if the revision is still the one that was read."""
        answers = []

        def change(condition: str, condition_values: dict[str, Any]) -> None:
            answers.append(
                self.dynamodb.update_item(
                    TableName=self.table,
                    Key={"image_key": {"S": image.image_key}},
                    UpdateExpression=f"{update} revision = :next",
                    ConditionExpression=condition,
                    ExpressionAttributeValues={
                        **values,
                        **condition_values,
                        ":next": _serialize(image.revision + 1),
                    },
                    ReturnValues="ALL_NEW",
                )["Attributes"]
            )

        return _known(answers[0]) if self._if_unmoved(image, change) else None

    @staticmethod
    def _if_unmoved(image: KnownImage, write: Callable[[str, dict[str, Any]], None]) -> bool:
        with aws_faults_as_transient("write the image's record"):
            try:
                if image.revision:
                    write("revision = :read", {":read": _serialize(image.revision)})
                else:
                    write("attribute_not_exists(revision)", {})
            except ClientError as error:
                if error_code(error) != "ConditionalCheckFailedException":
                    raise
                return False
        return True


def item_of(known: KnownImage) -> dict[str, Any]:
    """The item of an image, in Python's types; unknown attributes are null."""
    item: dict[str, Any] = {"image_key": known.image_key, "revision": known.revision}
    if known.fault:
        item["latest_fault"] = _fault_item(known.fault)
    match known.published:
        case ImageRecord() as record:
            item |= asdict(record) | {
                "state": State.READY.value,
                "version_source": record.version.source,
                "rendition_set": record.version.rendition_set,
                "location": [Decimal(str(x)) for x in record.location] if record.location else None,
                "renditions": [asdict(rendition) for rendition in record.renditions],
                "other_formats": [asdict(rendition) for rendition in record.other_formats],
                "replaced": [{"key": key} for key in known.replaced],
            }
            del item["version"]
            if not record.other_formats:
                del item["other_formats"]
        case Tombstone() as tombstone:
            item |= asdict(tombstone) | {"state": State.DELETED.value}
        case None:
            item |= {"state": State.REJECTED.value, "version_order": known.version_order}
    return item


def _fault_item(fault: LatestFault) -> dict[str, Any]:
    item = asdict(fault) | {"version_source": fault.version.source, "rendition_set": fault.version.rendition_set}
    del item["version"]
    return item


def _known(item: Mapping[str, Any]) -> KnownImage:
    values = plain_values(item)
    published: ImageRecord | Tombstone | None = None
    if values["state"] == State.READY:
        published = _record(values)
    elif values["state"] == State.DELETED:
        published = Tombstone(values["image_key"], values["bucket"], values["version_order"], values["deleted_at"])
    return KnownImage(
        image_key=values["image_key"],
        revision=int(values.get("revision", 0)),
        published=published,
        fault=_fault(values["latest_fault"]) if "version_order" in values.get("latest_fault", {}) else None,
        replaced=tuple(r["key"] for r in values.get("replaced", [])),
    )


def _record(values: Mapping[str, Any]) -> ImageRecord:
    location = values["location"]
    return ImageRecord(
        image_key=values["image_key"],
        bucket=values["bucket"],
        version=ImageVersion(values["version_source"], values["rendition_set"]),
        version_order=values["version_order"],
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
        renditions=tuple(map(_rendition, values["renditions"])),
        other_formats=tuple(map(_rendition, values.get("other_formats", ()))),
    )


def _rendition(values: Mapping[str, Any]) -> StoredRendition:
    return StoredRendition(
        name=values["name"],
        key=values["key"],
        content_type=values["content_type"],
        width=int(values["width"]),
        height=int(values["height"]),
        bytes=int(values["bytes"]),
    )


def _fault(values: Mapping[str, Any]) -> LatestFault:
    return LatestFault(
        task_id=values["task_id"],
        error_code=values["error_code"],
        reason=values["reason"],
        at=values["at"],
        version_order=values["version_order"],
        version_id=values["version_id"],
        version=ImageVersion(values["version_source"], values["rendition_set"]),
    )
