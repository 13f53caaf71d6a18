"""The API's requests and answers on LocalStack, which maps them as API Gateway does."""

from __future__ import annotations

import json
from typing import Any

import pytest

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
