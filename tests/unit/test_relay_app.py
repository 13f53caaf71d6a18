"""The deployed relay from event to queues, with its metrics and logs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import boto3
import pytest
from aws_lambda_powertools.utilities.typing import LambdaContext
from darkroom.errors import MalformedMessage, NoRoute, ServiceUnavailable, TooLarge, UnexpectedError
from moto import mock_aws

from functions.relay_rabbitmq import app
from functions.relay_rabbitmq.relay import Accepted, Target, Undeliverable
from functions.relay_rabbitmq.reporting import report
from tests.unit.events import load_event
from tests.unit.relay_fakes import IMAGE_TASKS, delivery, event_message, event_of

# What reporting.py says once for all is forgotten between tests.
pytestmark = pytest.mark.filterwarnings("ignore:No application metrics to publish")

Metrics = Callable[[], list[dict[str, Any]]]
Log = Callable[[], dict[str, Any]]
QUEUES = ("image-tasks", "orders", "dead-letters")


@dataclass(frozen=True)
class Context:
    function_name: str = "relay"
    memory_limit_in_mb: int = 512
    invoked_function_arn: str = "arn:aws:lambda:eu-central-1:123456789012:function:relay"
    aws_request_id: str = "request-1"


def handle(event: Any) -> dict[str, int]:
    answer: dict[str, int] = app.lambda_handler(event, cast(LambdaContext, Context()))
    return answer


@pytest.fixture
def bodies() -> Iterator[Callable[[str], list[str]]]:
    """The bodies in a queue; reading leaves them there."""
    with mock_aws():
        sqs = boto3.client("sqs", region_name="eu-central-1")
        urls = {name: sqs.create_queue(QueueName=name)["QueueUrl"] for name in QUEUES}

        def read(name: str) -> list[str]:
            answer = sqs.receive_message(QueueUrl=urls[name], MaxNumberOfMessages=10, VisibilityTimeout=0)
            return [message["Body"] for message in answer.get("Messages", [])]

        yield read


class TestTheHandler:
    def test_sends_a_batch(self, bodies: Callable[[str], list[str]]) -> None:
        assert handle(load_event("rabbitmq_mixed")) == {"messages": 4}
        (task,), (order,) = bodies("image-tasks"), bodies("orders")
        assert json.loads(task)["task_id"].startswith("rabbitmq-")
        assert json.loads(order)["order_id"] == "order-4711"
        assert len(bodies("dead-letters")) == 2

    def test_passes_a_batch_in_which_everything_is_invalid(self, bodies: Callable[[str], list[str]]) -> None:
        assert handle(load_event("rabbitmq_invalid")) == {"messages": 8}
        assert (bodies("image-tasks"), bodies("orders"), len(bodies("dead-letters"))) == ([], [], 8)

    @pytest.mark.parametrize(("name", "queue", "count"), [("image_tasks", "image-tasks", 3), ("orders", "orders", 2)])
    def test_sends_the_same_for_a_repeated_batch(
        self, bodies: Callable[[str], list[str]], name: str, queue: str, count: int
    ) -> None:
        for _ in range(2):
            handle(load_event(f"rabbitmq_{name}"))
        assert len(bodies(queue)) == 2 * count
        assert len(set(bodies(queue))) == count

    def test_accepts_an_empty_batch(self, bodies: Callable[[str], list[str]]) -> None:
        assert handle(event_of({IMAGE_TASKS: []})) == {"messages": 0}

    @pytest.mark.parametrize("event", ["rabbitmq_orders", "rabbitmq_invalid"])
    def test_fails_if_its_queues_are_not_there_and_counts_that(self, printed: Metrics, event: str) -> None:
        with mock_aws(), pytest.raises(ServiceUnavailable):
            handle(load_event(event))
        assert [emf["Retried"] for emf in printed() if "Retried" in emf and "error_code" not in emf] == [[1.0]]

    def test_leaves_messages_of_a_queue_without_a_route_on_the_broker_and_counts_that(
        self, bodies: Callable[[str], list[str]], printed: Metrics
    ) -> None:
        with pytest.raises(NoRoute):
            handle(event_of({"renamed::/": [event_message("x")]}))
        assert [bodies(name) for name in QUEUES] == [[], [], []]
        assert [emf["error_code"] for emf in printed() if "error_code" in emf] == ["NoRoute"]

    @pytest.mark.parametrize("event", [load_event("sqs_s3"), load_event("s3"), {}, None, []])
    def test_reports_an_event_from_elsewhere(self, event: Any) -> None:
        with pytest.raises(ValueError, match="The event is not from RabbitMQ"):
            handle(event)

    def test_more_dead_letters_than_a_metric_has_values_do_no_harm(self, bodies: Callable[[str], list[str]]) -> None:
        assert handle(event_of({IMAGE_TASKS: [event_message("x")] * 250})) == {"messages": 250}
        assert len(bodies("dead-letters")) == 10


class TestReporting:
    TASK = Accepted(delivery("{}"), Target.IMAGE_TASKS, "t-1", "{}")
    ORDER = Accepted(delivery("{}"), Target.ORDERS, "o-1", "{}")

    def test_what_was_sent_is_counted(self, printed: Metrics, log: Log) -> None:
        report([self.TASK, self.ORDER, self.TASK])
        (emf,) = printed()
        assert emf["Relayed"] == [3.0]
        assert "DeadLettered" not in emf
        line = log()
        assert (line["message"], line["relayed"], line["dead_lettered"]) == (
            "Relayed",
            {"image-tasks": 2, "orders": 1},
            0,
        )

    def test_what_was_dead_lettered_is_counted_once_in_all_and_once_by_its_reason(self, printed: Metrics) -> None:
        report(
            [Undeliverable(delivery("x"), "t", MalformedMessage("a")), Undeliverable(delivery("x"), "t", TooLarge("b"))]
        )
        *by_reason, in_all = printed()
        assert {(emf["error_code"], *emf["DeadLettered"]) for emf in by_reason} == {
            ("MalformedMessage", 1.0),
            ("TooLarge", 1.0),
        }
        assert in_all["DeadLettered"] == [1.0, 1.0]
        assert not {"Relayed", "Defects", "Retried"} & in_all.keys()

    def test_what_was_dead_lettered_is_logged(self, monkeypatch: pytest.MonkeyPatch, printed: Metrics) -> None:
        told: list[tuple[str, Any]] = []
        monkeypatch.setattr(
            "darkroom.reporting.logger.warning", lambda text, *args, extra, **_: told.append((text % args, extra))
        )
        report([Undeliverable(delivery("x"), "t-1", MalformedMessage("it is a text"))])
        about = {"task_id": "t-1", "queue": IMAGE_TASKS, "error_code": "MalformedMessage"}
        assert told == [("DeadLettered: it is a text", about)]

    def test_a_defect_is_counted_for_the_alarm(self, printed: Metrics) -> None:
        defect = UnexpectedError("KeyError: 'x'")
        defect.__cause__ = KeyError("x")
        report([Undeliverable(delivery("x"), "t-1", defect)])
        by_reason, in_all = printed()
        assert (by_reason["error_code"], in_all["Defects"], in_all["DeadLettered"]) == ("UnexpectedError", [1.0], [1.0])
        assert "Retried" not in in_all

    def test_an_empty_batch_is_logged_and_not_counted(self, log: Log) -> None:
        report([])
        assert (log()["relayed"], log()["dead_lettered"]) == ({}, 0)
