"""Which hosts and pages the emulators answer."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from local.emulators import ministack_guard
from local.emulators.guard import host_fault, is_from_elsewhere
from local.emulators.ministack_guard import guarded


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:4566", "localhost:4566", "LOCALHOST", "host.docker.internal:4566", "uploads.s3.localhost:4566"],
)
def test_the_stacks_names_are_answered(host: str) -> None:
    assert host_fault([host]) == ""


@pytest.mark.parametrize(
    "hosts",
    [
        [],
        [""],
        ["evil.example"],
        ["127.0.0.1.evil.example"],
        ["localhost.evil.example"],
        ["evil.example:4566"],
        ["xlocalhost"],
        ["user@evil.example"],
        ["user@127.0.0.1"],
        ["127.0.0.1."],
        ["localhost."],
        ["127.1"],
        ["2130706433"],
        ["[::1]"],
        ["127.0.0.1:4566:4566"],
        ["127.0.0.1 evil.example"],
        ["evil.example#.localhost"],
        ["evil.example?.localhost"],
        ["[::1]:4566"],
        ["127.0.0.1", "evil.example"],
        ["[::ffff:127.0.0.1]"],
        ["0.0.0.0"],  # noqa: S104
    ],
)
def test_any_other_name_is_refused(hosts: list[str]) -> None:
    assert "accepts only the hosts 127.0.0.1" in host_fault(hosts)


@pytest.mark.parametrize(
    ("origin", "fetch_site", "foreign"),
    [
        (None, None, False),
        (None, "none", False),
        (None, "same-origin", False),
        ("http://127.0.0.1:4566", "same-origin", False),
        ("http://127.0.0.1:3000", "same-site", True),
        ("http://localhost:4566", "cross-site", True),
        ("https://evil.example", "cross-site", True),
        ("null", None, True),
        ("", None, True),
        (None, "cross-site", True),
        (None, "same-site", True),
        (None, "Cross-Site", True),
        (None, "same-origin,cross-site", True),
        ("http://127.0.0.1:4566.evil.example", None, True),
        ("http://evil.example@127.0.0.1:4566", None, True),
        ("http://127.0.0.1:4566/", None, True),
        ("http://127.0.0.1:4566,https://evil.example", None, True),
        ("https://evil.example/127.0.0.1:4566", None, True),
        ("http://[", None, True),
        ("file://127.0.0.1:4566", None, True),
        ("https://127.0.0.1:4566", None, False),
    ],
)
def test_a_page_of_another_origin_is_recognised(origin: str | None, fetch_site: str | None, foreign: bool) -> None:
    assert is_from_elsewhere("127.0.0.1:4566", origin, fetch_site) is foreign


def _status(
    method: str,
    path: str,
    query: str = "",
    headers: Mapping[str, str] | None = None,
    public: Any = lambda _: None,
) -> int:
    """What an emulator that answers everything answers behind the guard."""
    told: list[dict[str, Any]] = []

    async def anything(_: Any, __: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    async def send(message: dict[str, Any]) -> None:
        told.append(message)

    lines = {"host": "127.0.0.1:4566"} | dict(headers or {})
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in lines.items()],
        "client": ("127.0.0.1", 50_000),
    }
    asyncio.run(guarded(anything, public=public)(scope, receive, send))
    return int(told[0]["status"])


@pytest.fixture
def _no_ministack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        ministack_guard, "_signature_fault", lambda *_: ("MissingAuthenticationToken", "Sign the request.")
    )


pytestmark = pytest.mark.usefixtures("_no_ministack")


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/_ministack/health"), ("GET", "/_aws/execute-api/a1b2/v1/results")]
)
@pytest.mark.parametrize(
    ("query", "status"),
    [("", 200), ("AWSAccessKeyId=test", 403), ("awsaccesskeyid=test", 403), ("X-Amz-Credential=test/a/b/sqs/c", 403)],
)
def test_what_needs_no_signature_must_not_name_a_key(method: str, path: str, query: str, status: int) -> None:
    # MiniStack takes some keys for its administrator's, and believes them in the query without a signature
    assert _status(method, path, query) == status


@pytest.mark.parametrize("host", ["x.cloudfront.localhost", "uploads.s3.localhost:4566"])
@pytest.mark.parametrize("path", ["/", "/_aws/execute-api/a1b2/v1/results", "/index.html"])
def test_another_host_needs_a_signature(host: str, path: str) -> None:
    assert _status("GET", path, headers={"host": host}) == 403


@pytest.mark.parametrize(
    "path",
    [
        "/_aws/execute-api/",
        "/_aws/execute-api/a1b2",
        "/x/_aws/execute-api/a1b2/v1/results",
        "/_aws/Execute-Api/a1b2/v1/results",
    ],
)
def test_only_a_path_that_leads_to_an_api_needs_no_signature(path: str) -> None:
    assert _status("GET", path) == 403


def test_nor_does_one_that_names_an_action() -> None:
    headers = {"x-amz-target": "DynamoDB_20120810.ListTables"}
    assert _status("POST", "/_aws/execute-api/a1b2/v1/results", headers=headers) == 403


@pytest.mark.parametrize(("bucket", "status"), [(("uploads", "key"), 204), (None, 403)])
def test_the_question_before_an_upload_from_a_page_gets_the_buckets_answer_alone(
    monkeypatch: pytest.MonkeyPatch, bucket: tuple[str, str] | None, status: int
) -> None:
    monkeypatch.setattr(ministack_guard, "_bucket_and_key", lambda _: bucket)
    monkeypatch.setattr(ministack_guard, "_preflight_answer", lambda *_: (204, b"", {}))
    asked = {"origin": "http://127.0.0.1:4566", "x-amz-target": "AmazonSQS.ListQueues"}
    assert _status("OPTIONS", "/uploads/key", "AWSAccessKeyId=test&Action=ListUsers", asked) == status


@pytest.mark.parametrize(
    ("method", "path", "query", "status"),
    [
        ("GET", "/a.webp", "", 206),
        ("HEAD", "/_ministack/reset", "", 206),
        ("GET", "/", "Action=ListQueues&AWSAccessKeyId=test", 206),
        ("POST", "/", "Action=ListQueues&AWSAccessKeyId=test", 403),
        ("PUT", "/a.webp", "", 403),
    ],
)
def test_public_files_are_read_apart_from_everything_else(method: str, path: str, query: str, status: int) -> None:
    async def files(_: Any, __: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 206})

    foreign = {"host": "images.localhost", "origin": "https://evil.example", "x-amz-target": "DynamoDB_20120810.Scan"}
    public = {"images.localhost": files}.get
    assert _status(method, path, query, foreign, public) == status
    # and another host does not lead there
    assert _status(method, path, query, {"host": "other.localhost"}, public) == 403
