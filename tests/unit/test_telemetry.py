"""What alarms, dashboard and saved queries rely on is what the functions tell, no more and no less."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError
from darkroom.batch import Attempt
from darkroom.errors import MalformedMessage, PaymentsUnavailable, ServiceUnavailable, TransientFault, UnexpectedError
from darkroom.image_messages import ImageTask
from darkroom.order_messages import Order, OrderLine, OrderTask
from darkroom.reporting import report_fault

from functions.process_image import reporting as images
from functions.process_image.ports import Result as ImageResult
from functions.process_image.process import Outcome as ImageOutcome
from functions.process_order import reporting as orders
from functions.process_order.orders import Rejection, RejectionCode
from functions.process_order.ports import Result as OrderResult
from functions.process_order.process import Outcome as OrderOutcome
from functions.relay_rabbitmq import reporting as relay
from functions.relay_rabbitmq.deliveries import Delivery
from functions.relay_rabbitmq.relay import Accepted, Target, Undeliverable
from functions.sweep_orders import reporting as sweep
from functions.sweep_orders.stripe_payments import TakenPayment
from tests.telemetry import LOG_FIELDS, METRICS

Lines = Callable[[], list[dict[str, Any]]]

IMAGE_TASK = ImageTask(
    "task-1", "uploads", "a.jpg", body="{}", version_id="v1", event_time=datetime.fromtimestamp(1000, tz=UTC)
)
ORDER = Order("order-1", "customer-7", (OrderLine("print", 1, 1250),), 1250, "EUR", "pm_card_visa", "mara@example.com")
FAULT = MalformedMessage("it is not JSON")


def defect() -> UnexpectedError:
    fault = UnexpectedError("KeyError: 'x'")
    fault.__cause__ = KeyError("x")
    return fault


def attempts(task: Any, outcomes: Sequence[Any]) -> Iterator[Any]:
    for outcome in outcomes:
        yield Attempt(task, started=1007.5, ended=1009.0, outcome=outcome)


def tell_of_images() -> None:
    images.report_taken_over(IMAGE_TASK)
    ended = [
        ImageOutcome(result, "task-1", FAULT if result is ImageResult.DEAD_LETTERED else None) for result in ImageResult
    ]
    for attempt in attempts(IMAGE_TASK, [*ended, defect()]):
        images.report(attempt, 1002.0)


def tell_of_orders() -> None:
    ended = [
        OrderOutcome(
            result,
            "order-1",
            Rejection(RejectionCode.OUT_OF_STOCK, "Not enough.") if result is OrderResult.REJECTED else None,
            FAULT if result is OrderResult.DEAD_LETTERED else None,
        )
        for result in OrderResult
    ]
    failed: list[TransientFault] = [PaymentsUnavailable("Stripe is slow"), defect()]
    for attempt in attempts(OrderTask(ORDER, body="{}"), [*ended, *failed]):
        orders.report(attempt, 1002.0, False)


def tell_of_messages() -> None:
    delivery = Delivery("orders::/", b"{}", content_encoding="", message_id=None, headers={})
    undeliverable = [Undeliverable(delivery, "task-1", fault) for fault in (FAULT, defect())]
    relay.report([Accepted(delivery, Target.ORDERS, "task-1", "{}"), *undeliverable])
    report_fault(ServiceUnavailable("SQS is away"), {}, is_last=False)  # as the handler does for the whole batch


def tell_of_requests() -> None:
    denied = ServiceUnavailable("S3 does not allow it")
    denied.__cause__ = ClientError({"Error": {"Code": "AccessDenied"}}, "ListObjectsV2")
    report_fault(denied, {}, is_last=False)  # as the handler does


def tell_of_a_sweep() -> None:
    sweep.report_sent_again(2)
    sweep.report_unknown_payments([TakenPayment("pi_1", "order-1", 1250, "EUR")])
    for fault in (ServiceUnavailable("SQS is away"), defect()):  # as the handler does
        report_fault(fault, {}, is_last=False)


EVERYTHING = {
    "process-image": tell_of_images,
    "process-order": tell_of_orders,
    "relay-rabbitmq": tell_of_messages,
    "sweep-orders": tell_of_a_sweep,
    "answer-requests": tell_of_requests,
}


@pytest.mark.parametrize("service", EVERYTHING)
def test_the_metrics_of_a_service_are_complete(service: str, printed: Lines) -> None:
    # when
    EVERYTHING[service]()
    # then
    emitted: dict[tuple[str, ...], set[str]] = {}
    for line in printed():
        for directive in line["_aws"]["CloudWatchMetrics"]:
            (dimensions,) = directive["Dimensions"]
            emitted.setdefault(tuple(sorted(dimensions)), set()).update(x["Name"] for x in directive["Metrics"])
    assert emitted == METRICS[service]


@pytest.mark.parametrize("service", EVERYTHING)
def test_the_fields_of_its_log_lines_are_complete(service: str, logged: Lines, printed: Lines) -> None:
    # when
    EVERYTHING[service]()
    # then
    assert {field for line in logged() for field in line} == LOG_FIELDS[service]
