"""Every address of a picture, as a browser asks for it: CloudFront, both functions, the bucket."""

from __future__ import annotations

import io
import json
import shutil
from urllib.parse import quote

import pytest
from rich.console import Console

from local.outcomes import poll
from local.stack import Stack
from operations import url
from tests.console import said
from tests.integration.browsing import Download
from tests.integration.uploading import SAMPLES, SECONDS, image, new_key, upload, wait_for

with_node = pytest.mark.skipif(not shutil.which("node"), reason="the emulator runs CloudFront's function with node")

CHROME = "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"
OLDER = "image/webp,image/png,image/*;q=0.8"
KEPT_FOR_A_YEAR = "public, max-age=31536000, immutable"


def published(stack: Stack, key: str, sample: str = "IMG_0042.JPG") -> dict[str, str]:
    """Upload a photo; returns the keys of its renditions by name."""
    _, task_id = upload(stack, key, SAMPLES / sample)
    wait_for(stack, task_id)
    return {rendition["name"]: rendition["key"] for rendition in image(stack, key)["renditions"]}


def immutable(stack: Stack, key: str) -> str:
    return f"{stack.outputs['ImagesUrl']}/{quote(key)}"


def stable(stack: Stack, key: str, name: str = "thumb") -> str:
    return f"{stack.outputs['ImagesUrl']}/i/{quote(key)}/{name}"


def test_a_rendition_is_served_as_it_is_stored(stack: Stack) -> None:
    # given a photo under a name that looks like a stable address
    key = published(stack, "i/" + new_key("Käthe + Otto 100 %.jpg"))["thumb"]
    stored = stack.s3.get_object(Bucket=stack.outputs["RenditionsBucketName"], Key=key)["Body"].read()
    # when anybody asks for it
    answer = Download(stack, immutable(stack, key), Accept=CHROME, **{"Accept-Encoding": "gzip, br"})
    # then
    assert (answer.status, answer.body) == (200, stored)
    assert answer.headers["content-type"] == "image/webp"
    assert answer.headers["cache-control"] == KEPT_FOR_A_YEAR
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"] == "default-src 'none'"
    assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
    assert "content-encoding" not in answer.headers
    assert "access-control-allow-origin" not in answer.headers
    # and what is there already is not sent again
    again = Download(stack, immutable(stack, key), **{"If-None-Match": answer.headers["etag"]})
    assert (again.status, again.body) == (304, b"")
    part = Download(stack, immutable(stack, key), Range="bytes=0-3")
    assert (part.status, part.body) == (206, b"RIFF")
    head = Download(stack, immutable(stack, key), "HEAD")
    assert (head.status, head.body) == (200, b"")


def test_make_url_prints_addresses_that_work(stack: Stack) -> None:
    key = new_key("Käthe [1].jpg")
    rendition = published(stack, key)["small"]
    console = Console(file=io.StringIO(), highlight=False)
    assert url.run(stack, key, "small", console) == 0
    addresses = [line.split()[2] for line in said(console).splitlines()]
    assert addresses == [immutable(stack, rendition), stable(stack, key, "small")]
    assert Download(stack, addresses[0]).status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_nobody_can_write(stack: Stack, method: str) -> None:
    assert Download(stack, immutable(stack, "a.webp"), method).status == 403
    assert Download(stack, stable(stack, "a.jpg"), method).status == 403


def test_nothing_else_of_the_bucket_is_open(stack: Stack) -> None:
    assert Download(stack, immutable(stack, "unknown.jpg/1/thumb.webp")).status == 403
    assert Download(stack, stack.outputs["ImagesUrl"] + "/").status == 403
    bucket = stack.outputs["RenditionsBucketName"]
    assert Download(stack, f"{stack.endpoint_url}/{bucket}/unknown.jpg/1/thumb.webp").status == 403
    (allowed,) = [
        s
        for s in json.loads(stack.s3.get_bucket_policy(Bucket=bucket)["Policy"])["Statement"]
        if s["Effect"] == "Allow"
    ]
    assert (allowed["Sid"], set(allowed["Resource"])) == ("OnlyOurDistribution", {f"arn:aws:s3:::{bucket}/*"})


@with_node
def test_a_stable_address_follows_the_picture(stack: Stack) -> None:
    # given a published photo
    key = new_key("Käthe 1.jpg")
    first = published(stack, key)
    answer = Download(stack, stable(stack, key))
    assert (answer.status, answer.headers["location"]) == (302, f"/{quote(first['thumb'])}")
    assert answer.headers["cache-control"] == "public, max-age=60"
    assert answer.headers["vary"] == "Accept"
    assert answer.headers["x-content-type-options"] == "nosniff"
    # when it is overwritten
    second = published(stack, key, "rocket-turned.jpg")
    # then the address leads to the new one, in each size
    for name in ("thumb", "large"):
        assert Download(stack, stable(stack, key, name)).headers["location"] == f"/{quote(second[name])}"
    # and when it is deleted, the address says so
    stack.s3.delete_object(Bucket=stack.outputs["UploadsBucketName"], Key=key)
    wait_until_deleted(stack, key)
    gone = Download(stack, stable(stack, key))
    assert (gone.status, gone.headers["cache-control"]) == (410, "public, max-age=60")
    # and its renditions, which go after the record, are there no more
    rendition = immutable(stack, second["thumb"])
    assert poll(lambda: Download(stack, rendition).status, lambda status: status == 403, seconds=SECONDS) == 403


def wait_until_deleted(stack: Stack, key: str) -> None:
    state = poll(lambda: image(stack, key)["state"], lambda state: state == "DELETED", seconds=SECONDS)
    assert state == "DELETED"


@with_node
def test_what_is_unknown_is_not_found(stack: Stack) -> None:
    answer = Download(stack, stable(stack, new_key()))
    assert (answer.status, answer.headers["cache-control"]) == (404, "public, max-age=10")
    assert Download(stack, f"{stack.outputs['ImagesUrl']}/i/x").status == 404


@with_node
@pytest.mark.parametrize(
    ("accept", "extension"),
    [(CHROME, "avif"), (OLDER, "webp"), ("*/*", "jpg"), ("", "jpg")],
    ids=["AVIF", "WebP", "anything", "nothing said"],
)
def test_the_browser_gets_a_format_that_it_takes(stack: Stack, accept: str, extension: str) -> None:
    # given a record with a rendition in three formats
    key = new_key()
    types = {"jpg": "image/jpeg", "webp": "image/webp", "avif": "image/avif"}
    main, *others = [
        {"M": {"name": {"S": "thumb"}, "key": {"S": f"{key}/1/thumb.{e}"}, "content_type": {"S": content_type}}}
        for e, content_type in types.items()
    ]
    stack.dynamodb.put_item(
        TableName=stack.outputs["ImagesTableName"],
        Item={
            "image_key": {"S": key},
            "state": {"S": "READY"},
            "renditions": {"L": [main]},
            "other_formats": {"L": others},
        },
    )
    # then
    headers = {"Accept": accept} if accept else {}
    assert Download(stack, stable(stack, key), **headers).headers["location"] == f"/{key}/1/thumb.{extension}"


def test_nobody_but_cloudfront_reaches_the_function(stack: Stack) -> None:
    function = stack.outputs["LocateImageFunctionName"]
    url = stack.lambda_.get_function_url_config(FunctionName=function)
    assert url["AuthType"] == "AWS_IAM"
    statements = json.loads(stack.lambda_.get_policy(FunctionName=function)["Policy"])["Statement"]
    assert {s["Principal"]["Service"] for s in statements} == {"cloudfront.amazonaws.com"}
    assert all(":distribution/" in str(s["Condition"]) for s in statements)
