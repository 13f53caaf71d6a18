"""What the API answers, as api/openapi.yaml describes it; the same on LocalStack and on the laptop stack.

The tests here take a fixture ``api``. A test module of an emulator imports them all and brings the fixture.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain, combinations
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote, urlencode

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, seed, settings
from requests.auth import AuthBase
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from api.description import load

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

READ = {
    "/results": "ResultsQueue",
    "/dead-letters/images": "ImageTasksDeadLetterQueue",
    "/dead-letters/orders": "OrderDeadLetterQueue",
    "/dead-letters/rabbitmq": "RabbitMqDeadLetterQueue",
}
SUBMIT = {"/image-tasks": "ImageTasksQueue", "/orders": "OrderQueue"}
QUEUES = {path: {"GET", "DELETE"} for path in READ} | {path: {"POST"} for path in SUBMIT}
# What a function answers, by an example of the path; the description may have a parameter in its place.
OF_A_FUNCTION = {
    "/images": ("/images", {"GET"}),
    "/images/a%20b/%C3%BC.jpg": ("/images/{key+}", {"GET"}),
    "/orders/o-1": ("/orders/{order_id}", {"GET"}),
    "/uploads": ("/uploads", {"POST"}),
}
METHODS = QUEUES | {path: methods for path, (_, methods) in OF_A_FUNCTION.items()}

# Of every optional parameter a value that differs from what the queue does without it.
OPTIONAL = {
    "MaxNumberOfMessages": "3",
    "VisibilityTimeout": "0",
    "WaitTimeSeconds": "1",
    "AttributeName": "All",
    "MessageAttributeName": "All",
}
SUBSETS = [set(names) for names in chain.from_iterable(combinations(OPTIONAL, n) for n in range(len(OPTIONAL) + 1))]

TASK = {"task_id": "t-1", "bucket": "uploads", "key": "a b/ü&c=1+%20.jpg"}
ITEM = {"product_id": "poster-a3", "quantity": 2, "unit_price": "12.50"}
ORDER = {
    "order_id": "o-1",
    "customer_id": "c-1",
    "items": [ITEM],
    "amount": "25.00",
    "currency": "EUR",
    "payment_method": "pm_card_visa",
}
WRONG_BODIES = [
    ("/image-tasks", {}),
    ("/image-tasks", []),
    ("/image-tasks", "text"),
    ("/image-tasks", {"task_id": "t-1", "bucket": "uploads"}),
    ("/image-tasks", TASK | {"task_id": ""}),
    ("/image-tasks", TASK | {"task_id": "with space"}),
    ("/image-tasks", TASK | {"task_id": 7}),
    ("/image-tasks", TASK | {"bucket": "UPLOADS"}),
    ("/image-tasks", TASK | {"key": ""}),
    ("/image-tasks", TASK | {"key": "k" * 1025}),
    ("/image-tasks", TASK | {"Records": [{}] * 3}),
    ("/image-tasks", TASK | {"detail-type": "Object Created", "source": "aws.s3", "detail": {}}),
    ("/image-tasks", TASK | {"Type": "Notification", "Message": "{}"}),
    ("/orders", ORDER | {"Type": "Notification", "Message": "{}"}),
    ("/orders", {}),
    ("/orders", {name: value for name, value in ORDER.items() if name != "items"}),
    ("/orders", ORDER | {"amount": -1}),
    ("/orders", ORDER | {"amount": "12,50"}),
    ("/orders", ORDER | {"currency": "euro"}),
    ("/orders", ORDER | {"items": [ITEM | {"quantity": 0}]}),
    ("/orders", ORDER | {"items": [ITEM | {"quantity": 1.5}]}),
    ("/orders", ORDER | {"items": [{}]}),
    ("/uploads", {}),
    ("/uploads", {"key": "a.jpg", "prefix": "a/"}),
    ("/uploads", {"prefix": "users/47"}),
    ("/uploads", {"key": "a.jpg", "max_bytes": 0}),
]
WRONG_PARAMETERS = [
    {"MaxNumberOfMessages": "0"},
    {"MaxNumberOfMessages": "11"},
    {"MaxNumberOfMessages": "-1"},
    {"MaxNumberOfMessages": "ten"},
    {"VisibilityTimeout": "-1"},
    {"VisibilityTimeout": "43201"},
    {"VisibilityTimeout": "soon"},
    {"WaitTimeSeconds": "-1"},
    {"WaitTimeSeconds": "21"},
    {"WaitTimeSeconds": "1.5"},
    {"AttributeName": "Colour"},
]

_DESCRIPTION = schemathesis.openapi.from_dict(
    load() | {"paths": {path.replace("+}", "}"): methods for path, methods in load()["paths"].items()}}
)


def described(paths: dict[str, set[str]]) -> dict[str, Any]:
    """The operations of some paths, by method and path."""
    return {
        f"{method} {path}": _DESCRIPTION[path.replace("+}", "}")][method]
        for path in paths
        for method in sorted(paths[path])
    }


DESCRIBED = described(QUEUES)


@dataclass(frozen=True)
class Api:
    """The deployed API, as a caller has it, and the queues behind it.

    Attributes
    ----------
    queues:
        The queues' URLs by logical id.
    auth:
        Signs requests; None where the emulator does not look.
    """

    url: str
    key: str
    sqs: SQSClient
    queues: dict[str, str]
    auth: AuthBase | None = None
    session: requests.Session = field(default_factory=requests.Session)

    def call(self, method: str, path: str, *, key: str | None = None, **how: Any) -> requests.Response:
        """Send a request with the API key, or with another."""
        headers = {"x-api-key": self.key if key is None else key} | how.pop("headers", {})
        return self.session.request(method, self.url + path, headers=headers, auth=self.auth, timeout=120, **how)

    def read(self, path: str, **parameters: str) -> list[dict[str, Any]]:
        """The messages that GET answers."""
        answer = self.call("GET", path, params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()["ReceiveMessageResponse"]["ReceiveMessageResult"]["messages"] or []

    def put(self, queue: str, *bodies: str) -> None:
        """Put messages on a queue as dead letters come, with their reason as an attribute."""
        for body in bodies:
            self.sqs.send_message(
                QueueUrl=self.queues[queue],
                MessageBody=body,
                MessageAttributes={"error_code": {"DataType": "String", "StringValue": "NotAnImage"}},
            )

    def drain(self, queue: str) -> list[str]:
        """The bodies of all messages on a queue, those in flight too; then there are none."""
        bodies = []
        end = monotonic() + 30
        while monotonic() < end:
            received = self.sqs.receive_message(QueueUrl=self.queues[queue], MaxNumberOfMessages=10, WaitTimeSeconds=0)
            for message in received.get("Messages", []):
                bodies.append(message["Body"])
                self.sqs.delete_message(QueueUrl=self.queues[queue], ReceiptHandle=message["ReceiptHandle"])
            if not received.get("Messages"):
                break
        return bodies


def error_of(answer: requests.Response, status: int) -> dict[str, str]:
    """The error, after a look at its shape: it is one and the same everywhere."""
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"].startswith("application/json")
    body = answer.json()
    assert body.keys() == {"error"}
    assert body["error"].keys() <= {"code", "message", "allowed"}
    assert all(isinstance(text, str) and text for text in body["error"].values()), body
    error: dict[str, str] = body["error"]
    return error


def names(parameters: set[str] | dict[str, str]) -> str:
    return ",".join(sorted(parameters)) or "none"


@pytest.fixture
def queue(api: Api, path: str) -> Iterator[str]:
    """The queue behind a path, empty."""
    queue = (READ | SUBMIT)[path]
    api.sqs.purge_queue(QueueUrl=api.queues[queue])
    yield queue
    api.sqs.purge_queue(QueueUrl=api.queues[queue])


@pytest.mark.parametrize("given", SUBSETS, ids=names)
@pytest.mark.parametrize("path", READ)
def test_reads_with_every_combination_of_parameters(api: Api, path: str, queue: str, given: set[str]) -> None:
    api.put(queue, "one", "two", "three & 3 = ü")

    messages = api.read(path, **{name: OPTIONAL[name] for name in given})

    assert len(messages) == (3 if "MaxNumberOfMessages" in given else 1)
    for message in messages:
        assert message["Body"] in ("one", "two", "three & 3 = ü")
        assert message["ReceiptHandle"]
        assert ("SentTimestamp" in str(message["Attributes"])) == ("AttributeName" in given)
        assert ("NotAnImage" in str(message["MessageAttributes"])) == ("MessageAttributeName" in given)
    still_visible = 3 if "VisibilityTimeout" in given else 3 - len(messages)
    assert len(api.read(path, MaxNumberOfMessages="10", WaitTimeSeconds="0")) == still_visible


@pytest.mark.parametrize("path", READ)
def test_answers_null_where_there_is_no_message(api: Api, path: str, queue: str) -> None:
    answer = api.call("GET", path, params={"WaitTimeSeconds": "0"})

    assert answer.status_code == 200
    assert answer.json()["ReceiveMessageResponse"]["ReceiveMessageResult"] == {"messages": None}


@pytest.mark.parametrize("path", ["/dead-letters/orders"])
def test_dead_letters_of_the_largest_size_fit_into_an_answer(api: Api, path: str, queue: str) -> None:
    # given dead letters as large as they can be, of which JSON makes three times as much
    largest = "ü" * (1016 * 1024 // 2)
    api.put(queue, *[largest] * 4)

    answer = api.call("GET", path, params={"MaxNumberOfMessages": "10"})

    messages = answer.json()["ReceiveMessageResponse"]["ReceiveMessageResult"]["messages"]
    assert [message["Body"] for message in messages] == [largest] * 3
    assert len(json.dumps(answer.json())) < 10_000_000


def test_ignores_unknown_parameters(api: Api) -> None:
    known = {"WaitTimeSeconds": "0"}
    headers = {"MaxNumberOfMessages": "none", "VisibilityTimeout": "none"}  # a template could take these, too
    answer = api.call("GET", "/results", params={"Action": "DeleteMessage", "colour": "blue", **known}, headers=headers)

    assert answer.status_code == 200
    assert "ReceiveMessageResponse" in answer.json()


@pytest.mark.parametrize("parameters", WRONG_PARAMETERS, ids=str)
@pytest.mark.parametrize("path", READ)
def test_refuses_wrong_parameters_and_says_what_is_allowed(api: Api, path: str, parameters: dict[str, str]) -> None:
    error = error_of(api.call("GET", path, params=parameters), 400)

    assert "MaxNumberOfMessages 1 to 10" in error["allowed"]


@pytest.mark.parametrize("path", READ)
def test_acknowledges(api: Api, path: str, queue: str) -> None:
    api.put(queue, "one")
    (message,) = api.read(path, VisibilityTimeout="0")

    for _ in range(2):  # what is gone already is acknowledged as well
        answer = api.call("DELETE", path, params={"ReceiptHandle": message["ReceiptHandle"]})
        assert answer.status_code == 200, answer.text
        assert "DeleteMessageResponse" in answer.json()

    assert api.drain(queue) == []


@pytest.mark.parametrize("path", READ)
@pytest.mark.parametrize("parameters", [{}, {"ReceiptHandle": "none+of/ours=="}], ids=names)
def test_refuses_to_acknowledge_without_a_handle_of_the_queue(
    api: Api, path: str, queue: str, parameters: dict[str, str]
) -> None:
    api.put(queue, "one")

    error = error_of(api.call("DELETE", path, params=parameters), 400)

    assert "ReceiptHandle" in error["allowed"]
    assert api.drain(queue) == ["one"]


def _smuggled(call: dict[str, str], parameter: tuple[str, str]) -> dict[str, dict[str, Any]]:
    """A second call in every part of a request. ``parameter``: one that the method takes, with a good value."""
    name, value = parameter
    text = urlencode(call)
    return {
        "its own parameters": {"params": {**call, name: value}},
        "encoded in a value": {"params": {name: f"{value}&{text}"}},
        "encoded twice": {"params": {name: f"{value}{quote('&' + text)}"}},
        "with a semicolon": {"params": {name: f"{value};{text.replace('&', ';')}"}},
        "after a line break": {"params": {name: f"{value}\r\n&{text}"}},
        "a repeated name": {"params": [(name, value), (name, f"{value}&{text}"), *call.items()]},
        "numbered names": {"params": {name: value, f"{name}.1": f"{value}&{text}", f"{name}.2&{text}": value}},
        "a form": {
            "params": {name: value},
            "data": text,
            "headers": {"Content-Type": "application/x-www-form-urlencoded"},
        },
        "a form that says JSON": {"params": {name: value}, "data": text, "headers": _JSON},
        "a form of no type": {"params": {name: value}, "data": text.encode()},
        "JSON": {"params": {name: value}, "json": call},
        "JSON of SQS": {
            "params": {name: value},
            "json": call,
            "headers": {"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": f"AmazonSQS.{call['Action']}"},
        },
        "headers": {
            "params": {name: value},
            "headers": {**call, "X-Amz-Target": f"AmazonSQS.{call['Action']}", "X-HTTP-Method-Override": "POST"},
        },
    }


_JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize("action", ["ReceiveMessage", "PurgeQueue", "DeleteMessage", "SendMessage"])
@pytest.mark.parametrize(("method", "path"), [(method, path) for path in QUEUES for method in sorted(QUEUES[path])])
def test_no_request_reaches_another_queue(api: Api, method: str, path: str, queue: str, action: str) -> None:
    # given a message on a queue that is not this path's
    other = READ["/results" if path != "/results" else "/dead-letters/images"]
    api.sqs.purge_queue(QueueUrl=api.queues[other])  # those in flight, too
    api.put(other, "somebody else's")
    (theirs,) = api.sqs.receive_message(QueueUrl=api.queues[other], VisibilityTimeout=0)["Messages"]
    call = {
        "Action": action,
        "QueueUrl": api.queues[other],
        "ReceiptHandle": theirs["ReceiptHandle"],
        "MessageBody": "forged",
        "VisibilityTimeout": "60",
    }
    parameter = ("ReceiptHandle", "none") if method == "DELETE" else ("MaxNumberOfMessages", "1")
    # when
    for way, how in _smuggled(call, parameter).items():
        if method == "GET":
            api.put(queue, "ours")  # so that no read waits
        elif method == "POST":
            fitting: dict[str, Any] = {**(TASK if path == "/image-tasks" else ORDER)}
            if "data" not in how:
                how["json"] = {"note": f"&{urlencode(call)}", **fitting, **how.get("json", {})}
        answer = api.call(method, path, **how)
        assert answer.status_code in (200, 202, 400, 403, 415), (way, answer.text)
        assert "somebody else's" not in answer.text, way
    # then
    (message,) = api.sqs.receive_message(
        QueueUrl=api.queues[other], MaxNumberOfMessages=10, AttributeNames=["ApproximateReceiveCount"]
    )["Messages"]
    assert message["Body"] == "somebody else's"
    assert message["Attributes"]["ApproximateReceiveCount"] == "2"
    assert "forged" not in api.drain(queue)
    api.sqs.purge_queue(QueueUrl=api.queues[other])


@pytest.mark.parametrize(("path", "body"), WRONG_BODIES, ids=lambda value: json.dumps(value)[:60])
def test_refuses_bodies_that_do_not_fit(api: Api, path: str, body: Any) -> None:
    assert error_of(api.call("POST", path, json=body), 400)["allowed"]


@pytest.mark.parametrize("path", SUBMIT)
@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe"], ids=repr)
def test_refuses_bodies_that_are_not_json(api: Api, path: str, body: bytes) -> None:
    answer = api.call("POST", path, data=body, headers={"Content-Type": "application/json"})

    assert error_of(answer, 400)["allowed"]


@pytest.mark.parametrize("path", SUBMIT)
@pytest.mark.parametrize("kind", ["text/plain", "application/xml", "application/x-www-form-urlencoded"])
def test_refuses_other_kinds_of_bodies(api: Api, path: str, kind: str) -> None:
    answer = api.call("POST", path, data=json.dumps(TASK), headers={"Content-Type": kind})

    assert error_of(answer, 415)["allowed"] == "application/json"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        (method, path)
        for path, methods in METHODS.items()
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
        if method not in methods
    ],
)
def test_refuses_other_methods_and_names_the_right_ones(api: Api, method: str, path: str) -> None:
    answer = api.call(method, path)

    assert set(error_of(answer, 405)["allowed"].split(", ")) == METHODS[path]
    assert set(answer.headers["Allow"].split(", ")) == METHODS[path]


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize("path", ["/none", "/results/1", "/dead-letters"])
def test_names_the_paths_where_there_is_none(api: Api, method: str, path: str) -> None:
    allowed = error_of(api.call(method, path), 404)["allowed"]
    assert all(known in allowed for known in (*QUEUES, "/images", "/uploads"))


@pytest.mark.parametrize(("method", "path"), [(method, path) for path in METHODS for method in sorted(METHODS[path])])
@pytest.mark.parametrize("key", ["", "not-a-key-of-this-api"], ids=["no key", "another key"])
def test_refuses_callers_without_an_api_key(api: Api, method: str, path: str, key: str) -> None:
    assert error_of(api.call(method, path, key=key, json=TASK), 403)["code"] == "INVALID_API_KEY"


@pytest.fixture
def no_waiting(api: Api) -> Iterator[None]:
    """Let reads of an empty queue end at once where they do not say how long they wait."""
    name: Literal["ReceiveMessageWaitTimeSeconds"] = "ReceiveMessageWaitTimeSeconds"
    before = {
        url: api.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=[name])["Attributes"].get(name, "0")
        for url in (api.queues[queue] for queue in READ.values())
    }
    for url in before:
        api.sqs.set_queue_attributes(QueueUrl=url, Attributes={name: "0"})
    yield
    for url, seconds in before.items():
        api.sqs.set_queue_attributes(QueueUrl=url, Attributes={name: seconds})


@pytest.mark.usefixtures("no_waiting")
@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize("operation", DESCRIBED)
def test_every_answer_is_described(api: Api, operation: str, mode: schemathesis.GenerationMode) -> None:
    """Whatever fits the description, and whatever does not, is answered as the description says."""
    explore(api, DESCRIBED[operation], mode)


def explore(api: Api, operation: Any, mode: schemathesis.GenerationMode) -> None:
    """Send requests that fit an operation's description, or that do not, and hold the answers to it."""

    @seed(4)
    @settings(max_examples=15, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode))
    def send(case: schemathesis.Case[Any]) -> None:
        if isinstance((case.query or {}).get("WaitTimeSeconds"), int):
            case.query = {**case.query, "WaitTimeSeconds": "0"}  # or it waits for as long
        answer = case.call(api.url, api.session, headers={"x-api-key": api.key}, auth=api.auth, timeout=120)
        case.validate_response(
            answer,
            checks=[
                not_a_server_error,
                status_code_conformance,
                content_type_conformance,
                response_headers_conformance,
                response_schema_conformance,
            ],
        )

    send()
