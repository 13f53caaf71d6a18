"""`make url` against services in memory."""

from __future__ import annotations

import io
from typing import Any
from urllib.parse import parse_qs, urlsplit

import boto3
import pytest
from boto3.dynamodb.types import TypeSerializer
from rich.console import Console

from operations import url
from operations.errors import OperationsError
from tests.console import said
from tests.unit.test_operations import FakeStack

KEY = "trip/[red] Käthe 1.jpg"
OUTPUTS = {"ImagesTableName": "images", "RenditionsBucketName": "renditions", "ProcessImageFunctionName": "render"}


def stored(name: str, suffix: str) -> dict[str, Any]:
    return {
        "name": name,
        "key": f"{KEY}/1/{name}.{suffix}",
        "content_type": f"image/{suffix}",
        "width": 8,
        "height": 6,
        "bytes": 9,
    }


READY = {
    "image_key": KEY,
    "state": "READY",
    "width": 80,
    "height": 60,
    "renditions": [stored("thumb", "webp"), stored("small", "webp")],
    "other_formats": [stored("thumb", "avif")],
}
DELETED = {"image_key": "gone.jpg", "state": "DELETED"}
REJECTED = {"image_key": "text.jpg", "state": "REJECTED", "latest_fault": {"reason": "It is a text"}}


class FakeAws:
    """The images table, and the function's settings."""

    def __init__(self, images_url: str) -> None:
        self.variables = {"IMAGES_URL": images_url, "DELIVERY_PREFIXES": ""}

    def batch_get_item(self, *, RequestItems: Any) -> Any:  # noqa: N803
        (wanted,) = RequestItems["images"]["Keys"]
        found = [one for one in (READY, DELETED, REJECTED) if one["image_key"] == wanted["image_key"]["S"]]
        serialize = TypeSerializer().serialize
        return {"Responses": {"images": [{name: serialize(value) for name, value in one.items()} for one in found]}}

    def get_function_configuration(self, **_: Any) -> Any:
        return {"Environment": {"Variables": self.variables}}


def told(key: str = KEY, rendition: str = "", images_url: str = "") -> list[list[str]]:
    aws, console = FakeAws(images_url), Console(file=io.StringIO(), width=40, highlight=False)
    s3 = boto3.client("s3", region_name="eu-central-1")
    stack = FakeStack("darkroom", "eu-central-1", OUTPUTS, {"dynamodb": aws, "lambda": aws, "s3": s3})
    assert url.run(stack, key, rendition, console) == 0
    return [line.split() for line in said(console).splitlines()]


def test_delivered_addresses_and_the_stable_one_of_each_rendition() -> None:
    at, encoded = "https://images.example.com", "trip/%5Bred%5D%20K%C3%A4the%201.jpg"
    assert told(images_url=at) == [
        ["thumb", "image/webp", f"{at}/{encoded}/1/thumb.webp"],
        ["small", "image/webp", f"{at}/{encoded}/1/small.webp"],
        ["thumb", "image/avif", f"{at}/{encoded}/1/thumb.avif"],
        ["thumb", "(current)", f"{at}/i/{encoded}/thumb"],
        ["small", "(current)", f"{at}/i/{encoded}/small"],
    ]


def test_signed_addresses_where_nothing_is_delivered() -> None:
    *lines, until = told(rendition="thumb")
    assert [line[:2] for line in lines] == [["thumb", "image/webp"], ["thumb", "image/avif"]]
    address = urlsplit(lines[0][2])
    assert address.path.endswith("/trip/%5Bred%5D%20K%C3%A4the%201.jpg/1/thumb.webp")
    assert parse_qs(address.query)["X-Amz-Expires"] == ["900"]
    assert until[:2] == ["Signed", "until"]


@pytest.mark.parametrize("attack", ["\x1b[2J", "\x9b31m", "\u202e", "[red]"])
def test_a_record_shows_no_control_character(monkeypatch: pytest.MonkeyPatch, attack: str) -> None:
    monkeypatch.setitem(READY, "renditions", [stored("thumb", "webp") | {"name": f"thumb{attack}"}])
    shown = "".join(letter if letter.isprintable() else "\ufffd" for letter in attack)
    assert told()[0][0] == f"thumb{shown}"


@pytest.mark.parametrize(
    ("key", "rendition", "reason"),
    [
        ("unknown.jpg", "", "There is no record of an image under unknown.jpg."),
        ("gone.jpg", "", "gone.jpg is DELETED, and has no renditions."),
        ("text.jpg", "", "text.jpg is REJECTED: It is a text."),
        (KEY, "huge", f"{KEY} has no rendition huge. It has: thumb, small."),
    ],
)
def test_what_is_not_there_is_named(key: str, rendition: str, reason: str) -> None:
    with pytest.raises(OperationsError) as caught:
        told(key, rendition)
    assert str(caught.value) == reason
