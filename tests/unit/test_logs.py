"""The logs never contain personal data or secrets, and no message can forge a line in them."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from darkroom.batch import Attempt
from darkroom.errors import ObjectGone, ServiceUnavailable
from darkroom.image_messages import read_body as read_image_tasks
from darkroom.logs import logger
from darkroom.messages import Unreadable
from darkroom.order_messages import read_body as read_orders
from darkroom.reporting import report_fault

import functions.process_image.app  # what Lambda imports
import functions.process_order.app
import functions.relay_rabbitmq.app  # noqa: F401
from functions.process_image.ports import Result as ImageResult
from functions.process_image.process import Outcome as ImageOutcome
from functions.process_image.reporting import report as report_image
from functions.process_order.ports import Result as OrderResult
from functions.process_order.process import Outcome as OrderOutcome
from functions.process_order.reporting import report as report_order

Log = Callable[[], dict[str, Any]]

ORDER: dict[str, Any] = {
    "order_id": "order-1",
    "customer_id": "customer-of-that-name",
    "customer_email": "mara@example.com",
    "items": [{"product_id": "print", "quantity": 1, "unit_price": 1250}],
    "amount": 1250,
    "currency": "EUR",
    "payment_method": "pm_of_that_customer",
}
PRIVATE = ("mara@example.com", "customer-of-that-name", "pm_of_that_customer")
#: What should not stand in a message, and does: a key, a card's number, a password in an address.
MISPLACED = ("sk_live_51Nq2Kd", "4242 4242 4242 4242", "amqps://shop:hunter2@broker")
#: A line of its own, colours for a terminal, a half of a character, the end of a text, half a megabyte.
HOSTILE = ('x\n{"level": "INFO", "message": "all is well"}', "x\x1b[31mred\r", "x\ud800", "x\0y", "x" * 500_000)
#: JSON may contain these as they are: to begin an escape sequence, to begin a line, to turn the text's direction.
HIDDEN = ("\x9b31mred", "\x7f", "\x85", "\u2028", "\u202egpj.exe", "\u2066")


@pytest.fixture
def at_debug() -> Iterator[None]:
    """The root logger as Lambda sets it for LogLevel DEBUG."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.DEBUG)
    yield
    root.setLevel(before)


@pytest.mark.usefixtures("at_debug")
@pytest.mark.parametrize(
    "library", ["botocore.endpoint", "boto3.resources", "PIL.TiffImagePlugin", "pyvips.vobject", "stripe", "urllib3"]
)
def test_libraries_do_not_log_debug_messages(library: str) -> None:
    assert not logging.getLogger(library).isEnabledFor(logging.INFO)


def _report_order(body: str) -> None:
    """As the function does, of an order that is a duplicate or none at all."""
    (task,) = read_orders(body)
    fault = task.fault if isinstance(task, Unreadable) else None
    outcome = OrderOutcome(OrderResult.DEAD_LETTERED if fault else OrderResult.DUPLICATE, task.task_id, fault=fault)
    report_order(Attempt(task, started=1.0, ended=2.0, outcome=outcome), 0.0, False)


def _report_image(body: str) -> None:
    (task,) = read_image_tasks(body)
    fault = task.fault if isinstance(task, Unreadable) else None
    outcome = ImageOutcome(ImageResult.DEAD_LETTERED if fault else ImageResult.DUPLICATE, task.task_id, fault=fault)
    report_image(Attempt(task, started=1.0, ended=2.0, outcome=outcome), 0.0)


def test_an_order_is_logged_without_its_customer(log: Log) -> None:
    _report_order(json.dumps(ORDER))
    assert not [private for private in PRIVATE if private in json.dumps(log())]


@pytest.mark.parametrize("field", [*sorted(ORDER.keys() - {"order_id"}), "no_field_of_ours"])  # by the id it is found
@pytest.mark.parametrize("value", MISPLACED)
def test_an_invalid_value_is_not_repeated_in_the_log(log: Log, field: str, value: str) -> None:
    _report_order(json.dumps(ORDER | {field: value}))
    assert value not in json.dumps(log())
    assert not [private for private in PRIVATE if private in json.dumps(log())]


@pytest.mark.parametrize("field", [*ORDER, "no_field_of_ours"])
@pytest.mark.parametrize("value", HOSTILE, ids=["line", "colour", "half", "null", "long"])
def test_no_order_can_forge_a_log_line(log: Log, field: str, value: str) -> None:
    _report_order(json.dumps(ORDER | {field: value}))
    assert log()["message"] != "all is well"  # and one line it is: the log is read as one piece of JSON
    assert len(json.dumps(log())) < 10_000


@pytest.mark.parametrize("field", ["task_id", "bucket", "key", "version_id", "no_field_of_ours"])
@pytest.mark.parametrize("value", HOSTILE, ids=["line", "colour", "half", "null", "long"])
def test_no_image_task_can_forge_a_log_line(log: Log, field: str, value: str) -> None:
    _report_image(json.dumps({"task_id": "t-1", "bucket": "uploads", "key": "a.jpg", field: value}))
    assert log()["message"] != "all is well"
    assert len(json.dumps(log())) < 10_000


def test_a_services_message_is_one_line(log: Log) -> None:
    (task,) = read_orders(json.dumps(ORDER))
    fault = ServiceUnavailable('Stripe says:\n{"message": "all is well"}')
    report_order(Attempt(task, started=1.0, ended=2.0, outcome=fault), 0.0, False)
    assert log()["message"].startswith("Retried: Stripe says:\n")


@pytest.mark.parametrize("text", ["\ud800", "\udfffx"])
def test_a_lone_surrogate_loses_no_log_line(log: Log, text: str) -> None:
    report_fault(ObjectGone(f"there is no {text}"), {"queue": text}, is_last=True)
    assert "?" in log()["queue"]
    assert "?" in log()["message"]


@pytest.mark.parametrize("hidden", HIDDEN, ids=ascii)
def test_no_control_character_is_in_the_log(log: Log, hidden: str) -> None:
    _report_image(json.dumps({"task_id": "t-1", "bucket": "uploads", "key": f"Käthe{hidden}.jpg"}))
    (line,) = (handler.stream.getvalue() for handler in logger.handlers)  # type: ignore[attr-defined]
    assert "Käthe" in line
    assert hidden not in line
    assert log()["key"] == f"Käthe{hidden}.jpg"
