"""Cause the fault of each alarm, and measure it. ``test_alarms.py`` says what is not real."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import time
from typing import Any
from uuid import uuid4

import pytest
from darkroom.image_messages import upload_task_id
from darkroom.messages import unreadable_task_id

from local.chaos.fault_injection import held_back_messages
from local.config import LocalConfig
from local.emulators import aws_emulator, payments
from local.emulators.rabbitmq import BrokerMessage, publish
from local.outcomes import count_messages, poll, wait_for_orders
from local.stack import Stack
from tests.integration import test_api, test_orders
from tests.integration.calling import Caller, owner_of
from tests.integration.cloudwatch import Alarm, CloudWatch, Datum, Metric
from tests.integration.roles import not_allowed
from tests.integration.uploading import (
    SAMPLES,
    SECONDS,
    SMALL,
    new_key,
    s3_record,
    send,
    upload,
    wait_for,
    wait_for_dead_letter,
)
from tests.template.template import ROOT

AN_HOUR = 3600
THOUSANDS = 6000


@dataclass(frozen=True)
class Scene:
    """The stack with a fault, the time since which it exists, and its alarm."""

    stack: Stack
    config: LocalConfig
    cloudwatch: CloudWatch
    alarm: Alarm
    since: float

    def output(self, name: str) -> str:
        """An output of the stack."""
        return self.stack.outputs[name]

    def metrics_in_log(self, function: str, *, at_least: float = 1) -> list[Datum]:
        """What a function has logged of the alarm's metric since the fault began, once there is enough."""
        return poll(
            lambda: [
                datum
                for datum in self.cloudwatch.from_log(self.output(function), self.since)
                if datum.metric == self.alarm.metric
            ],
            lambda data: sum(sum(datum.values) for datum in data) >= at_least,
            seconds=SECONDS,
        )


Fault = Callable[[Scene], Iterable[Datum]]


def late_notification(scene: Scene) -> Iterable[Datum]:
    """S3 sends the event of an upload an hour late."""
    bucket, key = scene.output("UploadsBucketName"), new_key("without an ending")
    version_id, _ = upload(scene.stack, key, SMALL)
    an_hour_ago = (datetime.now(UTC) - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    record = s3_record(scene.stack, key.replace(" ", "+"), version_id, an_hour_ago)
    send(scene.stack, {"Records": [record]})
    wait_for(scene.stack, upload_task_id(bucket, key, version_id))
    return scene.metrics_in_log("ProcessImageFunctionName")


def nobody_takes(queue: str) -> Fault:
    """Messages wait in the queue of a function that is not invoked."""

    def fault(scene: Scene) -> Iterable[Datum]:
        queue_url = scene.output(f"{queue}Url")
        with held_back_messages(scene.stack, scene.output(f"{queue}Arn")):
            return _measured_while_waiting(scene, queue_url)

    return fault


def nobody_reads(scene: Scene) -> Iterable[Datum]:
    """A result waits, and nobody reads it."""
    queue_url = scene.output("ResultsQueueUrl")
    _, task_id = upload(scene.stack, new_key(), SMALL)
    wait_for(scene.stack, task_id)
    return _measured_while_waiting(scene, queue_url)


def _measured_while_waiting(scene: Scene, queue_url: str) -> list[Datum]:
    """The queue's metrics, in compressed time, once they exceed every threshold: some seconds later."""

    def values() -> list[Datum]:
        if not count_messages(scene.stack, queue_url)[0]:  # the first may go to what was receiving already
            scene.stack.sqs.send_message(QueueUrl=queue_url, MessageBody="{}")
        return scene.cloudwatch.from_queue(queue_url, message_counts=2 * THOUSANDS, second_counts=AN_HOUR)

    # Each look receives the message, and at the fifth receive the queue gives it up.
    data = poll(
        values,
        lambda data: all(value > 1.1 * AN_HOUR for d in data for value in d.values),
        seconds=SECONDS,
        every=1.2,
    )
    scene.stack.sqs.purge_queue(QueueUrl=queue_url)  # what is no message of its flow troubles who reads it later
    return data


def broken_photo(scene: Scene) -> Iterable[Datum]:
    """Somebody uploads a file that is not an image."""
    _, task_id = upload(scene.stack, new_key("not-an-image.jpg"), SAMPLES / "faulty" / "not-an-image.jpg")
    wait_for_dead_letter(scene.stack, task_id)
    return scene.cloudwatch.from_queue(scene.output("ImageTasksDeadLetterQueueUrl"))


def broken_order(scene: Scene) -> Iterable[Datum]:
    """Somebody sends a message that is not an order."""
    body = json.dumps({"note": uuid4().hex})
    scene.stack.sqs.send_message(QueueUrl=scene.output("OrderQueueUrl"), MessageBody=body)
    wait_for_dead_letter(scene.stack, unreadable_task_id(body), "OrderDeadLetterQueueUrl")
    return scene.cloudwatch.from_queue(scene.output("OrderDeadLetterQueueUrl"))


def broken_reader(scene: Scene) -> Iterable[Datum]:
    """The reader of the results returns a result five times."""
    queue_url, aside_url = scene.output("ResultsQueueUrl"), scene.output("ResultsDeadLetterQueueUrl")
    for url in (queue_url, aside_url):
        scene.stack.sqs.purge_queue(QueueUrl=url)
    scene.stack.sqs.send_message(QueueUrl=queue_url, MessageBody="{}")

    def give_back() -> int:
        scene.stack.sqs.receive_message(
            QueueUrl=queue_url, MaxNumberOfMessages=10, VisibilityTimeout=0, WaitTimeSeconds=0
        )
        return count_messages(scene.stack, aside_url)[0]

    poll(give_back, lambda aside: aside > 0, seconds=SECONDS)
    return scene.cloudwatch.from_queue(aside_url)


def broken_message(scene: Scene) -> Iterable[Datum]:
    """Somebody publishes a message to RabbitMQ that is not an order."""
    message_id = uuid4().hex
    publish(scene.config.rabbitmq_url, "orders", [BrokerMessage(b'{"note": "no order"}', message_id)])
    wait_for_dead_letter(scene.stack, message_id, "RabbitMqDeadLetterQueueUrl")
    return scene.cloudwatch.from_queue(scene.output("RabbitMqDeadLetterQueueUrl"))


def died_at_work(scene: Scene) -> Iterable[Datum]:
    """A function died with two tasks, and their messages become visible again some minutes later."""
    key = new_key("without an ending")
    upload(scene.stack, key, SMALL)
    task_ids = [f"held-{uuid4().hex}" for _ in range(2)]
    for task_id in task_ids:
        scene.stack.dynamodb.put_item(
            TableName=scene.output("TasksTableName"),
            Item={
                "task_id": {"S": task_id},
                "state": {"S": "IN_PROGRESS"},
                "owner": {"S": "a function that died"},
                "claimed_until": {"N": str(int((time() - 250) * 1000))},
                "attempts": {"N": "1"},
            },
        )
        send(scene.stack, {"task_id": task_id, "bucket": scene.output("UploadsBucketName"), "key": key})
    data = scene.metrics_in_log("ProcessImageFunctionName", at_least=2)
    for task_id in task_ids:
        task = wait_for(scene.stack, task_id)
        assert (task["outcome"], task["attempts"]) == ("Processed", 2)
    return data


@contextmanager
def outage(config: LocalConfig, service: str) -> Iterator[None]:
    """Make a service of AWS answer the functions only 500 inside the block."""
    aws_emulator.set_faults(config, {service: {"500 before": 1.0}})
    try:
        yield
    finally:
        aws_emulator.set_faults(config, {})


def images_without_s3(scene: Scene) -> Iterable[Datum]:
    """S3 fails while photos arrive."""
    with outage(scene.config, "s3"):
        task_ids = [upload(scene.stack, new_key(), SMALL)[1] for _ in range(10)]
        data = scene.metrics_in_log("ProcessImageFunctionName", at_least=10)
    for task_id in task_ids:
        assert wait_for(scene.stack, task_id)["outcome"] == "Processed"
    return data


def orders_without_dynamodb(scene: Scene) -> Iterable[Datum]:
    """DynamoDB fails while orders arrive."""
    product = test_orders.new_product(scene.stack, 10)
    with outage(scene.config, "dynamodb"):
        order_ids = [test_orders.send(scene.stack, test_orders.order(product)) for _ in range(10)]
        data = scene.metrics_in_log("ProcessOrderFunctionName", at_least=10)
    states = {item["state"] for item in wait_for_orders(scene.stack, order_ids, seconds=SECONDS).values()}
    assert states == {"COMPLETED"}
    return data


def crash(function: str, event: Any, qualifier: str = "$LATEST") -> Fault:
    """The function gets an event of another kind, and raises."""

    def fault(scene: Scene) -> Iterable[Datum]:
        answer = scene.stack.lambda_.invoke(
            FunctionName=scene.output(function), Qualifier=qualifier, Payload=json.dumps(event).encode()
        )
        assert answer["FunctionError"]
        return scene.cloudwatch.published(scene.alarm.metric, scene.since)

    return fault


def throttled(function: str, qualifier: str = "$LATEST") -> Fault:
    """Somebody has reserved no concurrency for the function."""

    def fault(scene: Scene) -> Iterable[Datum]:
        lambda_, name = scene.stack.lambda_, scene.output(function)
        lambda_.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
        try:
            with pytest.raises(lambda_.exceptions.TooManyRequestsException):
                lambda_.invoke(FunctionName=name, Qualifier=qualifier, Payload=b"{}")
        finally:
            lambda_.delete_function_concurrency(FunctionName=name)
        return scene.cloudwatch.published(scene.alarm.metric, scene.since)

    return fault


def image_role_without_a_permission(scene: Scene) -> Iterable[Datum]:
    """The function may not write renditions."""
    with not_allowed(scene.stack, "ProcessImageRole", "s3:PutObject"):
        _, task_id = upload(scene.stack, new_key(), SMALL)
        data = scene.metrics_in_log("ProcessImageFunctionName")
    assert wait_for(scene.stack, task_id)["outcome"] == "Processed"
    return data


def order_role_without_a_permission(scene: Scene) -> Iterable[Datum]:
    """The function may not move stock."""
    product = test_orders.new_product(scene.stack, 1)
    with not_allowed(scene.stack, "ProcessOrderRole", "dynamodb:UpdateItem"):
        order_id = test_orders.send(scene.stack, test_orders.order(product))
        data = scene.metrics_in_log("ProcessOrderFunctionName")
    assert test_orders.wait_for(scene.stack, order_id)["state"] == "COMPLETED"
    return data


def relay_role_without_a_permission(scene: Scene) -> Iterable[Datum]:
    """The function may not send to any queue."""
    event = (ROOT / "events" / "rabbitmq_orders.json").read_bytes()
    with not_allowed(scene.stack, "RelayRabbitMqRole", "sqs:SendMessage"):
        answer = scene.stack.lambda_.invoke(FunctionName=scene.output("RelayRabbitMqFunctionName"), Payload=event)
        assert answer["FunctionError"]
        return scene.metrics_in_log("RelayRabbitMqFunctionName")


def failing_payment_provider(scene: Scene) -> Iterable[Datum]:
    """The payment provider fails, and orders wait."""
    product = test_orders.new_product(scene.stack, 5)
    payments.set_faults(scene.stack.payments_url, 1.0, kinds=["500 before"])
    try:
        order_ids = [test_orders.send(scene.stack, test_orders.order(product)) for _ in range(5)]
        data = scene.metrics_in_log("ProcessOrderFunctionName", at_least=4)
    finally:
        payments.set_faults(scene.stack.payments_url, 0)
    states = {item["state"] for item in wait_for_orders(scene.stack, order_ids, seconds=SECONDS).values()}
    assert states == {"COMPLETED"}
    return data


def sweep_role_without_a_permission(scene: Scene) -> Iterable[Datum]:
    """The sweep may not look through the orders."""
    with not_allowed(scene.stack, "SweepOrdersRole", "dynamodb:Scan"):
        answer = scene.stack.lambda_.invoke(FunctionName=scene.output("SweepOrdersFunctionName"))
        assert answer["FunctionError"]
        return scene.metrics_in_log("SweepOrdersFunctionName")


def sweep_crash(scene: Scene) -> Iterable[Datum]:
    """DynamoDB fails while the sweep runs."""
    with outage(scene.config, "dynamodb"):
        answer = scene.stack.lambda_.invoke(FunctionName=scene.output("SweepOrdersFunctionName"))
    assert answer["FunctionError"]
    return scene.cloudwatch.published(scene.alarm.metric, scene.since)


def lost_order(scene: Scene) -> Iterable[Datum]:
    """Somebody deletes an order that was paid."""
    order_id = test_orders.send(scene.stack, test_orders.order(test_orders.new_product(scene.stack, 1)))
    assert test_orders.wait_for(scene.stack, order_id)["state"] == "COMPLETED"
    scene.stack.dynamodb.delete_item(TableName=scene.output("OrdersTableName"), Key={"order_id": {"S": order_id}})
    scene.stack.lambda_.invoke(FunctionName=scene.output("SweepOrdersFunctionName"))
    return scene.metrics_in_log("SweepOrdersFunctionName")


def refused_by_sqs(scene: Scene) -> Iterable[Datum]:
    """API Gateway may not send to the queues any more."""
    call = Caller(scene.stack, owner_of(scene.stack))
    with not_allowed(scene.stack, "SubmitOrdersRole", "sqs:SendMessage"):
        answers = [call("POST", "/orders", test_api.ORDER)[0] for _ in range(6)]
    of_the_api = frozenset({("ApiName", f"Darkroom queues ({scene.stack.stack_name})"), ("Stage", "v1")})
    errors = [float(status >= 500) for status in answers]
    return [Datum(Metric("AWS/ApiGateway", "5XXError", of_the_api), errors, "Count")]


def answering_role_without_a_permission(scene: Scene) -> Iterable[Datum]:
    """The function behind the API may not read the tables."""
    with not_allowed(scene.stack, "AnswerRequestsRole", "dynamodb:GetItem"):
        assert Caller(scene.stack, owner_of(scene.stack))("GET", "/images/lake.jpg")[0] == 502
        return scene.metrics_in_log("AnswerRequestsFunctionName")


_MANGLED_RECORD = {"Records": [{"eventSource": "aws:sqs"}]}
FAULTS: dict[str, Fault] = {
    "HighNotificationLatencyAlarm": late_notification,
    "ImageTasksQueueAgeAlarm": nobody_takes("ImageTasksQueue"),
    "ImageTasksDeadLettersAlarm": broken_photo,
    "ImageTasksRetriedAlarm": images_without_s3,
    "ImageTasksStuckAlarm": died_at_work,
    "ResultsQueueAgeAlarm": nobody_reads,
    "ResultsDeadLettersAlarm": broken_reader,
    "ProcessImageErrorsAlarm": crash("ProcessImageFunctionName", _MANGLED_RECORD),
    "ProcessImageThrottlesAlarm": throttled("ProcessImageFunctionName"),
    "ProcessImageDefectsAlarm": image_role_without_a_permission,
    "LocateImageErrorsAlarm": crash("LocateImageFunctionName", {"rawPath": 7}),
    "LocateImageThrottlesAlarm": throttled("LocateImageFunctionName"),
    "OrderQueueAgeAlarm": nobody_takes("OrderQueue"),
    "OrdersRetriedAlarm": orders_without_dynamodb,
    "OrderDeadLettersAlarm": broken_order,
    "ProcessOrderErrorsAlarm": crash("ProcessOrderFunctionName", _MANGLED_RECORD, "live"),
    "ProcessOrderThrottlesAlarm": throttled("ProcessOrderFunctionName", "live"),
    "ProcessOrderDefectsAlarm": order_role_without_a_permission,
    "PaymentFailuresAlarm": failing_payment_provider,
    "UnknownPaymentsAlarm": lost_order,
    "SweepOrdersErrorsAlarm": sweep_crash,
    "SweepOrdersThrottlesAlarm": throttled("SweepOrdersFunctionName"),
    "SweepOrdersDefectsAlarm": sweep_role_without_a_permission,
    "RabbitMqDeadLettersAlarm": broken_message,
    "RelayRabbitMqErrorsAlarm": crash("RelayRabbitMqFunctionName", {"rmqMessagesByQueue": 7}),
    "RelayRabbitMqThrottlesAlarm": throttled("RelayRabbitMqFunctionName"),
    "RelayRabbitMqDefectsAlarm": relay_role_without_a_permission,
    "ApiServerErrorsAlarm": refused_by_sqs,
    "AnswerRequestsErrorsAlarm": crash("AnswerRequestsFunctionName", {"httpMethod": "PATCH", "resource": "/"}),
    "AnswerRequestsThrottlesAlarm": throttled("AnswerRequestsFunctionName"),
    "AnswerRequestsDefectsAlarm": answering_role_without_a_permission,
}
