"""The queues over HTTP: every method, its parameters and its errors, signed as a caller signs."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from time import monotonic
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from local.inventory import set_stock
from local.outcomes import poll, wait_for_orders
from local.stack import Stack
from tests.api_expectations import READ, SUBMIT
from tests.integration.calling import Answer, Caller, owner_of
from tests.integration.roles import not_allowed
from tests.integration.uploading import SECONDS

ORDER = {
    "order_id": "api-1",
    "customer_id": "c-1",
    "items": [{"product_id": "nobody-sells-it", "quantity": 1, "unit_price": "12.50"}],
    "amount": "12.50",
    "currency": "EUR",
    "payment_method": "pm_card_visa",
}


@pytest.fixture(scope="module")
def call(stack: Stack) -> Caller:
    return Caller(stack, owner_of(stack))


@pytest.fixture
def _empty_queues(stack: Stack) -> Iterator[None]:
    """Take away what others left. What they still do may bring more at any time."""

    def empty() -> None:
        for queue in READ.values():
            stack.sqs.purge_queue(QueueUrl=stack.outputs[f"{queue}Url"])

    empty()
    yield
    empty()


@pytest.fixture
def put(stack: Stack, _empty_queues: None) -> Callable[..., str]:
    """Puts a message where the API reads; returns its id."""

    def send(path: str, body: str = "hello", **attributes: str) -> str:
        sent = stack.sqs.send_message(
            QueueUrl=stack.outputs[f"{READ[path]}Url"],
            MessageBody=body,
            MessageAttributes={k: {"DataType": "String", "StringValue": v} for k, v in attributes.items()},
        )
        return sent["MessageId"]

    return send


@pytest.fixture
def caller_with(stack: Stack) -> Iterator[Callable[[list[dict[str, Any]]], Caller]]:
    """Makes callers that may do what some statements say, and nothing else."""
    iam = stack.client("iam")
    names: list[str] = []

    def make(statements: list[dict[str, Any]]) -> Caller:
        name = f"caller-{uuid4().hex[:8]}"
        iam.create_user(UserName=name)
        names.append(name)
        if statements:
            policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
            iam.put_user_policy(UserName=name, PolicyName="calls", PolicyDocument=policy)
        key = iam.create_access_key(UserName=name)["AccessKey"]
        return Caller(stack, Credentials(key["AccessKeyId"], key["SecretAccessKey"]))

    yield make
    for name in names:
        for key in iam.list_access_keys(UserName=name)["AccessKeyMetadata"]:
            iam.delete_access_key(UserName=name, AccessKeyId=key["AccessKeyId"])
        for policy in iam.list_user_policies(UserName=name)["PolicyNames"]:
            iam.delete_user_policy(UserName=name, PolicyName=policy)
        iam.delete_user(UserName=name)


def messages_of(answer: Answer) -> list[dict[str, Any]] | None:
    status, body, _ = answer
    assert status == 200, body
    return body["ReceiveMessageResponse"]["ReceiveMessageResult"]["messages"]  # type: ignore[no-any-return]


def read(call: Caller, path: str, ids: Collection[str], **parameters: Any) -> list[dict[str, Any]]:
    """What a read answers of these messages, read again while it answers only what others did late."""

    def of_these() -> list[dict[str, Any]]:
        return [m for m in messages_of(call("GET", path, **parameters)) or [] if m["MessageId"] in ids]

    return poll(of_these, bool, seconds=SECONDS)


def error_of(answer: Answer, status: int) -> dict[str, str]:
    """The one shape that every error has."""
    got, body, headers = answer
    assert got == status, body
    assert headers["Content-Type"] == "application/json"
    assert body.keys() == {"error"}
    assert {"code", "message"} <= body["error"].keys() <= {"code", "message", "allowed"}
    assert all(isinstance(value, str) and value for value in body["error"].values())
    return body["error"]  # type: ignore[no-any-return]


@pytest.mark.parametrize("path", READ)
def test_a_message_is_read_and_acknowledged(path: str, call: Caller, put: Callable[..., str]) -> None:
    message_id = put(path, '{"a": "ü & = + %"}')

    (message,) = read(call, path, {message_id})
    assert message["Body"] == '{"a": "ü & = + %"}'
    assert (message["Attributes"], message["MessageAttributes"]) == (None, None)

    status, body, _ = call("DELETE", path, ReceiptHandle=message["ReceiptHandle"])
    assert (status, list(body)) == (200, ["DeleteMessageResponse"])
    left = messages_of(call("GET", path, VisibilityTimeout=0, WaitTimeSeconds=0, MaxNumberOfMessages=10)) or []
    assert message_id not in {message["MessageId"] for message in left}


@pytest.mark.parametrize("path", READ)
def test_each_parameter_reaches_the_queue(path: str, call: Caller, put: Callable[..., str]) -> None:
    own = [put(path, error_code="NotAnImage", task_id="t-1") for _ in range(4)]

    found = messages_of(call("GET", path, MaxNumberOfMessages=2, VisibilityTimeout=0, AttributeName="All")) or []
    assert len(found) == 2
    assert {"SentTimestamp", "ApproximateReceiveCount"} <= {a["Name"] for a in found[0]["Attributes"]}

    # Messages that are not hidden are delivered again; hidden ones are not.
    hiding: dict[str, Any] = {"MaxNumberOfMessages": 10, "VisibilityTimeout": 600, "MessageAttributeName": "task_id"}
    found = messages_of(call("GET", path, **hiding)) or []
    # Dead letters may have 1 MiB each, and API Gateway answers 10 MB.
    assert len(found) >= 4 if path == "/results" else len(found) == 3
    while more := messages_of(call("GET", path, WaitTimeSeconds=0, **hiding)):
        found += more
    ours = [message for message in found if message["MessageId"] in own]
    assert sorted(message["MessageId"] for message in ours) == sorted(own)
    (attribute,) = ours[0]["MessageAttributes"]
    assert (attribute["Name"], attribute["Value"]["StringValue"]) == ("task_id", "t-1")

    def wait() -> tuple[list[dict[str, Any]] | None, float]:
        begun = monotonic()
        return messages_of(call("GET", path, WaitTimeSeconds=1)), monotonic() - begun

    found_late, seconds = poll(wait, lambda waited: waited[0] is None, seconds=SECONDS)
    assert found_late is None
    assert 0.9 <= seconds < 9  # the queue of the results waits for ten seconds by itself


@pytest.mark.parametrize("attribute", ["SentTimestamp", "ApproximateReceiveCount", "ApproximateFirstReceiveTimestamp"])
def test_one_attribute_can_be_requested(attribute: str, call: Caller, put: Callable[..., str]) -> None:
    put("/results")
    (message,) = messages_of(call("GET", "/results", AttributeName=attribute)) or []
    assert [a["Name"] for a in message["Attributes"]] == [attribute]


def test_all_attributes_of_a_message_can_be_requested(call: Caller, put: Callable[..., str]) -> None:
    message_id = put("/results", error_code="NotAnImage", task_id="t-1")
    (message,) = read(call, "/results", {message_id}, MessageAttributeName="All")
    assert {a["Name"] for a in message["MessageAttributes"]} == {"error_code", "task_id"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MaxNumberOfMessages", 0),
        ("MaxNumberOfMessages", 11),
        ("MaxNumberOfMessages", "many"),
        ("VisibilityTimeout", -1),
        ("VisibilityTimeout", 43201),
        ("WaitTimeSeconds", 21),
        ("AttributeName", "Colour"),
    ],
)
@pytest.mark.parametrize("path", READ)
def test_a_parameter_out_of_range_is_refused_with_what_is_allowed(
    path: str, name: str, value: Any, call: Caller
) -> None:
    error = error_of(call("GET", path, **{name: value}), 400)
    assert str(value) in error["message"]
    assert name in error["allowed"]


@pytest.mark.parametrize("path", READ)
def test_a_deletion_needs_a_handle_of_this_queue(path: str, call: Caller) -> None:
    missing = error_of(call("DELETE", path), 400)
    assert missing["code"] == "BAD_REQUEST_PARAMETERS"
    assert "ReceiptHandle" in missing["message"]

    wrong = error_of(call("DELETE", path, ReceiptHandle="no handle"), 400)
    assert wrong["code"] == "ReceiptHandleIsInvalid"
    assert "ReceiptHandle" in wrong["allowed"]


def test_an_order_is_submitted_and_fulfilled(stack: Stack, call: Caller) -> None:
    order_id = f"api-{uuid4().hex}"
    set_stock(stack, {"nobody-sells-it": 0})
    status, body, _ = call("POST", "/orders", {**ORDER, "order_id": order_id, "note": "ü & = + %"})

    assert (status, list(body)) == (202, ["message_id"])
    # There is no stock of it. That it was rejected for that says that the function read it as it was sent.
    order = wait_for_orders(stack, [order_id], seconds=SECONDS)[order_id]
    assert (order["state"], order["rejection"]["code"]) == ("REJECTED", "OutOfStock")
    # And it can be looked up.
    status, shown, _ = call("GET", f"/orders/{order_id}")
    assert (status, shown["state"], shown["rejection"]["code"]) == (200, "REJECTED", "OutOfStock")
    assert [entry["state"] for entry in shown["history"]][:1] == ["RECEIVED"]
    assert "customer_id" not in shown


@pytest.mark.usefixtures("_empty_queues")
def test_an_image_task_is_submitted_and_read(stack: Stack, call: Caller) -> None:
    task = {"task_id": f"api-{uuid4().hex}", "bucket": stack.outputs["UploadsBucketName"], "key": "ü & = + %.jpg"}
    status, body, _ = call("POST", "/image-tasks", task)

    assert (status, list(body)) == (202, ["message_id"])

    # There is no such photo: the dead letter tells, and is read over HTTP too.
    def read_letters() -> list[dict[str, Any]]:
        letters = messages_of(call("GET", "/dead-letters/images", WaitTimeSeconds=20, MessageAttributeName="All")) or []
        return [letter for letter in letters if json.loads(letter["Body"]) == task]

    (letter,) = poll(read_letters, bool, seconds=SECONDS)
    told = {a["Name"]: a["Value"]["StringValue"] for a in letter["MessageAttributes"]}
    assert told["task_id"] == task["task_id"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/orders", None),
        ("/orders", b""),
        ("/orders", b"{"),
        ("/orders", []),
        ("/orders", {}),
        ("/orders", {**ORDER, "order_id": "a b"}),
        ("/orders", {**ORDER, "amount": 12.5}),
        ("/orders", {**ORDER, "amount": -1}),
        ("/orders", {**ORDER, "currency": "eur"}),
        ("/orders", {**ORDER, "items": "all"}),
        ("/orders", {**ORDER, "items": [{**ORDER["items"][0], "quantity": 0}]}),  # type: ignore[dict-item]
        ("/image-tasks", {}),
        ("/image-tasks", {"task_id": "t", "bucket": "B", "key": "k"}),
        ("/image-tasks", {"task_id": "t", "bucket": "bucket", "key": ""}),
        ("/image-tasks", {"task_id": "t", "bucket": "bucket", "key": "k", "version_id": "v 1"}),
    ],
)
def test_a_body_that_does_not_fit_is_refused_with_what_is_allowed(path: str, body: Any, call: Caller) -> None:
    error = error_of(call("POST", path, body), 400)
    assert error["code"] == "BAD_REQUEST_BODY"
    assert path in error["allowed"]


@pytest.mark.parametrize("path", SUBMIT)
def test_a_body_that_sqs_refuses_is_refused(path: str, call: Caller) -> None:
    task = {"task_id": "t", "bucket": "bucket", "key": "k", **ORDER, "padding": "x" * 1_040_384}
    error = error_of(call("POST", path, task), 400)
    assert "1,016 KiB" in error["allowed"]


@pytest.mark.parametrize("path", SUBMIT)
def test_a_body_of_another_type_is_refused(path: str, call: Caller) -> None:
    fitting = {"task_id": "t", "bucket": "bucket", "key": "k", **ORDER}
    error = error_of(call("POST", path, fitting, content_type="text/plain"), 415)
    assert (error["code"], error["allowed"]) == ("UNSUPPORTED_MEDIA_TYPE", "application/json")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "OPTIONS"])
@pytest.mark.parametrize("path", READ)
def test_another_method_on_a_read_path_is_refused_with_those_allowed(path: str, method: str, call: Caller) -> None:
    answer = call(method, path)
    error = error_of(answer, 405)
    assert (error["code"], error["allowed"], answer[2]["Allow"]) == ("METHOD_NOT_ALLOWED", "GET, DELETE", "GET, DELETE")


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT", "PATCH", "OPTIONS"])
@pytest.mark.parametrize("path", SUBMIT)
def test_another_method_on_a_submit_path_is_refused_with_those_allowed(path: str, method: str, call: Caller) -> None:
    answer = call(method, path)
    error = error_of(answer, 405)
    assert (error["code"], error["allowed"], answer[2]["Allow"]) == ("METHOD_NOT_ALLOWED", "POST", "POST")


@pytest.mark.parametrize(
    "path", ["/", "/nothing", "/dead-letters", "/dead-letters/videos", "/orders/1/2", "/results/1/2"]
)
def test_an_unknown_path_is_refused_with_those_known(path: str, call: Caller) -> None:
    error = error_of(call("GET", path), 404)
    assert error["code"] == "NOT_FOUND"
    assert "/dead-letters/images" in error["allowed"]


@pytest.mark.parametrize("path", [*READ, *SUBMIT, "/nothing"])
@pytest.mark.parametrize("method", ["GET", "DELETE", "POST", "PUT"])
def test_an_unsigned_request_is_refused(path: str, method: str, stack: Stack) -> None:
    error = error_of(Caller(stack, None)(method, path), 403)
    assert error["code"] == "MISSING_AUTHENTICATION_TOKEN"


def test_a_request_signed_with_a_wrong_secret_is_refused(
    stack: Stack, caller_with: Callable[[list[dict[str, Any]]], Caller]
) -> None:
    right = caller_with([{"Effect": "Allow", "Action": "execute-api:Invoke", "Resource": "*"}])._credentials
    assert right
    error = error_of(Caller(stack, Credentials(right.access_key, "another"))("GET", "/results"), 403)
    assert error["code"] == "INVALID_SIGNATURE"


class _OfAnUnsortedQuery(SigV4Auth):
    def canonical_query_string(self, request: AWSRequest) -> str:
        return urlsplit(str(request.url)).query


class _OfAnotherQuery(SigV4Auth):
    def canonical_query_string(self, request: AWSRequest) -> str:
        return "MaxNumberOfMessages=1&WaitTimeSeconds=1"


class _OfAnotherPath(SigV4Auth):
    def canonical_request(self, request: AWSRequest) -> str:
        return str(super().canonical_request(request)).replace("/results", "/dead-letters/orders", 1)


@pytest.mark.parametrize("signer", [_OfAnUnsortedQuery, _OfAnotherQuery, _OfAnotherPath])
@pytest.mark.parametrize("owner", [True, False], ids=["owner", "user"])
def test_a_signature_of_another_request_is_refused(
    owner: bool,
    signer: type[SigV4Auth],
    stack: Stack,
    caller_with: Callable[[list[dict[str, Any]]], Caller],
) -> None:
    allowed = caller_with([{"Effect": "Allow", "Action": "execute-api:Invoke", "Resource": "*"}])
    credentials = owner_of(stack) if owner else allowed._credentials
    query: dict[str, Any] = {
        "WaitTimeSeconds": 0,
        "MaxNumberOfMessages": 1,
    }  # SigV4 signs it sorted, however it is sent
    assert Caller(stack, credentials)("GET", "/results", **query)[0] == 200
    status, _, _ = Caller(stack, credentials, signer=signer)("GET", "/results", **query)
    assert status == 403


def test_a_request_without_an_api_key_is_refused(stack: Stack, call: Caller) -> None:
    error = error_of(Caller(stack, call._credentials, key="none")("GET", "/results"), 403)
    assert error["code"] == "INVALID_API_KEY"


@pytest.mark.parametrize(
    ("code", "limits"),
    [
        ("QUOTA_EXCEEDED", {"/quota/limit": "0"}),
        ("THROTTLED", {"/throttle/rateLimit": "0", "/throttle/burstLimit": "0"}),
    ],
)
def test_too_many_requests_are_refused(code: str, limits: dict[str, str], stack: Stack, call: Caller) -> None:
    gateway = stack.client("apigateway")
    (plan,) = gateway.get_usage_plans()["items"]
    before = {path: str(plan[path.split("/")[1]][path.split("/")[2]]) for path in limits}

    def limit(values: dict[str, str]) -> None:
        operations = [{"op": "replace", "path": path, "value": value} for path, value in values.items()]
        gateway.update_usage_plan(usagePlanId=plan["id"], patchOperations=operations)

    limit(limits)
    try:
        error = error_of(call("GET", "/results", WaitTimeSeconds=0), 429)
    finally:
        limit(before)
    assert error["code"] == code
    assert call("GET", "/results", WaitTimeSeconds=0)[0] == 200


def test_a_caller_may_do_what_its_policy_says_and_nothing_else(
    stack: Stack, put: Callable[..., str], caller_with: Callable[[list[dict[str, Any]]], Caller]
) -> None:
    api_id, stage = stack.outputs["ApiUrl"].split("/")[-2:]
    arn = f"arn:aws:execute-api:{stack.region}:000000000000:{api_id}/{stage}"
    reader = caller_with([{"Effect": "Allow", "Action": "execute-api:Invoke", "Resource": f"{arn}/GET/results"}])
    put("/results")

    assert len(messages_of(reader("GET", "/results")) or []) == 1
    for method, path in [("DELETE", "/results"), ("GET", "/dead-letters/orders"), ("POST", "/orders"), ("PUT", "/x")]:
        error = error_of(reader(method, path, ORDER if method == "POST" else None), 403)
        assert error["code"] == "ACCESS_DENIED"


@pytest.mark.parametrize(
    "statements",
    [
        [],
        [{"Effect": "Allow", "Action": "sqs:*", "Resource": "*"}],
        [{"Effect": "Allow", "Action": "execute-api:Invoke", "Resource": "arn:aws:execute-api:*:*:other/*"}],
    ],
)
def test_a_caller_of_something_else_is_refused(
    statements: list[dict[str, Any]], caller_with: Callable[[list[dict[str, Any]]], Caller]
) -> None:
    error = error_of(caller_with(statements)("GET", "/results"), 403)
    assert error["code"] == "ACCESS_DENIED"


@pytest.mark.parametrize(("path", "action"), [("/results", "sqs:ReceiveMessage"), ("/orders", "sqs:SendMessage")])
def test_the_api_can_do_no_more_than_a_paths_role_allows(stack: Stack, call: Caller, path: str, action: str) -> None:
    """Only the role opens the queue: without it SQS refuses, and the answer says that the caller is not at fault."""
    method, body, role = ("GET", None, "ReadResultsRole") if path == "/results" else ("POST", ORDER, "SubmitOrdersRole")
    with not_allowed(stack, role, action):
        error = error_of(call(method, path, body), 502)
        assert call("GET", "/dead-letters/images", WaitTimeSeconds=0)[0] == 200  # under a role of its own
    assert error["code"] == "QUEUE_UNAVAILABLE"
    assert call("GET", "/results", WaitTimeSeconds=0)[0] == 200
