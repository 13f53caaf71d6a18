"""The API's requests and answers on LocalStack, which maps them as API Gateway does."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest

from functions.answer_requests.requests import json_body, path_parameter, query_of
from tests.api_expectations import *  # noqa: F403 # the tests and their fixture
from tests.api_expectations import ORDER, TASK, Api


@pytest.mark.parametrize(("path", "body"), [("/image-tasks", TASK), ("/orders", ORDER)])
def test_submits_the_body_unchanged(api: Api, path: str, queue: str, body: dict[str, Any]) -> None:
    text = json.dumps(body, indent=1, ensure_ascii=False)

    answer = api.call("POST", path, data=text.encode(), headers={"Content-Type": "application/json"})

    assert answer.status_code == 202, answer.text
    (message,) = api.sqs.receive_message(QueueUrl=api.queues[queue])["Messages"]
    assert answer.json() == {"message_id": message["MessageId"]}
    assert message["Body"] == text


def test_hands_the_function_what_it_reads(api: Api) -> None:
    """The path comes encoded, the query decoded."""
    key, prefix = "a b/ü+%20&c=1.jpg", "x y+&="
    image = api.call("GET", f"/images/{quote(key)}").json()
    index = api.call("GET", "/images", params={"prefix": prefix, "limit": "3"}).json()
    order = api.call("GET", f"/orders/{quote('a/b 1', safe='')}").json()
    upload = api.call("POST", "/uploads", json={"key": "ü.jpg"}).json()
    assert (image["httpMethod"], image["resource"]) == ("GET", "/images/{key+}")
    assert path_parameter(image, "key") == key
    assert (index["resource"], query_of(index)) == ("/images", {"prefix": prefix, "limit": "3"})
    assert (order["resource"], path_parameter(order, "order_id")) == ("/orders/{order_id}", "a/b 1")
    assert (upload["httpMethod"], upload["resource"], json_body(upload)) == ("POST", "/uploads", {"key": "ü.jpg"})
