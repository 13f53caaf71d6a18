"""The events about an image, which subscribers receive."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID, uuid5

from darkroom.addresses import Addresses

from functions.process_image.images import ImageRecord, ImageVersion, LatestFault, State, Tombstone

#: Of schemas/image_event.json. It rises when a field goes or changes; a new field leaves it as it is.
SCHEMA_VERSION = 1
_NAMESPACE = UUID("0b0f9c1e-52a0-4d0c-8d5b-7d1c0f7a9e34")


@dataclass(frozen=True)
class ImageEvent:
    """One event. The ``event_id`` stays the same if it is published again."""

    event_id: str
    event_type: str
    body: dict[str, Any]


def ready(task_id: str, record: ImageRecord, addresses: Addresses) -> ImageEvent:
    """The event of an image that is published."""
    values = asdict(record)
    del values["version"]
    for rendition in (*values["renditions"], *values["other_formats"]):
        rendition.update(addresses.of(record.image_key, rendition["name"], rendition["key"]))
    if not record.other_formats:
        del values["other_formats"]
    occurred_at = record.version_order.partition("/")[0]
    return _event("ImageReady", task_id, occurred_at, {"state": State.READY.value, **values}, _named(record.version))


def deleted(task_id: str, tombstone: Tombstone) -> ImageEvent:
    """The event of an image that is withdrawn."""
    values = {"state": State.DELETED.value, **asdict(tombstone)}
    return _event("ImageDeleted", task_id, tombstone.deleted_at, values, [tombstone.version_order])


def failed(image_key: str, bucket: str, fault: LatestFault, *, still_published: bool) -> ImageEvent:
    """The event of a version that cannot be rendered.

    Parameters
    ----------
    still_published:
        Whether the version before stays published.
    """
    values = asdict(fault)
    for name in ("task_id", "version", "at"):
        del values[name]
    values |= {"image_key": image_key, "bucket": bucket, "still_published": still_published}
    return _event("ImageFailed", fault.task_id, fault.at, values, _named(fault.version))


def _named(version: ImageVersion) -> list[str]:
    return [version.source, version.rendition_set]


def _event(event_type: str, task_id: str, occurred_at: str, values: dict[str, Any], identity: list[str]) -> ImageEvent:
    """Build an event. Its id depends on ``identity``, which is the same if a task is done again after a crash."""
    event_id = str(uuid5(_NAMESPACE, json.dumps([event_type, task_id, values["image_key"], *identity])))
    body = {
        "schema_version": SCHEMA_VERSION,
        "event_id": event_id,
        "event_type": event_type,
        "occurred_at": occurred_at,
        "task_id": task_id,
        **values,
    }
    return ImageEvent(event_id, event_type, body)
