"""No role may do more than it needs: without any single action, something fails.

Each permission of template.yaml has work here that needs it. The work passes with the role as it is, and meets a
refusal that names the action once IAM no longer allows it. What the emulator cannot show stands in ``NOT_SHOWN``.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import time
from typing import Any, TypeAlias
from uuid import uuid4

import pytest
import requests

from local.chaos.fault_injection import held_back_messages, kill_functions
from local.config import PROJECT, LocalConfig
from local.emulators import payments
from local.outcomes import poll, read_items
from local.stack import Stack
from tests.api_expectations import READ
from tests.integration.browsing import post_form
from tests.integration.calling import Caller, owner_of
from tests.integration.roles import role_name
from tests.integration.test_orders import new_product, order
from tests.integration.uploading import ANOTHER_SMALL, SAMPLES, SECONDS, SMALL, new_key, upload
from tests.template.template import listed, load, target

TEMPLATE = load((PROJECT / "template.yaml").read_text())


@dataclass(frozen=True, order=True)
class Permission:
    """One action that one statement of a role's policy allows on one resource."""

    role: str
    statement: str
    action: str
    resource: str

    def __str__(self) -> str:
        return f"{self.role}-{self.statement}-{self.action}-{self.resource}"


def _permissions() -> Iterator[Permission]:
    for name, resource in TEMPLATE["Resources"].items():
        match resource["Type"]:
            case "AWS::IAM::Role":
                policies = resource["Properties"].get("Policies", [])
            case "AWS::IAM::Policy":
                policies = [resource["Properties"]]
            case _:
                continue
        for policy in policies:
            for statement in policy["PolicyDocument"]["Statement"]:
                if statement["Effect"] != "Allow":
                    continue
                for action in listed(statement["Action"]):
                    for number, allowed in enumerate(listed(statement["Resource"])):
                        yield Permission(name, statement["Sid"], action, target(allowed) or f"#{number}")


_LAMBDA = "the emulator's Lambda does this without asking IAM"
_S3 = "the emulator's S3 does not ask IAM for it: it says 404 to everyone, and a copy may bring tags"
_NO_CODEDEPLOY = "the emulator has no CodeDeploy"
_AS_OF_THE_OWN_BUCKET = "what ReadUploads shows; test_image_life reads an existing bucket by it"
_NO_KEYS = "the emulator's S3 encrypts nothing"
_NO_AMAZON_MQ = "the emulator has no Amazon MQ"

#: Statements, or actions of one, that nothing on the laptop stack asks IAM for, and why.
NOT_SHOWN = {
    ("WriteLogs", None): _LAMBDA,
    ("SendTraces", None): _LAMBDA,
    ("TakeTasks", "sqs:ReceiveMessage"): _LAMBDA,
    ("TakeTasks", "sqs:DeleteMessage"): _LAMBDA,
    ("TakeTasks", "sqs:GetQueueAttributes"): _LAMBDA,
    ("TakeOrders", "sqs:ReceiveMessage"): _LAMBDA,
    ("TakeOrders", "sqs:DeleteMessage"): _LAMBDA,
    ("TakeOrders", "sqs:GetQueueAttributes"): _LAMBDA,
    ("TellGoneFromForbidden", None): _S3,
    ("WriteRenditions", "s3:PutObjectTagging"): _S3,
    ("ReadExistingUploads", None): _AS_OF_THE_OWN_BUCKET,
    ("DecryptUploads", None): _NO_KEYS,
    ("ShiftTraffic", None): _NO_CODEDEPLOY,
    ("WatchAlarms", None): _NO_CODEDEPLOY,
    ("FindBroker", None): _NO_AMAZON_MQ,
    ("LogIn", None): _NO_AMAZON_MQ,
    ("ReachBroker", None): _NO_AMAZON_MQ,
    ("LeaveBroker", None): _NO_AMAZON_MQ,
    ("LookAround", None): _NO_AMAZON_MQ,
}

ALL = sorted(_permissions())
SHOWN = [p for p in ALL if not {(p.statement, None), (p.statement, p.action)} & NOT_SHOWN.keys()]


@dataclass(frozen=True)
class Bench:
    """The deployed stack, and how to put its functions and its API to work."""

    stack: Stack
    config: LocalConfig

    def invoke(self, function: str, event: Any) -> str:
        """Run a function at once; returns its answer and the end of its log."""
        answer = self.stack.lambda_.invoke(
            FunctionName=self.stack.outputs[f"{function}FunctionName"], LogType="Tail", Payload=json.dumps(event)
        )
        return answer["Payload"].read().decode() + base64.b64decode(answer.get("LogResult", "")).decode()

    def take(self, function: str, queue: str, body: Any) -> str:
        """Let a function take a message that really is in its queue, received by us."""
        sqs, url = self.stack.sqs, self.stack.outputs[f"{queue}Url"]
        arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        with held_back_messages(self.stack, arn):
            sqs.purge_queue(QueueUrl=url)
            sqs.send_message(QueueUrl=url, MessageBody=json.dumps(body))
            (message,) = sqs.receive_message(QueueUrl=url, AttributeNames=["All"], WaitTimeSeconds=5)["Messages"]
            answer = self.invoke(function, _sqs_event(message, arn))
            sqs.purge_queue(QueueUrl=url)
        return answer

    def call(self, method: str, path: str, body: Any = None, **parameters: Any) -> str:
        """Call the API as its owner; returns the whole answer."""
        status, answer, _ = Caller(self.stack, owner_of(self.stack))(method, path, body, **parameters)
        return f"{status} {json.dumps(answer)}"


def _sqs_event(message: Any, queue_arn: str = "arn:aws:sqs:eu-central-1:000000000000:none") -> dict[str, Any]:
    record = {
        "eventSource": "aws:sqs",
        "eventSourceARN": queue_arn,
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": message["Attributes"],
        "messageAttributes": {},
    }
    return {"Records": [record]}


#: Makes ready, with the role as it is, what the work needs; then the work, which returns what it answered and logged.
Work: TypeAlias = Callable[[Bench], Callable[[], str]]


def _sent(body: Any) -> dict[str, Any]:
    """An SQS event about a message that is in no queue."""
    attributes = {"ApproximateReceiveCount": "1", "SentTimestamp": str(int(time() * 1000))}
    return _sqs_event({"MessageId": "1", "ReceiptHandle": "none", "Body": json.dumps(body), "Attributes": attributes})


def _photo(bench: Bench, key: str, photo: bytes | Path = SMALL) -> dict[str, Any]:
    """Upload a photo under a name that S3 tells nobody of; returns a task about it."""
    version_id, _ = upload(bench.stack, key, photo)
    return _task(bench, key) | {"version_id": version_id}


def _task(bench: Bench, key: str) -> dict[str, Any]:
    return {"task_id": f"task-{uuid4().hex}", "bucket": bench.stack.outputs["UploadsBucketName"], "key": key}


def _render(bench: Bench, *, photo: bytes | Path = SMALL) -> Callable[[], str]:
    return partial(bench.invoke, "ProcessImage", _photo(bench, new_key("photo.unmatched"), photo))


def _replace(bench: Bench, *, photo: bytes | Path = ANOTHER_SMALL) -> Callable[[], str]:
    """Overwrite a photo: the renditions of the version before become stale, or stay if this one is faulty."""
    return partial(bench.invoke, "ProcessImage", _photo(bench, _published(bench), photo))


def _ask_again(bench: Bench) -> Callable[[], str]:
    """Ask for a photo that is published: the function looks at its renditions."""
    return partial(bench.invoke, "ProcessImage", _task(bench, _published(bench)))


def _delete(bench: Bench) -> Callable[[], str]:
    """Delete a photo that is published, and be faster than the event of it."""
    task, outputs = _task(bench, _published(bench)), bench.stack.outputs

    def work() -> str:
        with held_back_messages(bench.stack, outputs["ImageTasksQueueArn"]):
            bench.stack.s3.delete_object(Bucket=task["bucket"], Key=task["key"])
            answer = bench.invoke("ProcessImage", task)
            bench.stack.sqs.purge_queue(QueueUrl=outputs["ImageTasksQueueUrl"])
        return answer

    return work


def _published(bench: Bench) -> str:
    key = new_key("photo.unmatched")
    bench.invoke("ProcessImage", _photo(bench, key))
    return key


def _locate(bench: Bench) -> Callable[[], str]:
    """Look for an image, as CloudFront's function asks for it."""
    address = base64.urlsafe_b64encode(f"/i/{new_key()}/thumb".encode()).decode().rstrip("=")
    return partial(bench.invoke, "LocateImage", {"rawPath": f"/avif/{address}"})


def _give_back_a_task(bench: Bench, queue: str = "ImageTasksQueue") -> Callable[[], str]:
    """A task that another delivery holds, received from its queue."""
    task = _photo(bench, new_key("photo.unmatched"))
    bench.stack.dynamodb.put_item(
        TableName=bench.stack.outputs["TasksTableName"],
        Item={
            "task_id": {"S": task["task_id"]},
            "state": {"S": "IN_PROGRESS"},
            "owner": {"S": "another"},
            "claimed_until": {"N": str(int(time() + 60) * 1000)},
            "attempts": {"N": "1"},
        },
    )
    return partial(bench.take, "ProcessImage", queue, task)


def _order(bench: Bench, **others: Any) -> dict[str, Any]:
    return order(new_product(bench.stack, 5), **others)


def _fulfil(bench: Bench, **others: Any) -> Callable[[], str]:
    return partial(bench.invoke, "ProcessOrder", _sent(_order(bench, **others)))


def _fulfil_while_it_changes(bench: Bench) -> Callable[[], str]:
    """An order that another delivery takes further while this one waits for the payment provider."""
    message = _order(bench)
    table = bench.stack.outputs["OrdersTableName"]

    def work() -> str:
        payments.set_faults(bench.stack.payments_url, 0, seconds=1)
        try:
            with ThreadPoolExecutor(1) as aside:
                answer = aside.submit(bench.invoke, "ProcessOrder", _sent(message))
                poll(
                    lambda: read_items(bench.stack, table, "order_id", [message["order_id"]]),
                    lambda items: items.get(message["order_id"], {}).get("state") in ("RESERVED", "PAYING"),
                    seconds=SECONDS,
                    every=0.05,
                )
                bench.stack.dynamodb.update_item(
                    TableName=table,
                    Key={"order_id": {"S": message["order_id"]}},
                    UpdateExpression="ADD revision :one",
                    ExpressionAttributeValues={":one": {"N": "1"}},
                )
                return answer.result()
        finally:
            payments.set_faults(bench.stack.payments_url, 0)

    return work


def _fulfil_with_the_first_payment(bench: Bench) -> Callable[[], str]:
    """By functions that have not read the payment provider's key yet."""
    work = _fulfil(bench)
    kill_functions(bench.config, bench.stack.outputs["ProcessOrderFunctionName"])
    return work


def _give_back_an_order(bench: Bench) -> Callable[[], str]:
    """An order that cannot be paid now, received from its queue."""
    message = _order(bench)

    def work() -> str:
        payments.set_faults(bench.stack.payments_url, 1.0, seed=5)
        try:
            return bench.take("ProcessOrder", "OrderQueue", message)
        finally:
            payments.set_faults(bench.stack.payments_url, 0)

    return work


def _sweep(bench: Bench) -> Callable[[], str]:
    """When an order was paid, by functions that have not read the payment provider's key yet."""
    _fulfil(bench)()
    kill_functions(bench.config, bench.stack.outputs["SweepOrdersFunctionName"])
    return partial(bench.invoke, "SweepOrders", {})


def _sweep_an_order_that_stands_still(bench: Bench) -> Callable[[], str]:
    """An order whose own message is long gone."""
    message = _order(bench)
    bench.invoke("ProcessOrder", _sent(message))
    bench.stack.dynamodb.update_item(
        TableName=bench.stack.outputs["OrdersTableName"],
        Key={"order_id": {"S": message["order_id"]}},
        UpdateExpression="SET #state = :received, history = :history",
        ExpressionAttributeNames={"#state": "state"},
        ExpressionAttributeValues={
            ":received": {"S": "RECEIVED"},
            ":history": {"L": [{"M": {"state": {"S": "RECEIVED"}, "at": {"S": "2026-01-01T00:00:00.000Z"}}}]},
        },
    )
    return partial(bench.invoke, "SweepOrders", {})


def _relay(bench: Bench, queue: str, body: Any) -> Callable[[], str]:
    data = base64.b64encode(json.dumps(body).encode()).decode()
    message = {"basicProperties": {"headers": {}, "messageId": uuid4().hex}, "redelivered": False, "data": data}
    event = {"eventSource": "aws:rmq", "eventSourceArn": "arn", "rmqMessagesByQueue": {f"{queue}::/": [message]}}
    return partial(bench.invoke, "RelayRabbitMq", event)


def _relay_a_task(bench: Bench) -> Callable[[], str]:
    return _relay(bench, "image-tasks", _photo(bench, new_key("photo.unmatched")))


def _relay_an_order(bench: Bench) -> Callable[[], str]:
    return _relay(bench, "orders", _order(bench))


def _relay_nonsense(bench: Bench) -> Callable[[], str]:
    return _relay(bench, "orders", {"order_id": uuid4().hex})


def _read(bench: Bench, path: str) -> Callable[[], str]:
    return partial(bench.call, "GET", path, WaitTimeSeconds=0)


def _acknowledge(bench: Bench, path: str) -> Callable[[], str]:
    url = bench.stack.outputs[f"{READ[path]}Url"]
    bench.stack.sqs.purge_queue(QueueUrl=url)
    bench.stack.sqs.send_message(QueueUrl=url, MessageBody='"read me"')
    (message,) = bench.stack.sqs.receive_message(QueueUrl=url, WaitTimeSeconds=5)["Messages"]
    return partial(bench.call, "DELETE", path, ReceiptHandle=message["ReceiptHandle"])


def _submit_a_task(bench: Bench) -> Callable[[], str]:
    return partial(bench.call, "POST", "/image-tasks", _photo(bench, new_key("photo.unmatched")))


def _submit_an_order(bench: Bench) -> Callable[[], str]:
    return partial(bench.call, "POST", "/orders", _order(bench))


def _look_an_order_up(bench: Bench) -> Callable[[], str]:
    return partial(bench.call, "GET", "/orders/nobody-sent-it")


def _look_an_image_up(bench: Bench) -> Callable[[], str]:
    return partial(bench.call, "GET", "/images/nobody-sent-it.jpg")


def _list_images(bench: Bench) -> Callable[[], str]:
    _photo(bench, new_key("photo.unmatched"))
    return partial(bench.call, "GET", "/images", limit=1)


def _upload_by_a_form(bench: Bench) -> Callable[[], str]:
    _, form, _ = Caller(bench.stack, owner_of(bench.stack))("POST", "/uploads", {"key": new_key()})

    def work() -> str:
        answer = post_form(form, b"no photo", bench.config)
        return f"{answer.status_code} {answer.text}"

    return work


def _show_by_a_signed_address(bench: Bench) -> Callable[[], str]:
    """By a function that knows of no delivery: with it, addresses are not signed."""
    key, lambda_ = _published(bench), bench.stack.lambda_
    name = bench.stack.outputs["AnswerRequestsFunctionName"]
    variables = lambda_.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
    lambda_.update_function_configuration(FunctionName=name, Environment={"Variables": variables | {"IMAGES_URL": ""}})
    try:
        _, image, _ = Caller(bench.stack, owner_of(bench.stack))("GET", f"/images/{key}")
    finally:
        lambda_.update_function_configuration(FunctionName=name, Environment={"Variables": variables})

    def work() -> str:
        answer = requests.get(image["renditions"][0]["url"], verify=str(bench.config.certificate), timeout=60)
        return f"{answer.status_code} {answer.text[:500]}"

    return work


#: Work that needs a permission: by its statement, action and resource.
WORK: dict[tuple[str, str, str], Work] = {
    ("TakeTasks", "sqs:ChangeMessageVisibility", "ImageTasksQueue"): _give_back_a_task,
    ("TakeTasks", "sqs:ChangeMessageVisibility", "RerenderQueue"): partial(_give_back_a_task, queue="RerenderQueue"),
    ("MoveToDeadLetters", "sqs:SendMessage", "ImageTasksDeadLetterQueue"): partial(
        _render, photo=SAMPLES / "faulty" / "bitmap.jpg"
    ),
    ("TellOfImages", "sns:Publish", "ImageEventsTopic"): _render,
    ("ReadUploads", "s3:GetObject", "UploadsBucket"): _render,
    ("ReadUploads", "s3:GetObjectVersion", "UploadsBucket"): partial(_replace, photo=SAMPLES / "faulty" / "bitmap.jpg"),
    ("WriteRenditions", "s3:GetObject", "RenditionsBucket"): _replace,
    ("WriteRenditions", "s3:PutObject", "RenditionsBucket"): _render,
    ("WriteRenditions", "s3:GetObjectTagging", "RenditionsBucket"): _ask_again,
    ("WriteRenditions", "s3:DeleteObject", "RenditionsBucket"): _delete,
    ("RememberTasks", "dynamodb:UpdateItem", "TasksTable"): _render,
    ("PublishImages", "dynamodb:GetItem", "ImagesTable"): _render,
    ("PublishImages", "dynamodb:PutItem", "ImagesTable"): _render,
    ("PublishImages", "dynamodb:UpdateItem", "ImagesTable"): _replace,
    ("FindImages", "dynamodb:GetItem", "ImagesTable"): _locate,
    ("TakeOrders", "sqs:ChangeMessageVisibility", "OrderQueue"): _give_back_an_order,
    ("SendDeadLetters", "sqs:SendMessage", "OrderDeadLetterQueue"): partial(_fulfil, amount=-1),
    ("RememberOrders", "dynamodb:GetItem", "OrdersTable"): _fulfil_while_it_changes,
    ("RememberOrders", "dynamodb:PutItem", "OrdersTable"): _fulfil,
    ("RememberOrders", "dynamodb:UpdateItem", "OrdersTable"): _fulfil,
    ("MoveStock", "dynamodb:UpdateItem", "InventoryTable"): _fulfil,
    ("TellOfOrders", "sns:Publish", "OrderEventsTopic"): _fulfil,
    ("Charge", "secretsmanager:GetSecretValue", "PaymentSecret"): _fulfil_with_the_first_payment,
    ("FindOrders", "dynamodb:Scan", "OrdersTable"): _sweep,
    ("FindOrders", "dynamodb:BatchGetItem", "OrdersTable"): _sweep,
    ("ListPayments", "secretsmanager:GetSecretValue", "PaymentSecret"): _sweep,
    ("SendOrdersAgain", "sqs:SendMessage", "OrderQueue"): _sweep_an_order_that_stands_still,
    ("HandOver", "sqs:SendMessage", "ImageTasksQueue"): _relay_a_task,
    ("HandOver", "sqs:SendMessage", "OrderQueue"): _relay_an_order,
    ("SendDeadLetters", "sqs:SendMessage", "RabbitMqDeadLetterQueue"): _relay_nonsense,
    **{
        ("ReadAndDelete", action, queue): partial(work, path=path)
        for path, queue in READ.items()
        for action, work in (("sqs:ReceiveMessage", _read), ("sqs:DeleteMessage", _acknowledge))
    },
    ("ReadRecords", "dynamodb:GetItem", "ImagesTable"): _look_an_image_up,
    ("ReadRecords", "dynamodb:GetItem", "OrdersTable"): _look_an_order_up,
    ("ReadPages", "dynamodb:BatchGetItem", "ImagesTable"): _list_images,
    ("ListUploads", "s3:ListBucket", "UploadsBucket"): _list_images,
    ("LetFormsUpload", "s3:PutObject", "UploadsBucket"): _upload_by_a_form,
    ("LetAddressesShow", "s3:GetObject", "RenditionsBucket"): _show_by_a_signed_address,
    ("Submit", "sqs:SendMessage", "ImageTasksQueue"): _submit_a_task,
    ("Submit", "sqs:SendMessage", "OrderQueue"): _submit_an_order,
}


@pytest.fixture(scope="module")
def gone_well() -> set[Work]:
    """Work that went well with the roles as they are: several permissions need the same."""
    return set()


@pytest.fixture
def bench(stack: Stack, config: LocalConfig) -> Iterator[Bench]:
    yield Bench(stack, config)
    stack.sqs.purge_queue(QueueUrl=stack.outputs["ResultsQueueUrl"])  # of what is no result


@contextmanager
def taken_away(stack: Stack, permission: Permission) -> Iterator[None]:
    """Let the deployed role do all but this inside the block."""
    iam, role = stack.client("iam"), role_name(stack, permission.role)
    names = iam.list_role_policies(RoleName=role)["PolicyNames"]
    policies = {name: iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"] for name in names}
    ((name, policy),) = (
        (name, policy)
        for name, policy in policies.items()
        if permission.statement in {statement["Sid"] for statement in policy["Statement"]}
    )
    without = _without(policy, permission)
    if without["Statement"]:
        iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=json.dumps(without))
    else:  # IAM takes no policy without a statement
        iam.delete_role_policy(RoleName=role, PolicyName=name)
    try:
        yield
    finally:
        iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=json.dumps(policy))


def _without(policy: dict[str, Any], permission: Permission) -> dict[str, Any]:
    """The policy with the statement written out, one resource and one action each, except this one."""
    in_turn = [p for p in _permissions() if (p.role, p.statement) == (permission.role, permission.statement)]
    (statement,) = [s for s in policy["Statement"] if s["Sid"] == permission.statement]
    single = [
        {"Effect": "Allow", "Action": action, "Resource": resource}
        for action in listed(statement["Action"])
        for resource in listed(statement["Resource"])
    ]
    del single[in_turn.index(permission)]
    others = [s for s in policy["Statement"] if s["Sid"] != permission.statement]
    return policy | {"Statement": others + single}


def _refused(answer: str, action: str) -> bool:
    """Whether a function's log names the missing action.

    The API tells its callers less. So does S3 where it answers HEAD: such an answer has no body.
    """
    return (
        f"not authorized to perform: {action}" in answer
        or "(403) when calling the HeadObject operation: Forbidden" in answer
        or answer.startswith(('502 {"error": {"code": "QUEUE_UNAVAIL', '502 {"error": {"code": "SERVICE_UNAVAIL'))
        or (answer.startswith("403 ") and "<Code>AccessDenied</Code>" in answer)
    )


def test_every_permission_is_removed_below_or_has_a_reason_not_to_be() -> None:
    assert {(p.statement, p.action, p.resource) for p in SHOWN} == WORK.keys()
    statements = {(p.statement, a) for p in ALL for a in (None, p.action)}
    assert statements >= NOT_SHOWN.keys()


@pytest.mark.parametrize("permission", SHOWN, ids=str)
def test_a_role_needs_each_of_its_permissions(permission: Permission, bench: Bench, gone_well: set[Work]) -> None:
    prepare = WORK[permission.statement, permission.action, permission.resource]
    # given work that goes well with the role as it is
    if prepare not in gone_well:
        answer = prepare(bench)()
        assert "not authorized" not in answer
        assert not answer.startswith("502")
        gone_well.add(prepare)
    # when the role lacks one action
    work = prepare(bench)
    with taken_away(bench.stack, permission):
        answer = work()
    # then AWS refuses it, and whoever reads the log knows what is missing
    assert _refused(answer, permission.action), answer
