"""The demo's tables fit the terminal, and nothing is cut off."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from local.demo import images, orders, rabbitmq
from local.demo.orders import ShownOrder
from local.demo.rabbitmq import ShownMessage
from local.demo.report import Shown
from local.emulators.rabbitmq import BrokerMessage

REASON = "The order is not valid: payment_method_of_the_customer: Field required; amount: must be a whole number."
RENDITIONS = [{"name": name, "width": 1920, "height": 1440} for name in ("thumb", "small", "medium", "large")]


def tables(*, narrow: bool) -> list[Any]:
    photo = Shown("Käthe + Otto am See, a long name.jpg", "", "", None, outcome="Processed", bytes_in=10**8)
    photo.image, photo.bytes_out, photo.processing_ms, photo.notification_latency_ms = (
        {"renditions": RENDITIONS},
        10**7,
        54321,
        54321,
    )
    fault = Shown("a.gif", "", "", None, outcome="DeadLettered", error_code="UnsupportedFormat")
    order = ShownOrder(
        "demo-1795809018-good", "an order that is delivered twice", "COMPLETED", "", amount=980000, currency="EUR"
    )
    order.outcome, order.charged, order.told, order.reason = "MalformedMessage", 980000, ["OrderCompleted"] * 2, REASON
    message_id = "demo-rabbitmq-1795809018-invalid"
    message = ShownMessage(message_id, "an order that lacks nearly everything", "orders", "", BrokerMessage(b""))
    message.arrived, message.outcome, message.reason = "RabbitMqDeadLetterQueue", "MalformedMessage", REASON
    return [
        images.tabulate([photo, fault], narrow=narrow),
        orders.tabulate([order], narrow=narrow),
        rabbitmq.tabulate([message], narrow=narrow),
    ]


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("number", [0, 1, 2], ids=["images", "orders", "RabbitMQ"])
def test_a_table_fits(width: int, number: int) -> None:
    console = Console(file=io.StringIO(), width=width)
    table = tables(narrow=width < 110)[number]
    # when
    console.print(table)
    # then
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert all(len(line) <= width for line in lines)
    assert lines[-1].endswith("┘"), "the right border is there"
    assert "…" not in console.file.getvalue()
    for word in ("MalformedMessage", "RabbitMqDeadLetterQueue") if number == 2 else ():
        assert word in console.file.getvalue()
