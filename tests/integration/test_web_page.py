"""The sample page in a real browser: upload, progress, placeholder, picture, replace, delete, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests

from local.config import LocalConfig
from local.emulators import web_page
from local.outcomes import poll
from local.stack import Stack, variables_of
from tests.chromium import PROGRAM, Page, chromium
from tests.integration.calling import Caller, owner_of
from tests.integration.uploading import SAMPLES, SECONDS

MAX_BYTES = 300_000
PHOTO = SAMPLES / "IMG_0042.JPG"
# What the page tells, in its order; and each picture's placeholder at the moment when the picture is put in.
WATCH = """(() => {
  window.told = []; window.placeholders = [];
  new MutationObserver(changes => changes.forEach(({target, addedNodes}) => {
    if (target.role === "status" || target.getAttribute?.("role") === "status") told.push(target.textContent);
    for (const node of addedNodes) if (node.tagName === "IMG") placeholders.push(node.style.backgroundImage);
  })).observe(document.getElementById("list"), {subtree: true, childList: true, characterData: true});
})()"""
STATUS = "document.querySelector('li [role=status]').textContent"
IMG = "document.querySelector('li img')"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    if PROGRAM is None:
        pytest.skip("There is no Chromium or Chrome.")
    # Without delivery, addresses have the emulator's certificate.
    with chromium(tmp_path_factory.mktemp("browser"), ["--ignore-certificate-errors"]) as page:
        yield page


@pytest.fixture(scope="module")
def backend(stack: Stack, config: LocalConfig) -> Iterator[str]:
    web_page.start(config, variables_of(stack) | {"MAX_BYTES": str(MAX_BYTES)})
    yield config.web_url
    web_page.stop(config)


@pytest.fixture
def page(browser: Page, backend: str, stack: Stack) -> Page:
    """The page, with an empty list."""
    bucket = stack.outputs["UploadsBucketName"]
    for found in stack.s3.list_objects_v2(Bucket=bucket, Prefix="web/").get("Contents", []):
        stack.s3.delete_object(Bucket=bucket, Key=found["Key"])
    browser.open(backend)
    browser.run(WATCH)
    return browser


@pytest.fixture
def call(stack: Stack) -> Caller:
    return Caller(stack, owner_of(stack))


def images(call: Caller) -> list[Any]:
    found: list[Any] = call("GET", "/images", prefix="web/")[1]["images"]
    return found


def test_a_photo_is_uploaded_shown_replaced_and_deleted(page: Page, backend: str, call: Caller) -> None:
    # when a photo is chosen
    page.choose("#photos", PHOTO)
    # then the page reports its progress, then a placeholder and the picture are shown
    assert page.wait_for(f"{STATUS}.startsWith('Ready') && {STATUS}").startswith("Ready: 1353 × 900 pixels, taken 2023")
    told = page.run("told")
    assert told[0] == "Asking for a form"
    assert "Uploading: 100 %" in told
    assert told[-2] == "Uploaded; waiting for its renditions"
    assert page.run("placeholders")[0].startswith('url("data:image/png;base64,')
    page.wait_for(f"{IMG}.complete && {IMG}.naturalWidth && !{IMG}.style.backgroundImage")
    (image,) = images(call)
    shown = page.run(f"[{IMG}.currentSrc, {IMG}.alt, {IMG}.width > 0]")
    assert shown[1:] == ["IMG_0042.JPG", True]
    assert urls_without_signature(shown[0]) in map(urls_without_signature, [r["url"] for r in image["renditions"]])
    source = page.run("(s => [s.type, s.srcset.split(', ').length, s.sizes])(document.querySelector('source'))")
    assert source == ["image/webp", 4, "(min-width: 45rem) 20rem, 100vw"]
    # when it is replaced
    page.choose("li input", SAMPLES / "rocket-turned.jpg")
    page.wait_for(f"{STATUS}.startsWith('Ready') && !{STATUS}.includes('1353')")
    # then it is the same image with another version
    (replaced,) = images(call)
    assert replaced["key"] == image["key"]
    assert replaced["version_id"] != image["version_id"]
    # when the page is opened again, then it is there
    page.open(backend)
    page.wait_for(f"{STATUS}.startsWith('Ready')")
    # when it is deleted, by the keyboard alone
    page.run("document.querySelector('.replace').focus()")
    page.press("Tab")
    assert page.run("document.activeElement.getAttribute('aria-label')") == "Delete IMG_0042.JPG"
    page.press("Enter")
    # then it is gone, and the keyboard goes on at the next control
    page.wait_for("!document.querySelector('li')")
    assert page.run("document.activeElement.id") == "photos"
    path = f"/images/{quote(image['key'])}"
    deleted = poll(lambda: call("GET", path)[1], lambda found: found.get("state") == "DELETED", seconds=SECONDS)
    assert deleted["state"] == "DELETED"
    assert images(call) == []


def urls_without_signature(url: str) -> str:
    return url.partition("?")[0]


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        ("bitmap.jpg", "(UnsupportedFormat)"),
        ("notes.txt", "that end in .jpg"),
        ("large.jpg", "S3 refused it: "),
    ],
    ids=["another format", "another name", "too large"],
)
def test_a_refused_file_is_reported_with_its_reason(page: Page, file: str, reason: str, tmp_path: Path) -> None:
    path = SAMPLES / "faulty" / file
    if not path.exists():
        path = tmp_path / file
        path.write_bytes(b"x" * (MAX_BYTES + 1 if "large" in file else 10))
    page.choose("#photos", path)
    status = page.wait_for(f"{STATUS}.startsWith('Failed') && {STATUS}")
    assert reason in status
    assert "large" not in file or "(EntityTooLarge)" in status
    assert page.run("document.querySelector('li progress').hidden")


def test_each_control_has_a_name_for_screen_readers(page: Page) -> None:
    page.choose("#photos", PHOTO)
    page.wait_for(f"{IMG}.complete && {IMG}.naturalWidth")
    page.run("document.querySelector('li progress').hidden = false")  # as it is while it uploads
    found = page.named()
    assert ("progressbar", "Upload of IMG_0042.JPG") in found
    buttons = sorted(name for role, name in found if role == "button")
    assert [name.partition(":")[0] for name in buttons] == [
        "Delete IMG_0042.JPG",
        "Photos to upload",
        "Replace IMG_0042.JPG",
    ]
    assert ("image", "IMG_0042.JPG") in found or ("img", "IMG_0042.JPG") in found
    assert any(role == "status" for role, _ in found)
    assert [role for role, name in found if role in ("button", "image", "img", "list", "heading") and not name] == []


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "http://localhost:1"},
        {"Origin": "null"},
        {"Host": "evil.example"},
    ],
    ids=["another site", "another port", "another origin", "an origin of this machine", "no origin", "another name"],
)
def test_the_backend_answers_its_own_page_alone(backend: str, headers: dict[str, str]) -> None:
    if "Host" in headers:
        assert requests.get(backend, headers=headers, timeout=60).status_code == 403
    for method, path in (("GET", "images"), ("POST", "form"), ("DELETE", "image?key=web/a.jpg")):
        assert requests.request(method, backend + path, headers=headers, timeout=60).status_code == 403


def test_no_other_page_shows_the_page_in_a_frame(backend: str) -> None:
    assert requests.get(backend, timeout=60).headers["Content-Security-Policy"] == "frame-ancestors 'none'"


def test_the_backend_knows_no_images_but_the_pages(backend: str, stack: Stack) -> None:
    bucket, key = stack.outputs["UploadsBucketName"], "not-the-pages.txt"
    stack.s3.put_object(Bucket=bucket, Key=key, Body=b"mine")
    for other in (key, "web/../../orders/o-1"):
        assert requests.get(f"{backend}image?key={other}", timeout=60).status_code == 400
    assert requests.delete(f"{backend}image?key={key}", timeout=60).status_code == 400
    assert requests.post(f"{backend}form", json={"name": "a.jpg", "key": key}, timeout=60).status_code == 400
    assert stack.s3.head_object(Bucket=bucket, Key=key)
