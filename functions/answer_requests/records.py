"""Images and orders as plain JSON, made from the tables' items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Protocol

from darkroom.addresses import Addresses
from darkroom.items import stored_renditions

_OF_AN_IMAGE = (
    *("version_id", "version_order", "uploaded_at", "deleted_at"),
    *("format", "bytes", "width", "height", "frames", "camera", "taken_at", "placeholder", "dominant_colour"),
)
_OF_A_RENDITION = ("name", "content_type", "width", "height", "bytes")
_OF_A_FAULT = ("error_code", "reason", "at", "version_id")
# For <picture>, whose browser takes the first that it knows.
_BEST_FIRST = ("image/avif", "image/webp", "image/png", "image/jpeg")
# Neither address nor payment method: a page that shows an order needs none.
_OF_AN_ORDER = ("order_id", "state", "amount", "currency", "history", "rejection")


class SignedAddresses(Protocol):
    """Signs the addresses of renditions that are not delivered."""

    @property
    def expire_at(self) -> str:
        """When they stop working, ISO 8601."""

    def of(self, key: str) -> str:
        """Return the address of a rendition."""


def image_json(item: Mapping[str, Any], delivered: Addresses, signed: SignedAddresses) -> dict[str, Any]:
    """Return an image as the API shows it, with the renditions' addresses and a ``srcset`` per content type."""
    image = {"key": item["image_key"], "state": item["state"]}
    image |= {name: item[name] for name in _OF_AN_IMAGE if name in item}
    if location := item.get("location"):  # only with KeepLocation
        image["location"] = {"latitude": location[0], "longitude": location[1]}
    if fault := item.get("latest_fault"):
        image["latest_fault"] = {name: fault.get(name) for name in _OF_A_FAULT}
    if item["state"] != "READY":
        return image
    sign = cache(signed.of)  # equal renditions are one object

    def addressed(rendition: Mapping[str, Any]) -> dict[str, Any]:
        addresses = delivered.of(item["image_key"], rendition["name"], rendition["key"])
        told = {name: rendition[name] for name in _OF_A_RENDITION}
        return told | (addresses or {"url": sign(rendition["key"])})

    image["renditions"] = list(map(addressed, item["renditions"]))
    if "other_formats" in item:
        image["other_formats"] = list(map(addressed, item["other_formats"]))
    stored = stored_renditions(image)
    image["srcset"] = srcsets(stored, item["width"], item["height"])
    if any("stable_url" not in rendition for rendition in stored):
        image["urls_expire_at"] = signed.expire_at
    return image


def pending_json(key: str, size: int, uploaded_at: str) -> dict[str, Any]:
    """Return an upload that has no record yet. One whose name is not that of an image never gets one."""
    return {"key": key, "state": "PENDING", "bytes": size, "uploaded_at": uploaded_at}


def srcsets(renditions: Sequence[Mapping[str, Any]], width: int, height: int) -> dict[str, str]:
    """Return a ``srcset`` for each content type, the best first, of the renditions that show the whole image.

    A browser takes any of them for any other, so a cropped one must not be among them.
    https://html.spec.whatwg.org/multipage/images.html#srcset-attributes
    """
    found: dict[str, dict[int, str]] = {kind: {} for kind in _BEST_FIRST}
    for one in renditions:
        # Sides are rounded to whole pixels.
        if abs(one["width"] * height - one["height"] * width) <= max(width, height):
            found[one["content_type"]].setdefault(int(one["width"]), one["url"])
    return {kind: ", ".join(f"{url} {w}w" for w, url in sorted(urls.items())) for kind, urls in found.items() if urls}


def order_json(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return an order as the API shows it: its state and how it came there."""
    return {name: item[name] for name in _OF_AN_ORDER if name in item}
