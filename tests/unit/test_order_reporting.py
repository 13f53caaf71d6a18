from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError
from darkroom.batch import Attempt
from darkroom.errors import (
    MalformedMessage,
    PaymentRequestRefused,
    PaymentsNotConfigured,
    PaymentsUnavailable,
    ServiceUnavailable,
    TransientFault,
    UnexpectedError,
)
from darkroom.messages import Unreadable
from darkroom.order_messages import Order, OrderLine, OrderTask

from functions.process_order.orders import Rejection, RejectionCode
from functions.process_order.ports import Result
from functions.process_order.process import Outcome
from functions.process_order.reporting import report

EMAIL = "mara@example.com"
ORDER = Order("order-1", "customer-7", (OrderLine("print", 1, 1250),), 1250, "EUR", "pm_card_visa", EMAIL)
TASK = OrderTask(ORDER, body="{}")

Metrics = Callable[[], list[dict[str, Any]]]
Log = Callable[[], dict[str, Any]]


def attempt(outcome: Outcome | TransientFault, task: OrderTask | Unreadable = TASK) -> Any:
    return Attempt(task, started=1007.5, ended=1009.0, outcome=outcome)


def test_a_completed_order_is_counted_with_its_times(printed: Metrics) -> None:
    report(attempt(Outcome(Result.COMPLETED, "order-1")), 1002.0, False)
    (emf,) = printed()
    assert (emf["Completed"], emf["ProcessingTime"], emf["QueueTime"]) == ([1.0], [1.5], [5.5])


def test_a_rejected_order_is_counted_once_in_all_and_once_by_its_code(printed: Metrics, log: Log) -> None:
    rejection = Rejection(RejectionCode.OUT_OF_STOCK, "Not enough in stock of print.")
    report(attempt(Outcome(Result.REJECTED, "order-1", rejection)), 1002.0, False)
    by_code, in_all = printed()
    assert (by_code["Rejected"], by_code["code"]) == ([1.0], "OutOfStock")
    assert in_all["Rejected"] == [1.0]
    assert "code" not in in_all
    assert (log()["message"], log()["rejection"]) == ("Rejected", "OutOfStock")


def test_a_repeated_delivery_is_a_duplicate(printed: Metrics) -> None:
    report(attempt(Outcome(Result.DUPLICATE, "order-1")), 1002.0, False)
    (emf,) = printed()
    assert emf["Duplicate"] == [1.0]
    assert not {"Completed", "Rejected"} & emf.keys()


def test_an_order_that_is_dead_lettered_is_counted_by_its_error_code(printed: Metrics, log: Log) -> None:
    fault = PaymentsNotConfigured("Put a key in.")
    report(attempt(Outcome(Result.DEAD_LETTERED, "order-1", fault=fault)), 1002.0, False)
    by_code, in_all = printed()
    assert (by_code["DeadLettered"], by_code["error_code"]) == ([1.0], "PaymentsNotConfigured")
    assert in_all["DeadLettered"] == [1.0]
    assert (log()["order_id"], log()["message"]) == ("order-1", "DeadLettered: Put a key in.")


def test_an_order_that_comes_back_later_is_retried_until_the_last_receive(printed: Metrics) -> None:
    report(attempt(ServiceUnavailable("DynamoDB is slow")), 1002.0, False)
    _, emf = printed()
    assert (emf["Retried"], "DeadLettered" in emf) == ([1.0], False)
    report(attempt(ServiceUnavailable("DynamoDB is slow")), 1002.0, True)
    _, emf = printed()
    assert (emf["DeadLettered"], "Retried" in emf) == ([1.0], False)


@pytest.mark.parametrize("is_last", [False, True])
def test_a_payment_provider_that_fails_is_counted_for_its_alarm(printed: Metrics, is_last: bool) -> None:
    report(attempt(PaymentsUnavailable("Stripe is slow")), 1002.0, is_last)
    _, emf = printed()
    assert emf["PaymentFailures"] == [1.0]


@pytest.mark.parametrize(
    "outcome",
    [
        ServiceUnavailable("DynamoDB is slow"),
        Outcome(Result.REJECTED, "order-1", Rejection(RejectionCode.PAYMENT_DECLINED, "Your card was declined.")),
        Outcome(Result.DEAD_LETTERED, "order-1", fault=MalformedMessage("it is not an order")),
    ],
    ids=["another service", "a declined card", "no order"],
)
def test_nothing_else_is_a_payment_failure(printed: Metrics, outcome: Outcome | TransientFault) -> None:
    report(attempt(outcome), 1002.0, False)
    assert not [emf for emf in printed() if "PaymentFailures" in emf]


def test_a_defect_is_counted_for_the_alarm_that_rolls_back_a_release(printed: Metrics, log: Log) -> None:
    defect = UnexpectedError("KeyError: 'x'")
    defect.__cause__ = KeyError("x")
    report(attempt(defect), 1002.0, False)
    _, emf = printed()
    assert emf["Defects"] == [1.0]
    assert "KeyError" in log()["exception"]


@pytest.mark.parametrize("code", ["AccessDeniedException", "ValidationException", "ThrottlingException"])
def test_a_refusal_of_every_order_counts_as_a_defect(printed: Metrics, code: str) -> None:
    unavailable = ServiceUnavailable("DynamoDB says no")
    unavailable.__cause__ = ClientError({"Error": {"Code": code}}, "UpdateItem")
    report(attempt(unavailable), 1002.0, False)
    _, emf = printed()
    assert ("Defects" in emf) == (code != "ThrottlingException")


def test_a_request_that_stripe_does_not_understand_counts_as_a_defect(printed: Metrics) -> None:
    fault = PaymentRequestRefused("Received unknown parameter: amuont")
    report(attempt(Outcome(Result.DEAD_LETTERED, "order-1", fault=fault)), 1002.0, False)
    _, emf = printed()
    assert emf["Defects"] == [1.0]


def test_a_message_that_is_not_an_order_is_found_under_its_task_id(printed: Metrics, log: Log) -> None:
    fault = MalformedMessage("it is not an order")
    report(
        attempt(Outcome(Result.DEAD_LETTERED, "body-1", fault=fault), Unreadable("body-1", "x", fault)), 1002.0, False
    )
    assert (log()["order_id"], log()["error_code"]) == ("body-1", "MalformedMessage")


def test_no_log_line_identifies_the_customer(printed: Metrics, log: Log) -> None:
    report(attempt(Outcome(Result.COMPLETED, "order-1")), 1002.0, False)
    assert EMAIL not in str(log())
    assert "customer" not in str(log())
