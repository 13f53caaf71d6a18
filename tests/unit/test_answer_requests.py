"""What the HTTP API says of images and orders, and the upload forms that it signs."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import boto3
import pytest
from boto3.dynamodb.types import TypeSerializer
from botocore.stub import Stubber
from darkroom.addresses import Addresses
from hypothesis import given
from hypothesis import strategies as st
from moto import mock_aws

from functions.answer_requests import app
from functions.answer_requests.records import srcsets
from functions.answer_requests.requests import RequestRefused
from functions.answer_requests.settings import Settings
from functions.answer_requests.uploads import IMAGE_SUFFIXES, read_form
from functions.answer_requests.wiring import build_dependencies
from functions.process_image.formats import KEY_SUFFIXES
from tests.unit.tables import empty_table

pytestmark = pytest.mark.filterwarnings("ignore:No application metrics")  # what went well is counted by API Gateway
REGION: Final = "eu-central-1"
KEY = "trip/Käthe + Otto 100%.jpg"
IN_A_PATH = "trip/K%C3%A4the%20%2B%20Otto%20100%25.jpg"
RENDITIONS = [
    {"name": "square", "key": "k/square.webp", "content_type": "image/webp", "width": 100, "height": 100, "bytes": 9},
    {"name": "thumb", "key": "k/thumb.webp", "content_type": "image/webp", "width": 256, "height": 171, "bytes": 10},
    {"name": "small", "key": "k/sm all.webp", "content_type": "image/webp", "width": 640, "height": 427, "bytes": 50},
    {"name": "large", "key": "k/sm all.webp", "content_type": "image/webp", "width": 640, "height": 427, "bytes": 50},
]
OTHER_FORMATS = [
    {"name": "small", "key": "k/small.avif", "content_type": "image/avif", "width": 640, "height": 427, "bytes": 40},
]
READY = {
    "image_key": KEY,
    "state": "READY",
    "bucket": "uploads",
    "revision": 3,
    "version_id": "v3",
    "version_order": "2026-11-27T10:00:00.000000Z",
    "uploaded_at": "2026-11-27T10:00:00+00:00",
    "format": "jpeg",
    "bytes": 1000,
    "width": 700,
    "height": 467,
    "frames": 1,
    "camera": None,
    "taken_at": "2026-07-01T12:30:00",
    "location": None,
    "placeholder": "W/gF",
    "dominant_colour": "#5b7a8c",
    "renditions": RENDITIONS,
    "other_formats": OTHER_FORMATS,
    "replaced": [],
}
ORDER = {
    "order_id": "a/b 1",
    "customer_id": "c-1",
    "customer_email": "mara@example.com",
    "payment_method": "pm_1",
    "state": "REJECTED",
    "amount": 1250,
    "currency": "EUR",
    "revision": 2,
    "history": [{"state": "RECEIVED", "at": "2026-11-27T10:00:00.000+00:00"}],
    "rejection": {"code": "OutOfStock", "reason": "There is not enough."},
}


@dataclass
class World:
    """The deployed function with moto's services behind it."""

    settings: Settings
    s3: Any
    dynamodb: Any

    def ask(self, method: str, resource: str, *, body: Any = None, **event: Any) -> tuple[int, Any]:
        """Call the handler as API Gateway does; returns the status and the decoded body."""
        text = body if isinstance(body, str) or body is None else json.dumps(body)
        request = {"httpMethod": method, "resource": resource, "headers": None, "pathParameters": None, "body": text}
        context: Any = SimpleNamespace(
            function_name="f", memory_limit_in_mb=1, invoked_function_arn="arn", aws_request_id="1"
        )
        answer = app.lambda_handler(request | {"queryStringParameters": None} | event, context)
        assert answer["headers"] == {"Content-Type": "application/json", "Cache-Control": "no-store"}
        return answer["statusCode"], json.loads(answer["body"])

    def image(self, path: str = IN_A_PATH) -> tuple[int, Any]:
        return self.ask("GET", "/images/{key+}", pathParameters={"key": path})

    def images(self, **query: str) -> tuple[int, Any]:
        return self.ask("GET", "/images", queryStringParameters=query or None)

    def store(self, table: str, item: dict[str, Any]) -> None:
        values = {name: TypeSerializer().serialize(value) for name, value in item.items()}
        self.dynamodb.put_item(TableName=table, Item=values)

    def upload(self, *keys: str) -> None:
        for key in keys:
            self.s3.put_object(Bucket=self.settings.uploads_bucket, Key=key, Body=b"12345")


@pytest.fixture
def images_url() -> str:
    return ""


@pytest.fixture
def world(images_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with mock_aws():
        s3, dynamodb = boto3.client("s3", REGION), boto3.client("dynamodb", REGION)
        for bucket in ("uploads", "renditions"):
            s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
        tables = empty_table(dynamodb, "image_key"), empty_table(dynamodb, "order_id")
        settings = Settings("uploads", "renditions", *tables, Addresses(images_url, ("k/",)), 52_428_800)
        monkeypatch.setattr(app, "dependencies", build_dependencies(settings))
        yield World(settings, s3, dynamodb)


@pytest.mark.parametrize("images_url", ["", "https://d111.cloudfront.net"], ids=["presigned", "delivered"])
def test_an_image_is_plain_json_with_addresses_and_a_srcset_for_each_type(world: World, images_url: str) -> None:
    # given
    world.store(world.settings.images_table, READY)
    # when
    status, image = world.image()
    # then
    assert status == 200
    assert (image["key"], image["state"], image["version_id"], image["width"]) == (KEY, "READY", "v3", 700)
    assert image["taken_at"] == "2026-07-01T12:30:00"
    assert image.keys().isdisjoint({"location", "bucket", "revision", "replaced", "latest_fault"})
    urls = [rendition["url"] for rendition in image["renditions"]]
    (avif,) = image["other_formats"]
    assert urls[2] == urls[3]  # one object
    # the cropped rendition is in no srcset, and equal ones are in it once
    assert image["srcset"] == {"image/webp": f"{urls[1]} 256w, {urls[2]} 640w", "image/avif": f"{avif['url']} 640w"}
    assert list(image["srcset"]) == ["image/avif", "image/webp"]  # in the order for <picture>
    if images_url:
        assert urls[2] == "https://d111.cloudfront.net/k/sm%20all.webp"
        assert image["renditions"][1]["stable_url"] == f"https://d111.cloudfront.net/i/{IN_A_PATH}/thumb"
        assert "urls_expire_at" not in image
    else:
        parts = urlsplit(urls[2])
        assert (parts.scheme, parts.hostname) == ("https", f"renditions.s3.{REGION}.amazonaws.com")
        assert parts.path == "/k/sm%20all.webp"
        assert parse_qs(parts.query)["X-Amz-Expires"] == ["900"]
        assert "stable_url" not in image["renditions"][1]
        assert image["urls_expire_at"]


@pytest.mark.parametrize("images_url", ["https://d111.cloudfront.net"])
def test_an_image_that_is_not_delivered_has_signed_addresses(world: World) -> None:
    renditions = [rendition | {"key": f"private/{rendition['key']}"} for rendition in RENDITIONS]
    world.store(world.settings.images_table, READY | {"image_key": "private/a.jpg", "renditions": renditions})
    status, image = world.image("private/a.jpg")
    assert status == 200
    assert image["urls_expire_at"]
    assert all("X-Amz-Signature" in rendition["url"] for rendition in image["renditions"])


def test_a_location_is_shown_where_it_is_kept(world: World) -> None:
    world.store(world.settings.images_table, READY | {"location": [Decimal("48.1"), Decimal("-11")]})
    assert world.image()[1]["location"] == {"latitude": 48.1, "longitude": -11}


@pytest.mark.parametrize(
    ("item", "shown"),
    [
        (
            {"state": "DELETED", "version_order": "o", "bucket": "uploads", "deleted_at": "t", "expires_at": 9},
            {"state": "DELETED", "version_order": "o", "deleted_at": "t"},
        ),
        (
            {
                "state": "REJECTED",
                "version_order": "o",
                "latest_fault": {
                    "error_code": "NotAnImage",
                    "reason": "It is text.",
                    "at": "t",
                    "version_id": "v",
                    "task_id": "x",
                },
            },
            {
                "state": "REJECTED",
                "version_order": "o",
                "latest_fault": {"error_code": "NotAnImage", "reason": "It is text.", "at": "t", "version_id": "v"},
            },
        ),
    ],
    ids=["deleted", "rejected"],
)
def test_an_image_that_is_not_published_says_why(world: World, item: dict[str, Any], shown: dict[str, Any]) -> None:
    world.store(world.settings.images_table, {"image_key": KEY} | item)
    assert world.image() == (200, {"key": KEY} | shown)


def test_the_index_shows_what_s3_shows_in_pages(world: World) -> None:
    # given uploads with and without a record, a deleted one, and one under another prefix
    world.upload("a/1.jpg", "a/2.jpg", "a/3.jpg", "a/gone.jpg", "b/1.jpg")
    world.s3.delete_object(Bucket="uploads", Key="a/gone.jpg")
    world.store(world.settings.images_table, READY | {"image_key": "a/2.jpg"})
    world.store(world.settings.images_table, {"image_key": "a/gone.jpg", "state": "DELETED"})
    # when
    _, first = world.images(prefix="a/", limit="2")
    _, second = world.images(prefix="a/", limit="2", cursor=first["next_cursor"])
    _, everything = world.images()
    # then
    assert [(i["key"], i["state"]) for i in first["images"]] == [("a/1.jpg", "PENDING"), ("a/2.jpg", "READY")]
    assert first["images"][0]["bytes"] == 5
    assert first["images"][1]["srcset"]
    assert [i["key"] for i in second["images"]] == ["a/3.jpg"]
    assert second["next_cursor"] is None
    assert [i["key"] for i in everything["images"]] == ["a/1.jpg", "a/2.jpg", "a/3.jpg", "b/1.jpg"]
    assert world.images(prefix="c/") == (200, {"images": [], "next_cursor": None})


def test_records_that_one_answer_has_no_room_for_are_read_again(world: World) -> None:
    # given
    world.upload("1.jpg", "2.jpg")
    table = world.settings.images_table
    items = [{"image_key": {"S": key}, "state": {"S": "REJECTED"}} for key in ("1.jpg", "2.jpg")]
    wanted: Any = {table: {"Keys": [{"image_key": {"S": "2.jpg"}}]}}
    with Stubber(app.dependencies.records.dynamodb) as stubber:  # type: ignore[attr-defined]
        stubber.add_response("batch_get_item", {"Responses": {table: items[:1]}, "UnprocessedKeys": wanted})
        stubber.add_response("batch_get_item", {"Responses": {table: items[1:]}}, {"RequestItems": wanted})
        # when
        _, page = world.images()
    # then
    assert [image["state"] for image in page["images"]] == ["REJECTED", "REJECTED"]


def test_an_order_shows_its_way_and_nothing_of_the_customer(world: World) -> None:
    world.store(world.settings.orders_table, ORDER)
    status, order = world.ask("GET", "/orders/{order_id}", pathParameters={"order_id": "a%2Fb%201"})
    assert status == 200
    assert order == {n: ORDER[n] for n in ("order_id", "state", "amount", "currency", "history", "rejection")}


def test_what_is_not_there_is_not_found(world: World) -> None:
    for key in ("nothing.jpg", "k" * 1025):
        status, body = world.image(key)
        assert (status, body["error"]["code"]) == (404, "IMAGE_UNKNOWN")
    for order_id in ("nothing", "o" * 3000):
        status, body = world.ask("GET", "/orders/{order_id}", pathParameters={"order_id": order_id})
        assert (status, body["error"]["code"]) == (404, "ORDER_UNKNOWN")


def test_parameters_out_of_range_are_refused_with_what_is_allowed(world: World) -> None:
    for limit in ("0", "101", "-1", "²", "", "9" * 50):
        status, body = world.images(limit=limit)
        assert (status, body["error"]["allowed"]) == (400, "limit 1 to 100")
    for name in ("prefix", "cursor"):
        assert world.images(**{name: "ü" * 513})[0] == 400


def policy(form: dict[str, Any]) -> list[Any]:
    conditions: list[Any] = json.loads(base64.b64decode(form["fields"]["policy"]))["conditions"]
    return conditions


def test_a_form_is_for_one_key_one_type_and_a_size(world: World) -> None:
    # when
    body = {"key": KEY, "content_type": "image/jpeg", "max_bytes": 1000, "expires_in": 60}
    status, form = world.ask("POST", "/uploads", body=body)
    # then
    assert status == 200
    assert form["url"] == f"https://uploads.s3.{REGION}.amazonaws.com/"
    assert (form["fields"]["key"], form["fields"]["Content-Type"], form["max_bytes"]) == (KEY, "image/jpeg", 1000)
    assert {"key": KEY} in policy(form)
    assert {"Content-Type": "image/jpeg"} in policy(form)
    assert ["content-length-range", 1, 1000] in policy(form)
    assert {"bucket": "uploads"} in policy(form)


def test_a_form_for_a_folder_keeps_the_browser_in_it(world: World) -> None:
    _, form = world.ask("POST", "/uploads", body={"prefix": "users/47/"})
    assert form["fields"]["key"] == "users/47/${filename}"
    assert ["starts-with", "$key", "users/47/"] in policy(form)
    assert ["starts-with", "$Content-Type", "image/"] in policy(form)
    assert ["content-length-range", 1, 52_428_800] in policy(form)


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({}, "neither"),
        ({"key": "a.jpg", "prefix": "a/"}, "both"),
        ({"key": "a.txt"}, "key"),
        ({"key": ""}, "key"),
        ({"key": 7}, "key"),
        ({"key": "ü" * 511 + ".jpg"}, "key"),
        ({"key": "a\n.jpg"}, "key"),
        ({"key": "\ud800.jpg"}, "key"),
        ({"key": "${filename}/a.jpg"}, "key"),
        ({"prefix": "users/47"}, "prefix"),
        ({"prefix": None}, "prefix"),
        ({"prefix": "a" * 512 + "/"}, "prefix"),
        ({"key": "a.jpg", "content_type": "text/html"}, "content_type"),
        ({"key": "a.jpg", "content_type": ["image/jpeg"]}, "content_type"),
        ({"key": "a.jpg", "max_bytes": 0}, "max_bytes"),
        ({"key": "a.jpg", "max_bytes": 52_428_801}, "max_bytes"),
        ({"key": "a.jpg", "max_bytes": True}, "max_bytes"),
        ({"key": "a.jpg", "expires_in": 59}, "expires_in"),
        ({"key": "a.jpg", "expires_in": 3601}, "expires_in"),
        ({"key": "a.jpg", "acl": "public-read"}, "acl"),
    ],
)
def test_a_form_that_cannot_be_is_refused_with_what_is_allowed(body: dict[str, Any], named: str) -> None:
    with pytest.raises(RequestRefused, match=named) as refused:
        read_form(body, 52_428_800)
    assert (refused.value.status, refused.value.code) == (400, "BAD_REQUEST_BODY")
    assert refused.value.allowed


def test_a_body_that_is_no_object_is_refused(world: World) -> None:
    bodies: list[Any] = [[], "{", "", None, "[" * 100_000]
    for body in bodies:
        status, answer = world.ask("POST", "/uploads", body=body)
        assert (status, answer["error"]["allowed"]) == (400, "a JSON object")


def test_a_body_of_another_type_is_refused(world: World) -> None:
    headers = {"Content-Type": "text/plain"}
    status, answer = world.ask("POST", "/uploads", body={"key": "a.jpg"}, headers=headers)
    assert (status, answer["error"]["allowed"]) == (415, "application/json")


def test_keys_that_forms_take_are_those_that_s3_announces() -> None:
    assert set(IMAGE_SUFFIXES) == {suffix.lower() for suffix in KEY_SUFFIXES}
    for suffix in KEY_SUFFIXES:
        assert read_form({"key": f"a{suffix}"}, 10).key == f"a{suffix}"


def test_a_fault_of_aws_is_answered_and_reported(world: World, log: Any, printed: Any) -> None:
    # given
    with Stubber(app.dependencies.records.dynamodb) as stubber:  # type: ignore[attr-defined]
        stubber.add_client_error("get_item", "AccessDeniedException")
        # when
        status, answer = world.image()
    # then the caller learns no more than that it failed
    assert (status, answer["error"]["code"]) == (502, "SERVICE_UNAVAILABLE")
    assert "AccessDenied" in log()["message"]
    assert any(line.get("Defects") == [1.0] for line in printed())


def test_a_defect_is_not_hidden(world: World) -> None:
    world.store(world.settings.images_table, {"image_key": KEY, "state": "READY"})
    with pytest.raises(KeyError, match="renditions"):
        world.image()


_SIDES = st.integers(1, 9000)


@given(_SIDES, _SIDES, st.integers(1, 2000))
def test_whatever_its_shape_a_whole_rendition_is_in_the_srcset(width: int, height: int, box: int) -> None:
    # given a rendition that fits a box, as libvips rounds it
    scale = min(box / width, box / height, 1)
    small = {"width": max(1, round(width * scale)), "height": max(1, round(height * scale))}
    # then
    assert srcsets([small | {"content_type": "image/webp", "url": "u"}], width, height) == {
        "image/webp": f"u {small['width']}w"
    }
