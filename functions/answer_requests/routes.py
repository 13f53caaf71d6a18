"""What each method of the API does. API Gateway has matched the path: ``resource`` is the one in the description."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from darkroom.addresses import Addresses

from functions.answer_requests.records import SignedAddresses, image_json, order_json, pending_json
from functions.answer_requests.requests import LONGEST_KEY_BYTES, RequestRefused, json_body, path_parameter, query_of
from functions.answer_requests.uploads import UploadForm, read_form

_IMAGES_IN_A_PAGE = 25
_MOST_IMAGES_IN_A_PAGE = 100  # DynamoDB reads as many in one batch
_LONGEST_ORDER_ID = 200


@dataclass(frozen=True)
class StoredUpload:
    """An object in the uploads bucket. ``uploaded_at`` is ISO 8601."""

    key: str
    bytes: int
    uploaded_at: str


class Records(Protocol):
    """The tables."""

    def image(self, key: str) -> Mapping[str, Any] | None:
        """Read an image's item, or None. Raises ServiceUnavailable."""

    def images(self, keys: list[str]) -> Mapping[str, Mapping[str, Any]]:
        """Read up to 100 images' items, by key. Raises ServiceUnavailable."""

    def order(self, order_id: str) -> Mapping[str, Any] | None:
        """Read an order's item, or None. Raises ServiceUnavailable."""


class Uploads(Protocol):
    """The uploads bucket."""

    def list(self, prefix: str, after: str, limit: int) -> tuple[list[StoredUpload], bool]:
        """List objects in the order of their keys; also returns whether there are more. Raises ServiceUnavailable."""

    def sign(self, form: UploadForm) -> Mapping[str, Any]:
        """Return the form's address and its signed fields."""


@dataclass(frozen=True)
class Dependencies:
    """What requests are answered with. ``signed`` begins an answer's signed addresses."""

    records: Records
    uploads: Uploads
    delivered: Addresses
    signed: Callable[[], SignedAddresses]
    max_image_bytes: int


def answer(event: Mapping[str, Any], dependencies: Dependencies) -> Mapping[str, Any]:
    """Answer a request.

    Raises
    ------
    RequestRefused
        The request is wrong, or there is no such thing.
    ServiceUnavailable
        AWS answered with an error.
    """
    match event["httpMethod"], event["resource"]:
        case "GET", "/images":
            return _list_images(query_of(event), dependencies)
        case "GET", "/images/{key+}":
            return _read_image(path_parameter(event, "key"), dependencies)
        case "GET", "/orders/{order_id}":
            return _read_order(path_parameter(event, "order_id"), dependencies)
        case "POST", "/uploads":
            return dependencies.uploads.sign(read_form(json_body(event), dependencies.max_image_bytes))
    raise ValueError(f"The API has no function for {event['httpMethod']} {event['resource']}")


def _read_image(key: str, dependencies: Dependencies) -> Mapping[str, Any]:
    item = dependencies.records.image(key) if len(key.encode()) <= LONGEST_KEY_BYTES else None
    if item is None:
        raise RequestRefused(404, "IMAGE_UNKNOWN", "There is no record of an image under this key.")
    return image_json(item, dependencies.delivered, dependencies.signed())


def _list_images(query: Mapping[str, str], dependencies: Dependencies) -> Mapping[str, Any]:
    """List what S3 shows as current, with each object's record: no table has to be scanned or indexed for it."""
    limit = query.get("limit", str(_IMAGES_IN_A_PAGE))
    if not (limit.isascii() and limit.isdecimal() and 1 <= int(limit[:9]) <= _MOST_IMAGES_IN_A_PAGE):
        allowed = f"limit 1 to {_MOST_IMAGES_IN_A_PAGE}"
        raise RequestRefused(400, "BAD_REQUEST_PARAMETERS", f"limit is {limit[:100]}.", allowed)
    prefix, cursor = query.get("prefix", ""), query.get("cursor", "")
    if max(len(prefix.encode()), len(cursor.encode())) > LONGEST_KEY_BYTES:
        allowed = f"prefix and cursor of up to {LONGEST_KEY_BYTES} bytes"
        raise RequestRefused(400, "BAD_REQUEST_PARAMETERS", "prefix or cursor is too long.", allowed)
    found, has_more = dependencies.uploads.list(prefix, cursor, int(limit))
    items = dependencies.records.images([upload.key for upload in found]) if found else {}
    signed = dependencies.signed()
    return {
        "images": [
            image_json(items[upload.key], dependencies.delivered, signed)
            if upload.key in items
            else pending_json(upload.key, upload.bytes, upload.uploaded_at)
            for upload in found
        ],
        "next_cursor": found[-1].key if has_more else None,
    }


def _read_order(order_id: str, dependencies: Dependencies) -> Mapping[str, Any]:
    item = dependencies.records.order(order_id) if len(order_id) <= _LONGEST_ORDER_ID else None
    if item is None:
        raise RequestRefused(404, "ORDER_UNKNOWN", "There is no order with this id.")
    return order_json(item)
