from __future__ import annotations

import base64
import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

import boto3
import pytest
from botocore.stub import Stubber
from darkroom.addresses import Addresses
from darkroom.errors import ServiceUnavailable
from hypothesis import given
from hypothesis import strategies as st

from functions.locate_image.images_table import DynamoDbImages
from functions.locate_image.stable_address import Answer, Published, Rendition, locate

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

AVIF, WEBP, JPEG = (Rendition("thumb", f"a.jpg/1/thumb.{e}", f"image/{e}") for e in ("avif", "webp", "jpeg"))
SMALL = Rendition("small", "a.jpg/1/small.webp", "image/webp")


class FakeImages(dict[str, Published]):
    def read(self, image_key: str) -> Published | None:
        return self.get(image_key)


def sent(address: str, best: str = "avif") -> str:
    """What CloudFront's function makes of an address."""
    return f"/{best}/{base64.urlsafe_b64encode(address.encode()).decode().rstrip('=')}"


def ask(address: str, images: dict[str, Published], best: str = "avif", prefixes: tuple[str, ...] = ("",)) -> Answer:
    return locate(sent(address, best), FakeImages(images), Addresses(prefixes=prefixes).delivers)


def ready(*renditions: Rendition) -> dict[str, Published]:
    return {"a.jpg": Published("READY", renditions)}


@pytest.mark.parametrize(
    ("best", "there", "found"),
    [
        ("avif", (JPEG, WEBP, AVIF), AVIF),
        ("webp", (JPEG, WEBP, AVIF), WEBP),
        ("other", (JPEG, WEBP, AVIF), JPEG),
        ("avif", (JPEG, WEBP), WEBP),
        ("webp", (JPEG, AVIF), JPEG),
        # better one that may not show than none
        ("other", (WEBP,), WEBP),
        ("webp", (AVIF,), AVIF),
    ],
)
def test_the_best_format_that_the_browser_takes_is_found(
    best: str, there: tuple[Rendition, ...], found: Rendition
) -> None:
    answer = ask("/i/a.jpg/thumb", ready(SMALL, *there), best)
    assert answer == Answer(302, f"/{found.key}")
    assert answer.headers == {
        "Location": f"/{found.key}",
        "Cache-Control": "public, max-age=60",
        "Vary": "Accept",
    }


@pytest.mark.parametrize(
    ("address", "images", "status"),
    [
        ("/i/unknown.jpg/thumb", ready(WEBP), 404),
        ("/i/a.jpg/huge", ready(WEBP), 404),
        ("/i/a.jpg/thumb", {"a.jpg": Published("DELETED", ())}, 410),
        ("/i/a.jpg/thumb", {"a.jpg": Published("REJECTED", ())}, 404),
        ("/i/a.jpg/thumb/", ready(WEBP), 404),
        ("/i/a.jpg", ready(WEBP), 404),
        ("/i//thumb", ready(WEBP), 404),
        ("/i/%ff/thumb", ready(WEBP), 404),
        (f"/i/{'a' * 1025}/thumb", ready(WEBP), 404),
        ("/i/a.jpg/THUMB", ready(WEBP), 404),
        ("/a.jpg/thumb", ready(WEBP), 404),
    ],
)
def test_what_is_not_there_is_answered_by_its_status(address: str, images: dict[str, Published], status: int) -> None:
    assert ask(address, images) == Answer(status)


@pytest.mark.parametrize("path", ["/", "/i/a.jpg/thumb", "/avif/", "/avif/Z", "/avif/!!", "/tiff/L2kv", "/avif/_w"])
def test_what_cloudfront_did_not_send_is_not_found(path: str) -> None:
    assert locate(path, FakeImages(ready(WEBP)), Addresses().delivers) == Answer(404)


def test_only_what_is_delivered_is_found() -> None:
    images = {key: Published("READY", (Rendition("thumb", f"{key}/1/t.webp", "image/webp"),)) for key in ("s/a", "t/a")}
    found = {key: ask(f"/i/{key}/thumb", images, prefixes=("s/", "u/")).status for key in images}
    assert found == {"s/a": 302, "t/a": 404}


@given(st.text(min_size=1, max_size=300), st.sampled_from(["", "/"]))
def test_every_key_has_an_address_that_leads_to_it(key: str, safe: str) -> None:
    rendition = Rendition("thumb", f"{key}/1/thumb.webp", "image/webp")
    addresses = Addresses("https://images.example.com").of(key, "thumb", rendition.key)
    assert addresses["stable_url"] == f"https://images.example.com/i/{quote(key)}/thumb"
    answer = ask(f"/i/{quote(key, safe=safe)}/thumb", {key: Published("READY", (rendition,))})
    assert f"https://images.example.com{answer.location}" == addresses["url"]


class TestOnDynamoDb:
    def table(self) -> tuple[DynamoDbImages, Stubber]:
        client = boto3.client("dynamodb", region_name="eu-central-1")
        return DynamoDbImages(client, "images"), Stubber(client)

    def test_a_record_is_read_as_far_as_it_matters(self) -> None:
        table, stub = self.table()
        webp, avif = (
            {"M": {"name": {"S": "thumb"}, "key": {"S": one.key}, "content_type": {"S": one.content_type}}}
            for one in (WEBP, AVIF)
        )
        item: Any = {"state": {"S": "READY"}, "renditions": {"L": [webp]}}
        stub.add_response("get_item", {"Item": item})
        stub.add_response("get_item", {"Item": item | {"other_formats": {"L": [avif]}}})
        stub.add_response("get_item", {"Item": {"state": {"S": "DELETED"}}})
        stub.add_response("get_item", {})
        with stub:
            found = [table.read("a.jpg") for _ in range(4)]
        ready = [Published("READY", (WEBP,)), Published("READY", (WEBP, AVIF))]
        assert found == [*ready, Published("DELETED", ()), None]

    def test_a_failing_table_is_a_fault(self) -> None:
        table, stub = self.table()
        stub.add_client_error("get_item", "InternalServerError")
        with stub, pytest.raises(ServiceUnavailable, match="look the image up"):
            table.read("a.jpg")


class TestTheHandler:
    CONTEXT = cast(
        "LambdaContext",
        SimpleNamespace(
            function_name="locate", memory_limit_in_mb=512, invoked_function_arn="arn", aws_request_id="r-1"
        ),
    )

    def call(self, monkeypatch: pytest.MonkeyPatch, images: Any) -> dict[str, Any]:
        monkeypatch.setenv("IMAGES_TABLE", "images")
        monkeypatch.setenv("DELIVERY_PREFIXES", "")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
        from functions.locate_image import app

        monkeypatch.setattr(app, "images", images)
        return app.lambda_handler({"rawPath": sent("/i/a.jpg/thumb")}, self.CONTEXT)

    def test_redirects(self, monkeypatch: pytest.MonkeyPatch) -> None:
        answer = self.call(monkeypatch, FakeImages(ready(WEBP)))
        assert (answer["statusCode"], answer["headers"]["Location"]) == (302, f"/{WEBP.key}")
        json.dumps(answer)
