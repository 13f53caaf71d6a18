"""A photo over HTTP: a signed form, an upload, the record with its URLs, the index, the deletion."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest
import requests

from local.config import LocalConfig
from local.outcomes import poll
from local.stack import Stack
from tests.integration.browsing import Download, post_form
from tests.integration.calling import Caller, owner_of
from tests.integration.uploading import SAMPLES, SECONDS

PHOTO = (SAMPLES / "IMG_0042.JPG").read_bytes()


@pytest.fixture
def call(stack: Stack) -> Caller:
    return Caller(stack, owner_of(stack))


def test_a_photo_is_uploaded_by_a_form_looked_up_and_deleted(stack: Stack, config: LocalConfig, call: Caller) -> None:
    # given a form for a key with characters that mean something in addresses
    folder = f"forms-{uuid4()}"
    key = f"{folder}/Käthe + Otto 100%.jpg"
    path = f"/images/{quote(key)}"
    status, form, _ = call("POST", "/uploads", {"key": key, "content_type": "image/jpeg"})
    assert status == 200
    assert call("GET", path)[0] == 404
    # when the browser posts it
    answer = post_form(form, PHOTO, config)
    # then the record shows this version, with addresses that work
    assert answer.status_code == 201, answer.text
    image = poll(lambda: call("GET", path)[1], lambda found: found.get("state") == "READY", seconds=SECONDS)
    assert image["version_id"] == answer.headers["x-amz-version-id"]
    assert (image["key"], image["width"], image["height"]) == (key, 1353, 900)
    for rendition in image["renditions"]:
        shown = Download(stack, rendition["url"])
        assert (shown.status, shown.headers["content-type"]) == (200, rendition["content_type"])
        assert len(shown.body) == rendition["bytes"]
        assert rendition["stable_url"].endswith(f"/i/{quote(key)}/{rendition['name']}")
    assert image["srcset"]["image/webp"].count("w,") == len(image["renditions"]) - 1
    # and the index shows it, and an upload without a record
    stack.s3.put_object(Bucket=stack.outputs["UploadsBucketName"], Key=f"{folder}/notes.txt", Body=b"no image")
    first = call("GET", "/images", prefix=f"{folder}/", limit=1)[1]
    second = call("GET", "/images", prefix=f"{folder}/", limit=1, cursor=first["next_cursor"])[1]
    assert [(i["key"], i["state"]) for i in first["images"] + second["images"]] == [
        (key, "READY"),
        (f"{folder}/notes.txt", "PENDING"),
    ]
    assert second["next_cursor"] is None
    # when it is deleted
    stack.s3.delete_object(Bucket=stack.outputs["UploadsBucketName"], Key=key)
    # then the record says so, and the index no longer has it
    deleted = poll(lambda: call("GET", path)[1], lambda found: found.get("state") == "DELETED", seconds=SECONDS)
    assert deleted["state"] == "DELETED"
    assert [i["key"] for i in call("GET", "/images", prefix=f"{folder}/")[1]["images"]] == [f"{folder}/notes.txt"]


@pytest.mark.parametrize(
    ("body", "fields", "file", "refused"),
    [
        ({"key": "{folder}/a.jpg"}, {"key": "{folder}/b.jpg"}, PHOTO, "AccessDenied"),
        ({"prefix": "{folder}/47/"}, {"key": "{folder}/470/a.jpg"}, PHOTO, "AccessDenied"),
        ({"key": "{folder}/a.jpg", "max_bytes": 1000}, {}, PHOTO, "EntityTooLarge"),
        ({"key": "{folder}/a.jpg"}, {}, b"", "EntityTooSmall"),
        ({"key": "{folder}/a.jpg"}, {"Content-Type": "text/html"}, PHOTO, "AccessDenied"),
        ({"key": "{folder}/a.jpg", "content_type": "image/png"}, {"Content-Type": "image/jpeg"}, PHOTO, "AccessDenied"),
        ({"key": "{folder}/a.jpg"}, {"x-amz-signature": "0" * 64}, PHOTO, "SignatureDoesNotMatch"),
    ],
    ids=["another key", "another folder", "too large", "empty", "no image", "another type", "forged"],
)
def test_s3_refuses_what_the_form_does_not_allow(
    stack: Stack, config: LocalConfig, call: Caller, body: dict[str, Any], fields: Any, file: bytes, refused: str
) -> None:
    folder = f"forms-{uuid4()}"

    def filled(values: dict[str, Any]) -> dict[str, Any]:
        return {k: v.replace("{folder}", folder) if isinstance(v, str) else v for k, v in values.items()}

    _, form, _ = call("POST", "/uploads", filled(body))
    answer = post_form(form, file, config, **filled(fields))
    assert answer.status_code in (400, 403)
    assert f"<Code>{refused}</Code>" in answer.text
    assert "Contents" not in stack.s3.list_objects_v2(Bucket=stack.outputs["UploadsBucketName"], Prefix=folder)


def test_a_form_for_a_folder_takes_the_browsers_file_name(stack: Stack, config: LocalConfig, call: Caller) -> None:
    folder = f"forms-{uuid4()}/"
    _, form, _ = call("POST", "/uploads", {"prefix": folder})
    assert post_form(form, PHOTO, config).status_code == 201
    (found,) = stack.s3.list_objects_v2(Bucket=stack.outputs["UploadsBucketName"], Prefix=folder)["Contents"]
    assert found["Key"] == f"{folder}lake.jpg"


def test_a_large_file_is_uploaded_in_parts_as_documented(stack: Stack, config: LocalConfig, call: Caller) -> None:
    # given the parts' addresses, as the backend of docs/web.md makes them
    bucket, key = stack.outputs["UploadsBucketName"], f"parts-{uuid4()}.jpg"
    upload_id = stack.s3.create_multipart_upload(Bucket=bucket, Key=key, ContentType="image/jpeg")["UploadId"]
    of_the_upload = {"Bucket": bucket, "Key": key, "UploadId": upload_id}
    url = stack.s3.generate_presigned_url("upload_part", of_the_upload | {"PartNumber": 1}, ExpiresIn=3600)
    # when a page puts its part, from an origin that UploadOrigins names
    origin = config.web_url.rstrip("/")
    answer = requests.put(url, PHOTO, headers={"Origin": origin}, timeout=60)
    parts: Any = {"Parts": [{"PartNumber": 1, "ETag": answer.headers["ETag"]}]}
    stack.s3.complete_multipart_upload(Bucket=bucket, Key=key, UploadId=upload_id, MultipartUpload=parts)
    # then its script may read the ETag, and the photo is rendered
    assert answer.headers["Access-Control-Allow-Origin"] == origin
    assert "ETag" in answer.headers["Access-Control-Expose-Headers"]
    image = poll(lambda: call("GET", f"/images/{key}")[1], lambda found: found.get("state") == "READY", seconds=SECONDS)
    assert image.get("state") == "READY"
