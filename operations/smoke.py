"""`make smoke`: prove a deployed stack with one photo and one invalid task, and remove both again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import monotonic, sleep, time
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import Request, urlopen
from uuid import uuid4

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from darkroom.items import plain_values, stored_renditions
from darkroom.messages import unreadable_task_id
from rich.console import Console
from rich.table import Table

from operations import erase
from operations.dead_letters import QueueScan
from operations.deployed import DeployedStack
from operations.status import find_alarm_names, read_alarms
from operations.terminal import printable

PREFIX = "darkroom-smoke/"
_PHOTO = Path(__file__).resolve().parent.parent / "samples" / "rocket-turned.jpg"
_PATIENCE = 120  # seconds for each step: a cold start, and a queue with work in it
_EVERY = 0.5
# Results belong to their reader: look at a few, and give them back at once.
_LOOKS_AT_RESULTS = 5


@dataclass(frozen=True)
class Step:
    """One line of the table. ``seconds`` is how long it took, ``detail`` what was found."""

    name: str
    passed: bool
    seconds: float
    detail: str


class Failed(Exception):
    """A step's outcome is not what it must be; ``str()`` of it says what was found."""


@dataclass
class Smoke:
    """One run against a stack: its own key and its own messages, so that runs never meet.

    Attributes
    ----------
    product:
        A product to send an order for; empty for no order.
    """

    stack: DeployedStack
    product: str = ""
    mark: str = field(default_factory=lambda: uuid4().hex)
    patience: float = _PATIENCE
    began: float = field(default_factory=time)
    record: dict[str, Any] = field(default_factory=dict)
    order: dict[str, Any] = field(default_factory=dict)

    @property
    def order_id(self) -> str:
        """The id of this run's order."""
        return f"darkroom-smoke-{self.mark}"

    @property
    def key(self) -> str:
        """The key of this run's photo."""
        return f"{PREFIX}{self.mark}.jpg"

    @property
    def invalid_body(self) -> str:
        """A message that is not a task."""
        return json.dumps({"darkroom": "smoke", "mark": self.mark})

    def steps(self) -> Iterator[tuple[str, Callable[[], str]]]:
        """Each step's name and what does it: it returns what it found, or raises Failed."""
        yield "alarms", self.check_alarms
        yield "upload", self.upload
        yield "record", self.wait_for_record
        yield "renditions", self.read_renditions
        yield "result", self.look_for_result
        yield "invalid task", self.send_invalid_task
        if self.product:
            yield "order", self.send_order
        if "ApiUrl" in self.stack.outputs:
            yield "API", self.call_api
        yield "logs", self.check_logs

    def check_alarms(self) -> str:
        """No alarm may be on before the run."""
        alarms = read_alarms(self.stack, dict(find_alarm_names(self.stack)))
        on = [alarm.name for alarm in alarms if alarm.state == "ALARM"]
        if on:
            raise Failed(f"{', '.join(on)} {'is' if len(on) == 1 else 'are'} on: docs/runbook.md says why")
        return f"none of {len(alarms)} is on"

    def upload(self) -> str:
        """Put the photo into the uploads bucket."""
        bucket = self.stack.outputs["UploadsBucketName"]
        self.stack.s3.put_object(Bucket=bucket, Key=self.key, Body=_PHOTO.read_bytes())
        return f"s3://{bucket}/{self.key}"

    def wait_for_record(self) -> str:
        """The image's record must become READY."""

        def read() -> bool:
            self.record = self._item("ImagesTableName", "image_key", self.key)
            return "state" in self.record

        if not self._eventually(read):
            raise Failed(f"no record after {self.patience:.0f} s: make status shows where the task is")
        state = self.record["state"]
        if state != "READY":
            raise Failed(f"the record is {state}: {json.dumps(self.record.get('latest_fault', {}), default=str)}")
        return f"READY, {self.record['width']} x {self.record['height']}"

    def read_renditions(self) -> str:
        """Each rendition that the record names must be in its bucket, with the bytes that the record says."""
        total = 0
        renditions = stored_renditions(self.record)
        for rendition in renditions:
            head = self.stack.s3.head_object(Bucket=self.stack.outputs["RenditionsBucketName"], Key=rendition["key"])
            if head["ContentLength"] != rendition["bytes"]:
                raise Failed(f"{rendition['key']} has {head['ContentLength']} bytes, not those of the record")
            total += head["ContentLength"]
        return f"{len(renditions)} renditions, {total:,} bytes"

    def look_for_result(self) -> str:
        """Find the result on its queue, without taking it from its reader."""
        for _ in range(_LOOKS_AT_RESULTS):
            messages = self.stack.sqs.receive_message(
                QueueUrl=self.stack.outputs["ResultsQueueUrl"],
                MaxNumberOfMessages=10,
                VisibilityTimeout=5,
                WaitTimeSeconds=1,
            ).get("Messages", [])
            ours = [m for m in messages if self.key in m["Body"]]
            for message in messages:
                if message in ours:
                    self.stack.sqs.delete_message(
                        QueueUrl=self.stack.outputs["ResultsQueueUrl"], ReceiptHandle=message["ReceiptHandle"]
                    )
                else:
                    self.stack.sqs.change_message_visibility(
                        QueueUrl=self.stack.outputs["ResultsQueueUrl"],
                        ReceiptHandle=message["ReceiptHandle"],
                        VisibilityTimeout=0,
                    )
            if ours:
                return "announced"
        return "not seen: its reader took it, or other results are before it"

    def send_invalid_task(self) -> str:
        """A message that is not a task must become a dead letter with its reason; it is deleted then."""
        self.stack.sqs.send_message(QueueUrl=self.stack.outputs["ImageTasksQueueUrl"], MessageBody=self.invalid_body)
        found: list[str] = []

        def look() -> bool:
            queue_url = self.stack.outputs["ImageTasksDeadLetterQueueUrl"]
            with QueueScan(self.stack.sqs, queue_url, hidden_for=10) as scan:
                for letters in scan.letters():
                    ours = [one for one in letters if one.body == self.invalid_body]
                    found.extend(one.error_code for one in ours)
                    scan.delete([one.message_id for one in ours])
                    if ours:
                        return True
            return False

        if not self._eventually(look):
            raise Failed(f"no dead letter after {self.patience:.0f} s (task {unreadable_task_id(self.invalid_body)})")
        if found != ["MalformedMessage"]:
            raise Failed(f"its dead letter says {found[0] or 'nothing'}, not MalformedMessage")
        return "a dead letter: MalformedMessage"

    def send_order(self) -> str:
        """An order for more than there is must be rejected: that charges nothing and moves no stock."""
        if "OrderQueueUrl" not in self.stack.outputs:
            raise Failed("the stack has no orders: it was deployed with Orders=false")
        pieces = 1_000_000
        body = {
            "order_id": self.order_id,
            "customer_id": "darkroom-smoke",
            "items": [{"product_id": self.product, "quantity": pieces, "unit_price": "0.01"}],
            "amount": f"{pieces / 100:.2f}",
            "currency": "EUR",
            "payment_method": "pm_card_visa",
        }
        self.stack.sqs.send_message(QueueUrl=self.stack.outputs["OrderQueueUrl"], MessageBody=json.dumps(body))
        if not self._eventually(self._is_answered):
            state = self.order.get("state", "not known")
            raise Failed(f"order {self.order_id} is {state} after {self.patience:.0f} s: make status shows why")
        code = self.order.get("rejection", {}).get("code", "")
        if code != "OutOfStock":
            raise Failed(f"order {self.order_id} is {self.order['state']} {code}, not rejected as OutOfStock")
        return f"{pieces:,} of {self.product}: rejected, OutOfStock"

    def _is_answered(self) -> bool:
        self.order = self._item("OrdersTableName", "order_id", self.order_id)
        return self.order.get("state") in {"REJECTED", "COMPLETED"}

    def call_api(self) -> str:
        """Signed requests must be answered, by SQS and by the function, and an unsigned one refused."""
        key = (
            self.stack.outputs.get("ApiKey")
            or self.stack.client("apigateway").get_api_key(apiKey=self.stack.outputs["ApiKeyId"], includeValue=True)[
                "value"
            ]
        )
        paths = "/dead-letters/images?MaxNumberOfMessages=1&VisibilityTimeout=0", f"/images/{quote(self.key)}"
        for path in paths:
            url = self.stack.outputs["ApiUrl"] + path
            request = AWSRequest("GET", url, {"x-api-key": key})
            SigV4Auth(self.stack.signing_credentials(), "execute-api", self.stack.region).add_auth(request)
            signed = _status(url, dict(request.headers.items()))
            unsigned = _status(url, {"x-api-key": key})
            if (signed, unsigned) != (200, 403):
                raise Failed(f"{path}: signed it was answered {signed} (200 expected), unsigned {unsigned} (403)")
        return "dead letters and image: signed 200, unsigned 403"

    def check_logs(self) -> str:
        """Each function that was called must have logged since the run began."""
        names = [
            "ProcessImageFunctionName",
            *(["AnswerRequestsFunctionName"] if "ApiUrl" in self.stack.outputs else []),
        ]
        for name in names:
            function = self.stack.lambda_.get_function_configuration(FunctionName=self.stack.outputs[name])
            group = function["LoggingConfig"]["LogGroup"]
            if not self._eventually(partial(self._has_lines, group)):
                raise Failed(f"{group} has no line since the run began")
        return f"{len(names)} log groups receive lines"

    def _has_lines(self, group: str) -> bool:
        since = int(self.began * 1000)
        return bool(self.stack.logs.filter_log_events(logGroupName=group, startTime=since, limit=1)["events"])

    def remove(self) -> list[str]:
        """Remove what the run made; returns what could not be removed, in words."""
        bucket = self.stack.outputs["UploadsBucketName"]
        removal = erase.Removal()
        erase.remove_objects(
            self.stack, list(erase.uploads(self.stack, erase.Selection(self.key, "", bucket, bucket))), removal
        )
        kept = [f"{trace.name} version {trace.version_id}: {reason}" for trace, reason in removal.kept]
        if not self._eventually(self._is_withdrawn):
            return [*kept, f"the record of {self.key} was not withdrawn"]
        self.look_for_result()  # that of the deletion
        if self.order.get("state") == "REJECTED":
            self.stack.dynamodb.delete_item(
                TableName=self.stack.outputs["OrdersTableName"], Key={"order_id": {"S": self.order_id}}
            )
        elif self.product and "OrderQueueUrl" in self.stack.outputs:
            kept.append(f"order {self.order_id}")
        return kept

    def _is_withdrawn(self) -> bool:
        """Whether the function has withdrawn the photo: its record is a tombstone and its renditions are gone."""
        record = self._item("ImagesTableName", "image_key", self.key)
        left = self.stack.s3.list_objects_v2(
            Bucket=self.stack.outputs["RenditionsBucketName"], Prefix=f"{self.key}/", MaxKeys=1
        )
        return record.get("state") in (None, "DELETED") and not left.get("Contents")

    def _item(self, table: str, key_name: str, key: str) -> dict[str, Any]:
        """Read an item as plain values; empty if there is none. The deploy role may GetItem alone."""
        answer = self.stack.dynamodb.get_item(
            TableName=self.stack.outputs[table], Key={key_name: {"S": key}}, ConsistentRead=True
        )
        return plain_values(answer.get("Item", {}))

    def _eventually(self, holds: Callable[[], bool]) -> bool:
        deadline = monotonic() + self.patience
        while not (held := holds()) and monotonic() < deadline:
            sleep(_EVERY)
        return held


def run(stack: DeployedStack, console: Console, product: str = "") -> int:
    """Run every step, show the table and remove what was made; returns 0, or 1 where a step fails.

    Parameters
    ----------
    product:
        A product of the inventory to send an order for; empty for no order.
    """
    smoke, steps = Smoke(stack, product), []
    for name, act in smoke.steps():
        started = monotonic()
        with console.status(f"{name} ..."):
            try:
                steps.append(Step(name, True, 0, act()))
            except Failed as failure:
                steps.append(Step(name, False, 0, str(failure)))
        steps[-1] = Step(name, steps[-1].passed, monotonic() - started, steps[-1].detail)
        if name == "record" and not steps[-1].passed:
            break  # what follows rests on it
    with console.status("Removing what was made ..."):
        remains = smoke.remove()
    steps.append(Step("removal", not remains, 0, "; ".join(remains) or "nothing is left of it"))
    table = Table(header_style="bold", title=f"{stack.stack_name} in {stack.region}", title_justify="left")
    table.add_column("step", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("seconds", justify="right")
    table.add_column("found", overflow="fold")
    for step in steps:
        verdict = "[green]OK[/]" if step.passed else "[bold red]fails[/]"
        table.add_row(step.name, verdict, f"{step.seconds:.1f}", printable(step.detail))
    console.print(table)
    failed = [step.name for step in steps if not step.passed]
    console.print("The stack works." if not failed else f"The stack does not work: {', '.join(failed)}.")
    return 1 if failed else 0


def _status(url: str, headers: dict[str, str]) -> int:
    try:
        with urlopen(Request(url, headers=headers), timeout=30) as answer:  # noqa: S310 # the stack's own address
            return int(answer.status)
    except HTTPError as refused:
        refused.close()
        return refused.code
    except URLError as error:
        raise Failed(f"{url} does not answer: {error.reason}") from error
